package providers

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

const canary = "c4nary-of-the-credential"

// With the examples that its fields show, every entry makes addresses that it accepts itself, sends users somewhere, and
// puts the credential into its calls.
func TestEntriesWorkWithTheirOwnExamples(t *testing.T) {
	c := loadBuiltin(t)
	for _, name := range c.Names() {
		p, _ := c.Provider(name)
		b := baseOf(p)
		if !b.spec.facts.Usable || b.spec.mode == modeNone {
			continue
		}
		t.Run(name, func(t *testing.T) { tryExamples(t, p, b) })
	}
}

func tryExamples(t *testing.T, p broker.Provider, b *base) {
	t.Helper()
	own := &broker.Client{ID: "the-client", Secret: broker.NewSecret("the-secret"), Settings: map[string]string{}}
	for _, f := range b.spec.settings {
		own.Settings[f.Name] = exampleOf(f)
	}
	config, given := map[string]string{}, map[string]string{}
	for _, f := range b.spec.config {
		if f.Title == "" {
			continue // no field of the form: the answer alone says what it looks like
		}
		config[f.Name] = exampleOf(f)
		if config[f.Name] == "" {
			t.Errorf("%s has no example", f.Name)
		}
		if !f.Automated {
			given[f.Name] = config[f.Name]
		}
	}
	for _, v := range config { // free hosts have to be listed
		host, _, _ := strings.Cut(strings.TrimPrefix(v, "https://"), "/")
		own.Hosts = append(own.Hosts, host)
	}
	if got, err := b.CheckConfig(given, own, false); err != nil || len(got) != len(given) {
		t.Fatalf("its examples are refused: %v %v", got, err)
	}
	if got, err := b.checkConfig(config, own, answered); err != nil || len(got) != len(config) {
		t.Fatalf("examples of what it answers are refused: %v %v", got, err)
	}
	h := &broker.Holding{Client: own, Config: config, Material: &broker.Material{Access: broker.NewSecret(canary), Refresh: broker.NewSecret("refresh"), Details: credentialsOf(t, b)}}
	tryAddresses(t, p, b, h)
	tryPresentation(t, b, h)
}

// tryAddresses goes where users and requests go.
func tryAddresses(t *testing.T, p broker.Provider, b *base, h *broker.Holding) {
	t.Helper()
	if o, ok := p.(*oauth2Provider); ok {
		raw, err := o.AuthorizeURL(&broker.AuthorizeRequest{Client: h.Client, Config: h.Config, RedirectURI: callback, State: "s", Verifier: verifier, Nonce: "n"})
		if err != nil || !strings.HasPrefix(raw, "https://") {
			t.Errorf("users are sent to %q: %v", raw, err)
		}
		if o.Endpoint(h) == "" {
			t.Error("nobody renews")
		}
	}
	sc := b.scope(h)
	if r := b.spec.revoke; r != nil && r.url.alts[0][0].ref != "connectionConfig.revocation_url" {
		if _, err := r.url.expand(sc, b.deps.checkURL); err != nil {
			t.Errorf("revocation: %v", err)
		}
	}
	if i := b.spec.identity; i != nil {
		if _, err := i.url.expand(sc, b.deps.checkURL); err != nil {
			t.Errorf("identity: %v", err)
		}
	}
	if a := b.spec.account; a != nil && !strings.Contains(b.spec.entry.IdentityPath, "connectionConfig.data.open_id") {
		for _, ref := range a.refs() { // a value that only an answer brings has no example
			if f := b.spec.config[strings.TrimPrefix(ref, "connectionConfig.")]; f != nil && f.Title == "" {
				return
			}
		}
		if id, missing := a.fill(sc); id == "" || len(missing) > 0 {
			t.Errorf("whose account it is cannot be told: %v", missing)
		}
	}
}

// tryPresentation looks for the credential in a call.
func tryPresentation(t *testing.T, b *base, h *broker.Holding) {
	t.Helper()
	if b.spec.entry.Proxy == nil {
		return
	}
	shown, err := b.Present(h)
	if err != nil {
		t.Fatal(err)
	}
	if shown.BaseURL == nil || shown.BaseURL.Scheme != "https" {
		t.Errorf("calls go to %v", shown.BaseURL)
	}
	all := []string{shown.BaseURL.String()}
	for _, x := range shown.Headers {
		all = append(all, x.Values...)
	}
	for _, x := range shown.Query {
		v, err := url.QueryUnescape(x.Value)
		if err != nil {
			t.Error(err)
		}
		all = append(all, v)
	}
	if shown.Sign != nil {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, shown.BaseURL.String(), http.NoBody)
		if err := shown.Sign(r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r.Header.Get("Authorization"))
	}
	carries := func(s string) bool { return strings.Contains(s, canary) || strings.HasPrefix(s, "Basic ") }
	if !slices.ContainsFunc(all, carries) && h.Client.Settings["keyName"] == "" {
		t.Errorf("the credential is nowhere in %q", slices.Sorted(slices.Values(all)))
	}
}

// exampleOf is what a field shows, or what it holds if nothing is typed.
func exampleOf(f *field) string {
	switch {
	case f.Example != "" && !strings.HasSuffix(f.Example, "..."):
		return f.Example
	case f.HasDefault:
		return f.Default
	case len(f.Options) > 0:
		return f.Options[0]
	}
	return ""
}

// credentialsOf are credentials of the form that each mode keeps.
func credentialsOf(t *testing.T, b *base) map[string]broker.Secret {
	t.Helper()
	switch b.spec.mode {
	case modeAPIKey, modeOAuth2:
		return nil
	case modeOAuth1:
		return map[string]broker.Secret{tokenSecret: broker.NewSecret(canary)}
	case modeTBA:
		return secrets(tbaToken, canary, tbaSecret, canary, tbaConsumer, canary, tbaConsumerSecret, canary)
	case modeAWS:
		return secrets(awsRegion, "eu-central-1", awsService, "s3", awsAccessID, canary, awsAccessKey, canary)
	}
	out := map[string]broker.Secret{}
	for _, f := range b.spec.fields {
		if f.Section == broker.CredentialField {
			out[f.Name] = broker.NewSecret(canary)
		}
	}
	if b.spec.entry.RequireCertificate {
		certificate, key := newAuthority(t).issue(t, "ann")
		out[nameCertificate], out[namePrivateKey] = broker.NewSecret(certificate), broker.NewSecret(key)
	}
	return out
}

// The consent pages that want the request in a form of their own.
func TestPagesWithAFormOfTheirOwn(t *testing.T) {
	c := loadBuiltin(t)
	for _, tt := range []struct {
		provider, want string
		absent         string
	}{
		{"apollo-oauth", "https://app.apollo.io/#/oauth/authorize?client_id=the-client&", "app.apollo.io/?"},
		{"printful", "&redirect_url=https%3A%2F%2Fus.example", "redirect_uri="},
		{"monday", "https://auth.monday.com/oauth2/authorize?client_id=the-client&", "response_type="},
		{"tiktok", "?client_key=the-client&", "client_id="},
		{"square", "&session=false", "code_challenge"},
		{"netlify", "https://app.netlify.com/authorize?client_id=the-client&code_challenge=", "scope="},
	} {
		raw, err := oauth(t, c, tt.provider).AuthorizeURL(request(nil))
		if err != nil || !strings.Contains(raw, tt.want) || strings.Contains(raw, tt.absent) {
			t.Errorf("%s: %s %v", tt.provider, raw, err)
		}
	}
}
