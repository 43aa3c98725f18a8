package proxy

import (
	"hash/maphash"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// looks is how many sweeps without progress make a call idle, so that it ends at most a quarter later than promised.
const looks = 8

// shards keeps calls of different connections from waiting for one lock.
const shards = 64

// live holds the calls that are under way: it counts them, and ends those in which nothing moves.
type live struct {
	limits Limits
	seed   maphash.Seed
	count  atomic.Int64
	shards [shards]shard
	stop   chan struct{}
	done   chan struct{}
	once   sync.Once
}

type shard struct {
	mu    sync.Mutex
	calls link // of a ring
	count map[broker.ConnectionID]int
}

// link is a call's place in its shard.
type link struct {
	prev, next *link
	call       *call
}

func newLive(limits Limits) *live {
	l := &live{limits: limits, seed: maphash.MakeSeed(), stop: make(chan struct{}), done: make(chan struct{})}
	for i := range l.shards {
		s := &l.shards[i]
		s.count = make(map[broker.ConnectionID]int)
		s.calls.prev, s.calls.next = &s.calls, &s.calls
	}
	go l.sweep()
	return l
}

func (l *live) shard(id broker.ConnectionID) *shard {
	return &l.shards[maphash.String(l.seed, string(id))%shards]
}

// enter counts the call, or refuses it with rate_limited.
func (l *live) enter(c *call, id broker.ConnectionID) error {
	if l.count.Add(1) > int64(l.limits.Global) {
		l.count.Add(-1)
		return broker.ErrRateLimited.Saying("too many calls are under way").After(time.Second)
	}
	s := l.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[id] >= l.limits.PerConnection {
		l.count.Add(-1)
		return broker.ErrRateLimited.Saying("too many calls are under way through this connection").After(time.Second)
	}
	s.count[id]++
	c.entered = id
	c.link = link{prev: s.calls.prev, next: &s.calls, call: c}
	c.link.prev.next, c.link.next.prev = &c.link, &c.link
	return nil
}

// leave ends what enter began, if it did. When it has returned, no sweep knows the call any more.
func (l *live) leave(c *call) {
	if c.entered == "" {
		return
	}
	s := l.shard(c.entered)
	s.mu.Lock()
	c.link.prev.next, c.link.next.prev = c.link.next, c.link.prev
	c.link = link{}
	if s.count[c.entered]--; s.count[c.entered] == 0 {
		delete(s.count, c.entered)
	}
	s.mu.Unlock()
	l.count.Add(-1)
}

// sweep looks at every call a few times within the idle time. A deadline for each would have to be moved with every read.
func (l *live) sweep() {
	defer close(l.done)
	t := time.NewTicker(max(l.limits.IdleTimeout/looks, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-t.C:
		}
		for i := range l.shards {
			s := &l.shards[i]
			s.mu.Lock()
			for at := s.calls.next; at != &s.calls; at = at.next {
				at.call.look()
			}
			s.mu.Unlock()
		}
	}
}

func (l *live) close() {
	l.once.Do(func() { close(l.stop) })
	<-l.done
}

// look ends the call if nothing has moved for too long. The shard's lock keeps the call from ending meanwhile.
func (c *call) look() {
	progress := c.sent.Load()
	if c.body != nil {
		progress += c.body.read.Load()
	}
	if c.waiting.Load() || progress != c.lastSeen {
		c.lastSeen, c.idle = progress, 0
		return
	}
	if c.idle++; c.idle > looks {
		c.idle = 0 // what there is left to say has as much time again
		c.expire()
	}
}

// aLongTimeAgo is a deadline that has passed.
var aLongTimeAgo = time.Unix(1, 0)

// expire frees the call's goroutine from whatever it waits for. A failing read from the caller's connection ends the
// request's context, and with it the call to the provider; while the caller's body is still being sent nobody may be
// reading, so such a call has a context of its own. It may come again: the server lifts the deadline when a body ends.
func (c *call) expire() {
	c.stalled.Store(c.body != nil && c.body.reading.Load())
	c.expired.Store(true)
	answered := c.status.Load() != 0 // asked first: once its read fails, the call has an answer to write
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(aLongTimeAgo)
	if answered {
		_ = rc.SetWriteDeadline(aLongTimeAgo) // otherwise there is still something to say
	}
	if c.cancel != nil {
		c.cancel()
	}
}
