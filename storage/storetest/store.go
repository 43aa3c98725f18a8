package storetest

import (
	"context"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

var storeTests = map[string]func(*fixture){
	"it answers": func(f *fixture) {
		f.ok(f.a.Ping(f.ctx))
		f.ok(f.b.Ping(f.ctx))
	},
	"another's writes are noticed": func(f *fixture) {
		look := func() int64 {
			n, err := f.a.ForeignChanges(f.ctx)
			f.ok(err)
			return n
		}
		before := look()
		if again := look(); again != before {
			f.Errorf("it went from %d to %d, and nobody wrote", before, again)
		}
		c, key, failing := f.connection(), f.key("backend", "1"), f.failure(f.granted())
		before = look()
		for _, write := range []struct {
			name string
			by   func() error
		}{
			{"environment", func() error { return f.b.SaveEnvironment(f.ctx, f.env, broker.Trail{}) }},
			{"key", func() error { return f.b.CreateAPIKey(f.ctx, key, broker.Trail{}) }},
			{"revoked key", func() error { return f.b.RevokeAPIKey(f.ctx, key.ID, f.now(), broker.Trail{}) }},
			{"integration", func() error { return f.b.UpdateIntegration(f.ctx, f.integration, broker.Trail{}) }},
			{"webhook", func() error { return f.b.SaveWebhook(f.ctx, &broker.Webhook{Environment: f.env.ID}, broker.Trail{}) }},
			{"data key", func() error { return f.b.AddKey(f.ctx, broker.WrappedKey{ID: 7, Wrapped: []byte("wrapped")}) }},
			{"grant", func() error {
				return f.b.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1"), New: true})
			}},
			{"connection", func() error { return f.b.UpdateConnections(f.ctx, []*broker.Connection{c}, broker.Trail{}) }},
			{"renewal", func() error { return f.b.SwapCredential(f.ctx, f.swap(c)) }},
			{"failure", func() error { return f.b.FailRefresh(f.ctx, failing) }},
			{"deletion", func() error { return f.b.DeleteConnection(f.ctx, f.env.ID, c.ID, f.now(), broker.Trail{}) }},
			{"deleted integration", func() error {
				_, err := f.b.DeleteIntegration(f.ctx, f.integration.ID, f.now(), broker.Trail{})
				return err
			}},
			{"deleted environment", func() error {
				_, err := f.b.DeleteEnvironment(f.ctx, f.env.ID, f.now(), broker.Trail{})
				return err
			}},
		} {
			f.ok(write.by())
			after := look()
			if after <= before {
				f.Errorf("%s: it was %d and is %d, although another has written", write.name, before, after)
			}
			before = after
		}
	},
	"a caller who has left changes nothing": func(f *fixture) {
		ctx, leave := context.WithCancel(f.ctx)
		leave()
		if err := f.a.AppendTrail(ctx, f.trail("write")); err == nil {
			f.Error("it was written")
		}
		f.wroteNothing("write")
	},
	"a closed one is unavailable": func(f *fixture) {
		f.ok(f.b.Close())
		f.refused(f.b.Ping(f.ctx), broker.ErrStorageUnavailable)
		f.refused(f.b.AppendTrail(f.ctx, broker.Trail{}), broker.ErrStorageUnavailable)
		_, err := f.b.Ticket(f.ctx, "integration", "key")
		f.refused(err, broker.ErrStorageUnavailable)
		f.ok(f.b.Close())
		f.ok(f.a.Ping(f.ctx))
	},
	"times are cut to the microsecond and kept in UTC": func(f *fixture) {
		c := f.connection()
		c.VerifiedAt = time.Date(2030, 1, 2, 3, 4, 5, 123456789, time.FixedZone("", 3600))
		c.ErrorAt = time.Unix(0, 0)
		f.ok(f.a.CreatePending(f.ctx, c, broker.Trail{}))
		got, err := f.b.Connection(f.ctx, f.env.ID, c.ID)
		f.ok(err)
		f.same(got.VerifiedAt, time.Date(2030, 1, 2, 2, 4, 5, 123456000, time.UTC))
		f.same(got.ErrorAt, time.Unix(0, 0).UTC())
		if !got.AuthorizedAt.Equal(c.AuthorizedAt) || !got.FetchedAt.IsZero() {
			f.Errorf("authorized %s, fetched %s", got.AuthorizedAt, got.FetchedAt)
		}
	},
}
