package broker

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
)

// An owner is on whose behalf somebody asks for connections without naming one: the end user of a connect session, or the
// one whom the app's backend names. The backend that names nobody is the superuser. An integration that is shared has one
// connection for all; of every other each owner has one.
type owner struct {
	id      string // empty: the superuser
	session *Session
}

// ownerOf tells on whose behalf the actor asks. Scopes bind API keys alone.
func (b *Broker) ownerOf(ctx context.Context, who Actor, scopes ...Scope) (*owner, error) {
	if who.Kind != BySession {
		return &owner{id: who.Owner}, who.Allow(scopes...)
	}
	s, err := b.Session(ctx, who)
	if err != nil {
		return nil, err
	}
	if s.EndUser == nil || s.EndUser.ID == "" {
		return nil, ErrUserMismatch.Saying("the connect session names no end user, so nothing belongs to it")
	}
	return &owner{s.EndUser.ID, s}, nil
}

// integrationPrefix stands before an integration's id in APIs that tell ids from keys.
const integrationPrefix = "integration-"

// ownIntegration finds an integration by its key or its id, as far as the owner may know it.
func (b *Broker) ownIntegration(who Actor, o *owner, name string) (*Integration, error) {
	i, err := b.integration(who, name)
	if err != nil {
		id, prefixed := strings.CutPrefix(name, integrationPrefix)
		byID, ok := b.snapshot.Load().integrations[IntegrationID(id)]
		if !ok || !prefixed || byID.Environment != who.Environment || !byID.DeletedAt.IsZero() {
			return nil, err
		}
		i = byID
	}
	if o.session != nil && !o.session.Allows(i.Key) {
		return nil, ErrIntegrationRefused
	}
	if o.id == "" && !i.Shared {
		return nil, ErrInvalidRequest.On("owner").Saying("of this integration each user has a connection; say whose is meant")
	}
	return i, nil
}

// PublicName is the integration's id in APIs that tell ids from keys.
func (i *Integration) PublicName() string { return integrationPrefix + string(i.ID) }

// ownOf finds what the owner has of an integration: of several, which other APIs can make, the newest that works. nil:
// nothing.
func (b *Broker) ownOf(ctx context.Context, o *owner, i *Integration) (*Connection, error) {
	f := ConnectionFilter{Environment: i.Environment, Integrations: []IntegrationID{i.ID}, IncludePending: true}
	if !i.Shared {
		f.EndUser = o.id
	}
	list, err := b.listed(ctx, f)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	rank := map[Status]int{Active: 0, Failing: 1, Expired: 2, Disconnected: 3, Pending: 4}
	return slices.MinFunc(list, func(x, y *Connection) int { return cmp.Compare(rank[x.Status], rank[y.Status]) }), nil
}

// ownConnection finds what the actor has of an integration.
func (b *Broker) ownConnection(ctx context.Context, who Actor, name string, scopes ...Scope) (*owner, *Connection, *Integration, error) {
	o, err := b.ownerOf(ctx, who, scopes...)
	if err != nil {
		return nil, nil, nil, err
	}
	i, err := b.ownIntegration(who, o, name)
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := b.ownOf(ctx, o, i)
	if err == nil && c == nil {
		err = ErrNotFound.On("connection").Saying("there is no connection of this integration")
	}
	return o, c, i, err
}

// OwnConnection gives what the actor has of the integration of that key or public name. Errors: not_found naming integration
// or connection; integration_not_allowed; user_mismatch for a session without an end user; invalid_request where the
// backend has to say whose connection it means.
func (b *Broker) OwnConnection(ctx context.Context, who Actor, integration string) (*Connection, *Integration, error) {
	_, c, i, err := b.ownConnection(ctx, who, integration, ScopeConnectionsRead, ScopeCredentialsRead)
	return c, i, err
}

// OwnOutbound gives the way out of what the actor has of an integration. Errors: those of OwnConnection and Outbound.
func (b *Broker) OwnOutbound(ctx context.Context, who Actor, integration string) (*Outbound, error) {
	_, c, i, err := b.ownConnection(ctx, who, integration, ScopeProxy)
	if err != nil {
		return nil, err
	}
	return b.outbound(ctx, who.Environment, i.Key, c.Key)
}

// Disconnect deletes what the actor has of an integration. A shared connection can be ended by whoever made it, and by the
// superuser. Errors: those of OwnConnection; user_mismatch.
func (b *Broker) Disconnect(ctx context.Context, who Actor, integration string) error {
	o, c, _, err := b.ownConnection(ctx, who, integration, ScopeConnectionsDelete)
	if err != nil {
		return err
	}
	if o.id != "" && (c.EndUser == nil || c.EndUser.ID != o.id) {
		return ErrUserMismatch
	}
	return b.removeConnection(ctx, who, c)
}

