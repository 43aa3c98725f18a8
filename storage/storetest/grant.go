package storetest

import (
	"errors"

	"github.com/coatcheck/coatcheck/broker"
)

var grantTests = map[string]func(*fixture){
	"round trip": func(f *fixture) {
		c, cred := f.filled(), new(broker.Credential)
		fill(cred)
		cred.Connection, cred.Version = c.ID, 1
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: cred, New: true, Trail: f.trail("grant")}))
		f.wrote("grant")
		if c.Number == 0 || c.Revision != 1 {
			f.Errorf("number %d and revision %d of a new connection", c.Number, c.Revision)
		}
		gotConnection, gotCredential := f.reread(c.ID)
		f.same(gotConnection, c)
		f.same(gotCredential, cred)
	},
	"a second one replaces": func(f *fixture) {
		before := f.granted()
		c, cred := f.filled(), new(broker.Credential)
		c.ID, c.Number, c.Revision = before.ID, before.Number, before.Revision
		fill(cred)
		cred.Connection, cred.Version, cred.Fence = c.ID, 2, 1000
		f.ok(f.b.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: cred, From: 1, Trail: f.trail("grant")}))
		f.wrote("grant")
		if c.Revision != 2 || c.Number != before.Number {
			f.Errorf("number %d and revision %d of a replaced connection", c.Number, c.Revision)
		}
		gotConnection, gotCredential := f.reread(c.ID)
		c.FetchedAt = gotConnection.FetchedAt
		f.same(gotConnection, c)
		f.same(gotCredential, cred)
	},
	"a pending connection becomes active": func(f *fixture) {
		c := f.connection()
		c.Status = broker.Pending
		f.ok(f.a.CreatePending(f.ctx, c, broker.Trail{}))
		c.Status = broker.Active
		f.ok(f.b.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1")}))
		got, cred := f.reread(c.ID)
		if got.Status != broker.Active || got.Revision != 2 || cred.Version != 1 {
			f.Errorf("it is %s, revision %d, version %d", got.Status, got.Revision, cred.Version)
		}
	},
	"a fence never falls": func(f *fixture) {
		c := f.granted()
		_, ok, err := f.a.LeaseRefresh(f.ctx, c.ID, "owner", 1)
		f.ok(err)
		if !ok {
			f.Fatal("no lease")
		}
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("2"), From: 1}))
		if _, cred := f.reread(c.ID); cred.Fence != 1 || cred.LeaseOwner != "" || !cred.AttemptAt.IsZero() {
			f.Errorf("fence %d, owner %q, attempt %s", cred.Fence, cred.LeaseOwner, cred.AttemptAt)
		}
	},
	"a taken key is refused": func(f *fixture) {
		c := f.connection()
		c.Key = f.granted().Key
		f.grantRefused(&broker.Grant{Connection: c, Credential: f.credential("1"), New: true}, broker.ErrConflict)
		_, err := f.b.Credential(f.ctx, c.ID)
		f.refused(err, broker.ErrNotFound)
	},
	"a stale version or revision is refused": func(f *fixture) {
		c := f.granted()
		f.grantRefused(&broker.Grant{Connection: c, Credential: f.credential("2"), From: 0}, broker.ErrConflict)
		f.grantRefused(&broker.Grant{Connection: c, Credential: f.credential("2"), From: 2}, broker.ErrConflict)
		stale := *c
		f.ok(f.a.UpdateConnections(f.ctx, []*broker.Connection{c}, broker.Trail{}))
		f.grantRefused(&broker.Grant{Connection: &stale, Credential: f.credential("2"), From: 1}, broker.ErrConflict)
		if stale.Revision != 1 {
			f.Error("a refused grant must leave the revision alone")
		}
		got, cred := f.reread(c.ID)
		if got.Revision != 2 || cred.Version != 1 || string(cred.Access) != "access 1" {
			f.Errorf("revision %d, version %d, %s", got.Revision, cred.Version, cred.Access)
		}
	},
	"a connection that is gone is refused": func(f *fixture) {
		c := f.granted()
		f.ok(f.a.DeleteConnection(f.ctx, f.env.ID, c.ID, f.now(), broker.Trail{}))
		f.grantRefused(&broker.Grant{Connection: c, Credential: f.credential("2"), From: 1}, broker.ErrNotFound)
	},
	"its flow succeeds": func(f *fixture) {
		flow := f.consumedFlow("")
		c := f.connection()
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1"), New: true, Flow: flow.ID}))
		got, err := f.b.FlowByState(f.ctx, flow.StateHash)
		f.ok(err)
		if got.Status != broker.FlowSucceeded || got.Connection != c.ID {
			f.Errorf("the flow is %s with connection %q", got.Status, got.Connection)
		}
	},
	"a flow that is not consumed is refused": func(f *fixture) {
		failed, done := f.consumedFlow(""), f.consumedFlow("")
		f.ok(f.a.FailFlow(f.ctx, failed.ID, "interrupted", f.now(), broker.Trail{}))
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: f.connection(), Credential: f.credential("1"), New: true, Flow: done.ID}))
		for _, id := range []broker.FlowID{f.newFlow("").ID, failed.ID, done.ID, "unknown"} {
			c := f.connection()
			f.grantRefused(&broker.Grant{Connection: c, Credential: f.credential("1"), New: true, Flow: id}, broker.ErrConflict)
			_, err := f.b.Connection(f.ctx, f.env.ID, c.ID)
			f.refused(err, broker.ErrNotFound)
		}
	},
	"a session is spent once for an integration": func(f *fixture) {
		s := f.newSession()
		results := race(f, 8, func(store broker.Store, _ int) error {
			g := &broker.Grant{Connection: f.connection(), Credential: f.credential("1"), New: true, Session: s.ID, Trail: f.trail("race")}
			return store.PutGrant(f.ctx, g)
		})
		if n := count(results, func(err error) bool { return err == nil }); n != 1 {
			f.Errorf("%d grants of one session and integration succeeded", n)
		}
		if n := count(results, func(err error) bool { return errors.Is(err, broker.ErrSessionCompleted) }); n != 7 {
			f.Errorf("%d grants were told that the session is completed, want 7", n)
		}
		f.wrote("race")
		if list := f.listed(broker.ConnectionFilter{}); len(list) != 1 {
			f.Errorf("%d connections came of it", len(list))
		}
		elsewhere := f.connection()
		elsewhere.Integration = f.newIntegration("slack").ID
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: elsewhere, Credential: f.credential("1"), New: true, Session: s.ID}))
	},
	"a session that is gone is refused": func(f *fixture) {
		s := f.newSession()
		flow := f.consumedFlow(s.ID)
		f.ok(f.a.DeleteSession(f.ctx, s.ID, "session_invalid", f.now(), broker.Trail{}))
		c := f.connection()
		f.grantRefused(&broker.Grant{Connection: c, Credential: f.credential("1"), New: true, Session: s.ID, Flow: flow.ID}, broker.ErrNotFound)
		if status, _ := f.status(flow); status != broker.FlowConsumed {
			f.Errorf("the flow of a refused grant is %s", status)
		}
	},
	"two of one hash are duplicates": func(f *fixture) {
		hash, similar := []byte("0123456789abcdef"), []byte("0123456789abcdeF")
		one, two, three, none := f.connection(), f.connection(), f.connection(), f.connection()
		one.GrantHash, two.GrantHash, three.GrantHash = hash, hash, similar
		f.duplicates(one, false, one, three, none)
		f.duplicates(three, false, one, three, none)
		f.duplicates(none, false, one, three, none)
		f.duplicates(two, true, three, none)
		if !f.listedAs(one) || !f.listedAs(two) {
			f.Error("both should be duplicates")
		}
		f.ok(f.a.DeleteConnection(f.ctx, f.env.ID, two.ID, f.now(), broker.Trail{}))
		if f.listedAs(one) {
			f.Error("a deleted connection has no duplicate")
		}
	},
	"a duplicate that is replaced is none": func(f *fixture) {
		one, two := f.connection(), f.connection()
		one.GrantHash, two.GrantHash = []byte("a grant"), []byte("a grant")
		f.grantedAs(one)
		f.duplicates(two, true)
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: two, Credential: f.credential("2"), From: 1, DuplicateTrail: f.trail("again")}))
		f.wrote("again")
		two.GrantHash = []byte("another grant")
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: two, Credential: f.credential("3"), From: 2, DuplicateTrail: f.trail("other")}))
		f.wroteNothing("other")
		if two.DuplicateGrant || f.listedAs(one) || f.listedAs(two) {
			f.Error("neither should be a duplicate")
		}
	},
	"a disconnected connection has no duplicate": func(f *fixture) {
		one, two := f.connection(), f.connection()
		one.GrantHash, two.GrantHash = []byte("a grant"), []byte("a grant")
		one.Status = broker.Disconnected
		f.grantedAs(one)
		f.duplicates(two, false)
		if f.listedAs(one) || f.listedAs(two) {
			f.Error("neither should be a duplicate")
		}
	},
	"of two reconnects one wins": func(f *fixture) {
		c := f.granted()
		results := race(f, 8, func(s broker.Store, _ int) error {
			mine := *c
			return s.PutGrant(f.ctx, &broker.Grant{Connection: &mine, Credential: f.credential("2"), From: 1, Trail: f.trail("race")})
		})
		if n := count(results, func(err error) bool { return err == nil }); n != 1 {
			f.Errorf("%d reconnects from one version succeeded", n)
		}
		f.wrote("race")
	},
}

