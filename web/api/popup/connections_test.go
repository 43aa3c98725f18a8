package popup_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// opened is a popup that was asked for.
type opened struct {
	ID    string `json:"connection_id"`
	Token string `json:"session_token"`
}

func open(t *testing.T, s *apitest.Site, key, nickname string) (out opened) {
	t.Helper()
	got := s.Send(t, http.MethodPost, all, `{"integration_key":"`+key+`","nickname":"`+nickname+`"}`, "X-Api-Key", apitest.Key)
	if got.Code != http.StatusCreated {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	must(t, json.Unmarshal(got.Body.Bytes(), &out))
	return out
}

// polled is a connection as this API shows it.
type polled struct {
	ID       string  `json:"connection_id"`
	Key      string  `json:"integration_key"`
	Nickname *string `json:"nickname"`
	Status   string  `json:"status"`
}

func poll(t *testing.T, s *apitest.Site, id string) (out polled) {
	t.Helper()
	got := s.Send(t, http.MethodGet, all+"/"+id, "", "X-Api-Key", apitest.Key)
	if got.Code != http.StatusOK {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	must(t, json.Unmarshal(got.Body.Bytes(), &out))
	return out
}

// signIn plays the browser: to the provider, which agrees, and back. Meanwhile other things may happen.
func signIn(t *testing.T, s *apitest.Site, key, token string, meanwhile ...func()) *httptest.ResponseRecorder {
	t.Helper()
	away := s.Send(t, http.MethodGet, "/oauth/connect/"+key+"?"+kit.ParamSession+"="+token, "")
	_, query, found := strings.Cut(away.Header().Get("Location"), "state=")
	if !found {
		t.Fatalf("it does not begin: %d %s", away.Code, away.Body)
	}
	state, _, _ := strings.Cut(query, "&")
	var cookies []string
	for _, c := range away.Result().Cookies() {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	for _, f := range meanwhile {
		f()
	}
	return s.Send(t, http.MethodGet, "/oauth/callback?code=a-code&state="+state, "", "Cookie", strings.Join(cookies, "; "))
}

// The grant of a deleted connection is ended at its provider, and that of one whose end user was on the way back as well.
func TestDeletionRevokes(t *testing.T) {
	var revoked []string
	s := newSiteWith(t, apitest.Options{Provider: func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/revoke" {
			revoked = append(revoked, r.PostForm.Get("token"))
			return true
		}
		return false
	}})
	p := open(t, s, "slack", "Sales")
	if back := signIn(t, s, "slack", p.Token); back.Code != http.StatusOK {
		t.Fatalf("%d %s", back.Code, back.Body)
	}
	must(t, s.Broker.RevokeDue(t.Context()))
	if len(revoked) != 0 {
		t.Errorf("revoked before it is deleted: %v", revoked)
	}
	remove(t, s, p.ID)
	must(t, s.Broker.RevokeDue(t.Context()))
	if len(revoked) != 1 || revoked[0] != "from-client" {
		t.Errorf("revoked %v", revoked)
	}

	p = open(t, s, "slack", "Support")
	back := signIn(t, s, "slack", p.Token, func() { remove(t, s, p.ID) })
	must(t, s.Broker.RevokeDue(t.Context()))
	if back.Code != http.StatusNotFound || len(revoked) != 2 {
		t.Errorf("deleted beneath a sign-in: %d, revoked %v", back.Code, revoked)
	}
}

func remove(t *testing.T, s *apitest.Site, id string) {
	t.Helper()
	got := s.Send(t, http.MethodDelete, all+"/"+id, "", "X-Api-Key", apitest.Key)
	if got.Code != http.StatusNoContent || got.Body.Len() != 0 {
		t.Errorf("%d %q", got.Code, got.Body)
	}
}

// The same connection has the same status here and in the Nango-compatible API, whichever of them made it.
func TestOtherAPIsAgree(t *testing.T) {
	s := newSite(t)
	// nango gives the errors of a connection that it lists, and whether it does.
	nango := func(key string) (errs int, listed bool) {
		var list struct {
			Connections []struct {
				Key    string `json:"connection_id"`
				Errors []any  `json:"errors"`
			} `json:"connections"`
		}
		must(t, json.Unmarshal(s.Send(t, http.MethodGet, "/connections?connectionId="+key, "").Body.Bytes(), &list))
		if len(list.Connections) == 0 {
			return 0, false
		}
		return len(list.Connections[0].Errors), true
	}
	p := open(t, s, "slack", "Sales")
	if _, listed := nango(p.ID); listed || poll(t, s, p.ID).Status != "pending" {
		t.Error("it is there before anybody has connected")
	}
	signIn(t, s, "slack", p.Token)
	if errs, listed := nango(p.ID); !listed || errs != 0 || poll(t, s, p.ID).Status != "active" {
		t.Errorf("connected: %d errors, listed: %v, here it is %+v", errs, listed, poll(t, s, p.ID))
	}

	body := `{"provider_config_key":"slack","connection_id":"c-1","credentials":{"type":"OAUTH2","access_token":"t","refresh_token":"revoked"}}`
	if got := s.Send(t, http.MethodPost, "/connections", body); got.Code != http.StatusCreated {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	c, err := s.Broker.Connection(t.Context(), broker.System(s.Env.ID), broker.ConnectionRef{Integration: "slack", Key: "c-1"})
	must(t, err)
	id := string(c.ID)
	if got := poll(t, s, id); got.Status != "active" || got.Nickname != nil || got.Key != "slack" {
		t.Errorf("imported: %+v", got)
	}
	s.Send(t, http.MethodGet, "/connections/c-1?provider_config_key=slack&force_refresh=true", "")
	if errs, listed := nango("c-1"); !listed || errs != 1 || poll(t, s, id).Status != "error" {
		t.Errorf("the grant is lost: %d errors, listed: %v, here it is %+v", errs, listed, poll(t, s, id))
	}
	s.Send(t, http.MethodDelete, "/connections/c-1?provider_config_key=slack", "")
	if got := s.Send(t, http.MethodGet, all+"/"+id, "", "X-Api-Key", apitest.Key); got.Code != http.StatusNotFound {
		t.Errorf("deleted there: %d %s", got.Code, got.Body)
	}
}

// A popup that nobody finished is cleared away in the end.
func TestWhatNobodyMadeIsGoneAfterAWeek(t *testing.T) {
	s := newSite(t)
	p := open(t, s, "slack", "Sales")
	for _, step := range []struct {
		wait   time.Duration
		status int
	}{{6 * 24 * time.Hour, http.StatusOK}, {25 * time.Hour, http.StatusNotFound}} {
		s.Advance(step.wait)
		must(t, s.Broker.Sweep(t.Context()))
		if got := s.Send(t, http.MethodGet, all+"/"+p.ID, "", "X-Api-Key", apitest.Key); got.Code != step.status {
			t.Errorf("after %v: %d %s", step.wait, got.Code, got.Body)
		}
	}
}

// refused checks a refusal by its status and code.
func refused(t *testing.T, got *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	var out struct{ Error, Message string }
	must(t, json.Unmarshal(got.Body.Bytes(), &out))
	if got.Code != status || out.Error != code || out.Message == "" || got.Header().Get(kit.HeaderErrorCode) != code {
		t.Errorf("got %d %s, X-Error-Code %q", got.Code, got.Body, got.Header().Get(kit.HeaderErrorCode))
	}
}

func TestABodyOfMoreThanItTakes(t *testing.T) {
	s := newSite(t)
	body := `{"integration_key":"slack","nickname":"` + strings.Repeat("a", 16<<10) + `"}`
	refused(t, s.Send(t, http.MethodPost, all, body, "X-Api-Key", apitest.Key), http.StatusRequestEntityTooLarge, "body_too_large")
}

func TestTwoKeysAreNone(t *testing.T) {
	s := newSite(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, all, nil)
	r.Header["X-Api-Key"] = []string{apitest.Key, apitest.Key}
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	refused(t, w, http.StatusUnauthorized, "unauthorized")
}

func TestAKeyThatSendsTooMuch(t *testing.T) {
	s := newSiteWith(t, apitest.Options{Mount: func(d *web.Deps) {
		d.KeyLimit = func(broker.APIKeyID) error { return broker.ErrRateLimited.After(3 * time.Second) }
	}})
	got := s.Send(t, http.MethodGet, all, "", "X-Api-Key", apitest.Key)
	refused(t, got, http.StatusTooManyRequests, "rate_limited")
	if after := got.Header().Get("Retry-After"); after != "3" {
		t.Errorf("it is to come back after %q", after)
	}
}

// The session's token stands in the one answer that gives it, which nobody may store, and in no line of the log.
func TestTheTokenIsToldOnce(t *testing.T) {
	s := newSite(t)
	got := s.Send(t, http.MethodPost, all, `{"integration_key":"slack","nickname":"Sales"}`, "X-Api-Key", apitest.Key)
	var p opened
	must(t, json.Unmarshal(got.Body.Bytes(), &p))
	if got.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q", got.Header().Get("Cache-Control"))
	}
	signIn(t, s, "slack", p.Token)
	later := s.Send(t, http.MethodGet, all, "", "X-Api-Key", apitest.Key).Body.String() + s.Log.String()
	if strings.Contains(later, p.Token) || strings.Contains(later, apitest.Key) {
		t.Errorf("a secret is told again:\n%s", later)
	}
	if !strings.Contains(s.Log.String(), p.ID) {
		t.Error("the log does not name the connection")
	}
}

// A broker whose store is gone says so in this API's form.
func TestAStoreThatIsGone(t *testing.T) {
	s := newSite(t)
	must(t, s.Config.Store.Close())
	for _, row := range []struct{ method, path, body string }{
		{http.MethodGet, all, ""}, {http.MethodPost, all, `{"integration_key":"slack","nickname":"Sales"}`},
	} {
		got := s.Send(t, row.method, row.path, row.body, "X-Api-Key", apitest.Key)
		var out struct{ Error, Message string }
		if err := json.Unmarshal(got.Body.Bytes(), &out); err != nil || got.Code < 500 || out.Error == "" || out.Message == "" {
			t.Errorf("%s: got %d %s", row.method, got.Code, got.Body)
		}
	}
}
