package connect_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

var jane = &broker.EndUser{ID: "u-1", DisplayName: "Jane Doe", Email: "jane@acme.example", OrganizationName: "Acme Inc."}

// contains checks that a page holds each of the texts.
func contains(t *testing.T, a answer, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			t.Errorf("the page lacks %q:\n%s", text, a.body)
		}
	}
}

func lacks(t *testing.T, a answer, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(a.body, text) {
			t.Errorf("the page holds %q:\n%s", text, a.body)
		}
	}
}

// answered checks status and code; an empty code is a page that reports no failure.
func answered(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.StatusCode != status || a.Header.Get("X-Error-Code") != code {
		t.Fatalf("got %s, code %q; want %d, code %q:\n%s", a.Status, a.Header.Get("X-Error-Code"), status, code, a.body)
	}
}

func TestListLeadsToForms(t *testing.T) {
	s := newSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes"}})
	s.integrate(t, signInProvider("github", "GitHub", "https://github.example/login"))
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	gone := keyProvider("gone", "Gone", keyField)
	s.integrate(t, gone)
	gone.facts.Usable = false
	_, token := s.session(t, broker.SessionInput{})
	page := s.visitor(t).get(link("/connect/", token))
	answered(t, page, http.StatusOK, "")
	contains(t, page, "Connect to Fieldnotes", "GitHub", "Mailer", "/connect/to/github?session_token="+token)
	lacks(t, page, `type="search"`, "Gone")
}

func TestListIsBoundToTheSession(t *testing.T) {
	s := newSite(t, options{})
	for _, name := range []string{"github", "gitlab", "mailer"} {
		s.integrate(t, keyProvider(name, strings.ToUpper(name), keyField))
	}
	_, token := s.session(t, broker.SessionInput{Integrations: []string{"github", "gitlab"}})
	v := s.visitor(t)
	lacks(t, v.get(link("/connect", token)), "MAILER")
	refused := v.get(link("/connect/to/mailer", token))
	answered(t, refused, http.StatusForbidden, "integration_not_allowed")
	lacks(t, refused, "MAILER")
	answered(t, v.get(link("/connect/to/unknown", token)), http.StatusNotFound, "not_found")
}

func TestSingleChoiceNeedsNoList(t *testing.T) {
	s := newSite(t, options{})
	s.integrate(t, keyProvider("github", "GitHub", keyField))
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	_, token := s.session(t, broker.SessionInput{Integrations: []string{"mailer"}})
	page := s.visitor(t).get(link("/connect/", token))
	contains(t, page, `action="/connect/to/mailer"`, "Connect Mailer to")
	lacks(t, page, "All choices")
}

func TestSearchWorksWithoutScripts(t *testing.T) {
	s := newSite(t, options{})
	for i := range 9 {
		s.integrate(t, keyProvider(fmt.Sprintf("p%d", i), fmt.Sprintf("Provider %d", i), keyField))
	}
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	contains(t, v.get(link("/connect/", token)), `type="search"`, `action="/connect/"`)
	found := v.get(link("/connect/", token) + "&q=ER+7")
	contains(t, found, "Provider 7", `value="ER 7"`)
	lacks(t, found, "Provider 6")
	contains(t, v.get(link("/connect/", token)+"&q=xyz"), "Nothing matches")
}

func TestFormSaysWhoAsksForWhat(t *testing.T) {
	s := newSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes"}})
	p := signInProvider("github", "GitHub", "https://github.example/login")
	p.facts.DefaultScopes = []string{"s1", "s2", "s3", "s4", "s5", "s6", "s7"}
	s.integrate(t, p)
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	_, token := s.session(t, broker.SessionInput{EndUser: jane})
	page := s.visitor(t).get(link("/connect/to/github", token))
	contains(t, page, "Connect GitHub to Fieldnotes", "Who gets access", "Jane Doe", "jane@acme.example · Acme Inc.", "s1", "s7", "Show all 7", "All choices")
	if csp := page.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https://github.example;") {
		t.Errorf("the policy lets the form lead elsewhere: %s", csp)
	}
}

// A value that we chose is shown to be copied, and not sent back: nobody can change it.
func TestAssignedValuesAreShown(t *testing.T) {
	s := newSite(t, options{})
	p := keyProvider("cloud", "Cloud", keyField)
	p.facts.Assigned = &broker.Field{Name: "external_id", Title: "External ID"}
	s.integrate(t, p)
	_, token := s.session(t, broker.SessionInput{Defaults: map[string]broker.Defaults{"cloud": {Config: map[string]string{"external_id": "tenant-17"}}}})
	page := s.visitor(t).get(link("/connect/to/cloud", token))
	contains(t, page, "External ID", "Enter this value at Cloud before you connect.", `value="tenant-17"`, " readonly")
	lacks(t, page, "connection_config.external_id")
}

