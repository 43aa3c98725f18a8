package providers

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// oauth1Provider gets its grants as RFC 5849 section 2 has it, with a temporary credential, and signs each request with
// what they came to. Such credentials are not renewed.
type oauth1Provider struct{ base }

// oauth1Spec is what an entry says of that protocol besides what it has in common with others.
type oauth1Spec struct {
	temporary       *urlTemplate
	temporaryMethod string
	temporaryParams []namedTemplate
	tokenMethod     string
	signature       string
	realm           *template // nil: none
	isAccount       bool      // the realm is an account's id, which cannot be missing
	tokenSecret     string    // the detail of a credential that signs with it
}

func (c *compiler) compileOAuth1() {
	e := c.entry
	if c.mode != modeOAuth1 {
		return
	}
	if e.RequestURL == "" || e.AuthorizationURL == "" || e.TokenURL.URL == "" {
		c.broken([]string{"auth_mode"}, "OAUTH1 needs request_url, authorization_url and token_url")
	}
	o := &oauth1Spec{
		temporary:       c.url([]string{"request_url"}, e.RequestURL),
		temporaryMethod: cmp.Or(e.RequestMethod, http.MethodPost), tokenMethod: cmp.Or(e.TokenHTTPMethod, http.MethodPost),
		temporaryParams: c.params("request_params", &e.RequestParams),
		signature:       c.signatureMethod(cmp.Or(e.SignatureMethod, hmacSHA1)), realm: c.template([]string{"realm"}, e.Realm),
		tokenSecret: tokenSecret,
	}
	c.oneOf("request_http_method", o.temporaryMethod, http.MethodGet, http.MethodPost)
	c.oneOf("token_http_method", o.tokenMethod, http.MethodGet, http.MethodPost)
	c.authorize = c.url([]string{"authorization_url"}, e.AuthorizationURL)
	c.authParams = c.named([]string{"authorization_params"}, e.AuthorizationParam)
	c.token = c.url([]string{"token_url"}, e.TokenURL.URL)
	c.tokenParams = c.params("token_params", &e.TokenParams)
	c.compileSignedRevocation()
	c.oauth1 = o
}

// signatureMethod checks that a method is one of those that are built.
func (c *compiler) signatureMethod(method string) string {
	if !slices.Contains([]string{hmacSHA1, hmacSHA256, plaintext}, method) {
		c.broken([]string{"signature_method"}, "%s is not supported: HMAC-SHA1, HMAC-SHA256 or PLAINTEXT", method)
	}
	return method
}

// compileSignedRevocation refuses a revocation that is not signed: RFC 7009 knows nothing of these tokens, and would have
// the client's secret sent.
func (c *compiler) compileSignedRevocation() {
	if e := c.entry; e.RevocationURL != "" && (e.Revocation.Style != "recipe" || e.Revocation.Auth != "bearer") {
		c.broken([]string{"revocation"}, "%s needs style recipe and auth bearer", c.mode)
	}
}

// AuthorizeURL gives the address that the browser goes to, without the temporary credential, and tells whether the requests
// of a sign-in can be made.
func (p *oauth1Provider) AuthorizeURL(r *broker.AuthorizeRequest) (string, error) {
	sc := p.flowScope(r.Client, r.Config)
	if _, err := p.spec.oauth1.temporary.expand(sc, p.deps.checkURL); err != nil {
		return "", onlyDeclared(err)
	}
	// What the token request needs is asked for now: afterwards the end user is gone.
	for _, params := range [][]namedTemplate{p.spec.oauth1.temporaryParams, p.spec.tokenParams} {
		if _, err := fillAll(params, sc); err != nil {
			return "", err
		}
	}
	return p.browserURL(r, "")
}

func (p *oauth1Provider) flowScope(client *broker.Client, config map[string]string) *scope {
	sc := p.scope(&broker.Holding{Client: client, Config: config})
	sc.bare = true
	return sc
}

// boundOAuth1 are the parameters that tie the answer to this request.
var boundOAuth1 = []string{"oauth_token", "oauth_callback", "state"}

// browserURL is where the resource owner authorizes (RFC 5849 section 2.2). The callback is not named there: it was when
// the temporary credential was asked for, which a browser cannot change.
func (p *oauth1Provider) browserURL(r *broker.AuthorizeRequest, token string) (string, error) {
	sc := p.flowScope(r.Client, r.Config)
	target, err := p.spec.authorize.expand(sc, p.deps.checkURL)
	if err != nil {
		return "", onlyDeclared(err)
	}
	own, err := fillAll(p.spec.authParams, sc)
	if err != nil {
		return "", err
	}
	query := target.Query()
	if scopes := strings.Join(r.Client.Scopes, cmp.Or(p.spec.entry.ScopeSeparator, " ")); scopes != "" {
		query.Set("scope", scopes)
	}
	for _, x := range own {
		query.Set(x.Key, x.Value)
	}
	for name, value := range r.Params {
		query.Set(name, value)
	}
	for _, name := range boundOAuth1 {
		query.Del(name)
	}
	if token != "" {
		query.Set("oauth_token", token)
	}
	target.RawQuery = query.Encode()
	return target.String(), nil
}

