package providers

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"

	"github.com/coatcheck/coatcheck/broker"
)

// twoStep trades what an end user typed for a token, with requests that the entry describes: a sign-in of one step or of
// several. It is renewed with its refresh token, where the entry says how, or by signing in again.
type twoStep struct{ base }

// twoStepSpec is what an entry says of a sign-in.
type twoStepSpec struct {
	steps     []*step // the first and those that follow on it
	renewal   *step   // with the refresh token; nil: sign in again
	signed    *signedToken
	assertion *signedToken

	token, refresh, expiration string // where they stand in the last answer
	hasRefresh, endsIn         bool
	life                       time.Duration     // where the answer does not say; zero: unknown
	headers                    []string          // of the answers, that are kept with the credential
	details                    map[string]string // paths in the last answer that are kept likewise, by the credential's names
}

// step is one request.
type step struct {
	url     *urlTemplate
	method  string
	format  string // form, json, query, or none where nothing is sent
	headers []namedTemplate
	params  *tree
}

// Names under which the parts of a sign-in see what was made for it.
const (
	nameSigned    = "token"
	nameAssertion = "assertion"
	nameRefresh   = "refresh_token"
	nameCookies   = "_cookies"
)

func (c *compiler) compileTwoStep() {
	e := c.entry
	if c.mode != modeTwoStep {
		return
	}
	out := &twoStepSpec{
		token: e.TokenResponse.Token, refresh: e.TokenResponse.Refresh, hasRefresh: e.TokenResponse.Refresh != "",
		expiration: e.TokenResponse.Expiration, endsIn: e.TokenResponse.Strategy == "expireIn",
		life: time.Duration(e.TokenExpiresInMS) * time.Millisecond, headers: e.TokenAnswerHeaders,
	}
	c.oneOf("token_response.token_expiration_strategy", e.TokenResponse.Strategy, "expireIn", "expireAt")
	if e.TokenExpiresInMS < 0 || out.life > maxLifetime {
		c.fail([]string{"token_expires_in_ms"}, "is not a life of up to ten years")
	}
	if len(e.TokenURL.ByMode) > 0 || e.TokenURL.URL == "" {
		c.broken([]string{"token_url"}, "one URL is needed")
	}
	first := stepEntry{e.TokenURL.URL, e.TokenParams, e.TokenHeaders, e.TokenRequestMethod, e.BodyFormat}
	out.steps = append(out.steps, c.step("", &first))
	for i := range e.AdditionalSteps {
		more := e.AdditionalSteps[i]
		if more.BodyFormat == "" {
			more.BodyFormat = e.BodyFormat
		}
		out.steps = append(out.steps, c.step("additional_steps", &more))
	}
	if e.RefreshTokenParams.Kind != 0 || e.RefreshTokenHeaders.Kind != 0 {
		renewal := stepEntry{e.RefreshURL, e.RefreshTokenParams, e.RefreshTokenHeaders, e.TokenRequestMethod, e.BodyFormat}
		if renewal.URL == "" {
			renewal.URL = e.TokenURL.URL
		}
		out.renewal = c.step("", &renewal)
	}
	if e.Token.SigningKey != "" {
		out.signed = c.compileSigned()
	}
	out.assertion = c.compileAssertion()
	c.twoStep, c.token = out, out.steps[0].url
	c.checkSteps()
}

// step reads one request.
func (c *compiler) step(under string, e *stepEntry) *step {
	at := func(key string) []string {
		if under == "" {
			return []string{key}
		}
		return []string{under, key}
	}
	out := &step{method: strings.ToUpper(e.Method), format: e.BodyFormat, url: c.url(at("token_url"), e.URL), headers: c.texts("token_headers", &e.Headers)}
	if out.method == "" {
		out.method = http.MethodPost
	}
	if out.method != http.MethodGet && out.method != http.MethodPost {
		c.broken(at("token_request_method"), "is neither GET nor POST")
	}
	out.params = c.mapping(at("token_params"), &e.Params)
	switch {
	case out.method == http.MethodGet && out.format != "query":
		out.format = "none"
	case out.format == "":
		out.format = "json"
		if slices.ContainsFunc(out.headers, func(h namedTemplate) bool {
			return strings.EqualFold(h.name, "content-type") && len(h.alts) == 1 && strings.HasPrefix(h.alts[0].literal(), formType)
		}) {
			out.format = "form"
		}
	}
	c.oneOf("body_format", out.format, "form", "json", "query", "none")
	if (out.format == "form" || out.format == "query") && out.params != nil && !out.params.isFlat() {
		c.broken(at("token_params"), "are nested, which only JSON can be")
	}
	for _, h := range out.headers {
		if !headerName().MatchString(h.name) {
			c.fail(at("token_headers"), "%s is not the name of a header", h.name)
		}
	}
	return out
}

