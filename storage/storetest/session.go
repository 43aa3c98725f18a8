package storetest

import (
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

var sessionTests = map[string]func(*fixture){
	"round trip": func(f *fixture) {
		s := new(broker.Session)
		fill(s)
		s.Environment, s.Done = f.env.ID, nil
		f.ok(f.a.CreateSession(f.ctx, s, f.trail("create")))
		f.wrote("create")
		got, err := f.b.Session(f.ctx, s.ID)
		f.ok(err)
		f.same(got, s)
		got, err = f.b.SessionByHash(f.ctx, s.TokenHash)
		f.ok(err)
		f.same(got, s)
	},
	"an unknown one is not found": func(f *fixture) {
		_, err := f.a.Session(f.ctx, "unknown")
		f.refused(err, broker.ErrNotFound)
		_, err = f.a.SessionByHash(f.ctx, []byte("unknown"))
		f.refused(err, broker.ErrNotFound)
	},
	"a token belongs to one session": func(f *fixture) {
		s := f.newSession()
		other := *s
		other.ID = "other"
		f.refused(f.b.CreateSession(f.ctx, &other, f.trail("create")), broker.ErrConflict)
		f.wroteNothing("create")
	},
	"an expired one is found": func(f *fixture) {
		s := f.newSession()
		f.clock.advance(24 * time.Hour)
		_, err := f.b.SessionByHash(f.ctx, s.TokenHash)
		f.ok(err)
	},
	"its successes are listed in order": func(f *fixture) {
		s := f.newSession()
		var want []broker.SessionEnd
		for _, key := range []string{"zoho", "asana"} {
			f.clock.advance(time.Second)
			c := f.connection()
			c.Integration = f.newIntegration(key).ID
			f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1"), New: true, Session: s.ID}))
			want = append(want, broker.SessionEnd{Integration: c.Integration, Connection: c.ID, At: f.now()})
		}
		got, err := f.b.Session(f.ctx, s.ID)
		f.ok(err)
		f.same(got.Done, want)
	},
	"deleting ends its open flows": func(f *fixture) {
		s, other := f.newSession(), f.newSession()
		open, consumed, foreign := f.newFlow(s.ID), f.consumedFlow(s.ID), f.newFlow(other.ID)
		f.ok(f.b.DeleteSession(f.ctx, s.ID, "session_invalid", f.now(), f.trail("delete")))
		f.wrote("delete")
		_, err := f.b.Session(f.ctx, s.ID)
		f.refused(err, broker.ErrNotFound)
		ended, err := f.b.FlowByState(f.ctx, open.StateHash)
		f.ok(err)
		if ended.Status != broker.FlowFailed || ended.Code != "session_invalid" || len(ended.Secrets) != 0 {
			f.Errorf("the open flow is %s with %q and secrets of %d bytes", ended.Status, ended.Code, len(ended.Secrets))
		}
		if status, _ := f.status(consumed); status != broker.FlowConsumed {
			f.Errorf("the consumed flow is %s", status)
		}
		if status, _ := f.status(foreign); status != broker.FlowOpen {
			f.Errorf("another session's flow is %s", status)
		}
		f.refused(f.b.DeleteSession(f.ctx, s.ID, "session_invalid", f.now(), f.trail("again")), broker.ErrNotFound)
		f.wroteNothing("again")
	},
	"the sweep takes what ended long ago": func(f *fixture) {
		old := f.newSession()
		expired, consumed := f.newFlow(""), f.consumedFlow("")
		failed := f.newFlow("")
		f.ok(f.a.FailFlow(f.ctx, failed.ID, "provider_denied", f.now(), broker.Trail{}))
		f.clock.advance(2 * time.Hour)
		fresh := f.newSession()
		open := f.newFlow("")
		n, err := f.b.SweepSessions(f.ctx, f.now().Add(-time.Hour+time.Second))
		f.ok(err)
		if n != 3 {
			f.Errorf("%d rows were swept, want a session and two flows", n)
		}
		_, err = f.a.Session(f.ctx, old.ID)
		f.refused(err, broker.ErrNotFound)
		for _, flow := range []*broker.Flow{expired, failed} {
			_, err = f.a.FlowByState(f.ctx, flow.StateHash)
			f.refused(err, broker.ErrNotFound)
		}
		_, err = f.a.Session(f.ctx, fresh.ID)
		f.ok(err)
		for _, flow := range []*broker.Flow{consumed, open} { // an exchange may still be under way
			_, err = f.a.FlowByState(f.ctx, flow.StateHash)
			f.ok(err)
		}
	},
	"the sweep takes a session with its successes": func(f *fixture) {
		s := f.newSession()
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: f.connection(), Credential: f.credential("1"), New: true, Session: s.ID}))
		f.clock.advance(2 * time.Hour)
		n, err := f.b.SweepSessions(f.ctx, f.now())
		f.ok(err)
		if n != 1 {
			f.Errorf("%d rows were swept, want 1", n)
		}
	},
}
