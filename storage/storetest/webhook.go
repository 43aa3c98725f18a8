package storetest

import (
	"slices"
	"strconv"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

func (f *fixture) webhooks() []*broker.Webhook {
	f.Helper()
	list, err := f.b.Webhooks(f.ctx)
	f.ok(err)
	return list
}

// delivery is a new one, not stored. Those of one endpoint about one connection form a line.
func (f *fixture) delivery(event, endpoint, about string) broker.Delivery {
	return broker.Delivery{
		Event: event, Environment: f.env.ID, Endpoint: endpoint, About: about, Kind: broker.EventConnected, Notice: []byte(`{}`),
		CreatedAt: f.now(), NextAt: f.now(),
	}
}

// told stores deliveries with a change.
func (f *fixture) told(list ...broker.Delivery) {
	f.Helper()
	f.ok(f.a.AppendTrail(f.ctx, broker.Trail{Deliveries: list}))
}

// deliveries lists the environment's by the other handle, newest first.
func (f *fixture) deliveries(filter broker.DeliveryFilter) []*broker.Delivery {
	f.Helper()
	filter.Environment = f.env.ID
	list, err := f.b.Deliveries(f.ctx, filter)
	f.ok(err)
	return list
}

// taken claims what is due at an endpoint, for a minute; "": nothing is.
func (f *fixture) taken(endpoint string) (*broker.Delivery, string) {
	f.Helper()
	d, err := f.b.ClaimDelivery(f.ctx, endpoint, f.now(), f.now().Add(time.Minute))
	f.ok(err)
	if d == nil {
		return nil, ""
	}
	return d, d.Event
}

// settled ends a delivery.
func (f *fixture) settled(d *broker.Delivery, outcome string) {
	f.Helper()
	f.ok(f.a.SettleDelivery(f.ctx, broker.DeliveryResult{Number: d.Number, Attempts: d.Attempts, At: f.now(), Outcome: outcome, Status: 200}))
}

// expect ends the test unless the next that is due at an endpoint is the delivery of that event.
func (f *fixture) expect(endpoint, event string) *broker.Delivery {
	f.Helper()
	d, got := f.taken(endpoint)
	if got != event {
		f.Fatalf("%s: the next is %q, want %q", endpoint, got, event)
	}
	return d
}

var webhookTests = map[string]func(*fixture){
	"round trip": func(f *fixture) {
		w := new(broker.Webhook)
		fill(w)
		w.Environment, w.Revision = f.env.ID, 0
		f.ok(f.a.SaveWebhook(f.ctx, w, f.trail("save")))
		f.wrote("save")
		w.Revision = 1
		f.same(f.webhooks(), []*broker.Webhook{w})
		changed := &broker.Webhook{Environment: f.env.ID, Revision: 1, URL: "https://app.example.com"}
		f.ok(f.b.SaveWebhook(f.ctx, changed, f.trail("change")))
		f.wrote("change")
		changed.Revision = 2
		f.same(f.webhooks(), []*broker.Webhook{changed})
	},
	"an older revision changes nothing": func(f *fixture) {
		w := &broker.Webhook{Environment: f.env.ID}
		f.ok(f.a.SaveWebhook(f.ctx, w, broker.Trail{}))
		f.refused(f.b.SaveWebhook(f.ctx, w, f.trail("again")), broker.ErrConflict)
		f.refused(f.b.SaveWebhook(f.ctx, &broker.Webhook{Environment: f.env.ID, Revision: 2}, f.trail("again")), broker.ErrConflict)
		f.refused(f.b.SaveWebhook(f.ctx, &broker.Webhook{Environment: "unknown"}, f.trail("again")), broker.ErrNotFound)
		f.wroteNothing("again")
		results := race(f, 8, func(s broker.Store, _ int) error {
			return s.SaveWebhook(f.ctx, &broker.Webhook{Environment: f.env.ID, Revision: 1}, f.trail("race"))
		})
		if n := count(results, func(err error) bool { return err == nil }); n != 1 {
			f.Errorf("%d changes of one revision succeeded", n)
		}
		f.wrote("race")
	},
}

var deliveryTests = map[string]func(*fixture){
	"round trip": func(f *fixture) {
		var d broker.Delivery
		fill(&d)
		d.Environment, d.Notice = f.env.ID, []byte(`{"a":"<ü>"}`)
		f.told(d)
		got := f.deliveries(broker.DeliveryFilter{})
		if len(got) != 1 || got[0].Number == 0 {
			f.Fatalf("%d are listed", len(got))
		}
		d.Number = got[0].Number
		f.same(got[0], &d)
	},
	"they commit with their change, or not at all": func(f *fixture) {
		c := f.connection()
		trail := broker.Trail{Deliveries: []broker.Delivery{f.delivery("1", "e", "c"), {Environment: "unknown"}}}
		f.refused(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1"), New: true, Trail: trail}), broker.ErrNotFound)
		if n := len(f.deliveries(broker.DeliveryFilter{})); n != 0 {
			f.Errorf("%d tell of a change that did not happen", n)
		}
		trail.Deliveries = trail.Deliveries[:1]
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1"), New: true, Trail: trail}))
		f.expect("e", "1")
	},
	"queues say what waits, endpoint by endpoint": func(f *fixture) {
		queues := func() []broker.DeliveryQueue {
			list, err := f.b.DeliveryQueues(f.ctx)
			f.ok(err)
			return list
		}
		if len(queues()) != 0 {
			f.Fatal("something waits")
		}
		later := f.delivery("3", "b", "c3")
		later.NextAt = f.now().Add(time.Hour)
		f.told(f.delivery("1", "a", "c1"), f.delivery("2", "a", "c1"), later)
		want := []broker.DeliveryQueue{{Endpoint: "a", NextAt: f.now()}, {Endpoint: "b", NextAt: later.NextAt}}
		f.same(queues(), want)
		d := f.expect("a", "1")
		want[0].NextAt = f.now().Add(time.Minute)
		f.same(queues(), want)
		f.settled(d, broker.OutcomeDelivered)
		want[0].NextAt = f.now()
		f.same(queues(), want)
	},
	"one that is claimed is not claimed again until the claim runs out": func(f *fixture) {
		f.told(f.delivery("1", "e", "c"))
		d := f.expect("e", "1")
		if !d.NextAt.Equal(f.now().Add(time.Minute)) {
			f.Errorf("claimed until %s", d.NextAt)
		}
		f.expect("e", "")
		f.clock.advance(time.Minute)
		f.expect("e", "1")
	},
	"each is claimed by one": func(f *fixture) {
		for i := range 20 {
			f.told(f.delivery(strconv.Itoa(i), "e", "c"+strconv.Itoa(i)))
		}
		claimed := race(f, 40, func(s broker.Store, _ int) string {
			d, err := s.ClaimDelivery(f.ctx, "e", f.now(), f.now().Add(time.Minute))
			if err != nil {
				f.Errorf("claim: %v", err)
			}
			if d == nil {
				return ""
			}
			return d.Event
		})
		slices.Sort(claimed)
		if got := slices.Compact(claimed); len(got) != 21 || count(claimed, func(s string) bool { return s == "" }) != 20 {
			f.Errorf("claimed %q", claimed)
		}
	},
	"a result counts once": func(f *fixture) {
		f.told(f.delivery("1", "e", "c"))
		d := f.expect("e", "1")
		results := race(f, 8, func(s broker.Store, _ int) error {
			return s.SettleDelivery(f.ctx, broker.DeliveryResult{Number: d.Number, At: f.now(), NextAt: f.now().Add(time.Second), Status: 500})
		})
		if n := count(results, func(err error) bool { return err == nil }); n != 1 {
			f.Errorf("one attempt was counted %d times", n)
		}
		f.refused(f.a.SettleDelivery(f.ctx, broker.DeliveryResult{Number: 999, At: f.now(), Outcome: broker.OutcomeDead}), broker.ErrNotFound)
	},
	"an attempt is recorded, and the delivery put back": func(f *fixture) {
		f.told(f.delivery("1", "e", "c"))
		d := f.expect("e", "1")
		f.ok(f.b.SettleDelivery(f.ctx, broker.DeliveryResult{
			Number: d.Number, At: f.now(), NextAt: f.now().Add(time.Second), Status: 500, Code: "code", Answer: "no",
		}))
		f.expect("e", "")
		d.Attempts, d.TriedAt, d.NextAt, d.Status, d.Code, d.Answer = 1, f.now(), f.now().Add(time.Second), 500, "code", "no"
		f.same(f.deliveries(broker.DeliveryFilter{})[0], d)
		f.clock.advance(time.Second)
		d = f.expect("e", "1")
		f.settled(d, broker.OutcomeDelivered)
		got := f.deliveries(broker.DeliveryFilter{})[0]
		if got.Outcome != broker.OutcomeDelivered || !got.DoneAt.Equal(f.now()) || !got.NextAt.IsZero() || got.Attempts != 2 || got.Code != "" {
			f.Errorf("it ended as %+v", got)
		}
		f.refused(f.a.SettleDelivery(f.ctx, broker.DeliveryResult{Number: d.Number, Attempts: 2, At: f.now(), Outcome: broker.OutcomeDead}), broker.ErrNotFound)
	},
	"what is told of one connection keeps its order": func(f *fixture) {
		f.told(f.delivery("1", "e", "c"), f.delivery("2", "e", "c"), f.delivery("other", "e", "d"), f.delivery("1", "x", "c"))
		f.told(f.delivery("3", "e", "c"))
		first := f.expect("e", "1")
		f.expect("e", "other")
		f.expect("e", "") // 2 and 3 wait
		f.expect("x", "1")
		f.ok(f.a.SettleDelivery(f.ctx, broker.DeliveryResult{Number: first.Number, At: f.now(), NextAt: f.now().Add(time.Hour), Status: 500}))
		f.expect("e", "")
		f.clock.advance(time.Hour)
		f.settled(f.expect("e", "other"), broker.OutcomeDelivered) // its claim ran out
		f.settled(f.expect("e", "1"), broker.OutcomeDead)
		f.settled(f.expect("e", "2"), broker.OutcomeDelivered)
		f.settled(f.expect("e", "3"), broker.OutcomeDelivered)
		f.expect("e", "")
		f.told(f.delivery("4", "e", "c")) // nobody is before it any more
		f.expect("e", "4")
	},
	"a replay comes before what waits, and after what is being tried": func(f *fixture) {
		f.told(f.delivery("1", "e", "c"), f.delivery("2", "e", "c"), f.delivery("3", "e", "c"))
		first := f.expect("e", "1")
		f.settled(first, broker.OutcomeDead)
		second := f.expect("e", "2")
		n, err := f.b.ReplayDeliveries(f.ctx, f.env.ID, []int64{first.Number, second.Number, 999}, f.now(), f.trail("replay"))
		f.ok(err)
		if n != 1 {
			f.Errorf("%d were replayed, want the one that had ended", n)
		}
		f.wrote("replay")
		f.expect("e", "")
		f.settled(second, broker.OutcomeDelivered)
		again := f.expect("e", "1")
		if again.Attempts != 0 || again.Event != first.Event || again.Outcome != "" || !again.DoneAt.IsZero() {
			f.Errorf("replayed %+v", again)
		}
		f.settled(again, broker.OutcomeDelivered)
		f.expect("e", "3")
	},
	"a replay is of one's own environment": func(f *fixture) {
		f.told(f.delivery("1", "e", "c"))
		d := f.expect("e", "1")
		f.settled(d, broker.OutcomeDead)
		n, err := f.a.ReplayDeliveries(f.ctx, f.newEnvironment("prod").ID, []int64{d.Number}, f.now(), broker.Trail{})
		f.ok(err)
		if n != 0 {
			f.Error("another environment's was replayed")
		}
	},
	"they are listed, newest first, page by page": func(f *fixture) {
		for i := range 5 {
			f.told(f.delivery(strconv.Itoa(i), "e"+strconv.Itoa(i), "c"))
			if i%2 == 0 {
				f.settled(f.expect("e"+strconv.Itoa(i), strconv.Itoa(i)), broker.OutcomeDead)
			}
		}
		f.settled(f.expect("e1", "1"), broker.OutcomeDelivered)
		events := func(filter broker.DeliveryFilter) (out []string, last int64) {
			for _, d := range f.deliveries(filter) {
				out, last = append(out, d.Event), d.Number
			}
			return out, last
		}
		page, last := events(broker.DeliveryFilter{Limit: 3})
		rest, _ := events(broker.DeliveryFilter{Before: last})
		dead, last := events(broker.DeliveryFilter{Outcome: broker.OutcomeDead, Limit: 2})
		older, _ := events(broker.DeliveryFilter{Outcome: broker.OutcomeDead, Before: last})
		delivered, _ := events(broker.DeliveryFilter{Outcome: broker.OutcomeDelivered})
		for i, want := range [][]string{{"4", "3", "2"}, {"1", "0"}, {"4", "2"}, {"0"}, {"1"}} {
			if got := [][]string{page, rest, dead, older, delivered}[i]; !slices.Equal(got, want) {
				f.Errorf("list %d: got %q, want %q", i, got, want)
			}
		}
		list, err := f.b.Deliveries(f.ctx, broker.DeliveryFilter{Environment: f.newEnvironment("prod").ID})
		f.ok(err)
		if len(list) != 0 {
			f.Errorf("another environment lists %d", len(list))
		}
	},
	"the sweep takes what ended long ago, some at a time": func(f *fixture) {
		for i := range 4 {
			f.told(f.delivery(strconv.Itoa(i), "e", "c"+strconv.Itoa(i)))
		}
		for i := range 3 {
			f.settled(f.expect("e", strconv.Itoa(i)), broker.OutcomeDelivered)
		}
		f.settled(f.expect("e", "3"), broker.OutcomeDead)
		f.told(f.delivery("open", "e", "c"))
		sweep := func(outcome string) int {
			n, err := f.b.SweepDeliveries(f.ctx, outcome, f.now(), 2)
			f.ok(err)
			return n
		}
		if n := sweep(broker.OutcomeDelivered); n != 0 {
			f.Errorf("%d of now were swept", n)
		}
		f.clock.advance(time.Second)
		for _, want := range []int{2, 1, 0} {
			if n := sweep(broker.OutcomeDelivered); n != want {
				f.Errorf("%d were swept, want %d", n, want)
			}
		}
		if list := f.deliveries(broker.DeliveryFilter{}); len(list) != 2 || list[0].Event != "open" || list[1].Event != "3" {
			f.Errorf("%d are left, want the dead and the open one", len(list))
		}
	},
}
