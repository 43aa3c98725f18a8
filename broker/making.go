package broker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// aftercare is how long the calls may take that come after a grant: which account is it, which host serves it.
const aftercare = 10 * time.Second

// making is a grant on its way to becoming a connection.
type making struct {
	who         Actor
	integration *Integration
	provider    Provider
	facts       *Facts
	client      *Client
	material    *Material
	config      map[string]any // all of it, secret fields too
	account     string
	asked       []string
	session     *Session // nil: none
	flow        *Flow    // nil: none
	reconnect   ConnectionID
	key         string              // of a new connection; empty: its id
	upsert      bool                // an existing connection of that key is overwritten
	set         func(c *Connection) // what else goes onto the connection
	accountFree bool                // a reconnect may end in another account
}

// newMaking collects what every grant of an integration needs.
func (b *Broker) newMaking(who Actor, i *Integration) (*making, error) {
	p, ok := b.catalogue.Provider(i.Provider)
	if !ok {
		return nil, ErrNotSupported.Saying("the provider left the catalogue")
	}
	f := p.Facts()
	if !f.Usable {
		return nil, ErrNotSupported.Saying(f.UnusableReason)
	}
	client, err := b.client(i)
	if err != nil {
		return nil, err
	}
	return &making{who: who, integration: i, provider: p, facts: f, client: client, asked: i.Scopes}, nil
}

// holding is the grant as its provider sees it.
func (m *making) holding() *Holding {
	config := make(map[string]string, len(m.config))
	for k, v := range m.config {
		if s, ok := v.(string); ok {
			config[k] = s
		}
	}
	return &Holding{Client: m.client, Config: config, Material: m.material}
}

// complete asks what has to be known of a fresh grant. A provider that does not say keeps nobody from connecting.
func (b *Broker) complete(ctx context.Context, m *making) {
	ctx, cancel := context.WithTimeout(ctx, aftercare)
	defer cancel()
	if p, ok := m.provider.(Completer); ok {
		more, err := p.Complete(ctx, m.holding())
		b.noteAftercare(ctx, m, "complete", err)
		for k, v := range more {
			m.config[k] = v
		}
	}
	if p, ok := m.provider.(Identifier); ok && m.account == "" {
		account, err := p.Identify(ctx, m.holding())
		b.noteAftercare(ctx, m, "identify", err)
		m.account = account
	}
}

func (b *Broker) noteAftercare(ctx context.Context, m *making, what string, err error) {
	if err != nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "the provider did not say more about a new connection",
			slog.String("asked", what), slog.String("integration", m.integration.Key), slog.String("code", asProviderError(err).Code))
	}
}

// accountHash finds other grants of the same account and client. E-mail addresses are the same in any case.
func (b *Broker) accountHash(f *Facts, i *Integration, account string) []byte {
	if account == "" {
		return nil
	}
	if strings.ContainsRune(account, '@') {
		account = strings.ToLower(account)
	}
	sum := b.sealer.MAC(labelAccount, place{column: f.TokenOrigin, row: i.ClientID, origin: account}.bytes())
	return sum[:]
}

// setAccount notes which account a connection is of; empty: it is unknown.
func (b *Broker) setAccount(c *Connection, account string) (err error) {
	c.AccountHash, c.Account = nil, nil
	i, f, err := b.IntegrationOf(c)
	if err != nil || f == nil || account == "" {
		return err
	}
	c.AccountHash = b.accountHash(f, i, account)
	c.Account, err = b.seal(accountPlace(c), NewSecret(account))
	return err
}

// grantHash finds other connections of the integration on the same grant, which is known by the token that it came with:
// the refresh token or, where there is none, the access token. Renewals leave it alone. Whatever a provider rotates, it is
// the same grant, and what was handed out last would have to be indexed anew each time.
func (b *Broker) grantHash(m *making) []byte {
	token := m.material.Refresh
	if token.IsZero() {
		token = m.material.Access
	}
	if token.IsZero() {
		return nil
	}
	sum := b.sealer.MAC(labelGrant, place{environment: m.integration.Environment, row: string(m.integration.ID), origin: token.Reveal()}.bytes())
	return sum[:16] // it names no account and opens nothing: that no two grants share it is all that is asked
}

// keepGrant commits the grant. A renewal or another change that comes in between makes it start over from what is there.
func (b *Broker) keepGrant(ctx context.Context, m *making) (*Connection, bool, error) {
	for attempt := 0; ; attempt++ {
		old, version, err := b.existing(ctx, m)
		if err != nil {
			return nil, false, err
		}
		c, g, err := b.grant(m, old, version)
		if err != nil {
			return nil, false, err
		}
		err = b.cache.writing(c.Integration, c.Key, func() error { return b.store.PutGrant(ctx, g) })
		if err == nil {
			b.rouse()
			b.rouseCourier(g.Trail)
			return c, old != nil && old.Status != Pending, nil
		}
		if !errors.Is(err, ErrConflict) || attempt == 5 || (old == nil && !m.upsert) {
			return nil, false, err
		}
	}
}

