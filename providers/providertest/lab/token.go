package lab

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// token answers the token endpoint; nil: the request is not to it.
func (p *Provider) token(q *request) *reply {
	e := p.entry
	if e.Mode() != modeOAuth2 && e.Mode() != modeClientCredentials && e.Mode() != modeCustom && !e.isMCP() || q.method == http.MethodGet && e.Trades() {
		return nil
	}
	exchangesAt, renewsAt := e.text("token_url"), e.text("refresh_url")
	if e.Mode() == modeCustom {
		exchangesAt = e.text("token_url", modeOAuth2)
	}
	if renewsAt == "" {
		renewsAt = exchangesAt
	}
	toExchange, toRenew := p.isTo(q, exchangesAt), p.isTo(q, renewsAt)
	if !toExchange && !toRenew {
		return nil
	}
	params := p.params(q, e.text("body_format"))
	p.rename(params)
	if q.method != http.MethodPost || q.url.RawQuery != "" && e.text("body_format") != "query" && !strings.Contains(renewsAt, "?") {
		p.fault("token request: %s, or parameters in its address", q.method)
	}
	switch {
	case e.Mode() == modeClientCredentials:
		return p.grantClient(q, params)
	case params["refresh_token"] != "" && toRenew:
		return p.renew(q, params)
	case params["code"] != "" && toExchange:
		return p.exchange(q, params)
	}
	p.fault("token request: it has neither a code nor a refresh token, or went to the wrong one of the two endpoints")
	return &reply{status: http.StatusBadRequest, body: map[string]any{"error": "invalid_request"}}
}

// isTo reports whether a request goes to the address that a template gives for somebody.
func (p *Provider) isTo(q *request, template string) bool {
	for _, g := range p.everybody() {
		if _, ok := leadsTo(q.url, p.values(g).address(template)); ok {
			return true
		}
	}
	return false
}

// everybody lists the grants, and those that are about to be made.
func (p *Provider) everybody() []*grant {
	out := append([]*grant(nil), p.grants...)
	for _, g := range p.pending {
		out = append(out, g)
	}
	return out
}

// params reads the parameters of a request in the format that it should have.
func (p *Provider) params(q *request, format string) map[string]string {
	out := map[string]string{}
	kind, _, _ := strings.Cut(q.header.Get("Content-Type"), ";")
	switch {
	case format == "json":
		if kind != "application/json" || json.Unmarshal(q.body, &out) != nil {
			p.fault("the body is not a JSON object of texts")
		}
		return out
	case format == "query" && p.entry.Mode() == modeClientCredentials:
		for name, all := range q.url.Query() {
			out[name] = strings.Join(all, "\n")
		}
		return out
	case kind != formType:
		p.fault("the body is not a form, but %q", kind)
	}
	form, err := url.ParseQuery(string(q.body))
	if err != nil {
		p.fault("the form cannot be read")
	}
	for name, all := range form {
		out[name] = strings.Join(all, "\n")
	}
	return out
}

// rename gives parameters their usual names.
func (p *Provider) rename(params map[string]string) {
	for usual, own := range p.entry.pairs("token_param_names") {
		if _, ok := params[usual]; ok {
			p.fault("token request: a parameter is called %s, and not %s", usual, own)
		}
		if v, ok := params[own]; ok {
			params[usual] = v
			delete(params, own)
		}
	}
}

// prover is a client that has to prove itself, and how.
type prover struct {
	id, secret, how string
	key             int // which one it signs with
}

// prover gives the client of a grant: the user's own, the one that a server made, or the integration's.
func (p *Provider) prover(g *grant) prover {
	how := p.entry.text("token_auth_method")
	if how == "" && p.entry.text("authorization_method") == "header" {
		how = "client_secret_basic"
	}
	switch {
	case g.user.Credentials["client_id"] != "":
		return prover{g.user.Credentials["client_id"], g.user.Credentials["client_secret"], how, g.user.N}
	case g.of != nil:
		return prover{g.of.ID, g.of.Secret, g.of.auth, keyOfClient}
	}
	return prover{p.client.ID, p.client.Secret, how, keyOfClient}
}

