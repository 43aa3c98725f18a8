package connect_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/coatcheck/coatcheck/broker"
)

const otherApp = "https://other.example"

// framed adds what the address of an embedded page says, and the browser's word for where it is.
func (v *visitor) framed(path, parent string) answer {
	return v.do(http.MethodGet, path+"&parent="+url.QueryEscape(parent), nil, http.Header{"Sec-Fetch-Dest": {"iframe"}})
}

func ancestors(a answer) string {
	_, list, _ := strings.Cut(a.Header.Get("Content-Security-Policy"), "frame-ancestors ")
	return list
}

// TestFramesAreForAllowedOrigins opens the first page, which knows no session, and one that does.
func TestFramesAreForAllowedOrigins(t *testing.T) {
	const local = "http://*.localhost:* http://127.0.0.1:* http://localhost:*"
	tests := []struct {
		name, publicURL   string
		allowed, sessions []string
		boot, form        string // who may have the pages inside theirs
		parent            string
	}{
		{name: "none", publicURL: "https://connect.example", boot: "'none'", form: "'none'", parent: app},
		{name: "the environment's", publicURL: "https://connect.example", allowed: []string{app, otherApp}, boot: app + " " + otherApp, form: app + " " + otherApp, parent: app},
		{name: "the session's", publicURL: "https://connect.example", allowed: []string{app, otherApp}, sessions: []string{app}, boot: app + " " + otherApp, form: app, parent: app},
		{name: "another session's", publicURL: "https://connect.example", allowed: []string{app, otherApp}, sessions: []string{app}, boot: app + " " + otherApp, form: "'none'", parent: otherApp},
		{name: "on this machine", boot: local, form: local, parent: "http://localhost:5173"},
		{name: "on this machine, from elsewhere", boot: local, form: "'none'", parent: app},
		{name: "on this machine, named", allowed: []string{app}, boot: app, form: app, parent: app},
		{name: "on this machine, not named", allowed: []string{app}, boot: app, form: "'none'", parent: "http://localhost:5173"},
		{name: "hostile", publicURL: "https://connect.example", allowed: []string{"https://a;script-src", app}, boot: app, form: "'none'", parent: "https://a;script-src"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, options{publicURL: tt.publicURL, env: broker.Environment{AllowedOrigins: tt.allowed}})
			s.integrate(t, keyProvider("mailer", "Mailer", keyField))
			_, token := s.session(t, broker.SessionInput{AllowedOrigins: tt.sessions})
			v := s.visitor(t)
			boot := v.do(http.MethodGet, "/connect/?apiURL=x&theme=dark", nil, http.Header{"Sec-Fetch-Dest": {"iframe"}})
			answered(t, boot, http.StatusOK, "")
			looks(t, "boot", boot, "en", "dark")
			if got := ancestors(boot); got != tt.boot {
				t.Errorf("the first page is for %s", got)
			}
			form := v.framed(link("/connect/", token), tt.parent)
			answered(t, form, http.StatusOK, "")
			if got := ancestors(form); got != tt.form {
				t.Errorf("the form is for %s", got)
			}
			if inside := strings.Contains(form.body, `data-parent="`+tt.parent+`"`); inside != (tt.form != "'none'") {
				t.Errorf("tells %s: %t", tt.parent, inside)
			}
			// By a link, it stands for itself.
			if got := ancestors(v.get(link("/connect/", token))); got != "'none'" {
				t.Errorf("the form of a link is for %s", got)
			}
			failure := v.framed(link("/connect/to/unknown", token), tt.parent)
			answered(t, failure, http.StatusNotFound, "not_found")
			if got := ancestors(failure); got != tt.form {
				t.Errorf("a failure of the session's is for %s", got)
			}
		})
	}
}

// TestFirstPageIsForFrames asks for it in other ways.
func TestFirstPageIsForFrames(t *testing.T) {
	s := newSite(t, options{env: broker.Environment{AllowedOrigins: []string{app}}})
	v := s.visitor(t)
	for _, tt := range []struct {
		query, dest string
		ok          bool
	}{
		{"?apiURL=x", "iframe", true},
		{"", "iframe", true},
		{"?apiURL=x", "", true},
		{"", "", false},
		{"?apiURL=x", "document", false},
		{"?session_token=", "iframe", false},
		{"?session_token=nango_connect_session_0", "iframe", false},
	} {
		header := http.Header{}
		if tt.dest != "" {
			header.Set("Sec-Fetch-Dest", tt.dest)
		}
		page := v.do(http.MethodGet, "/connect/"+tt.query, nil, header)
		if !tt.ok {
			answered(t, page, http.StatusUnauthorized, "session_invalid")
			continue
		}
		answered(t, page, http.StatusOK, "")
		contains(t, page, `data-boot="/connect/?`, `data-origins="[&#34;https://app.example&#34;]"`, "needs JavaScript")
		lacks(t, page, "data-any-local", "data-tell")
		if len(page.Cookies()) != 0 {
			t.Errorf("cookies: %v", page.Cookies())
		}
	}
}

