package providers

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	"golang.org/x/oauth2"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/discovery"
)

// mcpProvider signs in to MCP servers. In one of its two modes the entry says where the endpoints are and only a client has
// to be registered; in the other, generic one there is an address of a server, and all else is found out.
type mcpProvider struct{ oauth2Provider }

// mcpSpec is what an entry says of these modes besides what it has in common with others.
type mcpSpec struct {
	server        *urlTemplate // nil: the endpoints are known
	registration  *urlTemplate
	documents     bool
	resource      *template // what requests for tokens name; nil: the API
	responseTypes []string
	grantTypes    []string
}

// serverField is the connection config that holds a server's address.
const serverField = "mcp_server_url"

// Settings of integrations in these modes.
const (
	serversSetting  = "servers" // any: end users may name any server
	issuerSetting   = "issuer"
	resourceSetting = "resource_indicator" // omit: the server does not take it
)

func (s *spec) isMCP() bool { return s.mode == modeMCP || s.mode == modeMCPGeneric }

// declareServer adds the field for the server's address where an entry lacks it.
func (c *compiler) declareServer() {
	e := c.entry
	if c.mode != modeMCPGeneric || slices.ContainsFunc(e.ConnectionConfig, func(f namedField) bool { return f.Name == serverField }) {
		return
	}
	e.ConnectionConfig = append(slices.Clone(e.ConnectionConfig), namedField{serverField, fieldEntry{Title: "MCP server", Format: "uri"}})
}

func (c *compiler) compileMCP() {
	e := c.entry
	if !c.isMCP() {
		return
	}
	c.sendsPKCE = true // whatever the entry says
	m := &mcpSpec{documents: e.ClientRegistration == "cimd", resource: c.template([]string{"resource"}, cmp.Or(e.Resource, e.AuthorizationParam.get("resource")))}
	c.mcp = m
	c.oneOf("client_registration", e.ClientRegistration, "dynamic", "static", "cimd")
	if c.mode == modeMCPGeneric {
		m.server = c.url([]string{"connection_config", serverField}, "${connectionConfig."+serverField+"}")
		c.api = m.server
		return
	}
	if e.AuthorizationURL == "" || e.TokenURL.URL == "" || e.ClientRegistration == "dynamic" && e.RegistrationURL == "" {
		c.broken([]string{"auth_mode"}, "MCP_OAUTH2 needs authorization_url and token_url, and a dynamic one registration_url")
	}
	if e.ClientRegistration == "dynamic" {
		m.registration = c.url([]string{"registration_url"}, e.RegistrationURL)
	}
	m.responseTypes = texts(child(&e.RegistrationParams, "response_types"))
	m.grantTypes = texts(child(&e.RegistrationParams, "grant_types"))
}

// texts gives the elements of a list of texts.
func texts(n *yaml.Node) []string {
	var l list
	if n == nil || l.UnmarshalYAML(n) != nil {
		return nil
	}
	return l
}

// AuthorizeURL is where the browser goes, once the server is known. The challenge is always sent.
func (p *mcpProvider) AuthorizeURL(r *broker.AuthorizeRequest) (string, error) {
	h := &broker.Holding{Client: r.Client, Config: r.Config}
	if r.Server == nil {
		if _, err := p.known(h); err != nil {
			return "", onlyDeclared(err)
		}
		return "", nil
	}
	target, err := p.deps.checkURL(r.Server.Authorization, true)
	if err != nil {
		return "", onlyDeclared(err)
	}
	for name := range target.Query() {
		if slices.Contains(boundMCP, name) { // it would stand there twice
			return "", broker.ErrProviderURLInvalid
		}
	}
	own, err := fillAll(p.spec.authParams, p.bareScope(h))
	if err != nil {
		return "", err
	}
	cfg := oauth2.Config{ClientID: r.Client.ID, RedirectURL: r.RedirectURI, Endpoint: oauth2.Endpoint{AuthURL: target.String()}}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(r.Verifier)}
	set := func(name, value string) {
		if value != "" {
			options = append(options, oauth2.SetAuthURLParam(name, value))
		}
	}
	set("scope", p.scopeText(r))
	set("resource", r.Server.Resource)
	if slices.Contains(r.Client.Scopes, "offline_access") {
		set("prompt", "consent") // OpenID Connect Core section 11: without it that scope is ignored
	}
	for _, x := range own {
		if !slices.Contains(boundMCP, x.Key) {
			set(x.Key, x.Value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Params)) {
		if !slices.Contains(boundMCP, name) {
			set(name, r.Params[name])
		}
	}
	if slices.Contains(r.Client.Scopes, "openid") {
		set("nonce", r.Nonce)
	}
	return p.edited(cfg.AuthCodeURL(r.State, options...), p.scopeText(r)), nil
}

