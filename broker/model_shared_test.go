package broker_test

import (
	"context"

	"github.com/coatcheck/coatcheck/broker"
)

// sharedStore is what several nodes serve from.
type sharedStore struct{ *nodeStore }

var _ broker.Shared = sharedStore{}

// Ticket tells the revision, as such a store does: that of the moment when the rest was read.
func (s sharedStore) Ticket(ctx context.Context, integration broker.IntegrationID, key string) (*broker.Ticket, error) {
	if err := s.arrive(ctx, "Ticket", key, patience); err != nil {
		return nil, err
	}
	return s.ticket(ctx, integration, key)
}

func (s sharedStore) ticket(ctx context.Context, integration broker.IntegrationID, key string) (t *broker.Ticket, err error) {
	s.effect(func() { // nobody writes between the two
		var c *broker.Connection
		if t, err = s.Store.Ticket(ctx, integration, key); err != nil {
			return
		}
		if c, err = s.Store.ConnectionByKey(ctx, integration, key); err == nil {
			t.Revision = c.Revision
		}
	})
	return t, err
}

// Standing implements [broker.Shared].
func (s sharedStore) Standing(ctx context.Context, integration broker.IntegrationID, key string) (broker.Standing, error) {
	if err := s.arrive(ctx, "Standing", key, patience); err != nil {
		return broker.Standing{}, err
	}
	t, err := s.ticket(ctx, integration, key)
	if err != nil {
		return broker.Standing{}, err
	}
	return broker.Standing{Connection: t.Connection, Revision: t.Revision, Version: t.Version, Status: t.Status}, nil
}

// FlowsByChannel finds none: the model has no sign-ins.
func (sharedStore) FlowsByChannel(context.Context, [][]byte) ([]*broker.Flow, error) { return nil, nil }

// Listen hears nothing: nodes look for themselves.
func (sharedStore) Listen(ctx context.Context, _ func()) { <-ctx.Done() }
