package lab

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Path is behind the API's address in calls through the proxy, and Query is their query.
const (
	Path  = "/lab/things"
	Query = "page=2"
)

// proxied answers a call of the API.
func (p *Provider) proxied(q *request) *reply {
	p.note(Call)
	q.viaProxy = true
	body := map[string]any{"things": []any{}}
	return p.answerCall(q, "proxied call", nil, body, func(g *grant) *url.URL {
		base := p.entry.text("proxy", "base_url")
		if own := p.client.Settings["baseUrl"]; own != "" {
			base = own
		}
		u := p.apiAddress(g, base)
		if u != nil {
			u.Path, u.RawPath, u.RawQuery = strings.TrimSuffix(u.Path, "/")+Path, "", Query
		}
		return u
	})
}

// apiAddress fills in an address of the API, in which a value of the connection may be several steps of a path.
func (p *Provider) apiAddress(g *grant, template string) *url.URL {
	u := p.values(g).address(template)
	if u != nil && strings.Contains(u.EscapedPath(), "%2F") {
		u.RawPath = ""
	}
	return u
}

// calls answers the calls that the broker makes of the API by itself; nil: the request is none of them.
func (p *Provider) calls(q *request) *reply {
	e := p.entry
	for _, c := range []struct {
		kind, call string
		headers    map[string]string
	}{
		{After, e.text("post_connection", "request"), e.pairs("post_connection", "headers")},
		{Ask, e.text("identity_endpoint"), nil},
	} {
		method, target, body := split(c.call)
		if method != q.method || !p.isTo(q, target) || c.kind == After && !p.awaitsAfter() {
			continue
		}
		p.note(c.kind)
		what := "call for the account"
		if c.kind == After {
			what = "call after the grant"
		}
		if !sameJSON(body, q.body) {
			p.fault("%s: the body is not the entry's", what)
		}
		return p.answerCall(q, what, c.headers, nil, func(g *grant) *url.URL { return p.values(g).address(target) })
	}
	return p.verification(q)
}

// awaitsAfter reports whether the call after a grant has not been made yet for the last one. Where it has the address of
// the identity call, it comes first.
func (p *Provider) awaitsAfter() bool { return !p.grants[len(p.grants)-1].told }

// split reads "METHOD URL", perhaps with a body behind it.
func split(call string) (method, target, body string) {
	method, target, _ = strings.Cut(call, " ")
	if i := strings.Index(target, " {"); i >= 0 {
		target, body = target[:i], target[i+1:]
	}
	return method, target, body
}

func sameJSON(want string, got []byte) bool {
	if want == "" {
		return len(got) == 0
	}
	var a, b bytes.Buffer
	return json.Compact(&a, []byte(want)) == nil && json.Compact(&b, got) == nil && a.String() == b.String()
}

// verification answers the call that tells whether a credential works; nil: the request is not that.
func (p *Provider) verification(q *request) *reply {
	e := p.entry
	method := e.text("proxy", "verification", "method")
	if method == "" {
		method = http.MethodGet
	}
	base := e.text("proxy", "verification", "base_url_override")
	if base == "" {
		base = e.text("proxy", "base_url")
	}
	for _, endpoint := range e.list("proxy", "verification", "endpoints") {
		address := func(g *grant) *url.URL {
			u := p.apiAddress(g, base)
			v := p.values(g)
			if below := v.address("https://below.example/" + strings.TrimPrefix(endpoint, "/")); u != nil && below != nil {
				u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/")+below.Path, ""
				u.RawQuery = below.RawQuery
				return u
			}
			return nil
		}
		if method != q.method || !slices.ContainsFunc(p.grants, func(g *grant) bool { _, ok := leadsTo(q.url, address(g)); return ok }) {
			continue
		}
		p.note(Ask)
		if problem := p.verifiesWith(q); problem != "" {
			p.fault("verification: %s", problem)
		}
		return p.answerCall(q, "verification", e.pairs("proxy", "verification", "headers"), map[string]any{"fine": true}, address)
	}
	return nil
}

