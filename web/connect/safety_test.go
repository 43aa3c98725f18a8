package connect_test

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/connect"
	"github.com/coatcheck/coatcheck/web/static"
)

// hostile is what somebody may put into a name or a text.
const hostile = `"><svg onload=alert(1)></script><script>alert(2)</script>{app}{provider}`

// hostileSite has strangers' text wherever a page shows some.
func hostileSite(t *testing.T) (s *site, token string) {
	t.Helper()
	s = newSite(t, options{env: broker.Environment{DisplayName: "App " + hostile, AllowedOrigins: []string{"https://app.example"}}})
	field := broker.Field{
		Section: broker.ConfigField, Title: "T" + hostile, Description: "D" + hostile, Example: "E" + hostile, Prefix: "P" + hostile,
		Suffix: "S" + hostile, Default: "V" + hostile, Optional: true,
	}
	text, choice, secret := field, field, field
	text.Name, choice.Name, secret.Name = "text", "choice", `s"><svg onload=alert(3)>`
	choice.Options, secret.Secret = []string{"O" + hostile}, true
	login := signInProvider("login", "L"+hostile, githubLogin, text)
	login.facts.DefaultScopes = []string{"scope" + hostile}
	login.facts.DocsConnect = "javascript:alert(4)"
	login.refuse = &broker.ProviderError{Class: broker.GrantLost, Code: "e", Text: hostile + strings.Repeat("x", 400)}
	typed := keyProvider("typed", "K"+hostile, text, choice, secret)
	typed.facts.DocsConnect = "data:text/html,x"
	s.integrate(t, login)
	s.integrate(t, typed)
	_, token = s.session(t, broker.SessionInput{EndUser: &broker.EndUser{
		ID: hostile, DisplayName: "N" + hostile, Email: "M" + hostile, OrganizationName: "O" + hostile,
	}})
	return s, token
}

// hostilePages gives every kind of page with such text on it.
func hostilePages(t *testing.T) map[string]answer {
	t.Helper()
	s, token := hostileSite(t)
	v := s.visitor(t)
	form := v.get(link("/connect/to/login", token))
	typed := v.get(link("/connect/to/typed", token))
	sent := v.post("/connect/to/typed", v.fill(typed, token, nil))
	wrong := v.fill(typed, token, map[string]string{"connection_config.text": hostile})
	pages := map[string]answer{
		"list":     v.get(link("/connect/", token)),
		"search":   v.get(link("/connect/", token) + "&q=" + url.QueryEscape(hostile)),
		"form":     form,
		"typed":    typed,
		"go":       v.post("/connect/to/login", v.fill(form, token, nil)),
		"failure":  v.get(callback(v.begin("login", token), "code", "c")),
		"refusal":  v.get(callback(v.begin("login", token), "error", hostile, "error_description", hostile)),
		"done":     v.get(sent.Header.Get("Location")),
		"over":     v.post("/connect/to/typed", wrong),
		"stranger": v.get(link("/connect/to/"+url.PathEscape(hostile), token)),
		"repost":   v.do(http.MethodPost, "/oauth/callback", url.Values{"state": {hostile}, "code": {hostile}}, nil),
	}
	for name, path := range map[string]string{"list": "/connect/", "form": "/connect/to/login", "typed": "/connect/to/typed", "stranger": "/connect/to/" + url.PathEscape(hostile)} {
		pages["embedded "+name] = v.framed(link(path, token), app)
		pages["lured "+name] = v.framed(link(path, token)+"&lang="+url.QueryEscape(hostile)+"&theme="+url.QueryEscape(hostile)+"&q=x", hostile)
	}
	pages["embedded done"] = v.framed(sent.Header.Get("Location"), app)
	pages["boot"] = v.do(http.MethodGet, "/connect/?apiURL="+url.QueryEscape(hostile)+"&lang="+url.QueryEscape(hostile), nil, nil)
	_, fresh := s.session(t, broker.SessionInput{})
	s.catalogue["typed"].refuse = &broker.ProviderError{Class: broker.GrantLost, Code: hostile, Text: hostile}
	wrong.Set("session_token", fresh)
	pages["again"] = v.post("/connect/to/typed", v.fill(v.get(link("/connect/to/typed", fresh)), fresh, map[string]string{"connection_config.text": hostile}))
	return pages
}

func TestStrangersTextIsText(t *testing.T) {
	for name, page := range hostilePages(t) {
		if page.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: not a page: %s %s", name, page.Status, page.body)
		}
		for _, bad := range []string{"<svg onload", "<script>", "javascript:", "data:text/html", "alert(2)</script>"} {
			if strings.Contains(page.body, bad) {
				t.Errorf("%s: holds %q:\n%s", name, bad, page.body)
			}
		}
	}
}

// TestProvidersTextIsShort shows no more than 300 characters of it.
func TestProvidersTextIsShort(t *testing.T) {
	page := hostilePages(t)["failure"]
	if n := strings.Count(page.body, "x"); n == 0 || strings.Contains(page.body, strings.Repeat("x", 300)) {
		t.Errorf("the provider's text is not cut:\n%s", page.body)
	}
}

// TestNamesAreNotTemplates puts the names of placeholders into names.
func TestNamesAreNotTemplates(t *testing.T) {
	page := hostilePages(t)["form"]
	contains(t, page, "{app}{provider}")
}