// boundMCP are the parameters that only the sign-in itself decides.
var boundMCP = append(slices.Clone(bound), "response_type", "scope", "resource")

func (p *mcpProvider) bareScope(h *broker.Holding) *scope {
	sc := p.scope(h)
	sc.bare = true
	return sc
}

// Discover finds the authorization server. Where the entry says it all, nobody is asked.
func (p *mcpProvider) Discover(ctx context.Context, h *broker.Holding) (*broker.Server, error) {
	known, err := p.known(h)
	if err != nil || p.spec.mcp.server == nil {
		return known, err
	}
	issuer := setting(h, issuerSetting)
	if h.Client != nil && h.Client.ID != "" && issuer == "" {
		return nil, broker.ErrNotSupported.Saying(
			"the integration has a client and does not say whose it is: set its issuer, so that no other server gets it")
	}
	server, err := p.deps.discover(ctx, known.API, issuer, forSignIn)
	if errors.Is(err, discovery.ErrNone) {
		return nil, invalid(serverField, "is not the address of a server that says how to sign in to it")
	}
	if err != nil {
		return nil, err
	}
	found := *server
	if found.Resource == "" {
		found.Resource = strings.TrimSuffix(found.API, "/")
	}
	if setting(h, resourceSetting) == "omit" {
		found.Resource = ""
	}
	return &found, nil
}

// known is the server as far as the entry, or the address of a connection, says it.
func (p *mcpProvider) known(h *broker.Holding) (*broker.Server, error) {
	m, sc := p.spec.mcp, p.bareScope(h)
	if m.server != nil {
		u, err := m.server.expand(sc, p.deps.checkURL)
		if err != nil {
			return nil, err
		}
		return &broker.Server{API: u.String()}, nil
	}
	out := &broker.Server{Issuer: p.spec.entry.Issuer, NamesIssuer: p.spec.entry.Issuer != "", Documents: m.documents}
	for _, e := range []struct {
		from *urlTemplate
		into *string
	}{{p.spec.authorize, &out.Authorization}, {p.spec.token, &out.Token}, {m.registration, &out.Registration}, {p.spec.api, &out.API}} {
		if e.from == nil {
			continue
		}
		u, err := e.from.expand(sc, p.deps.checkURL)
		if err != nil {
			return nil, err
		}
		*e.into = u.String()
	}
	out.Resource = strings.TrimSuffix(out.API, "/")
	if m.resource != nil {
		out.Resource, _ = m.resource.fill(sc)
	}
	if setting(h, resourceSetting) == "omit" {
		out.Resource = ""
	}
	if method := p.spec.entry.TokenAuthMethod; method != "" {
		out.TokenAuth = []string{method}
	} else if m.registration != nil || m.documents {
		out.TokenAuth = []string{discovery.AuthNone}
	}
	return out, nil
}

// Register makes us a client of the server.
func (p *mcpProvider) Register(ctx context.Context, s *broker.Server, r *broker.RegisterRequest) (*broker.Registered, error) {
	auth, err := discovery.ChooseAuth(s)
	if err != nil {
		return nil, err
	}
	return p.deps.finder.Register(ctx, s, discovery.Registration{
		Name: r.Name, PublicURL: r.PublicURL, RedirectURI: r.RedirectURI, Native: r.Native, Auth: auth,
		ResponseTypes: p.spec.mcp.responseTypes, GrantTypes: p.spec.mcp.grantTypes,
	})
}

// authAt gives the way in which a client proves itself at a server.
func authAt(s *broker.Server, client *broker.Client) string {
	switch {
	case client.Secret.IsZero():
		return discovery.AuthNone
	case s.ClientAuth != "":
		return s.ClientAuth
	case len(s.TokenAuth) == 0 || slices.Contains(s.TokenAuth, discovery.AuthBasic):
		return discovery.AuthBasic
	case slices.Contains(s.TokenAuth, discovery.AuthNone) && !slices.Contains(s.TokenAuth, discovery.AuthPost):
		return discovery.AuthNone
	}
	return discovery.AuthPost
}

