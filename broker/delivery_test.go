package broker_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

func refused(status int) func(*broker.Parcel) broker.Receipt {
	return func(*broker.Parcel) broker.Receipt { return broker.Receipt{Status: status, Answer: "no"} }
}

// every lets time pass and delivers what falls due, in steps.
func (r *rig) every(step, total time.Duration) {
	r.t.Helper()
	for range total / step {
		r.deliverDue()
		r.clock.advance(step)
	}
}

// An app that does not come back is tried ten times in four days; then the delivery is dead, and the next one of its
// connection comes forward. A replay begins anew, with the same id.
func TestADeliveryIsGivenUpAndReplayed(t *testing.T) {
	r, c := newHookRig(t)
	c.set(refused(500))
	r.imported("c", time.Hour)
	r.imported("c", time.Hour)
	start := r.clock.Now()
	r.deliverDue()
	var at []time.Duration
	for _, d := range []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour} {
		c.take()
		r.clock.advance(d - time.Microsecond)
		r.deliverDue()
		if n := len(c.take()); n != 0 {
			t.Fatalf("%d attempts before %s had passed", n, d)
		}
		r.clock.advance(d/10 + time.Microsecond)
		r.deliverDue()
		at = append(at, r.clock.Now().Sub(start))
	}
	list := r.deliveries()
	if first := list[0]; first.Outcome != broker.OutcomeDead || first.Attempts != 10 || first.Status != 500 || first.Answer != "no" {
		t.Fatalf("after %v: %+v", at, first)
	}
	if second := list[1]; second.Outcome != "" || second.Attempts != 1 {
		t.Fatalf("the next one: %+v", second)
	}

	r.every(2*time.Hour, 120*time.Hour)
	c.take()
	c.set(nil)
	n, err := r.broker.Replay(t.Context(), broker.System(r.who.Environment), nil)
	if err != nil || n != 2 {
		t.Fatalf("%d were replayed, %v", n, err)
	}
	r.deliverDue()
	got := c.take()
	if len(got) != 2 || got[0].ID != list[0].Event || got[1].ID != list[1].Event {
		t.Fatalf("%d were told, want both in order", len(got))
	}
	if _, err := r.broker.Replay(t.Context(), broker.System(r.who.Environment), []int64{999}); err == nil {
		t.Error("what there is not was replayed")
	}
	if n, err := r.broker.Replay(t.Context(), broker.System(r.who.Environment), []int64{list[0].Number}); err != nil || n != 1 {
		t.Errorf("one that was delivered is not delivered again: %d, %v", n, err)
	}
	r.deliverDue()
	if got := c.take(); len(got) != 1 || got[0].ID != list[0].Event {
		t.Errorf("%d were told again", len(got))
	}
}

func TestARetryAfterIsHonoured(t *testing.T) {
	r, c := newHookRig(t)
	c.set(func(*broker.Parcel) broker.Receipt { return broker.Receipt{Status: 503, RetryAfter: time.Hour} })
	r.imported("c", time.Hour)
	r.deliverDue()
	c.take()
	r.clock.advance(time.Hour - time.Second)
	r.deliverDue()
	if n := len(c.take()); n != 0 {
		t.Fatalf("%d attempts too early", n)
	}
	r.clock.advance(time.Second)
	r.deliverDue()
	if n := len(c.take()); n != 1 {
		t.Fatalf("%d attempts when the time had come", n)
	}
}

// An address that is gone is not asked again, until it is another or somebody says so.
func TestAReceiverThatIsGoneIsLeftAlone(t *testing.T) {
	r, c := newHookRig(t)
	ctx, system := t.Context(), broker.System(r.who.Environment)
	c.set(refused(410))
	r.imported("a", time.Hour)
	r.expectTold(c, "app created")
	r.imported("b", time.Hour)
	r.expectTold(c)
	for _, d := range r.deliveries() {
		if d.Outcome != broker.OutcomeDead || d.Code != "receiver_gone" {
			t.Errorf("delivery %+v", d)
		}
	}
	r.importedTo("own", ownURL) // another address
	r.expectTold(c, "own created")
	c.set(nil)
	if n, err := r.broker.Replay(ctx, system, nil); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	r.expectTold(c, "app created", "app created", "own created")

	c.set(refused(410))
	r.imported("d", time.Hour)
	r.expectTold(c, "app created")
	c.set(nil)
	r.webhook.URL = "https://moved.example.com/hooks"
	r.declare(ctx)
	r.imported("e", time.Hour)
	r.expectTold(c, "moved created")
}

