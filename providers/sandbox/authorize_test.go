package sandbox

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestAnswerCarriesCodeStateAndIssuer(t *testing.T) {
	w := start(t)
	a := w.decide("allow", authorizeQuery())
	got := a.location(t).Query()
	if len(got["code"]) != 1 || len(got.Get("code")) < 26 {
		t.Errorf("code %q, want 128 random bits", got["code"])
	}
	got.Del("code")
	want := url.Values{"from": {"sandbox"}, "state": {"st ate&=1"}, "iss": {w.origin}}
	if got.Encode() != want.Encode() {
		t.Errorf("answer %v, want %v and a code", got, want)
	}
	if !strings.HasPrefix(a.header.Get("Location"), appURI+"&") || a.body != "" {
		t.Errorf("Location does not go on from the redirect URI, or a body (%d bytes) came along", len(a.body))
	}
	if a.header.Get("Referrer-Policy") != "no-referrer" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", a.header)
	}
}

func TestNoStateNoState(t *testing.T) {
	w := start(t)
	q := authorizeQuery("state", "", "client_id", otherID, "redirect_uri", otherURI)
	if u := w.decide("allow", q).location(t); u.Query().Has("state") || u.Host != "other.example" {
		t.Errorf("answer to %s with parameters %v", u.Host, u.Query())
	}
}

func TestNoScopeMeansTheDefaultOnes(t *testing.T) {
	w := start(t)
	code := w.decide("allow", authorizeQuery("scope", "")).location(t).Query().Get("code")
	if got := w.tokens(w.post("/token", codeForm(code))); got.Scope != "profile coats" {
		t.Errorf("scope %q", got.Scope)
	}
}

func TestDeny(t *testing.T) {
	w := start(t)
	got := w.decide("deny", authorizeQuery()).location(t).Query()
	if got.Get("error") != "access_denied" || got.Get("state") != "st ate&=1" || got.Get("iss") != w.origin || got.Has("code") {
		t.Errorf("answer %v", got)
	}
}

func TestErrorsThatStayOnAPage(t *testing.T) {
	w := start(t)
	twice := authorizeQuery()
	twice.Add("redirect_uri", appURI)
	clients := authorizeQuery()
	clients.Add("client_id", otherID)
	for name, q := range map[string]url.Values{
		"no client":             authorizeQuery("client_id", ""),
		"unknown client":        authorizeQuery("client_id", "<b>nobody</b>"),
		"two clients":           clients,
		"no redirect URI":       authorizeQuery("redirect_uri", ""),
		"longer redirect URI":   authorizeQuery("redirect_uri", appURI+"&x=1"),
		"another client's":      authorizeQuery("redirect_uri", otherURI),
		"two redirect URIs":     twice,
		"differs in its case":   authorizeQuery("redirect_uri", strings.ToUpper(appURI)),
		"a part of a good one":  authorizeQuery("redirect_uri", strings.TrimSuffix(appURI, "?from=sandbox")),
		"traversal in its path": authorizeQuery("redirect_uri", strings.Replace(appURI, "/oauth", "/x/../oauth", 1)),
	} {
		t.Run(name, func(t *testing.T) {
			w.in(t)
			a := w.get("/authorize?" + q.Encode())
			if a.status != http.StatusBadRequest || a.header.Get("Location") != "" {
				t.Errorf("status %d, Location %q", a.status, a.header.Get("Location"))
			}
			if p := w.page(a); !strings.Contains(p.text, "Sandbox provider") || p.elements["form"]+p.elements["b"] != 0 {
				t.Errorf("page %q", a.body)
			}
		})
	}
	if a := w.get("/authorize?" + authorizeQuery("state", strings.Repeat("x", maxQuery)).Encode()); a.status != http.StatusRequestURITooLong {
		t.Errorf("a long request: %d", a.status)
	}
}