// verifiesWith says what is wrong with the body of that call.
func (p *Provider) verifiesWith(q *request) string {
	data := p.entry.at("proxy", "verification", "data")
	switch kind := q.header.Get("Content-Type"); {
	case data == nil && len(q.body) > 0:
		return "it has a body"
	case data == nil:
		return ""
	case !strings.HasPrefix(kind, "application/json"):
		return "its body is not JSON"
	}
	return unlike(data, decoded(q.body))
}

// answerCall answers a call that presents a credential. body nil: what is known of the account.
func (p *Provider) answerCall(q *request, what string, headers map[string]string, body map[string]any, address func(*grant) *url.URL) *reply {
	holders, first := p.holders(q), "nobody has a credential yet"
	for i, g := range slices.Backward(holders) {
		for _, token := range p.tokens(q, g) {
			as := *g
			as.access = token
			if problem := p.presented(q, &as, headers, address(&as)); problem != "" {
				if i == len(holders)-1 {
					first = problem
				}
				continue
			}
			if !g.good || !p.lives(g, token) {
				return p.turnAway(g)
			}
			if body == nil {
				body, g.told = p.about(g), true
			}
			p.pass(body)
			return &reply{status: http.StatusOK, body: body}
		}
	}
	p.fault("%s: %s", what, first)
	return &reply{status: http.StatusUnauthorized, body: map[string]any{"error": "unauthorized"}}
}

// tokens lists the tokens that a request of a user may hold: the one that counts last, so that its problem is told.
func (p *Provider) tokens(q *request, g *grant) []string {
	switch p.entry.Mode() {
	case modeJWT:
		return bearers(q)
	case modeSignature:
		return usernameTokens(q)
	}
	var out []string
	for token := range g.spent {
		if strings.HasPrefix(token, "access-") {
			out = append(out, token)
		}
	}
	return append(out, g.access)
}

// lives reports whether a token is the one that counts now, and has not run out.
func (p *Provider) lives(g *grant, token string) bool {
	switch p.entry.Mode() {
	case modeJWT:
		return readJWS(token).current(p.now())
	case modeSignature:
		age := p.now().Sub(made(token))
		return age >= 0 && age < p.entry.ownLife()
	}
	return token == g.access && (g.expires.IsZero() || p.now().Before(g.expires))
}

// turnAway refuses a call. Providers whose errors come with status 200 refuse so too, unless the token has just ended.
func (p *Provider) turnAway(g *grant) *reply {
	p.note(Stale)
	body := map[string]any{"lab_extra": "refused"}
	p.fail(body, "401")
	keyed := p.entry.Mode() == modeAPIKey || p.entry.Mode() == modeBasic
	if keyed && len(p.entry.predicates()) > 0 && g.user.N%2 == 0 {
		return &reply{status: http.StatusOK, body: body}
	}
	status := http.StatusUnauthorized
	if keyed && p.entry.has("proxy", "verification") && g.user.N%4 == 3 {
		status = http.StatusForbidden
	}
	return &reply{status: status, body: body}
}

// about tells of an account, where the entry says that it stands.
func (p *Provider) about(g *grant) map[string]any {
	body := map[string]any{"lab_extra": []any{map[string]any{"id": "not-this-one"}}}
	path := p.entry.text("identity_path")
	if path == "" {
		path = "sub"
	}
	var id any = g.user.Account
	if g.user.N%2 == 1 {
		id = json.Number(g.user.Account)
	}
	if !strings.Contains(path, "${") {
		put(body, path, id)
	}
	for name, at := range p.entry.pairs("post_connection", "capture") {
		put(body, at, g.user.Answered[name])
	}
	return body
}

