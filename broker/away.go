package broker

import (
	"errors"
	"sync"
	"time"
)

// settleAfter is how long another node that has tokens which the store did not take may need to store them, once the store
// is back: it may be waiting for a server that is no more, and then for its next try.
const settleAfter = 45 * time.Second

// errSettling refuses a renewal whose last attempt may have come to something that another node has still to store.
var errSettling = ErrStorageUnavailable.Saying("the database was away, and another node may be about to store what was renewed meanwhile")

// away remembers when the store could not be used.
type away struct {
	mu   sync.Mutex
	last time.Time // zero: never
}

// note takes down an error of the store's, if it says so.
func (a *away) note(err error, now time.Time) {
	if !errors.Is(err, ErrStorageUnavailable) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = now
}

// settles gives how long to wait until every node has had the time to store what it has.
func (a *away) settles(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last.IsZero() {
		return 0
	}
	return min(a.last.Add(settleAfter).Sub(now), settleAfter) // the clock may have been set back
}