// proves checks how a client proves itself, and takes its parameters away.
func (p *Provider) proves(q *request, params map[string]string, c prover) {
	user, password, inHeader := (&http.Request{Header: q.header}).BasicAuth()
	givenID, inBody := params["client_id"]
	givenSecret, secretInBody := params["client_secret"]
	delete(params, "client_id")
	delete(params, "client_secret")
	switch c.how {
	case keyAuth:
		if inBody && givenID != c.id || secretInBody || q.header.Get("Authorization") != "" {
			p.fault("a client with a key gives its id at most, beside what it has signed")
		}
		if problem := p.asserts(q, params, c); problem != "" {
			p.fault("the client's assertion: %s", problem)
		}
	case "client_secret_basic":
		// RFC 6749 section 2.3.1: both halves are encoded as in a form.
		user, err := url.QueryUnescape(user)
		password, also := url.QueryUnescape(password)
		if !inHeader || err != nil || also != nil || user != c.id || password != c.secret {
			p.fault("the client does not prove itself in the header")
		}
		if secretInBody {
			p.fault("the client's secret is in the body too")
		}
	case "none":
		if !inBody || givenID != c.id || secretInBody || q.header.Get("Authorization") != "" {
			p.fault("a public client gives its id, and nothing else")
		}
	default:
		if givenID != c.id || givenSecret != c.secret {
			p.fault("the client does not prove itself in the body")
		}
		if q.header.Get("Authorization") != "" {
			p.fault("the client's proof is in the header too")
		}
	}
}

// exchange gives the first token for a code.
func (p *Provider) exchange(q *request, params map[string]string) *reply {
	p.note(Exchange)
	g := p.pending[params["code"]]
	if g == nil {
		p.fault("exchange: the code is not one that was given, or was used before")
		return p.refusal(&grant{user: &User{}})
	}
	delete(p.pending, params["code"])
	v := p.values(g)
	p.proves(q, params, p.prover(g))
	want := map[string]string{"grant_type": "authorization_code", "code": params["code"]}
	if g.redirect != "" { // where the page took one (RFC 6749 section 4.1.3)
		want["redirect_uri"] = g.redirect
	}
	if g.challenge != "" {
		want["code_verifier"] = anything
	}
	if p.entry.isMCP() {
		want["resource"] = p.resource(g.user)
	}
	p.fillIn(want, "token_params", v)
	if problem := differences(want, params); problem != "" {
		p.fault("exchange: %s", problem)
	}
	sum := sha256.Sum256([]byte(params["code_verifier"]))
	if g.challenge != "" && base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge {
		p.fault("exchange: the verifier does not belong to the challenge")
		return p.refusal(g)
	}
	p.grants = append(p.grants, g)
	p.issue(g)
	if g.short = p.entry.Trades(); g.short {
		g.expires = p.now().Add(time.Hour)
	}
	if p.entry.Renews() {
		g.refresh = "refresh-0-of-" + g.access
	}
	return p.issued(g, true)
}

// fillIn lays the entry's own parameters over those that every request has.
func (p *Provider) fillIn(want map[string]string, key string, v values) {
	for name, template := range p.entry.pairs(key) {
		if value, ok := v.text(template); ok {
			want[name] = value
		} else {
			p.fault("%s: %s needs a value that there is not", key, name)
		}
	}
}

