package providers

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"github.com/coatcheck/coatcheck/broker"
)

// revokeSpec is how a provider ends a grant: RFC 7009, or a recipe of its own.
type revokeSpec struct {
	url     *urlTemplate
	method  string
	recipe  bool   // nothing is sent but what is written
	auth    string // basic, body, bearer, none; empty: as at the token endpoint
	param   string
	format  string // form, json, none
	params  []namedTemplate
	headers []namedTemplate
	tokens  []string // refresh, access; in order
	whole   bool     // one call ends the grant
}

func (c *compiler) compileRevocation() {
	e := c.entry
	if e.RevocationURL == "" {
		return
	}
	r := e.Revocation
	c.oneOf("revocation.style", r.Style, "rfc7009", "recipe")
	c.oneOf("revocation.method", r.Method, "POST", "DELETE", "GET")
	c.oneOf("revocation.auth", r.Auth, "basic", "body", "bearer", "none")
	c.oneOf("revocation.body_format", r.BodyFormat, "form", "json", "none")
	out := &revokeSpec{
		url: c.url([]string{"revocation_url"}, e.RevocationURL), method: r.Method, recipe: r.Style == "recipe", auth: r.Auth,
		param: r.TokenParam, format: r.BodyFormat, whole: r.WholeGrant, tokens: []string{"refresh", "access"},
		params:  c.named([]string{"revocation", "params"}, r.Params),
		headers: c.named([]string{"revocation", "headers"}, r.Headers),
	}
	if out.method == "" {
		out.method = http.MethodPost
	}
	if out.param == "" {
		out.param = "token"
	}
	if r.Tokens != nil {
		out.tokens = *r.Tokens
	}
	for _, kind := range out.tokens {
		c.oneOf("revocation.tokens", kind, "refresh", "access")
	}
	if out.url != nil {
		c.revoke = out
	}
}

// Revoke ends the grant at the provider: the refresh token first, since most servers end what came of it too. A token that
// the provider no longer knows is as good as revoked.
func (p *oauth2Provider) Revoke(ctx context.Context, h *broker.Holding) (bool, error) {
	return p.revoke(ctx, h, p.Renewable, p.Renew)
}

// Revoke ends the tokens that the client was given.
func (p *clientCredentials) Revoke(ctx context.Context, h *broker.Holding) (bool, error) {
	return p.revoke(ctx, h, p.Renewable, p.Renew)
}

func (b *base) revoke(
	ctx context.Context, h *broker.Holding, renewable func(*broker.Material) bool,
	renew func(context.Context, *broker.Holding) (*broker.Obtained, error),
) (bool, error) {
	r := b.spec.revoke
	if r == nil {
		return false, nil
	}
	if _, missing := r.url.fill(b.scope(h)); len(missing) > 0 {
		return false, nil // this connection has no address for it
	}
	m := h.Material
	if r.auth == "bearer" && !m.ExpiresAt.IsZero() && !m.ExpiresAt.After(b.now()) && renewable(m) {
		got, err := renew(ctx, h)
		if err != nil {
			return true, alreadyEnded(err)
		}
		h = &broker.Holding{Client: h.Client, Config: h.Config, Material: got.Material}
	}
	return b.revokeTokens(ctx, h, nil)
}

// revokeTokens names the tokens one after the other, at that address or, if it is nil, at the entry's.
func (b *base) revokeTokens(ctx context.Context, h *broker.Holding, at *url.URL) (bool, error) {
	r := b.spec.revoke
	tokens := r.present(h.Material)
	if len(tokens) == 0 && len(r.tokens) > 0 {
		return false, nil // nothing that could be named
	}
	if len(tokens) == 0 {
		tokens = []string{""}
	}
	for i, kind := range tokens {
		err := alreadyEnded(b.revokeOne(ctx, h, kind, at))
		if i > 0 && answeredClearly(err) {
			err = nil // the first token is revoked, and this one went with it
		}
		if err != nil {
			return true, err
		}
	}
	return true, nil
}

// present lists the kinds of token that there are, in the order of the entry; one is enough where it ends the whole grant.
func (r *revokeSpec) present(m *broker.Material) []string {
	var out []string
	for _, kind := range r.tokens {
		if kind == "refresh" && !m.Refresh.IsZero() || kind == "access" && !m.Access.IsZero() {
			out = append(out, kind)
		}
	}
	if r.whole && len(out) > 1 {
		out = out[:1]
	}
	return out
}