// TestExpiredSessionSaysSoInItsFrame cannot know the session any more, so whoever may have the first page may have this.
func TestExpiredSessionSaysSoInItsFrame(t *testing.T) {
	s, _ := githubSite(t, options{env: broker.Environment{AllowedOrigins: []string{app}}})
	_, token := s.session(t, broker.SessionInput{})
	s.clock.advance(16 * time.Minute)
	page := s.visitor(t).framed(link("/connect/", token), app)
	answered(t, page, http.StatusUnauthorized, "session_expired")
	contains(t, page, `data-parent="https://app.example"`, "&#34;errorType&#34;:&#34;unknown_error&#34;", "This link has expired")
	if got := ancestors(page); got != app {
		t.Errorf("it is for %s", got)
	}
}

// TestCallbackIsNeverInsideAnotherPage asks for it in every way that other pages know.
func TestCallbackIsNeverInsideAnotherPage(t *testing.T) {
	s, _ := githubSite(t, options{env: broker.Environment{AllowedOrigins: []string{app}}})
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	more := "&lang=de&parent=" + url.QueryEscape(app)
	for name, page := range map[string]answer{
		"success": v.get(callback(startFramed(t, v, token), "code", "c") + more),
		"failure": v.get("/oauth/callback?state=x" + more),
		"head":    v.do(http.MethodHead, "/oauth/callback?state=x"+more, nil, nil),
		"post":    v.do(http.MethodPost, "/oauth2/callback?x=y"+more, url.Values{"state": {"x"}, "parent": {app}}, nil),
		"large":   v.do(http.MethodPost, "/oauth/callback?x=y"+more, url.Values{"state": {strings.Repeat("x", 64<<10)}}, nil),
	} {
		if got := ancestors(page); got != "'none'" || strings.Contains(page.body, "data-parent") || strings.Contains(page.body, `lang="de"`) {
			t.Errorf("%s: for %s:\n%s", name, got, page.body)
		}
	}
}

// TestStartPageIsNeverInsideAnotherPage begins a sign-in by a link, which is in German.
func TestStartPageIsNeverInsideAnotherPage(t *testing.T) {
	s, _ := githubSite(t, options{env: broker.Environment{AllowedOrigins: []string{app}}})
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	page, note := v.looked(begin("github", token, "lang", "de", "parent", app))
	looks(t, "start", page, "de", "")
	again := v.framed("/connect/start?note="+url.QueryEscape(note), app)
	answered(t, again, http.StatusOK, "")
	failure := v.framed("/connect/start?note=x", app)
	answered(t, failure, http.StatusUnauthorized, "session_invalid")
	form := v.fill(page, "", map[string]string{"note": note, "lang": "de", "parent": app, "attempt": attemptNumber})
	form.Del("session_token")
	away := v.post("/connect/start", form)
	answered(t, away, http.StatusOK, "")
	looks(t, "on to the provider", away, "de", "")
	for name, page := range map[string]answer{"start": page, "again": again, "failure": failure, "away": away} {
		if got := ancestors(page); got != "'none'" || strings.Contains(page.body, "data-p") || strings.Contains(page.body, `name="parent"`) {
			t.Errorf("%s: for %s:\n%s", name, got, page.body)
		}
	}
}

// attemptNumber is what a script would make up.
const attemptNumber = "0123456789abcdef0123456789abcdef"

// startFramed starts a sign-in in the window of an embedded page, and gives its state.
func startFramed(t *testing.T, v *visitor, token string) string {
	t.Helper()
	page := v.framed(link("/connect/to/github", token), app)
	contains(t, page, `name="attempt" value=""`, `name="parent" value="https://app.example"`, "data-popup")
	form := v.fill(page, token, map[string]string{"parent": app, "attempt": attemptNumber})
	r := v.do(http.MethodPost, "/connect/to/github", form, nil)
	answered(t, r, http.StatusSeeOther, "")
	if got := ancestors(answer{r.Response, ""}); got != "'none'" {
		t.Errorf("the window may be inside %s", got)
	}
	target, err := url.Parse(r.Header.Get("Location"))
	must(t, err)
	return target.Query().Get("state")
}

