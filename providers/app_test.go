package providers

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/coatcheck/coatcheck/broker"
)

var appKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// host is a double of a provider whose apps are installed. It checks the app's tokens.
type host struct {
	*door
	since time.Time // when installation 77 was made
	state string    // gone, suspended, unknown-app, broken
	ended bool
}

func newHost(t *testing.T) (*host, *app) {
	t.Helper()
	s := &host{since: time.Now()}
	s.door = newDoor(t, s.serve)
	return s, provider[*app](t, load(t, strings.ReplaceAll(`
x:
  display_name: X
  auth_mode: APP
  authorization_url: ${connectionConfig.appPublicLink}/installations/new
  token_url: SERVER/app/installations/${connectionConfig.installation_id}/access_tokens
  revocation_url: SERVER/installation/token
  revocation: {style: recipe, method: DELETE, auth: bearer, body_format: none, tokens: [access]}
  proxy: {base_url: SERVER, verification: {method: GET, endpoints: [/installation/repositories]}}
`, "SERVER", s.URL)), "x")
}

// own reports whether a request speaks for the app (RFC 7515, RFC 7519), for ten minutes at most.
func (s *host) own(r *http.Request) bool {
	token, err := jwt.ParseSigned(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return false
	}
	var c jwt.Claims
	return token.Claims(&appKey().PublicKey, &c) == nil && c.ValidateWithLeeway(jwt.Expected{Issuer: "4711", Time: time.Now()}, 0) == nil &&
		c.Expiry.Time().Sub(c.IssuedAt.Time()) <= 10*time.Minute
}

