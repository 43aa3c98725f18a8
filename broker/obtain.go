package broker

import (
	"context"
	"errors"
	"strings"
)

// ObtainInput is what a program has got of a provider, or of an end user, for one connection: exactly one of a code, a
// refresh token, a credential or fields.
type ObtainInput struct {
	Integration  string // its key or public name
	Code         string // an authorization code, obtained with one of our redirect URIs
	Verifier     string // its PKCE verifier; empty: it was asked for without
	Nonce        string // of its OpenID request; empty: none
	RedirectURI  string // that it was obtained with; empty: the public URL with [SecondCallbackPath]
	RefreshToken Secret
	Material     *Material
	Fields       map[string]string // as in [ConnectInput]: credentials that an end user would type, and connection config
}

// Obtain makes the connection that the actor has of an integration, or replaces its grant. Nothing is stored of what the
// provider refuses. Errors: those of OwnConnection, but that there is no connection yet; invalid_request; variable_invalid
// naming the field; exchange_failed; connection_test_failed; provider_unavailable and its kin; account_mismatch.
func (b *Broker) Obtain(ctx context.Context, who Actor, in ObtainInput) (*Outcome, error) {
	o, err := b.ownerOf(ctx, who, ScopeConnectionsCreate)
	if err != nil {
		return nil, err
	}
	i, err := b.ownIntegration(who, o, in.Integration)
	if err != nil {
		return nil, err
	}
	c, err := b.obtaining(ctx, who, o, i)
	if err != nil {
		return nil, err
	}
	if err := c.making.takes(in); err != nil {
		return nil, err
	}
	if err := b.replaceOwn(ctx, c.making, o); err != nil {
		return nil, err
	}
	typed, err := c.fill(ConnectInput{Fields: in.Fields, Blank: true})
	if err != nil {
		return nil, err
	}
	b.work.begin()
	defer b.work.done()
	ctx = context.WithoutCancel(ctx) // what the provider issues must be kept
	switch {
	case in.Code != "":
		return b.obtainByCode(ctx, c, in)
	case !in.RefreshToken.IsZero():
		return b.obtainByRefreshToken(ctx, c, in)
	case in.Material != nil:
		return b.obtainMaterial(ctx, c, in.Material)
	}
	submitter, ok := c.making.provider.(Submitter)
	if !ok {
		return nil, ErrNotSupported
	}
	return b.submit(ctx, c, submitter, typed)
}

// takes refuses what the provider has no use for, before anything else is found wrong with it.
func (m *making) takes(in ObtainInput) error {
	_, authorizes := m.provider.(Authorizer)
	_, prepared := m.provider.(Preparer)
	_, submits := m.provider.(Submitter)
	switch {
	case in.Code != "":
		if _, discovers := m.provider.(Discoverer); !authorizes || prepared || discovers || m.facts.installs() || !m.facts.Interactive {
			return ErrInvalidRequest.On("code").Saying("this provider has no authorization codes")
		}
	case !in.RefreshToken.IsZero():
		if r, ok := m.provider.(Renewer); !ok || !r.Renewable(&Material{Type: m.facts.CredentialType, Refresh: in.RefreshToken}) {
			return ErrInvalidRequest.On("refresh_token").Saying("this provider has no refresh tokens")
		}
	case in.Material != nil:
		if in.Material.Type != m.facts.CredentialType {
			return ErrInvalidRequest.On("credentials").Saying("this integration takes credentials of type " + m.facts.CredentialType)
		}
	case !submits || m.facts.Interactive:
		return ErrInvalidRequest.Saying("this provider takes a code, a refresh token or an access token")
	}
	return nil
}

// obtaining prepares for a grant that no flow gets.
func (b *Broker) obtaining(ctx context.Context, who Actor, o *owner, i *Integration) (*connecting, error) {
	if o.session != nil {
		return b.connecting(ctx, who, i.Key)
	}
	m, err := b.newMaking(who, i)
	if err != nil {
		return nil, err
	}
	m.set = func(c *Connection) {
		if o.id != "" && (c.EndUser == nil || c.EndUser.ID != o.id) {
			c.EndUser = &EndUser{ID: o.id}
		}
	}
	env, err := b.Environment(who)
	return &connecting{environment: env, making: m}, err
}