// TestEmbeddedPageAsksHowItWent follows a sign-in by its number.
func TestEmbeddedPageAsksHowItWent(t *testing.T) {
	tests := []struct {
		name           string
		query          []string
		status, code   string
		heading, tells string
	}{
		{"succeeded", []string{"code", "c"}, "succeeded", "", "GitHub is connected", `"type":"connect","payload":{"providerConfigKey":"github","connectionId":"`},
		{"denied", []string{"error", "access_denied"}, "failed", "provider_denied", "Access was not given", `"errorType":"connection_validation_failed"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := githubSite(t, options{env: broker.Environment{AllowedOrigins: []string{app}, ReturnURLs: []string{app + "/done"}}})
			_, token := s.session(t, broker.SessionInput{ReturnURL: app + "/done"})
			_, others := s.session(t, broker.SessionInput{})
			v := s.visitor(t)
			ask := func(token, attempt string) answer {
				return v.get(link("/connect/to/github/attempt", token) + "&attempt=" + attempt)
			}
			answered(t, ask(token, attemptNumber), http.StatusNotFound, "not_found")
			state := startFramed(t, v, token)
			if got := ask(token, attemptNumber); got.body != `{"status":"open"}` || got.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s", got.Status, got.body)
			}
			still := v.framed(link("/connect/to/github/done", token)+"&result="+attemptNumber, app)
			answered(t, still, http.StatusSeeOther, "")
			if got := ancestors(still); got != app {
				t.Errorf("back to the form, for %s", got)
			}
			back := v.get(callback(state, tt.query...))
			if told := outcomeOf(t, back); len(told.Origins) != 1 || told.Origins[0] != s.server.URL || told.AnyLocal {
				t.Errorf("the window tells %+v", told)
			}
			lacks(t, back, `href="/connect/`, `href="https://app.example`, "data-also")
			if got := ancestors(back); got != "'none'" {
				t.Errorf("the window may be inside %s", got)
			}
			var got struct {
				Status, Code string
				Connection   string `json:"connection_id"`
			}
			must(t, json.Unmarshal([]byte(ask(token, attemptNumber).body), &got))
			if got.Status != tt.status || got.Code != tt.code || (got.Connection != "") != (tt.code == "") {
				t.Errorf("answers %+v", got)
			}
			end := v.framed(link("/connect/to/github/done", token)+"&result="+attemptNumber, app)
			answered(t, end, http.StatusOK, "")
			contains(t, end, tt.heading, strings.ReplaceAll(tt.tells, `"`, "&#34;"))
			lacks(t, end, "data-return", app+"/done", "http-equiv")
			if retry := strings.Contains(end.body, `class="button" href="/connect/to/github?`); retry != (tt.code != "") {
				t.Errorf("a way to try again: %t", retry)
			}
			// Nobody else learns of it.
			answered(t, ask(others, attemptNumber), http.StatusNotFound, "not_found")
			answered(t, ask("nango_connect_session_0", attemptNumber), http.StatusUnauthorized, "session_invalid")
			answered(t, ask(token, "short"), http.StatusNotFound, "not_found")
			answered(t, v.framed(link("/connect/to/github/done", others)+"&result="+attemptNumber, app), http.StatusNotFound, "not_found")
		})
	}
}

// TestAttemptEndsInTime asks after a window that nobody came back from.
func TestAttemptEndsInTime(t *testing.T) {
	s, _ := githubSite(t, options{env: broker.Environment{AllowedOrigins: []string{app}}})
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	startFramed(t, v, token)
	s.clock.advance(11 * time.Minute)
	if got := v.get(link("/connect/to/github/attempt", token) + "&attempt=" + attemptNumber); got.body != `{"status":"failed","code":"state_expired"}` {
		t.Errorf("answers %s", got.body)
	}
	contains(t, v.framed(link("/connect/to/github/done", token)+"&result="+attemptNumber, app), "That took too long")
}

// TestWindowKeepsItsNumber sends a form whose field is wrong: the window shows it again, and what comes of it is still
// found by the number.
func TestWindowKeepsItsNumber(t *testing.T) {
	s := newSite(t, options{env: broker.Environment{AllowedOrigins: []string{app}}})
	s.integrate(t, signInProvider("github", "GitHub", githubLogin, subdomainField))
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	form := v.fill(v.framed(link("/connect/to/github", token), app), token, map[string]string{
		"parent": app, "attempt": attemptNumber, "lang": "de", "connection_config.subdomain": "not so",
	})
	again := v.post("/connect/to/github", form)
	answered(t, again, http.StatusUnprocessableEntity, "variable_invalid")
	looks(t, "again", again, "de", "")
	contains(t, again, `name="attempt" value="`+attemptNumber+`"`, `name="parent" value="https://app.example"`, "data-once")
	lacks(t, again, "data-popup", "data-parent", "data-tell", `class="back"`, "backdrop")
	form.Set("connection_config.subdomain", "acme")
	answered(t, v.post("/connect/to/github", form), http.StatusOK, "")
	if got := v.get(link("/connect/to/github/attempt", token) + "&attempt=" + attemptNumber); got.body != `{"status":"open"}` {
		t.Errorf("answers %s", got.body)
	}
}

