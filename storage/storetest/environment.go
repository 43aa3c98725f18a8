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