// Prepare asks for a temporary credential, once (RFC 5849 section 2.1). The state goes into the callback's address, for the
// protocol has no place for it.
func (p *oauth1Provider) Prepare(ctx context.Context, r *broker.AuthorizeRequest) (*broker.Temporary, error) {
	sc := p.flowScope(r.Client, r.Config)
	s := p.signer(r.Client, sc)
	o := p.spec.oauth1
	form, err := p.ask(ctx, &oauth1Call{method: o.temporaryMethod, url: o.temporary, params: o.temporaryParams, signer: s}, sc,
		pair{"oauth_callback", r.RedirectURI + "?state=" + url.QueryEscape(r.State)})
	if err != nil {
		return nil, err
	}
	if confirmed, ok := form["oauth_callback_confirmed"]; ok && confirmed != "true" {
		return nil, &broker.ProviderError{Class: broker.ClientRefused, Code: "callback_not_confirmed", Status: http.StatusOK}
	}
	target, err := p.browserURL(r, form["oauth_token"])
	if err != nil {
		return nil, err
	}
	return &broker.Temporary{URL: target, Token: form["oauth_token"], Secret: broker.NewSecret(form["oauth_token_secret"])}, nil
}

// Exchange trades the temporary credential and its verifier for a lasting one, once (RFC 5849 section 2.3).
func (p *oauth1Provider) Exchange(ctx context.Context, r *broker.ExchangeRequest) (*broker.Obtained, error) {
	if r.Temporary == nil {
		return nil, &broker.ProviderError{Class: broker.Transient, Code: codeNoToken}
	}
	returned, config, err := p.returnedConfig(r)
	if err != nil {
		return nil, asFailure(err)
	}
	sc := p.flowScope(r.Client, config)
	s := p.signer(r.Client, sc)
	s.token, s.tokenKey = r.Temporary.Token, r.Temporary.Secret
	at := p.now()
	call := &oauth1Call{method: p.spec.oauth1.tokenMethod, url: p.spec.token, params: p.spec.tokenParams, signer: s}
	form, err := p.ask(ctx, call, sc, pair{"oauth_verifier", r.Code})
	if err != nil {
		return nil, err
	}
	raw, err := jsonForm(values(form))
	if err != nil {
		return nil, asFailure(err)
	}
	maps.Copy(returned, p.metadata(&token{raw: raw}, r.Client))
	m := &broker.Material{
		Type: p.spec.facts.CredentialType, Access: broker.NewSecret(form["oauth_token"]), Answer: broker.NewSecret(string(raw)),
		Details: map[string]broker.Secret{tokenSecret: broker.NewSecret(form["oauth_token_secret"])}, ExpiresAt: oauth1Expiry(raw, at),
	}
	return &broker.Obtained{Material: m, Config: undecided(returned, r.Config)}, nil
}

// tokenSecret is the detail of a credential that signs with it.
const tokenSecret = "oauth_token_secret"

// oauth1Expiry reads when a credential ends. The protocol has no word for that, so most do not.
func oauth1Expiry(raw jsontext.Value, at time.Time) time.Time {
	for _, name := range []string{"oauth_expires_in", "expires_in"} {
		if d := parseLifetime(get(raw, name), time.Second); d > 0 {
			return at.Add(d)
		}
	}
	return time.Time{}
}

func values(form map[string]string) url.Values {
	out := make(url.Values, len(form))
	for name, v := range form {
		out.Set(name, v)
	}
	return out
}

// oauth1Call is a request for a credential.
type oauth1Call struct {
	method string
	url    *urlTemplate
	params []namedTemplate
	signer *oauth1Signer
}

// ask sends a request for a credential and gives the answer's parameters, of which the credential's are good.
func (p *oauth1Provider) ask(ctx context.Context, c *oauth1Call, sc *scope, more pair) (map[string]string, error) {
	target, err := c.url.expand(sc, p.deps.checkURL)
	if err != nil {
		return nil, asFailure(err)
	}
	params, err := fillAll(c.params, sc)
	if err != nil {
		return nil, asFailure(err)
	}
	form := url.Values{}
	for _, x := range params {
		form.Set(x.Key, x.Value)
	}
	req, err := c.request(ctx, target, form)
	if err != nil {
		return nil, asFailure(broker.ErrURLNotAllowed)
	}
	if err := c.signer.sign(req, more); err != nil {
		return nil, asFailure(err)
	}
	a, err := p.deps.send(req)
	if err != nil {
		return nil, err
	}
	return p.credentialIn(a, c.signer.clientKey.Reveal(), c.signer.tokenKey.Reveal(), more.Value)
}

