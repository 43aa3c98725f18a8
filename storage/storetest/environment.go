package storetest

import (
	"time"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
)

var environmentTests = map[string]func(*fixture){
	"round trip": func(f *fixture) {
		e := new(broker.Environment)
		fill(e)
		f.ok(f.a.SaveEnvironment(f.ctx, e, f.trail("save")))
		f.wrote("save")
		f.same(f.environments()[1], e)
		f.same(f.environments()[0], f.env)
	},
	"saving again replaces": func(f *fixture) {
		e := new(broker.Environment)
		fill(e)
		e.ID = f.env.ID
		f.ok(f.b.SaveEnvironment(f.ctx, e, broker.Trail{}))
		if n := len(f.environments()); n != 1 {
			f.Fatalf("there are %d environments, want 1", n)
		}
		f.same(f.environments()[0], e)
	},
	"a name is taken once": func(f *fixture) {
		other := *f.env
		other.ID = "other"
		f.refused(f.b.SaveEnvironment(f.ctx, &other, f.trail("save")), broker.ErrConflict)
		f.wroteNothing("save")
	},
	"key round trip": func(f *fixture) {
		k := new(broker.APIKey)
		fill(k)
		k.Environment = f.env.ID
		f.ok(f.a.CreateAPIKey(f.ctx, k, f.trail("create")))
		f.wrote("create")
		f.same(f.keys()[0], k)
	},
	"a key's name and hash are taken once": func(f *fixture) {
		f.ok(f.a.CreateAPIKey(f.ctx, f.key("backend", "1"), broker.Trail{}))
		f.refused(f.b.CreateAPIKey(f.ctx, f.key("backend", "2"), f.trail("create")), broker.ErrConflict)
		f.refused(f.b.CreateAPIKey(f.ctx, f.key("another", "1"), f.trail("create")), broker.ErrConflict)
		f.wroteNothing("create")
		elsewhere := f.key("backend", "3")
		elsewhere.Environment = f.newEnvironment("prod").ID
		f.ok(f.b.CreateAPIKey(f.ctx, elsewhere, broker.Trail{}))
	},
	"a key needs an environment": func(f *fixture) {
		k := f.key("backend", "1")
		k.Environment = "nowhere"
		f.refused(f.a.CreateAPIKey(f.ctx, k, broker.Trail{}), broker.ErrNotFound)
	},
	"a revoked key gives up its name": func(f *fixture) {
		k := f.key("backend", "1")
		f.ok(f.a.CreateAPIKey(f.ctx, k, broker.Trail{}))
		f.ok(f.b.RevokeAPIKey(f.ctx, k.ID, f.now(), f.trail("revoke")))
		f.wrote("revoke")
		k.RevokedAt = f.now()
		f.same(f.keys()[0], k)
		f.ok(f.a.CreateAPIKey(f.ctx, f.key("backend", "2"), broker.Trail{}))
	},
	"an expired key gives up its name": func(f *fixture) {
		k := f.key("backend", "1")
		k.ExpiresAt = f.now().Add(time.Minute)
		f.ok(f.a.CreateAPIKey(f.ctx, k, broker.Trail{}))
		f.refused(f.a.CreateAPIKey(f.ctx, f.key("backend", "2"), broker.Trail{}), broker.ErrConflict)
		f.clock.advance(time.Minute)
		f.ok(f.a.CreateAPIKey(f.ctx, f.key("backend", "2"), broker.Trail{}))
	},
	"a key is revoked once": func(f *fixture) {
		k := f.key("backend", "1")
		f.ok(f.a.CreateAPIKey(f.ctx, k, broker.Trail{}))
		results := race(f, 8, func(s broker.Store, _ int) error { return s.RevokeAPIKey(f.ctx, k.ID, f.now(), f.trail("revoke")) })
		if n := count(results, func(err error) bool { return err == nil }); n != 1 {
			f.Errorf("%d revocations of one key succeeded", n)
		}
		f.wrote("revoke")
		f.refused(f.a.RevokeAPIKey(f.ctx, k.ID, f.now(), broker.Trail{}), broker.ErrNotFound)
		f.refused(f.a.RevokeAPIKey(f.ctx, "unknown", f.now(), broker.Trail{}), broker.ErrNotFound)
	},
	"a deleted one is gone with everything in it": func(f *fixture) {
		kept := f.newEnvironment("kept")
		k, other := f.key("backend", "1"), f.key("backend", "2")
		other.Environment = kept.ID
		f.ok(f.a.CreateAPIKey(f.ctx, k, broker.Trail{}))
		f.ok(f.a.CreateAPIKey(f.ctx, other, broker.Trail{}))
		s := f.session()
		f.ok(f.a.CreateSession(f.ctx, s, broker.Trail{}))
		c := f.granted()
		f.ok(f.a.SaveWebhook(f.ctx, &broker.Webhook{Environment: f.env.ID, URL: "https://app.example/hook", UpdatedAt: f.now()}, broker.Trail{}))
		f.told(f.delivery("waiting", "https://app.example/hook", string(c.ID)))
		n, err := f.a.DeleteEnvironment(f.ctx, f.env.ID, f.now(), f.trail("delete"))
		f.ok(err)
		if n != 1 {
			f.Errorf("%d connections were deleted, want 1", n)
		}
		f.wrote("delete")
		if hooks := f.webhooks(); len(hooks) != 0 {
			f.Errorf("%d webhooks are left", len(hooks))
		}
		if list := f.deliveries(broker.DeliveryFilter{}); len(list) != 0 {
			f.Errorf("%d deliveries are left", len(list))
		}
		if list := f.environments(); len(list) != 1 || list[0].ID != kept.ID {
			f.Errorf("the list has %d environments", len(list))
		}
		for _, key := range f.keys() {
			if key.RevokedAt.IsZero() == (key.Environment == f.env.ID) {
				f.Errorf("the key of %s was revoked at %s", key.Environment, key.RevokedAt)
			}
		}
		_, err = f.b.Session(f.ctx, s.ID)
		f.refused(err, broker.ErrNotFound)
		_, err = f.b.Connection(f.ctx, f.env.ID, c.ID)
		f.refused(err, broker.ErrNotFound)
		if jobs := f.claim(); len(jobs) != 1 || jobs[0].Connection != c.ID {
			f.Errorf("revocations: %+v", jobs)
		}
		if i := f.integrations()[f.integration.ID]; i == nil || i.DeletedAt.IsZero() {
			f.Errorf("its integration is %+v", i)
		}
		_, err = f.b.DeleteEnvironment(f.ctx, f.env.ID, f.now(), f.trail("again"))
		f.refused(err, broker.ErrNotFound)
		_, err = f.b.DeleteEnvironment(f.ctx, "unknown", f.now(), f.trail("again"))
		f.refused(err, broker.ErrNotFound)
		f.wroteNothing("again")
	},
	"a deleted one gives up its name and takes nothing in": func(f *fixture) {
		_, err := f.a.DeleteEnvironment(f.ctx, f.env.ID, f.now(), broker.Trail{})
		f.ok(err)
		f.refused(f.b.CreateAPIKey(f.ctx, f.key("late", "1"), f.trail("late")), broker.ErrNotFound)
		i := *f.integration
		i.ID, i.PublicID = "late", "late"
		f.refused(f.b.CreateIntegration(f.ctx, &i, f.trail("late")), broker.ErrNotFound)
		f.wroteNothing("late")
		f.newEnvironment(f.env.Name)
	},
	"a key of the account belongs to no environment": func(f *fixture) {
		k := f.key("backend", "1")
		k.Environment = ""
		f.ok(f.a.CreateAPIKey(f.ctx, k, broker.Trail{}))
		f.same(f.keys()[0], k)
		twice := f.key("backend", "2")
		twice.Environment = ""
		f.refused(f.b.CreateAPIKey(f.ctx, twice, broker.Trail{}), broker.ErrConflict)
		f.ok(f.b.CreateAPIKey(f.ctx, f.key("backend", "2"), broker.Trail{}))
		f.ok(f.b.RevokeAPIKey(f.ctx, k.ID, f.now(), broker.Trail{}))
	},
	"data key round trip": func(f *fixture) {
		var k broker.WrappedKey
		fill(&k)
		f.ok(f.a.AddKey(f.ctx, k))
		f.same(f.dataKeys(), []broker.WrappedKey{k})
		f.refused(f.b.AddKey(f.ctx, k), broker.ErrConflict)
	},
	"one data key is active": func(f *fixture) {
		for id := range uint32(3) {
			f.ok(f.a.AddKey(f.ctx, broker.WrappedKey{ID: id + 1, Wrapped: []byte("wrapped"), Active: id < 2, CreatedAt: f.now()}))
		}
		keys := f.dataKeys()
		if len(keys) != 3 || keys[0].Active || !keys[1].Active || keys[2].Active {
			f.Errorf("the second key should be the active one: %+v", keys)
		}
	},
}

func (f *fixture) environments() []*broker.Environment {
	f.Helper()
	list, err := f.b.Environments(f.ctx)
	f.ok(err)
	return list
}

func (f *fixture) keys() []*broker.APIKey {
	f.Helper()
	list, err := f.b.APIKeys(f.ctx)
	f.ok(err)
	return list
}

func (f *fixture) dataKeys() []broker.WrappedKey {
	f.Helper()
	list, err := f.b.Keys(f.ctx)
	f.ok(err)
	return list
}

// key is an API key, not stored.
func (f *fixture) key(name, hash string) *broker.APIKey {
	return &broker.APIKey{
		ID: broker.APIKeyID(uuid.NewString()), Environment: f.env.ID, Name: name, Hash: []byte(hash),
		Scopes: broker.Scopes{broker.ScopeAll}, CreatedAt: f.now(),
	}
}
