package providers

import (
	"bytes"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"
)

// answerRules is how an entry's answers are read.
type answerRules struct {
	predicates    []errorPredicate
	permanent     []string // codes that mean what invalid_grant means
	client        []string // codes that mean what invalid_client means
	alternate     string   // where a token is that is not at the root
	tokenPaths    []string // where a token is, in order
	milliseconds  bool     // expires_in counts milliseconds
	separator     string   // of scopes
	waitAt        []string
	waitAfter     []string
	waitRemaining string
}

// errorPredicate takes an answer for an error, whatever its status.
type errorPredicate struct {
	path     string
	equals   jsontext.Value // nil: presence counts
	unequal  bool           // a value other than equals makes the error
	present  bool
	codePath string
}

func (c *compiler) compileRules() *answerRules {
	e := c.entry
	r := &answerRules{
		permanent: e.PermanentErrors, client: e.ClientErrors, alternate: e.AlternateTokenPath,
		separator: e.ScopeSeparator, tokenPaths: []string{"access_token"}, milliseconds: e.ExpiresInUnit == "milliseconds",
		waitAt: e.RateLimit.At, waitAfter: e.RateLimit.After, waitRemaining: e.RateLimit.Remaining,
	}
	if c.mode == modeClientCredentials {
		r.tokenPaths = append(r.tokenPaths, "data.token", "jwt")
	}
	for i := range e.ErrorPredicates {
		p := &e.ErrorPredicates[i]
		x := errorPredicate{path: p.Path, codePath: p.CodePath}
		switch {
		case p.Equals.Kind == yaml.ScalarNode:
			x.equals = appendScalar(nil, &p.Equals)
		case p.Differs.Kind == yaml.ScalarNode:
			x.equals, x.unequal = appendScalar(nil, &p.Differs), true
		case p.Present != nil:
			x.present = *p.Present
		}
		if p.Path == "" || (x.equals == nil) == (p.Present == nil) || p.Equals.Kind != 0 && p.Differs.Kind != 0 {
			c.fail([]string{"error_predicates"}, "a predicate needs a path, and one of equals, differs and present")
		}
		r.predicates = append(r.predicates, x)
	}
	return r
}

// holds reports whether the answer is an error by this predicate.
func (p *errorPredicate) holds(raw jsontext.Value) bool {
	v, ok := lookup(raw, p.path)
	if ok && v.Kind() == 'n' {
		ok = false
	}
	if p.equals == nil {
		return ok == p.present
	}
	same := scalarText(v) == scalarText(p.equals) && v.Kind() == p.equals.Kind()
	return ok && same != p.unequal
}

// errorIn gives what an answer says of an error, nil if it is none. Codes stand at the usual places and at those that the
// predicates name.
func (r *answerRules) errorIn(raw jsontext.Value, status int) *verdict {
	v := &verdict{}
	paths := []string{"error", "error.code", "error.type", "error.status", "error_code", "errorCode", "code"}
	for i := range r.predicates {
		p := &r.predicates[i]
		if p.codePath != "" {
			paths = append([]string{p.codePath}, paths...)
		}
		v.predicate = v.predicate || p.holds(raw)
	}
	for _, path := range paths {
		x, ok := lookup(raw, path)
		if code := scalarText(x); ok && len(code) <= maxErrorCode && errorCode().MatchString(code) {
			v.codes = append(v.codes, code)
		}
	}
	oauthError, _ := lookup(raw, "error")
	if status < 300 && !v.predicate && (oauthError.Kind() != '"' || scalarText(oauthError) == "") {
		return nil
	}
	if len(v.codes) > 0 {
		v.code = v.codes[0]
	}
	for _, path := range []string{"error_description", "error.message", "message", "error_message"} {
		if x, ok := lookup(raw, path); ok && x.Kind() == '"' {
			v.text = scalarText(x)
			break
		}
	}
	return v
}

// token is what a token endpoint gave.
type token struct {
	access, refresh       string
	expires, refreshUntil time.Time
	scopes                []string
	raw                   jsontext.Value
}

// read takes an answer for a token or for an error. Nothing of an answer that fails here is used. Errors: *ProviderError.
func (r *answerRules) read(a *reply, secrets []string) (*token, error) {
	raw, ok := decodeAnswer(a)
	switch {
	case a.status >= 300 && a.status < 400:
		return nil, unreadable(a, codeRedirect, 0)
	case !ok && a.status >= 400:
		return nil, r.failure(a, &verdict{}, nil)
	case !ok:
		return nil, unreadable(a, codeBadAnswer, r.retryAfter(a))
	}
	if v := r.errorIn(raw, a.status); v != nil {
		return nil, r.failure(a, v, secrets)
	}
	t := r.token(raw, a.at)
	if t == nil {
		return nil, unreadable(a, codeNoToken, r.retryAfter(a))
	}
	return t, nil
}

