package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// call is one request on its way through. It is pooled: nothing that outlives the handler may hold it, see [body].
type call struct {
	h     *Handler
	proxy httputil.ReverseProxy // its hooks are methods of this call, bound once
	pass  []field               // what goes upstream of the caller's headers
	line  []byte                // scratch of the log line

	state

	// What the sweep of idle calls reads, from another goroutine.
	status   atomic.Int32 // that was answered; 0: nothing yet
	sent     atomic.Int64 // bytes of the answer
	waiting  atomic.Bool  // for a time of our own choosing
	expired  atomic.Bool  // nothing moved for too long
	stalled  atomic.Bool  // and it was the caller's body that did not come
	link     link
	lastSeen int64 // progress at the last look
	idle     int   // looks without progress
}

// state is what is forgotten when the call ends.
type state struct {
	w     http.ResponseWriter
	in    *http.Request
	start time.Time
	id    [36]byte // a UUID's text

	key     string // the caller's API key, which must not go upstream
	who     broker.Actor
	control control
	out     *broker.Outbound
	entered broker.ConnectionID // counted as under way through it; empty: not counted
	target  target
	accept  []string // the caller's, which the provider's own precedes
	empty   bool     // an empty form stands for no data
	body    *body
	cancel  context.CancelFunc // of the outgoing request, where it has a body
	res     http.Response

	renewed bool   // a 401 was answered with a renewal already
	retried int    // attempts beyond the first
	hops    int    // redirects that were followed
	failure error  // of ours, on the way to the transport
	code    string // of the refusal, for the log
	path    string // for the log; empty: the target's

	result   *error // of an errand: where a failure goes in place of an answer
	absolute string // the errand's URL behind a slash, where it is absolute
	headless bool   // the errand is a HEAD, and the request that it came with is not
	transit  bool   // the request is under way, and has no answer yet
}

// field is a header.
type field struct {
	key      string
	values   []string
	override bool // given as Nango-Proxy-...
}

func newCall(h *Handler, quiet *log.Logger) *call {
	c := &call{h: h}
	c.proxy = httputil.ReverseProxy{
		Rewrite:        c.rewrite,
		Transport:      c,
		ModifyResponse: c.modify,
		ErrorHandler:   c.failed,
		BufferPool:     &h.buffers,
		ErrorLog:       quiet,
	}
	return c
}

func (c *call) begin(w http.ResponseWriter, r *http.Request) {
	c.w, c.in, c.start = w, r, c.h.now()
	c.path = rawPath(r)
	c.newID()
}

// end is deferred: it accounts for the call, whatever became of it.
func (c *call) end() {
	p := recover()
	if p != nil {
		p = c.panicked(p)
	}
	c.settle(p == nil)
	c.h.live.leave(c)
	if c.cancel != nil {
		c.cancel()
	}
	if c.body != nil {
		c.h.free(c.body)
	}
	if c.h.access != nil {
		c.line = c.appendLine(c.line[:0], p != nil)
		c.h.access.append(c.line)
	}
	if p != nil {
		panic(http.ErrAbortHandler) // and leave the call to the garbage collector: something may still hold it
	}
	c.reset()
	c.h.calls.Put(c)
}

func (c *call) reset() {
	clear(c.pass)
	c.pass = c.pass[:0]
	c.state = state{}
	c.proxy.FlushInterval = 0
	c.status.Store(0)
	c.sent.Store(0)
	c.waiting.Store(false)
	c.expired.Store(false)
	c.stalled.Store(false)
	c.lastSeen, c.idle = 0, 0
}

// panicked turns a panic of our own into an answer, if nothing was answered yet. It returns what is left of it: nil, or
// the panic that cuts the connection, so that nobody takes a part for the whole.
func (c *call) panicked(p any) any {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return p
	}
	c.h.log.LogAttrs(c.in.Context(), slog.LevelError, "a proxied call panicked",
		slog.String("request_id", c.requestID()), slog.String("stack", string(debug.Stack())))
	if c.status.Load() != 0 {
		return p
	}
	c.refuse(broker.ErrInternal.Because(fmt.Errorf("panic of type %T", p)))
	return nil
}

// linger is how long the rest of a body may keep coming that nobody wants any more.
const linger = 5 * time.Second

// settle deals with a body that is still being sent when its call is over. The server reads on for a while before it
// closes the connection, and would wait for a caller that has stopped.
func (c *call) settle(answered bool) {
	if c.body == nil || c.body.ended.Load() {
		return
	}
	if c.result == nil { // an errand's body comes from memory
		rc, until := http.NewResponseController(c.w), aLongTimeAgo
		if answered {
			until = time.Now().Add(linger)
			_ = rc.Flush() // the answer must not wait for what follows
		}
		_ = rc.SetReadDeadline(until)
	}
	c.body.stop()
}

// newID gives the request its id: a UUID of version 4 (RFC 9562 section 5.4), like everybody else's, without garbage.
func (c *call) newID() {
	var id [16]byte
	_, _ = rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	hex.Encode(c.id[:8], id[:4])
	hex.Encode(c.id[9:13], id[4:6])
	hex.Encode(c.id[14:18], id[6:8])
	hex.Encode(c.id[19:23], id[8:10])
	hex.Encode(c.id[24:], id[10:])
	c.id[8], c.id[13], c.id[18], c.id[23] = '-', '-', '-', '-'
}

func (c *call) requestID() string { return string(c.id[:]) }

// Header gives the answer's headers. ReverseProxy asks for them while the request is under way too, to write those of an
// informational answer into them and clear them all afterwards; it gets others then.
func (c *call) Header() http.Header {
	if c.transit {
		return make(http.Header)
	}
	return c.w.Header()
}

// Unwrap lets [http.ResponseController] reach the connection.
func (c *call) Unwrap() http.ResponseWriter { return c.w }

// WriteHeader answers, and keeps informational answers of the provider's to itself.
func (c *call) WriteHeader(status int) {
	if status < http.StatusOK {
		return
	}
	if c.status.CompareAndSwap(0, int32(status)) { //nolint:gosec // three digits
		if c.in.ContentLength != 0 && c.result == nil {
			c.answerEarly()
		}
		c.w.WriteHeader(status)
	}
}

// answerEarly is for an answer to a request whose body may not have arrived yet.
func (c *call) answerEarly() {
	switch {
	case c.body == nil:
		// Refused. The server reads what is left of a short body before it sends the answer, and would wait for it.
		_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(linger))
	case !c.body.ended.Load():
		// The provider has heard enough. What still comes must not be taken for the next request.
		c.hangUp()
	}
}

// Write sends a part of the answer.
func (c *call) Write(p []byte) (int, error) {
	if c.status.Load() == 0 {
		c.WriteHeader(http.StatusOK)
	}
	n, err := c.w.Write(p)
	c.sent.Add(int64(n))
	return n, err
}
