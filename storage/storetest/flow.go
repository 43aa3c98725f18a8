package storetest

import (
	"strconv"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

var flowTests = map[string]func(*fixture){
	"round trip": func(f *fixture) {
		s := f.newSession()
		flow := new(broker.Flow)
		fill(flow)
		flow.Environment, flow.Session, flow.Status = f.env.ID, s.ID, broker.FlowOpen
		ok, err := f.a.CreateFlow(f.ctx, flow, 1, f.trail("create"))
		f.ok(err)
		if !ok {
			f.Fatal("the flow was refused")
		}
		f.wrote("create")
		got, err := f.b.FlowByState(f.ctx, flow.StateHash)
		f.ok(err)
		f.same(got, flow)
	},
	"it is found by its id": func(f *fixture) {
		flow := f.consumedFlow("")
		got, err := f.b.Flow(f.ctx, flow.ID)
		f.ok(err)
		f.same(got.Status, broker.FlowConsumed)
		f.same(got.ID, flow.ID)
		_, err = f.b.Flow(f.ctx, "unknown")
		f.refused(err, broker.ErrNotFound)
	},
	"an unknown state is not found": func(f *fixture) {
		_, err := f.a.FlowByState(f.ctx, []byte("unknown"))
		f.refused(err, broker.ErrNotFound)
	},
	"it is found by its channel": func(f *fixture) {
		flow := f.flow("")
		flow.Channel = []byte("channel")
		_, err := f.a.CreateFlow(f.ctx, flow, 20, f.trail("create"))
		f.ok(err)
		got, err := f.b.FlowByChannel(f.ctx, flow.Channel)
		f.ok(err)
		f.same(got, flow)
		_, err = f.b.FlowByChannel(f.ctx, []byte("unknown"))
		f.refused(err, broker.ErrNotFound)
	},
	"a channel belongs to one flow": func(f *fixture) {
		for n, want := range []*broker.Error{nil, broker.ErrConflict} {
			flow := f.flow("")
			flow.Channel = []byte("channel")
			_, err := f.a.CreateFlow(f.ctx, flow, 20, f.trail(strconv.Itoa(n)))
			if want == nil {
				f.ok(err)
			} else {
				f.refused(err, want)
				f.wroteNothing(strconv.Itoa(n))
			}
		}
	},
	"a session's next flow takes the channel over": func(f *fixture) {
		s, other := f.newSession(), f.newSession()
		first, second, foreign := f.flow(s.ID), f.flow(s.ID), f.flow(other.ID)
		for _, flow := range []*broker.Flow{first, second, foreign} {
			flow.Channel = []byte("channel")
		}
		_, err := f.a.CreateFlow(f.ctx, first, 20, broker.Trail{})
		f.ok(err)
		_, err = f.b.CreateFlow(f.ctx, foreign, 20, broker.Trail{})
		f.refused(err, broker.ErrConflict)
		_, err = f.b.CreateFlow(f.ctx, second, 20, broker.Trail{})
		f.ok(err)
		got, err := f.a.FlowByChannel(f.ctx, second.Channel)
		f.ok(err)
		if got.ID != second.ID {
			f.Errorf("the channel is %s's, want %s's", got.ID, second.ID)
		}
		if status, code := f.status(first); status != broker.FlowFailed || code != "superseded" {
			f.Errorf("the first is %s with %q", status, code)
		}
		ok, err := f.a.ConsumeFlow(f.ctx, second.ID, f.now())
		f.ok(err)
		if !ok {
			f.Error("the second was not consumed")
		}
		third := f.flow(s.ID)
		third.Channel = second.Channel
		_, err = f.b.CreateFlow(f.ctx, third, 20, broker.Trail{})
		f.refused(err, broker.ErrConflict)
	},
	"a state belongs to one flow": func(f *fixture) {
		flow := f.newFlow("")
		other := *flow
		other.ID = "other"
		_, err := f.b.CreateFlow(f.ctx, &other, 20, f.trail("create"))
		f.refused(err, broker.ErrConflict)
		f.wroteNothing("create")
	},
	"it needs its session": func(f *fixture) {
		ok, err := f.a.CreateFlow(f.ctx, f.flow("unknown"), 20, f.trail("create"))
		f.refused(err, broker.ErrNotFound)
		if ok {
			f.Error("it is ok and not found at once")
		}
		f.wroteNothing("create")
	},
	"a session starts so many": func(f *fixture) {
		s := f.newSession()
		type result struct {
			ok  bool
			err error
		}
		results := race(f, 30, func(store broker.Store, _ int) result {
			ok, err := store.CreateFlow(f.ctx, f.flow(s.ID), 20, broker.Trail{})
			return result{ok, err}
		})
		if n := count(results, func(r result) bool { return r.err == nil && r.ok }); n != 20 {
			f.Errorf("%d flows were started, want 20", n)
		}
		if n := count(results, func(r result) bool { return r.err == nil && !r.ok }); n != 10 {
			f.Errorf("%d flows were refused, want 10", n)
		}
		got, err := f.b.Session(f.ctx, s.ID)
		f.ok(err)
		if got.Starts != 20 {
			f.Errorf("%d starts were counted, want 20", got.Starts)
		}
		refused := f.flow(s.ID)
		ok, err := f.a.CreateFlow(f.ctx, refused, 20, f.trail("create"))
		f.ok(err)
		if ok {
			f.Error("one more was started")
		}
		f.wroteNothing("create")
		_, err = f.a.FlowByState(f.ctx, refused.StateHash)
		f.refused(err, broker.ErrNotFound)
	},
	"an open one is sealed again": func(f *fixture) {
		open, consumed := f.newFlow(""), f.consumedFlow("")
		ok, err := f.b.SealFlow(f.ctx, open.ID, broker.Sealed("sealed again"))
		f.ok(err)
		got, err := f.a.FlowByState(f.ctx, open.StateHash)
		f.ok(err)
		if !ok || string(got.Secrets) != "sealed again" {
			f.Errorf("ok is %t and the secrets are %q", ok, got.Secrets)
		}
		got.Secrets = open.Secrets
		f.same(got, open)
		for _, id := range []broker.FlowID{consumed.ID, "unknown"} {
			ok, err := f.b.SealFlow(f.ctx, id, broker.Sealed("sealed again"))
			f.ok(err)
			if ok {
				f.Errorf("%s was sealed again", id)
			}
		}
		got, err = f.a.FlowByState(f.ctx, consumed.StateHash)
		f.ok(err)
		if len(got.Secrets) != 0 {
			f.Errorf("a consumed flow has secrets of %d bytes again", len(got.Secrets))
		}
	},
	"fifty callbacks, one consumes": func(f *fixture) {
		flow := f.newFlow("")
		results := race(f, 50, func(s broker.Store, _ int) bool {
			ok, err := s.ConsumeFlow(f.ctx, flow.ID, f.now())
			if err != nil {
				f.Errorf("consume: %v", err)
			}
			return ok
		})
		if n := count(results, func(ok bool) bool { return ok }); n != 1 {
			f.Errorf("%d callers consumed the flow", n)
		}
		got, err := f.b.FlowByState(f.ctx, flow.StateHash)
		f.ok(err)
		if got.Status != broker.FlowConsumed || !got.ConsumedAt.Equal(f.now()) {
			f.Errorf("the flow is %s, consumed at %s", got.Status, got.ConsumedAt)
		}
		if len(flow.Secrets) == 0 || len(got.Secrets) != 0 {
			f.Errorf("secrets of %d bytes became %d, want none after it was consumed", len(flow.Secrets), len(got.Secrets))
		}
	},
	"only an open one is consumed": func(f *fixture) {
		failed := f.newFlow("")
		f.ok(f.a.FailFlow(f.ctx, failed.ID, "browser_mismatch", f.now(), broker.Trail{}))
		for _, id := range []broker.FlowID{failed.ID, "unknown"} {
			ok, err := f.b.ConsumeFlow(f.ctx, id, f.now())
			f.ok(err)
			if ok {
				f.Errorf("%s was consumed", id)
			}
		}
	},
	"an open or consumed one fails": func(f *fixture) {
		for name, flow := range map[string]*broker.Flow{"open": f.newFlow(""), "consumed": f.consumedFlow("")} {
			f.ok(f.b.FailFlow(f.ctx, flow.ID, "provider_denied", f.now(), f.trail(name)))
			f.wrote(name)
			if status, code := f.status(flow); status != broker.FlowFailed || code != "provider_denied" {
				f.Errorf("the %s flow is %s with %q", name, status, code)
			}
			got, err := f.a.FlowByState(f.ctx, flow.StateHash)
			f.ok(err)
			if len(got.Secrets) != 0 {
				f.Errorf("the %s flow keeps secrets of %d bytes after it failed", name, len(got.Secrets))
			}
		}
	},
	"one that has ended stays as it is": func(f *fixture) {
		failed := f.newFlow("")
		f.ok(f.a.FailFlow(f.ctx, failed.ID, "first", f.now(), broker.Trail{}))
		succeeded := f.consumedFlow("")
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: f.connection(), Credential: f.credential("1"), New: true, Flow: succeeded.ID}))
		for _, id := range []broker.FlowID{failed.ID, succeeded.ID, "unknown"} {
			f.ok(f.b.FailFlow(f.ctx, id, "second", f.now(), f.trail("fail")))
		}
		f.wroteNothing("fail")
		if _, code := f.status(failed); code != "first" {
			f.Errorf("the failed flow has code %q", code)
		}
		if status, _ := f.status(succeeded); status != broker.FlowSucceeded {
			f.Errorf("the succeeded flow is %s", status)
		}
	},
	"interrupted ones are listed": func(f *fixture) {
		want := f.consumedFlow("")
		f.newFlow("")
		failed := f.consumedFlow("")
		f.ok(f.a.FailFlow(f.ctx, failed.ID, "provider_denied", f.now(), broker.Trail{}))
		f.clock.advance(time.Minute)
		f.consumedFlow("")
		list, err := f.b.InterruptedFlows(f.ctx, f.now())
		f.ok(err)
		if len(list) != 1 || list[0].ID != want.ID {
			f.Errorf("%d flows are listed, want the one that was consumed before", len(list))
		}
	},
}