// duplicates puts a new connection, checks whether that is found to be a duplicate, and that the others are none.
func (f *fixture) duplicates(c *broker.Connection, want bool, others ...*broker.Connection) {
	f.Helper()
	trail := "duplicate " + string(c.ID)
	f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1"), New: true, DuplicateTrail: f.trail(trail)}))
	wrote := f.wroteNothing
	if want {
		wrote = f.wrote
	}
	wrote(trail)
	if c.DuplicateGrant != want {
		f.Errorf("it is found to be a duplicate: %t, want %t", c.DuplicateGrant, want)
	}
	for _, other := range others {
		if other.Number != 0 && f.listedAs(other) {
			f.Errorf("%s is a duplicate", other.ID)
		}
	}
}

// listedAs reports whether a connection reads as a duplicate, by every way of reading it.
func (f *fixture) listedAs(c *broker.Connection) bool {
	f.Helper()
	byID, _ := f.reread(c.ID)
	byKey, err := f.b.ConnectionByKey(f.ctx, c.Integration, c.Key)
	f.ok(err)
	list, err := f.b.Connections(f.ctx, broker.ConnectionFilter{Environment: c.Environment, Key: c.Key})
	f.ok(err)
	if len(list) != 1 || byKey.DuplicateGrant != byID.DuplicateGrant || list[0].DuplicateGrant != byID.DuplicateGrant {
		f.Error("ways of reading a connection differ")
	}
	return byID.DuplicateGrant
}

// grantRefused puts a grant that must leave nothing behind.
func (f *fixture) grantRefused(g *broker.Grant, want *broker.Error) {
	f.Helper()
	g.Trail = f.trail("refused")
	f.refused(f.b.PutGrant(f.ctx, g), want)
	f.wroteNothing("refused")
}
