package storetest

import (
	"fmt"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// filled is a connection with a value in every field.
func (f *fixture) filled() *broker.Connection {
	c := new(broker.Connection)
	fill(c)
	c.Environment, c.Integration, c.DuplicateGrant = f.env.ID, f.integration.ID, false // that is the store's to say
	c.Metadata, c.Config = []byte(`{"plan":"größe <1>"}`), []byte(`{"subdomain":"acme"}`)
	return c
}

var connectionTests = map[string]func(*fixture){
	"old pending ones are swept, and nothing else": func(f *fixture) {
		of := func(status broker.Status, age time.Duration) broker.ConnectionID {
			c := f.connection()
			c.Key = string(status) + age.String()
			c.Status, c.UpdatedAt = status, f.now().Add(-age)
			f.ok(f.a.CreatePending(f.ctx, c, broker.Trail{}))
			return c.ID
		}
		old, young, active := of(broker.Pending, 2*time.Hour), of(broker.Pending, time.Minute), of(broker.Active, 2*time.Hour)
		n, err := f.b.SweepPending(f.ctx, f.now().Add(-time.Hour))
		f.ok(err)
		f.same(n, 1)
		_, err = f.a.Connection(f.ctx, f.env.ID, old)
		f.refused(err, broker.ErrNotFound)
		for _, id := range []broker.ConnectionID{young, active} {
			_, err = f.a.Connection(f.ctx, f.env.ID, id)
			f.ok(err)
		}
	},
	"round trip": func(f *fixture) {
		c := f.filled()
		f.ok(f.a.CreatePending(f.ctx, c, f.trail("create")))
		f.wrote("create")
		if c.Number == 0 || c.Revision != 1 {
			f.Errorf("number %d and revision %d of a new connection", c.Number, c.Revision)
		}
		got, err := f.b.Connection(f.ctx, f.env.ID, c.ID)
		f.ok(err)
		f.same(got, c)
		got, err = f.b.ConnectionByKey(f.ctx, f.integration.ID, c.Key)
		f.ok(err)
		f.same(got, c)
		list, err := f.b.Connections(f.ctx, broker.ConnectionFilter{Environment: f.env.ID})
		f.ok(err)
		f.same(list[0], c)
	},
	"the only one without an end user": func(f *fixture) {
		owned := f.connection()
		f.ok(f.a.CreatePending(f.ctx, owned, broker.Trail{}))
		errs := make(chan error)
		for n := range 8 {
			c := f.connection()
			c.Key, c.EndUser = fmt.Sprint("only-", n), nil
			store := []broker.Store{f.a, f.b}[n%2]
			go func() { errs <- store.CreateOnly(f.ctx, c, broker.Trail{}) }()
		}
		made := 0
		for range 8 {
			if err := <-errs; err == nil {
				made++
			} else {
				f.refused(err, broker.ErrConflict)
			}
		}
		f.same(made, 1)
	},
	"without an end user": func(f *fixture) {
		c := f.granted()
		got, _ := f.reread(c.ID)
		f.same(got, c)
	},
	"a pending one has no credential": func(f *fixture) {
		c := f.connection()
		c.Status = broker.Pending
		f.ok(f.a.CreatePending(f.ctx, c, broker.Trail{}))
		_, err := f.b.Credential(f.ctx, c.ID)
		f.refused(err, broker.ErrNotFound)
	},
	"an unknown one is not found": func(f *fixture) {
		_, err := f.a.Connection(f.ctx, f.env.ID, "unknown")
		f.refused(err, broker.ErrNotFound)
		_, err = f.a.ConnectionByKey(f.ctx, f.integration.ID, "unknown")
		f.refused(err, broker.ErrNotFound)
		_, err = f.a.ConnectionByKey(f.ctx, "unknown", f.granted().Key)
		f.refused(err, broker.ErrNotFound)
	},
	"another environment does not see it": func(f *fixture) {
		c := f.granted()
		other := f.newEnvironment("prod").ID
		_, err := f.b.Connection(f.ctx, other, c.ID)
		f.refused(err, broker.ErrNotFound)
		f.refused(f.b.DeleteConnection(f.ctx, other, c.ID, f.now(), f.trail("delete")), broker.ErrNotFound)
		f.wroteNothing("delete")
		moved := *c
		moved.Environment = other
		f.refused(f.b.UpdateConnections(f.ctx, []*broker.Connection{&moved}, broker.Trail{}), broker.ErrNotFound)
		list, err := f.b.Connections(f.ctx, broker.ConnectionFilter{Environment: other})
		f.ok(err)
		if len(list) != 0 {
			f.Errorf("another environment lists %d connections", len(list))
		}
		moved = *f.connection()
		moved.Environment = other // whose integration it is not
		f.refused(f.b.CreatePending(f.ctx, &moved, broker.Trail{}), broker.ErrNotFound)
	},
	"a key is taken once in its integration": func(f *fixture) {
		c := f.granted()
		other := f.connection()
		other.Key = c.Key
		f.refused(f.b.CreatePending(f.ctx, other, f.trail("create")), broker.ErrConflict)
		f.wroteNothing("create")
		other.Integration = f.newIntegration("slack").ID
		f.ok(f.b.CreatePending(f.ctx, other, broker.Trail{}))
	},
	"numbers rise and do not come back": func(f *fixture) {
		one, two := f.granted(), f.granted()
		f.ok(f.a.DeleteConnection(f.ctx, f.env.ID, two.ID, f.now(), broker.Trail{}))
		three := f.granted()
		if one.Number >= two.Number || two.Number >= three.Number {
			f.Errorf("numbers %d, %d, %d do not rise", one.Number, two.Number, three.Number)
		}
	},
	"an update replaces": func(f *fixture) {
		before := f.granted()
		f.ok(f.a.TouchFetched(f.ctx, map[broker.ConnectionID]time.Time{before.ID: f.now()}))
		_, cred := f.reread(before.ID)
		c := f.filled()
		c.ID, c.Number, c.Revision = before.ID, before.Number, before.Revision
		f.ok(f.b.UpdateConnections(f.ctx, []*broker.Connection{c}, f.trail("update")))
		f.wrote("update")
		if c.Revision != 2 {
			f.Errorf("the revision is %d, want 2", c.Revision)
		}
		got, after := f.reread(c.ID)
		f.same(after, cred)
		if !got.FetchedAt.Equal(f.now()) {
			f.Error("an update must not write when it was fetched")
		}
		c.FetchedAt = got.FetchedAt
		f.same(got, c)
	},
	"an update can empty every field": func(f *fixture) {
		c := f.filled()
		f.ok(f.a.CreatePending(f.ctx, c, broker.Trail{}))
		empty := &broker.Connection{
			ID: c.ID, Number: c.Number, Environment: c.Environment, Integration: c.Integration, Key: "key", Status: broker.Active,
			Revision: 1, FetchedAt: c.FetchedAt,
		}
		f.ok(f.a.UpdateConnections(f.ctx, []*broker.Connection{empty}, broker.Trail{}))
		got, err := f.b.Connection(f.ctx, f.env.ID, c.ID)
		f.ok(err)
		f.same(got, empty)
	},
	"all are updated or none": func(f *fixture) {
		one, two := f.granted(), f.granted()
		stale := *two
		f.ok(f.a.UpdateConnections(f.ctx, []*broker.Connection{two}, broker.Trail{}))
		one.Name = "changed"
		f.refused(f.b.UpdateConnections(f.ctx, []*broker.Connection{one, &stale}, f.trail("update")), broker.ErrConflict)
		gone := *f.connection()
		f.refused(f.b.UpdateConnections(f.ctx, []*broker.Connection{one, &gone}, f.trail("update")), broker.ErrNotFound)
		f.wroteNothing("update")
		if one.Revision != 1 {
			f.Error("a refused update must leave the revisions alone")
		}
		if got, _ := f.reread(one.ID); got.Name != "" || got.Revision != 1 {
			f.Error("one of a refused update was written")
		}
		f.ok(f.b.UpdateConnections(f.ctx, []*broker.Connection{one, two}, f.trail("update")))
		f.wrote("update")
	},
	"of two editors one wins": func(f *fixture) {
		c := f.granted()
		results := race(f, 8, func(s broker.Store, _ int) error {
			mine := *c
			return s.UpdateConnections(f.ctx, []*broker.Connection{&mine}, f.trail("update"))
		})
		if n := count(results, func(err error) bool { return err == nil }); n != 1 {
			f.Errorf("%d updates of one revision succeeded", n)
		}
		f.wrote("update")
	},
	"deleting leaves a revocation": func(f *fixture) {
		c := f.connection()
		c.Config, c.AccountHash = []byte(`{"subdomain":"acme"}`), []byte("an account's hash")
		f.grantedAs(c)
		f.ok(f.b.DeleteConnection(f.ctx, f.env.ID, c.ID, f.now(), f.trail("delete")))
		f.wrote("delete")
		_, err := f.a.Connection(f.ctx, f.env.ID, c.ID)
		f.refused(err, broker.ErrNotFound)
		_, err = f.a.Credential(f.ctx, c.ID)
		f.refused(err, broker.ErrNotFound)
		_, err = f.a.Ticket(f.ctx, c.Integration, c.Key)
		f.refused(err, broker.ErrNotFound)
		jobs := f.claim()
		if len(jobs) != 1 {
			f.Fatalf("there are %d revocations, want 1", len(jobs))
		}
		cred := f.credential("1")
		want := &broker.Revocation{
			ID: jobs[0].ID, Environment: f.env.ID, Integration: c.Integration, Connection: c.ID, Version: 1, Type: cred.Type,
			Origins: cred.Origins, Access: cred.Access, Refresh: cred.Refresh, Config: c.Config, AccountHash: c.AccountHash, CreatedAt: f.now(),
			NextAt: jobs[0].NextAt,
		}
		f.same(jobs[0], want)
		f.refused(f.a.DeleteConnection(f.ctx, f.env.ID, c.ID, f.now(), f.trail("again")), broker.ErrNotFound)
		f.wroteNothing("again")
	},
	"nothing to revoke leaves none": func(f *fixture) {
		empty := f.connection()
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: empty, Credential: &broker.Credential{Type: "NONE"}, New: true}))
		pending := f.connection()
		f.ok(f.a.CreatePending(f.ctx, pending, broker.Trail{}))
		details := f.connection()
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{
			Connection: details, Credential: &broker.Credential{Type: "BASIC", Details: broker.Sealed("box")}, New: true,
		}))
		for _, c := range []*broker.Connection{empty, pending, details} {
			f.ok(f.b.DeleteConnection(f.ctx, f.env.ID, c.ID, f.now(), broker.Trail{}))
		}
		jobs := f.claim()
		if len(jobs) != 1 || jobs[0].Connection != details.ID || string(jobs[0].Details) != "box" {
			f.Errorf("there are %d revocations, want that of the one with details", len(jobs))
		}
	},
	"it is deleted once": func(f *fixture) {
		c := f.granted()
		results := race(f, 10, func(s broker.Store, _ int) error {
			return s.DeleteConnection(f.ctx, f.env.ID, c.ID, f.now(), f.trail("delete"))
		})
		if n := count(results, func(err error) bool { return err == nil }); n != 1 {
			f.Errorf("%d deletions of one connection succeeded", n)
		}
		f.wrote("delete")
		if n := len(f.claim()); n != 1 {
			f.Errorf("there are %d revocations, want 1", n)
		}
	},
	"fetched times only rise": func(f *fixture) {
		c := f.granted()
		later := f.now().Add(time.Hour)
		f.ok(f.a.TouchFetched(f.ctx, map[broker.ConnectionID]time.Time{c.ID: later, "gone": later}))
		f.ok(f.b.TouchFetched(f.ctx, map[broker.ConnectionID]time.Time{c.ID: f.now()}))
		got, _ := f.reread(c.ID)
		if !got.FetchedAt.Equal(later) {
			f.Errorf("fetched at %s, want %s", got.FetchedAt, later)
		}
		if got.Revision != c.Revision {
			f.Error("being fetched is not a change")
		}
	},
	"grants of one account are found": func(f *fixture) {
		hash := []byte("0123456789abcdef0123456789abcdef")
		similar := []byte("0123456789abcdef................")
		one, two, three := f.connection(), f.connection(), f.connection()
		one.AccountHash, two.AccountHash, three.AccountHash = hash, hash, similar
		f.grantedAs(one)
		f.shares(hash, one.ID, false)
		f.grantedAs(three)
		f.granted()
		f.shares(hash, one.ID, false)
		f.grantedAs(two)
		f.shares(hash, one.ID, true)
		f.shares(nil, one.ID, false)
		two.Status = broker.Disconnected
		f.ok(f.a.UpdateConnections(f.ctx, []*broker.Connection{two}, broker.Trail{}))
		f.shares(hash, one.ID, false)
		f.ok(f.a.DeleteConnection(f.ctx, f.env.ID, two.ID, f.now(), broker.Trail{}))
		f.shares(hash, one.ID, false)
		f.shares(hash, "gone", true)
	},
}

func (f *fixture) shares(hash []byte, other broker.ConnectionID, want bool) {
	f.Helper()
	got, err := f.b.SharesGrant(f.ctx, hash, other)
	f.ok(err)
	if got != want {
		f.Errorf("shares a grant: %t, want %t", got, want)
	}
}
