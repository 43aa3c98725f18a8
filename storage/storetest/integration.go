package storetest

import (
	"github.com/coatcheck/coatcheck/broker"
)

var integrationTests = map[string]func(*fixture){
	"round trip": func(f *fixture) {
		i := new(broker.Integration)
		fill(i)
		i.Environment = f.env.ID
		f.ok(f.a.CreateIntegration(f.ctx, i, f.trail("create")))
		f.wrote("create")
		if i.Revision != 1 {
			f.Errorf("a new integration has revision %d, want 1", i.Revision)
		}
		got := f.integrations()[i.ID]
		i.DeletedAt = got.DeletedAt // only deleting sets it
		f.same(got, i)
		if !got.DeletedAt.IsZero() {
			f.Error("a new integration is not deleted")
		}
	},
	"a key is taken once": func(f *fixture) {
		other := *f.integration
		other.ID, other.PublicID = "other", "other"
		f.refused(f.b.CreateIntegration(f.ctx, &other, f.trail("create")), broker.ErrConflict)
		f.wroteNothing("create")
		other.Environment = f.newEnvironment("prod").ID
		f.ok(f.b.CreateIntegration(f.ctx, &other, broker.Trail{}))
	},
	"it needs an environment": func(f *fixture) {
		other := *f.integration
		other.ID, other.PublicID, other.Environment = "other", "other", "nowhere"
		f.refused(f.a.CreateIntegration(f.ctx, &other, broker.Trail{}), broker.ErrNotFound)
	},
	"an update replaces": func(f *fixture) {
		i := new(broker.Integration)
		fill(i)
		i.ID, i.Environment, i.Revision = f.integration.ID, f.env.ID, 1
		f.ok(f.b.UpdateIntegration(f.ctx, i, f.trail("update")))
		f.wrote("update")
		if i.Revision != 2 {
			f.Errorf("the revision is %d, want 2", i.Revision)
		}
		got := f.integrations()[i.ID]
		i.DeletedAt = got.DeletedAt
		f.same(got, i)
	},
	"a stale update is refused": func(f *fixture) {
		stale := *f.integration
		f.ok(f.a.UpdateIntegration(f.ctx, f.integration, broker.Trail{}))
		f.refused(f.b.UpdateIntegration(f.ctx, &stale, f.trail("update")), broker.ErrConflict)
		f.wroteNothing("update")
		if stale.Revision != 1 {
			f.Error("a refused update must leave the revision alone")
		}
	},
	"of two updates one wins": func(f *fixture) {
		results := race(f, 8, func(s broker.Store, _ int) error {
			mine := *f.integration
			return s.UpdateIntegration(f.ctx, &mine, f.trail("update"))
		})
		if n := count(results, func(err error) bool { return err == nil }); n != 1 {
			f.Errorf("%d updates of one revision succeeded", n)
		}
		f.wrote("update")
	},
	"an update needs a living one and a free key": func(f *fixture) {
		unknown := *f.integration
		unknown.ID = "unknown"
		f.refused(f.a.UpdateIntegration(f.ctx, &unknown, broker.Trail{}), broker.ErrNotFound)
		elsewhere := *f.integration
		elsewhere.Environment = f.newEnvironment("prod").ID
		f.refused(f.a.UpdateIntegration(f.ctx, &elsewhere, broker.Trail{}), broker.ErrNotFound)
		other := f.newIntegration("slack")
		other.Key = f.integration.Key
		f.refused(f.a.UpdateIntegration(f.ctx, other, f.trail("update")), broker.ErrConflict)
		f.wroteNothing("update")
		f.granted() // so that deleting leaves the row
		_, err := f.a.DeleteIntegration(f.ctx, f.integration.ID, f.now(), broker.Trail{})
		f.ok(err)
		f.refused(f.b.UpdateIntegration(f.ctx, f.integration, broker.Trail{}), broker.ErrNotFound)
	},
	"deleting takes its connections along": func(f *fixture) {
		kept := *f.connection()
		kept.Integration = f.newIntegration("slack").ID
		f.grantedAs(&kept)
		one, two := f.granted(), f.granted()
		pending := f.connection()
		pending.Status = broker.Pending
		f.ok(f.a.CreatePending(f.ctx, pending, broker.Trail{}))
		n, err := f.a.DeleteIntegration(f.ctx, f.integration.ID, f.now(), f.trail("delete"))
		f.ok(err)
		if n != 3 {
			f.Errorf("%d connections were deleted, want 3", n)
		}
		f.wrote("delete")
		events, err := f.b.Events(f.ctx, f.env.ID, 0, 100)
		f.ok(err)
		told := make(map[broker.ConnectionID]string)
		for _, e := range events {
			if e.Kind == broker.EventDeleted && e.Integration == f.integration.ID && e.ID != "" {
				told[e.Connection] += e.Key
			}
		}
		for _, c := range []*broker.Connection{one, two, pending} {
			_, err := f.b.Connection(f.ctx, f.env.ID, c.ID)
			f.refused(err, broker.ErrNotFound)
			if told[c.ID] != c.Key {
				f.Errorf("the deletion of %s was told as %q", c.Key, told[c.ID])
			}
		}
		_, err = f.b.Connection(f.ctx, f.env.ID, kept.ID)
		f.ok(err)
		jobs := f.claim()
		if len(jobs) != 2 {
			f.Fatalf("there are %d revocations, want 2", len(jobs))
		}
		got := f.integrations()[f.integration.ID]
		if got == nil || !got.DeletedAt.Equal(f.now()) {
			f.Fatalf("a deleted integration with revocations to do stays, marked: %+v", got)
		}
		f.ok(f.b.FinishRevocation(f.ctx, jobs[0].ID, broker.OutcomeRevoked, f.now(), broker.Trail{}))
		if f.integrations()[f.integration.ID] == nil {
			f.Error("it was erased before its last revocation")
		}
		f.ok(f.b.FinishRevocation(f.ctx, jobs[1].ID, broker.OutcomeGaveUp, f.now(), broker.Trail{}))
		if f.integrations()[f.integration.ID] != nil {
			f.Error("it was not erased with its last revocation")
		}
	},
	"deleting without anything to revoke erases": func(f *fixture) {
		n, err := f.b.DeleteIntegration(f.ctx, f.integration.ID, f.now(), broker.Trail{})
		f.ok(err)
		if n != 0 || f.integrations()[f.integration.ID] != nil {
			f.Errorf("%d connections were deleted, and the row is still there", n)
		}
	},
	"a deleted one gives up its key": func(f *fixture) {
		f.granted()
		_, err := f.a.DeleteIntegration(f.ctx, f.integration.ID, f.now(), broker.Trail{})
		f.ok(err)
		f.newIntegration(f.integration.Key)
	},
	"it is deleted once": func(f *fixture) {
		f.granted()
		results := race(f, 6, func(s broker.Store, _ int) error {
			_, err := s.DeleteIntegration(f.ctx, f.integration.ID, f.now(), f.trail("delete"))
			return err
		})
		if n := count(results, func(err error) bool { return err == nil }); n != 1 {
			f.Errorf("%d deletions of one integration succeeded", n)
		}
		f.wrote("delete")
		_, err := f.a.DeleteIntegration(f.ctx, "unknown", f.now(), broker.Trail{})
		f.refused(err, broker.ErrNotFound)
	},
	"nothing connects to a deleted one": func(f *fixture) {
		f.granted()
		_, err := f.a.DeleteIntegration(f.ctx, f.integration.ID, f.now(), broker.Trail{})
		f.ok(err)
		late := f.connection()
		g := &broker.Grant{Connection: late, Credential: f.credential("1"), New: true, Trail: f.trail("grant")}
		f.refused(f.b.PutGrant(f.ctx, g), broker.ErrNotFound)
		f.wroteNothing("grant")
		f.refused(f.b.CreatePending(f.ctx, late, broker.Trail{}), broker.ErrNotFound)
	},
	"its connections are counted": func(f *fixture) {
		f.granted()
		gone := f.granted()
		f.ok(f.a.DeleteConnection(f.ctx, f.env.ID, gone.ID, f.now(), broker.Trail{}))
		elsewhere := f.connection()
		elsewhere.Integration = f.newIntegration("slack").ID
		f.grantedAs(elsewhere)
		n, err := f.b.CountConnections(f.ctx, f.integration.ID)
		f.ok(err)
		if n != 1 {
			f.Errorf("counted %d, want 1", n)
		}
	},
}

// integrations are all, by id.
func (f *fixture) integrations() map[broker.IntegrationID]*broker.Integration {
	f.Helper()
	list, err := f.b.Integrations(f.ctx)
	f.ok(err)
	out := make(map[broker.IntegrationID]*broker.Integration, len(list))
	for _, i := range list {
		out[i.ID] = i
	}
	return out
}
