package broker_test

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// mutant is a fault that a run can be given.
type mutant struct {
	name  string
	many  bool // it takes several nodes
	store func(w *world, n *modelNode, s broker.Store) broker.Store
	rule  string // what is broken by it
	found uint64 // the seed that is tried first, because it found the mutant some time; 0: the first of all
}

// mutants are stores that break their promises.
var mutants = []mutant{
	{
		name: "a lease for everybody", many: true, rule: "presents a token",
		found: 3,
		store: func(_ *world, _ *modelNode, s broker.Store) broker.Store { return leaseForAll{s} },
	},
	{
		name: "a commit of an outdated renewal", rule: "renewed version",
		found: 6,
		store: func(_ *world, _ *modelNode, s broker.Store) broker.Store { return swapAnyVersion{s} },
	},
	{
		name: "a commit that is none", rule: "has returned, and it is not there",
		store: func(_ *world, _ *modelNode, s broker.Store) broker.Store { return swapNothing{s} },
	},
	{
		name: "a start that ends living leases", many: true, rule: "presents a token",
		found: 2,
		store: func(w *world, _ *modelNode, s broker.Store) broker.Store { return dropLiving{s, w} },
	},
	{
		name: "a change of metadata over a newer one", rule: "is missing",
		found: 7,
		store: func(_ *world, _ *modelNode, s broker.Store) broker.Store { return updateAnyRevision{s} },
	},
	{
		name: "a deletion that is none", rule: "is back",
		store: func(_ *world, _ *modelNode, s broker.Store) broker.Store { return deleteNothing{s} },
	},
	{
		name: "a deletion that leaves no revocation", rule: "was not revoked",
		store: func(_ *world, _ *modelNode, s broker.Store) broker.Store { return revokeNothing{s} },
	},
	{
		name: "a refused client that its connections pay for", rule: "for the client",
		store: func(_ *world, _ *modelNode, s broker.Store) broker.Store { return blameAll{s} },
	},
	{
		name: "a ticket that stays as it was", many: true, rule: "was given version",
		found: 3,
		store: func(_ *world, _ *modelNode, s broker.Store) broker.Store {
			return rememberTickets{s, new(sync.Mutex), make(map[string]*broker.Ticket)}
		},
	},
	{
		name: "a failure that forgets its doubt", rule: "and not that the outcome of an attempt was lost",
		found: 11,
		store: func(_ *world, _ *modelNode, s broker.Store) broker.Store { return forgetDoubts{s} },
	},
}

// rememberTickets serves each node the ticket that it read first.
type rememberTickets struct {
	broker.Store
	mu   *sync.Mutex
	seen map[string]*broker.Ticket
}

func (s rememberTickets) Ticket(ctx context.Context, integration broker.IntegrationID, key string) (*broker.Ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.seen[key]; ok {
		known := *t
		return &known, nil
	}
	t, err := s.Store.Ticket(ctx, integration, key)
	if err == nil {
		known := *t
		s.seen[key] = &known
	}
	return t, err
}

type leaseForAll struct{ broker.Store }

func (s leaseForAll) LeaseRefresh(ctx context.Context, id broker.ConnectionID, owner string, ttl time.Duration) (*broker.Credential, bool, error) {
	c, ok, err := s.Store.LeaseRefresh(ctx, id, owner, ttl)
	if err != nil || ok {
		return c, ok, err
	}
	if c, err = s.Store.Credential(ctx, id); err != nil {
		return nil, false, err
	}
	c.LeaseOwner, c.AttemptAt = owner, time.Time{} // a node that knew of an attempt would look again
	return c, true, nil
}

type swapAnyVersion struct{ broker.Store }

func (s swapAnyVersion) SwapCredential(ctx context.Context, swap *broker.Swap) error {
	c, err := s.Store.Credential(ctx, swap.Connection)
	if err != nil {
		return err
	}
	any := *swap
	any.From = c.Version
	return s.Store.SwapCredential(ctx, &any)
}

type swapNothing struct{ broker.Store }

func (swapNothing) SwapCredential(context.Context, *broker.Swap) error { return nil }

type dropLiving struct {
	broker.Store
	w *world
}

func (s dropLiving) DropStaleLeases(ctx context.Context) (int, error) {
	for _, conn := range s.w.history.order {
		c, err := s.Store.Credential(ctx, conn.id)
		if err == nil && c.LeaseOwner != "" {
			if err := s.Store.ReleaseRefresh(ctx, conn.id, c.LeaseOwner, c.AttemptAt); err != nil {
				return 0, err
			}
		}
	}
	return 0, nil
}

type updateAnyRevision struct{ broker.Store }

func (s updateAnyRevision) UpdateConnections(ctx context.Context, cs []*broker.Connection, t broker.Trail) error {
	for _, c := range cs {
		now, err := s.Store.Connection(ctx, c.Environment, c.ID)
		if err != nil {
			return err
		}
		c.Revision = now.Revision
	}
	return s.Store.UpdateConnections(ctx, cs, t)
}

type deleteNothing struct{ broker.Store }

func (deleteNothing) DeleteConnection(context.Context, broker.EnvironmentID, broker.ConnectionID, time.Time, broker.Trail) error {
	return nil
}

type revokeNothing struct{ broker.Store }

func (revokeNothing) ClaimRevocations(context.Context, time.Time, time.Time, int) ([]*broker.Revocation, error) {
	return nil, nil
}

type blameAll struct{ broker.Store }

func (s blameAll) FailRefresh(ctx context.Context, f *broker.RefreshFailure) error {
	f.Status, f.Reason = broker.Failing, broker.ReasonRefreshFails
	return s.Store.FailRefresh(ctx, f)
}

type forgetDoubts struct{ broker.Store }

func (s forgetDoubts) LeaseRefresh(ctx context.Context, id broker.ConnectionID, owner string, ttl time.Duration) (*broker.Credential, bool, error) {
	c, ok, err := s.Store.LeaseRefresh(ctx, id, owner, ttl)
	if ok {
		c.AttemptAt = time.Time{}
	}
	return c, ok, err
}

// The model notices each of these faults, within the runs that it makes anyway. A model that finds nothing proves nothing.
func TestTheModelFindsFaults(t *testing.T) {
	base := newModelBase(t)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			for i := range uint64(modelSeeds) {
				seed := (cmp.Or(m.found, 1)+i-1)%modelSeeds + 1
				o := runModel(t, base, seed, m)
				if o.broken == "" {
					continue
				}
				if !strings.Contains(o.broken, m.rule) {
					t.Fatalf("it broke another rule: %s", o.report(seed, 30))
				}
				t.Logf("seed %d: %s", seed, o.broken)
				return
			}
			t.Fatalf("not found in %d runs", modelSeeds)
		})
	}
}
