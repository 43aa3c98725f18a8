package providers

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/net/publicsuffix"

	"github.com/coatcheck/coatcheck/broker"
)

// signingIn is one sign-in under way.
type signingIn struct {
	p       *twoStep
	h       *broker.Holding
	sc      *scope
	last    *reply
	hosts   []string                 // that were asked
	brought map[string]broker.Secret // by the answers' headers
	secrets []string                 // that no error may repeat
}

// ask makes a request and keeps its answer. Errors: variable_invalid, *ProviderError.
func (r *signingIn) ask(ctx context.Context, s *step) error {
	u, err := s.url.expand(r.sc, r.p.deps.checkURL)
	if err != nil {
		return err
	}
	if len(s.url.stepHosts()) > 0 && !slices.ContainsFunc(r.hosts, func(host string) bool { return sameDomain(u.Hostname(), host) }) {
		return broker.ErrURLNotAllowed // an answer sends us to somebody else
	}
	r.hosts = append(r.hosts, u.Hostname())
	req, err := r.request(ctx, s, u)
	if err != nil {
		return err
	}
	r.hide(s)
	a, err := r.p.deps.send(req)
	if err != nil {
		return err
	}
	raw, err := r.read(a)
	if err != nil {
		return err
	}
	r.last = a
	r.sc.steps = append(r.sc.steps, raw)
	r.keepHeaders(a)
	return nil
}

// minHidden is the length of the shortest part of an answer that is taken for a secret, in bytes. Shorter ones are numbers
// and words, which many an explanation has in it.
const minHidden = 8

// hide notes what a step sends of earlier answers.
func (r *signingIn) hide(s *step) {
	refs := s.params.refs(s.url.refs())
	for _, t := range s.headers {
		refs = append(refs, t.refs()...)
	}
	for _, ref := range refs {
		if _, _, ok := stepRef(ref); !ok {
			continue
		}
		if v, _ := r.sc.look(ref); len(v) >= minHidden {
			r.secrets = append(r.secrets, v)
		}
	}
}

// request makes a step's request.
func (r *signingIn) request(ctx context.Context, s *step, u *url.URL) (*http.Request, error) {
	var body []byte
	var kind string
	var missing []string
	switch s.format {
	case "json":
		body, missing = s.params.fill(r.sc)
		kind = jsonType
	case "form", "query":
		var form url.Values
		form, missing = s.params.form(r.sc)
		if s.format == "form" {
			body, kind = []byte(form.Encode()), formType
			break
		}
		query := u.Query()
		for name, values := range form {
			query[name] = values
		}
		u.RawQuery = query.Encode()
	}
	if err := r.p.lacking(missing); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, s.method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, broker.ErrURLNotAllowed
	}
	req.Header.Set("Accept", jsonType)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for _, t := range s.headers {
		v, missing := t.fill(r.sc)
		if err := r.p.lacking(missing); err != nil {
			return nil, err
		}
		if !printable(v) {
			return nil, invalid(t.name, "would put a character into a header that it cannot have")
		}
		if len(missing) == 0 {
			req.Header.Set(t.name, v)
		}
	}
	return req, nil
}

// read gives an answer as JSON, a body of text as a JSON string. Errors: *ProviderError.
func (r *signingIn) read(a *reply) (jsontext.Value, error) {
	rules := r.p.spec.rules
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	raw, isObject := decodeAnswer(a)
	if kind == "text/plain" && !bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("{")) {
		isObject = false // not the form that it may look like
	}
	switch {
	case a.status >= 300 && a.status < 400:
		return nil, unreadable(a, codeRedirect, 0)
	case isObject:
		if v := rules.errorIn(raw, a.status); v != nil {
			return nil, r.refused(rules.failure(a, v, r.allSecrets()))
		}
		return raw, nil
	case a.status >= 400:
		return nil, r.refused(rules.failure(a, &verdict{}, nil))
	}
	raw = jsontext.Value(bytes.TrimSpace(a.body))
	switch {
	case kind == "text/html":
		return nil, unreadable(a, codeBadAnswer, rules.retryAfter(a))
	case raw.Kind() == '"' && raw.IsValid(), raw.Kind() == '[' && raw.IsValid():
		return raw, nil
	}
	return appendText(nil, string(raw)), nil
}