// existing finds the connection that the grant is for, with its credential's version; nil: a new one.
func (b *Broker) existing(ctx context.Context, m *making) (*Connection, int64, error) {
	var c *Connection
	var err error
	switch {
	case m.reconnect != "":
		c, err = b.store.Connection(ctx, m.integration.Environment, m.reconnect)
	case m.upsert && m.key != "":
		c, err = b.store.ConnectionByKey(ctx, m.integration.ID, m.key)
		if errors.Is(err, ErrNotFound) {
			return nil, 0, nil
		}
	default:
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, onConnection(err)
	}
	if c.Integration != m.integration.ID {
		return nil, 0, ErrNotFound.On("connection")
	}
	cred, err := b.store.Credential(ctx, c.ID)
	if errors.Is(err, ErrNotFound) {
		return c, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	return c, cred.Version, nil
}

// grant makes the rows.
func (b *Broker) grant(m *making, old *Connection, version int64) (*Connection, *Grant, error) {
	now := b.Now()
	c := &Connection{
		ID: ConnectionID(uuid.NewString()), Environment: m.integration.Environment, Integration: m.integration.ID, Key: m.key, CreatedAt: now,
	}
	kind, action := EventConnected, "connection.create"
	if old != nil {
		was := *old
		c = &was
		if old.Status != Pending {
			kind, action = EventReconnected, "connection.reauthorize"
		}
	}
	if c.Key == "" {
		c.Key = string(c.ID)
	}
	hash := b.accountHash(m.facts, m.integration, m.account)
	if old != nil && len(old.AccountHash) > 0 && !slices.Equal(old.AccountHash, hash) && !m.accountFree {
		if len(hash) == 0 {
			return nil, nil, ErrExchangeFailed.Saying("the provider did not say which account this is; please try again")
		}
		return nil, nil, ErrAccountMismatch
	}
	c.heal()
	c.UpdatedAt, c.AuthorizedAt, c.AskedScopes, c.Scopes = now, now, m.asked, m.material.Scopes
	if m.set != nil {
		m.set(c)
	}
	config := splitConfig(m.facts, m.config, m.material)
	var err error
	if c.Config, err = encodeObject(config); err != nil {
		return nil, nil, err
	}
	c.GrantHash = b.grantHash(m)
	if err := b.setAccount(c, m.account); err != nil {
		return nil, nil, err
	}
	cred, err := b.sealMaterial(c.Environment, c.ID, version+1, m.origins(c), m.material)
	if err != nil {
		return nil, nil, err
	}
	r, ok := m.provider.(Renewer)
	renewable := ok && r.Renewable(m.material)
	schedule(m.facts, cred, renewable)
	if c.EndsAt = cred.ExpiresAt; renewable {
		c.EndsAt = time.Time{}
	}
	e := b.event(kind, c, "")
	g := &Grant{Connection: c, Credential: cred, New: old == nil, From: version, Trail: Trail{
		Audit: []AuditEntry{b.line(m.who, action, string(c.ID))}, Events: []Event{e}, Deliveries: b.tellGranted(&e, c, m.session),
	}}
	if old == nil || !old.DuplicateGrant || !slices.Equal(old.GrantHash, c.GrantHash) { // or it is known
		g.DuplicateTrail = b.audited(m.who, "connection.duplicate_grant", string(c.ID))
		g.DuplicateTrail.Events = []Event{b.event(EventDuplicateGrant, c, "")}
	}
	if m.flow != nil {
		g.Flow = m.flow.ID
	}
	if m.session != nil {
		g.Session = m.session.ID
	}
	return c, g, nil
}

// origins are those of the grant as it is stored with the connection.
func (m *making) origins(c *Connection) string {
	return originsOf(m.provider, &Holding{Client: m.client, Config: configValues(c.Config, m.material.Details), Material: m.material})
}

func accountPlace(c *Connection) place {
	return place{environment: c.Environment, column: columnAccount, row: string(c.ID)}
}

// Account gives the provider's name for the connected account; empty: unknown.
func (b *Broker) Account(c *Connection) (string, error) {
	s, err := b.open(accountPlace(c), c.Account)
	return s.Reveal(), err
}

// discard ends a grant that must not become a connection. It is sealed under an id of its own, which no connection has.
func (b *Broker) discard(ctx context.Context, m *making) error {
	now := b.Now()
	c := &Connection{ID: ConnectionID(uuid.NewString()), Environment: m.integration.Environment, Integration: m.integration.ID}
	config := splitConfig(m.facts, m.config, m.material)
	var err error
	if c.Config, err = encodeObject(config); err != nil {
		return err
	}
	c.AccountHash = b.accountHash(m.facts, m.integration, m.account)
	cred, err := b.sealMaterial(c.Environment, c.ID, 1, m.origins(c), m.material)
	if err != nil {
		return err
	}
	return b.store.AddRevocation(ctx, orphan(c, cred, now), b.audited(m.who, "grant.discard", string(c.ID)))
}
