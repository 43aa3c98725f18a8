package broker

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// ReasonCheckFailed is why a connection is in error whose credential the provider refused, or did not confirm, when it
// was asked.
const ReasonCheckFailed = "check_failed"

// Health is what a provider says of a connection.
type Health struct {
	Connection *Connection // as it is afterwards
	// Failure is why it is not healthy; nil: it is. Of an *Error, Msg can be told; the cause may be a *ProviderError.
	Failure error
	At      time.Time
}

// VerifyConnection asks the provider whether the credential works, renewing it first where that is due, and notes the
// answer: a connection that fails is in error until it passes, is renewed or connected again. A pending one is not
// healthy, and nobody is asked. Errors: not_found; what keeps us from asking on our own side.
func (b *Broker) VerifyConnection(ctx context.Context, who Actor, ref ConnectionRef) (*Health, error) {
	if err := who.Allow(ScopeConnectionsUpdate); err != nil {
		return nil, err
	}
	c, i, err := b.lookUp(ctx, who, ref)
	if err != nil {
		return nil, err
	}
	if c.Status == Pending {
		return &Health{Connection: c, Failure: ErrConnectionPending, At: b.Now()}, nil
	}
	asked, failure := b.askHealth(context.WithoutCancel(ctx), c, i)
	if failure != nil && (AsError(failure).Kind == Internal || errors.Is(failure, ErrRenewalPaused)) {
		return nil, failure
	}
	var account string
	if failure == nil && len(c.Account) == 0 {
		account = b.whose(context.WithoutCancel(ctx), c, i, asked)
	}
	h := &Health{Failure: failure, At: b.Now()}
	h.Connection, err = b.noteHealth(context.WithoutCancel(ctx), who, c.ID, asked, account, failure)
	return h, err
}

// whose asks which account an imported connection is of; empty: the provider does not say.
func (b *Broker) whose(ctx context.Context, c *Connection, i *Integration, cred *Credential) string {
	m, err := b.newMaking(System(c.Environment), i)
	if err != nil || cred == nil {
		return ""
	}
	p, ok := m.provider.(Identifier)
	if !ok {
		return ""
	}
	if m.material, err = b.openMaterial(c.Environment, cred); err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, aftercare)
	defer cancel()
	account, err := p.Identify(ctx, &Holding{Client: m.client, Config: configValues(c.Config, m.material.Details), Material: m.material})
	b.noteAftercare(ctx, m, "identify", err)
	return account
}

// askHealth gives nil where the provider confirms the credential. asked is the credential that it was asked about. Where
// the entry knows no call that would tell, a renewal is one.
func (b *Broker) askHealth(ctx context.Context, c *Connection, i *Integration) (asked *Credential, failure error) {
	p, ok := b.catalogue.Provider(i.Provider)
	if !ok {
		return nil, ErrNotSupported.Saying("the provider left the catalogue")
	}
	cred, err := b.store.Credential(ctx, c.ID)
	if errors.Is(err, ErrNotFound) {
		return nil, ErrNeedsReauth
	}
	if err != nil {
		return nil, err
	}
	if cred, err = b.freshened(ctx, i, c, cred, RevealOptions{}); err != nil {
		return cred, err
	}
	renewer, renewable := p.(Renewer)
	if renewable {
		m, err := b.openMaterial(i.Environment, cred)
		if err != nil {
			return cred, err
		}
		renewable = renewer.Renewable(m)
	}
	if !renewable && cred.hasExpired(b.Now()) { // the provider may take it all the same, but we do not send it any more
		return cred, errRunOut
	}
	checked, err := b.verify(ctx, p, c, i, cred)
	refused := isRefusal(err)
	if !renewable || err == nil && checked || err != nil && !refused {
		return cred, err
	}
	fresh, err := b.renew(ctx, renewal{environment: c.Environment, connection: c.ID, than: cred.Version, why: rejected})
	if err != nil || !refused {
		return fresh, err
	}
	_, err = b.verify(ctx, p, c, i, fresh)
	return fresh, err
}

// errRunOut is the end of a credential.
var errRunOut = ErrNeedsReauth.Saying("the credential has expired and there is nothing to renew it with")

// codeOf names a failure as the provider did, or as we do where it did not say.
func codeOf(err error) string {
	var p *ProviderError
	if errors.As(err, &p) && p.Code != "" {
		return p.Code
	}
	return AsError(err).Code
}

// fail notes why a connection does not work.
func (c *Connection) fail(s Status, reason, id, code string, at time.Time) {
	c.Status, c.Reason, c.ErrorID, c.ErrorCode, c.ErrorAt = s, reason, id, code, at
}

// heal notes that it works.
func (c *Connection) heal() { c.fail(Active, "", "", "", time.Time{}) }

// current gives connections the status that they have by now: the end of a credential that nothing renews comes by itself,
// and is written down when somebody meets it.
func current(now time.Time, list ...*Connection) {
	for _, c := range list {
		if c.Status == Active && !c.EndsAt.IsZero() && !now.Before(c.EndsAt) {
			c.Status = Expired
		}
	}
}

// listed lists connections as they are by now.
func (b *Broker) listed(ctx context.Context, f ConnectionFilter) ([]*Connection, error) {
	f.AsOf = b.Now()
	list, err := b.store.Connections(ctx, f)
	current(f.AsOf, list...)
	return list, err
}

