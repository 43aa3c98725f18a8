package storetest

import (
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// swap renews c's version 1.
func (f *fixture) swap(c *broker.Connection) *broker.Swap {
	return &broker.Swap{Connection: c.ID, From: 1, Next: f.credential("2"), Trail: f.trail("swap")}
}

var credentialTests = map[string]func(*fixture){
	"ticket": func(f *fixture) {
		c, cred := f.filled(), new(broker.Credential)
		fill(cred)
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: cred, New: true}))
		want := &broker.Ticket{
			Connection: c.ID, Environment: c.Environment, Integration: c.Integration, Status: c.Status, Reason: c.Reason,
			Config: c.Config, Version: 1, Type: cred.Type, Origins: cred.Origins, Access: cred.Access, Details: cred.Details,
			ObtainedAt: cred.ObtainedAt, ExpiresAt: cred.ExpiresAt, RefreshAt: cred.RefreshAt, Renewable: true,
			Revision: f.revisionTold(c.Revision),
		}
		got, err := f.b.Ticket(f.ctx, f.integration.ID, c.Key)
		f.ok(err)
		f.same(got, want)
	},
	"lifetimes": func(f *fixture) {
		c, cred := f.filled(), new(broker.Credential)
		fill(cred)
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: cred, New: true}))
		pending := f.connection()
		f.ok(f.a.CreatePending(f.ctx, pending, broker.Trail{}))
		got, err := f.b.Lifetimes(f.ctx, []broker.ConnectionID{c.ID, pending.ID, "unknown"})
		f.ok(err)
		f.same(got, map[broker.ConnectionID]broker.Lifetime{c.ID: {
			ObtainedAt: cred.ObtainedAt, RefreshedAt: cred.RefreshedAt, ExpiresAt: cred.ExpiresAt, RefreshExpiresAt: cred.RefreshExpiresAt,
		}})
		none, err := f.b.Lifetimes(f.ctx, nil)
		f.ok(err)
		f.same(len(none), 0)
	},
	"ticket without a refresh token": func(f *fixture) {
		c := f.connection()
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: &broker.Credential{Type: "API_KEY", Access: broker.Sealed("key")}, New: true}))
		got, err := f.b.Ticket(f.ctx, c.Integration, c.Key)
		f.ok(err)
		if got.Renewable || !got.ExpiresAt.IsZero() || !got.RefreshAt.IsZero() || got.Config != nil || got.Details != nil {
			f.Errorf("an absent field reads back as present: %+v", got)
		}
	},
	"ticket of a pending connection": func(f *fixture) {
		c := f.connection()
		c.Status = broker.Pending
		f.ok(f.a.CreatePending(f.ctx, c, broker.Trail{}))
		got, err := f.b.Ticket(f.ctx, c.Integration, c.Key)
		f.ok(err)
		f.same(got, &broker.Ticket{Connection: c.ID, Environment: f.env.ID, Integration: c.Integration, Status: broker.Pending, Revision: f.revisionTold(c.Revision)})
	},
	"ticket of nothing": func(f *fixture) {
		c := f.granted()
		_, err := f.a.Ticket(f.ctx, c.Integration, "unknown")
		f.refused(err, broker.ErrNotFound)
		_, err = f.a.Ticket(f.ctx, f.newIntegration("slack").ID, c.Key)
		f.refused(err, broker.ErrNotFound)
		_, err = f.a.Credential(f.ctx, "unknown")
		f.refused(err, broker.ErrNotFound)
	},
	"a swap stores the next version": func(f *fixture) {
		c := f.filled()
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1"), New: true}))
		f.ok(f.a.FailRefresh(f.ctx, f.failure(c)))
		f.lease(f.a, c, "owner")
		next := new(broker.Credential)
		fill(next)
		f.ok(f.b.SwapCredential(f.ctx, &broker.Swap{Connection: c.ID, From: 1, Next: next, Trail: f.trail("swap")}))
		f.wrote("swap")
		got, cred := f.reread(c.ID)
		want := *next
		want.Connection, want.Version, want.Fence, want.Origins = c.ID, 2, 1, f.credential("1").Origins
		want.Failures, want.FailedAt, want.FailingSince, want.FailCode = 0, time.Time{}, time.Time{}, ""
		want.LeaseOwner, want.LeaseUntil, want.AttemptAt, want.EraseAt = "", time.Time{}, time.Time{}, time.Time{}
		f.same(cred, &want)
		if got.Status != broker.Active || got.Reason+got.ErrorID+got.ErrorCode != "" || !got.ErrorAt.IsZero() {
			f.Errorf("the connection is %s: %q %q %q %s", got.Status, got.Reason, got.ErrorID, got.ErrorCode, got.ErrorAt)
		}
		f.same(got.Config, c.Config)
		f.same(got.Scopes, c.Scopes)
	},
	"a swap can bring config and scopes": func(f *fixture) {
		c := f.granted()
		s := f.swap(c)
		s.Config, s.Scopes = []byte(`{"instance":"eu"}`), []string{"read"}
		f.ok(f.b.SwapCredential(f.ctx, s))
		got, _ := f.reread(c.ID)
		f.same(got.Config, s.Config)
		f.same(got.Scopes, s.Scopes)
		if got.Revision == c.Revision {
			f.Error("a change of the connection bumps its revision")
		}
	},
	"a swap that changes nothing else is no change of the connection": func(f *fixture) {
		c := f.granted()
		f.ok(f.b.SwapCredential(f.ctx, f.swap(c)))
		c.Name = "edited meanwhile"
		f.ok(f.a.UpdateConnections(f.ctx, []*broker.Connection{c}, broker.Trail{}))
	},
	"of two swaps one wins": func(f *fixture) {
		c := f.granted()
		results := race(f, 8, func(s broker.Store, _ int) error { return s.SwapCredential(f.ctx, f.swap(c)) })
		if n := count(results, func(err error) bool { return err == nil }); n != 1 {
			f.Errorf("%d swaps from one version succeeded", n)
		}
		f.wrote("swap")
		if _, cred := f.reread(c.ID); cred.Version != 2 {
			f.Errorf("the version is %d, want 2", cred.Version)
		}
	},
	"a stale swap changes nothing": func(f *fixture) {
		c := f.granted()
		f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("reconnected"), From: 1}))
		before, cred := f.reread(c.ID)
		f.refused(f.b.SwapCredential(f.ctx, f.swap(c)), broker.ErrConflict)
		f.wroteNothing("swap")
		after, now := f.reread(c.ID)
		f.same(after, before)
		f.same(now, cred)
	},
	"a swap never brings a connection back": func(f *fixture) {
		c := f.granted()
		f.ok(f.a.DeleteConnection(f.ctx, f.env.ID, c.ID, f.now(), broker.Trail{}))
		f.refused(f.b.SwapCredential(f.ctx, f.swap(c)), broker.ErrNotFound)
		f.wroteNothing("swap")
		_, err := f.b.Credential(f.ctx, c.ID)
		f.refused(err, broker.ErrNotFound)
	},
	"an edit and a swap do not meet": func(f *fixture) {
		c := f.granted()
		c.Metadata = []byte(`{"edited":true}`)
		f.ok(f.a.UpdateConnections(f.ctx, []*broker.Connection{c}, broker.Trail{}))
		f.ok(f.b.SwapCredential(f.ctx, f.swap(c)))
		got, cred := f.reread(c.ID)
		if string(got.Metadata) != `{"edited":true}` || string(cred.Access) != "access 2" {
			f.Errorf("metadata %s, %s", got.Metadata, cred.Access)
		}
	},
	"a failure is counted": func(f *fixture) {
		c := f.granted()
		first := f.now()
		for range 2 {
			f.ok(f.b.FailRefresh(f.ctx, f.failure(c)))
			f.clock.advance(time.Minute)
		}
		got, cred := f.reread(c.ID)
		if !cred.EraseAt.Equal(first.Add(24 * time.Hour)) {
			f.Errorf("the tokens are to be erased at %s; the first failure counts", cred.EraseAt)
		}
		if cred.Failures != 2 || cred.FailCode != "invalid_grant" || !cred.FailingSince.Equal(first) ||
			!cred.FailedAt.Equal(first.Add(time.Minute)) || !cred.RefreshAt.Equal(first.Add(time.Minute+time.Hour)) {
			f.Errorf("the failures read %+v", cred)
		}
		if got.Status != broker.Failing || got.Reason != broker.ReasonNeedsReauth || got.ErrorID != "error-id" || got.ErrorCode != "invalid_grant" ||
			!got.ErrorAt.Equal(first.Add(time.Minute)) || got.Revision != 3 {
			f.Errorf("the connection reads %+v", got)
		}
		if string(cred.Refresh) != "refresh 1" || cred.Version != 1 {
			f.Error("a failure keeps the tokens and their version")
		}
		if n := f.left("fail"); n != 2 {
			f.Errorf("%d trails were written, want 2", n)
		}
	},
	"a failure can leave the status and stop the background": func(f *fixture) {
		c := f.granted()
		failure := f.failure(c)
		failure.Status, failure.NextAt, failure.EraseAt = "", time.Time{}, time.Time{}
		f.ok(f.b.FailRefresh(f.ctx, failure))
		got, cred := f.reread(c.ID)
		f.same(got, c)
		if !cred.RefreshAt.IsZero() || cred.Failures != 1 || !cred.EraseAt.IsZero() {
			f.Errorf("next attempt %s, %d failures, to be erased at %s", cred.RefreshAt, cred.Failures, cred.EraseAt)
		}
	},
	"a failure that is not the grant's is not counted": func(f *fixture) {
		c := f.granted()
		failure := f.failure(c)
		failure.CountsAgainst, failure.Status = false, ""
		f.lease(f.a, c, "owner")
		f.ok(f.b.FailRefresh(f.ctx, failure))
		_, cred := f.reread(c.ID)
		if cred.Failures != 0 || cred.FailCode != "" || !cred.FailedAt.IsZero() || !cred.FailingSince.IsZero() {
			f.Errorf("it was counted: %+v", cred)
		}
		if !cred.RefreshAt.Equal(failure.NextAt) || cred.LeaseOwner != "" {
			f.Errorf("next attempt %s, lease of %q", cred.RefreshAt, cred.LeaseOwner)
		}
	},
	"a failure of another version is none": func(f *fixture) {
		c := f.granted()
		f.ok(f.a.SwapCredential(f.ctx, f.swap(c)))
		before, cred := f.reread(c.ID)
		f.ok(f.b.FailRefresh(f.ctx, f.failure(c)))
		after, now := f.reread(c.ID)
		f.same(after, before)
		f.same(now, cred)
		gone := f.connection()
		f.ok(f.b.FailRefresh(f.ctx, f.failure(gone)))
		f.wroteNothing("fail")
	},
	"a failure that comes late leaves a lost grant alone": func(f *fixture) {
		c := f.granted()
		f.lease(f.a, c, "slow")
		f.clock.advance(leaseFor)
		f.lease(f.b, c, "owner")
		lost := f.failure(c)
		lost.NextAt = time.Time{}
		f.ok(f.b.FailRefresh(f.ctx, lost))
		before, cred := f.reread(c.ID)
		late := f.failure(c)
		late.Owner, late.Code, late.Reason, late.Trail = "slow", "timeout", broker.ReasonRefreshFails, f.trail("late")
		f.ok(f.a.FailRefresh(f.ctx, late))
		f.wroteNothing("late")
		after, now := f.reread(c.ID)
		f.same(after, before)
		f.same(now, cred)
		f.lease(f.a, c, "slow") // somebody insists, and finds that the provider cannot be reached
		f.ok(f.a.FailRefresh(f.ctx, late))
		f.wrote("late")
		if _, cred := f.reread(c.ID); !cred.RefreshAt.Equal(late.NextAt) || cred.LeaseOwner != "" {
			f.Errorf("next attempt %s, lease of %q", cred.RefreshAt, cred.LeaseOwner)
		}
	},
	"the next attempt is moved": func(f *fixture) {
		c := f.granted()
		first, next := f.credential("1").RefreshAt, f.now().Add(3*time.Hour)
		f.ok(f.b.SetRefreshAt(f.ctx, c.ID, 1, first, next))
		f.ok(f.b.SetRefreshAt(f.ctx, c.ID, 2, next, f.now()))
		f.ok(f.b.SetRefreshAt(f.ctx, "gone", 1, next, f.now()))
		if _, cred := f.reread(c.ID); !cred.RefreshAt.Equal(next) {
			f.Errorf("next attempt %s, want %s", cred.RefreshAt, next)
		}
		f.ok(f.b.SetRefreshAt(f.ctx, c.ID, 1, next, time.Time{}))
		if _, cred := f.reread(c.ID); !cred.RefreshAt.IsZero() {
			f.Errorf("next attempt %s, want none", cred.RefreshAt)
		}
	},
	"the next attempt is not moved where a failure has planned it": func(f *fixture) {
		for _, planned := range []time.Time{f.now().Add(20 * time.Minute), {}} { // put off, and lost
			c := f.granted()
			failure := f.failure(c)
			failure.NextAt = planned
			f.ok(f.a.FailRefresh(f.ctx, failure))
			f.ok(f.b.SetRefreshAt(f.ctx, c.ID, 1, f.credential("1").RefreshAt, f.now().Add(time.Minute)))
			if _, cred := f.reread(c.ID); !cred.RefreshAt.Equal(planned) {
				f.Errorf("next attempt %s, want %s", cred.RefreshAt, planned)
			}
		}
		c := f.granted()
		f.putOff(c, time.Time{})
		f.putOff(c, f.now()) // whoever has seen that there is none can set one
		if _, cred := f.reread(c.ID); !cred.RefreshAt.Equal(f.now()) {
			f.Errorf("next attempt %s, want now", cred.RefreshAt)
		}
	},
}

// revisionTold is what a ticket tells of a connection's revision.
func (f *fixture) revisionTold(revision int64) int64 {
	if _, ok := f.a.(broker.Shared); ok {
		return revision
	}
	return 0
}

// failure is a counted one of c's version 1 that marks the connection.
func (f *fixture) failure(c *broker.Connection) *broker.RefreshFailure {
	return &broker.RefreshFailure{
		Connection: c.ID, Version: 1, Owner: "owner", Code: "invalid_grant", At: f.now(), NextAt: f.now().Add(time.Hour),
		EraseAt: f.now().Add(24 * time.Hour), Status: broker.Failing, Reason: broker.ReasonNeedsReauth, ErrorID: "error-id",
		CountsAgainst: true, Trail: f.trail("fail"),
	}
}
