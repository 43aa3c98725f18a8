package connections_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

// anonymous asks without any credential.
func (s *site) anonymous(t *testing.T, path string) (int, reply) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return read(t, w)
}

// denied plays a sign-in that is denied and gives its connection and its flow.
func (s *site) denied(t *testing.T, provider, redirect string) (connection, flow string) {
	t.Helper()
	begun := s.begun(t, provider, redirect)
	b := s.browser(t)
	b.agree = false
	at, err := url.Parse(b.do(begun.AuthURL, nil).Header().Get("Location"))
	must(t, err)
	landed, err := url.Parse(b.do(b.decided(at).String(), nil).Header().Get("Location"))
	must(t, err)
	return begun.ConnectionID, landed.Query().Get("flow")
}

// Whatever a stranger writes into the callback's query, nothing comes of it.
func TestForgedCallbacks(t *testing.T) {
	s := newSite(t)
	pending := s.begun(t, "stripe", settings).ConnectionID
	denied, flow := s.denied(t, "hubspot", settings)
	evil := url.QueryEscape("https://evil.example.com/")
	for query, want := range map[string]struct {
		status int
		to     string
	}{
		"success=true&connectionId=" + pending:                               {400, ""},
		"success=true&connectionId=" + pending + "&redirectUrl=" + evil:      {400, ""},
		"error=x&redirectUrl=" + evil:                                        {400, ""},
		"flow=" + pending + "&redirectUrl=" + evil:                           {404, ""},
		"flow=" + strings.TrimPrefix(pending, "conn_"):                       {404, ""},
		"flow=%00&success=true":                                              {404, ""},
		"flow=" + flow + "&flow=" + flow:                                     {400, ""},
		"flow=" + flow + "&success=true&redirectUrl=" + evil:                 {302, settings + "?error=access_denied&connectionId=" + denied},
		"connectionId=" + pending + "&flow=" + flow + "&success=true&error=": {302, settings + "?error=access_denied&connectionId=" + denied},
		"flow=" + flow + "&provider=" + evil + "%0d%0aX-Evil:%20y":           {302, settings + "?error=access_denied&connectionId=" + denied},
	} {
		code, got := s.anonymous(t, base+"/hubspot/callback?"+query)
		if code != want.status || got.header.Get("Location") != want.to || strings.Contains(got.text, "evil") || got.header.Get("X-Evil") != "" {
			t.Errorf("%s: %d %s %s", query, code, got.header.Get("Location"), got.text)
		}
		for _, id := range []string{pending, denied} {
			if is := s.status(t, id); is != "pending" {
				t.Errorf("%s: %s is %s", query, id, is)
			}
		}
	}
	for _, provider := range []string{"stripe", "slack", "nobody", "..%2fhubspot", "hubspot%2f"} {
		if code, got := s.anonymous(t, base+"/"+provider+"/callback?flow="+flow); code != http.StatusNotFound {
			t.Errorf("another provider's address, %s: %d %s", provider, code, got.text)
		}
	}
}

// The result of a sign-in that another API began is that API's to tell.
func TestFlowsOfOtherSurfacesAreNotFound(t *testing.T) {
	s := newSite(t)
	token := s.Session(t, broker.SessionInput{Landing: "/connect/ended", ReturnURL: settings})
	b := s.browser(t)
	at, last := b.follow(apitest.PublicURL + "/oauth/connect/stripe?connect_session_token=" + token)
	if at.Path != "/connect/ended" || last.Code != http.StatusOK {
		t.Fatalf("%s: %d", at, last.Code)
	}
	if code, got := s.anonymous(t, base+"/stripe/callback?"+at.RawQuery); code != http.StatusNotFound {
		t.Errorf("%d %s %s", code, got.header.Get("Location"), got.text)
	}
}

// Where the browser is sent back to is on the environment's list, in every respect that matters.
func TestRedirectURLsAreThoseOfTheEnvironment(t *testing.T) {
	s := newSite(t)
	for _, evil := range []string{
		"https://evil.example.com/settings/connections", "https://app.example.com.evil.example.com/settings/connections",
		"https://app.example.com@evil.example.com/settings/connections", "https://app.example.com:8443/settings/connections",
		"http://app.example.com/settings/connections", "https://app.example.com/settings/connections/more", "https://app.example.com/settings",
		"https://app.example.com/settings/connections/../../evil", "https://app.example.com/settings%2Fconnections",
		settings + "#fragment", "//app.example.com/settings/connections", "/settings/connections", "javascript:alert(1)",
		"https://app.example.com\\@evil.example.com/settings/connections", settings + "\r\nSet-Cookie: a=b", settings + "\x00", " " + settings,
		"https://other.example.com/",
	} {
		code, got := s.call(t, http.MethodGet, authPath("stripe", evil), "")
		if code != http.StatusBadRequest || got.Error.Code != "BAD_REQUEST" || got.header.Get("X-Error-Code") != "return_url_not_allowed" {
			t.Errorf("%q: %d %s", evil, code, got.text)
		}
	}
	list, err := s.Broker.Connections(t.Context(), broker.System(s.Env.ID), broker.ConnectionFilter{IncludePending: true})
	if err != nil || len(list) != 0 {
		t.Errorf("%d connections were made, %v", len(list), err)
	}
}

