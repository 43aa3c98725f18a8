package connect_test

import (
	"encoding/json"
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

const githubLogin = "https://github.example/login"

// githubSite has one provider that needs the browser.
func githubSite(t *testing.T, o options) (*site, *provider) {
	t.Helper()
	s := newSite(t, o)
	p := signInProvider("github", "GitHub", githubLogin)
	s.integrate(t, p)
	return s, p
}

// TestPageGoesOnToProvider checks the way to the provider that no form-action policy can block.
func TestPageGoesOnToProvider(t *testing.T) {
	s, _ := githubSite(t, options{})
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	page := v.post("/connect/to/github", v.fill(v.get(link("/connect/to/github", token)), token, nil))
	answered(t, page, http.StatusOK, "")
	contains(t, page, `<meta http-equiv="refresh" content="0;url=https://github.example/login?`, `<a class="button" href="https://github.example/login?`, "github.example")
	if csp := page.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self';") {
		t.Errorf("policy: %s", csp)
	}
	if len(page.Cookies()) != 1 {
		t.Errorf("cookies: %v", page.Cookies())
	}
}

// TestOtherClientsAreRedirected checks the shorter way for clients that do not say that they are browsers.
func TestOtherClientsAreRedirected(t *testing.T) {
	s, _ := githubSite(t, options{})
	_, token := s.session(t, broker.SessionInput{})
	state := s.visitor(t).begin("github", token)
	if state == "" {
		t.Error("the redirect carries no state")
	}
}

func TestSignInBecomesConnection(t *testing.T) {
	s, p := githubSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes", AllowedOrigins: []string{"https://app.example"}}})
	session, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	state := v.begin("github", token)
	done := v.get(callback(state, "code", "c-1"))
	answered(t, done, http.StatusOK, "")
	made := s.connections(t)
	if len(made) != 1 || p.asked.Load() != 1 {
		t.Fatalf("%d connections, %d exchanges", len(made), p.asked.Load())
	}
	contains(t, done, "GitHub is connected", "go back to Fieldnotes")
	told := outcomeOf(t, done)
	want := map[string]any{
		"type": "coatcheck:connect", "version": 1.0, "session_id": string(session.ID), "status": "success", "connection_id": made[0].Key,
	}
	if !equalJSON(t, told.Message, want) || len(told.Origins) != 1 || told.Origins[0] != "https://app.example" || told.AnyLocal {
		t.Errorf("the opener is told %+v", told)
	}
	lacks(t, done, token, state, "c-1", "canary-access-token")

	again := v.get(callback(state, "code", "c-1"))
	answered(t, again, http.StatusConflict, "state_used")
	contains(t, again, "This sign-in is already over")
	if p.asked.Load() != 1 {
		t.Error("the code was sent twice")
	}
}

// told is what a page has ready for its opener.
type told struct {
	Message  map[string]any
	Origins  []string
	AnyLocal bool
}

var dataAttribute = regexp.MustCompile(`data-(result|origins)="([^"]*)"`)

func outcomeOf(t *testing.T, a answer) told {
	t.Helper()
	var out told
	for _, m := range dataAttribute.FindAllStringSubmatch(a.body, -1) {
		var err error
		if m[1] == "result" {
			err = json.Unmarshal([]byte(html.UnescapeString(m[2])), &out.Message)
		} else {
			err = json.Unmarshal([]byte(html.UnescapeString(m[2])), &out.Origins)
		}
		must(t, err)
	}
	out.AnyLocal = strings.Contains(a.body, `data-any-local="true"`)
	return out
}

func equalJSON(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	must(t, err)
	y, err := json.Marshal(b)
	must(t, err)
	return string(x) == string(y)
}