// presented says what is wrong with a call as the entry has it: where it goes, and where the credential is.
func (p *Provider) presented(q *request, g *grant, more map[string]string, address *url.URL) string {
	v := p.values(g)
	want := map[string]string{}
	switch p.entry.Mode() {
	case modeOAuth2, modeClientCredentials, modeJWT, modeMCP, modeMCPGeneric, modeApp, modeCustom:
		want["authorization"] = "Bearer " + g.access
	case modePlugin:
		want["authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(p.client.ID+":"+p.client.Secret))
	case modeTwoStep, modeSignature:
		if !p.entry.placesToken() {
			want["authorization"] = "Bearer " + g.access
		}
	case modeAWS:
		if g.session == nil {
			return "there is no session"
		}
		want["x-amz-security-token"], want["authorization"] = g.access, anything
	case modeBasic:
		pair := v["credentials.username"] + ":" + v["credentials.password"]
		want["authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
	}
	inQuery := map[string]string{}
	for name, template := range p.entry.pairs("proxy", "query") {
		if value, ok := v.text(template); ok {
			inQuery[name] = value
		}
	}
	headers := []map[string]string{p.entry.pairs("proxy", "headers"), more}
	if name := p.client.Settings["keyName"]; name != "" { // the integration says where the key goes
		headers = append(headers, map[string]string{strings.ToLower(name): p.client.Settings["valueTemplate"]})
	}
	for _, set := range headers {
		for name, template := range set {
			if value, ok := v.text(template); ok {
				want[strings.ToLower(name)] = value
			}
		}
	}
	extra, ok := map[string][]string(nil), false
	if address != nil {
		extra, ok = leadsTo(q.url, address)
	}
	if !ok {
		return "it goes to " + q.url.Host + ", and not where the entry says"
	}
	got := map[string]string{}
	for name, all := range extra {
		got[name] = strings.Join(all, "\n")
	}
	if problem := differences(inQuery, got); problem != "" {
		return "query: " + problem
	}
	if p.entry.Mode() == modeOAuth1 || p.entry.Mode() == modeTBA {
		return p.signed(q, g)
	}
	problem := p.headersAre(q, want, v)
	if problem == "" {
		problem = p.shown(q, g)
	}
	switch {
	case problem != "":
		return problem
	case p.entry.MakesTokens():
		return p.ownVouches(g, g.access)
	case p.entry.Mode() == modeAWS:
		return p.sigv4(q, g.session, p.client.Settings["service"], g.user.Answered["region"])
	}
	return ""
}

// placesToken reports whether the entry says itself where a token goes.
func (e *Entry) placesToken() bool {
	return slices.ContainsFunc(e.names("proxy", "headers"), func(name string) bool {
		return strings.Contains(e.text("proxy", "headers", name), "${accessToken}")
	})
}

// headersAre compares the headers that the entry has, and finds a credential in others.
func (p *Provider) headersAre(q *request, want map[string]string, v values) string {
	got := map[string]string{}
	for name, all := range q.header {
		name = strings.ToLower(name)
		value := strings.Join(all, "\n")
		if _, ok := want[name]; ok || name == "authorization" {
			got[name] = value
			continue
		}
		for of, secret := range v {
			isSecret := of == "accessToken" || of == "refreshToken" || of == "clientSecret" || of == "apiKey" || strings.HasPrefix(of, "credentials.")
			if isSecret && len(secret) > 5 && strings.Contains(value, secret) {
				return "the header " + name + " holds a secret"
			}
		}
	}
	if problem := differences(want, got); problem != "" {
		return "headers: " + problem
	}
	return ""
}

// Verifies reports whether the entry has a call of its own that tells whether a credential works.
func (e *Entry) Verifies() bool { return len(e.list("proxy", "verification", "endpoints")) > 0 }

// Identifies reports whether the entry has a call that tells whose credential it is.
func (e *Entry) Identifies() bool { return e.text("identity_endpoint") != "" }

// Pings reports whether a credential is tried by asking the server for something that changes nothing.
// So is one that signs by asking in whose name it speaks.
func (e *Entry) Pings() bool { return e.generic() || e.Mode() == modeAWS }

// KnowsAccount reports whether it stands in what is known anyway whose account it is.
func (e *Entry) KnowsAccount() bool { return strings.Contains(e.text("identity_path"), "${") }

// AsksAfter reports whether a new connection takes another call, for what only the API knows.
func (e *Entry) AsksAfter() bool { return e.has("post_connection", "request") }

// Account is what a user's account is known by; "": it is not known.
func (p *Provider) Account(u *User) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.entry.KnowsAccount():
		if id, ok := p.values(p.grantOf(u)).text(p.entry.text("identity_path")); ok {
			return id
		}
		return ""
	case p.entry.Identifies():
		return u.Account
	}
	return ""
}
