package broker

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// Proposal is a connection that somebody is to make.
type Proposal struct {
	Integration string // its key
	Name        string
	EndUser     *EndUser
	Tags        map[string]string
	Metadata    []byte // a JSON object; nil: none
	ReturnURL   string
	Landing     string        // as in [SessionInput]
	Lifetime    time.Duration // of the session; zero: 15 minutes
}

// Propose makes a pending connection, whose id can be told before anybody has connected, and a session in which it has its
// first success. Errors: not_found naming the integration, not_supported where it cannot be connected to, invalid_request,
// return_url_not_allowed.
func (b *Broker) Propose(ctx context.Context, who Actor, p Proposal) (*Connection, *Session, Secret, error) {
	if err := who.Allow(ScopeSessionsWrite); err != nil {
		return nil, nil, Secret{}, err
	}
	c, err := b.proposed(who, p)
	if err != nil {
		return nil, nil, Secret{}, err
	}
	// What the session refuses is refused before there is a row.
	if env, err := b.Environment(who); err != nil || p.ReturnURL != "" && !ReturnURLAllowed(p.ReturnURL, env.ReturnURLs) {
		return nil, nil, Secret{}, orElse(err, ErrReturnURLRefused.On("return_url"))
	}
	if err := b.store.CreatePending(ctx, c, b.audited(who, "connection.propose", string(c.ID))); err != nil {
		return nil, nil, Secret{}, err
	}
	s, token, err := b.CreateSession(ctx, who, SessionInput{
		EndUser: p.EndUser, Tags: p.Tags, ReturnURL: p.ReturnURL, Landing: p.Landing, Lifetime: p.Lifetime,
		Reconnect: &ConnectionRef{ID: c.ID},
	})
	return c, s, token, err
}

func orElse(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// proposed makes the row.
func (b *Broker) proposed(who Actor, p Proposal) (*Connection, error) {
	i, err := b.integration(who, p.Integration)
	if err != nil {
		return nil, err
	}
	m, err := b.newMaking(who, i)
	if err != nil {
		return nil, err
	}
	if err := m.ready(); err != nil {
		return nil, err
	}
	tags, err := ValidateTags(p.Tags)
	if err != nil {
		return nil, err
	}
	now := b.Now()
	id := uuid.NewString()
	c := &Connection{
		ID: ConnectionID(id), Environment: who.Environment, Integration: i.ID, Key: id, Name: p.Name, Status: Pending, EndUser: p.EndUser,
		Tags: tags, Metadata: p.Metadata, CreatedAt: now, UpdatedAt: now,
	}
	return c, c.Validate()
}

// keepPending is how long a connection may wait for its first success: the links to it have long expired by then.
const keepPending = 7 * 24 * time.Hour

// sweepPending removes connections that nobody made.
func (b *Broker) sweepPending(ctx context.Context) error {
	_, err := b.store.SweepPending(ctx, b.Now().Add(-keepPending))
	return err
}

// FlowResult is how a sign-in ended, for the page that the browser goes on to.
type FlowResult struct {
	Flow        FlowID
	Environment *Environment
	Integration *Integration
	Connection  ConnectionID // empty: it was a new one and did not come to be
	Status      FlowStatus   // succeeded or failed
	Code        string       // why it failed
	ReturnURL   string       // the session's; empty: it has none
}

// resultShown is how long the result of a sign-in is told to whoever knows the flow's id, which is the browser that it
// ended in.
const resultShown = 10 * time.Minute

// EndedFlow tells how a sign-in ended. The id is the proof: it is random, stands in no API's answer, and is told to the
// browser alone that the provider sent back. Errors: not_found, for one that has not ended or did so long ago as well.
func (b *Broker) EndedFlow(ctx context.Context, id FlowID) (*FlowResult, error) {
	f, err := b.store.Flow(ctx, id)
	if err != nil {
		return nil, err
	}
	ended := f.Status == FlowSucceeded || f.Status == FlowFailed
	if !ended || f.ConsumedAt.IsZero() || b.Now().Sub(f.ConsumedAt) > resultShown {
		return nil, ErrNotFound
	}
	s := b.snapshot.Load()
	out := &FlowResult{Flow: f.ID, Connection: f.Connection, Status: f.Status, Code: f.Code}
	var known bool
	if out.Integration, known = s.integrations[f.Integration]; !known {
		return nil, ErrNotFound
	}
	if out.Environment, known = s.environments[f.Environment]; !known {
		return nil, ErrNotFound
	}
	if f.Session == "" {
		return out, nil
	}
	session, err := b.store.Session(ctx, f.Session)
	if errors.Is(err, ErrNotFound) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out.ReturnURL = session.ReturnURL
	return out, nil
}