// TestOpenersAreNamed checks who is told: by name, or nobody.
func TestOpenersAreNamed(t *testing.T) {
	both := []string{"https://a.example", "https://b.example"}
	tests := []struct {
		name      string
		publicURL string
		allowed   []string // by the environment
		session   []string
		want      string
		anyLocal  bool
	}{
		{name: "none", publicURL: "https://connect.example", want: `[]`},
		{name: "the environment's", publicURL: "https://connect.example", allowed: both, want: `["https://a.example","https://b.example"]`},
		{name: "the session's", publicURL: "https://connect.example", allowed: both, session: both[1:], want: `["https://b.example"]`},
		{name: "on this machine", want: `[]`, anyLocal: true},
		{name: "on this machine, named", allowed: both, want: `["https://a.example","https://b.example"]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, options{publicURL: tt.publicURL, env: broker.Environment{AllowedOrigins: tt.allowed}})
			s.integrate(t, keyProvider("mailer", "Mailer", keyField))
			done := s.visitor(t).get(s.succeed(t, "mailer", broker.SessionInput{AllowedOrigins: tt.session}))
			told := outcomeOf(t, done)
			if !equalJSON(t, told.Origins, json.RawMessage(tt.want)) || told.AnyLocal != tt.anyLocal {
				t.Errorf("told %+v, want %s, any local %t", told, tt.want, tt.anyLocal)
			}
		})
	}
}

func TestReturnURLIsFollowed(t *testing.T) {
	const back = "https://app.example/done"
	s, p := githubSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes", ReturnURLs: []string{back}}})
	_, token := s.session(t, broker.SessionInput{ReturnURL: back})
	v := s.visitor(t)
	// What the query says about where to go is not believed.
	done := v.get(callback(v.begin("github", token), "code", "c", "redirectUrl", "https://evil.example", "success", "https://evil.example"))
	answered(t, done, http.StatusOK, "")
	contains(t, done, `<a class="button" href="`+back+`"`, `content="3;url=`+back+`"`, `data-return="`+back+`"`, "Continue to Fieldnotes")
	lacks(t, done, "evil.example")

	_, token = s.session(t, broker.SessionInput{ReturnURL: back})
	p.refuse = errors.New("no")
	failed := v.get(callback(v.begin("github", token), "code", "c"))
	contains(t, failed, `href="`+back+`"`)
	lacks(t, failed, "http-equiv", `data-return="`+back) // what went wrong can be read at leisure
}

func TestFailuresAreExplained(t *testing.T) {
	tests := []struct {
		name   string
		query  []string
		path   string        // empty: the shared one
		after  time.Duration // how long the browser is away
		refuse error
		status int
		code   string
		says   []string
		retry  bool
	}{
		{
			name: "denied", query: []string{"error", "access_denied"}, status: 400, code: "provider_denied", retry: true,
			says: []string{"Access was not given", "GitHub told us that access was declined"},
		},
		{
			name: "provider's error", query: []string{"error", "server_error"}, status: 400, code: "provider_error", retry: true,
			says: []string{"GitHub reported a problem"},
		},
		{
			name: "no exchange", query: []string{"code", "c"}, status: 502, code: "exchange_failed", retry: true,
			refuse: &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Text: "<b>too late</b>"},
			says:   []string{"GitHub didn’t finish the sign-in", "GitHub said:", "&lt;b&gt;too late&lt;/b&gt;"},
		},
		{
			name: "too late", query: []string{"code", "c"}, after: 11 * time.Minute, status: 400, code: "state_expired", retry: true,
			says: []string{"That took too long", "Go back to Fieldnotes and start again."},
		},
		{
			name: "session over too", query: []string{"error", "access_denied"}, after: 16 * time.Minute, status: 400, code: "state_expired",
			says: []string{"That took too long"},
		},
		{
			name: "malformed", query: []string{"code", "c", "code", "d"}, status: 400, code: "callback_invalid", retry: true,
			says: []string{"We stopped this sign-in"},
		},
		{
			name: "token in the address", query: []string{"code", "c", "access_token", "x"}, status: 400, code: "callback_invalid", retry: true,
			says: []string{"We stopped this sign-in"},
		},
		{
			name: "another integration's address", path: "/oauth/callback/0123456789abcdef", query: []string{"code", "c"}, status: 400,
			code: "context_mismatch", retry: true, says: []string{"We stopped this sign-in"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, p := githubSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes"}})
			p.refuse = tt.refuse
			session, token := s.session(t, broker.SessionInput{})
			v := s.visitor(t)
			address := callback(v.begin("github", token), tt.query...)
			if tt.path != "" {
				address = tt.path + strings.TrimPrefix(address, "/oauth/callback")
			}
			s.clock.advance(tt.after)
			page := v.get(address)
			answered(t, page, tt.status, tt.code)
			contains(t, page, append(tt.says, tt.code, page.Header.Get("X-Request-Id"))...)
			told := outcomeOf(t, page)
			if told.Message["status"] != "error" || told.Message["error_code"] != tt.code || told.Message["session_id"] != string(session.ID) {
				t.Errorf("the opener is told %+v", told)
			}
			if got := strings.Contains(page.body, `href="`+link("/connect/to/github", token)+`"`); got != tt.retry {
				t.Errorf("a way to try again: %t, want %t\n%s", got, tt.retry, page.body)
			}
			if len(page.Cookies()) != 1 || page.Cookies()[0].MaxAge >= 0 {
				t.Errorf("the flow's cookie stays: %v", page.Cookies())
			}
			if len(s.connections(t)) != 0 {
				t.Error("a connection came of it")
			}
		})
	}
}

// TestForeignBrowserIsRefused finishes a sign-in in another browser than it was started in. It learns nothing of the
// session, and the sign-in is over for both.
func TestForeignBrowserIsRefused(t *testing.T) {
	s, p := githubSite(t, options{})
	_, token := s.session(t, broker.SessionInput{})
	v, other := s.visitor(t), s.visitor(t)
	state := v.begin("github", token)
	refused := other.get(callback(state, "code", "c"))
	answered(t, refused, http.StatusForbidden, "browser_mismatch")
	contains(t, refused, "This sign-in was started somewhere else")
	lacks(t, refused, token)
	answered(t, v.get(callback(state, "code", "c")), http.StatusConflict, "state_used")
	if p.asked.Load() != 0 {
		t.Error("the code was exchanged")
	}
}

func TestStateIsNeeded(t *testing.T) {
	s, _ := githubSite(t, options{})
	v := s.visitor(t)
	for _, address := range []string{"/oauth/callback", "/oauth2/callback?state=x&code=c", "/oauth/callback/abc?state=x"} {
		page := v.get(address)
		answered(t, page, http.StatusBadRequest, "state_invalid")
		contains(t, page, "This address doesn’t work", "Go back to the app you came from")
	}
}

// TestHeadUsesNothingUp sends what link previews send.
func TestHeadUsesNothingUp(t *testing.T) {
	s, _ := githubSite(t, options{})
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	address := callback(v.begin("github", token), "code", "c")
	if a := v.do(http.MethodHead, address, nil, nil); a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %s", a.Status)
	}
	answered(t, v.get(address), http.StatusOK, "")
}

