package broker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// Those who come while a look-up is under way get what it finds, and none of them looks again.
func TestALookUpDoesForAllWhoWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, want, looks := newFetches(), new(Outbound), 0
		found := make(chan *Outbound, 10)
		open := make(chan struct{})
		for range cap(found) {
			go func() {
				o, err := f.do(t.Context(), cacheKey{key: "a"}, func() (*Outbound, error) {
					looks++
					<-open
					return want, nil
				})
				if err != nil {
					t.Error(err)
				}
				found <- o
			}()
		}
		synctest.Wait()
		if o, err := f.do(t.Context(), cacheKey{key: "b"}, func() (*Outbound, error) { return nil, ErrNotFound }); o != nil || !errors.Is(err, ErrNotFound) {
			t.Errorf("another connection gets %v, %v", o, err)
		}
		close(open)
		for range cap(found) {
			if o := <-found; o != want {
				t.Errorf("one got %p", o)
			}
		}
		if looks != 1 || len(f.under) != 0 {
			t.Errorf("%d looked, %d are left", looks, len(f.under))
		}
	})
}

// One who leaves takes nothing from the others: neither who waits, nor who looks.
func TestALookUpOutlivesWhoeverLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, want := newFetches(), new(Outbound)
		key := cacheKey{key: "a"}
		first, leaveFirst := context.WithCancel(t.Context())
		second, leaveSecond := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		leaving := func(ctx context.Context) {
			_, err := f.do(ctx, key, func() (*Outbound, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			errs <- err
		}
		go leaving(first)
		synctest.Wait()
		go leaving(second)
		found := make(chan *Outbound)
		go func() {
			o, err := f.do(t.Context(), key, func() (*Outbound, error) { return want, nil })
			if err != nil {
				t.Error(err)
			}
			found <- o
		}()
		synctest.Wait()
		leaveSecond()
		if err := <-errs; !errors.Is(err, ErrRefreshTimeout) {
			t.Errorf("who waited and left gets %v", err)
		}
		leaveFirst()
		if err := <-errs; !errors.Is(err, ErrRefreshTimeout) {
			t.Errorf("who looked and left gets %v", err)
		}
		if o := <-found; o != want {
			t.Errorf("who stayed got %p", o)
		}
	})
}
