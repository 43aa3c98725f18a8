package integrations_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

const connectPath = "/api/integrations/my-integration/connect"

// visitor is a browser: it keeps cookies, and says what browsers say.
type visitor struct {
	*site
	t       *testing.T
	jar     *cookiejar.Jar
	headers []string // name, value, of every request
}

func (s *site) visitor(t *testing.T, headers ...string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	return &visitor{s, t, jar, headers}
}

// crossSite are the headers of a navigation that another site caused.
func crossSite(referer string) []string {
	return []string{
		"User-Agent", "Mozilla/5.0 Chrome/140.0.0.0", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", "cross-site",
		"Referer", referer, "Accept", "text/html,*/*",
	}
}

// do sends a request as the browser would.
func (v *visitor) do(method, target string, form url.Values, headers ...string) *http.Response {
	v.t.Helper()
	r := httptest.NewRequestWithContext(v.t.Context(), method, target, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	headers = append(v.headers[:len(v.headers):len(v.headers)], headers...)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	at, err := url.Parse(apitest.PublicURL + target)
	must(v.t, err)
	for _, c := range v.jar.Cookies(at) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	v.Handler.ServeHTTP(w, r)
	res := w.Result()
	v.jar.SetCookies(at, res.Cookies())
	return res
}

// leads demands a redirect and gives where it leads.
func leads(t *testing.T, res *http.Response, status int) string {
	t.Helper()
	if res.StatusCode != status {
		t.Fatalf("got %d %s, want %d", res.StatusCode, res.Header, status)
	}
	return res.Header.Get("Location")
}

func TestATokenInTheAddressIsExchangedForACookieOfThisRowAlone(t *testing.T) {
	s := newSite(t)
	token := s.user(t, "ann")
	v := s.visitor(t)
	res := v.do(http.MethodGet, connectPath+"?"+kit.ParamSession+"="+token, nil)
	if to := leads(t, res, http.StatusFound); to != connectPath {
		t.Errorf("it leads to %s", to)
	}
	cookies := res.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("cookies %v", cookies)
	}
	c := cookies[0]
	if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.MaxAge <= 0 || c.MaxAge > 900 || !strings.HasPrefix(c.Name, "__Host-") {
		t.Errorf("the cookie is %s", c)
	}
	if strings.Contains(c.Value, token) || strings.Contains(s.Log.String(), token) {
		t.Error("the token can be read in the cookie or in the log")
	}
	for what, try := range map[string]struct{ method, target string }{
		"another integration":       {http.MethodGet, "/api/integrations/tenant/connect"},
		"another parameter":         {http.MethodGet, connectPath + "?x=1"},
		"the connection":            {http.MethodGet, "/api/integrations/my-integration/connection"},
		"its end":                   {http.MethodDelete, "/api/integrations/my-integration/connection"},
		"the list":                  {http.MethodGet, "/api/integration-connections"},
		"a call":                    {http.MethodGet, "/api/integrations/my-integration/request/a"},
		"a call by POST":            {http.MethodPost, "/api/integrations/my-integration/request"},
		"a program's way":           {http.MethodPost, connectPath},
		"what the session opens":    {http.MethodGet, "/connect/session"},
		"the same, with a HEAD":     {http.MethodHead, "/api/integrations/my-integration/connection"},
		"the pages of a connection": {http.MethodGet, "/connect/to/my-integration"},
	} {
		if got := v.do(try.method, try.target, nil); got.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: got %d", what, got.StatusCode)
		}
	}
	if to := leads(t, v.do(http.MethodGet, connectPath, nil), http.StatusFound); !strings.HasPrefix(to, "https://accounts.drive.test/authorize?") {
		t.Errorf("the cookie leads to %s", to)
	}
	s.Advance(11 * time.Minute)
	if got := v.do(http.MethodGet, connectPath, nil); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("the cookie, later: got %d", got.StatusCode)
	}
}

// Whoever makes somebody else's browser open a link with a session of their own gets a page on which it says for whom the
// connection is made, and nothing is begun until that is confirmed.
func TestAStrangersLinkIsNotFollowedWithoutAClick(t *testing.T) {
	s := newSiteWith(t, apitest.Options{Declare: func(dev, _ *broker.DeclaredEnvironment) {
		dev.Environment.AllowedOrigins = []string{"https://app.example"}
	}})
	link := func() string { return connectPath + "?" + kit.ParamSession + "=" + s.user(t, "mallory") }
	for _, c := range []struct {
		name, referer string
		leaves        bool
	}{{"a stranger's page", "https://evil.example/", false}, {"a page that hides its address", "", false}, {"the app's page", "https://app.example/settings", true}} {
		v := s.visitor(t, crossSite(c.referer)...)
		res := v.do(http.MethodGet, link(), nil)
		if policy := res.Header.Get("Referrer-Policy"); policy != "strict-origin" {
			t.Errorf("%s: the redirect has the policy %q, by which nobody knows where the browser came from", c.name, policy)
		}
		to := leads(t, v.do(http.MethodGet, leads(t, res, http.StatusFound), nil), http.StatusFound)
		if c.leaves != strings.HasPrefix(to, "https://accounts.drive.test/") || c.leaves == strings.HasPrefix(to, "/connect/start?") {
			t.Errorf("%s: it leads to %s", c.name, to)
		}
		if !c.leaves {
			page := v.do(http.MethodGet, to, nil)
			if body := text(t, page); page.StatusCode != http.StatusOK || !strings.Contains(body, "mallory") {
				t.Errorf("%s: got %d %s", c.name, page.StatusCode, body)
			}
		}
	}
	if n := len(s.asked.at("/authorize")) + len(s.asked.at("/token")); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	var b strings.Builder
	must(t, res.Write(&b))
	return b.String()
}

