package lab

import (
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// billParams are what a session at BILL is begun with.
// https://developer.bill.com/docs/session-and-authentication
var billParams = map[string]any{
	"username": "${credentials.username}", "password": "${credentials.password}",
	"organizationId": "${credentials.organization_id}", "devKey": "${credentials.dev_key}",
}

// signsIn reports whether what a user typed is traded for a token, again and again.
func (e *Entry) signsIn() bool { return e.Mode() == modeTwoStep || e.Mode() == modeBill }

// signInParams is what that request says, and signInToken where the token is in its answer.
func (e *Entry) signInParams() any {
	if e.Mode() == modeBill {
		return billParams
	}
	return e.at("token_params")
}

func (e *Entry) signInToken() string {
	if e.Mode() == modeBill {
		return "sessionId"
	}
	return e.text("token_response", "token")
}

// signInFormat is how it is written: as the entry says, or as its headers do, or as JSON.
func (e *Entry) signInFormat() string {
	kind := e.text("token_headers", "content-type")
	switch format := e.text("body_format"); {
	case format != "":
		return format
	case strings.HasPrefix(kind, formType):
		return "form"
	}
	return "json"
}

// signIn answers the request that trades what somebody typed for a token; nil: the request is not one.
func (p *Provider) signIn(q *request) *reply {
	e := p.entry
	if !e.signsIn() || !p.isTo(q, e.text("token_url")) || q.method != http.MethodPost {
		return nil
	}
	p.note(Exchange)
	if e.has("additional_steps") || e.has("assertion") || e.has("refresh_token_params") {
		p.fault("sign-in: it has more parts than are played: the lab has to learn them")
	}
	first := "nobody can sign in yet"
	for i, g := range slices.Backward(p.grants) {
		problem := p.signsInAs(q, g)
		switch {
		case problem != "" && i == len(p.grants)-1:
			first = problem
		case problem != "":
		case !g.good:
			return p.shutOut(g)
		default:
			p.issue(g)
			return p.signedIn(g)
		}
	}
	p.fault("sign-in: %s", first)
	return &reply{status: http.StatusUnauthorized, body: map[string]any{"message": "no"}}
}

// signsInAs says what is wrong with a sign-in of somebody.
func (p *Provider) signsInAs(q *request, g *grant) string {
	e, v := p.entry, p.values(g)
	if more, ok := leadsTo(q.url, v.address(e.text("token_url"))); !ok || len(more) > 0 {
		return "it goes to another address"
	}
	v[ownToken] = anything
	headers := map[string]string{"content-type": formType}
	got := any(nil)
	if e.signInFormat() == "json" {
		headers["content-type"], got = "application/json", decoded(q.body)
	} else if form, err := url.ParseQuery(string(q.body)); err == nil {
		got = flat(form)
	}
	for name, template := range e.pairs("token_headers") {
		headers[strings.ToLower(name)], _ = v.text(template)
	}
	if problem := p.headersAre(q, headers, v); problem != "" {
		return problem
	}
	if problem := unlike(v.object(e.signInParams()), got); problem != "" {
		return problem
	}
	for name, template := range e.pairs("token_params") {
		if template != "${"+ownToken+"}" {
			continue
		}
		text, _ := got.(map[string]any)[name].(string)
		if problem := p.ownVouches(g, text); problem != "" {
			return name + ": " + problem
		}
		if !readJWS(text).current(p.now()) {
			return name + ": it is too old, or of tomorrow"
		}
	}
	return ""
}

// ownToken is what entries call the token that is signed for a request.
const ownToken = "token"

func flat(form url.Values) map[string]any {
	out := map[string]any{}
	for name, all := range form {
		out[name] = strings.Join(all, "\n")
	}
	return out
}

// ownVouches says what is wrong with a token that a user's key should have signed.
func (p *Provider) ownVouches(g *grant, text string) string {
	e, v := p.entry, p.values(g)
	if e.Mode() == modeSignature {
		return digests(text, g.user)
	}
	return vouches(text, e.ownKey(v), v.object(e.at("token", "header")), v.object(e.at("token", "payload")), e.ownLife())
}

// ownLife is how long such a token is good for.
func (e *Entry) ownLife() time.Duration { return e.milliseconds("token", "expires_in_ms") }

func (e *Entry) milliseconds(path ...string) time.Duration {
	n, _ := strconv.Atoi(e.text(path...))
	return time.Duration(n) * time.Millisecond
}

// ownKey is what its signature is checked with: a public key, or the secret itself.
func (e *Entry) ownKey(v values) any {
	text, ok := v.fill(e.text("token", "signing_key"), func(_, value string) string { return value })
	switch {
	case !ok:
		return nil
	case e.text("signature", "protocol") != "HMAC":
		return publicOf(text)
	case e.text("signature", "hmac_secret_encoding") == "utf8":
		return []byte(text)
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil
	}
	return raw
}

// signedIn answers with a grant's token. Users with an odd number are not told how long it lasts.
func (p *Provider) signedIn(g *grant) *reply {
	e := p.entry
	body := map[string]any{}
	if path := e.text("token_response", "token_expiration"); path != "" && g.user.N%2 == 0 {
		if e.text("token_response", "token_expiration_strategy") == "expireIn" {
			put(body, path, int(e.Life()/time.Second))
		} else {
			minutes := int(e.Life() / time.Minute)
			put(body, path, strconv.Itoa(minutes/60/24)+":"+twoDigits(minutes/60%24)+":"+twoDigits(minutes%60))
		}
	}
	put(body, e.signInToken(), g.access)
	if e.Mode() == modeBill {
		body["organizationId"], body["userId"] = g.user.Credentials["organization_id"], g.user.Account
	}
	for _, path := range e.list("token_response_metadata") {
		put(body, path, g.user.Answered[path])
	}
	body["lab_extra"] = map[string]any{"token": "not-this-one", "expires_in": 1}
	return &reply{status: http.StatusOK, body: body}
}

func twoDigits(n int) string { return strconv.Itoa(n + 100)[1:] }

// shutOut refuses what somebody typed: in the words of OAuth where the request is like one of its, or else with a status.
func (p *Provider) shutOut(g *grant) *reply {
	if p.entry.signInFormat() == "form" && g.user.N%2 == 0 {
		return p.refusal(g)
	}
	return &reply{status: http.StatusUnauthorized, body: map[string]any{"error": map[string]any{"code": "401001", "summary": "Signin Error"}}}
}

// halves gives the parts of credentials that are written as id:secret.
func halves(credentials map[string]string) values {
	out := values{}
	for name, v := range credentials {
		if id, secret, found := strings.Cut(v, ":"); found && !strings.Contains(secret, ":") {
			out["credentials."+name+".id"], out["credentials."+name+".secret"] = id, secret
		}
	}
	return out
}

// bearers lists the tokens of a request that may be ones that a user's key has signed.
func bearers(q *request) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(q.header)) {
		fields := strings.Fields(q.header.Get(name))
		if len(fields) > 0 && readJWS(fields[len(fields)-1]) != nil {
			out = append(out, fields[len(fields)-1])
		}
	}
	if out == nil {
		out = []string{"no-token-at-all"}
	}
	return out
}

// Made says what is wrong with a token that the broker made by itself, and not the provider.
func (p *Provider) Made(u *User, token string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ownVouches(p.grantOf(u), token)
}

// MakesTokens reports whether the broker makes the tokens, and no provider is asked for them.
func (e *Entry) MakesTokens() bool { return e.Mode() == modeJWT || e.Mode() == modeSignature }
