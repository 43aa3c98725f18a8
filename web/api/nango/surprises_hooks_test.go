package nango_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

const hookKey = "22222222-2222-4333-8444-555555555555"

// hooked is a site whose dev is told at two addresses.
func hooked(t *testing.T, change func(*broker.DeclaredWebhook)) *site {
	t.Helper()
	s := newSite(t)
	d := apitest.Declared("dev", secretKey)
	d.Webhook = broker.DeclaredWebhook{
		URL: "https://app.example.com/hooks", SecondaryURL: "https://second.example.com/hooks", Key: broker.NewSecret(hookKey),
	}
	change(&d.Webhook)
	must(t, s.Broker.Declare(t.Context(), []broker.DeclaredEnvironment{d, apitest.Declared("other", otherKey)}))
	s.Run(t)
	return s
}

// imports makes or overwrites a connection.
func (s *site) imports(t *testing.T, id, more string) {
	t.Helper()
	body := `{"provider_config_key":"mail-prod","connection_id":"` + id + `","credentials":{"type":"API_KEY","apiKey":"k"}` + more + `}`
	if got := s.send(t, http.MethodPost, "/connections", body); got.status != http.StatusCreated {
		t.Fatalf("import: %d %s", got.status, got.body)
	}
}

// operationOf reads what a webhook is about.
func operationOf(t *testing.T, h apitest.Hook) string {
	t.Helper()
	var body struct {
		Operation string `json:"operation"`
		Success   bool   `json:"success"`
	}
	must(t, json.Unmarshal([]byte(h.Body), &body))
	if body.Success {
		return body.Operation
	}
	return "failed " + body.Operation
}

// A connection's own address takes the place of both.
func TestSurprise16AnOverrideSuppressesTheSecondAddress(t *testing.T) {
	t.Parallel()
	s := hooked(t, func(*broker.DeclaredWebhook) {})
	s.imports(t, "both", "")
	to := map[string]bool{(<-s.Told).URL: true, (<-s.Told).URL: true}
	if !to["https://app.example.com/hooks"] || !to["https://second.example.com/hooks"] {
		t.Errorf("told at %v", to)
	}
	s.imports(t, "own", `,"webhook_url_override":"https://own.example.com/hooks"`)
	s.imports(t, "after", "")
	for range 3 { // the own address, and the two of the import after it, in any order
		h := <-s.Told
		if about := connectionOf(t, h); (about == "own") != (h.URL == "https://own.example.com/hooks") {
			t.Errorf("%s was told of %s", h.URL, about)
		}
	}
}

func connectionOf(t *testing.T, h apitest.Hook) string {
	t.Helper()
	var body struct {
		ID string `json:"connectionId"`
	}
	must(t, json.Unmarshal([]byte(h.Body), &body))
	return body.ID
}

// The switches are for creations and refreshes, not for what comes again, and a sign-in that failed is a creation.
func TestSurprise17SwitchesAndTheirNames(t *testing.T) {
	t.Parallel()
	s := hooked(t, func(d *broker.DeclaredWebhook) { d.SecondaryURL, d.MuteCreation = "", true })
	s.imports(t, "c", "") // muted
	s.imports(t, "c", "")
	if got := operationOf(t, <-s.Told); got != "override" {
		t.Errorf("a connection that comes again is told as %s", got)
	}

	s = hooked(t, func(d *broker.DeclaredWebhook) { d.SecondaryURL = "" })
	token := s.Session(t, broker.SessionInput{})
	who, err := s.Broker.AuthenticateSession(t.Context(), token)
	must(t, err)
	started, err := s.Broker.StartFlow(t.Context(), who, "code-prod", broker.ConnectInput{Fields: map[string]string{"connection_config.org": "acme"}})
	must(t, err)
	_, err = s.Broker.FinishFlow(t.Context(), broker.Callback{
		Query: url.Values{"state": {started.State}, "error": {"server_error"}}, Browser: started.Browser,
	})
	if !errors.Is(err, broker.ErrProviderError) {
		t.Fatal(err)
	}
	if got := operationOf(t, <-s.Told); got != "failed creation" {
		t.Errorf("a sign-in that failed is told as %s", got)
	}
}

// Members stand in the order of their names, and the signing key, which opens nothing, makes both signatures.
func TestSurprise18SortedAndSignedTwice(t *testing.T) {
	t.Parallel()
	s := hooked(t, func(d *broker.DeclaredWebhook) { d.SecondaryURL = "" })
	s.imports(t, "c", `,"tags":{"zoo":"<&>","ant":"\u2028"}`)
	h := <-s.Told
	const want = `{"authMode":"API_KEY","connectionId":"c","environment":"dev","from":"nango","operation":"creation","provider":"mail",` +
		`"providerConfigKey":"mail-prod","success":true,"tags":{"ant":"` + "\u2028" + `","zoo":"<&>"},"type":"auth"}`
	if h.Body != want {
		t.Errorf("told\n%s, want\n%s", h.Body, want)
	}
	mac := hmac.New(sha256.New, []byte(hookKey))
	mac.Write([]byte(h.Body))
	if got := h.Header.Get("X-Nango-Hmac-Sha256"); got != hex.EncodeToString(mac.Sum(nil)) {
		t.Errorf("X-Nango-Hmac-Sha256: %s", got)
	}
	sum := sha256.Sum256([]byte(hookKey + h.Body))
	if got := h.Header.Get("X-Nango-Signature"); got != hex.EncodeToString(sum[:]) {
		t.Errorf("X-Nango-Signature: %s", got)
	}
	if got := s.send(t, http.MethodGet, "/connections", "", "Authorization", "Bearer "+hookKey); got.status != http.StatusUnauthorized {
		t.Errorf("the signing key opens the API: %d", got.status)
	}
}

// Providers' webhooks are not taken in, and say so.
func TestSurprise19ProvidersWebhooksAreNotTakenIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if got := s.send(t, http.MethodPost, "/webhook/"+string(s.Env.ID)+"/code-prod", `{}`); got.status != http.StatusNotFound {
		t.Errorf("got %d %s", got.status, got.body)
	}
}
