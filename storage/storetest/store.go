package storetest

import (
	"context"
	"errors"
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
		key := f.key("backend", "1")
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
	"another's writes to a connection are noticed": func(f *fixture) {
		c := f.connection()
		f.ok(f.b.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1"), New: true}))
		look := f.looker(c)
		before := look()
		for _, write := range []struct {
			name string
			by   func() error
		}{
			{"connection", func() error { return f.b.UpdateConnections(f.ctx, []*broker.Connection{c}, broker.Trail{}) }},
			{"failure", func() error { return f.b.FailRefresh(f.ctx, f.failure(c)) }},
			{"renewal", func() error { return f.b.SwapCredential(f.ctx, f.swap(c)) }},
			{"deletion", func() error { return f.b.DeleteConnection(f.ctx, f.env.ID, c.ID, f.now(), broker.Trail{}) }},
		} {
			f.ok(write.by())
			after := look()
			if after == before {
				f.Errorf("%s: it was %v and still is, although another has written", write.name, before)
			}
			before = after
		}
	},
	"what is told of a connection's standing": func(f *fixture) {
		s, ok := f.a.(broker.Shared)
		if !ok {
			return // one process serves from it, so nobody asks
		}
		c := f.granted()
		got, err := s.Standing(f.ctx, c.Integration, c.Key)
		f.ok(err)
		f.same(got, broker.Standing{Connection: c.ID, Revision: c.Revision, Version: 1, Status: c.Status})
		t, err := f.a.Ticket(f.ctx, c.Integration, c.Key)
		f.ok(err)
		f.same(got, broker.Standing{Connection: t.Connection, Revision: t.Revision, Version: t.Version, Status: t.Status})
		_, err = s.Standing(f.ctx, c.Integration, "another")
		f.refused(err, broker.ErrNotFound)
		_, err = s.Standing(f.ctx, "another", c.Key)
		f.refused(err, broker.ErrNotFound)
	},
	"flows are found by their channels": func(f *fixture) {
		s, ok := f.a.(broker.Shared)
		if !ok {
			return
		}
		one, two := f.flow(""), f.flow("")
		one.Channel, two.Channel = []byte("channel-1"), []byte("channel-2")
		for _, flow := range []*broker.Flow{one, two} {
			_, err := f.b.CreateFlow(f.ctx, flow, 10, broker.Trail{})
			f.ok(err)
		}
		got, err := s.FlowsByChannel(f.ctx, [][]byte{[]byte("channel-2"), []byte("channel-3")})
		f.ok(err)
		f.same(got, []*broker.Flow{two})
		got, err = s.FlowsByChannel(f.ctx, nil)
		f.ok(err)
		f.same(len(got), 0)
	},
	"news of the others are heard": func(f *fixture) {
		s, ok := f.a.(broker.Shared)
		if !ok {
			return
		}
		ctx, leave := context.WithCancel(f.ctx)
		heard, ended := make(chan struct{}, 100), make(chan struct{})
		go func() {
			defer close(ended)
			s.Listen(ctx, func() { heard <- struct{}{} })
		}()
		hear := func(what string) {
			select {
			case <-heard:
			case <-time.After(10 * time.Second):
				f.Error("nothing was heard of " + what)
			}
		}
		hear("what came before")
		f.ok(f.b.SaveEnvironment(f.ctx, f.newEnvironment("prod"), broker.Trail{}))
		hear("an environment")
		flow := f.flow("")
		_, err := f.b.CreateFlow(f.ctx, flow, 10, broker.Trail{})
		f.ok(err)
		f.ok(f.b.FailFlow(f.ctx, flow.ID, "access_denied", f.now(), broker.Trail{}))
		hear("a flow")
		leave()
		<-ended
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

// looker gives what must change with every write of another to the connection: what a store that several serve from tells of
// it, or else the count of foreign changes.
func (f *fixture) looker(c *broker.Connection) func() any {
	return func() any {
		s, ok := f.a.(broker.Shared)
		if !ok {
			n, err := f.a.ForeignChanges(f.ctx)
			f.ok(err)
			return n
		}
		standing, err := s.Standing(f.ctx, c.Integration, c.Key)
		if !errors.Is(err, broker.ErrNotFound) {
			f.ok(err)
		}
		return standing
	}
}