// request puts the parameters where the method has them.
func (c *oauth1Call) request(ctx context.Context, target *url.URL, form url.Values) (*http.Request, error) {
	body := ""
	if c.method == http.MethodPost {
		body = form.Encode()
	} else if len(form) > 0 {
		target.RawQuery = strings.TrimPrefix(target.RawQuery+"&"+form.Encode(), "&")
	}
	req, err := http.NewRequestWithContext(ctx, c.method, target.String(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", formType+", */*;q=0.5")
	if body != "" {
		req.Header.Set("Content-Type", formType)
	}
	return req, nil
}

// credentialIn reads an answer, which is a form whatever its content type says: many call it text or a page. Secrets of the
// request never go into the error.
func (p *oauth1Provider) credentialIn(a *reply, secrets ...string) (map[string]string, error) {
	form, ok := strictForm(a.body)
	switch {
	case a.status >= 300 && a.status < 400:
		return nil, unreadable(a, codeRedirect, 0)
	case a.status >= 400 || ok && form["oauth_problem"] != "":
		return nil, p.spec.rules.failure(a, p.problemIn(a, form), secrets)
	case !ok:
		return nil, unreadable(a, codeBadAnswer, p.spec.rules.retryAfter(a))
	}
	for _, name := range []string{"oauth_token", "oauth_token_secret"} {
		if checkToken(broker.NewSecret(form[name]), name) != nil {
			return nil, unreadable(a, codeNoToken, p.spec.rules.retryAfter(a))
		}
	}
	return form, nil
}

// problemIn says what an answer tells of an error: in the parameters of the protocol's problem reporting extension, or in
// JSON.
func (p *oauth1Provider) problemIn(a *reply, form map[string]string) *verdict {
	if code := form["oauth_problem"]; errorCode().MatchString(code) {
		return &verdict{code: code, codes: []string{code}, text: form["oauth_problem_advice"]}
	}
	if raw := jsontext.Value(bytes.TrimSpace(a.body)); raw.Kind() == '{' && raw.IsValid() {
		if v := p.spec.rules.errorIn(raw, a.status); v != nil {
			return v
		}
	}
	return &verdict{}
}

// strictForm reads a form in which every name stands once.
func strictForm(body []byte) (map[string]string, bool) {
	parsed, err := url.ParseQuery(string(bytes.TrimSpace(body)))
	if err != nil || len(parsed) == 0 {
		return nil, false
	}
	form := make(map[string]string, len(parsed))
	for name, all := range parsed {
		if len(all) != 1 {
			return nil, false
		}
		form[name] = all[0]
	}
	return form, true
}

// signer signs as the client alone.
func (b *base) signer(client *broker.Client, sc *scope) *oauth1Signer {
	s := &oauth1Signer{method: b.spec.oauth1.signature, clientID: client.ID, clientKey: client.Secret, now: b.deps.now}
	s.realm, _ = b.realm(sc)
	return s
}

// realm gives the realm that requests are signed for. Errors: variable_invalid where an account is missing.
func (b *base) realm(sc *scope) (string, error) {
	o := b.spec.oauth1
	if o.realm == nil {
		return "", nil
	}
	realm, missing := o.realm.fill(sc)
	switch {
	case !o.isAccount:
		return realm, nil
	case len(missing) > 0:
		return "", broker.ErrVariableInvalid.On(string(broker.ConfigField) + "." + tbaAccount).Saying("the account's id is missing")
	}
	return accountRealm(realm), nil
}

// signing lets each request be signed with a credential, over what else sets headers. What is signed is what goes out:
// method, address, query, and a body that is a form.
func (b *base) signing(h *broker.Holding, sc *scope, before func(*http.Request) error) (func(*http.Request) error, error) {
	client := b.client(h)
	if client == nil || client.ID == "" {
		return nil, broker.ErrMisconfigured.Saying("the integration has no client id, without which no request can be signed")
	}
	if _, err := b.realm(sc); err != nil {
		return nil, err
	}
	s := b.signer(client, sc)
	s.token, s.tokenKey = h.Material.Access.Reveal(), h.Material.Details[b.spec.oauth1.tokenSecret]
	return func(r *http.Request) error {
		if before != nil {
			if err := before(r); err != nil {
				return err
			}
		}
		return s.sign(r)
	}, nil
}

// CheckMaterial refuses what cannot be such a credential.
func (p *oauth1Provider) CheckMaterial(m *broker.Material) error {
	if err := checkToken(m.Access, "oauth_token"); err != nil {
		return err
	}
	return checkToken(m.Details[tokenSecret], tokenSecret)
}

// Revoke ends the grant in the entry's own way.
func (p *oauth1Provider) Revoke(ctx context.Context, h *broker.Holding) (bool, error) {
	return p.revoke(ctx, h, func(*broker.Material) bool { return false }, nil)
}
