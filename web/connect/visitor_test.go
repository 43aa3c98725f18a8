package connect_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/connect"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// elsewhere is another surface that begins sign-ins: at /begin/{key}, and at /keep/{key} with an address that is cleaned
// first.
func elsewhere(ui *connect.UI, b *broker.Broker) kit.Surface {
	landed := kit.Route{
		Method: http.MethodGet, Path: "/landed", Auth: kit.Public,
		Handle: func(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
			f, err := b.EndedFlow(r.Context(), broker.FlowID(r.URL.Query().Get(kit.ParamFlow)))
			if err == nil {
				http.Redirect(w, r, f.ReturnURL+"?"+string(f.Status)+f.Code, http.StatusFound)
			}
			return err
		},
	}
	return kit.Surface{Name: "elsewhere", Fail: ui.Fail, Routes: []kit.Route{landed, {
		Method: http.MethodGet, Path: "/keep/{key}", Auth: kit.Public,
		Handle: func(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
			if token := r.URL.Query().Get(kit.ParamSession); token != "" {
				return ui.Keep(w, r, token)
			}
			who, err := b.AuthenticateSession(r.Context(), ui.Kept(r))
			if err != nil {
				return err
			}
			return ui.Start(w, r, who, kit.Start{Token: ui.Kept(r), Key: r.PathValue("key"), Own: true, Ask: true, Landing: kit.EndedPath})
		},
	}, {
		Method: http.MethodGet, Path: "/begin/{key}", Auth: kit.Doors{Keeper: b}.Query(),
		Handle: func(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
			fields := make(map[string]string)
			for name, values := range r.URL.Query() {
				fields["connection_config."+name] = values[0]
			}
			return ui.Start(w, r, who, kit.Start{
				Token: r.URL.Query().Get(kit.ParamSession), Key: r.PathValue("key"), Fields: fields, Channel: strings.Repeat("c", 32),
			})
		},
	}}}
}

const (
	browserUA = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
	app       = "https://app.example"
)