var (
	nonceOf      = regexp.MustCompile(`script-src 'nonce-([A-Za-z0-9_-]{22})';`)
	activeTag    = regexp.MustCompile(`<(?:script|link rel="stylesheet")[^>]*>`)
	inlineAttr   = regexp.MustCompile(`<[^>"']*(?:"[^"]*"[^>"']*)*\s(on[a-z]+|style)=`)
	foreignImage = regexp.MustCompile(`<(?:img|iframe|object|embed|video|audio|base)\b`)
)

// TestEveryPageHasItsPolicy looks at all pages, failures included.
func TestEveryPageHasItsPolicy(t *testing.T) {
	nonces := make(map[string]string)
	for name, page := range hostilePages(t) {
		h := page.Header
		for header, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "unsafe-none",
		} {
			if h.Get(header) != want {
				t.Errorf("%s: %s is %q", name, header, h.Get(header))
			}
		}
		found := nonceOf.FindStringSubmatch(h.Get("Content-Security-Policy"))
		if found == nil {
			t.Errorf("%s: no nonce in %q", name, h.Get("Content-Security-Policy"))
			continue
		}
		nonce, forms := found[1], "'self'"
		if strings.HasSuffix(name, "form") {
			forms += " https://github.example"
		}
		around := "'none'"
		if name == "boot" || strings.HasPrefix(name, "embedded") {
			around = app
		}
		want := "default-src 'none'; script-src 'nonce-" + nonce + "'; style-src 'nonce-" + nonce + "'; img-src 'self' data:; " +
			"connect-src 'self'; base-uri 'none'; form-action " + forms + "; frame-ancestors " + around
		if got := h.Get("Content-Security-Policy"); got != want {
			t.Errorf("%s: policy %q", name, got)
		}
		if other, seen := nonces[nonce]; seen {
			t.Errorf("%s and %s share a nonce", name, other)
		}
		nonces[nonce] = name
		for _, tag := range activeTag.FindAllString(page.body, -1) {
			if !strings.Contains(tag, `nonce="`+nonce+`"`) || !strings.Contains(tag, `="/static/`) {
				t.Errorf("%s: %s", name, tag)
			}
		}
		if m := inlineAttr.FindString(page.body); m != "" {
			t.Errorf("%s: inline attribute in %s", name, m)
		}
		if m := foreignImage.FindString(page.body); m != "" {
			t.Errorf("%s: %s", name, m)
		}
	}
}

// TestRoutesAreKnown fails when a route is added, so that somebody thinks of its policy and its test.
func TestRoutesAreKnown(t *testing.T) {
	s := newSite(t, options{})
	ui, err := connect.New(connect.Deps{Broker: s.broker, Assets: static.New(), FormKey: key(1), CookieKeys: []connect.CookieKeys{cookieKeys(2)}})
	must(t, err)
	var have []string
	for _, r := range ui.Surface().Routes {
		have = append(have, r.Method+" "+r.Path+" "+r.Auth.Name)
		if !r.Auth.Limited {
			t.Errorf("%s %s is not limited", r.Method, r.Path)
		}
	}
	want := []string{
		"GET /connect session in link or told to a frame", "GET /connect/to/{key} session in link", "POST /connect/to/{key} session in form",
		"GET /connect/to/{key}/done session in link", "GET /connect/to/{key}/attempt session in link",
		"GET /connect/ended public", "GET /connect/start session sealed in link", "POST /connect/start session sealed in form",
		"GET /oauth/callback public", "POST /oauth/callback public", "GET /oauth2/callback public", "POST /oauth2/callback public",
		"GET /oauth/callback/{integration} public", "POST /oauth/callback/{integration} public", "GET /app-auth/connect public",
	}
	if strings.Join(have, "\n") != strings.Join(want, "\n") {
		t.Errorf("routes:\n%s", strings.Join(have, "\n"))
	}
}

// TestUnusableAddressesOfProviders leads nowhere that is not the web.
func TestUnusableAddressesOfProviders(t *testing.T) {
	for _, authorize := range []string{"javascript:alert(1)//", "data:text/html,", "//no.scheme", "https:"} {
		s := newSite(t, options{})
		s.integrate(t, signInProvider("odd", "Odd", authorize))
		_, token := s.session(t, broker.SessionInput{})
		v := s.visitor(t)
		page := v.post("/connect/to/odd", v.fill(v.get(link("/connect/to/odd", token)), token, nil))
		answered(t, page, http.StatusUnprocessableEntity, "provider_url_invalid")
		if len(page.Cookies()) != 0 {
			t.Errorf("%s: cookies %v", authorize, page.Cookies())
		}
	}
}

// TestUnknownFailuresAreBare hides what is not meant for strangers.
func TestUnknownFailuresAreBare(t *testing.T) {
	s := newSite(t, options{})
	p := keyProvider("mailer", "Mailer", keyField)
	p.refuse = errors.New("canary: dial tcp 10.0.0.7:443")
	s.integrate(t, p)
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	page := v.post("/connect/to/mailer", v.fill(v.get(link("/connect/to/mailer", token)), token, map[string]string{"credentials.apiKey": "k"}))
	answered(t, page, http.StatusInternalServerError, "internal")
	contains(t, page, "Something went wrong", page.Header.Get("X-Request-Id"))
	lacks(t, page, "canary", "10.0.0.7")
}
