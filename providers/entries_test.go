package providers

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// An entry of ours says how consent, exchange, renewal, revocation, identity and waiting work, or for what reason it does
// not say so. Nothing is left out in silence: whoever reads an entry can tell what is not known from what was forgotten.
func TestEntriesAreComplete(t *testing.T) {
	c := loadBuiltin(t)
	if n := len(c.Names()); n < 260 {
		t.Errorf("%d entries", n)
	}
	for _, name := range c.Names() {
		s, err := c.spec(0, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, what := range incomplete(s.entry) {
			t.Errorf("%s: %s", name, what)
		}
		if unbuiltReason(name, s.entry, true) == "" && !s.facts.Usable && s.entry.Usable == nil {
			t.Errorf("%s: not usable although its mode is built: %s", name, s.facts.UnusableReason)
		}
	}
}

// The check itself has to notice what is missing: here one thing at a time is taken from an entry that has all.
func TestWhatAnEntryMustSay(t *testing.T) {
	const whole = `
display_name: Acme
categories: [crm]
auth_mode: OAUTH2
docs: https://acme.example/docs
authorization_url: https://${connectionConfig.site}.acme.example/authorize
token_url: https://${connectionConfig.site}.acme.example/token
token_auth_method: client_secret_post
default_scopes: []
pkce: S256
revocation_url: https://${connectionConfig.site}.acme.example/revoke
identity_endpoint: GET https://${connectionConfig.site}.acme.example/me
identity_path: id
refresh_rotation: "yes"
access_token_lifetime: 3600
host_pattern: ^[a-z]+\.acme\.example$
rate_limit: {after: retry-after}
proxy: {base_url: https://acme.example}
connection_config:
  site: {title: Site, description: Your site., pattern: "^[a-z]+$"}
evidence: {rev: d, pkce: d, rot: m, life: m, id: s, rate: m}
`
	read := func(text string) *entry {
		t.Helper()
		n, err := parse([]byte(text), 1)
		if err != nil {
			t.Fatal(err)
		}
		e, err := decode(n)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if missing := incomplete(read(whole)); len(missing) > 0 {
		t.Fatalf("the entry that has all lacks %q", missing)
	}
	for _, tt := range []struct{ from, to, want string }{
		{"docs: https://acme.example/docs", "docs:", "docs"},
		{"authorization_url: https://${connectionConfig.site}.acme.example/authorize", "authorization_url:", "authorization_url"},
		{"token_url: https://${connectionConfig.site}.acme.example/token", "token_url:", "token_url"},
		{"token_auth_method: client_secret_post", "token_auth_method:", "token_auth_method"},
		{"default_scopes: []", "", "scopes"},
		{"pkce: S256", "pkce:", "pkce"},
		{"revocation_url: https://${connectionConfig.site}.acme.example/revoke", "", "revocation"},
		{"identity_endpoint: GET https://${connectionConfig.site}.acme.example/me", "", "identity"},
		{`refresh_rotation: "yes"`, "", "refresh_rotation"},
		{"access_token_lifetime: 3600", "", "access_token_lifetime"},
		{`host_pattern: ^[a-z]+\.acme\.example$`, "", "host_pattern"},
		{"rate_limit: {after: retry-after}", "", "rate_limit"},
		{"proxy: {base_url: https://acme.example}", "", "base_url"},
		{`pattern: "^[a-z]+$"`, "", "pattern"},
		{`pattern: "^[a-z]+$"`, `pattern: "[a-z]+$"`, "anchored"},
		{"description: Your site.,", "", "description"},
		{"title: Site,", "", "title"},
		{"rot: m", "rot: x", "rot"},
		{"life: m, ", "", "life"},
		{"rate: m", "", "rate"},
		{"evidence: {", "lacking: {revocation: None.}\nevidence: {", "revocation"},
	} {
		if !strings.Contains(whole, tt.from) {
			t.Fatalf("%s does not stand in the entry", tt.from)
		}
		missing := incomplete(read(strings.Replace(whole, tt.from, tt.to, 1)))
		if !slices.ContainsFunc(missing, func(s string) bool { return strings.Contains(s, tt.want) }) {
			t.Errorf("%s in place of %s is not noticed: %q", tt.to, tt.from, missing)
		}
	}
}

// A reason is wanted for what is lacking, and only what there is can be lacked.
func TestLackingIsDecodedStrictly(t *testing.T) {
	for _, lacking := range []string{"{wings: none}", `{revocation: ""}`, "{revocation: [a]}", "none"} {
		text := "a:\n  display_name: A\n  auth_mode: NONE\n  lacking: " + lacking + "\n"
		if _, err := Load(options(t, text)); err == nil {
			t.Errorf("%s: loaded", lacking)
		}
	}
}

// Modes whose credentials a broker asks for at an authorization server, with a client of the integration's.
var consentModes = []string{modeOAuth2, "MCP_OAUTH2", "CUSTOM"}

// Modes whose tokens end, or can be ended.
var tokenModes = append([]string{modeOAuth1, modeClientCredentials, "TWO_STEP", "JWT", "TBA", "APP", "BILL", "AWS_SIGV4", "SIGNATURE"}, consentModes...)

// incomplete lists what an entry neither has nor lacks with a reason.
func incomplete(e *entry) []string {
	if e.AuthMode == modeNone {
		return nil
	}
	r := &review{entry: e, evidence: map[string]string{}}
	for i := 0; i+1 < len(e.Evidence.Content); i += 2 {
		r.evidence[e.Evidence.Content[i].Value] = e.Evidence.Content[i+1].Value
	}
	r.general()
	r.requests()
	r.knowledge()
	r.fields("connection_config", e.ConnectionConfig)
	r.fields("integration_config", e.IntegrationConfig)
	r.fields("credentials", e.Credentials)
	return r.missing
}

type review struct {
	*entry
	evidence map[string]string
	missing  []string
}

// need notes a field that is not there.
func (r *review) need(has bool, what string) {
	if !has {
		r.missing = append(r.missing, what+" is missing")
	}
}

// orReason notes a field that is not there without a reason, or has both.
func (r *review) orReason(has bool, what string) {
	switch lacks := r.Lacking.get(what) != ""; {
	case has && lacks:
		r.missing = append(r.missing, what+" is there, and said to be lacking")
	case !has && !lacks:
		r.missing = append(r.missing, what+" is neither there nor lacking for a reason")
	}
}

// known notes a fact that does not say how sure it is.
func (r *review) known(stated bool, key string) {
	if stated && !slices.Contains([]string{"d", "s", "a", "g", "n", "m"}, r.evidence[key]) {
		r.missing = append(r.missing, "evidence for "+key+" is missing")
	}
}

func (r *review) general() {
	r.need(strings.HasPrefix(r.Docs, "https://"), "docs")
	r.need(len(r.Categories) > 0, "categories")
	r.orReason(r.Proxy != nil && r.Proxy.BaseURL != "", "base_url")
}

// requests looks at the requests that give and end a credential.
func (r *review) requests() {
	if slices.Contains(consentModes, r.AuthMode) {
		r.need(r.AuthorizationURL != "", "authorization_url")
	}
	if slices.Contains(append([]string{modeClientCredentials}, consentModes...), r.AuthMode) {
		r.need(r.TokenURL.URL != "" || len(r.TokenURL.ByMode) > 0, "token_url")
		r.need(r.TokenAuthMethod != "", "token_auth_method")
		r.orReason(r.DefaultScopes != nil, "scopes")
		r.need(r.PKCE != "", "pkce")
		r.need(r.RefreshRotation != "", "refresh_rotation")
	}
	if slices.Contains(tokenModes, r.AuthMode) {
		r.need(r.AccessTokenLifetime != "", "access_token_lifetime")
		r.orReason(r.RevocationURL != "", "revocation")
	}
	r.orReason(r.IdentityEndpoint != "" || strings.Contains(r.IdentityPath, "${"), "identity")
	if r.AuthMode == modeAPIKey || r.AuthMode == modeBasic {
		r.orReason(r.IdentityEndpoint != "" || r.Proxy != nil && r.Proxy.Verification != nil, "verification")
	}
	if r.templatedHost() {
		r.orReason(r.HostPattern != "", "host_pattern")
	} else {
		r.need(r.HostPattern == "", "a host that host_pattern is for")
	}
	retries := r.Proxy != nil && len(r.Proxy.Retry.At)+len(r.Proxy.Retry.After)+len(r.Proxy.Retry.Remaining) > 0
	r.orReason(retries || len(r.RateLimit.At)+len(r.RateLimit.After)+len(r.RateLimit.Remaining) > 0, "rate_limit")
}

// knowledge looks at how sure the stated facts are.
func (r *review) knowledge() {
	if slices.Contains(r.Categories, "generic") {
		return // whatever is said of it comes from whoever uses it
	}
	r.known(r.RevocationURL != "", "rev")
	r.known(r.IdentityEndpoint != "", "id")
	r.known(len(r.RateLimit.At)+len(r.RateLimit.After)+len(r.RateLimit.Remaining) > 0, "rate")
	life := r.AccessTokenLifetime
	r.known(life != "" && life != "unknown" && life != "configurable", "life")
	if slices.Contains(consentModes, r.AuthMode) {
		r.known(r.PKCE != "unknown", "pkce")
		r.known(r.RefreshRotation == "yes" || r.RefreshRotation == "no", "rot")
	}
}

// templatedHost reports whether a value has a part in the host of an address.
func (r *review) templatedHost() bool {
	calls := func(s string) string { _, rest, _ := strings.Cut(s, " "); return rest }
	all := []string{
		r.AuthorizationURL, r.RequestURL, r.TokenURL.URL, r.RefreshURL, r.RevocationURL,
		calls(r.IdentityEndpoint), calls(r.PostConnection.Request),
	}
	for _, p := range r.TokenURL.ByMode {
		all = append(all, p.Value)
	}
	if r.Proxy != nil {
		all = append(all, r.Proxy.BaseURL)
	}
	for _, raw := range all {
		raw, _, _ = strings.Cut(raw, " {")
		if raw == "" {
			continue
		}
		t, err := parseURLTemplate(raw)
		if err != nil || slices.ContainsFunc(t.hosts, func(f hostForm) bool { return !f.fixed() }) {
			return true
		}
	}
	return false
}

// fields looks at what people are asked for. A credential needs no pattern: providers change the form of their keys, and a
// pattern that is too narrow locks users out. What goes into addresses and headers needs one.
func (r *review) fields(section string, fields fieldMap) {
	for _, f := range fields {
		at := section + "." + f.Name
		r.need(f.Title != "", "the title of "+at)
		r.need(f.Description != "", "the description of "+at)
		r.need(section == "credentials" || f.Pattern != "" || len(f.Enum) > 0 || f.Default != nil, "the pattern of "+at)
		if f.Pattern == "" {
			continue
		}
		_, err := regexp.Compile(f.Pattern)
		r.need(err == nil && strings.HasPrefix(f.Pattern, "^") && strings.HasSuffix(f.Pattern, "$"), "an anchored pattern of "+at)
		if f.Example != "" && !strings.HasSuffix(f.Example, "...") && err == nil {
			r.need(regexp.MustCompile(f.Pattern).MatchString(f.Example), "an example that the pattern takes, of "+at)
		}
		if f.Default != nil && *f.Default != "" && err == nil {
			r.need(regexp.MustCompile(f.Pattern).MatchString(*f.Default), "a default that the pattern takes, of "+at)
		}
	}
}

// Patterns are compiled by browsers too, with the v flag, which wants these escaped in a class.
func TestPatternsWorkInBrowsers(t *testing.T) {
	class := regexp.MustCompile(`\[[^\]]*\]`)
	c := loadBuiltin(t)
	for _, name := range c.Names() {
		s, err := c.spec(0, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range slices.Concat(s.entry.ConnectionConfig, s.entry.Credentials, s.entry.IntegrationConfig) {
			for _, text := range class.FindAllString(f.Pattern, -1) {
				inner := strings.TrimPrefix(text[1:len(text)-1], "^")
				if bad := unescaped(inner); bad != "" {
					t.Errorf("%s: the pattern of %s has %s in %s", name, f.Name, bad, text)
				}
			}
		}
	}
}

// unescaped finds a character that the v flag wants escaped in a class; a hyphen between two others is a range.
func unescaped(class string) string {
	ranges := regexp.MustCompile(`[A-Za-z0-9]-[A-Za-z0-9]`).ReplaceAllString(class, "")
	ranges = regexp.MustCompile(`\\.`).ReplaceAllString(ranges, "")
	if i := strings.IndexAny(ranges, "()[]{}/-|"); i >= 0 {
		return fmt.Sprintf("%q", ranges[i])
	}
	return ""
}

// An alias that says nothing of its own and one that changes a few fields are both entries, and no key of ours stands for
// two.
func TestAliasesOfTheCatalogueHaveTargets(t *testing.T) {
	c := loadBuiltin(t)
	for _, name := range slices.Sorted(maps.Keys(c.layers[0].entries)) {
		n, err := c.layers[0].entries[name]()
		if err != nil {
			t.Fatal(err)
		}
		if alias := child(n, "alias"); alias != nil && (alias.Kind != yaml.ScalarNode || c.layers[0].entries[alias.Value] == nil) {
			t.Errorf("%s is an alias of nothing", name)
		}
	}
}
