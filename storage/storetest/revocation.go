package storetest

import (
	"time"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
)

// claim takes all revocations that are due, for a minute.
func (f *fixture) claim() []*broker.Revocation {
	f.Helper()
	jobs, err := f.b.ClaimRevocations(f.ctx, f.now(), f.now().Add(time.Minute), 100)
	f.ok(err)
	return jobs
}

// job stores a revocation that becomes due after so long.
func (f *fixture) job(after time.Duration) *broker.Revocation {
	f.Helper()
	r := &broker.Revocation{
		ID: uuid.NewString(), Environment: f.env.ID, Integration: f.integration.ID, Version: 1, Access: broker.Sealed("access"),
		CreatedAt: f.now(), NextAt: f.now().Add(after),
	}
	f.ok(f.a.AddRevocation(f.ctx, r, broker.Trail{}))
	return r
}

// stored reads a revocation by the list.
func (f *fixture) stored(id string) *broker.Revocation {
	f.Helper()
	list, err := f.b.Revocations(f.ctx, f.env.ID, 100)
	f.ok(err)
	for _, r := range list {
		if r.ID == id {
			return r
		}
	}
	f.Fatalf("revocation %s is not listed", id)
	return nil
}

var revocationTests = map[string]func(*fixture){
	"round trip": func(f *fixture) {
		r := new(broker.Revocation)
		fill(r)
		r.Environment, r.Config = f.env.ID, []byte(`{"subdomain":"acme"}`)
		f.ok(f.a.AddRevocation(f.ctx, r, f.trail("add")))
		f.wrote("add")
		f.same(f.stored(r.ID), r)
		f.refused(f.b.AddRevocation(f.ctx, r, f.trail("again")), broker.ErrConflict)
		f.wroteNothing("again")
		r.ID, r.Environment = uuid.NewString(), "unknown"
		f.refused(f.b.AddRevocation(f.ctx, r, f.trail("nowhere")), broker.ErrNotFound)
	},
	"due ones are claimed, oldest first": func(f *fixture) {
		late, early := f.job(-time.Minute), f.job(-time.Hour)
		f.job(time.Second)
		jobs, err := f.b.ClaimRevocations(f.ctx, f.now(), f.now().Add(time.Minute), 10)
		f.ok(err)
		if len(jobs) != 2 || jobs[0].ID != early.ID || jobs[1].ID != late.ID {
			f.Fatalf("%d were claimed, want the older, then the newer", len(jobs))
		}
		if !jobs[0].NextAt.Equal(f.now().Add(time.Minute)) || string(jobs[0].Access) != "access" {
			f.Errorf("claimed until %s with %q", jobs[0].NextAt, jobs[0].Access)
		}
		f.same(f.stored(early.ID), jobs[0])
		if n := len(f.claim()); n != 0 {
			f.Errorf("%d were claimed twice", n)
		}
	},
	"a claim takes no more than it may": func(f *fixture) {
		for range 3 {
			f.job(0)
		}
		jobs, err := f.a.ClaimRevocations(f.ctx, f.now(), f.now().Add(time.Minute), 2)
		f.ok(err)
		if len(jobs) != 2 || len(f.claim()) != 1 {
			f.Errorf("%d were claimed, want two and then one", len(jobs))
		}
	},
	"each is claimed by one": func(f *fixture) {
		for range 20 {
			f.job(0)
		}
		batches := race(f, 8, func(s broker.Store, _ int) []*broker.Revocation {
			jobs, err := s.ClaimRevocations(f.ctx, f.now(), f.now().Add(time.Minute), 5)
			if err != nil {
				f.Errorf("claim: %v", err)
			}
			return jobs
		})
		seen := make(map[string]bool)
		for _, jobs := range batches {
			for _, r := range jobs {
				if seen[r.ID] {
					f.Errorf("%s was claimed twice", r.ID)
				}
				seen[r.ID] = true
			}
		}
		if len(seen) != 20 {
			f.Errorf("%d of 20 were claimed", len(seen))
		}
	},
	"a dead claimant's comes back": func(f *fixture) {
		want := f.job(0)
		f.claim()
		f.clock.advance(time.Minute)
		if jobs := f.claim(); len(jobs) != 1 || jobs[0].ID != want.ID {
			f.Errorf("%d are due again, want 1", len(jobs))
		}
	},
	"a retry puts it back": func(f *fixture) {
		r := f.job(0)
		f.claim()
		f.ok(f.b.RetryRevocation(f.ctx, r.ID, 3, 5*time.Nanosecond, f.now().Add(time.Second)))
		f.clock.advance(time.Second)
		if jobs := f.claim(); len(jobs) != 1 || jobs[0].Attempts != 3 || jobs[0].Waited != 5*time.Nanosecond {
			f.Errorf("%d are due, want one with 3 attempts that has waited 5 ns", len(jobs))
		}
		f.refused(f.b.RetryRevocation(f.ctx, "unknown", 1, 0, f.now()), broker.ErrNotFound)
	},
	"finishing erases what is sealed": func(f *fixture) {
		r := new(broker.Revocation)
		fill(r)
		r.Environment, r.Config, r.DoneAt, r.Outcome = f.env.ID, []byte(`{}`), time.Time{}, ""
		r.NextAt = f.now()
		f.ok(f.a.AddRevocation(f.ctx, r, broker.Trail{}))
		f.ok(f.b.FinishRevocation(f.ctx, r.ID, broker.OutcomeSharedGrant, f.now(), f.trail("finish")))
		f.wrote("finish")
		r.Access, r.Refresh, r.Details = nil, nil, nil
		r.DoneAt, r.Outcome = f.now(), broker.OutcomeSharedGrant
		f.same(f.stored(r.ID), r)
		if n := len(f.claim()); n != 0 {
			f.Error("a finished one is due")
		}
	},
	"it is finished once": func(f *fixture) {
		r := f.job(0)
		f.ok(f.a.FinishRevocation(f.ctx, r.ID, broker.OutcomeRevoked, f.now(), broker.Trail{}))
		f.refused(f.b.FinishRevocation(f.ctx, r.ID, broker.OutcomeGaveUp, f.now(), f.trail("again")), broker.ErrNotFound)
		f.refused(f.b.FinishRevocation(f.ctx, "unknown", broker.OutcomeGaveUp, f.now(), f.trail("again")), broker.ErrNotFound)
		f.refused(f.b.RetryRevocation(f.ctx, r.ID, 1, 0, f.now()), broker.ErrNotFound)
		f.wroteNothing("again")
	},
	"one of a living integration leaves it alone": func(f *fixture) {
		f.ok(f.a.FinishRevocation(f.ctx, f.job(0).ID, broker.OutcomeRevoked, f.now(), broker.Trail{}))
		if f.integrations()[f.integration.ID] == nil {
			f.Error("a living integration was erased")
		}
	},
	"they are listed, newest first": func(f *fixture) {
		first := f.job(0)
		f.clock.advance(time.Second)
		second := f.job(0)
		list, err := f.b.Revocations(f.ctx, f.env.ID, 10)
		f.ok(err)
		if len(list) != 2 || list[0].ID != second.ID || list[1].ID != first.ID {
			f.Errorf("%d are listed, want the newer, then the older", len(list))
		}
		list, err = f.b.Revocations(f.ctx, f.env.ID, 1)
		f.ok(err)
		if len(list) != 1 {
			f.Errorf("%d are listed, want 1", len(list))
		}
		list, err = f.b.Revocations(f.ctx, f.newEnvironment("prod").ID, 10)
		f.ok(err)
		if len(list) != 0 {
			f.Errorf("another environment lists %d", len(list))
		}
	},
}
