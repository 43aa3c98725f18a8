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
		before, err := f.a.ForeignChanges(f.ctx)
		f.ok(err)
		again, err := f.a.ForeignChanges(f.ctx)
		f.ok(err)
		if again != before {
			f.Errorf("it went from %d to %d, and nobody wrote", before, again)
		}
		f.ok(f.b.AppendTrail(f.ctx, f.trail("write")))
		after, err := f.a.ForeignChanges(f.ctx)
		f.ok(err)
		if after <= before {
			f.Errorf("it was %d and is %d, although another has written", before, after)
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
