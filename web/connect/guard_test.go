package connect_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/connect"
	"github.com/coatcheck/coatcheck/web/static"
)

// TestForgedFormsAreRefused sends the form from elsewhere. Whoever has a session can read its token, so the token alone
// must not do.
func TestForgedFormsAreRefused(t *testing.T) {
	s, _ := githubSite(t, options{})
	_, token := s.session(t, broker.SessionInput{})
	_, others := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	form := v.fill(v.get(link("/connect/to/github", token)), token, nil)
	foreign := v.fill(v.get(link("/connect/to/github", others)), token, nil)
	without := url.Values{"session_token": {token}}
	tests := []struct {
		name   string
		form   url.Values
		header http.Header
		ok     bool
	}{
		{name: "our page", form: form, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}, ok: true},
		{name: "our page, older browser", form: form, header: http.Header{"Origin": {s.server.URL}}, ok: true},
		{name: "no browser", form: form, ok: true},
		{name: "another site", form: form, header: http.Header{"Sec-Fetch-Site": {"cross-site"}}},
		{name: "a neighbour", form: form, header: http.Header{"Sec-Fetch-Site": {"same-site"}}},
		{name: "nowhere", form: form, header: http.Header{"Sec-Fetch-Site": {"none"}}},
		{name: "another site, older browser", form: form, header: http.Header{"Origin": {"https://evil.example"}}},
		{name: "hidden origin, older browser", form: form, header: http.Header{"Origin": {"null"}}},
		{name: "another session's token", form: foreign, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}},
		{name: "no token", form: without, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := v.do(http.MethodPost, "/connect/to/github", tt.form, tt.header)
			if tt.ok {
				answered(t, a, http.StatusSeeOther, "")
				return
			}
			answered(t, a, http.StatusForbidden, "csrf")
			contains(t, a, "Please start again")
			if len(a.Cookies()) != 0 {
				t.Errorf("a refused form sets %v", a.Cookies())
			}
		})
	}
}

// secureSite is reached by https, as far as it knows.
func secureSite(t *testing.T) *site {
	s, _ := githubSite(t, options{publicURL: "https://connect.example"})
	return s
}

