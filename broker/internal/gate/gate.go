// Package gate guards the ways to other people's servers: so many calls at a time, none for a while after a server asked
// for that, and one probe at a time after several failures in a row. It knows nothing of tokens.
package gate

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/semaphore"
)

// Failures in a row that close a gate, and how long it stays closed before one call may try.
const (
	tripAfter = 5
	coolDown  = 30 * time.Second
)

// ClosedError is answered when no call may be made now.
type ClosedError struct{ RetryAfter time.Duration }

// Error says that the gate is closed.
func (c *ClosedError) Error() string { return "gate: closed" }

// Result is what a call came to.
type Result struct {
	// Fault is set when the server is to blame: network, timeout, 429, 5xx. A refusal is no fault.
	Fault bool
	// RetryAfter is how long the server asked to be left alone.
	RetryAfter time.Duration
}

// Set holds a gate for each name. Gates of names that are not in use are dropped.
type Set struct {
	width int64
	now   func() time.Time

	mu    sync.Mutex
	gates map[string]*gate
}

type gate struct {
	slots   *semaphore.Weighted
	breaker *gobreaker.TwoStepCircuitBreaker[any]

	mu        sync.Mutex
	notBefore time.Time
	users     int
}

// New makes a set whose gates let width calls through at a time.
func New(width int, now func() time.Time) *Set {
	return &Set{width: int64(width), now: now, gates: make(map[string]*gate)}
}

// Enter waits for a place and then lets the caller through. leave must be called once. The error is *ClosedError or ctx's.
func (s *Set) Enter(ctx context.Context, name string) (leave func(Result), err error) {
	g := s.take(name)
	if err := g.slots.Acquire(ctx, 1); err != nil {
		s.drop(name, g)
		return nil, err
	}
	return s.pass(name, g)
}

// IsClosed reports whether Enter would be answered with *ClosedError now.
func (s *Set) IsClosed(name string) bool {
	s.mu.Lock()
	g, ok := s.gates[name]
	s.mu.Unlock()
	if !ok {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.notBefore.After(s.now()) || g.breaker.State() == gobreaker.StateOpen
}

// pass goes through the breaker; the caller holds a slot.
func (s *Set) pass(name string, g *gate) (func(Result), error) {
	back := func() { g.slots.Release(1); s.drop(name, g) }
	g.mu.Lock()
	wait := g.notBefore.Sub(s.now())
	g.mu.Unlock()
	if wait > 0 {
		back()
		return nil, &ClosedError{RetryAfter: wait}
	}
	done, err := g.breaker.Allow()
	if err != nil {
		back()
		return nil, &ClosedError{RetryAfter: coolDown}
	}
	return func(r Result) {
		if r.RetryAfter > 0 {
			g.mu.Lock()
			g.notBefore = s.now().Add(r.RetryAfter)
			g.mu.Unlock()
		}
		if r.Fault {
			done(errFault)
		} else {
			done(nil)
		}
		back()
	}, nil
}

var errFault = errors.New("gate: fault")

func (s *Set) take(name string) *gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.gates[name]
	if !ok {
		g = &gate{slots: semaphore.NewWeighted(s.width), breaker: newBreaker(name)}
		s.gates[name] = g
	}
	g.users++
	return g
}

// drop forgets a gate that nobody uses and that has nothing to remember.
func (s *Set) drop(name string, g *gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.users--
	g.mu.Lock()
	waiting := g.notBefore.After(s.now())
	g.mu.Unlock()
	if g.users == 0 && !waiting && g.breaker.State() == gobreaker.StateClosed && g.breaker.Counts().ConsecutiveFailures == 0 {
		delete(s.gates, name)
	}
}

func newBreaker(name string) *gobreaker.TwoStepCircuitBreaker[any] {
	return gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Name:        name,
		MaxRequests: 1,
		Timeout:     coolDown,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
	})
}
