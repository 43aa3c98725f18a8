package broker

import (
	"context"
)

// ImportInput is a credential that the app's backend already has.
type ImportInput struct {
	Integration string
	Key         string // empty: the connection's id
	Name        string
	Material    *Material
	Config      map[string]any
	Metadata    []byte // a JSON object; nil: none
	Tags        map[string]string
	EndUser     *EndUser
	WebhookURL  string
	Unverified  bool // the provider is not asked whether the credential works
}

// Import stores a credential as a connection, and overwrites one of that key. A sign-in may come without a token: it gets
// one. Errors: not_found naming the integration,
// invalid_request for a credential of another kind, variable_invalid, connection_test_failed.
func (b *Broker) Import(ctx context.Context, who Actor, in ImportInput) (r *Revealed, created bool, err error) {
	if err := who.Allow(ScopeConnectionsCreate); err != nil {
		return nil, false, err
	}
	i, err := b.integration(who, in.Integration)
	if err != nil {
		return nil, false, err
	}
	m, err := b.importing(who, i, in)
	if err != nil {
		return nil, false, err
	}
	b.work.begin()
	defer b.work.done()
	ctx = context.WithoutCancel(ctx)
	if err := b.tryImported(ctx, m, in.Unverified); err != nil {
		return nil, false, err
	}
	c, replaced, err := b.keepGrant(ctx, m)
	if err != nil {
		return nil, false, err
	}
	r, err = b.revealed(who, c, i, nil)
	if err != nil {
		return nil, false, err
	}
	r.Material, r.Config = m.material, m.config
	return r, !replaced, nil
}

// tryImported finds out whether an imported credential works. One that tokens are made of, and that comes without any, gets
// its first as if an end user had just typed it in.
func (b *Broker) tryImported(ctx context.Context, m *making, unverified bool) error {
	asking, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	s, typed := m.provider.(Submitter)
	if _, renewed := m.provider.(Renewer); typed && renewed && m.material.Access.IsZero() {
		if unverified && !m.facts.OnDemand {
			m.material.ExpiresAt = b.Now() // it gets its first when somebody needs it
			return nil
		}
		got, err := s.Submit(asking, m.holding(), m.material.Details)
		if err != nil {
			return inSection(refusal(err), CredentialField)
		}
		m.take(got)
	}
	v, ok := m.provider.(Verifier)
	if !ok || m.facts.Interactive || unverified {
		return nil
	}
	if _, err := v.Verify(asking, m.holding()); err != nil {
		return refusal(err)
	}
	return nil
}

// importing checks what is imported.
func (b *Broker) importing(who Actor, i *Integration, in ImportInput) (*making, error) {
	m, err := b.newMaking(who, i)
	if err != nil {
		return nil, err
	}
	if in.Material == nil || in.Material.Type != m.facts.CredentialType {
		return nil, ErrInvalidRequest.Saying("this integration takes credentials of type " + m.facts.CredentialType).On("credentials.type")
	}
	if err := m.provider.CheckMaterial(in.Material); err != nil {
		return nil, inSection(err, CredentialField)
	}
	tags, err := ValidateTags(in.Tags)
	if err != nil {
		return nil, err
	}
	if err := b.checkReceiver(in.WebhookURL, fieldOverride); err != nil {
		return nil, err
	}
	probe := &Connection{ID: "-", Environment: i.Environment, Integration: i.ID, Key: in.Key, Name: in.Name, EndUser: in.EndUser}
	if probe.Key == "" {
		probe.Key = "-"
	}
	if err := probe.Validate(); err != nil {
		return nil, err
	}
	declared := make(map[string]string)
	for k, v := range in.Config {
		if s, ok := v.(string); ok {
			declared[k] = s
		}
	}
	if _, err := m.provider.CheckConfig(declared, m.client, true); err != nil {
		return nil, inSection(err, ConfigField)
	}
	m.material, m.config, m.key, m.upsert, m.accountFree = in.Material, in.Config, in.Key, true, true
	m.asked = nil // whatever was, it was not by us
	if m.config == nil {
		m.config = map[string]any{}
	}
	m.set = func(c *Connection) {
		c.Metadata, c.Tags, c.WebhookURL, c.Account, c.AccountHash = in.Metadata, tags, in.WebhookURL, nil, nil
		if in.EndUser != nil {
			c.EndUser = in.EndUser
		}
		if in.Name != "" {
			c.Name = in.Name
		}
	}
	return m, nil
}
