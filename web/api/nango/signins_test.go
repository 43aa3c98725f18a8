package nango_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// A sign-in is submitted, read, called through, renewed by signing in again, refused, and ended at the provider.
func TestTheLifeOfASignIn(t *testing.T) {
	var asked []string
	status := http.StatusOK
	s := newSiteWith(t, apitest.Options{Provider: func(w http.ResponseWriter, r *http.Request) bool {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
		if strings.Contains(string(body), "${") {
			t.Errorf("sent %s", body)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"data":{"token":"t-`+strings.Repeat("i", len(asked))+`","ttl":"1h"}}`)
		return true
	}})
	s.Integrate(t, s.Env, broker.IntegrationInput{Key: "tower-prod", Provider: "tower"})
	token := s.Session(t, broker.SessionInput{})
	const typed = `{"username":"ann","password":"secret-password","assertionOption":{"privateKey":"` + towerKey + `"}}`
	s.send(t, http.MethodPost, "/auth/two-step/tower-prod?"+kit.ParamSession+"="+token, typed, "Authorization", "").is(t, http.StatusOK, "")
	rows := s.send(t, http.MethodGet, "/connections", "").is(t, http.StatusOK, "").body
	_, id, _ := strings.Cut(rows, `"connection_id":"`)
	id, _, _ = strings.Cut(id, `"`)
	read := "/connections/" + id + "?provider_config_key=tower-prod"
	s.send(t, http.MethodGet, read, "").is(t, http.StatusOK, "").has(t, `"token":"t-i"`).lacks(t, "privateKey", "assertionOption", towerKey)
	call := func() reply {
		return s.send(t, http.MethodGet, "/proxy/x", "", "Provider-Config-Key", "tower-prod", "Connection-Id", id)
	}
	call().is(t, http.StatusOK, "").has(t, `"authorization":"Bearer t-i"`)
	s.Advance(time.Hour)
	call().is(t, http.StatusOK, "").has(t, `"authorization":"Bearer t-ii"`)
	status = http.StatusUnauthorized
	s.Advance(time.Hour)
	s.send(t, http.MethodGet, read, "").is(t, http.StatusBadRequest, "invalid_credentials").lacks(t, "secret-password", "t-ii")
	status = http.StatusOK
	s.send(t, http.MethodGet, read+"&force_refresh=true", "").is(t, http.StatusOK, "").has(t, `"token":"t-iiii"`)
	s.send(t, http.MethodDelete, read, "").is(t, http.StatusOK, "")
	must(t, s.Broker.RevokeDue(t.Context()))
	want := []string{"POST /login ", "POST /login ", "POST /login ", "POST /login ", "DELETE /logout Bearer t-iiii"}
	if !slices.Equal(asked, want) {
		t.Errorf("asked %q", asked)
	}
	if log := s.Log.String(); strings.Contains(log, "secret-password") || strings.Contains(log, "t-i") || strings.Contains(log, towerKey) {
		t.Error("the log holds a secret")
	}
}