func tokenAuthAt(s *broker.Server, client *broker.Client) tokenAuth {
	switch authAt(s, client) {
	case discovery.AuthBasic:
		return tokenAuth{style: oauth2.AuthStyleInHeader}
	case discovery.AuthNone:
		return tokenAuth{style: oauth2.AuthStyleInParams, public: true}
	}
	return tokenAuth{style: oauth2.AuthStyleInParams}
}

// requestTo gives the library's configuration for a server's token endpoint, and the call that carries its request.
func (p *mcpProvider) requestTo(s *broker.Server, client *broker.Client, params []namedTemplate, sc *scope) (*oauth2.Config, *tokenCall, error) {
	target, err := p.deps.checkURL(s.Token, true)
	if err != nil {
		return nil, nil, err
	}
	filled, err := fillAll(params, sc)
	if err != nil {
		return nil, nil, err
	}
	auth := tokenAuthAt(s, client)
	cfg := &oauth2.Config{ClientID: client.ID, Endpoint: oauth2.Endpoint{TokenURL: target.String(), AuthStyle: auth.style}}
	if !auth.public {
		cfg.ClientSecret = client.Secret.Reveal()
	}
	call := &tokenCall{deps: p.deps, format: "form", params: url.Values{}}
	for _, x := range filled {
		if x.Key != "grant_type" {
			call.params.Set(x.Key, x.Value)
		}
	}
	if s.Resource != "" {
		call.params.Set("resource", s.Resource)
	}
	return cfg, call, nil
}

// Exchange sends the code to the server that it was asked of, once, and pins the server to the grant.
func (p *mcpProvider) Exchange(ctx context.Context, r *broker.ExchangeRequest) (*broker.Obtained, error) {
	if r.Server == nil {
		return nil, &broker.ProviderError{Class: broker.Transient, Code: broker.ErrInternal.Code}
	}
	cfg, call, err := p.requestTo(r.Server, r.Client, p.spec.tokenParams, p.bareScope(&broker.Holding{Client: r.Client, Config: r.Config}))
	if err != nil {
		return nil, asFailure(err)
	}
	cfg.RedirectURL = r.RedirectURI
	_, _ = cfg.Exchange(call.context(ctx), r.Code, oauth2.VerifierOption(r.Verifier))
	t, err := p.result(call, r.Client.Secret.Reveal(), r.Code, r.Verifier)
	if err != nil {
		return nil, err
	}
	if err := checkIDToken(t.raw, r.Client.ID, r.Nonce, p.now()); err != nil {
		return nil, err
	}
	m := p.material(t, nil)
	if err := m.SetServer(r.Server, r.Client); err != nil {
		return nil, asFailure(err)
	}
	return &broker.Obtained{Material: m, Config: undecided(p.metadata(t, r.Client), r.Config)}, nil
}

// pinned gives the server and the client that a credential is of; a nil server: it is not known; a nil client: the
// integration has another one by now, which belongs to another issuer.
func (p *mcpProvider) pinned(h *broker.Holding) (*broker.Server, *broker.Client) {
	s := h.Material.Server()
	if s == nil && p.spec.mcp.server == nil {
		s, _ = p.known(h)
	}
	if client := h.Material.ServerClient(h.Client); client != nil {
		return s, client
	}
	client := p.client(h)
	if s != nil && p.spec.mcp.server != nil && client == h.Client && !sameIssuer(setting(h, issuerSetting), s.Issuer) {
		return s, nil
	}
	return s, client
}