// startWith sends the form with the cookies given, and gives those that the answer sets, and the state.
func (s *site) startWith(t *testing.T, sent []*http.Cookie) (set []*http.Cookie, state string) {
	t.Helper()
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	form := v.fill(v.get(link("/connect/to/github", token)), token, nil)
	w := serve(t, s.handler, http.MethodPost, "/connect/to/github", form, sent)
	if w.Code != http.StatusSeeOther {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	target, err := url.Parse(w.Header().Get("Location"))
	must(t, err)
	return w.Result().Cookies(), target.Query().Get("state")
}

func serve(t *testing.T, h http.Handler, method, path string, form url.Values, cookies []*http.Cookie) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestFlowCookie(t *testing.T) {
	s := secureSite(t)
	set, state := s.startWith(t, nil)
	if len(set) != 1 {
		t.Fatalf("cookies: %v", set)
	}
	c := set[0]
	if c.Name != "__Host-"+broker.FlowCookieName(state) || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode ||
		c.Path != "/" || c.MaxAge != 600 || c.Domain != "" {
		t.Errorf("cookie: %+v", c)
	}
	if strings.Contains(c.Value, "nango_connect_session") {
		t.Error("the cookie can be read")
	}
	done := serve(t, s.handler, http.MethodGet, callback(state, "code", "c"), nil, set)
	if done.Code != http.StatusOK {
		t.Fatalf("callback answers %d: %s", done.Code, done.Body)
	}
	gone := done.Result().Cookies()
	if len(gone) != 1 || gone[0].Name != c.Name || gone[0].MaxAge >= 0 || !gone[0].Secure || gone[0].Path != "/" {
		t.Errorf("the cookie is not removed: %+v", gone)
	}
}

func TestFlowCookieOnThisMachine(t *testing.T) {
	s, _ := githubSite(t, options{})
	set, state := s.startWith(t, nil)
	if len(set) != 1 || set[0].Name != broker.FlowCookieName(state) || set[0].Secure || !set[0].HttpOnly || set[0].SameSite != http.SameSiteLaxMode {
		t.Errorf("cookies: %+v", set)
	}
}

// TestFlowCookiesAreFew starts one sign-in after the other: ten can be finished, the oldest ones make room.
func TestFlowCookiesAreFew(t *testing.T) {
	s := secureSite(t)
	var browser []*http.Cookie
	var order []string
	browser = append(browser, &http.Cookie{Name: "__Host-flow-deadbeef", Value: "damaged"}, &http.Cookie{Name: "theme", Value: "dark"})
	for range 13 {
		set, _ := s.startWith(t, browser)
		for _, c := range set {
			browser = slices.DeleteFunc(browser, func(old *http.Cookie) bool { return old.Name == c.Name })
			if c.MaxAge > 0 {
				browser = append(browser, c)
				order = append(order, c.Name)
			}
		}
		s.clock.advance(1e9)
	}
	want := append([]string{"theme"}, order[3:]...)
	var have []string
	for _, c := range browser {
		have = append(have, c.Name)
	}
	if !slices.Equal(have, want) {
		t.Errorf("the browser has %v, want %v", have, want)
	}
}

// TestForeignCookiesAreEmpty brings cookies that are not ours, or another flow's.
func TestForeignCookiesAreEmpty(t *testing.T) {
	s := secureSite(t)
	mine, state := s.startWith(t, nil)
	other, _ := s.startWith(t, nil)
	for name, value := range map[string]string{"damaged": mine[0].Value + "x", "another flow's": other[0].Value, "empty": ""} {
		t.Run(name, func(t *testing.T) {
			_, state = s.startWith(t, nil)
			cookie := &http.Cookie{Name: "__Host-" + broker.FlowCookieName(state), Value: value}
			w := serve(t, s.handler, http.MethodGet, callback(state, "code", "c"), nil, []*http.Cookie{cookie})
			if w.Code != http.StatusForbidden || w.Header().Get("X-Error-Code") != "browser_mismatch" {
				t.Errorf("status %d: %s", w.Code, w.Body)
			}
		})
	}
}

// TestCookieKeysRotate finishes a sign-in after the keys were replaced, and one after the old ones were given up.
func TestCookieKeysRotate(t *testing.T) {
	s := secureSite(t)
	with := func(keys ...connect.CookieKeys) http.Handler {
		assets := static.New()
		ui, err := connect.New(connect.Deps{Broker: s.broker, Assets: assets, FormKey: key(1), CookieKeys: keys})
		must(t, err)
		return mount("https://connect.example", s.log, ui.Surface())
	}
	for name, tt := range map[string]struct {
		next http.Handler
		want int
	}{
		"both":    {with(cookieKeys(9), cookieKeys(2)), http.StatusOK},
		"new one": {with(cookieKeys(9)), http.StatusForbidden},
	} {
		set, state := s.startWith(t, nil)
		if w := serve(t, tt.next, http.MethodGet, callback(state, "code", "c"), nil, set); w.Code != tt.want {
			t.Errorf("%s: status %d, want %d", name, w.Code, tt.want)
		}
	}
}

func TestWeakKeysAreRefused(t *testing.T) {
	s := secureSite(t)
	good := connect.Deps{Broker: s.broker, Assets: static.New(), FormKey: key(1), CookieKeys: []connect.CookieKeys{cookieKeys(2)}}
	for name, spoil := range map[string]func(*connect.Deps){
		"no form key":       func(d *connect.Deps) { d.FormKey = nil },
		"short form key":    func(d *connect.Deps) { d.FormKey = d.FormKey[:31] },
		"no cookie keys":    func(d *connect.Deps) { d.CookieKeys = nil },
		"cookie not sealed": func(d *connect.Deps) { d.CookieKeys = []connect.CookieKeys{{Hash: key(1)}} },
		"short cookie key":  func(d *connect.Deps) { d.CookieKeys = []connect.CookieKeys{{Hash: key(1)[:8], Block: key(1)}} },
	} {
		d := good
		spoil(&d)
		if _, err := connect.New(d); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestLogHoldsNoSecret goes through both kinds of connecting and reads the access log.
func TestLogHoldsNoSecret(t *testing.T) {
	s, _ := githubSite(t, options{})
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	state := v.begin("github", token)
	v.get(callback(state, "code", "canary-code"))
	form := v.fill(v.get(link("/connect/to/mailer", token)), token, map[string]string{"credentials.apiKey": "canary-key"})
	v.post("/connect/to/mailer", form)
	v.get(link("/connect/"+token, token)) // a token in the wrong place
	s.server.Close()                      // waits for the log
	log := s.log.String()
	if !strings.Contains(log, `"path":"/connect/to/mailer"`) {
		t.Fatalf("no log: %s", log)
	}
	for _, secret := range []string{token, strings.TrimPrefix(token, "nango_connect_session_"), state, "canary"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q:\n%s", fmt.Sprintf("%.30s", secret), log)
		}
	}
}
