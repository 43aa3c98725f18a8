package proxy

import (
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// Options is what the proxy is made of.
type Options struct {
	Broker *broker.Broker
	// Transport makes all calls. It decides which addresses may be reached, must not follow redirects and should leave
	// compressed bodies alone.
	Transport http.RoundTripper
	// Certified gives a transport that shows a client certificate, and is else the same. nil: connections that have one
	// cannot be called through.
	Certified func(*tls.Certificate) http.RoundTripper
	// Reach says what a caller may learn of a call that brought no answer: egress_blocked, provider_unreachable or
	// provider_timeout. nil knows the last two.
	Reach func(error) *broker.Error
	// LogOutput gets one JSON line for each request; nil: none are written.
	LogOutput io.Writer
	Limits    Limits
	// KeyLimit refuses a key that sends too much, with rate_limited; nil: each may send what it likes.
	KeyLimit func(broker.APIKeyID) error
	Now      func() time.Time // for the log; nil: time.Now
	Logger   *slog.Logger     // for failures of ours and of the network; nil: none are logged
}

// Limits bound what callers may take.
type Limits struct {
	MaxBody       int64         // bytes of a request; zero: no limit
	PerConnection int           // calls under way through one connection; zero: 1,000
	Global        int           // calls under way in all; zero: 10,000
	IdleTimeout   time.Duration // a call ends when nothing moves for so long; zero: 120 s
}

// maxKeptInAll bounds what is kept of request bodies that are under way, so that they can be sent again.
const maxKeptInAll = 64 << 20

// Handler is the proxy. It may be used by any number of goroutines.
type Handler struct {
	broker    *broker.Broker
	transport http.RoundTripper
	certified func(*tls.Certificate) http.RoundTripper // may be nil
	reach     func(error) *broker.Error
	limits    Limits
	keyLimit  func(broker.APIKeyID) error // may be nil
	now       func() time.Time
	log       *slog.Logger

	access  *accessLog
	live    *live
	calls   sync.Pool
	buffers buffers
	kept    atomic.Int64 // bytes of request bodies that are kept
}

// New makes the proxy. Close it when the server that it is mounted in has stopped.
func New(o Options) *Handler {
	h := &Handler{
		broker: o.Broker, transport: o.Transport, certified: o.Certified, reach: o.Reach, limits: o.Limits.withDefaults(),
		keyLimit: o.KeyLimit, now: o.Now, log: o.Logger,
	}
	if h.reach == nil {
		h.reach = reach
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if o.LogOutput != nil {
		h.access = newAccessLog(o.LogOutput, h.now, h.log)
	}
	h.live = newLive(h.limits)
	quiet := log.New(io.Discard, "", 0) // what ReverseProxy has to say stands in the access log
	h.calls.New = func() any { return newCall(h, quiet) }
	return h
}

func (l Limits) withDefaults() Limits {
	if l.PerConnection == 0 {
		l.PerConnection = 1000
	}
	if l.Global == 0 {
		l.Global = 10_000
	}
	if l.IdleTimeout == 0 {
		l.IdleTimeout = 120 * time.Second
	}
	return l
}

// Close writes out what is left of the access log. Requests that come later leave no line.
func (h *Handler) Close() error {
	h.live.close()
	if h.access == nil {
		return nil
	}
	return h.access.close()
}

// ServeHTTP answers a request whose path begins with /proxy.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, ok := h.calls.Get().(*call)
	if !ok {
		return // cannot be: the pool holds nothing else
	}
	c.begin(w, r)
	defer c.end() //nolint:contextcheck // the call holds its request
	c.serve()     //nolint:contextcheck // likewise
}

const allowedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// buffers is a pool of copy buffers.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

// Get gives a buffer.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return make([]byte, bufferSize)
}

// Put takes one of Get's back.
func (b *buffers) Put(p []byte) {
	if len(p) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(p))
	}
}