func TestReconnectSaysSo(t *testing.T) {
	s := newSite(t, options{})
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	s.succeed(t, "mailer", broker.SessionInput{EndUser: jane})
	was := s.connections(t)[0]
	_, token := s.session(t, broker.SessionInput{Reconnect: &broker.ConnectionRef{Integration: "mailer", Key: was.Key}})
	v := s.visitor(t)
	page := v.get(link("/connect/to/mailer", token))
	contains(t, page, "Reconnect Mailer to", "Jane Doe")
	done := v.post("/connect/to/mailer", v.fill(page, token, map[string]string{"credentials.apiKey": "fresh"}))
	contains(t, v.get(done.Header.Get("Location")), "Mailer is connected again", was.Key)
}

func TestFieldsByKind(t *testing.T) {
	s := newSite(t, options{})
	s.integrate(t, keyProvider("mailer", "Mailer", subdomainField, regionField, keyField,
		broker.Field{Name: "private_key", Section: broker.CredentialField, Title: "Private key", Secret: true, Optional: true},
		broker.Field{Name: "contact", Section: broker.ConfigField, Title: "Contact", Format: "email", Default: "a@b.example", HasDefault: true},
		broker.Field{Name: "quiet", Section: broker.ConfigField, Title: "Quiet", Hidden: true, Default: "x", HasDefault: true}))
	_, token := s.session(t, broker.SessionInput{})
	page := s.visitor(t).get(link("/connect/to/mailer", token))
	contains(t, page,
		`<span class="affix" aria-hidden="true">https://</span>`, `<span class="affix" aria-hidden="true">.mail.example</span>`,
		`placeholder="acme"`, `<label for="field-1">`, `aria-describedby="field-1-hint"`,
		`<option value="Europe">Europe</option>`, "(optional)",
		`autocomplete="one-time-code"`, `type="password"`, `href="https://docs.example/mailer#key"`,
		`<textarea id="field-4" name="credentials.private_key"`,
		`inputmode="email"`, `value="a@b.example"`)
	lacks(t, page, "Quiet")
}

// TestWrongFieldIsShown sends a form back: with the problem beside its field, what was typed, and no secret.
func TestWrongFieldIsShown(t *testing.T) {
	s := newSite(t, options{})
	p := keyProvider("mailer", "Mailer", subdomainField, regionField, keyField)
	s.integrate(t, p)
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	form := v.fill(v.get(link("/connect/to/mailer", token)), token, map[string]string{
		"connection_config.subdomain": "evil.example/", "connection_config.region": "Europe", "credentials.apiKey": "canary-key",
	})
	page := v.post("/connect/to/mailer", form)
	answered(t, page, http.StatusUnprocessableEntity, "variable_invalid")
	contains(t, page, `aria-invalid="true"`, `aria-describedby="field-1-problem field-1-hint"`, `id="field-1-problem"`, "autofocus",
		`value="evil.example/"`, "An example: acme", `<option value="Europe" selected>`)
	lacks(t, page, "canary-key")

	form.Set("connection_config.subdomain", "acme")
	form.Set("credentials.apiKey", "")
	page = v.post("/connect/to/mailer", form)
	answered(t, page, http.StatusUnprocessableEntity, "variable_invalid")
	contains(t, page, "Please fill this in.", `aria-describedby="field-3-problem field-3-hint"`)
	if p.asked.Load() != 0 || len(s.connections(t)) != 0 {
		t.Error("a wrong form reached the provider")
	}
}

func TestRefusedCredentialsCanBeCorrected(t *testing.T) {
	tests := []struct {
		name   string
		refuse *broker.ProviderError
		status int
		code   string
		says   string
	}{
		{"refused", &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_token"}, 400, "connection_test_failed", "Mailer refused these details"},
		{"down", &broker.ProviderError{Class: broker.Transient, Code: "http_503"}, 503, "provider_unavailable", "Mailer can’t be reached"},
		{"unreachable", &broker.ProviderError{Class: broker.Transient, Reach: broker.ErrUnreachable}, 502, "provider_unreachable", "Mailer can’t be reached"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, options{})
			p := keyProvider("mailer", "Mailer", subdomainField, keyField)
			p.refuse = tt.refuse
			s.integrate(t, p)
			_, token := s.session(t, broker.SessionInput{})
			v := s.visitor(t)
			form := v.fill(v.get(link("/connect/to/mailer", token)), token, map[string]string{
				"connection_config.subdomain": "acme", "credentials.apiKey": "canary-key",
			})
			page := v.post("/connect/to/mailer", form)
			answered(t, page, tt.status, tt.code)
			contains(t, page, `role="alert"`, tt.says, `value="acme"`)
			lacks(t, page, "canary-key")
			p.refuse = nil
			if again := v.post("/connect/to/mailer", form); again.StatusCode != http.StatusSeeOther {
				t.Errorf("the corrected form answers %s", again.Status)
			}
		})
	}
}