// renew gives the next token for a refresh token, and notices one that comes back.
func (p *Provider) renew(q *request, params map[string]string) *reply {
	p.note(Refresh)
	for _, g := range p.grants {
		if g.spent[params["refresh_token"]] {
			p.fault("renewal: a refresh token that was spent comes back")
			g.good = false
			return p.refusal(g)
		}
		if g.refresh != params["refresh_token"] {
			continue
		}
		p.proves(q, params, p.prover(g))
		want := map[string]string{"refresh_token": g.refresh}
		if p.entry.isMCP() {
			want["resource"] = p.resource(g.user)
		}
		if p.entry.has("refresh_params") {
			p.fillIn(want, "refresh_params", p.values(g))
		} else {
			p.fillIn(want, "token_params", p.values(g))
		}
		want["grant_type"] = "refresh_token"
		if problem := differences(want, params); problem != "" {
			p.fault("renewal: %s", problem)
		}
		if !g.good {
			return p.refusal(g)
		}
		p.issue(g)
		if p.rotates(g) {
			g.spent[g.refresh] = true
			g.refresh = "refresh-of-" + g.access
		}
		return p.issued(g, false)
	}
	p.fault("renewal: the refresh token is nobody's")
	return p.refusal(&grant{user: &User{}})
}

// rotates reports whether a renewal brings another refresh token. Where the entry does not know, it does for some.
func (p *Provider) rotates(g *grant) bool {
	switch p.entry.text("refresh_rotation") {
	case "yes":
		return true
	case "no":
		return false
	}
	return g.user.N%2 == 0 && !p.entry.quirk("no_new_refresh_token")
}

// grantClient gives a token to a client of a user's own.
func (p *Provider) grantClient(q *request, params map[string]string) *reply {
	p.note(Exchange)
	id := params["client_id"]
	if t := readJWS(params["client_assertion"]); t != nil {
		id, _ = t.claims["sub"].(string)
	}
	if user, _, ok := (&http.Request{Header: q.header}).BasicAuth(); ok {
		id, _ = url.QueryUnescape(user)
	}
	for _, g := range p.grants {
		if g.user.Credentials["client_id"] != id {
			continue
		}
		p.proves(q, params, p.prover(g))
		if problem := p.shown(q, g); problem != "" {
			p.fault("token request: %s", problem)
		}
		want := map[string]string{}
		p.fillIn(want, "token_params", p.values(g))
		if len(g.asked) > 0 {
			want["scope"] = p.scopes(g.asked)
		}
		if problem := differences(want, params); problem != "" {
			p.fault("token request: %s", problem)
		}
		if !g.good {
			return &reply{status: http.StatusUnauthorized, body: map[string]any{"error": "invalid_client", "error_description": "no such client"}}
		}
		p.issue(g)
		return p.issued(g, true)
	}
	p.fault("token request: the client is nobody's")
	return &reply{status: http.StatusUnauthorized, body: map[string]any{"error": "invalid_client"}}
}

// trade gives a token for another that lives longer; nil: the request is not for one.
func (p *Provider) trade(q *request) *reply {
	if !p.entry.Trades() {
		return nil
	}
	for _, g := range p.grants {
		address, params := "url", "params"
		if !g.short && p.entry.has("long_lived_token", "renew_url") {
			address = "renew_url"
		}
		if !g.short && p.entry.has("long_lived_token", "renew_params") {
			params = "renew_params"
		}
		v := p.values(g)
		more, ok := leadsTo(q.url, v.address(p.entry.text("long_lived_token", address)))
		if !ok || q.method != http.MethodGet {
			continue
		}
		want, got := map[string]string{}, map[string]string{}
		for name, template := range p.entry.pairs("long_lived_token", params) {
			want[name], _ = v.text(template)
		}
		for name, all := range more {
			got[name] = strings.Join(all, "\n")
		}
		if differences(want, got) != "" {
			continue
		}
		if q.header.Get("Authorization") != "" {
			p.fault("trade: there is a header besides the parameters")
		}
		p.note(Trade)
		if !g.good || !g.expires.After(p.now()) {
			return p.refusal(g)
		}
		g.short = false
		p.issue(g)
		return p.issued(g, false)
	}
	return nil
}