// OwnConnections lists the actor's connections, newest first, and those of shared integrations, from the offset on; the
// superuser gets everybody's. total counts all there are.
func (b *Broker) OwnConnections(ctx context.Context, who Actor, offset, limit int) (list []*Connection, total int, err error) {
	o, err := b.ownerOf(ctx, who, ScopeConnectionsList, ScopeConnectionsListC)
	if err != nil {
		return nil, 0, err
	}
	f := ConnectionFilter{Environment: who.Environment, Offset: offset, Limit: limit, IncludePending: true}
	if o.id != "" {
		f.EndUser = o.id
		for _, i := range b.integrationsOf(who.Environment) {
			allowed := o.session == nil || o.session.Allows(i.Key)
			if allowed {
				f.Integrations = append(f.Integrations, i.ID)
			}
			if allowed && i.Shared {
				f.OrIntegrations = append(f.OrIntegrations, i.ID)
			}
		}
		if len(f.Integrations) == 0 {
			return nil, 0, nil
		}
	}
	if total, err = b.store.MatchingConnections(ctx, f); err != nil {
		return nil, 0, err
	}
	list, err = b.listed(ctx, f)
	return list, total, err
}

// OwnSession makes a connect session in which the end user whom the backend names connects an integration, or connects it
// again. Landing and callback are as in [Session]. Errors: those of OwnConnection, but that there is no connection yet;
// user_mismatch where somebody else connected a shared integration.
func (b *Broker) OwnSession(ctx context.Context, who Actor, integration, landing, callback string) (*Session, Secret, error) {
	o, err := b.ownerOf(ctx, who, ScopeSessionsWrite)
	if err != nil {
		return nil, Secret{}, err
	}
	i, err := b.ownIntegration(who, o, integration)
	if err != nil {
		return nil, Secret{}, err
	}
	in := SessionInput{Integrations: []string{i.Key}, Landing: landing, Callback: callback, Own: true}
	if o.id != "" {
		in.EndUser = &EndUser{ID: o.id}
	}
	m := &making{integration: i}
	if err := b.replaceOwn(ctx, m, o); err != nil {
		return nil, Secret{}, err
	}
	if m.reconnect != "" {
		in.Reconnect = &ConnectionRef{ID: m.reconnect}
	}
	return b.CreateSession(ctx, who, in)
}

// OwnIntegration gives the integration of that key or public name, as far as the actor may connect it.
func (b *Broker) OwnIntegration(ctx context.Context, who Actor, name string) (*Integration, *Facts, error) {
	o, err := b.ownerOf(ctx, who, ScopeConnectionsRead, ScopeSessionsWrite, ScopeConnectionsCreate)
	if err != nil {
		return nil, nil, err
	}
	i, err := b.ownIntegration(who, o, name)
	if err != nil {
		return nil, nil, err
	}
	return i, b.factsOf(i), nil
}

// own lets the grant replace what the session's end user has of the integration, where that is asked for. Without an end
// user there is nothing to replace but what all share: everybody else's would be found too.
func (b *Broker) own(ctx context.Context, c *connecting, in ConnectInput) error {
	if !in.Own && !c.session.Own || c.making.reconnect != "" {
		return nil
	}
	o := &owner{session: c.session}
	if c.session.EndUser != nil {
		o.id = c.session.EndUser.ID
	}
	if o.id == "" && !c.making.integration.Shared {
		return ErrUserMismatch.Saying("the connect session names no end user, so nothing belongs to it")
	}
	return b.replaceOwn(ctx, c.making, o)
}

// replaceOwn lets a grant replace what the owner has.
func (b *Broker) replaceOwn(ctx context.Context, m *making, o *owner) error {
	old, err := b.ownOf(ctx, o, m.integration)
	if err != nil || old == nil {
		return err
	}
	if o.id != "" && (old.EndUser == nil || old.EndUser.ID != o.id) {
		return ErrUserMismatch.Saying("somebody else connected this shared integration, and has to disconnect it first")
	}
	m.reconnect = old.ID
	return nil
}

// BaseURL is where the connection's API stands; nil: the entry has none, or it depends on what only its credential knows.
func (b *Broker) BaseURL(c *Connection) *url.URL {
	i, f, err := b.IntegrationOf(c)
	if err != nil || f == nil {
		return nil
	}
	p, ok := b.catalogue.Provider(i.Provider)
	client, err := b.client(i)
	if !ok || err != nil {
		return nil
	}
	presented, err := p.Present(&Holding{Client: client, Config: configValues(c.Config, nil), Material: &Material{Type: f.CredentialType}})
	if err != nil {
		return nil
	}
	return presented.BaseURL
}