// checkSteps finds requests that must not be made as they are written. What belongs to the integration goes only to hosts
// that the entry or the integration's list knows: a credential must not choose one, and neither must an answer.
func (c *compiler) checkSteps() {
	for i, s := range c.twoStep.steps {
		if s.url == nil {
			continue
		}
		for _, ref := range s.url.refs() {
			if n, _, ok := stepRef(ref); ok && n > i {
				c.broken([]string{"additional_steps"}, "a request takes the answer to one that comes after it")
			}
		}
		for j := range s.url.hosts {
			v := s.url.hosts[j].variable()
			if v != "" && c.config[strings.TrimPrefix(v, "connectionConfig.")] == nil && len(c.settings) > 0 {
				c.broken([]string{"token_url"}, "its host is neither the entry's nor connection config, and the integration has secrets")
			}
		}
	}
}

// Submit signs in with what was typed.
func (p *twoStep) Submit(ctx context.Context, h *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	details, err := p.typed(h, fields)
	if err != nil {
		return nil, err
	}
	m := &broker.Material{Type: p.spec.facts.CredentialType, Details: details}
	got, err := p.signIn(ctx, &broker.Holding{Client: h.Client, Config: h.Config, Material: m})
	return got, refusedAtOnce(err)
}

// Renewable reports whether there is something to sign in with.
func (p *twoStep) Renewable(*broker.Material) bool { return true }

// Endpoint names the hosts that are asked for a token, as far as connection config and entry decide them.
func (p *twoStep) Endpoint(h *broker.Holding) string {
	sc := p.scope(h)
	sc.bare = true
	steps := p.spec.twoStep.steps
	if r := p.spec.twoStep.renewal; r != nil {
		steps = append(slices.Clone(steps), r)
	}
	var hosts []string
	for _, s := range steps {
		if len(s.url.stepHosts()) > 0 {
			continue
		}
		if u, err := s.url.expand(sc, p.deps.checkURL); err == nil && !slices.Contains(hosts, u.Host) {
			hosts = append(hosts, u.Host)
		}
	}
	return strings.Join(hosts, " ")
}

// Renew asks for another token: with the refresh token, and by signing in again where there is none or it is refused.
func (p *twoStep) Renew(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	if p.spec.twoStep.renewal != nil && !h.Material.Refresh.IsZero() {
		got, err := p.renewed(ctx, h)
		if err == nil || !grantLost(err) {
			return got, asFailure(err)
		}
	}
	got, err := p.signIn(ctx, h)
	if err != nil {
		return nil, asFailure(err)
	}
	got.Config = nil // later answers do not change where a connection's calls go
	return got, nil
}

// renewed trades the refresh token.
func (p *twoStep) renewed(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	r := &signingIn{p: p, h: h, sc: p.signInScope(h)}
	r.sc.named[nameRefresh] = h.Material.Refresh.Reveal()
	r.secrets = append(r.secrets, h.Material.Refresh.Reveal())
	if err := r.ask(ctx, p.spec.twoStep.renewal); err != nil {
		return nil, err
	}
	got, err := r.result()
	if got != nil {
		got.Config = nil
	}
	return got, err
}

// signIn makes all requests in turn.
func (p *twoStep) signIn(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	r := &signingIn{p: p, h: h, sc: p.signInScope(h)}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	for _, s := range p.spec.twoStep.steps {
		if err := r.ask(ctx, s); err != nil {
			return nil, err
		}
	}
	return r.result()
}

// signInScope is what the requests may speak of.
func (b *base) signInScope(h *broker.Holding) *scope {
	sc := b.scope(h)
	sc.bare = true
	for _, f := range b.spec.settings {
		if b.lends(h, f.Name) {
			sc.named[f.Name] = setting(h, f.Name)
		}
	}
	return sc
}

// lends reports whether a sign-in sends something of the integration's. What a credential has of its own is not replaced by
// what the integration has settled since: nobody has checked then whether that may go to the connection's host.
func (b *base) lends(h *broker.Holding, name string) bool {
	_, own := h.Material.Details[name]
	return !own && b.settled(h, name)
}

// settled reports whether the integration decides a credential that an end user would be asked for else.
func (b *base) settled(h *broker.Holding, name string) bool {
	return b.spec.hasSetting(name) && setting(h, name) != ""
}

func (s *spec) hasSetting(name string) bool {
	return slices.ContainsFunc(s.settings, func(f *field) bool { return f.Name == name })
}

// CheckMaterial refuses what cannot be a token, and a credential without one that cannot get one either.
func (p *twoStep) CheckMaterial(m *broker.Material) error {
	if m.Access.IsZero() {
		return p.complete(m)
	}
	if !m.Refresh.IsZero() {
		if err := checkToken(m.Refresh, nameRefresh); err != nil {
			return err
		}
	}
	return checkToken(m.Access, "token")
}

