package broker

import (
	"sync"
	"time"
)

// crew counts the work that must finish before the process may end. A sync.WaitGroup would do if nothing could begin while
// somebody waits for the end; here a caller's renewal may, and is turned away a little later.
type crew struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n falls to 0; nil: nobody waits
}

// begin takes up a piece of work. Its end is told by done.
func (c *crew) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

// done ends a piece of work.
func (c *crew) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
	if c.n == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// run does a piece of work beside the caller's.
func (c *crew) run(work func()) {
	c.begin()
	go func() {
		defer c.done()
		work()
	}()
}

// finished waits until no work is under way, and reports whether that came true in time.
func (c *crew) finished(within time.Duration) bool {
	c.mu.Lock()
	if c.n == 0 {
		c.mu.Unlock()
		return true
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	select {
	case <-idle:
		return true
	case <-deadline.C:
		return false
	}
}
