package storetest

import (
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// leaseFor is how long the leases of these tests last.
const leaseFor = time.Minute

// lease takes one that must be free.
func (f *fixture) lease(s broker.Store, c *broker.Connection, owner string) *broker.Credential {
	f.Helper()
	cred, ok, err := s.LeaseRefresh(f.ctx, c.ID, owner, leaseFor)
	f.ok(err)
	if !ok || cred == nil {
		f.Fatalf("%s did not get the lease", owner)
	}
	return cred
}

// leaseRefused asks for one that somebody else holds.
func (f *fixture) leaseRefused(s broker.Store, c *broker.Connection, owner string) {
	f.Helper()
	cred, ok, err := s.LeaseRefresh(f.ctx, c.ID, owner, leaseFor)
	f.ok(err)
	if ok || cred != nil {
		f.Fatalf("%s got a lease that another holds", owner)
	}
}

var leaseTests = map[string]func(*fixture){
	"two ask, one gets it": func(f *fixture) {
		c := f.granted()
		type result struct {
			ok  bool
			err error
		}
		results := race(f, 20, func(s broker.Store, i int) result {
			_, ok, err := s.LeaseRefresh(f.ctx, c.ID, string(rune('a'+i)), leaseFor)
			return result{ok, err}
		})
		if n := count(results, func(r result) bool { return r.err == nil && r.ok }); n != 1 {
			f.Errorf("%d owners got the lease", n)
		}
		if n := count(results, func(r result) bool { return r.err == nil && !r.ok }); n != 19 {
			f.Errorf("%d owners were refused, want 19", n)
		}
		if _, cred := f.reread(c.ID); cred.Fence != 1 {
			f.Errorf("the fence is %d, want 1", cred.Fence)
		}
	},
	"it reads the credential": func(f *fixture) {
		c := f.granted()
		leased := f.lease(f.a, c, "owner")
		_, stored := f.reread(c.ID)
		if !stored.AttemptAt.Equal(f.now()) || !stored.LeaseUntil.Equal(f.now().Add(leaseFor)) || stored.LeaseOwner != "owner" {
			f.Errorf("stored is %+v", stored)
		}
		if !leased.AttemptAt.IsZero() {
			f.Error("no attempt came before this one")
		}
		leased.AttemptAt = stored.AttemptAt
		f.same(leased, stored)
	},
	"it is read after a swap that came between": func(f *fixture) {
		c := f.granted()
		f.ok(f.a.SwapCredential(f.ctx, f.swap(c)))
		if leased := f.lease(f.b, c, "owner"); leased.Version != 2 || string(leased.Access) != "access 2" {
			f.Errorf("the lease came with version %d", leased.Version)
		}
	},
	"it ends by time, and the attempt is in doubt": func(f *fixture) {
		c := f.granted()
		f.lease(f.a, c, "dead")
		began := f.now()
		f.clock.advance(leaseFor - time.Microsecond)
		f.leaseRefused(f.b, c, "heir")
		f.clock.advance(time.Microsecond)
		leased := f.lease(f.b, c, "heir")
		if !leased.AttemptAt.Equal(began) {
			f.Errorf("the attempt without outcome reads %s, want %s", leased.AttemptAt, began)
		}
		if leased.Fence != 2 {
			f.Errorf("the fence is %d, want 2", leased.Fence)
		}
	},
	"its owner may take it again": func(f *fixture) {
		c := f.granted()
		f.lease(f.a, c, "owner")
		began := f.now()
		f.clock.advance(leaseFor / 2)
		if again := f.lease(f.a, c, "owner"); !again.AttemptAt.Equal(began) || again.Fence != 2 {
			f.Errorf("attempt %s, fence %d", again.AttemptAt, again.Fence)
		}
	},
	"it is given back": func(f *fixture) {
		c := f.granted()
		f.lease(f.a, c, "dead")
		began := f.now()
		f.clock.advance(leaseFor)
		leased := f.lease(f.a, c, "owner")
		f.ok(f.b.ReleaseRefresh(f.ctx, c.ID, "stranger", time.Time{}))
		f.leaseRefused(f.b, c, "other")
		f.ok(f.b.ReleaseRefresh(f.ctx, c.ID, "owner", leased.AttemptAt))
		if _, cred := f.reread(c.ID); cred.LeaseOwner != "" || !cred.LeaseUntil.IsZero() || !cred.AttemptAt.Equal(began) {
			f.Errorf("owner %q until %s, attempt %s", cred.LeaseOwner, cred.LeaseUntil, cred.AttemptAt)
		}
		f.ok(f.b.ReleaseRefresh(f.ctx, c.ID, "owner", time.Time{})) // a lease that it does not hold: nothing
		if next := f.lease(f.b, c, "other"); !next.AttemptAt.Equal(began) {
			f.Errorf("the attempt reads %s, want %s", next.AttemptAt, began)
		}
	},
	"a swap ends it": func(f *fixture) {
		c := f.granted()
		f.lease(f.a, c, "owner")
		f.ok(f.a.SwapCredential(f.ctx, f.swap(c)))
		if leased := f.lease(f.b, c, "other"); !leased.AttemptAt.IsZero() {
			f.Error("an attempt with an outcome is not in doubt")
		}
	},
	"a failure ends its owner's": func(f *fixture) {
		c := f.granted()
		f.lease(f.a, c, "owner")
		f.ok(f.b.FailRefresh(f.ctx, f.failure(c)))
		if leased := f.lease(f.b, c, "other"); !leased.AttemptAt.IsZero() {
			f.Error("an attempt with an outcome is not in doubt")
		}
		f.ok(f.b.FailRefresh(f.ctx, f.failure(c))) // the former owner's again
		if _, cred := f.reread(c.ID); cred.LeaseOwner != "other" || cred.AttemptAt.IsZero() || cred.Failures != 2 {
			f.Errorf("the lease is %q's, attempt %s, %d failures", cred.LeaseOwner, cred.AttemptAt, cred.Failures)
		}
	},
	"a failure in doubt keeps the attempt": func(f *fixture) {
		c := f.granted()
		f.lease(f.a, c, "owner")
		failure := f.failure(c)
		failure.KeepAttempt = true
		f.ok(f.b.FailRefresh(f.ctx, failure))
		if _, cred := f.reread(c.ID); cred.LeaseOwner != "" || !cred.AttemptAt.Equal(f.now()) || cred.Failures != 1 {
			f.Errorf("the lease is %q's, attempt %s, %d failures", cred.LeaseOwner, cred.AttemptAt, cred.Failures)
		}
		if leased := f.lease(f.b, c, "other"); leased.AttemptAt.IsZero() {
			f.Error("the next owner does not learn of the doubt")
		}
	},
	"a lease of a clock that was ahead binds nobody": func(f *fixture) {
		c := f.granted()
		f.lease(f.a, c, "owner")
		f.clock.advance(-24 * time.Hour)
		f.lease(f.b, c, "other")
	},
	"what such a lease was for is due": func(f *fixture) {
		c, other := f.due(26*time.Hour), f.due(25*time.Hour)
		f.lease(f.a, c, "dead")
		f.clock.advance(-24 * time.Hour)
		f.lease(f.a, other, "living")
		f.dues(nil, 10, c)
		f.next(f.now().Add(-2 * time.Hour))
		f.clock.advance(-time.Second) // as one clock is behind another
		f.lease(f.b, c, "living")
		f.dues(nil, 10)
		f.next(time.Time{})
	},
	"there must be something to renew": func(f *fixture) {
		pending := f.connection()
		f.ok(f.a.CreatePending(f.ctx, pending, broker.Trail{}))
		for _, id := range []broker.ConnectionID{pending.ID, "unknown"} {
			_, _, err := f.b.LeaseRefresh(f.ctx, id, "owner", leaseFor)
			f.refused(err, broker.ErrNotFound)
		}
	},
	"stale ones are dropped": func(f *fixture) {
		dead, living := f.granted(), f.granted()
		f.lease(f.a, dead, "dead")
		began := f.now()
		f.clock.advance(leaseFor)
		f.lease(f.a, living, "living")
		n, err := f.b.DropStaleLeases(f.ctx)
		f.ok(err)
		if n != 1 {
			f.Errorf("%d leases were dropped, want 1", n)
		}
		if _, cred := f.reread(dead.ID); cred.LeaseOwner != "" || !cred.LeaseUntil.IsZero() || !cred.AttemptAt.Equal(began) {
			f.Errorf("the dead owner's: %q until %s, attempt %s", cred.LeaseOwner, cred.LeaseUntil, cred.AttemptAt)
		}
		if _, cred := f.reread(living.ID); cred.LeaseOwner != "living" {
			f.Errorf("the living owner's is %q's", cred.LeaseOwner)
		}
		n, err = f.b.DropStaleLeases(f.ctx)
		f.ok(err)
		if n != 0 {
			f.Errorf("%d more were dropped", n)
		}
	},
	"due ones are listed, most overdue first": func(f *fixture) {
		slack := f.newIntegration("slack").ID
		late, later, latest := f.due(3*time.Hour), f.due(2*time.Hour), f.dueAt(slack, time.Hour)
		f.due(-time.Minute)
		never := f.granted()
		f.putOff(never, time.Time{})
		f.dues(nil, 10, late, later, latest)
		f.dues(nil, 2, late, later)
		f.dues([]broker.IntegrationID{f.integration.ID}, 10, latest)
		f.dues([]broker.IntegrationID{slack, "unknown"}, 10, late, later)
		f.dues([]broker.IntegrationID{slack, f.integration.ID}, 10)
		list, err := f.b.DueRefreshes(f.ctx, f.now(), nil, 1)
		f.ok(err)
		f.same(list[0], broker.DueRefresh{
			Connection: late.ID, Environment: f.env.ID, Integration: f.integration.ID, At: f.now().Add(-3 * time.Hour),
		})
	},
	"one that becomes due now is due": func(f *fixture) {
		f.dues(nil, 10, f.due(0))
	},
	"leased ones are not due": func(f *fixture) {
		free, leased := f.due(time.Hour), f.due(2*time.Hour)
		f.lease(f.a, leased, "owner")
		f.dues(nil, 10, free)
		f.clock.advance(leaseFor)
		f.dues(nil, 10, leased, free)
	},
	"the next one is known": func(f *fixture) {
		f.next(time.Time{})
		one, two := f.due(-time.Hour), f.due(-2*time.Hour)
		f.next(f.now().Add(time.Hour))
		f.lease(f.a, one, "owner")
		f.next(f.now().Add(2 * time.Hour))
		f.ok(f.a.ReleaseRefresh(f.ctx, one.ID, "owner", time.Time{}))
		f.next(f.now().Add(time.Hour))
		for _, c := range []*broker.Connection{one, two} {
			f.ok(f.a.DeleteConnection(f.ctx, f.env.ID, c.ID, f.now(), broker.Trail{}))
		}
		f.next(time.Time{})
	},
}

// due stores a connection that has been due for so long.
func (f *fixture) due(since time.Duration) *broker.Connection {
	f.Helper()
	return f.dueAt(f.integration.ID, since)
}

func (f *fixture) dueAt(integration broker.IntegrationID, since time.Duration) *broker.Connection {
	f.Helper()
	c := f.connection()
	c.Integration = integration
	f.grantedAs(c)
	f.putOff(c, f.now().Add(-since))
	return c
}

// putOff moves the next attempt of c's version 1, from wherever it is.
func (f *fixture) putOff(c *broker.Connection, to time.Time) {
	f.Helper()
	_, cred := f.reread(c.ID)
	f.ok(f.a.SetRefreshAt(f.ctx, c.ID, 1, cred.RefreshAt, to))
}

func (f *fixture) dues(except []broker.IntegrationID, limit int, want ...*broker.Connection) {
	f.Helper()
	list, err := f.b.DueRefreshes(f.ctx, f.now(), except, limit)
	f.ok(err)
	same := slices.EqualFunc(list, want, func(d broker.DueRefresh, c *broker.Connection) bool { return d.Connection == c.ID })
	if !same {
		f.Errorf("without %v, at most %d: %d are due, want %d in their order", except, limit, len(list), len(want))
	}
}

func (f *fixture) next(want time.Time) {
	f.Helper()
	got, err := f.b.NextRefresh(f.ctx)
	f.ok(err)
	if !got.Equal(want) {
		f.Errorf("the next refresh is at %s, want %s", got, want)
	}
}