// sameIssuer compares the name that an integration has for an issuer with that in metadata. Where the issuer is where the
// server is, either may be written with a slash at its end.
func sameIssuer(a, b string) bool { return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/") }

// Renewable reports whether there is a refresh token, and a server to take it.
func (p *mcpProvider) Renewable(m *broker.Material) bool {
	return !m.Refresh.IsZero() && (p.spec.mcp.server == nil || m.Server() != nil)
}

// Endpoint names the host that renews; empty: it is not known.
func (p *mcpProvider) Endpoint(h *broker.Holding) string {
	s, _ := p.pinned(h)
	if s == nil {
		return ""
	}
	u, err := url.Parse(s.Token)
	if err != nil {
		return ""
	}
	return u.Host
}

// Renew trades the refresh token for a new access token where the grant came from, once.
func (p *mcpProvider) Renew(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	s, client := p.pinned(h)
	switch {
	case !p.Renewable(h.Material) || s == nil:
		return nil, &broker.ProviderError{Class: broker.GrantLost, Code: "no_refresh_token"}
	case client == nil:
		return nil, issuerChanged()
	}
	s, err := p.stillThere(ctx, h, s)
	if err != nil {
		return nil, err
	}
	cfg, call, err := p.requestTo(s, client, p.spec.refreshParams, p.bareScope(h))
	if err != nil {
		return nil, asFailure(err)
	}
	refresh := h.Material.Refresh.Reveal()
	_, _ = cfg.TokenSource(call.context(ctx), &oauth2.Token{RefreshToken: refresh}).Token()
	t, err := p.result(call, client.Secret.Reveal(), refresh)
	if err != nil {
		return nil, err
	}
	m := p.material(t, h.Material)
	if p.spec.mcp.server != nil {
		if err := m.SetServer(s, client); err != nil {
			return nil, asFailure(err)
		}
	}
	return &broker.Obtained{Material: m}, nil
}

// Revoke ends the grant where it came from.
func (p *mcpProvider) Revoke(ctx context.Context, h *broker.Holding) (bool, error) {
	s, client := p.pinned(h)
	if s == nil || client == nil {
		return false, nil
	}
	b := p.base
	spec := *p.spec
	spec.tokenAuth = tokenAuthAt(s, client)
	b.spec = &spec
	at := &broker.Holding{Client: client, Config: h.Config, Material: h.Material}
	if p.spec.mcp.server == nil {
		return b.revoke(ctx, at, p.Renewable, p.Renew)
	}
	if s.Revocation == "" {
		return false, nil
	}
	u, err := p.deps.checkURL(s.Revocation, true)
	if err != nil {
		return true, asFailure(err)
	}
	spec.revoke = &revokeSpec{method: http.MethodPost, param: "token", tokens: []string{"refresh", "access"}}
	return b.revokeTokens(ctx, at, u)
}

// Present gives a bearer token for the server alone: it was asked for to be used there.
func (p *mcpProvider) Present(h *broker.Holding) (*broker.Presentation, error) {
	out, err := p.presentTo(h)
	if err != nil {
		return nil, err
	}
	out.OnlyBase = true
	out.BaseURL, err = p.BaseURL(h)
	return out, err
}

// BaseURL implements [broker.Locator]: it is the server that was found, where the entry names none.
func (p *mcpProvider) BaseURL(h *broker.Holding) (*url.URL, error) {
	if p.spec.mcp.server != nil && h.Material != nil {
		if s := h.Material.Server(); s != nil {
			return p.deps.checkURL(s.API, true)
		}
	}
	return p.oauth2Provider.BaseURL(h)
}

// Verify asks the server for something that changes nothing. Whatever it says, it took the token unless it answers 401.
func (p *mcpProvider) Verify(ctx context.Context, h *broker.Holding) (bool, error) {
	if p.spec.mcp.server == nil || p.spec.verify != nil {
		return p.oauth2Provider.Verify(ctx, h)
	}
	shown, err := p.Present(h)
	if err != nil || shown.BaseURL == nil {
		return false, asFailure(err)
	}
	ping := &pair{"Accept", "application/json, text/event-stream"}
	a, err := p.authorized(ctx, h, http.MethodPost, shown.BaseURL, []namedTemplate{literal(ping)}, discovery.Ping)
	if err != nil {
		return true, err
	}
	if a.status == http.StatusUnauthorized {
		return true, &broker.ProviderError{Class: broker.GrantLost, Code: codeHTTP + "401", Status: a.status}
	}
	return true, nil
}

// literal is a header without placeholders.
func literal(p *pair) namedTemplate {
	return namedTemplate{p.Key, &template{alts: []sequence{{part{text: p.Value}}}}}
}

// MissingScopes reads the challenge of a refusal (RFC 6750 section 3.1).
func (p *mcpProvider) MissingScopes(header http.Header) []string {
	c, ok := discovery.ReadChallenge(header)
	if !ok || c.Error != "insufficient_scope" {
		return nil
	}
	return c.Scopes
}