// What waits goes where the app is now.
func TestAChangedAddressTakesOverWhatWaits(t *testing.T) {
	r, c := newHookRig(t)
	c.set(refused(500))
	r.imported("a", time.Hour)
	r.expectTold(c, "app created")
	c.set(nil)
	r.webhook.URL = "https://moved.example.com/hooks"
	r.declare(t.Context())
	r.clock.advance(time.Minute)
	r.expectTold(c, "moved created")

	c.set(refused(500))
	r.imported("b", time.Hour)
	r.expectTold(c, "moved created")
	r.webhook.URL = ""
	r.declare(t.Context())
	r.clock.advance(time.Minute)
	r.expectTold(c)
	if list := r.deliveries(); list[1].Outcome != broker.OutcomeDead || list[1].Code != "no_receiver" {
		t.Errorf("delivery %+v", list[1])
	}
}

// A receiver that hangs has four requests under way, and nobody else waits for it. The end of the process waits for what
// is under way, and takes up nothing new.
func TestASlowReceiverDelaysNoOther(t *testing.T) {
	r, c := newHookRig(t)
	var mu sync.Mutex
	hanging, most, prompt := 0, 0, 0
	release := make(chan struct{})
	c.set(func(p *broker.Parcel) broker.Receipt {
		mu.Lock()
		if p.URL == ownURL {
			prompt++
			mu.Unlock()
			return broker.Receipt{Status: 200}
		}
		hanging++
		most = max(most, hanging)
		mu.Unlock()
		<-release
		mu.Lock()
		defer mu.Unlock()
		hanging--
		return broker.Receipt{Status: 200}
	})
	for i := range 12 {
		r.imported("slow"+strconv.Itoa(i), time.Hour)
	}
	stop := r.run()
	count := func(n *int) int {
		mu.Lock()
		defer mu.Unlock()
		return *n
	}
	waitFor(t, func() bool { return count(&hanging) == 4 })
	for i := range 6 {
		r.importedTo("quick"+strconv.Itoa(i), ownURL)
	}
	waitFor(t, func() bool { return count(&prompt) == 6 })
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	r.broker.Stop()
	close(release)
	<-stopped
	if most != 4 {
		t.Errorf("%d requests were under way at a time", most)
	}
	ended := 0
	for _, d := range r.deliveries() {
		if d.Outcome == broker.OutcomeDelivered {
			ended++
		} else if d.Attempts != 0 || d.NextAt.After(r.clock.Now()) {
			t.Errorf("it was begun and not finished: %+v", d)
		}
	}
	if ended != 10 {
		t.Errorf("%d were delivered, want 6 and the 4 that were under way", ended)
	}
}

// A courier that panics ends neither the process nor the delivery.
func TestAPanicInADeliveryIsSurvived(t *testing.T) {
	r, c := newHookRig(t)
	c.set(func(*broker.Parcel) broker.Receipt { panic("a receiver's answer") })
	r.imported("c", time.Hour)
	r.deliverDue()
	c.take()
	c.set(nil)
	r.clock.advance(time.Minute)
	r.expectTold(c, "app created")
}

// A result that cannot be stored does not lose the event: it is told again, with the same id.
func TestADeliveryWhoseResultIsLostIsRepeated(t *testing.T) {
	store := &forgetfulStore{}
	r, c := newHookRig(t, func(r *rig) {
		r.wrap = func(s broker.Store) broker.Store { store.Store = s; return store }
	})
	store.forgets = true
	r.imported("c", time.Hour)
	r.deliverDue()
	first := c.take()
	store.forgets = false
	r.clock.advance(time.Minute)
	r.deliverDue()
	second := c.take()
	if len(first) != 1 || len(second) != 1 || first[0].ID != second[0].ID {
		t.Fatalf("told %d and %d times", len(first), len(second))
	}
}

// forgetfulStore loses results while it is told to.
type forgetfulStore struct {
	broker.Store
	forgets bool
}

func (s *forgetfulStore) SettleDelivery(ctx context.Context, res broker.DeliveryResult) error {
	if s.forgets {
		return broker.ErrStorageUnavailable
	}
	return s.Store.SettleDelivery(ctx, res)
}

func TestOldDeliveriesAreForgotten(t *testing.T) {
	r, c := newHookRig(t)
	r.imported("a", time.Hour)
	r.deliverDue()
	c.set(refused(410))
	r.imported("b", time.Hour)
	r.deliverDue()
	left := func() (out []string) {
		t.Helper()
		if err := r.broker.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, d := range r.deliveries() {
			out = append(out, d.Outcome)
		}
		return out
	}
	day := 24 * time.Hour
	for _, step := range []struct {
		pass time.Duration
		want []string
	}{{7 * day, []string{"delivered", "dead"}}, {time.Second, []string{"dead"}}, {24 * day, nil}} {
		r.clock.advance(step.pass)
		if got := left(); !slices.Equal(got, step.want) {
			t.Errorf("after another %s there are %q, want %q", step.pass, got, step.want)
		}
	}
}
