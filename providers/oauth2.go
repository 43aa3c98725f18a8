package providers

import (
	"context"
	"maps"
	"net/url"

	"go.yaml.in/yaml/v4"
	"golang.org/x/oauth2"

	"github.com/coatcheck/coatcheck/broker"
)

// oauth2Provider gets its grants with an authorization code (RFC 6749 section 4.1) and PKCE (RFC 7636).
type oauth2Provider struct{ base }

// compileToken reads what exchange and renewal need, for both OAuth 2 modes.
func (c *compiler) compileToken() {
	e := c.entry
	c.rules = c.compileRules()
	path, address := []string{"token_url"}, e.TokenURL.URL
	switch c.mode {
	case modeOAuth2, modeClientCredentials, modeMCP:
		if len(e.TokenURL.ByMode) > 0 {
			c.broken(path, "one URL is needed, not one per mode")
		}
	case modeCustom:
		path, address = append(path, modeOAuth2), e.TokenURL.ByMode.get(modeOAuth2)
	default:
		return
	}
	c.token = c.url(path, address)
	c.refresh = c.token
	if e.RefreshURL != "" {
		c.refresh = c.url([]string{"refresh_url"}, e.RefreshURL)
	}
	c.tokenAuth = c.compileTokenAuth()
	c.compileClientAssertion()
	c.tokenParams = c.params("token_params", &e.TokenParams)
	c.refreshParams = c.tokenParams
	if e.RefreshParams.Kind != 0 {
		c.refreshParams = c.params("refresh_params", &e.RefreshParams)
	}
	c.compileLongLived()
}

// params reads a mapping of parameters, which is flat in these modes.
func (c *compiler) params(key string, n *yaml.Node) []namedTemplate {
	if n.Kind == 0 {
		return nil
	}
	var ps pairs
	if err := ps.UnmarshalYAML(n); err != nil {
		c.problems.Errors = append(c.problems.Errors, loadErrors(err, n)...)
		return nil
	}
	return c.named([]string{key}, ps)
}

// compileTokenAuth decides how the client proves itself. Our token_auth_method says it in one word; the other two fields
// are the catalogue format's, where "basic" means a header besides the parameters.
func (c *compiler) compileTokenAuth() tokenAuth {
	e := c.entry
	switch {
	case e.TokenAuthMethod == "private_key_jwt", e.TokenAuthMethod == "" && e.TokenRequestAuthMethod == "private_key_jwt":
		return tokenAuth{style: oauth2.AuthStyleInParams, asserted: true}
	case e.TokenAuthMethod == "client_secret_basic":
		return tokenAuth{style: oauth2.AuthStyleInHeader}
	case e.TokenAuthMethod == "none":
		return tokenAuth{style: oauth2.AuthStyleInParams, public: true}
	case e.TokenAuthMethod == "client_secret_post":
		return tokenAuth{style: oauth2.AuthStyleInParams}
	case e.TokenRequestAuthMethod == "custom":
		return tokenAuth{style: oauth2.AuthStyleInParams, custom: true}
	case e.AuthorizationMethod == "header":
		return tokenAuth{style: oauth2.AuthStyleInHeader}
	case e.TokenRequestAuthMethod == "basic":
		return tokenAuth{style: oauth2.AuthStyleInParams, rawBasic: true}
	}
	return tokenAuth{style: oauth2.AuthStyleInParams}
}

// Exchange sends the code to the token endpoint, once.
func (p *oauth2Provider) Exchange(ctx context.Context, r *broker.ExchangeRequest) (*broker.Obtained, error) {
	returned, config, err := p.returnedConfig(r)
	if err != nil {
		return nil, asFailure(err)
	}
	sc := p.scope(&broker.Holding{Client: r.Client, Config: config})
	sc.bare = true
	params, err := fillAll(p.spec.tokenParams, sc)
	if err != nil {
		return nil, asFailure(err)
	}
	cfg, call, err := p.request(p.spec.token, r.Client, sc)
	if err != nil {
		return nil, asFailure(err)
	}
	cfg.RedirectURL = r.RedirectURI
	for _, x := range params {
		call.params.Set(x.Key, x.Value)
	}
	var options []oauth2.AuthCodeOption
	if p.spec.sendsPKCE && r.Verifier != "" { // a code that the app got by itself may have none
		options = append(options, oauth2.VerifierOption(r.Verifier))
	}
	_, _ = cfg.Exchange(call.context(ctx), r.Code, options...)
	t, err := p.result(call, r.Client.Secret.Reveal(), r.Code, r.Verifier)
	if err != nil {
		return nil, err
	}
	if err := checkIDToken(t.raw, r.Client.ID, r.Nonce, p.now()); err != nil {
		return nil, err
	}
	maps.Copy(returned, p.metadata(t, r.Client))
	m, err := p.lasting(ctx, p.material(t, nil), r, config)
	if err != nil {
		return nil, err
	}
	return &broker.Obtained{Material: m, Config: undecided(returned, r.Config)}, nil
}

// returnedConfig gives the connection config that the callback brings along, and all there is with it: what was decided
// before stays.
func (b *base) returnedConfig(r *broker.ExchangeRequest) (returned, all map[string]string, err error) {
	if returned, err = b.fromCallback(r.Callback, r.Client); err != nil {
		return nil, nil, err
	}
	all = maps.Clone(returned)
	for name, v := range r.Config {
		if v != "" {
			all[name] = v
		}
	}
	return returned, all, nil
}

// undecided leaves out what was decided before.
func undecided(returned, decided map[string]string) map[string]string {
	maps.DeleteFunc(returned, func(name, _ string) bool { return decided[name] != "" })
	return returned
}

