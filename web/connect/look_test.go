package connect_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// inGerman is how the pages below are asked for, by a browser that would rather have French.
const inGerman = "&lang=de-AT&theme=dark"

// looks checks a page's language and colours.
func looks(t *testing.T, name string, a answer, lang, theme string) {
	t.Helper()
	want := `<html lang="` + lang + `"`
	if theme != "" {
		want += ` data-theme="` + theme + `"`
	}
	if !strings.Contains(strings.Replace(a.body, ` class="embedded"`, "", 1), want+">") {
		t.Errorf("%s: not %s in a page of status %d:\n%s", name, want, a.StatusCode, a.body)
	}
}

// french adds what a French browser sends.
func (v *visitor) french(method, path string, form url.Values) answer {
	return v.do(method, path, form, http.Header{
		"Accept-Language": {"fr-FR,fr;q=0.9,en;q=0.5"}, "Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Mode": {"navigate"},
	})
}

// TestLanguageAndThemeAreCarriedAlong goes through a sign-in and a typed-in credential by links and forms alone.
func TestLanguageAndThemeAreCarriedAlong(t *testing.T) {
	s, github := githubSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes"}})
	s.integrate(t, keyProvider("mailer", "Mailer", subdomainField, keyField))
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	list := v.french("GET", link("/connect/", token)+inGerman, nil)
	looks(t, "list", list, "de", "dark")
	contains(t, list, "Mit Fieldnotes verbinden")
	next := html.UnescapeString(between(t, list.body, `class="choice" href="`, `"`))
	page := v.french("GET", next, nil)
	looks(t, "form", page, "de", "dark")
	contains(t, page, `href="/connect/?lang=de&amp;session_token=`+token+`&amp;theme=dark"`)

	form := v.fill(page, token, nil)
	form.Set("lang", between(t, page.body, `name="lang" value="`, `"`))
	form.Set("theme", between(t, page.body, `name="theme" value="`, `"`))
	away := v.french("POST", "/connect/to/github", form)
	looks(t, "on to the provider", away, "de", "dark")
	state := func(a answer) string {
		u, err := url.Parse(html.UnescapeString(between(t, a.body, `content="0;url=`, `"`)))
		must(t, err)
		return u.Query().Get("state")
	}
	github.refuse = &broker.ProviderError{Class: broker.GrantLost, Code: "x"}
	failed := v.french("GET", callback(state(away), "code", "c"), nil)
	looks(t, "failure", failed, "de", "dark")
	contains(t, failed, "GitHub hat die Anmeldung nicht abgeschlossen", `href="/connect/to/github?lang=de&amp;session_token=`+token+`&amp;theme=dark"`)
	github.refuse = nil
	done := v.french("GET", callback(state(v.french("POST", "/connect/to/github", form)), "code", "c"), nil)
	looks(t, "success", done, "de", "dark")
	contains(t, done, "GitHub ist verbunden")

	page = v.french("GET", link("/connect/to/mailer", token)+inGerman, nil)
	typed := v.fill(page, token, map[string]string{"credentials.apiKey": "k", "connection_config.subdomain": "not so", "lang": "de", "theme": "dark"})
	wrong := v.french("POST", "/connect/to/mailer", typed)
	looks(t, "form again", wrong, "de", "dark")
	contains(t, wrong, "Ein Beispiel: acme")
	typed.Set("connection_config.subdomain", "acme")
	stored := v.french("POST", "/connect/to/mailer", typed)
	looks(t, "stored", v.french("GET", stored.Header.Get("Location"), nil), "de", "dark")
}

// between gives what stands between two texts, the first time that they occur.
func between(t *testing.T, s, before, after string) string {
	t.Helper()
	_, rest, ok := strings.Cut(s, before)
	if !ok {
		t.Fatalf("no %s in:\n%s", before, s)
	}
	found, _, _ := strings.Cut(rest, after)
	return found
}

// TestBrowsersLanguageIsTheNextBest asks for nothing, or for what there is not.
func TestBrowsersLanguageIsTheNextBest(t *testing.T) {
	s, _ := githubSite(t, options{})
	_, token := s.session(t, broker.SessionInput{})
	v := s.visitor(t)
	for _, more := range []string{"", "&lang=ja&theme=system", "&lang=%22%3E%3Cscript%3E&theme=%22%3E%3Cscript%3E"} {
		page := v.french("GET", link("/connect/", token)+more, nil)
		looks(t, more, page, "fr", "")
		lacks(t, page, "<script>", `name="lang"`, `name="theme"`, "lang=ja")
	}
	looks(t, "failure", v.french("GET", "/oauth/callback?state=x", nil), "fr", "")
	looks(t, "repost", v.french("POST", "/oauth/callback", url.Values{"state": {"x"}}), "fr", "")
	looks(t, "no browser", v.get(link("/connect/", token)), "en", "")
}