// refused makes the refusal of what an end user typed a matter of that connection, unless something of the integration's
// went along.
func (r *signingIn) refused(e *broker.ProviderError) error {
	lent := func(f *field) bool { return r.p.lends(r.h, f.Name) }
	if e.Class == broker.ClientRefused && !slices.ContainsFunc(r.p.spec.settings, lent) {
		e.Class = broker.GrantLost
	}
	return e
}

// allSecrets are the texts that no error may repeat.
func (r *signingIn) allSecrets() []string {
	out := slices.Clone(r.secrets)
	for _, f := range r.p.spec.fields {
		if f.Secret && f.Section == broker.CredentialField {
			out = append(out, r.sc.named[f.Name])
		}
	}
	for name, v := range r.h.Material.Details {
		if strings.HasPrefix(name, "connection_config.") {
			out = append(out, v.Reveal())
		}
	}
	return out
}

// Limits of what answers' headers may bring.
const (
	maxBrought      = 32
	maxBroughtBytes = 4 << 10
)

// keepHeaders keeps the headers that the entry names. Cookies are kept one by one and, ready to be sent, together. Nothing
// that an end user typed is replaced.
func (r *signingIn) keepHeaders(a *reply) {
	if r.brought == nil {
		r.brought = map[string]broker.Secret{}
	}
	for _, name := range r.p.spec.twoStep.headers {
		if !strings.EqualFold(name, "set-cookie") {
			r.bring(name, a.header.Get(name))
			continue
		}
		var all []string
		for _, line := range a.header.Values(name) {
			c, err := http.ParseSetCookie(line)
			if err == nil && len(all) < maxBrought && len(c.Value) <= maxBroughtBytes && printable(c.Value) {
				r.bring(c.Name, c.Value)
				all = append(all, c.Name+"="+c.Value)
			}
		}
		if len(all) > 0 {
			r.bring(nameCookies, strings.Join(all, "; "))
		}
	}
}

// bring keeps a value beside the credential. What somebody typed stays, as does connection config, which has a dot there.
func (r *signingIn) bring(name, v string) {
	declared := slices.ContainsFunc(r.p.spec.fields, func(f *field) bool { return f.Name == name })
	if v == "" || len(v) > maxToken || !printable(v) || declared || strings.Contains(name, ".") || len(r.brought) >= maxBrought {
		return
	}
	r.brought[name] = broker.NewSecret(v)
	r.sc.named[name] = v
	if len(v) >= minHidden {
		r.secrets = append(r.secrets, v)
	}
}

// result takes the token from the last answer. Nothing of an answer without one is used.
func (r *signingIn) result() (*broker.Obtained, error) {
	spec := r.p.spec.twoStep
	raw := r.sc.steps[len(r.sc.steps)-1]
	access := wholeOr(raw, spec.token)
	refresh := ""
	if spec.hasRefresh {
		refresh = text(get(raw, spec.refresh))
	}
	if access == "" || len(access) > maxToken || !visibleASCII(access) || len(refresh) > maxToken || !visibleASCII(refresh) {
		return nil, unreadable(r.last, codeNoToken, r.p.spec.rules.retryAfter(r.last))
	}
	t := &token{access: access, refresh: refresh, raw: raw, refreshUntil: claimedEnd(refresh, r.last.at)}
	t.expires = r.end(raw, access)
	m := r.p.material(t, r.h.Material)
	m.Details = r.keptDetails()
	for name, path := range spec.details {
		if v := scalarText(get(raw, path)); v != "" && len(v) <= maxToken && printable(v) {
			m.Details[name] = broker.NewSecret(v)
		}
	}
	return &broker.Obtained{Material: m, Config: r.p.metadata(t, r.h.Client)}, nil
}

// wholeOr gives the text at a path, or the whole body where that is empty.
func wholeOr(raw jsontext.Value, path string) string {
	if path == "" {
		return text(raw)
	}
	return text(get(raw, path))
}

