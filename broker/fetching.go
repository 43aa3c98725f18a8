package broker

import (
	"context"
	"sync"
)

// fetches lets one look-up of a connection do for all who want it at the same time. Whoever comes first runs it, on their
// own goroutine: most are one short read, which handing over and waiting would cost more than.
type fetches struct {
	mu    sync.Mutex
	under map[cacheKey]*fetch
}

// fetch is a look-up that is under way.
type fetch struct {
	done chan struct{} // closed at its end; nil as long as nobody else waits
	out  *Outbound
	err  error
	left bool // whoever ran it went away, so its error says nothing to the others
}

func newFetches() *fetches { return &fetches{under: make(map[cacheKey]*fetch)} }

// do gives what look finds, or what one that is under way already does. Those who wait for somebody else's stop when ctx
// ends; when that somebody leaves instead, one of them looks.
func (f *fetches) do(ctx context.Context, k cacheKey, look func() (*Outbound, error)) (*Outbound, error) {
	for {
		mine, other := f.begin(k)
		if mine != nil {
			return f.run(ctx, k, mine, look)
		}
		select {
		case <-other.done:
			if !other.left {
				return other.out, other.err
			}
		case <-ctx.Done():
			return nil, ErrRefreshTimeout.Because(ctx.Err())
		}
	}
}

func (f *fetches) run(ctx context.Context, k cacheKey, mine *fetch, look func() (*Outbound, error)) (*Outbound, error) {
	mine.err = ErrInternal // unless look returns
	defer f.end(k, mine)
	if mine.out, mine.err = look(); mine.err != nil && ctx.Err() != nil {
		mine.left = true
		return nil, ErrRefreshTimeout.Because(ctx.Err())
	}
	return mine.out, mine.err
}

// begin gives a look-up to run, or the one to wait for.
func (f *fetches) begin(k cacheKey) (mine, other *fetch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if other, ok := f.under[k]; ok {
		if other.done == nil {
			other.done = make(chan struct{})
		}
		return nil, other
	}
	mine = new(fetch)
	f.under[k] = mine
	return mine, nil
}

func (f *fetches) end(k cacheKey, mine *fetch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.under, k)
	if mine.done != nil {
		close(mine.done)
	}
}
