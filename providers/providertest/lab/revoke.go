package lab

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// revocation answers the call that ends a grant; nil: the request is not that.
func (p *Provider) revocation(q *request) *reply {
	e := p.entry
	if !e.has("revocation_url") || q.method != p.revokesBy() {
		return nil
	}
	if form, err := url.ParseQuery(string(q.body)); err == nil && form.Has("grant_type") {
		return nil // some take both at one address
	}
	for _, g := range slices.Backward(p.grants) {
		if p.ending != nil && g != p.ending {
			continue
		}
		if _, ok := leadsTo(q.url, p.values(g).address(e.text("revocation_url"))); !ok {
			continue
		}
		p.note(Revoke)
		body := map[string]any{}
		p.pass(body)
		if p.ending == nil {
			return &reply{status: http.StatusOK, body: body}
		}
		if problem := p.revokes(q, g); problem != "" {
			p.fault("revocation: %s", problem)
		}
		return &reply{status: http.StatusOK, body: body}
	}
	return nil
}

func (p *Provider) revokesBy() string {
	if m := p.entry.text("revocation", "method"); m != "" {
		return m
	}
	return http.MethodPost
}

// Revocable lists the kinds of token of a user that have to be revoked, in order; one that is "" is a call without a token.
// ok is false where the grant cannot be ended.
func (p *Provider) Revocable(u *User) (kinds []string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kinds, ok = p.revocable(p.grantOf(u))
	if in := p.installOf(u); in != nil {
		return append([]string{OfInstallation}, kinds...), true
	}
	return kinds, ok
}

func (p *Provider) revocable(g *grant) (kinds []string, ok bool) {
	e := p.entry
	if !slices.Contains([]string{modeOAuth2, modeOAuth1, modeClientCredentials, modeTwoStep, modeBill, modeMCP, modeMCPGeneric, modeApp, modeCustom}, e.Mode()) ||
		e.generic() && g.user.N%2 == 1 ||
		p.values(g).address(e.text("revocation_url")) == nil {
		return nil, false
	}
	wanted := []string{"refresh", "access"}
	if e.has("revocation", "tokens") {
		wanted = e.list("revocation", "tokens")
	}
	if len(wanted) == 0 {
		return []string{""}, true
	}
	for _, kind := range wanted {
		if p.tokenOf(g, kind) != "" {
			kinds = append(kinds, kind)
		}
	}
	if p.entry.WholeGrant() && len(kinds) > 1 {
		kinds = kinds[:1]
	}
	return kinds, len(kinds) > 0
}

// WholeGrant reports whether one call ends all that the account granted to the client.
func (e *Entry) WholeGrant() bool { return e.at("revocation", "whole_grant") == true }

func (p *Provider) tokenOf(g *grant, kind string) string {
	switch kind {
	case "refresh":
		return g.refresh
	case "access":
		return g.access
	}
	return ""
}

// revokes says what is wrong with a revocation, and notes which token it is of.
func (p *Provider) revokes(q *request, g *grant) string {
	kinds, _ := p.revocable(g)
	if len(g.ended) >= len(kinds) {
		return "it comes once too often"
	}
	kind := kinds[len(g.ended)]
	g.ended = append(g.ended, kind)
	e, v := p.entry, p.values(g)
	want := map[string]string{}
	if token := p.tokenOf(g, kind); token != "" {
		name := e.text("revocation", "token_param")
		if name == "" {
			name = "token"
		}
		want[name] = token
	}
	if e.text("revocation", "style") != "recipe" && kind != "" {
		want["token_type_hint"] = kind + "_token"
	}
	p.fillInRevocation(want, v)
	if problem := p.revocationBody(q, g, want, v); problem != "" {
		return problem
	}
	if problem := p.shown(q, g); problem != "" {
		return problem
	}
	return p.revocationHeaders(q, g, v)
}

func (p *Provider) fillInRevocation(want map[string]string, v values) {
	for name, template := range p.entry.pairs("revocation", "params") {
		if value, ok := v.text(template); ok {
			want[name] = value
		} else {
			p.fault("revocation: %s needs a value that there is not", name)
		}
	}
}

// proof is how whoever asks for a revocation proves who it is.
func (p *Provider) proof(g *grant) string {
	if how := p.entry.text("revocation", "auth"); how != "" {
		return how
	}
	how := p.entry.text("token_auth_method")
	if g.of != nil {
		how = g.of.auth
	}
	if how == "client_secret_basic" {
		return "basic"
	}
	return "body"
}

func (p *Provider) revocationBody(q *request, g *grant, want map[string]string, v values) string {
	format := p.entry.text("revocation", "body_format")
	if format == "none" {
		if len(q.body) > 0 {
			return "there should be no body"
		}
		if more, _ := leadsTo(q.url, v.address(p.entry.text("revocation_url"))); len(more) > 0 {
			return "there are parameters in the address"
		}
		return ""
	}
	got := p.params(q, format)
	if c := p.prover(g); p.proof(g) == "body" {
		want["client_id"] = c.id
		switch c.how {
		case keyAuth:
			if problem := p.asserts(q, got, c); problem != "" {
				return "the client's assertion: " + problem
			}
		case "none":
		default:
			want["client_secret"] = c.secret
		}
	}
	return differences(want, got)
}

func (p *Provider) revocationHeaders(q *request, g *grant, v values) string {
	want := map[string]string{}
	switch p.proof(g) {
	case "basic":
		pair := url.QueryEscape(v["clientId"]) + ":" + url.QueryEscape(v["clientSecret"])
		want["authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
	case "bearer":
		if !g.expires.IsZero() && !p.now().Before(g.expires) {
			return "the token that it shows has ended"
		}
		return p.presented(q, g, p.entry.pairs("revocation", "headers"), v.address(p.entry.text("revocation_url")))
	}
	for name, template := range p.entry.pairs("revocation", "headers") {
		if value, ok := v.text(template); ok {
			want[strings.ToLower(name)] = value
		}
	}
	return p.headersAre(q, want, v)
}
