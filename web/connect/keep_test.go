package connect_test

import (
	"context"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

func keepAt(key, token string) string {
	return "/keep/" + key + "?" + url.Values{kit.ParamSession: {token}}.Encode()
}

// The browser itself has to say on the second hop, too, which page sent it: that decides whether a click is needed.
func TestBrowserThatAnAppSendsNeedsNoClickBehindACleanAddress(t *testing.T) {
	browser := startChromium(t)
	for name, c := range map[string]struct {
		allowed bool
		want    string // what there is to click
	}{"an allowed origin": {true, "#allow"}, "another": {false, "form button[type=submit]"}} {
		t.Run(name, func(t *testing.T) {
			var address string
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				_ = template.Must(template.New("").Parse(`<!doctype html><title>App</title><a id="go" href="{{.}}">Connect</a>`)).Execute(w, address)
			}))
			t.Cleanup(app.Close)
			env := broker.Environment{AllowedOrigins: []string{"https://another.example"}}
			if c.allowed {
				env.AllowedOrigins = []string{byName(app)}
			}
			s := newSite(t, options{env: env})
			s.integrate(t, signInProvider("github", "GitHub", byName(newIDP(t).login)+"/login"))
			_, token := s.session(t, broker.SessionInput{EndUser: jane})
			address = s.server.URL + keepAt("github", token)
			page := tab(t, browser)
			must(t, chromedp.Do(page, chromedp.Navigate(byName(app)), chromedp.Click(chromedp.CSS("#go"))))
			clickNext(t, page, c.want)
			if !c.allowed {
				clickNext(t, page, "#allow")
			}
			must(t, chromedp.Do(page, chromedp.WaitVisible(chromedp.CSS("main.result"))))
			if list := s.connections(t); len(list) != 1 || list[0].EndUser.ID != jane.ID {
				t.Errorf("connections %+v", list)
			}
		})
	}
}

// clickNext clicks on the page that is coming. The one before may go while its elements are looked through.
func clickNext(t *testing.T, page context.Context, selector string) {
	t.Helper()
	for attempt := 0; ; attempt++ {
		err := chromedp.Do(page, chromedp.Click(chromedp.CSS(selector)))
		if err != nil && attempt < 3 && strings.Contains(err.Error(), "Could not find node") {
			continue
		}
		must(t, err)
		return
	}
}

// What is kept is good at its own address, for a while, and only as we wrote it.
func TestWhatIsKept(t *testing.T) {
	s, _ := githubSite(t, options{publicURL: "https://connect.example.com"})
	_, token := s.session(t, broker.SessionInput{EndUser: jane})
	v := s.visitor(t)
	kept := v.do(http.MethodGet, keepAt("github", token), nil, nil)
	answered(t, kept, http.StatusFound, "")
	cookies := kept.Cookies()
	if len(cookies) != 1 || cookies[0].MaxAge != 600 || kept.Header.Get("Location") != "/keep/github" {
		t.Fatalf("%v %v", kept.Header, cookies)
	}
	get := func(path, name, value string) answer {
		return s.visitor(t).do(http.MethodGet, path, nil, http.Header{"Cookie": {name + "=" + value}, "User-Agent": {browserUA}})
	}
	name, value := cookies[0].Name, cookies[0].Value
	if to := get("/keep/github", name, value); to.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to.Header.Get("Location"), "/connect/start?") {
		t.Errorf("at its address: %s", to.Status)
	}
	for what, got := range map[string]answer{
		"at another":          get("/keep/mailer", name, value),
		"under another name":  get("/keep/github", strings.Replace(name, "sign-in", "flow-0123abcd", 1), value),
		"with another end":    get("/keep/github", name, value[:len(value)-4]+"AAAA"),
		"with nothing inside": get("/keep/github", name, ""),
	} {
		if got.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", what, got.Status)
		}
	}
	s.clock.advance(10*time.Minute + time.Second)
	answered(t, get("/keep/github", name, value), http.StatusUnauthorized, "session_invalid")
}

// A start that asks shows what the provider needs, says what is wrong with it, and goes on where it was told to.
func TestAStartThatAsks(t *testing.T) {
	s := newSite(t, options{})
	s.integrate(t, signInProvider("crm", "CRM", "https://crm.example/login", subdomainField, regionField))
	s.integrate(t, keyProvider("mailer", "Mailer", keyField))
	for key, fields := range map[string]map[string]string{
		"crm":    {"connection_config.subdomain": "acme"},
		"mailer": {"credentials.apiKey": "k"},
	} {
		_, token := s.session(t, broker.SessionInput{EndUser: jane})
		v := s.visitor(t)
		v.get(keepAt(key, token))
		to := v.get("/keep/" + key).Header.Get("Location")
		page := v.get(to)
		answered(t, page, http.StatusOK, "")
		u, err := url.Parse(to)
		must(t, err)
		send := func(fields map[string]string) answer {
			form := v.fill(page, "", fields)
			form.Del("session_token")
			form.Set("note", u.Query().Get("note"))
			return v.do(http.MethodPost, "/connect/start", form, http.Header{"Sec-Fetch-Site": {"same-origin"}})
		}
		for name := range fields {
			contains(t, page, `name="`+name+`"`)
			empty := send(map[string]string{name: ""})
			answered(t, empty, http.StatusUnprocessableEntity, "variable_invalid")
			contains(t, empty, `name="`+name+`"`, `name="note"`)
		}
		if started := send(fields); started.StatusCode != http.StatusSeeOther {
			t.Errorf("%s: %s\n%s", key, started.Status, started.body)
		} else if to := started.Header.Get("Location"); !strings.HasPrefix(to, "https://crm.example/login?") && !strings.HasPrefix(to, kit.EndedPath+"?") {
			t.Errorf("%s: it leads to %s", key, to)
		}
	}
}
