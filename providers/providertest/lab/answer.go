package lab

import (
	"encoding/base64"
	"encoding/json"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// issued answers with a grant's tokens, in the entry's own shape. first tells an exchange from a renewal.
func (p *Provider) issued(g *grant, first bool) *reply {
	e := p.entry
	body := map[string]any{"access_token": g.access, "token_type": "bearer"}
	p.tellEnd(body, g)
	if g.refresh != "" && (first || p.rotates(g) || g.user.N%2 == 1) { // some repeat the old one, others leave it out
		body["refresh_token"] = g.refresh
	}
	if g.refresh != "" && (e.quirk("refresh_expiry_in_token") || e.has("refresh_token_lifetime") && g.user.N%2 == 1) {
		body["refresh_token_expires_in"] = p.refreshLife()
		body["x_refresh_token_expires_in"] = p.refreshLife()
	}
	p.tellScopes(body, g)
	if first && slices.Contains(g.asked, "openid") {
		body["id_token"] = p.idToken(g)
	}
	if e.quirk("form_response") {
		return &reply{status: http.StatusOK, form: true, body: body}
	}
	if path := e.text("alternate_access_token_response_path"); path != "" {
		outer := map[string]any{}
		put(outer, path, body)
		body = outer
	}
	body["lab_extra"] = map[string]any{"list": []any{1, "x", nil}, "refresh_token": "not-this-one"}
	body["lab_number"] = json.Number("123456789012345678901234567890")
	if first {
		for _, path := range e.list("token_response_metadata") {
			put(body, path, g.user.Answered[path])
		}
	}
	p.pass(body)
	return &reply{status: http.StatusOK, body: body}
}

// tellEnd says when a token ends, as a number or as text.
func (p *Provider) tellEnd(body map[string]any, g *grant) {
	if p.entry.quirk("expires_in_zero") {
		body["expires_in"] = 0
		return
	}
	if g.expires.IsZero() || p.entry.quirk("no_expires_in") {
		return
	}
	n := int64(g.expires.Sub(p.now()) / time.Second)
	if p.entry.text("expires_in_unit") == "milliseconds" {
		n *= 1000
	}
	if body["expires_in"] = n; g.user.N%2 == 1 {
		body["expires_in"] = strconv.FormatInt(n, 10)
	}
}

// refreshLife is how long refresh tokens last, in seconds.
func (p *Provider) refreshLife() int64 {
	if n, err := strconv.ParseInt(p.entry.text("refresh_token_lifetime"), 10, 64); err == nil {
		return n
	}
	return int64(1000 * p.entry.Life() / time.Second)
}

// tellScopes says what was granted. Some that granted what was asked for do not say so (RFC 6749 section 5.1).
func (p *Provider) tellScopes(body map[string]any, g *grant) {
	switch {
	case p.entry.quirk("scope_null"):
		body["scope"] = nil
	case len(g.asked) == 0 || g.user.N%2 == 1:
	case p.entry.quirk("scope_comma_in_response"):
		body["scope"] = strings.Join(g.asked, ",")
	default:
		body["scope"] = p.scopes(g.asked)
	}
}

// Granted lists the scopes that the provider told a user's grant to have; nil: it did not say.
func (p *Provider) Granted(u *User) []string {
	body := map[string]any{}
	p.tellScopes(body, &grant{user: u, asked: u.Scopes})
	if body["scope"] == nil {
		return nil
	}
	return u.Scopes
}

// idToken makes an ID token for the request (OpenID Connect Core section 2), which nobody signed.
func (p *Provider) idToken(g *grant) string {
	part := func(v map[string]any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			p.fault("the ID token cannot be written")
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	claims := map[string]any{
		"iss": "https://issuer.lab.example", "sub": g.user.Account, "aud": []string{p.client.ID}, "nonce": g.nonce,
		"iat": p.now().Unix(), "exp": p.now().Add(time.Hour).Unix(),
	}
	return part(map[string]any{"alg": "none"}) + "." + part(claims) + "."
}

// pass makes sure that no predicate of the entry takes an answer for an error.
func (p *Provider) pass(body map[string]any) {
	for _, x := range p.entry.predicates() {
		switch {
		case x.equals != nil:
			put(body, x.path, opposite(x.equals))
		case x.differs != nil:
			put(body, x.path, x.differs)
		case x.present != nil && !*x.present:
			put(body, x.path, "here")
		}
	}
}

func opposite(v any) any {
	if b, ok := v.(bool); ok {
		return !b
	}
	return "another"
}

// refusal says that a grant is lost, in the entry's own words.
func (p *Provider) refusal(g *grant) *reply {
	code := "invalid_grant"
	if own := p.entry.list("permanent_errors"); len(own) > 0 {
		h := fnv.New32a()
		_, _ = h.Write([]byte(p.entry.Name))
		code = own[(int(h.Sum32()%1000)+g.user.N)%len(own)]
	}
	body := map[string]any{"lab_extra": "refused"}
	p.fail(body, code)
	status := http.StatusBadRequest
	if p.entry.quirk("error_200") {
		status = http.StatusOK
	}
	return &reply{status: status, form: p.entry.quirk("form_response"), body: body}
}

// fail puts a code where the entry has codes, or where the standard has them.
func (p *Provider) fail(body map[string]any, code string) {
	var written any = code
	if _, err := strconv.Atoi(code); err == nil {
		written = json.Number(code)
	}
	placed := false
	for _, x := range p.entry.predicates() {
		switch {
		case x.equals != nil:
			put(body, x.path, x.equals)
		case x.path == x.codePath:
		case x.differs != nil:
			put(body, x.path, opposite(x.differs))
		case x.present != nil && *x.present:
			put(body, x.path, "here")
		}
		if x.codePath != "" {
			put(body, x.codePath, written)
			placed = true
		}
	}
	switch _, number := written.(json.Number); {
	case placed:
	case number:
		put(body, "error.code", written)
	default:
		body["error"], body["error_description"] = code, "the grant has ended"
	}
}

// put sets what stands at a dotted path, in which a number is an index. Objects and lists on the way are made.
func put(body map[string]any, path string, v any) {
	first, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		body[first] = v
		return
	}
	body[first] = within(body[first], rest, v)
}

// within gives what is below a key after a value was set in it.
func within(old any, path string, v any) any {
	first, rest, deeper := strings.Cut(path, ".")
	if i, err := strconv.Atoi(first); err == nil {
		list, _ := old.([]any)
		for len(list) <= i {
			list = append(list, nil)
		}
		if deeper {
			v = within(list[i], rest, v)
		}
		list[i] = v
		return list
	}
	m, ok := old.(map[string]any)
	if !ok {
		m = map[string]any{}
	}
	put(m, path, v)
	return m
}