// What the app has in its own address stays as it is, but for what would read as a result.
func TestTheAppsOwnQuery(t *testing.T) {
	s := newSite(t)
	for own, kept := range map[string]string{
		"":                                 "",
		"tab=a%20b&x=%2B&flag":             "tab=a%20b&x=%2B&flag&",
		"success=true&connectionId=conn_1": "",
		"%73uccess=true&a=1&&provider=x":   "a=1&",
		"error=none&a=;b&%zz=1&success":    "a=;b&",
	} {
		connection, flow := s.denied(t, "stripe", settings+"?"+own)
		_, got := s.anonymous(t, base+"/stripe/callback?flow="+flow)
		if want := settings + "?" + kept + "error=access_denied&connectionId=" + connection; got.header.Get("Location") != want {
			t.Errorf("%s becomes %s", own, got.header.Get("Location"))
		}
	}
}

func TestConnectionNamesAreTextAndNothingElse(t *testing.T) {
	s := newSite(t)
	for _, evil := range []string{"a\r\nSet-Cookie: b=c", "a\x00", "a\tb", strings.Repeat("n", 256), "\xff"} {
		code, got := s.call(t, http.MethodGet, "/stripe/auth-url?connectionName="+url.QueryEscape(evil), "")
		if code != http.StatusBadRequest || got.Error.Code != "BAD_REQUEST" {
			t.Errorf("%q: %d %s", evil, code, got.text)
		}
	}
	name := `<script>alert("1")</script> Größe ` + strings.Repeat("名", 200)
	code, got := s.call(t, http.MethodGet, "/stripe/auth-url?connectionName="+url.QueryEscape(name), "")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, got.text)
	}
	if _, got = s.call(t, http.MethodGet, "/"+got.Data.ConnectionID, ""); got.Data.Name != name {
		t.Errorf("%q", got.Data.Name)
	}
}

// Another environment has neither the connection, nor the provider's one connection, nor its sign-in.
func TestEnvironmentsDoNotMeet(t *testing.T) {
	s := newSite(t)
	ours := s.begun(t, "stripe", settings)
	s.browser(t).follow(ours.AuthURL)
	other := func(method, path, body string) (int, reply) {
		t.Helper()
		return read(t, s.Send(t, method, base+path, body, "X-Api-Key", apitest.OtherKey))
	}
	for _, asked := range [][2]string{
		{http.MethodGet, "/" + ours.ConnectionID},
		{http.MethodDelete, "/" + ours.ConnectionID},
		{http.MethodPost, "/" + ours.ConnectionID + "/refresh"},
		{http.MethodPost, "/" + ours.ConnectionID + "/verify"},
	} {
		if code, got := other(asked[0], asked[1], ""); code != http.StatusNotFound || got.Error.Message != "Connection not found" {
			t.Errorf("%s: %d %s", asked, code, got.text)
		}
	}
	code, theirs := other(http.MethodGet, "/stripe/auth-url", "")
	if code != http.StatusOK || !theirs.Data.IsNew || theirs.Data.ConnectionID == ours.ConnectionID {
		t.Errorf("their own: %d %s", code, theirs.text)
	}
	if code, got := other(http.MethodGet, authPath("stripe", settings), ""); code != http.StatusBadRequest {
		t.Errorf("back to our app: %d %s", code, got.text)
	}
	if code, got := other(http.MethodGet, "/hubspot/auth-url", ""); code != http.StatusNotFound {
		t.Errorf("a provider that is ours: %d %s", code, got.text)
	}
	if got := s.status(t, ours.ConnectionID); got != "active" {
		t.Errorf("ours is %s", got)
	}
}

// Nothing secret stands in any answer or in the log.
func TestNoAnswerHoldsASecret(t *testing.T) {
	s := newSite(t)
	begun := s.begun(t, "netsuite", settings)
	_, last := s.browser(t).follow(begun.AuthURL)
	texts := []string{last.Body.String(), s.Log.String()}
	for _, asked := range [][2]string{
		{http.MethodPost, "/" + begun.ConnectionID + "/verify"},
		{http.MethodPost, "/" + begun.ConnectionID + "/refresh"},
		{http.MethodGet, "/" + begun.ConnectionID},
		{http.MethodGet, ""},
	} {
		_, got := s.call(t, asked[0], asked[1], "")
		texts = append(texts, got.text)
	}
	token := begun.AuthURL[strings.Index(begun.AuthURL, "nango_connect_session_"):]
	for _, text := range append(texts, s.Log.String()) {
		for _, secret := range []string{"dead-token", "client-secret", "a-code", "the words of the provider", token} {
			if strings.Contains(text, secret) {
				t.Errorf("%s stands in %s", secret, text)
			}
		}
	}
}