// Who may start a sign-in by opening an address, and who has to click.
func TestStartsWithoutClick(t *testing.T) {
	navigation := func(site, referer string) http.Header {
		h := http.Header{"User-Agent": {browserUA}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Site": {site}}
		if referer != "" {
			h.Set("Referer", referer)
		}
		return h
	}
	with := func(h http.Header, name, value string) http.Header {
		h.Set(name, value)
		return h
	}
	tests := []struct {
		name   string
		mode   broker.StartMode
		header http.Header
		leaves bool
	}{
		{"an allowed origin", broker.StartAuto, navigation("cross-site", app+"/page"), true},
		{"an allowed origin of the same site", broker.StartAuto, navigation("same-site", app+"/"), true},
		{"our own page", broker.StartAuto, navigation("same-origin", "https://connect.example.com/connect/"), true},
		{"our own page, which hides its address", broker.StartAuto, navigation("same-origin", ""), true},
		{"no browser", broker.StartAuto, http.Header{"User-Agent": {"curl/8.5.0"}}, true},
		{"an old browser at an allowed origin", broker.StartAuto, http.Header{"User-Agent": {browserUA}, "Referer": {app + "/"}}, true},
		{"a link in a mail", broker.StartAuto, navigation("none", ""), false},
		{"a hidden origin", broker.StartAuto, navigation("cross-site", ""), false},
		{"another origin", broker.StartAuto, navigation("cross-site", "https://evil.example/"), false},
		{"an origin that begins like ours", broker.StartAuto, navigation("cross-site", app+".evil.example/"), false},
		{"another scheme", broker.StartAuto, navigation("cross-site", "http://app.example/"), false},
		{"an old browser", broker.StartAuto, http.Header{"User-Agent": {browserUA}}, false},
		{"a script", broker.StartAuto, with(navigation("cross-site", app+"/"), "Sec-Fetch-Mode", "no-cors"), false},
		{"a look ahead", broker.StartAuto, with(navigation("cross-site", app+"/"), "Sec-Purpose", "prefetch;prerender"), false},
		{"an older look ahead", broker.StartAuto, with(navigation("cross-site", app+"/"), "Purpose", "prefetch"), false},
		{"always a click", broker.StartPage, navigation("cross-site", app+"/"), false},
		{"always a click, no browser", broker.StartPage, http.Header{"User-Agent": {"curl/8.5.0"}}, false},
		{"never a click", broker.StartRedirect, navigation("none", ""), true},
		{"never a click, a look ahead", broker.StartRedirect, with(navigation("none", ""), "Sec-Purpose", "prefetch"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, _ := githubSite(t, options{
				publicURL: "https://connect.example.com", env: broker.Environment{AllowedOrigins: []string{app}, Start: test.mode},
			})
			_, token := s.session(t, broker.SessionInput{})
			v := s.visitor(t)
			got := v.do(http.MethodGet, begin("github", token), nil, test.header)
			if got.StatusCode != http.StatusSeeOther {
				t.Fatalf("it answers %s\n%s", got.Status, got.body)
			}
			to := got.Header.Get("Location")
			if test.leaves != strings.HasPrefix(to, githubLogin+"?") || test.leaves == strings.HasPrefix(to, "/connect/start?") {
				t.Errorf("it leads to %s", to)
			}
			if cookies := len(got.Cookies()); test.leaves && cookies != 1 || !test.leaves && cookies != 0 {
				t.Errorf("%d cookies", cookies)
			}
			if strings.Contains(to, token) || strings.Contains(s.log.String(), token) {
				t.Error("the token is handed on or logged")
			}
		})
	}
}

func begin(key, token string, more ...string) string {
	q := url.Values{kit.ParamSession: {token}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return "/begin/" + key + "?" + q.Encode()
}

// looked follows a start to its page.
func (v *visitor) looked(path string) (answer, string) {
	v.t.Helper()
	to := v.do(http.MethodGet, path, nil, http.Header{"User-Agent": {browserUA}}).Header.Get("Location")
	u, err := url.Parse(to)
	must(v.t, err)
	return v.get(to), u.Query().Get("note")
}

func TestStartPage(t *testing.T) {
	s := newSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes"}})
	s.integrate(t, signInProvider("github", "GitHub", githubLogin, subdomainField))
	_, token := s.session(t, broker.SessionInput{EndUser: jane})
	v := s.visitor(t)
	page, note := v.looked(begin("github", token, "subdomain", "acme"))
	answered(t, page, http.StatusOK, "")
	contains(t, page, "Fieldnotes", "GitHub", jane.Email, `name="note"`)
	lacks(t, page, token, `name="session_token"`, `name="connection_config.subdomain"`)
	if len(page.Cookies()) != 0 {
		t.Errorf("looking sets %v", page.Cookies())
	}
	form := v.fill(page, "", nil)
	form.Del("session_token")
	form.Set("note", note)

	foreign := v.do(http.MethodPost, "/connect/start", form, http.Header{"Sec-Fetch-Site": {"cross-site"}})
	answered(t, foreign, http.StatusForbidden, "csrf")
	started := v.post("/connect/start", form)
	answered(t, started, http.StatusOK, "")
	contains(t, started, `content="0;url=`+githubLogin)
	if len(started.Cookies()) != 1 {
		t.Errorf("cookies %v", started.Cookies())
	}
}

func TestStartPageRefuses(t *testing.T) {
	s, _ := githubSite(t, options{})
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	answered(t, v.do(http.MethodGet, begin("mailer", token), nil, nil), http.StatusBadRequest, "not_supported")
	answered(t, v.do(http.MethodGet, begin("nope", token), nil, nil), http.StatusNotFound, "not_found")
	answered(t, v.get("/connect/start"), http.StatusUnauthorized, "session_invalid")
	answered(t, v.get("/connect/start?note=x"), http.StatusUnauthorized, "session_invalid")
	_, note := v.looked(begin("github", token))
	s.clock.advance(16 * time.Minute) // the session's life; what is sealed lives by the real clock
	answered(t, v.get("/connect/start?note="+url.QueryEscape(note)), http.StatusUnauthorized, "session_expired")
}
