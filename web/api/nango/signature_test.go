package nango_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// A UsernameToken has a nonce, so that no golden file can hold one.
func TestUsernameTokensAreShownAndMadeAnew(t *testing.T) {
	s := newSite(t)
	s.Integrate(t, s.Env, broker.IntegrationInput{Key: "letters-prod", Provider: "letters"})
	const sent = `{"provider_config_key":"letters-prod","connection_id":"c","credentials":{"type":"SIGNATURE","username":"ann","password":"p","token":"old"}}`
	first := tokenShown(t, s.send(t, http.MethodPost, "/connections", sent).is(t, http.StatusCreated, "").lacks(t, `"raw"`).body)
	read := "/connections/c?provider_config_key=letters-prod"
	if again := tokenShown(t, s.send(t, http.MethodGet, read, "").is(t, http.StatusOK, "").body); again != first {
		t.Error("it is made anew while it is good")
	}
	s.Advance(5 * time.Minute)
	if again := tokenShown(t, s.send(t, http.MethodGet, read, "").is(t, http.StatusOK, "").body); again == first {
		t.Error("it is not made anew")
	}
	got := s.send(t, http.MethodGet, "/proxy/x", "", "Provider-Config-Key", "letters-prod", "Connection-Id", "c").is(t, http.StatusOK, "")
	if got.has(t, `"uri":"/x"`); strings.Contains(got.body, "Bearer") {
		t.Errorf("the token is sent twice: %s", got.body)
	}
	if n := s.Asked.Load(); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
	half := strings.Replace(sent, `"password":"p",`, "", 1)
	s.send(t, http.MethodPost, "/connections", half).is(t, http.StatusBadRequest, "invalid_body").has(t, `"path":["credentials","password"]`)
}

func tokenShown(t *testing.T, body string) string {
	t.Helper()
	var c struct {
		Credentials struct{ Type, Username, Password, Token string }
	}
	must(t, json.Unmarshal([]byte(body), &c))
	if c.Credentials.Type != "SIGNATURE" || c.Credentials.Username != "ann" || c.Credentials.Password != "p" || !strings.HasPrefix(c.Credentials.Token, `UsernameToken Username="ann", `) {
		t.Errorf("shown %+v", c.Credentials)
	}
	return c.Credentials.Token
}
