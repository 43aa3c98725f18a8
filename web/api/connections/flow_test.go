package connections_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

// browser goes where it is sent, as far as the site goes. It has cookies, and says what browsers say.
type browser struct {
	*site
	t       *testing.T
	cookies *cookiejar.Jar
	agree   bool // at a provider
}

func (s *site) browser(t *testing.T) *browser {
	t.Helper()
	cookies, err := cookiejar.New(nil)
	must(t, err)
	return &browser{site: s, t: t, cookies: cookies, agree: true}
}

// do makes one request. A form is posted from a page of the site.
func (b *browser) do(address string, form url.Values) *httptest.ResponseRecorder {
	b.t.Helper()
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	r := httptest.NewRequestWithContext(b.t.Context(), method, address, body)
	r.RemoteAddr = "192.0.2.1:1234"
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for _, c := range b.cookies.Cookies(r.URL) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.Handler.ServeHTTP(w, r)
	b.cookies.SetCookies(r.URL, w.Result().Cookies())
	return w
}

// follow goes from an address to where no redirect leads on, or out to the app. Providers agree, or not.
func (b *browser) follow(address string) (at *url.URL, last *httptest.ResponseRecorder) {
	b.t.Helper()
	at, err := url.Parse(address)
	must(b.t, err)
	for range 10 {
		if at.Host != strings.TrimPrefix(apitest.PublicURL, "https://") {
			if !at.Query().Has("redirect_uri") {
				return at, last
			}
			at = b.decided(at)
		}
		last = b.do(at.String(), nil)
		to := last.Header().Get("Location")
		if to == "" {
			return at, last
		}
		at, err = at.Parse(to)
		must(b.t, err)
	}
	b.t.Fatalf("it goes round in circles, and is at %s", at)
	return nil, nil
}

// decided is where a provider sends the browser back to.
func (b *browser) decided(at *url.URL) *url.URL {
	b.t.Helper()
	back, err := url.Parse(at.Query().Get("redirect_uri"))
	must(b.t, err)
	q := url.Values{"state": {at.Query().Get("state")}, "code": {"a-code"}}
	if !b.agree {
		q = url.Values{"state": {at.Query().Get("state")}, "error": {"access_denied"}}
	}
	back.RawQuery = q.Encode()
	return back
}

var formFields = regexp.MustCompile(`name="(csrf|session_token)" value="([^"]+)"`)

// fill reads the hidden fields of a form's page and adds an API key.
func (b *browser) fill(page *httptest.ResponseRecorder, key string) url.Values {
	b.t.Helper()
	form := url.Values{"credentials.apiKey": {key}}
	for _, m := range formFields.FindAllStringSubmatch(page.Body.String(), -1) {
		form.Set(m[1], m[2])
	}
	if len(form) != 3 {
		b.t.Fatalf("there is no form: %d %s", page.Code, page.Body)
	}
	return form
}

func authPath(provider, redirect string) string {
	path := "/" + url.PathEscape(provider) + "/auth-url"
	if redirect != "" {
		path += "?redirectUrl=" + url.QueryEscape(redirect)
	}
	return path
}

// begun asks for a link and fails the test if there is none.
func (s *site) begun(t *testing.T, provider, redirect string) data {
	t.Helper()
	code, got := s.call(t, http.MethodGet, authPath(provider, redirect), "")
	if code != http.StatusOK || got.Data.AuthURL == "" {
		t.Fatalf("%s: %d %s", provider, code, got.text)
	}
	return got.Data
}

func (s *site) status(t *testing.T, id string) string {
	t.Helper()
	code, got := s.call(t, http.MethodGet, "/"+id, "")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, got.text)
	}
	return got.Data.Status
}

// The eight steps of the contract.
func TestTheEightSteps(t *testing.T) {
	s := newSite(t)
	begun := s.begun(t, "stripe", settings+"?tab=apps") // 1 and 2
	if !strings.HasPrefix(begun.AuthURL, apitest.PublicURL+"/oauth/connect/stripe?") || !begun.IsNew || begun.Provider != "stripe" {
		t.Fatalf("%+v", begun)
	}
	if got := s.status(t, begun.ConnectionID); got != "pending" {
		t.Errorf("before: %s", got)
	}
	at, _ := s.browser(t).follow(begun.AuthURL) // 3 to 6, and 8
	if want := settings + "?tab=apps&success=true&connectionId=" + begun.ConnectionID + "&provider=stripe"; at.String() != want {
		t.Errorf("the app is reached at %s", at)
	}
	if got := s.status(t, begun.ConnectionID); got != "active" { // 7
		t.Errorf("after: %s", got)
	}
}

func TestTheEightStepsWithAnEndUserWhoSaysNo(t *testing.T) {
	s := newSite(t)
	first := s.begun(t, "stripe", settings)
	b := s.browser(t)
	b.agree = false
	at, _ := b.follow(first.AuthURL)
	if want := settings + "?error=access_denied&connectionId=" + first.ConnectionID; at.String() != want {
		t.Errorf("the app is reached at %s", at)
	}
	if got := s.status(t, first.ConnectionID); got != "pending" {
		t.Errorf("after no: %s", got)
	}
	again := s.begun(t, "stripe", settings)
	if again.IsNew || again.ConnectionID != first.ConnectionID {
		t.Errorf("%+v", again)
	}
	b.agree = true
	if at, _ := b.follow(again.AuthURL); at.Query().Get("success") != "true" {
		t.Errorf("after yes: %s", at)
	}
}

