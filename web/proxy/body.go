package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/coatcheck/coatcheck/broker"
)

// maxKept is how long a body may be that is kept for another attempt.
const maxKept = 1 << 20

// body is a request's body on its way upstream. A transport may go on reading it after the answer has come, so it
// belongs to no pool and knows nothing of its call.
type body struct {
	src      io.Reader // set before the first attempt
	limit    int64     // bytes; zero: none
	keep     bool
	reserved int64 // what it may keep, of what all may keep

	read    atomic.Int64
	reading atomic.Bool                  // somebody waits for the caller
	ended   atomic.Bool                  // read to its end
	fault   atomic.Pointer[broker.Error] // what the caller did wrong in sending it

	mu      sync.Mutex // one reader at a time: an attempt that was given up may still be in Read
	kept    []byte
	stopped bool
	err     error // what src ended with, io.EOF included

	first attempt
}

// attempt is the body as one attempt reads it.
type attempt struct {
	b      *body
	at     int64
	closed atomic.Bool
}

var (
	errBodyStopped = errors.New("the body is not wanted any more")
	errBodyReplay  = errors.New("the body was not kept")
)

// newBody makes the body of a request that has one.
func (h *Handler) newBody(r *http.Request) *body {
	b := &body{limit: h.limits.MaxBody}
	b.first.b = b
	if n := r.ContentLength; n > 0 && n <= maxKept {
		if h.kept.Add(n) <= maxKeptInAll {
			b.keep, b.reserved = true, n
		} else {
			h.kept.Add(-n)
		}
	}
	return b
}

// free gives back what the body may keep.
func (h *Handler) free(b *body) { h.kept.Add(-b.reserved) }

// again gives the body from its beginning, for another attempt. It is the GetBody of a request whose body is kept.
func (b *body) again() (io.ReadCloser, error) { return &attempt{b: b}, nil }

// stop waits for a read that is under way and lets no other begin.
func (b *body) stop() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
}

// Read gives what was kept first, and then what comes.
func (a *attempt) Read(p []byte) (int, error) {
	b := a.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.closed.Load() {
		return 0, errBodyStopped
	}
	if a.at < int64(len(b.kept)) {
		n := copy(p, b.kept[a.at:])
		a.at += int64(n)
		return n, nil
	}
	if a.at != b.read.Load() {
		return 0, errBodyReplay
	}
	n, err := b.next(p)
	a.at += int64(n)
	return n, err
}

// next reads from the caller. b.mu is held.
func (b *body) next(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.stopped {
		return 0, errBodyStopped
	}
	b.reading.Store(true)
	n, err := b.src.Read(p)
	b.reading.Store(false)
	if total := b.read.Add(int64(n)); b.limit > 0 && total > b.limit {
		n, err = 0, broker.ErrBodyTooLarge
	}
	if b.keep {
		if b.kept == nil {
			b.kept = make([]byte, 0, b.reserved)
		}
		b.kept = append(b.kept, p[:n]...)
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		b.ended.Store(true)
	case errors.Is(err, broker.ErrBodyTooLarge):
		b.fault.Store(broker.ErrBodyTooLarge)
	default:
		b.fault.Store(broker.ErrInvalidRequest.Saying("the body did not arrive whole"))
	}
	b.err = err
	return n, err
}

// Close ends this attempt's reading; the body itself stays open for the next.
func (a *attempt) Close() error {
	a.closed.Store(true) // not under the lock: a Read may be waiting for the caller with it
	return nil
}
