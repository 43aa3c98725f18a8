package kit

import (
	"container/list"
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

// maxAddresses bounds what a limiter remembers: about 200 bytes each.
const maxAddresses = 20_000

// Limiter lets each address send only so much. It remembers the addresses that came last; one that is forgotten starts
// afresh, which costs an attacker as many addresses as are remembered. (A cache that weighs how often an entry is used
// would serve worse here: it may refuse to remember a newcomer, and so never limit it.)
type Limiter struct {
	rate  rate.Limit
	burst int
	now   func() time.Time

	mu    sync.Mutex
	seen  map[netip.Prefix]*list.Element // of *bucket
	order *list.List                     // the last to come is in front
}

type bucket struct {
	address netip.Prefix
	tokens  *rate.Limiter
}

// NewLimiter makes a limiter of so many requests a second and so many at once. Zeros stand for the defaults.
func NewLimiter(perSecond float64, burst int, now func() time.Time) *Limiter {
	if perSecond == 0 {
		perSecond = DefaultRate
	}
	if burst == 0 {
		burst = DefaultBurst
	}
	return &Limiter{
		rate: rate.Limit(perSecond), burst: burst, now: now,
		seen: make(map[netip.Prefix]*list.Element), order: list.New(),
	}
}

// Take lets one request of the address pass. Errors: rate_limited, with the time to come back at.
func (l *Limiter) Take(a netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	r := l.bucket(subscriber(a)).ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return broker.ErrRateLimited.After(wait)
	}
	return nil
}

func (l *Limiter) bucket(p netip.Prefix) *rate.Limiter {
	if el, ok := l.seen[p]; ok {
		l.order.MoveToFront(el)
		return el.Value.(*bucket).tokens
	}
	if l.order.Len() >= maxAddresses {
		oldest := l.order.Remove(l.order.Back()).(*bucket)
		delete(l.seen, oldest.address)
	}
	b := &bucket{address: p, tokens: rate.NewLimiter(l.rate, l.burst)}
	l.seen[p] = l.order.PushFront(b)
	return b.tokens
}

// subscriber gives what one client holds: an IPv4 address, or the /64 that every IPv6 subscriber has at least.
func subscriber(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all such requests share one bucket
	}
	return p
}