func TestTheEightStepsWithAnAPIKey(t *testing.T) {
	s := newSite(t)
	begun := s.begun(t, "pandadoc", settings)
	b := s.browser(t)
	at, page := b.follow(begun.AuthURL)
	if at.Path != "/connect/to/pandadoc" || page.Code != http.StatusOK {
		t.Fatalf("the form is %s: %d", at, page.Code)
	}
	if wrong := b.do(apitest.PublicURL+at.Path, b.fill(page, "refused")); wrong.Code != http.StatusBadRequest || s.status(t, begun.ConnectionID) != "pending" {
		t.Errorf("a key that the provider refuses: %d %s", wrong.Code, s.status(t, begun.ConnectionID))
	}
	sent := b.do(apitest.PublicURL+at.Path, b.fill(page, "an-api-key"))
	if sent.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", sent.Code, sent.Body)
	}
	at, _ = b.follow(apitest.PublicURL + sent.Header().Get("Location"))
	if want := settings + "?success=true&connectionId=" + begun.ConnectionID + "&provider=pandadoc"; at.String() != want {
		t.Errorf("the app is reached at %s", at)
	}
	if code, got := s.call(t, http.MethodPost, "/"+begun.ConnectionID+"/verify", ""); code != http.StatusOK || !got.Data.Healthy {
		t.Errorf("verified: %d %s", code, got.text)
	}
	if code, got := s.call(t, http.MethodPost, "/"+begun.ConnectionID+"/refresh", ""); code != http.StatusBadRequest {
		t.Errorf("renewed: %d %s", code, got.text)
	}
}

// A link is good for one success, and for the connection that it was made for.
func TestALinkIsSpentByItsSuccess(t *testing.T) {
	s := newSite(t)
	begun := s.begun(t, "stripe", settings)
	s.browser(t).follow(begun.AuthURL)
	if at, last := s.browser(t).follow(begun.AuthURL); at.Host == "app.example.com" || last.Code != http.StatusConflict {
		t.Errorf("once more: %s %d", at, last.Code)
	}
	begun = s.begun(t, "slack", "")
	if code, got := s.call(t, http.MethodDelete, "/"+begun.ConnectionID, ""); code != http.StatusOK {
		t.Fatalf("%d %s", code, got.text)
	}
	if _, last := s.browser(t).follow(begun.AuthURL); last.Code != http.StatusNotFound {
		t.Errorf("of a connection that was deleted: %d %s", last.Code, last.Body)
	}
}

func TestADeletedConnectionEndsItsGrantAndMakesRoom(t *testing.T) {
	s := newSite(t)
	first := s.begun(t, "stripe", "")
	s.browser(t).follow(first.AuthURL)
	for _, want := range []int{http.StatusOK, http.StatusNotFound} {
		if code, got := s.call(t, http.MethodDelete, "/"+first.ConnectionID, ""); code != want {
			t.Errorf("deleted: %d %s", code, got.text)
		}
	}
	revocations, err := s.Config.Store.Revocations(t.Context(), s.Env.ID, 10)
	if err != nil || len(revocations) != 1 {
		t.Errorf("%d grants are to be ended, %v", len(revocations), err)
	}
	if next := s.begun(t, "stripe", ""); !next.IsNew || next.ConnectionID == first.ConnectionID {
		t.Errorf("%+v", next)
	}
}

// A provider is called by an integration's key or, where none has that key, by its own name: then it is the oldest one.
func TestWhatAProviderIsCalled(t *testing.T) {
	s := newSite(t)
	s.Advance(1)
	s.Integrate(t, s.Env, client("hubspot-2", "hubspot"))
	must(t, s.Broker.DeleteIntegration(t.Context(), broker.System(s.Env.ID), "stripe"))
	s.Integrate(t, s.Env, client("stripe us", "stripe"))
	for name, key := range map[string]string{"hubspot": "hubspot", "hubspot-2": "hubspot-2", "stripe": "stripe eu: @work~1", "stripe us": "stripe us"} {
		begun := s.begun(t, name, "")
		provider, _, _ := strings.Cut(strings.ReplaceAll(name, "-2", ""), " ")
		if want := apitest.PublicURL + "/oauth/connect/" + url.PathEscape(key) + "?"; !strings.HasPrefix(begun.AuthURL, want) || begun.Provider != provider {
			t.Errorf("%s leads to %s of %s", name, begun.AuthURL, begun.Provider)
		}
		if at, last := s.browser(t).follow(begun.AuthURL); last.Code != http.StatusOK || at.Path != base+"/"+name+"/callback" {
			t.Errorf("%s ends at %s: %d %s", name, at, last.Code, last.Body)
		}
	}
}

// Who authorizes a connection again must have the account that it was for.
func TestReauthorizationByAnotherAccount(t *testing.T) {
	s := newSite(t)
	first := s.begun(t, "hubspot", settings)
	s.browser(t).follow(first.AuthURL)
	if code, got := s.call(t, http.MethodPost, "/"+first.ConnectionID+"/refresh", ""); code != http.StatusInternalServerError {
		t.Fatalf("%d %s", code, got.text)
	}
	s.account = "another"
	at, _ := s.browser(t).follow(s.begun(t, "hubspot", settings).AuthURL)
	if want := settings + "?error=account_mismatch&connectionId=" + first.ConnectionID; at.String() != want {
		t.Errorf("the app is reached at %s", at)
	}
	if got := s.status(t, first.ConnectionID); got != "error" {
		t.Errorf("it is %s", got)
	}
	s.account = ""
	if at, _ = s.browser(t).follow(s.begun(t, "hubspot", settings).AuthURL); at.Query().Get("success") != "true" {
		t.Errorf("the right account ends at %s", at)
	}
}