// obtainByCode exchanges a code.
func (b *Broker) obtainByCode(ctx context.Context, c *connecting, in ObtainInput) (*Outcome, error) {
	a, ok := c.making.provider.(Authorizer)
	if !ok {
		return nil, ErrNotSupported
	}
	if len(in.Code) > maxCode || strings.ContainsFunc(in.Code+in.Verifier, unprintable) {
		return nil, ErrInvalidRequest.On("code").Saying("this cannot be an authorization code")
	}
	redirect := in.RedirectURI
	switch {
	case redirect == "":
		redirect = b.redirectURI(c.making.facts, c.making.integration, SecondCallbackPath)
	case redirect != b.redirectURI(c.making.facts, c.making.integration, "") &&
		redirect != b.redirectURI(c.making.facts, c.making.integration, SecondCallbackPath):
		return nil, ErrInvalidRequest.On("redirect_uri").Saying("codes are taken that were obtained with one of our own redirect URIs")
	}
	m := c.making
	asking, cancel := context.WithTimeout(ctx, providerTimeout)
	got, err := a.Exchange(asking, &ExchangeRequest{
		Client: m.client, Config: m.holding().Config, RedirectURI: redirect, Code: in.Code, Verifier: in.Verifier, Nonce: in.Nonce,
	})
	cancel()
	if err != nil {
		return nil, ErrExchangeFailed.Because(err)
	}
	m.take(got)
	m.grantedAsAsked()
	return b.keepObtained(ctx, c)
}

func unprintable(r rune) bool { return r < '!' || r > '~' }

// obtainByRefreshToken spends a refresh token that the app has kept until now.
func (b *Broker) obtainByRefreshToken(ctx context.Context, c *connecting, in ObtainInput) (*Outcome, error) {
	m := c.making
	r, ok := m.provider.(Renewer)
	if !ok {
		return nil, ErrNotSupported
	}
	m.material = &Material{Type: m.facts.CredentialType, Refresh: in.RefreshToken}
	if strings.ContainsFunc(in.RefreshToken.Reveal(), unprintable) {
		return nil, ErrInvalidRequest.On("refresh_token").Saying("this cannot be a refresh token")
	}
	asking, cancel := context.WithTimeout(ctx, providerTimeout)
	got, err := r.Renew(asking, m.holding())
	cancel()
	if err != nil {
		return nil, refusal(err)
	}
	got.Material = merge(m.material, got.Material)
	m.take(got)
	return b.keepObtained(ctx, c)
}

// obtainMaterial takes a credential as it is, if the provider does not refuse it.
func (b *Broker) obtainMaterial(ctx context.Context, c *connecting, material *Material) (*Outcome, error) {
	m := c.making
	if err := m.provider.CheckMaterial(material); err != nil {
		return nil, inSection(err, CredentialField)
	}
	m.material = material
	if v, ok := m.provider.(Verifier); ok {
		asking, cancel := context.WithTimeout(ctx, providerTimeout)
		_, err := v.Verify(asking, m.holding())
		cancel()
		if err != nil {
			return nil, refusal(err)
		}
	}
	return b.keepObtained(ctx, c)
}

// keepObtained stores a grant, or lets it end with the provider.
func (b *Broker) keepObtained(ctx context.Context, c *connecting) (*Outcome, error) {
	b.complete(ctx, c.making)
	conn, reconnected, err := b.keepGrant(ctx, c.making)
	switch {
	case err == nil:
		return c.outcome(conn, reconnected), nil
	case errors.Is(err, ErrStorageBusy), errors.Is(err, ErrStorageUnavailable):
		return nil, err // the sealed revocation could not be stored either
	}
	return nil, errors.Join(err, b.discard(ctx, c.making))
}