// token finds the token in an answer; nil if there is none, or none that can be one.
func (r *answerRules) token(raw jsontext.Value, at time.Time) *token {
	where := raw // the object that refresh token and expiry stand in
	access := ""
	for _, path := range r.tokenPaths {
		if v, ok := lookup(raw, path); ok && access == "" {
			access = text(v)
		}
	}
	if v, ok := lookup(raw, r.alternate); ok && access == "" && r.alternate != "" {
		if access = text(v); v.Kind() == '{' {
			where = v
			inner, _ := lookup(v, "access_token")
			access = text(inner)
		}
	}
	refresh := text(get(where, "refresh_token"))
	if access == "" || len(access) > maxToken || !visibleASCII(access) || len(refresh) > maxToken || !visibleASCII(refresh) {
		return nil
	}
	return &token{
		access: access, refresh: refresh, raw: raw,
		expires:      r.expiry(where, at),
		refreshUntil: refreshExpiry(where, at),
		scopes:       scopesIn(get(where, "scope"), r.separator),
	}
}

// expiry reads when a token runs out; zero: the answer does not say, or not believably.
func (r *answerRules) expiry(raw jsontext.Value, at time.Time) time.Time {
	unit := time.Second
	if r.milliseconds {
		unit = time.Millisecond
	}
	if d := parseLifetime(get(raw, "expires_in"), unit); d > 0 {
		return at.Add(d)
	}
	v := scalarText(get(raw, "expires_at"))
	end, err := time.Parse(time.RFC3339, v)
	if err != nil {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return time.Time{}
		}
		var ok bool
		if end, ok = epoch(n); !ok {
			return time.Time{}
		}
	}
	if !end.After(at) || end.Sub(at) > maxLifetime {
		return time.Time{}
	}
	return end
}

// refreshExpiry reads when a refresh token runs out, by the names that providers have for it.
func refreshExpiry(raw jsontext.Value, at time.Time) time.Time {
	for _, name := range []string{"refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"} {
		if d := parseLifetime(get(raw, name), time.Second); d > 0 {
			return at.Add(d)
		}
	}
	return time.Time{}
}

// maxLifetime is the longest life of a token that is believed.
const maxLifetime = 10 * 365 * 24 * time.Hour

// parseLifetime reads a number, or a string that holds one, in (0, 10 years]; zero if it is anything else.
func parseLifetime(v jsontext.Value, unit time.Duration) time.Duration {
	n, err := strconv.ParseFloat(strings.TrimSpace(scalarText(v)), 64)
	if err != nil || !(n > 0) || n > float64(maxLifetime/unit) {
		return 0
	}
	return time.Duration(n * float64(unit))
}

// scopesIn reads granted scopes: words with spaces, commas or the entry's own separator between them, or a list; nil if the
// answer does not say.
func scopesIn(v jsontext.Value, separator string) []string {
	var words []string
	switch v.Kind() {
	case '"':
		said := text(v)
		if separator != "" {
			said = strings.ReplaceAll(said, separator, " ")
		}
		words = strings.FieldsFunc(said, func(r rune) bool { return r == ' ' || r == ',' })
	case '[':
		if json.Unmarshal(v, &words) != nil {
			return nil
		}
	default:
		return nil
	}
	return slices.DeleteFunc(words, func(s string) bool { return s == "" })
}

// decodeAnswer gives an answer as a JSON object. Names are unique and in their exact case; a form, where the content type
// says that it is one, becomes an object of strings.
func decodeAnswer(a *reply) (jsontext.Value, bool) {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	body := bytes.TrimSpace(a.body)
	isForm := kind == formType || kind == "text/plain" && !bytes.HasPrefix(body, []byte("{"))
	if kind == "text/html" {
		return nil, false
	}
	if isForm {
		form, err := url.ParseQuery(string(body))
		if err != nil || len(form) == 0 {
			return nil, false
		}
		for _, values := range form {
			if len(values) != 1 {
				return nil, false
			}
		}
		raw, err := jsonForm(form)
		return raw, err == nil
	}
	raw := jsontext.Value(body)
	return raw, raw.Kind() == '{' && raw.IsValid()
}
