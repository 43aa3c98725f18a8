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
	width      int64
	background *semaphore.Weighted
	now        func() time.Time

	mu    sync.Mutex
	gates map[string]*gate
}

type gate struct {
	places  *semaphore.Weighted
	calls   *semaphore.Weighted
	breaker *gobreaker.TwoStepCircuitBreaker[any]

	mu        sync.Mutex
	notBefore time.Time
	users     int
}

// Ahead is how many places there are for each call that may be made at a time: what comes before a call and after it,
// such as commits, keeps nobody else from calling.
const Ahead = 2

// New makes a set whose gates let width calls through at a time each, and background calls that are made in the
// background all together.
func New(width, background int, now func() time.Time) *Set {
	return &Set{width: int64(width), background: semaphore.NewWeighted(int64(background)), now: now, gates: make(map[string]*gate)}
}

// Enter waits for a place, in which a call can be prepared. The error is *ClosedError or ctx's. The place must be given back with [Pass.Leave].
func (s *Set) Enter(ctx context.Context, name string) (*Pass, error) {
	g := s.take(name)
	if err := g.places.Acquire(ctx, 1); err != nil {
		s.drop(name, g)
		return nil, err
	}
	p := &Pass{set: s, name: name, gate: g}
	if wait := g.wait(s.now()); wait > 0 {
		p.Leave()
		return nil, &ClosedError{RetryAfter: wait}
	}
	return p, nil
}

// Pass is a place at a gate. One goroutine uses it.
type Pass struct {
	set  *Set
	name string
	gate *gate
	turn []*semaphore.Weighted // what was taken for the turn to call
}

// Leave gives the place back.
func (p *Pass) Leave() {
	p.Yield()
	p.gate.places.Release(1)
	p.set.drop(p.name, p.gate)
}

// Wait waits for the turn to call, which ends with the call's report. A turn in the background is one of all gates' too,
// and is waited for first: whoever waits there must not hold a turn at a gate that somebody in the foreground wants.
// The error is ctx's.
func (p *Pass) Wait(ctx context.Context, background bool) error {
	wanted := []*semaphore.Weighted{p.gate.calls}
	if background {
		wanted = []*semaphore.Weighted{p.set.background, p.gate.calls}
	}
	for _, s := range wanted {
		if err := s.Acquire(ctx, 1); err != nil {
			p.Yield()
			return err
		}
		p.turn = append(p.turn, s)
	}
	return nil
}

// Yield gives the turn back, if there is one.
func (p *Pass) Yield() {
	for _, s := range p.turn {
		s.Release(1)
	}
	p.turn = nil
}

// Call is asked right before a call is made, by whoever has the turn, and its report must be made after it: what was not
// called says nothing about the server. The error is *ClosedError.
func (p *Pass) Call() (report func(Result), err error) {
	if wait := p.gate.wait(p.set.now()); wait > 0 {
		return nil, &ClosedError{RetryAfter: wait}
	}
	done, err := p.gate.breaker.Allow()
	if err != nil {
		return nil, &ClosedError{RetryAfter: coolDown}
	}
	return func(r Result) {
		p.gate.leaveAlone(p.set.now(), r.RetryAfter)
		if r.Fault {
			done(errFault)
		} else {
			done(nil)
		}
		p.Yield()
	}, nil
}

var errFault = errors.New("gate: fault")

// wait is how long no call may be made; zero: none.
func (g *gate) wait(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.notBefore.Sub(now); wait > 0 {
		return wait
	}
	if g.breaker.State() == gobreaker.StateOpen {
		return coolDown
	}
	return 0
}

// leaveAlone keeps the longest pause that was asked for.
func (g *gate) leaveAlone(now time.Time, d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until := now.Add(d); d > 0 && until.After(g.notBefore) {
		g.notBefore = until
	}
}

// IsClosed reports whether Enter would be answered with *ClosedError now.
func (s *Set) IsClosed(name string) bool {
	s.mu.Lock()
	g, ok := s.gates[name]
	s.mu.Unlock()
	if !ok {
		return false
	}
	return g.wait(s.now()) > 0
}

func (s *Set) take(name string) *gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.gates[name]
	if !ok {
		g = &gate{places: semaphore.NewWeighted(Ahead * s.width), calls: semaphore.NewWeighted(s.width), breaker: newBreaker(name)}
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