// request gives the library's configuration for a token endpoint, and the call that carries its request.
func (b *base) request(endpoint *urlTemplate, client *broker.Client, sc *scope) (*oauth2.Config, *tokenCall, error) {
	target, err := endpoint.expand(sc, b.deps.checkURL)
	if err != nil {
		return nil, nil, err
	}
	auth := b.spec.tokenAuth
	cfg := &oauth2.Config{ClientID: client.ID, ClientSecret: client.Secret.Reveal()}
	cfg.Endpoint = oauth2.Endpoint{TokenURL: target.String(), AuthStyle: auth.style}
	if auth.public {
		cfg.ClientSecret = ""
	}
	call := &tokenCall{deps: b.deps, format: b.spec.entry.BodyFormat, params: url.Values{}}
	call.names = b.spec.entry.TokenParamNames
	if auth.asserted {
		cfg.ClientSecret = ""
		if err := b.assert(call.params, client, target.String(), sc); err != nil {
			return nil, nil, err
		}
	}
	if b.spec.mode == modeOAuth2 && call.format == "query" {
		call.format = "form" // the format's meaning in this mode: a code and a secret in a URL would end up in logs
	}
	if auth.rawBasic {
		call.basic = url.UserPassword(client.ID, client.Secret.Reveal())
	}
	return cfg, call, nil
}

// result reads the answer of a call; the secrets of the request never go into its error.
func (b *base) result(call *tokenCall, secrets ...string) (*token, error) {
	a, err := call.outcome()
	if err != nil {
		return nil, err
	}
	return b.spec.rules.read(a, secrets)
}

// material makes a credential of a token. What an answer leaves out is kept from the old one.
func (b *base) material(t *token, old *broker.Material) *broker.Material {
	m := &broker.Material{
		Type: b.spec.facts.CredentialType, Access: broker.NewSecret(t.access), Refresh: broker.NewSecret(t.refresh),
		Answer: broker.NewSecret(string(t.raw)), ExpiresAt: t.expires, RefreshExpiresAt: t.refreshUntil, Scopes: t.scopes,
	}
	if old == nil {
		return m
	}
	m.Details = old.Details
	if m.Refresh.IsZero() {
		m.Refresh, m.RefreshExpiresAt = old.Refresh, old.RefreshExpiresAt
	}
	if len(m.Scopes) == 0 { // of a renewal, nothing and an empty text mean no change
		m.Scopes = old.Scopes
	}
	return m
}

// metadata takes what the entry wants of the first token answer into connection config: text and booleans. Later answers
// do not change where a connection's calls go.
func (b *base) metadata(t *token, client *broker.Client) map[string]string {
	values := map[string]string{}
	for _, path := range b.spec.entry.TokenMetadata {
		if v, ok := lookup(t.raw, path); ok && (v.Kind() == '"' || v.Kind() == 't' || v.Kind() == 'f') {
			values[path] = scalarText(v)
		}
	}
	return b.capture(values, client)
}

// Renewable reports whether there is a refresh token, or a token that can be traded for the next.
func (p *oauth2Provider) Renewable(m *broker.Material) bool {
	return !m.Refresh.IsZero() || p.spec.relengthen != nil && !m.Access.IsZero()
}

// Endpoint names the host that renews; empty: connection config that it needs is missing.
func (p *oauth2Provider) Endpoint(h *broker.Holding) string {
	if p.spec.relengthen != nil && h.Material != nil && h.Material.Refresh.IsZero() {
		return p.endpointHost(p.spec.relengthen.url, h)
	}
	return p.endpointHost(p.spec.refresh, h)
}

func (b *base) endpointHost(endpoint *urlTemplate, h *broker.Holding) string {
	sc := b.scope(h)
	sc.bare = true
	u, err := endpoint.expand(sc, b.deps.checkURL)
	if err != nil {
		return ""
	}
	return u.Host
}

// Renew trades the refresh token for a new access token (RFC 6749 section 6), once.
func (p *oauth2Provider) Renew(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	if !p.Renewable(h.Material) {
		return nil, &broker.ProviderError{Class: broker.GrantLost, Code: "no_refresh_token"}
	}
	if p.spec.relengthen != nil && h.Material.Refresh.IsZero() {
		m, err := p.traded(ctx, p.spec.relengthen, h)
		if err != nil {
			return nil, err
		}
		return &broker.Obtained{Material: m}, nil
	}
	client := p.client(h)
	sc := p.scope(h)
	sc.bare = true
	params, err := fillAll(p.spec.refreshParams, sc)
	if err != nil {
		return nil, asFailure(err)
	}
	cfg, call, err := p.request(p.spec.refresh, client, sc)
	if err != nil {
		return nil, asFailure(err)
	}
	for _, x := range params {
		// An entry that has only token_params names the grant of the exchange there; this is a renewal.
		if x.Key != "grant_type" {
			call.params.Set(x.Key, x.Value)
		}
	}
	refresh := h.Material.Refresh.Reveal()
	_, _ = cfg.TokenSource(call.context(ctx), &oauth2.Token{RefreshToken: refresh}).Token()
	t, err := p.result(call, client.Secret.Reveal(), refresh)
	if err != nil {
		return nil, err
	}
	return &broker.Obtained{Material: p.material(t, h.Material)}, nil
}

// CheckMaterial refuses what cannot be an OAuth 2 token.
func (p *oauth2Provider) CheckMaterial(m *broker.Material) error {
	if err := checkToken(m.Access, "access_token"); err != nil {
		return err
	}
	if m.Refresh.IsZero() {
		return nil
	}
	return checkToken(m.Refresh, "refresh_token")
}
