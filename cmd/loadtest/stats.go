package main

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// median gives the middle of the values, which must not be none.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// ratio gives the median of the rounds' ratios.
func ratio(over, under []float64) float64 {
	ratios := make([]float64, len(over))
	for i := range over {
		ratios[i] = over[i] / under[i]
	}
	return median(ratios)
}

// quantile gives the smallest value that is not exceeded by that part of the sorted values.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// takeTurns calls the candidates one after the other, again and again. Every other round goes backwards, so that none
// always comes after the same other one.
func takeTurns(ctx context.Context, rounds int, candidates ...func(context.Context) error) error {
	for round := range rounds {
		for i := range candidates {
			if round%2 == 1 {
				i = len(candidates) - 1 - i
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := candidates[i](ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// pause waits, or returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cost is what one call of something takes.
type cost struct {
	nanos  float64
	allocs float64
	bytes  float64
}

// costOf calls op, on this goroutine alone, for at least that long.
func costOf(length time.Duration, op func(i int) error) (cost, error) {
	const batch = 64
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	n := 0
	for time.Since(start) < length {
		for range batch {
			if err := op(n); err != nil {
				return cost{}, err
			}
			n++
		}
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	per := func(total uint64) float64 { return float64(total) / float64(n) }
	return cost{float64(took.Nanoseconds()) / float64(n), per(after.Mallocs - before.Mallocs), per(after.TotalAlloc - before.TotalAlloc)}, nil
}

// rateOf gives how many calls of op a second so many goroutines make together.
func rateOf(goroutines int, length time.Duration, op func(worker, i int) error) (float64, error) {
	var total atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	start := time.Now()
	for worker := range goroutines {
		all.Go(func() {
			n := 0
			for ; failed.Load() == nil && (n%16 != 0 || time.Since(start) < length); n++ {
				if err := op(worker, n); err != nil {
					failed.Store(&err)
				}
			}
			total.Add(int64(n))
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(total.Load()) / time.Since(start).Seconds(), nil
}
