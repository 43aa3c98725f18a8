package connect_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/coatcheck/coatcheck/broker"
)

// screens are the windows that every page must fit into.
var screens = []struct {
	name          string
	width, height int64
}{
	{"popup", 500, 600},
	{"phone", 360, 640},
	{"narrow", 320, 568},
	{"desktop", 1280, 800},
}

// TestBrowserPages opens every page in every window: nothing may stick out sideways, and the
// browser may have nothing to complain about.
func TestBrowserPages(t *testing.T) {
	t.Parallel()
	browser := startChromium(t)
	for name, address := range pagesToSee(t) {
		t.Run(name, func(t *testing.T) {
			ctx := tab(t, browser)
			said := complaints(t, ctx)
			must(t, chromedp.Do(ctx, chromedp.Navigate(address), chromedp.WaitReady(chromedp.CSS("h1"))))
			for _, s := range screens {
				for _, scheme := range schemes() {
					must(t, chromedp.Do(ctx, screen(s.width, s.height, scheme)))
					width, err := chromedp.Run(ctx, chromedp.Evaluate[int64]("document.documentElement.scrollWidth"))
					must(t, err)
					if width > s.width {
						t.Errorf("%s in %s is %d pixels wide", name, s.name, width)
					}
					shoot(t, ctx, name+"-"+s.name+"-"+scheme)
				}
			}
			if list := said(); len(list) > 0 {
				t.Errorf("the browser complains: %q", list)
			}
		})
	}
}

// schemes are the colour schemes to look at. They differ in nothing that a test sees.
func schemes() []string {
	if *shots == "" {
		return []string{"light"}
	}
	return []string{"light", "dark"}
}

// pagesToSee gives the address of one page of each kind.
func pagesToSee(t *testing.T) map[string]string {
	// An answer without content leaves a browser where it is, so that the page before can be looked at.
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(app.Close)
	s := newSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes", ReturnURLs: []string{app.URL + "/done"}}})
	jane := &broker.EndUser{ID: "u1", DisplayName: "Jane Doe", Email: "jane@acme.example", OrganizationName: "Acme Inc."}
	github := signInProvider("github", "GitHub", "https://github.example/login")
	github.facts.DefaultScopes = []string{"repo", "read:user", "read:org"}
	s.integrate(t, github)
	google := signInProvider("google-drive", "Google Drive", "https://accounts.example/o", subdomainField)
	google.facts.DefaultScopes = []string{
		"https://www.example.com/auth/drive.readonly", "https://www.example.com/auth/drive.metadata.readonly", "openid", "email",
		"profile", "https://www.example.com/auth/spreadsheets", "https://www.example.com/auth/documents", "offline_access",
	}
	s.integrate(t, google)
	s.integrate(t, keyProvider("mailer", "Mailer", subdomainField, regionField, keyField))
	s.integrate(t, keyProvider("snow", "Snow Warehouse", broker.Field{
		Name: "privateKey", Section: broker.CredentialField, Title: "Private key", Secret: true, Example: "-----BEGIN PRIVATE KEY-----",
	}))
	for i, name := range []string{"HubSpot", "Notion", "Slack", "Zoom", "Airtable", "Figma", "Asana"} {
		s.integrate(t, signInProvider("p"+strconv.Itoa(i), name, "https://p.example/"))
	}
	_, all := s.session(t, broker.SessionInput{EndUser: jane})
	_, few := s.session(t, broker.SessionInput{EndUser: jane, Integrations: []string{"github", "mailer", "google-drive"}})
	address := func(path, token string) string { return s.server.URL + link(path, token) }
	_, foreign := s.session(t, broker.SessionInput{})
	denied := s.server.URL + callback(s.visitor(t).begin("github", foreign), "error", "access_denied")
	return map[string]string{
		"list-many":     address("/connect/", all),
		"list-few":      address("/connect/", few),
		"list-none":     address("/connect/", all) + "&q=xyz",
		"form-signin":   address("/connect/to/github", few),
		"form-scopes":   address("/connect/to/google-drive", few),
		"form-key":      address("/connect/to/mailer", all),
		"form-pem":      address("/connect/to/snow", all),
		"failure":       address("/connect/", "nango_connect_session_0"),
		"failure-other": denied,
		"success":       s.succeed(t, "mailer", broker.SessionInput{EndUser: jane}),
		"completed":     s.complete(t, "mailer"),
		"success-back":  s.succeed(t, "mailer", broker.SessionInput{EndUser: jane, ReturnURL: app.URL + "/done"}),
	}
}

// succeed connects what is typed in, and gives the address of the page that says so.
func (s *site) succeed(t *testing.T, key string, in broker.SessionInput) string {
	_, token := s.session(t, in)
	v := s.visitor(t)
	page := v.get(link("/connect/to/"+key, token))
	done := v.post("/connect/to/"+key, v.fill(page, token, map[string]string{
		"credentials.apiKey": "k-123", "connection_config.subdomain": "acme",
	}))
	if done.StatusCode != 303 {
		t.Fatalf("connecting answers %s:\n%s", done.Status, done.body)
	}
	return s.server.URL + done.Header.Get("Location")
}

// complete uses a session up, and gives the address of its form.
func (s *site) complete(t *testing.T, key string) string {
	u, err := url.Parse(s.succeed(t, key, broker.SessionInput{Integrations: []string{key}}))
	must(t, err)
	return s.server.URL + link("/connect/to/"+key, u.Query().Get("session_token"))
}
