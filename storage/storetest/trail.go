package storetest

import (
	"slices"

	"github.com/coatcheck/coatcheck/broker"
)

var trailTests = map[string]func(*fixture){
	"round trip": func(f *fixture) {
		var a broker.AuditEntry
		var e broker.Event
		fill(&a)
		fill(&e)
		a.Environment, e.Environment = f.env.ID, f.env.ID
		f.ok(f.a.AppendTrail(f.ctx, broker.Trail{Audit: []broker.AuditEntry{a}, Events: []broker.Event{e}}))
		audit, err := f.b.Audit(f.ctx, f.env.ID, 0, 10)
		f.ok(err)
		events, err := f.b.Events(f.ctx, f.env.ID, 0, 10)
		f.ok(err)
		if len(audit) != 1 || len(events) != 1 || audit[0].Sequence == 0 || events[0].Sequence == 0 {
			f.Fatalf("%d lines and %d events, want one of each, numbered", len(audit), len(events))
		}
		a.Sequence, e.Sequence = audit[0].Sequence, events[0].Sequence
		f.same(audit[0], a)
		f.same(events[0], e)
	},
	"it is read in order, page by page": func(f *fixture) {
		other := f.newEnvironment("prod")
		for _, name := range []string{"one", "two", "three"} {
			f.ok(f.a.AppendTrail(f.ctx, f.trail(name)))
			f.ok(f.b.AppendTrail(f.ctx, broker.Trail{Audit: []broker.AuditEntry{{Environment: other.ID, Action: "elsewhere"}}}))
		}
		var actions, kinds []string
		for after := int64(0); ; {
			page, err := f.b.Audit(f.ctx, f.env.ID, after, 2)
			f.ok(err)
			if len(page) == 0 {
				break
			}
			for _, a := range page {
				actions, after = append(actions, a.Action), a.Sequence
			}
		}
		for after := int64(0); ; {
			page, err := f.b.Events(f.ctx, f.env.ID, after, 2)
			f.ok(err)
			if len(page) == 0 {
				break
			}
			for _, e := range page {
				kinds, after = append(kinds, string(e.Kind)), e.Sequence
			}
		}
		want := []string{"one", "two", "three"}
		if !slices.Equal(actions, want) || !slices.Equal(kinds, want) {
			f.Errorf("read %q and %q, want %q", actions, kinds, want)
		}
	},
	"lines can belong to no environment": func(f *fixture) {
		f.ok(f.a.AppendTrail(f.ctx, broker.Trail{Audit: []broker.AuditEntry{{Action: "key.rotate"}}}))
		f.ok(f.a.AppendTrail(f.ctx, f.trail("other")))
		audit, err := f.b.Audit(f.ctx, "", 0, 10)
		f.ok(err)
		if len(audit) != 1 || audit[0].Action != "key.rotate" || audit[0].Environment != "" {
			f.Errorf("%d lines belong to no environment, want 1", len(audit))
		}
		f.wrote("other")
		audit, err = f.b.Audit(f.ctx, "unknown", 0, 10)
		f.ok(err)
		if len(audit) != 0 {
			f.Errorf("an unknown environment has %d lines", len(audit))
		}
	},
	"an unknown environment is refused": func(f *fixture) {
		t := f.trail("lost")
		t.Events[0].Environment = "unknown"
		f.refused(f.a.AppendTrail(f.ctx, t), broker.ErrNotFound)
		f.wroteNothing("lost")
	},
	"a change fails with its trail": func(f *fixture) {
		t := f.trail("lost")
		t.Audit[0].Environment = "unknown"
		c := f.connection()
		f.refused(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1"), New: true, Trail: t}), broker.ErrNotFound)
		_, err := f.b.Connection(f.ctx, f.env.ID, c.ID)
		f.refused(err, broker.ErrNotFound)
		f.wroteNothing("lost")
	},
	"nothing is lost among many writers": func(f *fixture) {
		results := race(f, 60, func(s broker.Store, _ int) error { return s.AppendTrail(f.ctx, f.trail("many")) })
		for _, err := range results {
			f.ok(err)
		}
		if n := f.left("many"); n != 60 {
			f.Errorf("%d of 60 were written", n)
		}
	},
}