// complete refuses a credential that lacks what an end user would have had to type.
func (b *base) complete(m *broker.Material) error {
	for _, f := range b.spec.fields {
		if f.Section != broker.CredentialField || f.Automated || b.spec.hasSetting(f.Name) {
			continue
		}
		if _, given := m.Details[f.Name]; !given && !f.Optional && !f.HasDefault {
			return invalid(f.Name, "is missing")
		}
	}
	return nil
}

// typed checks what an end user typed, and gives it as it is kept with the credential: fields that the entry has, less
// those that were left empty and those that the integration has settled.
func (b *base) typed(h *broker.Holding, fields map[string]broker.Secret) (map[string]broker.Secret, error) {
	out := map[string]broker.Secret{}
	for _, f := range b.spec.fields {
		if f.Section != broker.CredentialField || f.Automated || b.settled(h, f.Name) {
			continue
		}
		v, given := fields[f.Name]
		if !given && f.HasDefault {
			v = broker.NewSecret(f.Default)
		}
		if err := f.checkCredential(v); err != nil {
			return nil, err
		}
		if !v.IsZero() || f.HasDefault {
			out[f.Name] = v
		}
	}
	return out, nil
}

// lacking gives the error of placeholders without a value. Those of fields that may be left empty are no fault.
func (b *base) lacking(missing []string) error {
	for _, ref := range missing {
		if !b.mayLack(ref) {
			return invalid(ref, "is missing")
		}
	}
	return nil
}

func (b *base) mayLack(ref string) bool {
	if name, ok := strings.CutPrefix(ref, "connectionConfig."); ok {
		f := b.spec.config[name]
		return f != nil && f.Optional
	}
	name := strings.TrimPrefix(ref, "credentials.")
	return slices.ContainsFunc(b.spec.fields, func(f *field) bool { return f.Name == name && f.Section == broker.CredentialField && f.Optional })
}

// stepHosts gives the placeholders of a URL's host that stand for a part of an answer.
func (t *urlTemplate) stepHosts() (out []string) {
	for i := range t.hosts {
		for _, ref := range append(sequence{{ref: t.hosts[i].whole}}, t.hosts[i].parts...) {
			if _, _, ok := stepRef(ref.ref); ok {
				out = append(out, ref.ref)
			}
		}
	}
	return out
}

// presentsToken reports whether the entry says itself where a sign-in's token goes.
func (s *spec) presentsToken() bool {
	return slices.ContainsFunc(s.headers, func(h namedTemplate) bool {
		return slices.ContainsFunc(h.refs(), func(ref string) bool {
			return ref == "accessToken" || ref == "credentials."+nameCookies
		})
	})
}

// Revoke ends the session, where the entry knows a call for it. One that has run out is left alone: nobody signs in to
// sign out.
func (p *twoStep) Revoke(ctx context.Context, h *broker.Holding) (bool, error) {
	return p.revoke(ctx, h, func(*broker.Material) bool { return false }, p.Renew)
}

// compileAssertion reads what is signed for the requests of a sign-in (RFC 7521); nil if nothing is.
func (c *compiler) compileAssertion() *signedToken {
	n := &c.entry.Assertion
	if n.Kind == 0 {
		return nil
	}
	scalar := func(key string) string {
		if v := child(n, key); v != nil && v.Kind == yaml.ScalarNode {
			return v.Value
		}
		return ""
	}
	node := func(key string) *yaml.Node {
		if v := child(n, key); v != nil {
			return v
		}
		return &yaml.Node{}
	}
	if kind := scalar("type"); kind != "jwt" {
		c.broken([]string{"assertion", "type"}, "only jwt is supported")
		return nil
	}
	out := c.signedToken("assertion", scalar("key"), node("header"), node("payload"))
	out.life = time.Hour
	if s := scalar("lifetimeInSeconds"); s != "" {
		if out.life = parseLifetime(jsontext.Value(s), time.Second); out.life == 0 || out.life > maxSignedLife {
			c.broken([]string{"assertion", "lifetimeInSeconds"}, "is not a life of up to a year")
		}
	}
	c.checkAlgorithm("assertion", out)
	return out
}

// prepare makes the tokens of our own that the requests send. They are made anew for each sign-in, and not kept.
func (r *signingIn) prepare() error {
	spec := r.p.spec.twoStep
	for _, x := range []struct {
		name string
		from *signedToken
	}{{nameSigned, spec.signed}, {nameAssertion, spec.assertion}} {
		if x.from == nil {
			continue
		}
		signed, _, err := x.from.make(r.sc, r.p.now())
		if err != nil {
			return err
		}
		r.sc.named[x.name] = signed
		r.secrets = append(r.secrets, signed)
	}
	return nil
}

// keptDetails are the credential's details and what the answers' headers brought.
func (r *signingIn) keptDetails() map[string]broker.Secret {
	out := maps.Clone(r.h.Material.Details)
	if out == nil {
		out = map[string]broker.Secret{}
	}
	maps.Copy(out, r.brought)
	return out
}
