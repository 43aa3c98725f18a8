package nango_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

// house answers for a provider whose apps are installed. Installation 77 is new, and 76 is older than any sign-in.
func house(w http.ResponseWriter, r *http.Request) bool {
	stamp := func(d time.Duration) string { return apitest.Start.Add(d).Format(time.RFC3339) }
	id, tokens := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/app/installations/"), "/access_tokens")
	switch {
	case r.URL.Host != "api.house.test":
		return false
	case tokens:
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"token":"ghs_%s","expires_at":%q}`, id, stamp(time.Hour))
	case id == "77":
		_, _ = fmt.Fprintf(w, `{"account":{"id":5},"created_at":%q}`, stamp(0))
	default:
		_, _ = fmt.Fprintf(w, `{"account":{"id":6},"created_at":%q}`, stamp(-time.Hour))
	}
	return true
}

// installer is a browser that has been sent to where the app is installed.
type installer struct {
	*site
	state  string
	cookie []*http.Cookie
}

func newInstaller(t *testing.T, s *site) *installer {
	t.Helper()
	token := s.Session(t, broker.SessionInput{})
	begun := s.Send(t, http.MethodGet, "/oauth/connect/house-prod?connect_session_token="+token, "", "Authorization", "")
	goal, err := url.Parse(begun.Header().Get("Location"))
	must(t, err)
	if begun.Code != http.StatusFound && begun.Code != http.StatusSeeOther || goal.Host != "house.test" || goal.Path != "/apps/reader/installations/new" {
		t.Fatalf("%d, on to %s", begun.Code, goal)
	}
	return &installer{s, goal.Query().Get("state"), begun.Result().Cookies()}
}

// back is what the provider sends the browser back with.
func (i *installer) back(t *testing.T, query string, cookies []*http.Cookie) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/app-auth/connect?"+query, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	i.Handler.ServeHTTP(w, r)
	return w
}

func TestAppsAreInstalledInTheBrowser(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	s := newSiteWith(t, apitest.Options{Connect: true, Provider: house})
	s.Integrate(t, s.Env, broker.IntegrationInput{
		Key: "house-prod", Provider: "house", ClientID: "4711", ClientSecret: broker.NewSecret(string(block)),
		Settings: map[string]string{"app_link": "https://house.test/apps/reader"},
	})
	for what, try := range map[string]struct {
		query  string // {state} is the sign-in's
		alone  bool   // another browser
		status int
		code   string
	}{
		"it was installed":             {"installation_id=77&setup_action=install&state={state}", false, 200, ""},
		"it was changed":               {"installation_id=77&setup_action=update&state={state}", false, 200, ""},
		"begun at the provider":        {"installation_id=77&setup_action=install", false, 400, "state_invalid"},
		"another browser":              {"installation_id=77&setup_action=install&state={state}", true, 403, "browser_mismatch"},
		"somebody else's":              {"installation_id=76&setup_action=update&state={state}", false, 502, "exchange_failed"},
		"an owner has to approve it":   {"setup_action=request&state={state}", false, 400, "provider_error"},
		"no installation":              {"setup_action=install&state={state}", false, 400, "callback_invalid"},
		"two installations to choose":  {"installation_id=77&installation_id=76&state={state}", false, 400, "callback_invalid"},
		"what is no number at all":     {"installation_id=77%2F..%2F76&state={state}", false, 502, "exchange_failed"},
		"a state that nobody gave out": {"installation_id=77&state=x", false, 400, "state_invalid"},
	} {
		t.Run(what, func(t *testing.T) {
			i := newInstaller(t, s)
			cookies := i.cookie
			if try.alone {
				cookies = nil
			}
			got := i.back(t, strings.ReplaceAll(try.query, "{state}", url.QueryEscape(i.state)), cookies)
			if got.Code != try.status || got.Header().Get("X-Error-Code") != try.code {
				t.Fatalf("%d %s: %s", got.Code, got.Header().Get("X-Error-Code"), got.Body)
			}
			if try.code == "" && i.back(t, "installation_id=77&state="+url.QueryEscape(i.state), cookies).Code == http.StatusOK {
				t.Error("a state is good for two installations")
			}
		})
	}
	made, err := s.Broker.Connections(t.Context(), broker.System(s.Env.ID), broker.ConnectionFilter{Limit: 10})
	must(t, err)
	if len(made) != 2 {
		t.Fatalf("%d connections", len(made))
	}
	read := s.Send(t, http.MethodGet, "/connections/"+made[0].Key+"?provider_config_key=house-prod", "")
	for _, want := range []string{`"type":"APP"`, `"access_token":"ghs_77"`, `"installation_id":"77"`, `"app_id":"4711"`, `"expires_at":"2026-03-01T13:00:00.000Z"`} {
		if !strings.Contains(read.Body.String(), want) {
			t.Errorf("without %s: %s", want, read.Body)
		}
	}
	if strings.Contains(read.Body.String(), "PRIVATE KEY") {
		t.Error("the private key is shown")
	}
}
