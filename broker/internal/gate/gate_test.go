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
	if err := p.Wait(t.Context(), false); err != nil {
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
		s := gate.New(8, 64, time.Now)
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
		s := gate.New(8, 64, time.Now)
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

// No more than so many call at a time; who waits has the turn when one has called, or gives up. As many again may prepare
// theirs in the meantime, and no more.
func TestSoManyAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gate.New(2, 64, time.Now)
		first, second := enter(t, s, "a"), enter(t, s, "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ahead, err := s.Enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if err := ahead.Wait(ctx, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a third call: %v", err)
		}
		in := make(chan func(gate.Result))
		go func() { in <- enter(t, s, "a") }()
		synctest.Wait() // that one waits for its turn, and the places are taken
		if _, err := s.Enter(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a fifth place: %v", err)
		}
		first(gate.Result{})
		(<-in)(gate.Result{})
		if err := ahead.Wait(t.Context(), true); err != nil {
			t.Fatalf("who gave up may not wait again: %v", err)
		}
		ahead.Leave()
		second(gate.Result{})
		enter(t, s, "a")(gate.Result{})
		enter(t, s, "a")(gate.Result{})
	})
}

// Calls in the background are bounded over all gates, and keep nobody else from calling.
func TestSoManyInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gate.New(8, 1, time.Now)
		places := make([]*gate.Pass, 2)
		for i, name := range []string{"a", "b"} {
			var err error
			if places[i], err = s.Enter(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		if err := places[0].Wait(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		enter(t, s, "b")(gate.Result{}) // somebody waits for this one
		turn := make(chan error)
		go func() { turn <- places[1].Wait(t.Context(), true) }()
		synctest.Wait()
		select {
		case err := <-turn:
			t.Fatalf("two in the background: %v", err)
		default:
		}
		places[0].Yield()
		if err := <-turn; err != nil {
			t.Fatal(err)
		}
		places[0].Leave()
		places[1].Leave()
	})
}