func (s *host) serve(w http.ResponseWriter, r *http.Request, _ string) {
	refuse := func(status int, message string) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"message":%q,"documentation_url":"https://docs.example"}`, message)
	}
	token := r.Header.Get("Authorization") == "Bearer ghs_1"
	switch {
	case r.URL.Path == "/installation/token" && r.Method == http.MethodDelete && token:
		s.ended = true
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Path == "/installation/repositories" && token && !s.ended:
		_, _ = io.WriteString(w, `{"total_count":0}`)
	case !s.own(r) || s.state == "unknown-app":
		refuse(401, "Bad credentials")
	case s.state == "gone" || !strings.HasPrefix(r.URL.Path, "/app/installations/77"):
		refuse(404, "Not Found")
	case s.state == "suspended":
		refuse(403, "This installation has been suspended")
	case r.URL.Path == "/app/installations/77" && r.Method == http.MethodGet:
		_, _ = fmt.Fprintf(w, `{"id":77,"account":{"id":12345678901234567,"login":"acme"},"created_at":%q,"updated_at":%[1]q}`, s.since.UTC().Format(time.RFC3339))
	case r.URL.Path == "/app/installations/77/access_tokens" && r.Method == http.MethodPost && s.state != "broken":
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"token":"ghs_1","expires_at":%q,"permissions":{"contents":"read"}}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	default:
		_, _ = io.WriteString(w, `{}`)
	}
}

func appClient() *broker.Client {
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(appKey())}
	return &broker.Client{
		ID: "4711", Secret: broker.NewSecret(string(pem.EncodeToMemory(block))), Settings: map[string]string{"app_link": "https://house.example/apps/reader/"},
	}
}

func installing(begun time.Time) *broker.ExchangeRequest {
	return &broker.ExchangeRequest{Client: appClient(), Code: "77", Begun: begun, Callback: url.Values{"installation_id": {"77"}, "setup_action": {"install"}}}
}

func TestAppsAreInstalledAndSpokenFor(t *testing.T) {
	s, p := newHost(t)
	if f := p.Facts(); !f.Usable || !f.Interactive || !f.NeedsClient || f.CodeParam != "installation_id" || f.FreeHost {
		t.Fatalf("facts %+v", f)
	}
	goal, err := p.AuthorizeURL(&broker.AuthorizeRequest{Client: appClient(), State: "s t"})
	if err != nil || goal != "https://house.example/apps/reader/installations/new?state=s+t" {
		t.Fatal(goal, err)
	}
	got, err := p.Exchange(t.Context(), installing(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	m := got.Material
	if left := time.Until(m.ExpiresAt); m.Type != "APP" || m.Access.Reveal() != "ghs_1" || left > time.Hour || left < 59*time.Minute || got.Account != "12345678901234567" {
		t.Errorf("material %s, %v left, account %s", m.Type, left, got.Account)
	}
	if got.Config["installation_id"] != "77" || got.Config["app_id"] != "4711" || !p.Renewable(m) || p.CheckMaterial(m) != nil {
		t.Errorf("config %v", got.Config)
	}
	h := &broker.Holding{Client: appClient(), Config: got.Config, Material: m}
	if p.Endpoint(h) != strings.TrimPrefix(s.URL, "http://") {
		t.Errorf("renewed at %q", p.Endpoint(h))
	}
	shown, err := p.Present(h)
	if err != nil || shown.Headers[0].Values[0] != "Bearer ghs_1" {
		t.Error(err)
	}
	if checked, err := p.Verify(t.Context(), h); !checked || err != nil {
		t.Error(checked, err)
	}
	if again, err := p.Renew(t.Context(), h); err != nil || again.Material.Details["installation_id"].Reveal() != "77" {
		t.Error(err)
	}
	if supported, err := p.Revoke(t.Context(), h); !supported || err != nil || !s.ended {
		t.Error(supported, err)
	}
	if supported, err := p.Revoke(t.Context(), &broker.Holding{Client: appClient(), Material: &broker.Material{Access: broker.NewSecret("ended")}}); !supported || err != nil {
		t.Error(supported, err)
	}
}

// The browser names the installation, and the app's key opens every one: what was there before is not taken.
func TestInstallationsOfOthersAreNotTaken(t *testing.T) {
	s, p := newHost(t)
	s.since = time.Now().Add(-2 * time.Minute)
	for what, r := range map[string]*broker.ExchangeRequest{"an older one": installing(time.Now()), "a sign-in without a beginning": installing(time.Time{})} {
		_, err := p.Exchange(t.Context(), r)
		if e := failed(t, err); e.Class != broker.GrantLost || e.Code != "installation_not_new" {
			t.Errorf("%s: %+v", what, e)
		}
	}
	for _, code := range []string{"0", "77/../78", "-1", "7e1", "٧٧"} {
		r := installing(s.since)
		r.Code = code
		if _, err := p.Exchange(t.Context(), r); failed(t, err).Code != "variable_invalid" {
			t.Errorf("%s: %v", code, err)
		}
	}
	for _, asked := range s.requests() {
		if strings.Contains(asked, tokensPath) {
			t.Errorf("asked %s", asked)
		}
	}
	if _, err := p.Exchange(t.Context(), installing(s.since.Add(30*time.Second))); err != nil {
		t.Errorf("a clock that is behind: %v", err)
	}
}

func TestInstallationsThatAreRefused(t *testing.T) {
	s, p := newHost(t)
	h := &broker.Holding{Client: appClient(), Material: &broker.Material{Details: secrets("installation_id", "77")}}
	for state, want := range map[string]broker.FailureClass{
		"gone": broker.GrantLost, "suspended": broker.Transient, "unknown-app": broker.ClientRefused, "broken": broker.Transient,
	} {
		s.state = state
		if _, err := p.Renew(t.Context(), h); failed(t, err).Class != want {
			t.Errorf("%s: %v", state, err)
		}
	}
	s.state = ""
	for what, key := range map[string]string{"no key": "", "no RSA key": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----"} {
		c := appClient()
		c.Secret = broker.NewSecret(key)
		_, err := p.Renew(t.Context(), &broker.Holding{Client: c, Material: h.Material})
		if e := failed(t, err); e.Code != broker.ErrMisconfigured.Code || e.Class != broker.ClientRefused || strings.Contains(e.Text, "MC4") {
			t.Errorf("%s: %+v", what, e)
		}
	}
	for what, settings := range map[string]map[string]string{"no link": nil, "a script": {"app_link": "javascript:x"}} {
		if _, err := p.AuthorizeURL(&broker.AuthorizeRequest{Client: &broker.Client{ID: "1", Settings: settings}}); err == nil {
			t.Error(what)
		}
	}
}

// The app's backend knows which installation is whose.
func TestInstallationsOfABackend(t *testing.T) {
	s, p := newHost(t)
	s.since = time.Time{}
	h := &broker.Holding{Client: appClient()}
	got, err := p.Submit(t.Context(), h, secrets("app_id", "4711", "installation_id", "77"))
	if err != nil || got.Material.Access.Reveal() != "ghs_1" {
		t.Fatal(err)
	}
	if got.Account != "12345678901234567" || got.Config["account_id"] != got.Account { // as one that was just installed
		t.Errorf("account %q, config %v", got.Account, got.Config)
	}
	_, err = p.Submit(t.Context(), h, secrets("app_id", "4712", "installation_id", "77"))
	wantInvalid(t, "another app", err, "app_id")
	_, err = p.Submit(t.Context(), h, secrets("installation_id", "x"))
	wantInvalid(t, "no number", err, "installation_id")
	if err := p.CheckMaterial(&broker.Material{Details: secrets("installation_id", "x")}); !errors.Is(err, broker.ErrVariableInvalid) {
		t.Error(err)
	}
	c, err := Load(options(t, "x:\n  display_name: X\n  auth_mode: APP\n  token_url: https://x.example/tokens\n"))
	if err != nil {
		t.Fatal(err)
	}
	if found, _ := c.Provider("x"); found.Facts().Usable {
		t.Error("an address without the installation is usable")
	}
}
