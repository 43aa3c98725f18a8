package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// smallBuffer holds any answer with a small body.
const smallBuffer = 4 << 10

// target is a proxy under load.
type target struct {
	name string
	addr string
	pid  int
	// requests gives a worker what it sends, request by request. The bytes are only good until the next call.
	requests func(worker int) (next func() []byte)
}

// same is for workers that all send the same request.
func same(request []byte) func(int) func() []byte {
	return func(int) func() []byte { return func() []byte { return request } }
}

// sample is what one round under load gave.
type sample struct {
	rate float64 // requests a second
	cpu  float64 // the proxy's processor time for a request, in microseconds
}

// closedLoop sends the next request on each connection when the last was answered. What happens before the window is
// not counted.
func closedLoop(ctx context.Context, t target, connections int, warmUp, window time.Duration) (sample, error) {
	running, stop := context.WithCancelCause(ctx)
	var answered atomic.Int64
	var workers sync.WaitGroup
	for w := range connections {
		workers.Go(func() {
			if err := repeat(running, t, w, &answered); err != nil {
				stop(err)
			}
		})
	}
	s, err := watch(running, t.pid, &answered, warmUp, window)
	stop(nil)
	workers.Wait()
	if cause := context.Cause(running); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return s, err
}

// repeat is one connection's loop.
func repeat(ctx context.Context, t target, worker int, answered *atomic.Int64) error {
	c, err := dial(ctx, t.addr, smallBuffer)
	if err != nil {
		return err
	}
	defer c.close()
	next := t.requests(worker)
	for ctx.Err() == nil {
		if err := c.do(next()); err != nil {
			return err
		}
		answered.Add(1)
	}
	return nil
}

// watch counts what is answered, and what it costs the process, in the window.
func watch(ctx context.Context, pid int, answered *atomic.Int64, warmUp, window time.Duration) (sample, error) {
	if err := pause(ctx, warmUp); err != nil {
		return sample{}, err
	}
	cpuBefore, err := cpuTime(pid)
	before, start := answered.Load(), time.Now()
	if err := errors.Join(err, pause(ctx, window)); err != nil {
		return sample{}, err
	}
	cpuAfter, err := cpuTime(pid)
	n, took := float64(answered.Load()-before), time.Since(start)
	if n == 0 {
		return sample{}, errors.New("nothing was answered")
	}
	return sample{n / took.Seconds(), float64((cpuAfter - cpuBefore).Microseconds()) / n}, err
}

// openLoop sends requests at a constant rate, whatever becomes of them, and gives their latencies, sorted, each from the
// moment at which the request was due: one that waits because an earlier one is late counts that wait. The first tenth
// is left out.
func openLoop(ctx context.Context, t target, connections, rate int, window time.Duration) ([]time.Duration, error) {
	total := int(float64(rate) * window.Seconds())
	due := make(chan time.Time, total) // room for all: the clock must never wait for a connection
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	latencies := make([][]time.Duration, connections)
	skip := time.Now().Add(window / 10)
	var workers sync.WaitGroup
	for w := range connections {
		workers.Go(func() {
			var err error
			if latencies[w], err = answerDue(running, t, w, due, skip); err != nil {
				stop(err)
			}
		})
	}
	err := strike(running, due, total, time.Second/time.Duration(rate))
	close(due)
	workers.Wait()
	if cause := context.Cause(running); cause != nil {
		return nil, cause
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	if len(all) == 0 {
		err = errors.Join(err, errors.New("nothing was answered"))
	}
	return all, err
}

// answerDue is one connection of an open loop.
func answerDue(ctx context.Context, t target, worker int, due <-chan time.Time, skip time.Time) ([]time.Duration, error) {
	c, err := dial(ctx, t.addr, smallBuffer)
	if err != nil {
		return nil, err
	}
	defer c.close()
	next := t.requests(worker)
	var latencies []time.Duration
	for at := range due {
		if err := c.do(next()); err != nil {
			return nil, err
		}
		if at.After(skip) {
			latencies = append(latencies, time.Since(at))
		}
	}
	return latencies, nil
}

// large is the size of a large body.
const large = 100 << 20

// download reads a large body on each connection at once and gives the megabytes a second of all together.
func download(ctx context.Context, t target, connections int) (float64, error) {
	return together(ctx, t, connections, func(c *client, request []byte) error { return c.do(request) })
}

// upload sends a large body on each connection at once.
func upload(ctx context.Context, t target, connections int) (float64, error) {
	chunk := make([]byte, 256<<10)
	return together(ctx, t, connections, func(c *client, request []byte) error {
		if _, err := c.conn.Write(request); err != nil {
			return err
		}
		for sent := 0; sent < large; sent += len(chunk) {
			if _, err := c.conn.Write(chunk); err != nil {
				return err
			}
		}
		return c.answer()
	})
}

// together moves one large body on each connection.
func together(ctx context.Context, t target, connections int, move func(*client, []byte) error) (float64, error) {
	errs := make([]error, connections)
	var workers sync.WaitGroup
	start := time.Now()
	for w := range connections {
		workers.Go(func() {
			c, err := dial(ctx, t.addr, 256<<10)
			if err != nil {
				errs[w] = err
				return
			}
			defer c.close()
			errs[w] = move(c, t.requests(w)())
		})
	}
	workers.Wait()
	return float64(connections) * large / 1e6 / time.Since(start).Seconds(), errors.Join(errs...)
}
