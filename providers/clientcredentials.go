package providers

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2/clientcredentials"

	"github.com/coatcheck/coatcheck/broker"
)

// clientCredentials gets its tokens for a client alone (RFC 6749 section 4.4). The client is the end user's own; where they
// give none it is the integration's.
type clientCredentials struct{ base }

// assumedLifetime is how long a token lasts where neither the answer nor the entry says: another one costs one request.
const assumedLifetime = 55 * time.Minute

// Submit asks for a first token with the typed client.
func (p *clientCredentials) Submit(ctx context.Context, h *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	details := map[string]broker.Secret{}
	for _, f := range p.spec.fields {
		if f.Section != broker.CredentialField || f.Automated {
			continue
		}
		v := fields[f.Name]
		fallback := h.Client != nil && h.Client.ID != "" && slices.Contains([]string{"client_id", "client_secret", "client_private_key"}, f.Name)
		if v.IsZero() && fallback {
			continue
		}
		if err := f.checkCredential(v); err != nil {
			return nil, err
		}
		if !v.IsZero() {
			details[f.Name] = v
		}
	}
	return p.ask(ctx, &broker.Holding{
		Client: h.Client, Config: h.Config, Material: &broker.Material{Type: p.spec.facts.CredentialType, Details: details},
	})
}

// Renewable reports whether there is a client to ask with.
func (p *clientCredentials) Renewable(*broker.Material) bool { return true }

// Endpoint names the token endpoint's host; empty: connection config that it needs is missing.
func (p *clientCredentials) Endpoint(h *broker.Holding) string {
	return p.endpointHost(p.spec.token, h)
}

// Renew asks for another token, once.
func (p *clientCredentials) Renew(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	got, err := p.ask(ctx, h)
	if err != nil {
		return nil, asFailure(err)
	}
	got.Config = nil
	return got, nil
}

// ask sends the request for a token.
func (p *clientCredentials) ask(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	client := p.client(h)
	if client == nil || client.ID == "" {
		return nil, invalid("client_id", "is missing")
	}
	sc := p.scope(h)
	sc.bare = true
	params, err := fillAll(p.spec.tokenParams, sc)
	if err != nil {
		return nil, err
	}
	cfg, call, err := p.request(p.spec.token, client, sc)
	if err != nil {
		return nil, err
	}
	if call.cert, err = p.certificate(h); err != nil {
		return nil, err
	}
	call.params["grant_type"] = nil // only what the entry names: some servers have other words for it, or none
	for _, x := range params {
		call.params.Set(x.Key, x.Value)
	}
	if scopes := p.scopes(h); scopes != "" {
		call.params.Set("scope", scopes)
	}
	cc := clientcredentials.Config{
		ClientID: cfg.ClientID, ClientSecret: cfg.ClientSecret, TokenURL: cfg.Endpoint.TokenURL, AuthStyle: cfg.Endpoint.AuthStyle,
	}
	p.adapt(&cc, call, client)
	_, _ = cc.Token(call.context(ctx))
	t, err := p.result(call, client.Secret.Reveal())
	if err != nil {
		return nil, p.ofOwnClient(err, h)
	}
	m := p.material(t, h.Material)
	if m.ExpiresAt.IsZero() {
		m.ExpiresAt = p.assumedEnd()
	}
	return &broker.Obtained{Material: m, Config: p.metadata(t, client)}, nil
}

// adapt does what is particular to this grant: with "basic" the client is in the header alone, with "custom" its parameters
// have other names.
func (p *clientCredentials) adapt(cc *clientcredentials.Config, call *tokenCall, client *broker.Client) {
	switch {
	case p.spec.tokenAuth.rawBasic:
		cc.ClientID, cc.ClientSecret = "", ""
	case p.spec.tokenAuth.custom:
		call.params.Set("username", client.ID)
		call.params.Set("password", client.Secret.Reveal())
		cc.ClientID, cc.ClientSecret = "", ""
	}
}

// scopes are the connection's, or else the integration's.
func (p *clientCredentials) scopes(h *broker.Holding) string {
	separator := p.spec.entry.ScopeSeparator
	if separator == "" {
		separator = " "
	}
	if own := h.Config["oauth_scopes"]; own != "" {
		return strings.Join(strings.Split(own, ","), separator)
	}
	if h.Client == nil {
		return ""
	}
	return strings.Join(h.Client.Scopes, separator)
}

// ofOwnClient makes the refusal of an end user's own client a matter of that connection: the integration is not to blame.
func (p *clientCredentials) ofOwnClient(err error, h *broker.Holding) error {
	var failure *broker.ProviderError
	if errors.As(err, &failure) && failure.Class == broker.ClientRefused && !h.Material.Details["client_id"].IsZero() {
		failure.Class = broker.GrantLost
	}
	return err
}

// assumedEnd is when a token runs out whose answer does not say; zero: never.
func (p *clientCredentials) assumedEnd() time.Time {
	switch life := p.spec.entry.AccessTokenLifetime; life {
	case "never":
		return time.Time{}
	case "", "unknown", "configurable":
		return p.now().Add(assumedLifetime)
	default:
		seconds, err := strconv.Atoi(life)
		if err != nil {
			return time.Time{}
		}
		return p.now().Add(time.Duration(seconds) * time.Second)
	}
}

// CheckMaterial refuses what cannot be a token.
func (p *clientCredentials) CheckMaterial(m *broker.Material) error {
	return checkToken(m.Access, "token")
}