var inputForm = regexp.MustCompile(`name="(note|csrf)" value="([^"]*)"`)

// submitted fills the form of a page and sends it.
func (v *visitor) submitted(page *http.Response, fields map[string]string) *http.Response {
	v.t.Helper()
	form := make(url.Values)
	for _, m := range inputForm.FindAllStringSubmatch(text(v.t, page), -1) {
		form.Set(m[1], m[2])
	}
	for name, value := range fields {
		form.Set(name, value)
	}
	return v.do(http.MethodPost, "/connect/start", form, "Sec-Fetch-Site", "same-origin")
}

// What a provider wants to know is asked for on a page, and what comes of it replaces what the user has.
func TestAFormLeadsToTheUsersOneConnection(t *testing.T) {
	s := newSite(t)
	var first string
	for n, key := range []string{"one", "two"} {
		token := s.user(t, "ann")
		v := s.visitor(t)
		to := leads(t, v.do(http.MethodGet, "/api/integrations/hosted/connect", nil, bearer(token)...), http.StatusFound)
		page := v.do(http.MethodGet, to, nil)
		again := v.submitted(page, map[string]string{"credentials.apiKey": key, "connection_config.subdomain": "no good"})
		if again.StatusCode != http.StatusUnprocessableEntity || again.Header.Get(kit.HeaderErrorCode) != "variable_invalid" {
			t.Fatalf("a wrong field: %d %s", again.StatusCode, text(t, again))
		}
		ended := leads(t, v.submitted(again, map[string]string{"credentials.apiKey": key, "connection_config.subdomain": "acme"}), http.StatusSeeOther)
		if !strings.HasPrefix(ended, kit.EndedPath+"?"+kit.ParamFlow+"=") {
			t.Fatalf("it ends at %s", ended)
		}
		if page := v.do(http.MethodGet, ended, nil); page.StatusCode != http.StatusOK {
			t.Errorf("the last page: %d", page.StatusCode)
		}
		c := read(t, s.Send(t, http.MethodGet, "/api/integrations/hosted/connection", "", bearer(token)...), http.StatusOK)
		if n == 0 {
			first = c.ID
		}
		if c.ID != first || c.Data["subdomain"] != "acme" || *c.APIBaseURI != "https://acme.hosted.test" {
			t.Errorf("the connection is %+v, and was %s", c, first)
		}
	}
	if _, total, err := s.Broker.OwnConnections(t.Context(), broker.System(s.Env.ID), 0, 10); err != nil || total != 1 {
		t.Errorf("%d connections, %v", total, err)
	}
}

// Where a field comes first and then the provider, the flow is the same as without one.
func TestAFormLeadsToTheProvider(t *testing.T) {
	s := newSite(t)
	v := s.visitor(t)
	page := v.do(http.MethodGet, leads(t, v.do(http.MethodGet, "/api/integrations/tenant/connect", nil, bearer(s.user(t, "ann"))...), http.StatusFound), nil)
	to := leads(t, v.submitted(page, map[string]string{"connection_config.workspace": "acme"}), http.StatusSeeOther)
	u, err := url.Parse(to)
	must(t, err)
	if u.Host != "login.tenant.test" || u.Query().Get("redirect_uri") != apitest.PublicURL+"/oauth2/callback" {
		t.Fatalf("it leads to %s", to)
	}
	back := v.do(http.MethodGet, "/oauth2/callback?code=c&state="+url.QueryEscape(u.Query().Get("state")), nil)
	if to := leads(t, back, http.StatusFound); !strings.HasPrefix(to, kit.EndedPath) {
		t.Errorf("it ends at %s", to)
	}
	c := read(t, s.Send(t, http.MethodGet, "/api/integrations/tenant/connection", "", as("ann")...), http.StatusOK)
	if *c.APIBaseURI != "https://acme.tenant.test" {
		t.Errorf("the connection is %+v", c)
	}
}

// Two links for one user that were handed out before either was used lead to one connection.
func TestTwoLinksLeadToOneConnection(t *testing.T) {
	s := newSite(t)
	var links []string
	for range 2 {
		w := s.Send(t, http.MethodGet, connectPath, "", as("ann")...)
		links = append(links, strings.TrimPrefix(leads(t, w.Result(), http.StatusFound), apitest.PublicURL))
	}
	for _, link := range links {
		v := s.visitor(t)
		u, err := url.Parse(leads(t, v.do(http.MethodGet, link, nil), http.StatusSeeOther))
		must(t, err)
		v.do(http.MethodGet, "/oauth2/callback?code=c&state="+url.QueryEscape(u.Query().Get("state")), nil)
	}
	if _, total, err := s.Broker.OwnConnections(t.Context(), broker.System(s.Env.ID), 0, 10); err != nil || total != 1 {
		t.Errorf("%d connections, %v", total, err)
	}
}

func TestFailuresAreToldToBrowsersOnAPage(t *testing.T) {
	s := newSite(t)
	narrow := connectPath + "?" + kit.ParamSession + "=" + s.user(t, "ann", "mail")
	res := s.visitor(t, "Accept", "text/html,application/xhtml+xml").do(http.MethodGet, narrow, nil)
	if res.StatusCode != http.StatusForbidden || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") ||
		res.Header.Get(kit.HeaderErrorCode) != "integration_not_allowed" || len(res.Cookies()) != 0 {
		t.Errorf("got %d %s", res.StatusCode, res.Header)
	}
	refused(t, "a program", s.Send(t, http.MethodGet, connectPath, "", bearer(s.user(t, "ann", "mail"))...), http.StatusForbidden, "integration_not_allowed")
}
