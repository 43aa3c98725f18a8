package broker

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"github.com/coatcheck/coatcheck/broker/internal/gate"
)

// Config is what a broker is made of.
type Config struct {
	Store     Store
	Sealer    Sealer
	Catalogue Catalogue
	Reserve   Reserve          // nil: nothing to fall back on when the disk is full
	Courier   Courier          // nil: what apps are to be told stays where it is
	Now       func() time.Time // the one clock
	Logger    *slog.Logger
	PublicURL string // an origin; redirect URIs are built from it alone

	CacheEntries       int // connections whose credential stays open in memory; zero: 10,000
	RefreshConcurrency int // renewals under way in the background; zero: 64
	RefreshPerHost     int // renewals under way at one token endpoint and client; zero: 8

	// Drain is how long Run waits at its end for what must finish; zero: 25 s.
	Drain time.Duration
}

// Broker keeps the credentials and does everything that may be done with them. Make one with [New] and keep [Broker.Run]
// running beside it. Its methods may be called by any number of goroutines.
type Broker struct {
	store     Store
	sealer    Sealer
	catalogue *liveCatalogue
	shared    Shared // the store, if other processes serve from it too
	reserve   Reserve
	courier   Courier
	clock     func() time.Time
	log       *slog.Logger
	publicURL string
	dev       bool

	reloading  sync.Mutex
	snapshot   atomic.Pointer[snapshot]
	foreign    atomic.Int64 // the store's count of other processes' writes, as of the snapshot
	deployment atomic.Pointer[Deployment]

	cache      *cache
	reads      *readLog
	owner      string // this process, in leases
	flights    singleflight.Group
	fetches    *fetches
	gates      *gate.Set
	faults     faults
	held       *held
	away       away
	waiting    waiting
	rejections *otter.Cache[ConnectionID, int64] // versions that an API refused lately
	work       crew                              // what must finish before the process may end
	wake       chan struct{}                     // the scheduler should look again
	news       chan struct{}                     // another process has written
	outbox     outbox
	stopping   chan struct{} // closed when no new work is to be begun
	stopOnce   sync.Once
	workers    int
	perHost    int
	patience   time.Duration // of drain
}

// New makes a broker on an open store, and puts right what an earlier process left half done.
func New(ctx context.Context, c Config) (*Broker, error) {
	if c.Store == nil || c.Sealer == nil || c.Catalogue == nil || c.Now == nil || c.Logger == nil {
		return nil, errors.New("broker: store, sealer, catalogue, clock and logger are needed")
	}
	origin, err := url.Parse(c.PublicURL)
	if err != nil || !validOrigin(c.PublicURL) {
		return nil, fmt.Errorf("broker: the public URL must be an origin such as https://connect.example.com, not %q", c.PublicURL)
	}
	b := &Broker{
		store: c.Store, sealer: c.Sealer, catalogue: newLiveCatalogue(c.Catalogue), reserve: c.Reserve, courier: c.Courier, clock: c.Now, log: c.Logger,
		publicURL: c.PublicURL, dev: Loopback(origin.Hostname()),
		owner:    uuid.NewString(),
		gates:    gate.New(orDefault(c.RefreshPerHost, 8), orDefault(c.RefreshConcurrency, 64), c.Now),
		held:     newHeld(),
		reads:    newReadLog(),
		fetches:  newFetches(),
		wake:     make(chan struct{}, 1),
		news:     make(chan struct{}, 1),
		outbox:   outbox{wake: make(chan struct{}, 1), runners: make(map[string]int)},
		stopping: make(chan struct{}),
		workers:  orDefault(c.RefreshConcurrency, 64),
		perHost:  orDefault(c.RefreshPerHost, 8),
		patience: cmp.Or(c.Drain, drainFor),
	}
	b.shared, _ = c.Store.(Shared)
	if b.cache, err = newCache(orDefault(c.CacheEntries, 10_000)); err != nil {
		return nil, err
	}
	b.rejections, err = otter.New(&otter.Options[ConnectionID, int64]{
		MaximumSize: 10_000, ExpiryCalculator: otter.ExpiryWriting[ConnectionID, int64](rejectedPause),
	})
	if err != nil {
		return nil, err
	}
	if err := b.reload(ctx); err != nil {
		return nil, fmt.Errorf("load the configuration: %w", err)
	}
	if since := b.Deployment().FillingSince; !since.IsZero() {
		return nil, ErrFilling
	}
	if err := b.recover(ctx); err != nil {
		return nil, fmt.Errorf("put right what was left half done: %w", err)
	}
	return b, nil
}

func orDefault(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// PublicURL is the origin that redirect URIs and links are built from.
func (b *Broker) PublicURL() string { return b.publicURL }

// DevMode reports whether the public URL is on this machine.
func (b *Broker) DevMode() bool { return b.dev }

// Now is the broker's time: UTC, to the microsecond, as the store keeps it.
func (b *Broker) Now() time.Time { return b.clock().UTC().Truncate(time.Microsecond) }

// Ready reports whether the broker may serve: the store can be read, and no renewed token waits to be stored.
func (b *Broker) Ready(ctx context.Context) error {
	if b.held.count() > 0 {
		return ErrStorageUnavailable
	}
	return b.store.Ping(ctx)
}

// randomHex gives n random bytes in hex. crypto/rand never fails: it ends the process instead.
func randomHex(n int) string {
	buf := make([]byte, n)
	_, _ = rand.Read(buf)
	return hex.EncodeToString(buf)
}

// randomText gives n random bytes in the alphabet of URLs.
func randomText(n int) string {
	buf := make([]byte, n)
	_, _ = rand.Read(buf)
	return base64.RawURLEncoding.EncodeToString(buf)
}

// line starts an audit line.
func (b *Broker) line(who Actor, action, target string) AuditEntry {
	return AuditEntry{
		Environment: who.Environment, Actor: who.name(), Action: action, Target: target, Result: "ok", Count: 1,
		IP: who.IP, RequestID: who.RequestID, At: b.Now(),
	}
}

// audited is a trail of one audit line.
func (b *Broker) audited(who Actor, action, target string) Trail {
	return Trail{Audit: []AuditEntry{b.line(who, action, target)}}
}

// event makes an event of a connection.
func (b *Broker) event(kind EventKind, c *Connection, code string) Event {
	return Event{
		ID: uuid.NewString(), Environment: c.Environment, Kind: kind, Integration: c.Integration, Connection: c.ID,
		Key: c.Key, Code: code, At: b.Now(),
	}
}

// Provider gives an entry's facts.
func (b *Broker) Provider(name string) (*Facts, error) {
	p, ok := b.catalogue.Provider(name)
	if !ok {
		return nil, ErrNotFound.On("provider")
	}
	return p.Facts(), nil
}

// Providers lists the entries whose name holds the text, in any case, sorted by name.
func (b *Broker) Providers(search string) []*Facts {
	search = strings.ToLower(search)
	var out []*Facts
	for _, name := range b.catalogue.Names() {
		if strings.Contains(strings.ToLower(name), search) {
			if p, ok := b.catalogue.Provider(name); ok {
				out = append(out, p.Facts())
			}
		}
	}
	return out
}
