package broker_test

import (
	"context"
	"errors"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// errGone is what a killed node's calls come to. Nobody living hears of it.
var errGone = broker.ErrStorageUnavailable.Because(errors.New("the node is dead"))

// nodeStore is a node's store. Its calls about connections and credentials are parked before they have an effect, and
// those that write one again before their answer arrives.
type nodeStore struct {
	broker.Store
	n        *modelNode
	lookedAt time.Time // by the one goroutine that does
}

// storeOf is the store of a node, with the mutant's faults in it.
func (w *world) storeOf(n *modelNode) broker.Store {
	var s broker.Store = n.db
	if w.mutant.store != nil {
		s = w.mutant.store(w, n, s)
	}
	own := &nodeStore{Store: s, n: n}
	if w.many {
		return sharedStore{own}
	}
	return own
}

// before parks a call before its effect.
func (s *nodeStore) before(ctx context.Context, what string, id broker.ConnectionID, longest time.Duration) error {
	return s.arrive(ctx, what, s.n.w.nameOf(id), longest)
}

// after parks an answer on its way.
func (s *nodeStore) after(ctx context.Context, what string, id broker.ConnectionID, longest time.Duration) error {
	return s.arrive(context.WithoutCancel(ctx), what+" answer", s.n.w.nameOf(id), longest)
}

func (s *nodeStore) arrive(ctx context.Context, what, about string, longest time.Duration) error {
	switch s.n.w.park(ctx, s.n, what, about, longest) {
	case die:
		return errGone
	case gaveUp:
		return broker.ErrStorageUnavailable.Because(ctx.Err())
	case goOn, unavailable, refuseClient, cutBefore, cutAfter:
	}
	return nil
}

// write parks a writing call, and refuses it if the store is full.
func (s *nodeStore) write(ctx context.Context, what string, id broker.ConnectionID, longest time.Duration) error {
	if err := s.before(ctx, what, id, longest); err != nil {
		return err
	}
	w := s.n.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full {
		return broker.ErrStorageUnavailable.Because(errors.New("disk full"))
	}
	return nil
}

// effect makes a write and notes it before the next one, of whichever node.
func (s *nodeStore) effect(write func()) {
	s.n.w.writing.Lock()
	defer s.n.w.writing.Unlock()
	write()
}

func (s *nodeStore) Credential(ctx context.Context, id broker.ConnectionID) (*broker.Credential, error) {
	if err := s.before(ctx, "Credential", id, patience); err != nil {
		return nil, err
	}
	return s.Store.Credential(ctx, id)
}

func (s *nodeStore) Connection(ctx context.Context, env broker.EnvironmentID, id broker.ConnectionID) (*broker.Connection, error) {
	if err := s.before(ctx, "Connection", id, patience); err != nil {
		return nil, err
	}
	return s.Store.Connection(ctx, env, id)
}

func (s *nodeStore) ConnectionByKey(ctx context.Context, integration broker.IntegrationID, key string) (*broker.Connection, error) {
	if err := s.arrive(ctx, "ConnectionByKey", key, patience); err != nil {
		return nil, err
	}
	return s.Store.ConnectionByKey(ctx, integration, key)
}

func (s *nodeStore) Ticket(ctx context.Context, integration broker.IntegrationID, key string) (*broker.Ticket, error) {
	if err := s.arrive(ctx, "Ticket", key, patience); err != nil {
		return nil, err
	}
	return s.Store.Ticket(ctx, integration, key)
}

func (s *nodeStore) LeaseRefresh(ctx context.Context, id broker.ConnectionID, owner string, ttl time.Duration) (*broker.Credential, bool, error) {
	if err := s.write(ctx, "LeaseRefresh", id, patience); err != nil {
		return nil, false, err
	}
	var c *broker.Credential
	var ok bool
	var err error
	s.effect(func() {
		before, _ := s.n.w.truth.Credential(ctx, id)
		c, ok, err = s.Store.LeaseRefresh(ctx, id, owner, ttl)
		s.n.w.leased(s.n, id, before, c, owner)
	})
	if gone := s.after(ctx, "LeaseRefresh", id, patience); gone != nil {
		return nil, false, gone
	}
	return c, ok, err
}

func (s *nodeStore) ReleaseRefresh(ctx context.Context, id broker.ConnectionID, owner string, restored time.Time) error {
	err := s.write(ctx, "ReleaseRefresh", id, patience)
	if err == nil {
		err = s.Store.ReleaseRefresh(ctx, id, owner, restored)
	}
	if err != nil {
		s.n.w.doubt(id)
	}
	return err
}

func (s *nodeStore) SwapCredential(ctx context.Context, swap *broker.Swap) error {
	if err := s.write(ctx, "SwapCredential", swap.Connection, swapPatience); err != nil {
		return err
	}
	var err error
	s.effect(func() {
		err = s.Store.SwapCredential(ctx, swap)
		s.n.w.swapped(s.n, swap, err)
	})
	if gone := s.after(ctx, "SwapCredential", swap.Connection, swapPatience); gone != nil {
		return gone
	}
	s.n.w.acknowledged(s.n, swap.Connection)
	return err
}

func (s *nodeStore) FailRefresh(ctx context.Context, f *broker.RefreshFailure) error {
	err := s.write(ctx, "FailRefresh", f.Connection, patience)
	if err == nil {
		s.effect(func() {
			err = s.Store.FailRefresh(ctx, f)
			s.n.w.failed(s.n, f, err)
		})
	}
	if err != nil {
		s.n.w.doubt(f.Connection)
	}
	return err
}

func (s *nodeStore) SetRefreshAt(ctx context.Context, id broker.ConnectionID, version int64, from, at time.Time) error {
	if err := s.write(ctx, "SetRefreshAt", id, patience); err != nil {
		return err
	}
	err := s.Store.SetRefreshAt(ctx, id, version, from, at)
	s.n.w.note("%s puts %s off to %s: %v", s.n.name, s.n.w.nameOf(id), at.Format(time.TimeOnly), err)
	return err
}

func (s *nodeStore) PutGrant(ctx context.Context, g *broker.Grant) error {
	id := g.Connection.ID
	if err := s.write(ctx, "PutGrant", id, patience); err != nil {
		return err
	}
	var err error
	s.effect(func() {
		err = s.Store.PutGrant(ctx, g)
		s.n.w.granted(s.n, operation(ctx), g, err)
	})
	if gone := s.after(ctx, "PutGrant", id, patience); gone != nil {
		return gone
	}
	s.n.w.acknowledged(s.n, id)
	return err
}

func (s *nodeStore) UpdateConnections(ctx context.Context, cs []*broker.Connection, t broker.Trail) error {
	id := cs[0].ID
	if err := s.write(ctx, "UpdateConnections", id, patience); err != nil {
		return err
	}
	var err error
	s.effect(func() {
		err = s.Store.UpdateConnections(ctx, cs, t)
		s.n.w.updated(operation(ctx), id, err)
	})
	if gone := s.after(ctx, "UpdateConnections", id, patience); gone != nil {
		return gone
	}
	return err
}

func (s *nodeStore) DeleteConnection(ctx context.Context, env broker.EnvironmentID, id broker.ConnectionID, at time.Time, t broker.Trail) error {
	if err := s.write(ctx, "DeleteConnection", id, patience); err != nil {
		return err
	}
	var err error
	s.effect(func() {
		err = s.Store.DeleteConnection(ctx, env, id, at, t)
		s.n.w.deleted(s.n, operation(ctx), id, err)
	})
	if gone := s.after(ctx, "DeleteConnection", id, patience); gone != nil {
		return gone
	}
	s.n.w.acknowledged(s.n, id)
	return err
}

func (s *nodeStore) AddRevocation(ctx context.Context, r *broker.Revocation, t broker.Trail) error {
	if err := s.write(ctx, "AddRevocation", r.Connection, patience); err != nil {
		return err
	}
	return s.Store.AddRevocation(ctx, r, t)
}

// lookEvery is how often the store tells a node what is due. A broker that has something under way looks fifty times a second,
// and here that can last for minutes.
const lookEvery = 5 * time.Second

func (s *nodeStore) DueRefreshes(ctx context.Context, now time.Time, except []broker.IntegrationID, limit int) ([]broker.DueRefresh, error) {
	if now.After(s.lookedAt) && now.Before(s.lookedAt.Add(lookEvery)) {
		return nil, nil
	}
	s.lookedAt = now
	return s.Store.DueRefreshes(ctx, now, except, limit)
}

func (s *nodeStore) NextRefresh(ctx context.Context) (time.Time, error) {
	next, err := s.Store.NextRefresh(ctx)
	if again := s.lookedAt.Add(lookEvery); !next.IsZero() && next.Before(again) {
		next = again
	}
	return next, err
}

// DropStaleLeases is the store's own for a node that is alone. A database that nodes share knows who is alive no better than
// by the time.
func (s *nodeStore) DropStaleLeases(ctx context.Context) (int, error) {
	if s.n.w.many && s.n.w.mutant.name == "" {
		return 0, nil
	}
	return s.Store.DropStaleLeases(ctx)
}

func (s *nodeStore) DropStaleClaims(ctx context.Context) (int, error) {
	if s.n.w.many {
		return 0, nil
	}
	return s.Store.DropStaleClaims(ctx)
}