// TestCallbackSpeaksNango tells the opener what the Nango client listens for, in our words.
func TestCallbackSpeaksNango(t *testing.T) {
	s, _ := githubSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes", AllowedOrigins: []string{app}}})
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	failed := v.get(callback(v.begin("github", token), "error", "access_denied", "error_description", "canary"))
	contains(t, failed, `data-also="{&#34;type&#34;:&#34;nango_oauth_callback_error&#34;,&#34;payload&#34;:{&#34;message&#34;:&#34;Access was not given. `+
		`GitHub told us that access was declined, so nothing was connected.&#34;,&#34;errorType&#34;:&#34;connection_validation_failed&#34;}}"`)
	lacks(t, failed, "canary&#34;")
	done := v.get(callback(v.begin("github", token), "code", "c"))
	contains(t, done, `data-also="{&#34;type&#34;:&#34;nango_oauth_callback_success&#34;}"`)
}

// TestBrowserFramesRefuseOtherOrigins embeds the pages in an app that no environment allows.
func TestBrowserFramesRefuseOtherOrigins(t *testing.T) {
	t.Parallel()
	c := newEmbedCase(t, func(string) []string { return []string{app} })
	ctx := tab(t, startChromium(t))
	said := complaints(t, ctx)
	must(t, chromedp.Do(ctx, chromedp.Navigate(byName(c.app)), chromedp.Click(chromedp.CSS("#open"))))
	until(t, func() bool { return strings.Contains(strings.Join(said(), " "), "frame-ancestors") })
	if got := toldTo(t, ctx); got != "" {
		t.Errorf("the app was told %q", got)
	}
	if strings.Contains(c.site.log.String(), `"path":"/static/embed`) {
		t.Error("the page was shown")
	}
}

// TestBrowserFramesRefuseOtherSessions embeds the first page where it may be, and brings a session that is for another
// app.
func TestBrowserFramesRefuseOtherSessions(t *testing.T) {
	t.Parallel()
	c := newEmbedCase(t, func(own string) []string { return []string{own, app} })
	_, c.token = c.site.session(t, broker.SessionInput{AllowedOrigins: []string{app}})
	page, frame := c.open(t, startChromium(t))
	until(t, func() bool {
		at, err := chromedp.Run(frame, chromedp.Evaluate[string]("location.href"))
		return err == nil && strings.HasPrefix(at, "chrome-error:")
	})
	if got := heard(t, page, "connect"); len(got) > 0 {
		t.Errorf("the app was told %q", got)
	}
}

// TestBrowserFrameWithoutToken waits for a token that does not come, or comes from somebody else.
func TestBrowserFrameWithoutToken(t *testing.T) {
	t.Parallel()
	c := newEmbedCase(t, named)
	valid := c.token
	c.token = "" // not of the kind that a token is, and still a text: it is taken, and refused by the server
	page, frame := c.open(t, startChromium(t))
	_, err := chromedp.Run(frame, waitTitle("This link doesn’t work"))
	must(t, err)
	tells(t, page, "error")

	quiet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(`<!doctype html><title>Quiet app</title><iframe src="` + c.site.server.URL + `/connect/?apiURL=x" width=500 height=600></iframe>`))
	}))
	t.Cleanup(quiet.Close)
	s := newSite(t, options{})
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	c.site = s
	ctx := tab(t, startChromium(t))
	must(t, chromedp.Do(ctx, chromedp.Navigate(byName(quiet))))
	inner := attach(t, ctx, "iframe", s.server.URL)
	// A message of its own window is nobody's word.
	must(t, chromedp.Do(inner, chromedp.Evaluate[chromedp.Void](`postMessage({type: "session_token", sessionToken: "`+valid+`"}, "*")`)))
	must(t, chromedp.Do(inner, chromedp.WaitVisible(chromedp.CSS("[data-trouble=late]"))))
	shoot(t, ctx, "embed-late")
}

// TestBrowserFirstPageAlone opens it in a tab, where a browser does not say what a page is for.
func TestBrowserFirstPageAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{})
	older := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Sec-Fetch-Dest")
		s.handler.ServeHTTP(w, r)
	}))
	t.Cleanup(older.Close)
	ctx := tab(t, startChromium(t))
	must(t, chromedp.Do(ctx, chromedp.Navigate(older.URL+"/connect/?apiURL=x"), chromedp.WaitVisible(chromedp.CSS("[data-trouble=alone]"))))
}