// TestTypedCredentialBecomesConnection follows the form to the page at the end, which can be loaded again.
func TestTypedCredentialBecomesConnection(t *testing.T) {
	s := newSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes"}})
	p := keyProvider("mailer", "Mailer", subdomainField, keyField)
	s.integrate(t, p)
	session, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	form := v.fill(v.get(link("/connect/to/mailer", token)), token, map[string]string{
		"connection_config.subdomain": " https://acme.mail.example ", "credentials.apiKey": "k",
		"connection_config.unknown": "x", // not asked for, so not looked at
	})
	sent := v.post("/connect/to/mailer", form)
	answered(t, sent, http.StatusSeeOther, "")
	if got := sent.Header.Get("Cross-Origin-Opener-Policy"); got != "unsafe-none" {
		t.Errorf("the redirect cuts the popup from its opener: %q", got)
	}
	made := s.connections(t)
	if len(made) != 1 || s.broker.ConfigOf(made[0])["subdomain"] != "acme" {
		t.Fatalf("connections: %+v", made)
	}
	for range 2 {
		done := v.get(sent.Header.Get("Location"))
		answered(t, done, http.StatusOK, "")
		contains(t, done, "Mailer is connected", "go back to Fieldnotes", string(session.ID), made[0].Key)
	}
	again := v.post("/connect/to/mailer", form)
	answered(t, again, http.StatusConflict, "session_completed")
	contains(t, again, "Already connected", "Mailer is connected to Fieldnotes")
	answered(t, v.get(link("/connect/to/mailer", token)), http.StatusConflict, "session_completed")
}

func TestConnectedIntegrationIsMarked(t *testing.T) {
	s := newSite(t, options{})
	s.integrate(t, keyProvider("github", "GitHub", keyField))
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	done, err := url.Parse(s.succeed(t, "mailer", broker.SessionInput{}))
	must(t, err)
	page := s.visitor(t).get(link("/connect/", done.Query().Get("session_token")))
	contains(t, page, "/connect/to/github?", `class="badge"`)
	lacks(t, page, "/connect/to/mailer?")
}

// TestDonePageIsBoundToItsSession takes the address of one session's last page to another session.
func TestDonePageIsBoundToItsSession(t *testing.T) {
	s := newSite(t, options{})
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	done, err := url.Parse(s.succeed(t, "mailer", broker.SessionInput{}))
	must(t, err)
	_, other := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	note := done.Query().Get("note")
	for name, address := range map[string]string{
		"foreign": link("/connect/to/mailer/done", other) + "&note=" + url.QueryEscape(note),
		"damaged": link("/connect/to/mailer/done", done.Query().Get("session_token")) + "&note=x" + url.QueryEscape(note),
		"absent":  link("/connect/to/mailer/done", done.Query().Get("session_token")),
	} {
		if got := v.get(address); got.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", name, got.Status)
		}
	}
}

// TestLookingChangesNothing opens every page as link scanners do.
func TestLookingChangesNothing(t *testing.T) {
	s := newSite(t, options{})
	github := signInProvider("github", "GitHub", "https://github.example/login")
	mailer := keyProvider("mailer", "Mailer", keyField)
	s.integrate(t, github)
	s.integrate(t, mailer)
	session, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	for _, path := range []string{"/connect/", "/connect/to/github", "/connect/to/mailer"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodGet} {
			if a := v.do(method, link(path, token), nil, nil); a.StatusCode != http.StatusOK || len(a.Cookies()) > 0 {
				t.Errorf("%s %s: %s, cookies %v", method, path, a.Status, a.Cookies())
			}
		}
	}
	who := broker.Actor{Kind: broker.BySession, Environment: session.Environment, Session: session.ID}
	now, err := s.broker.Session(t.Context(), who)
	must(t, err)
	if now.Starts != 0 || github.asked.Load()+mailer.asked.Load() != 0 {
		t.Errorf("looking started %d flows and asked providers", now.Starts)
	}
}

func TestSessionIsNeeded(t *testing.T) {
	s := newSite(t, options{})
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	unknown := "nango_connect_session_" + strings.Repeat("0", 64)
	for name, address := range map[string]string{
		"none": "/connect/", "malformed": link("/connect/", "x"), "unknown": link("/connect/to/mailer", unknown),
		"twice": link("/connect/", token) + "&session_token=" + token,
	} {
		t.Run(name, func(t *testing.T) {
			a := v.get(address)
			answered(t, a, http.StatusUnauthorized, "session_invalid")
			contains(t, a, "This link doesn’t work", "session_invalid", a.Header.Get("X-Request-Id"))
		})
	}
	s.clock.advance(16 * 60e9)
	expired := v.get(link("/connect/to/mailer", token))
	answered(t, expired, http.StatusUnauthorized, "session_expired")
	contains(t, expired, "This link has expired")
}
