package providers

import (
	"bytes"
	"context"
	"crypto/rsa"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// app is an app that an end user installs in an account at the provider, as GitHub has them. The integration's private key
// signs a token for the app itself, which is traded for one of the installation, for an hour at a time.
// https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
type app struct{ base }

// Names of what a connection of an installation holds, and of its part of the callback.
const (
	appInstallation = broker.InstallationParam
	appID           = "app_id"
	appAccount      = "account_id" // whose it is: it stays when the app is installed anew
)

// The words that an authorization URL may have for where the app is installed.
const (
	wordAppLink = "${connectionConfig.appPublicLink}"
	wordAppSlug = "${connectionConfig.app_slug}"
)

// tokensPath ends the address of an installation's tokens; without it, it is that of the installation.
const tokensPath = "/access_tokens"

func (c *compiler) compileApp() {
	if c.mode != modeApp {
		return
	}
	c.knownOfApps()
	c.token = c.url([]string{"token_url"}, c.entry.TokenURL.URL)
	if c.token == nil || !strings.HasSuffix(c.entry.TokenURL.URL, "${connectionConfig."+appInstallation+"}"+tokensPath) {
		c.broken([]string{"token_url"}, "is not the address of an installation's tokens")
	}
	c.compileSignedRevocation()
}

// knownOfApps lets connection config say which installation it is of, which no end user types.
func (c *compiler) knownOfApps() {
	for _, name := range []string{appInstallation, appID, appAccount, "appPublicLink", "app_slug"} {
		c.known(name, true)
		c.config[name].Automated = true
	}
}

// AuthorizeURL is where the end user installs the app.
func (p *app) AuthorizeURL(r *broker.AuthorizeRequest) (string, error) {
	link := strings.TrimSuffix(r.Client.Settings[settingAppLink], "/")
	if link == "" {
		return "", broker.ErrNotSupported.Saying("the integration does not say where its app is; whoever runs this service has to set app_link")
	}
	raw := p.spec.entry.AuthorizationURL
	if raw == "" {
		raw = wordAppLink + "/installations/new"
	}
	raw = strings.NewReplacer(wordAppLink, link, wordAppSlug, url.PathEscape(link[strings.LastIndexByte(link, '/')+1:])).Replace(raw)
	u, err := p.deps.checkURL(raw, true)
	if err != nil {
		return "", broker.ErrProviderURLInvalid.Because(err)
	}
	u.RawQuery = url.Values{"state": {r.State}}.Encode()
	return u.String(), nil
}

// maxClockSkew is how far a provider's clock may be behind ours.
const maxClockSkew = time.Minute

// Exchange takes the installation that the browser names. The app's own key would open anybody's, and the browser can name
// any: so it has to have come about, or to have been changed, while this sign-in lasted.
func (p *app) Exchange(ctx context.Context, r *broker.ExchangeRequest) (*broker.Obtained, error) {
	if !installationNumber().MatchString(r.Code) {
		return nil, asFailure(invalid(appInstallation, "is not a number"))
	}
	in, err := p.installation(ctx, r.Client, r.Config, r.Code)
	if err != nil {
		return nil, err
	}
	if !in.since(r.Begun) {
		return nil, errNotNew
	}
	return p.mintFor(ctx, r.Client, r.Config, r.Code, in.account)
}

var errNotNew = &broker.ProviderError{
	Class: broker.GrantLost, Code: "installation_not_new", Status: http.StatusOK,
	Text: "the app was installed before this sign-in began; change the installation there, or remove it, and connect again",
}

var installationNumber = expression(`^[1-9][0-9]{0,19}$`)

// Submit takes an installation that the app's backend knows of.
func (p *app) Submit(ctx context.Context, h *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	id := strings.TrimSpace(fields[appInstallation].Reveal())
	switch {
	case !installationNumber().MatchString(id):
		return nil, invalid(appInstallation, "is not a number")
	case !fields[appID].IsZero() && fields[appID].Reveal() != h.Client.ID:
		return nil, invalid(appID, "is not the integration's app")
	}
	in, err := p.installation(ctx, h.Client, h.Config, id)
	if err != nil {
		return nil, err
	}
	return p.mintFor(ctx, h.Client, h.Config, id, in.account)
}

// mintFor gets the first token of an account's installation.
func (p *app) mintFor(ctx context.Context, client *broker.Client, config map[string]string, id, account string) (*broker.Obtained, error) {
	got, err := p.mint(ctx, client, config, id)
	if err != nil {
		return nil, err
	}
	if got.Account = account; account != "" {
		got.Config[appAccount] = account
	}
	return got, nil
}

// Renewable reports whether it is known which installation to get another token of.
func (p *app) Renewable(m *broker.Material) bool { return !m.Details[appInstallation].IsZero() }

// Endpoint names the host that gives tokens.
func (p *app) Endpoint(h *broker.Holding) string {
	if h.Material == nil {
		return ""
	}
	u, err := p.tokens(h.Client, h.Config, h.Material.Details[appInstallation].Reveal())
	if err != nil {
		return ""
	}
	return u.Host
}

// Renew gets another token of the installation.
func (p *app) Renew(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	return p.mint(ctx, h.Client, h.Config, h.Material.Details[appInstallation].Reveal())
}

// Revoke ends the token in the entry's own way. The installation stays: removing it is its owner's business.
func (p *app) Revoke(ctx context.Context, h *broker.Holding) (bool, error) {
	return p.revoke(ctx, h, func(*broker.Material) bool { return false }, nil) // one that has run out is as good as revoked
}

// CheckMaterial refuses what cannot be a token, and a credential that names no installation.
func (p *app) CheckMaterial(m *broker.Material) error {
	if !installationNumber().MatchString(m.Details[appInstallation].Reveal()) {
		return invalid(appInstallation, "is not a number")
	}
	if m.Access.IsZero() {
		return nil // it gets one when it is taken in, or first used
	}
	return checkToken(m.Access, "access_token")
}

// tokens is the address of an installation's tokens.
func (p *app) tokens(client *broker.Client, config map[string]string, id string) (*url.URL, error) {
	sc := p.flowScopeOf(client, config)
	sc.config[appInstallation] = id
	return p.spec.token.expand(sc, p.deps.checkURL)
}

func (b *base) flowScopeOf(client *broker.Client, config map[string]string) *scope {
	copied := make(map[string]string, len(config)+1)
	for name, v := range config {
		copied[name] = v
	}
	sc := b.scope(&broker.Holding{Client: client, Config: copied})
	sc.bare = true
	return sc
}

// How long a token of the app itself is good for: at most ten minutes, on the provider's clock.
const (
	appTokenAge  = time.Minute
	appTokenLife = 9 * time.Minute
)

// keyOf gives the key that an app signs with.
func keyOf(client *broker.Client) (*jose.JSONWebKey, error) {
	key, err := parseKey(client.Secret.Reveal())
	if err == nil {
		if _, ok := key.Key.(*rsa.PrivateKey); ok {
			return key, nil
		}
	}
	return nil, broker.ErrMisconfigured.Saying("the integration's private key is not an RSA key that can sign; whoever runs this service has to set it")
}

// ownToken signs a token that speaks for the app.
func (p *app) ownToken(client *broker.Client) (string, error) {
	key, err := keyOf(client)
	if err != nil {
		return "", err
	}
	now := p.now()
	issuer, err := json.Marshal(client.ID)
	if err != nil {
		return "", broker.ErrInternal.Because(err)
	}
	claims, err := json.Marshal(map[string]jsontext.Value{
		"iss": issuer, "iat": unixTime(now.Add(-appTokenAge)), "exp": unixTime(now.Add(appTokenLife)),
	}, json.Deterministic(true))
	if err != nil {
		return "", broker.ErrInternal.Because(err)
	}
	signed, err := compactJWS(map[string]jsontext.Value{"alg": jsontext.Value(`"` + jose.RS256 + `"`), "typ": jsontext.Value(`"JWT"`)}, claims, key)
	if err != nil {
		return "", broker.ErrMisconfigured.Saying("the integration's private key cannot sign").Because(err)
	}
	return signed, nil
}

// ask makes a request in the app's own name, once. Errors: *ProviderError.
func (p *app) ask(ctx context.Context, client *broker.Client, method string, u *url.URL) (*reply, jsontext.Value, error) {
	own, err := p.ownToken(client)
	if err != nil {
		return nil, nil, asFailure(err)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, nil, asFailure(broker.ErrURLNotAllowed)
	}
	req.Header.Set("Accept", "application/vnd.github+json, "+jsonType)
	req.Header.Set("Authorization", "Bearer "+own)
	a, err := p.deps.send(req)
	if err != nil {
		return nil, nil, err
	}
	raw := jsontext.Value(bytes.TrimSpace(a.body))
	switch {
	case a.status >= 300 && a.status < 400:
		return nil, nil, unreadable(a, codeRedirect, 0)
	case a.status >= 400:
		return nil, nil, p.refused(a, raw, own)
	case raw.Kind() != '{' || !raw.IsValid():
		return nil, nil, unreadable(a, codeBadAnswer, p.spec.rules.retryAfter(a))
	}
	return a, raw, nil
}

// refused reads a refusal: there is no such installation any more, or the app itself is not known. Anything else, a limit
// on requests or a suspended installation, may pass.
func (p *app) refused(a *reply, raw jsontext.Value, own string) error {
	v := &verdict{}
	if raw.Kind() == '{' && raw.IsValid() {
		v.text = text(get(raw, "message"))
	}
	e := p.spec.rules.failure(a, v, []string{own})
	switch a.status {
	case http.StatusNotFound, http.StatusGone:
		e.Class = broker.GrantLost
	case http.StatusUnauthorized:
		e.Class = broker.ClientRefused
	default:
		e.Class = broker.Transient
	}
	return e
}

// installed is what the provider says of an installation.
type installed struct {
	created, updated time.Time
	account          string
}

// since reports whether the installation came about, or was changed, since a sign-in began.
func (in *installed) since(begun time.Time) bool {
	earliest := begun.Add(-maxClockSkew)
	return !begun.IsZero() && (!in.created.Before(earliest) || !in.updated.Before(earliest))
}

func (p *app) installation(ctx context.Context, client *broker.Client, config map[string]string, id string) (*installed, error) {
	u, err := p.tokens(client, config, id)
	if err != nil {
		return nil, asFailure(err)
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, tokensPath), ""
	_, raw, err := p.ask(ctx, client, http.MethodGet, u)
	if err != nil {
		return nil, err
	}
	out := &installed{account: scalarText(get(raw, "account.id"))}
	out.created, _ = time.Parse(time.RFC3339, text(get(raw, "created_at"))) // none is long ago
	out.updated, _ = time.Parse(time.RFC3339, text(get(raw, "updated_at")))
	return out, nil
}

// mint gets a token of an installation.
func (p *app) mint(ctx context.Context, client *broker.Client, config map[string]string, id string) (*broker.Obtained, error) {
	u, err := p.tokens(client, config, id)
	if err != nil {
		return nil, asFailure(err)
	}
	a, raw, err := p.ask(ctx, client, http.MethodPost, u)
	if err != nil {
		return nil, err
	}
	access := text(get(raw, "token"))
	end, err := time.Parse(time.RFC3339, text(get(raw, "expires_at")))
	if err != nil || access == "" || len(access) > maxToken || !visibleASCII(access) || !end.After(a.at) {
		return nil, unreadable(a, codeNoToken, p.spec.rules.retryAfter(a))
	}
	m := &broker.Material{
		Type: p.spec.facts.CredentialType, Access: broker.NewSecret(access), Answer: broker.NewSecret(string(raw)), ExpiresAt: end,
		Details: map[string]broker.Secret{appInstallation: broker.NewSecret(id), appID: broker.NewSecret(client.ID)},
	}
	return &broker.Obtained{Material: m, Config: map[string]string{appInstallation: id, appID: client.ID}}, nil
}