func TestErrorsThatGoToTheClient(t *testing.T) {
	w := start(t)
	twice := authorizeQuery()
	twice.Add("scope", "more")
	for name, c := range map[string]struct {
		q    url.Values
		want string
	}{
		"no response type":    {authorizeQuery("response_type", ""), "invalid_request"},
		"implicit":            {authorizeQuery("response_type", "token"), "unsupported_response_type"},
		"no PKCE":             {authorizeQuery("code_challenge", "", "code_challenge_method", ""), "invalid_request"},
		"no method":           {authorizeQuery("code_challenge_method", ""), "invalid_request"},
		"plain":               {authorizeQuery("code_challenge_method", "plain"), "invalid_request"},
		"short challenge":     {authorizeQuery("code_challenge", "abc"), "invalid_request"},
		"malformed challenge": {authorizeQuery("code_challenge", strings.Repeat("!", 43)), "invalid_request"},
		"quote in scope":      {authorizeQuery("scope", `profile "x"`), "invalid_scope"},
		"scope not ASCII":     {authorizeQuery("scope", "manteau-d'été"), "invalid_scope"},
		"parameter twice":     {twice, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			w.in(t)
			got := w.get("/authorize?" + c.q.Encode()).location(t).Query()
			if got.Get("error") != c.want || got.Get("error_description") == "" ||
				got.Get("state") != "st ate&=1" || got.Get("iss") != w.origin {
				t.Errorf("answer %v, want %s", got, c.want)
			}
		})
	}
}

func TestFormsWorkOnce(t *testing.T) {
	w := start(t)
	refused := func(name string, a answer) {
		t.Helper()
		if a.status != http.StatusBadRequest || a.header.Get("Location") != "" {
			t.Errorf("%s: status %d, Location %q", name, a.status, a.header.Get("Location"))
		}
	}
	login := w.page(w.get("/authorize?" + authorizeQuery().Encode()))
	consent := w.page(w.submit(login, "user", "ada"))
	refused("login again", w.submit(login, "user", "grace"))
	w.submit(consent, "decision", "allow").location(t)
	refused("decision again", w.submit(consent, "decision", "allow"))
	refused("no transaction", w.post("/consent", url.Values{"decision": {"allow"}}))

	login = w.page(w.get("/authorize?" + authorizeQuery().Encode()))
	refused("unknown account", w.submit(login, "user", "mallory"))

	login = w.page(w.get("/authorize?" + authorizeQuery().Encode()))
	login.action = "/consent"
	refused("consent without login", w.submit(login, "decision", "allow"))

	login = w.page(w.get("/authorize?" + authorizeQuery().Encode()))
	refused("no decision", w.submit(w.page(w.submit(login, "user", "ada")), "decision", "maybe"))

	login = w.page(w.get("/authorize?" + authorizeQuery().Encode()))
	w.advance(pageLifetime)
	refused("after its time", w.submit(login, "user", "ada"))
	refused("an endless form", w.post("/login", url.Values{"user": {strings.Repeat("x", maxForm)}}))
}

func TestUseAnotherAccount(t *testing.T) {
	w := start(t)
	login := w.page(w.get("/authorize?" + authorizeQuery().Encode()))
	consent := w.page(w.submit(login, "user", "ada"))
	login = w.page(w.submit(consent, "decision", "switch"))
	if got := login.fields["user"]; len(got) != 2 || got[0] != "ada" || got[1] != "grace" {
		t.Fatalf("accounts %v", got)
	}
	consent = w.page(w.submit(login, "user", "grace"))
	code := w.submit(consent, "decision", "allow").location(t).Query().Get("code")
	if a := w.api(w.tokens(w.post("/token", codeForm(code))).AccessToken); !strings.Contains(a.body, "grace@sandbox.test") {
		t.Errorf("me: %s", a.body)
	}
}

func TestPagesSayWhoAsksForWhat(t *testing.T) {
	w := start(t)
	login := w.page(w.get("/authorize?" + authorizeQuery("scope", "profile parcels").Encode()))
	for _, want := range []string{"Sandbox provider", "Coat app", "Ada", "ada@sandbox.test", "Grace"} {
		if !strings.Contains(login.text, want) {
			t.Errorf("the login page lacks %q: %s", want, login.text)
		}
	}
	consent := w.page(w.submit(login, "user", "ada"))
	for _, want := range []string{
		"Sandbox provider", "Coat app", "ada@sandbox.test", "127.0.0.1:3003", "Allow", "Deny",
		"See your name and email address", "parcels",
	} {
		if !strings.Contains(consent.text, want) {
			t.Errorf("the consent page lacks %q: %s", want, consent.text)
		}
	}
	if strings.Contains(consent.text, "coats") {
		t.Error("the consent page names a scope that nobody asked for")
	}
}

