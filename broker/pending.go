package broker

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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
	return b.propose(ctx, who, p, b.store.CreatePending)
}

func (b *Broker) propose(ctx context.Context, who Actor, p Proposal, create func(context.Context, *Connection, Trail) error) (*Connection, *Session, Secret, error) {
	c, err := b.proposed(who, p)
	if err != nil {
		return nil, nil, Secret{}, err
	}
	// What the session refuses is refused before there is a row.
	if env, err := b.Environment(who); err != nil || p.ReturnURL != "" && !ReturnURLAllowed(p.ReturnURL, env.ReturnURLs) {
		return nil, nil, Secret{}, orElse(err, ErrReturnURLRefused.On("return_url"))
	}
	if err := create(ctx, c, b.audited(who, "connection.propose", string(c.ID))); err != nil {
		return nil, nil, Secret{}, err
	}
	s, token, err := b.CreateSession(ctx, who, p.session(c))
	return c, s, token, err
}

// session is what the connection is authorized in.
func (p *Proposal) session(c *Connection) SessionInput {
	return SessionInput{
		EndUser: p.EndUser, Tags: p.Tags, ReturnURL: p.ReturnURL, Landing: p.Landing, Lifetime: p.Lifetime,
		Reconnect: &ConnectionRef{ID: c.ID},
	}
}

// ProposeOnce proposes the one connection that an integration has for the app itself, without an end user. One that does not
// work, or waits for its first success, is to be authorized again, and gets the proposal's name when it is; known tells that
// it was there. Errors: those of Propose; conflict naming the connection, where one works.
func (b *Broker) ProposeOnce(ctx context.Context, who Actor, p Proposal) (c *Connection, known bool, token Secret, err error) {
	if err := who.Allow(ScopeSessionsWrite); err != nil {
		return nil, false, Secret{}, err
	}
	p.EndUser = nil
	i, err := b.integration(who, p.Integration)
	if err != nil {
		return nil, false, Secret{}, err
	}
	old, err := b.appsOwn(ctx, i)
	if err == nil && old == nil {
		c, _, token, err = b.propose(ctx, who, p, b.store.CreateOnly)
		if !errors.Is(err, ErrConflict) {
			return c, false, token, err
		}
		old, err = b.appsOwn(ctx, i) // somebody asked at the same time
	}
	switch {
	case err != nil:
		return nil, false, Secret{}, err
	case old == nil:
		return nil, false, Secret{}, ErrConflict.On("connection").Saying("somebody makes and ends this connection at the same time")
	case old.Status == Active:
		return nil, true, Secret{}, ErrConflict.On("connection").Saying("the connection works; end it before it is authorized anew")
	}
	if _, err := b.proposed(who, p); err != nil { // whatever keeps a new one from being authorized
		return nil, true, Secret{}, err
	}
	in := p.session(old)
	in.ConnectionName = p.Name
	_, token, err = b.CreateSession(ctx, who, in)
	return old, true, token, err
}

// appsOwn finds the connection that an integration has without an end user: of several one that works, else the newest that
// ever did, else the newest. nil: there is none.
func (b *Broker) appsOwn(ctx context.Context, i *Integration) (*Connection, error) {
	f := ConnectionFilter{
		Environment: i.Environment, Integrations: []IntegrationID{i.ID}, Unowned: true, IncludePending: true, Limit: 1,
	}
	for _, f.Statuses = range [][]Status{{Active}, {Failing, Expired, Disconnected}, {Pending}} {
		if list, err := b.listed(ctx, f); err != nil || len(list) > 0 {
			return first(list), err
		}
	}
	return nil, nil //nolint:nilnil // "none" is an answer, not a failure
}

func first(list []*Connection) *Connection {
	if len(list) == 0 {
		return nil
	}
	return list[0]
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
	if err := m.hasClient(); err != nil {
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

// validName checks what people call a connection.
func validName(name string) error {
	if utf8.RuneCountInString(name) > maxKey || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return ErrInvalidRequest.Saying("a connection's name has at most 255 characters, and no control characters").On("name")
	}
	return nil
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
	Landing     string       // the page that the browser was sent on to
	Missing     []string     // scopes that were asked for and not granted
	Pending     bool         // as in [Outcome]
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
	out := &FlowResult{Flow: f.ID, Connection: f.Connection, Status: f.Status, Code: f.Code, Landing: f.Landing}
	if f.Status == FlowSucceeded {
		if c, err := b.store.Connection(ctx, f.Environment, f.Connection); err == nil {
			out.Missing, out.Pending = c.MissingScopes(), b.awaitsInstallation(c)
		}
	}
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