// isRefusal tells that the provider refused the credential from every other failure.
func isRefusal(err error) bool {
	var p *ProviderError
	return errors.As(err, &p) && p.Class == GrantLost
}

// verify asks the provider about the credential. Errors: connection_test_failed, misconfigured, provider_unavailable and
// its kin.
func (b *Broker) verify(ctx context.Context, p Provider, c *Connection, i *Integration, cred *Credential) (checked bool, err error) {
	v, ok := p.(Verifier)
	if !ok {
		return false, nil
	}
	client, err := b.client(i)
	if err != nil {
		return false, err
	}
	m, err := b.openMaterial(i.Environment, cred)
	if err != nil {
		return false, err
	}
	h := &Holding{Client: client, Config: configValues(c.Config, m.Details), Material: m}
	if originsOf(p, h) != cred.Origins {
		return false, errMoved
	}
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	checked, err = v.Verify(ctx, h)
	if err != nil {
		return checked, refusal(err)
	}
	return checked, nil
}

// noteHealth writes down what the provider said of a credential, unless the connection has another by now. It gives the
// connection as it is.
func (b *Broker) noteHealth(ctx context.Context, who Actor, id ConnectionID, asked *Credential, account string, failure error) (*Connection, error) {
	for attempt := 0; ; attempt++ {
		c, err := b.store.Connection(ctx, who.Environment, id)
		if err != nil {
			return nil, onConnection(err)
		}
		current(b.Now(), c)
		if asked != nil {
			now, err := b.store.Credential(ctx, id)
			if err != nil || now.Version > asked.Version {
				return c, onConnection(err)
			}
		}
		result := c.judged(failure, b.Now())
		if account != "" {
			if err := b.setAccount(c, account); err != nil {
				return nil, err
			}
		}
		line := b.line(who, "connection.verify", string(c.ID))
		line.Result = result
		b.cache.spoil(c.Integration, c.Key)
		err = b.store.UpdateConnections(ctx, []*Connection{c}, Trail{Audit: []AuditEntry{line}})
		if err == nil || !errors.Is(err, ErrConflict) || attempt == 10 {
			return c, onConnection(err)
		}
	}
}

// judged puts what a check came to into the connection. What another failure has said of it stays: that the API takes the
// token does not mean that it can be renewed.
func (c *Connection) judged(failure error, now time.Time) (result string) {
	c.UpdatedAt = now
	if failure == nil {
		c.VerifiedAt = now
		if c.Status == Failing && c.Reason == ReasonCheckFailed {
			c.heal()
		}
		return "ok"
	}
	if c.Status == Active {
		c.fail(Failing, ReasonCheckFailed, uuid.NewString(), codeOf(failure), now)
	}
	return AsError(failure).Code
}

// RefreshConnection renews a connection's credential now, whatever its age. A connection that fails is in error until it is
// renewed or connected again. Errors: not_found; connection_pending; not_supported where there is nothing to renew it with;
// *RefreshError.
func (b *Broker) RefreshConnection(ctx context.Context, who Actor, ref ConnectionRef) (*Connection, error) {
	if err := who.Allow(ScopeConnectionsUpdate); err != nil {
		return nil, err
	}
	c, i, err := b.lookUp(ctx, who, ref)
	if err != nil {
		return nil, err
	}
	if c.Status == Pending {
		return nil, ErrConnectionPending
	}
	cred, err := b.store.Credential(ctx, c.ID)
	if err != nil {
		return nil, onConnection(err)
	}
	fresh, err := b.freshened(ctx, i, c, cred, RevealOptions{ForceRefresh: true})
	var failed *RefreshError
	switch {
	case errors.As(err, &failed) && failed.Attempted && failed.Provider.Class != GrantLost: // that was noted
		_, noted := b.noteHealth(context.WithoutCancel(ctx), who, c.ID, cred, "", err)
		return nil, errors.Join(err, noted)
	case err != nil:
		return nil, err
	case fresh.Version == cred.Version:
		return nil, ErrNotSupported.Saying("this credential cannot be renewed")
	}
	if err := b.store.AppendTrail(ctx, b.audited(who, "connection.refresh", string(c.ID))); err != nil {
		return nil, err
	}
	return b.Connection(ctx, who.within(), ConnectionRef{ID: c.ID})
}

// within is the broker, going on with what the actor was allowed to begin.
func (a Actor) within() Actor { return System(a.Environment) }

// Lifetime says when a connection's credential was given and how long it lasts.
type Lifetime struct {
	ObtainedAt       time.Time
	RefreshedAt      time.Time
	ExpiresAt        time.Time // zero: unknown or never
	RefreshExpiresAt time.Time // likewise
}

// Lifetimes gives those of connections that the actor was already given. Those without a credential are left out.
func (b *Broker) Lifetimes(ctx context.Context, list []*Connection) (map[ConnectionID]Lifetime, error) {
	ids := make([]ConnectionID, len(list))
	for n, c := range list {
		ids[n] = c.ID
	}
	return b.store.Lifetimes(ctx, ids)
}

// SyncedAt is when the connection was last obtained, renewed or verified.
func (c *Connection) SyncedAt(l Lifetime) time.Time {
	at := c.AuthorizedAt
	for _, t := range []time.Time{c.VerifiedAt, l.RefreshedAt} {
		if t.After(at) {
			at = t
		}
	}
	return at
}