func TestHostileTextStaysText(t *testing.T) {
	const evil = `<script>alert(1)</script><img src=x onerror=alert(1)>'`
	w := start(t, func(o *Options) {
		o.Clients[appID] = Client{Name: evil, Secret: appSecret, RedirectURIs: []string{appURI}}
		o.Users = []User{{ID: `"><script>`, Name: evil, Email: evil}}
	})
	q := authorizeQuery("scope", "<script>alert(2)</script> </style><img/src=x>", "state", `"><script>alert(3)</script>`)
	login := w.get("/authorize?" + q.Encode())
	consent := w.submit(w.page(login), "user", `"><script>`)
	for name, a := range map[string]answer{"login": login, "consent": consent} {
		p := w.page(a)
		if p.elements["script"]+p.elements["img"] != 0 || !strings.Contains(p.text, evil) {
			t.Errorf("%s page: elements %v, text %q", name, p.elements, p.text)
		}
	}
	if p := w.page(consent); !strings.Contains(p.text, "<script>alert(2)</script>") {
		t.Errorf("the consent page does not show the scope: %q", p.text)
	}
	got := w.submit(w.page(consent), "decision", "deny").location(t)
	if got.Query().Get("state") != `"><script>alert(3)</script>` || strings.ContainsAny(got.RawQuery, `<>"`) {
		t.Errorf("state came back as %q", got.Query().Get("state"))
	}
}

func TestPagePolicies(t *testing.T) {
	w := start(t, func(o *Options) {
		c := o.Clients[appID]
		c.OnwardOrigins = []string{"http://localhost:8080"}
		o.Clients[appID] = c
	})
	nonces := map[string]bool{}
	check := func(name string, a answer, formAction string) page {
		t.Helper()
		m := regexp.MustCompile(`<style nonce="([A-Z2-7]{26})">`).FindStringSubmatch(a.body)
		if m == nil {
			t.Fatalf("%s: no nonce: %s", name, a.body)
		}
		want := "default-src 'none'; style-src 'nonce-" + m[1] + "'; form-action " + formAction +
			"; frame-ancestors 'none'; base-uri 'none'"
		if got := a.header.Get("Content-Security-Policy"); got != want || nonces[m[1]] {
			t.Errorf("%s: policy %q, want %q and a fresh nonce", name, got, want)
		}
		nonces[m[1]] = true
		for header, want := range map[string]string{
			"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			"Cross-Origin-Opener-Policy": "",
		} {
			if got := a.header.Get(header); got != want {
				t.Errorf("%s: %s %q, want %q", name, header, got, want)
			}
		}
		return w.page(a)
	}
	login := check("login", w.get("/authorize?"+authorizeQuery().Encode()), "'self'")
	check("consent", w.submit(login, "user", "ada"), "'self' http://127.0.0.1:3003 http://localhost:8080")
	check("error", w.get("/authorize"), "'none'")
	login = w.page(w.get("/authorize?" + authorizeQuery("client_id", otherID, "redirect_uri", "coats:/cb").Encode()))
	p := check("consent for an app", w.submit(login, "user", "ada"), "'self' coats:")
	if !strings.Contains(p.text, otherID) {
		t.Errorf("a client without a name is not called by its id: %s", p.text)
	}
}

func TestMetadata(t *testing.T) {
	w := start(t)
	a := w.get("/.well-known/oauth-authorization-server")
	want := `{"authorization_endpoint":"ORIGIN/authorize","authorization_response_iss_parameter_supported":true,` +
		`"code_challenge_methods_supported":["S256"],"grant_types_supported":["authorization_code","refresh_token"],` +
		`"issuer":"ORIGIN","response_modes_supported":["query"],"response_types_supported":["code"],` +
		`"revocation_endpoint":"ORIGIN/revoke",` +
		`"revocation_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"],` +
		`"scopes_supported":["profile","coats"],"token_endpoint":"ORIGIN/token",` +
		`"token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"]}` + "\n"
	if want = strings.ReplaceAll(want, "ORIGIN", w.origin); a.body != want || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("got  %swant %s", a.body, want)
	}
}

func TestCodeExpires(t *testing.T) {
	w := start(t)
	code := w.code()
	w.advance(codeLifetime - time.Millisecond)
	w.tokens(w.post("/token", codeForm(code)))
	code = w.code()
	w.advance(codeLifetime)
	w.wantError(w.post("/token", codeForm(code)), http.StatusBadRequest, "invalid_grant")
}