// end is when the token runs out: as the answer says, or the entry, or the token itself where it is a JWT; zero: unknown.
func (r *signingIn) end(raw jsontext.Value, access string) time.Time {
	spec, at := r.p.spec.twoStep, r.last.at
	if spec.expiration != "" {
		v := get(raw, spec.expiration)
		if end := endIn(v, at); spec.endsIn && !end.IsZero() {
			return end
		}
		if end := endAt(v, at); !spec.endsIn && !end.IsZero() {
			return end
		}
	}
	if spec.life > 0 {
		return at.Add(spec.life)
	}
	if end := claimedEnd(access, at); !end.IsZero() {
		return end
	}
	if life := r.p.spec.entry.AccessTokenLifetime; life != "" {
		if seconds, err := strconv.Atoi(life); err == nil {
			return at.Add(time.Duration(seconds) * time.Second)
		}
	}
	return time.Time{}
}

var durationWord = expression(`^([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d|w|secs?|seconds?|mins?|minutes?|hrs?|hours?|days?|weeks?)$`)

// endIn reads seconds, or a text such as "2h".
func endIn(v jsontext.Value, at time.Time) time.Time {
	if d := parseLifetime(v, time.Second); d > 0 {
		return at.Add(d)
	}
	m := durationWord().FindStringSubmatch(strings.ToLower(strings.TrimSpace(scalarText(v))))
	if m == nil {
		return time.Time{}
	}
	unit := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}[m[2][0]]
	if m[2] == "ms" {
		unit = time.Millisecond
	}
	if d := parseLifetime(jsontext.Value(m[1]), unit); d > 0 {
		return at.Add(d)
	}
	return time.Time{}
}

var clockWord = expression(`^([0-9]{1,4}):([0-9]{1,2}):([0-9]{1,2})$`)

// endAt reads a moment: seconds or milliseconds since 1970, a date, or the days, hours and minutes that are left.
func endAt(v jsontext.Value, at time.Time) time.Time {
	s := strings.TrimSpace(scalarText(v))
	if m := clockWord().FindStringSubmatch(s); m != nil {
		days, _ := strconv.Atoi(m[1])
		hours, _ := strconv.Atoi(m[2])
		minutes, _ := strconv.Atoi(m[3])
		return believed(at.Add(time.Duration(days)*24*time.Hour+time.Duration(hours)*time.Hour+time.Duration(minutes)*time.Minute), at)
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		end, _ := epoch(n)
		return believed(end, at)
	}
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", time.RFC1123, time.DateOnly} {
		if end, err := time.Parse(form, s); err == nil {
			return believed(end, at)
		}
	}
	return time.Time{}
}

// believed gives an end that can be one, else zero.
func believed(end, at time.Time) time.Time {
	if !end.After(at) || end.Sub(at) > maxLifetime {
		return time.Time{}
	}
	return end
}

// claimedEnd is when a token says itself that it runs out, if it is a JWT. Nothing else is taken from it, and whether it is
// genuine is for its provider to judge.
func claimedEnd(token string, at time.Time) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil || !jsontext.Value(claims).IsValid() {
		return time.Time{}
	}
	n, err := strconv.ParseFloat(scalarText(get(jsontext.Value(claims), "exp")), 64)
	if err != nil {
		return time.Time{}
	}
	end, _ := epoch(n)
	return believed(end, at)
}

// sameDomain reports whether two hosts belong to the same registered domain: an answer may send a sign-in to another host
// of its provider's, and to nobody else.
func sameDomain(a, b string) bool {
	if a == b {
		return true
	}
	if _, err := netip.ParseAddr(a); err == nil {
		return false
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(a)
	if err != nil {
		return false
	}
	other, err := publicsuffix.EffectiveTLDPlusOne(b)
	return err == nil && domain == other
}

// grantLost reports whether a provider said that what it was sent is no longer good.
func grantLost(err error) bool {
	var p *broker.ProviderError
	return errors.As(err, &p) && p.Class == broker.GrantLost
}

// refusedAtOnce takes every answer of 4xx to what has just been typed for a refusal, unless it is about load or time, and
// every success with an error in it or without a token: many servers answer so to a wrong password. Nothing is lost by it,
// for nothing is stored yet.
func refusedAtOnce(err error) error {
	var p *broker.ProviderError
	if !errors.As(err, &p) || p.Class != broker.Transient {
		return err
	}
	later := slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}, p.Status) ||
		slices.Contains(passingCodes, p.Code)
	said := p.Status >= 400 && p.Status < 500 || p.Status/100 == 2 && !p.InDoubt
	if p.Code == codeNoToken || said && !later {
		p.Class = broker.GrantLost
	}
	return err
}