// TestFormPost answers a provider that posts: nothing is used up by it, and what it says is sent on from our own page.
func TestFormPost(t *testing.T) {
	s, _ := githubSite(t, options{})
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	state := v.begin("github", token)
	for _, path := range []string{"/oauth/callback", "/oauth2/callback", "/oauth/callback/abc"} {
		page := s.visitor(t).do(http.MethodPost, path, url.Values{
			"state": {state}, "code": {"c", `d"><svg onload=x>`}, "iss": {"i"}, "error": {"e"}, "error_description": {"ed"},
			"id_token": {"canary-id-token"}, "user": {"canary-user"},
			"oauth_token": {"ot"}, "oauth_verifier": {"ov"}, "denied": {"d"}, "oauth_problem": {"op"}, "oauth_problem_advice": {"oa"},
		}, http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://github.example"}})
		answered(t, page, http.StatusOK, "")
		contains(t, page, `<form class="body" method="get" action="`+path+`" data-auto>`, `name="state" value="`+state+`"`, `name="code" value="c"`,
			`value="d&#34;&gt;&lt;svg onload=x&gt;"`, `name="iss" value="i"`, `name="error" value="e"`, `name="error_description" value="ed"`,
			`name="oauth_token" value="ot"`, `name="oauth_verifier" value="ov"`, `name="denied" value="d"`, `name="oauth_problem" value="op"`,
			`name="oauth_problem_advice" value="oa"`,
			`<button class="button" type="submit">`)
		lacks(t, page, "canary", "<svg onload")
		if len(page.Cookies()) != 0 {
			t.Errorf("cookies: %v", page.Cookies())
		}
	}
	answered(t, v.get(callback(state, "code", "c")), http.StatusOK, "")
}

func TestBodiesAreBounded(t *testing.T) {
	s, _ := githubSite(t, options{})
	v := s.visitor(t)
	large := url.Values{"state": {strings.Repeat("x", 64<<10)}}
	answered(t, v.do(http.MethodPost, "/oauth/callback", large, nil), http.StatusRequestEntityTooLarge, "body_too_large")
	answered(t, v.post("/connect/to/github", large), http.StatusRequestEntityTooLarge, "body_too_large")
	// The same without a length, so that the limit is met while reading.
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/connect/to/github", strings.NewReader(large.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.ContentLength = -1
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body without a length answers %d", w.Code)
	}
}

// TestLimitsOfASession starts more sign-ins than a session may.
func TestLimitsOfASession(t *testing.T) {
	s, _ := githubSite(t, options{})
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	for range 20 {
		v.begin("github", token)
	}
	page := v.post("/connect/to/github", v.fill(v.get(link("/connect/to/github", token)), token, nil))
	answered(t, page, http.StatusTooManyRequests, "rate_limited")
	contains(t, page, "Too many attempts")
}
