package kit

import (
	"container/list"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/coatcheck/coatcheck/broker"
)

// How many requests an address may send to public routes, unless configured otherwise.
const (
	DefaultRate  = 100  // a second
	DefaultBurst = 1000 // at once
)

// maxBuckets bounds what a limiter remembers: about 200 bytes each.
const maxBuckets = 20_000

// Limiter lets each address send only so much. An IPv6 client is taken with its whole /64.
type Limiter struct{ *buckets[netip.Prefix] }

// NewLimiter makes a limiter of so many requests a second and so many at once. Zeros stand for the defaults.
func NewLimiter(perSecond float64, burst int, now func() time.Time) *Limiter {
	if perSecond == 0 {
		perSecond = DefaultRate
	}
	if burst == 0 {
		burst = DefaultBurst
	}
	return &Limiter{newBuckets[netip.Prefix](perSecond, burst, now)}
}

// Take lets one request of the address pass. Errors: rate_limited, with the time to come back at.
func (l *Limiter) Take(a netip.Addr) error { return l.take(Subscriber(a)) }

// KeyLimiter lets each API key send only so much.
type KeyLimiter struct{ *buckets[broker.APIKeyID] }

// NewKeyLimiter makes a limiter of so many requests a second and so many at once; a burst of zero is what a second brings,
// and at least one.
func NewKeyLimiter(perSecond float64, burst int, now func() time.Time) *KeyLimiter {
	if burst == 0 {
		burst = max(1, int(math.Ceil(min(perSecond, math.MaxInt32))))
	}
	return &KeyLimiter{newBuckets[broker.APIKeyID](perSecond, burst, now)}
}

// Take lets one request with the key pass. Errors: rate_limited, with the time to come back at.
func (l *KeyLimiter) Take(k broker.APIKeyID) error { return l.take(k) }

// buckets limit the rate of each K. They remember those that came last; one that is forgotten starts afresh, which costs
// an attacker as many addresses as are remembered. (A cache that weighs how often an entry is used would serve worse here:
// it may refuse to remember a newcomer, and so never limit it.)
type buckets[K comparable] struct {
	rate  rate.Limit
	burst int
	now   func() time.Time

	mu    sync.Mutex
	seen  map[K]*list.Element // of *bucket
	order *list.List          // the last to come is in front
}

type bucket[K comparable] struct {
	of     K
	tokens *rate.Limiter
}

func newBuckets[K comparable](perSecond float64, burst int, now func() time.Time) *buckets[K] {
	return &buckets[K]{
		rate: rate.Limit(perSecond), burst: burst, now: now,
		seen: make(map[K]*list.Element), order: list.New(),
	}
}

func (b *buckets[K]) take(k K) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	r := b.tokens(k).ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return broker.ErrRateLimited.After(wait)
	}
	return nil
}

func (b *buckets[K]) tokens(k K) *rate.Limiter {
	if el, ok := b.seen[k]; ok {
		b.order.MoveToFront(el)
		return el.Value.(*bucket[K]).tokens
	}
	if b.order.Len() >= maxBuckets {
		oldest := b.order.Remove(b.order.Back()).(*bucket[K])
		delete(b.seen, oldest.of)
	}
	one := &bucket[K]{of: k, tokens: rate.NewLimiter(b.rate, b.burst)}
	b.seen[k] = b.order.PushFront(one)
	return one.tokens
}

// Subscriber gives what one client holds: an IPv4 address, or the /64 that every IPv6 subscriber has at least.
func Subscriber(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all that have none are taken for one
	}
	return p
}
