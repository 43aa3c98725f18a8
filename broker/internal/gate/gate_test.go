package gate_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck/coatcheck/broker/internal/gate"
)

// enter takes a place and makes a call; the returned function ends both.
func enter(t *testing.T, s *gate.Set, name string) func(gate.Result) {
	t.Helper()
	p, err := s.Enter(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	report, err := p.Call()
	if err != nil {
		t.Fatal(err)
	}
	return func(r gate.Result) { report(r); p.Leave() }
}

func closed(t *testing.T, s *gate.Set, name string) time.Duration {
	t.Helper()
	_, err := s.Enter(t.Context(), name)
	var c *gate.ClosedError
	if !errors.As(err, &c) {
		t.Fatalf("got %v", err)
	}
	if !s.IsClosed(name) {
		t.Fatal("it refuses and does not say that it is closed")
	}
	return c.RetryAfter
}

// Five faults in a row close a gate; refusals do not; after a while one call may try, and its success opens it.
func TestFaultsCloseAndASuccessOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gate.New(8, time.Now)
		for range 20 {
			enter(t, s, "a")(gate.Result{})
		}
		for range 4 {
			enter(t, s, "a")(gate.Result{Fault: true})
		}
		enter(t, s, "a")(gate.Result{})
		for range 5 {
			enter(t, s, "a")(gate.Result{Fault: true})
		}
		closed(t, s, "a")
		enter(t, s, "b")(gate.Result{}) // others are not concerned
		time.Sleep(31 * time.Second)
		probe := enter(t, s, "a")
		second, err := s.Enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.Call(); err == nil {
			t.Fatal("two probes at once")
		}
		second.Leave() // a place that was not used says nothing
		probe(gate.Result{})
		enter(t, s, "a")(gate.Result{})
	})
}

// A server that asks to be left alone is, for as long as it asked.
func TestRetryAfterIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gate.New(8, time.Now)
		first, second := enter(t, s, "a"), enter(t, s, "a")
		first(gate.Result{RetryAfter: time.Minute})
		second(gate.Result{RetryAfter: time.Second}) // does not shorten it
		if d := closed(t, s, "a"); d != time.Minute {
			t.Fatalf("retry after %s", d)
		}
		time.Sleep(time.Minute)
		enter(t, s, "a")(gate.Result{})
	})
}

// No more than so many are let through at a time; who waits gets in when one leaves, or gives up.
func TestSoManyAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gate.New(2, time.Now)
		first, second := enter(t, s, "a"), enter(t, s, "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Enter(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		in := make(chan func(gate.Result))
		go func() { in <- enter(t, s, "a") }()
		synctest.Wait()
		first(gate.Result{})
		(<-in)(gate.Result{})
		second(gate.Result{})
	})
}