// revokeOne makes one call.
func (b *base) revokeOne(ctx context.Context, h *broker.Holding, kind string, at *url.URL) error {
	r := b.spec.revoke
	sc := b.scope(h)
	if at == nil {
		var err error
		if at, err = r.url.expand(sc, b.deps.checkURL); err != nil {
			return asFailure(err)
		}
	}
	form, err := r.form(h.Material, kind, sc)
	if err != nil {
		return asFailure(err)
	}
	p := &broker.Presentation{}
	if err := b.revokeAuth(p, form, h, at.String()); err != nil {
		return asFailure(err)
	}
	for _, t := range r.headers {
		if err := addHeader(p, t, sc); err != nil {
			return asFailure(err)
		}
	}
	req, err := r.request(ctx, at, form)
	if err != nil {
		return asFailure(broker.ErrURLNotAllowed)
	}
	for _, x := range p.Headers {
		req.Header[x.Key] = x.Values
	}
	if p.Sign != nil {
		if err := p.Sign(req); err != nil {
			return asFailure(err)
		}
	}
	cert, err := b.certificate(h)
	if err != nil {
		return asFailure(err)
	}
	a, err := b.deps.sendAs(req, cert)
	if err != nil {
		return err
	}
	return b.revoked(a, h)
}

// form gives the parameters of a call.
func (r *revokeSpec) form(m *broker.Material, kind string, sc *scope) (url.Values, error) {
	form := url.Values{}
	switch kind {
	case "refresh":
		form.Set(r.param, m.Refresh.Reveal())
	case "access":
		form.Set(r.param, m.Access.Reveal())
	}
	if kind != "" && !r.recipe {
		form.Set("token_type_hint", kind+"_token")
	}
	params, err := fillAll(r.params, sc)
	if err != nil {
		return nil, err
	}
	for _, x := range params {
		form.Set(x.Key, x.Value)
	}
	return form, nil
}

// revokeAuth puts the proof of who asks into headers or parameters.
func (b *base) revokeAuth(p *broker.Presentation, form url.Values, h *broker.Holding, target string) error {
	how := b.spec.revoke.auth
	if how == "" {
		how = "body"
		if b.spec.tokenAuth.style == oauth2.AuthStyleInHeader || b.spec.tokenAuth.rawBasic {
			how = "basic"
		}
	}
	client := b.client(h)
	switch {
	case how == "bearer":
		presented, err := b.presentTo(h)
		if err != nil {
			return err
		}
		*p = *presented
	case how == "none" || client == nil:
	case how == "basic":
		raw := url.QueryEscape(client.ID) + ":" + url.QueryEscape(client.Secret.Reveal())
		p.Headers = append(p.Headers, broker.Header{
			Key: "Authorization", Values: []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(raw))},
		})
	case how == "body" && b.spec.tokenAuth.asserted:
		form.Set("client_id", client.ID)
		return b.assert(form, client, target, b.scope(h))
	case how == "body":
		form.Set("client_id", client.ID)
		if s := client.Secret.Reveal(); s != "" && !b.spec.tokenAuth.public {
			form.Set("client_secret", s)
		}
	}
	return nil
}

// request makes the request of a call.
func (r *revokeSpec) request(ctx context.Context, u *url.URL, form url.Values) (*http.Request, error) {
	body, contentType := "", ""
	switch r.format {
	case "none":
	case "json":
		raw, err := jsonForm(form)
		if err != nil {
			return nil, err
		}
		body, contentType = string(raw), jsonType
	default:
		body, contentType = form.Encode(), formType
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", jsonType)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return req, nil
}

// goneStatuses are answers to a recipe that name a token, by which the provider says that it has none of the kind.
var goneStatuses = []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusGone}

// revoked reads the answer. Any success counts, body or not (RFC 7009 section 2.2).
func (b *base) revoked(a *reply, h *broker.Holding) error {
	bearer := b.spec.revoke.auth == "bearer"
	if slices.Contains(goneStatuses, a.status) && (bearer || a.status != http.StatusUnauthorized) && b.spec.revoke.recipe {
		return nil
	}
	raw, ok := decodeAnswer(a)
	var v *verdict
	if ok {
		v = b.spec.rules.errorIn(raw, a.status)
	}
	if v == nil && a.status >= 200 && a.status < 300 {
		return nil
	}
	if v == nil {
		v = &verdict{}
	}
	client := b.client(h)
	secrets := []string{h.Material.Access.Reveal(), h.Material.Refresh.Reveal()}
	if client != nil {
		secrets = append(secrets, client.Secret.Reveal())
	}
	return b.spec.rules.failure(a, v, secrets)
}

// deadCodes say that a token is not known any more.
var deadCodes = []string{"invalid_token", "token_revoked", "invalid_auth", "token_expired", "account_inactive"}

// alreadyEnded takes the word that a grant is gone for success.
func alreadyEnded(err error) error {
	var p *broker.ProviderError
	if errors.As(err, &p) && (p.Class == broker.GrantLost || p.Status < 500 && slices.Contains(deadCodes, p.Code)) {
		return nil
	}
	return err
}

// answeredClearly reports whether the provider looked at the request and refused it.
func answeredClearly(err error) bool {
	var p *broker.ProviderError
	return errors.As(err, &p) && p.Status >= 400 && p.Status < 500 && p.Status != http.StatusTooManyRequests &&
		p.Status != http.StatusRequestTimeout && p.Class != broker.ClientRefused
}
