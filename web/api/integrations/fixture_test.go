package integrations_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// site is what the tests of every API share, and what the providers of these ones were asked.
type site struct {
	*apitest.Site
	asked *asked
}

// asked keeps the forms that providers got, by path.
type asked struct {
	mu    sync.Mutex
	forms map[string][]url.Values
}

func (a *asked) note(r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forms[r.URL.Path] = append(a.forms[r.URL.Path], r.PostForm)
}

// at gives the forms that came to a path.
func (a *asked) at(path string) []url.Values {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.forms[path]
}

func newSite(t testing.TB) *site {
	t.Helper()
	return newSiteWith(t, apitest.Options{})
}

// newSiteWith makes a site with the providers and integrations of every test.
func newSiteWith(t testing.TB, o apitest.Options) *site {
	t.Helper()
	var err error
	o.Catalogue, err = os.ReadFile("testdata/providers.yaml")
	must(t, err)
	s := &site{asked: &asked{forms: make(map[string][]url.Values)}}
	o.Integrations, o.Others, o.Connect, o.Provider = everyIntegration(), everyIntegration()[:1], true, s.provider
	s.Site = apitest.New(t, o)
	return s
}

// everyIntegration lists those of every test.
func everyIntegration() []broker.IntegrationInput {
	secret := broker.NewSecret("client-secret")
	return []broker.IntegrationInput{
		{
			Key: "my-integration", Provider: "google-drive", DisplayName: "Google Drive - Engineering", ClientID: "client", ClientSecret: secret,
			Hosts: []string{"upload.googleapis.com"},
		},
		{Key: "tenant", Provider: "tenant", ClientID: "client", ClientSecret: secret},
		{Key: "mail", Provider: "mail"},
		{Key: "hosted", Provider: "hosted"},
		{Key: "ledger", Provider: "ledger"},
		{Key: "open", Provider: "open"},
		{Key: "boards", Provider: "boards", ClientID: "client", ClientSecret: secret},
		{Key: "team-drive", Provider: "google-drive", ClientID: "client", ClientSecret: secret, Shared: true},
		{Key: "team-mail", Provider: "mail", DisplayName: "Team Mail", Shared: true},
	}
}

// provider is a token endpoint that gives refresh tokens, and tells how long they last. It refuses what is called refused.
func (s *site) provider(w http.ResponseWriter, r *http.Request) bool {
	s.asked.note(r)
	code := r.PostForm.Get("code")
	if code == "" {
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	if strings.Contains(code, "refused") {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant"}`)
		return true
	}
	_, _ = io.WriteString(w, `{"access_token":"from-code","refresh_token":"first","token_type":"bearer","expires_in":3600,"refresh_token_expires_in":2592000}`)
	return true
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// user gives a session's token of an end user, for these integrations or all.
func (s *site) user(t testing.TB, id string, integrations ...string) string {
	t.Helper()
	return s.Session(t, broker.SessionInput{EndUser: &broker.EndUser{ID: id}, Integrations: integrations})
}

// as are the headers of the backend on behalf of a user; empty: of the superuser.
func as(user string) []string {
	if user == "" {
		return nil
	}
	return []string{kit.HeaderOwner, user}
}

// bearer are the headers of whoever holds a session's token.
func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// connection is what the tests read of an answer.
type connection struct {
	ID, IntegrationID string
	OwnerID           *string
	IsShared          bool
	Status            string
	APIBaseURI        *string `json:"apiBaseUri"`
	Data              map[string]string
	Embedded          struct {
		Integration struct{ ID string } `json:"inf:integration"`
	} `json:"_embedded"`
	Error struct{ Code, Message string }
}

// read reads an answer, which must have the status.
func read(t testing.TB, w *httptest.ResponseRecorder, status int) connection {
	t.Helper()
	var c connection
	if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || w.Code != status {
		t.Fatalf("got %d %s, want %d", w.Code, w.Body, status)
	}
	return c
}

// refused demands a failure of ours.
func refused(t testing.TB, what string, w *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	var body struct {
		Error struct {
			Code, Message string
			RequestID     string `json:"request_id"`
		}
	}
	err := json.Unmarshal(w.Body.Bytes(), &body)
	h := w.Header()
	if err != nil || w.Code != status || body.Error.Code != code || body.Error.Message == "" || body.Error.RequestID != h.Get("X-Request-Id") {
		t.Errorf("%s: got %d %s, want %d %s", what, w.Code, w.Body, status, code)
	}
	if h.Get(kit.HeaderErrorCode) != code || h.Get("X-Error-Source") != "broker" {
		t.Errorf("%s: the headers are %v", what, h)
	}
}
