package nango_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/providers"
	"github.com/coatcheck/coatcheck/providers/egress"
	"github.com/coatcheck/coatcheck/storage/sqlite"
	"github.com/coatcheck/coatcheck/web"
	"github.com/coatcheck/coatcheck/web/api/nango"
	"github.com/coatcheck/coatcheck/web/hooks"
	"github.com/coatcheck/coatcheck/web/proxy"
)

// start is when every test begins.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// The keys that exist in every test. Both look as a key that another broker made.
const (
	secretKey = "11111111-2222-4333-8444-555555555555"
	otherKey  = "99999999-2222-4333-8444-555555555555"
)

// site is the whole of it: a broker on SQLite, mounted as in the product, with providers that a test answers for.
type site struct {
	broker  *broker.Broker
	config  broker.Config
	handler http.Handler
	env     *broker.Environment
	log     *bytes.Buffer
	keys    map[string]string // by scopes
	clock   atomic.Int64      // added to start
	asked   atomic.Int64      // requests that providers got
	called  atomic.Int64      // calls that went through the proxy
	told    chan hook
}

func (s *site) now() time.Time { return start.Add(time.Duration(s.clock.Load())) }

const publicURL = "https://connect.example.com"

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{log: new(bytes.Buffer), keys: make(map[string]string)}
	store, err := sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir(), Now: s.now})
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	logger := slog.New(slog.NewJSONHandler(s.log, nil))
	s.config = broker.Config{
		Store: store, Sealer: newSealer(t), Catalogue: s.catalogue(t), Now: s.now, Logger: logger, PublicURL: publicURL,
		Courier: s.newCourier(t),
	}
	s.broker, err = broker.New(t.Context(), s.config)
	must(t, err)
	second := declared("other", otherKey)
	second.Webhook.Key = broker.NewSecret("a-signing-key-that-is-configured")
	must(t, s.broker.Declare(t.Context(), []broker.DeclaredEnvironment{declared("dev", secretKey), second}))
	s.env, err = s.broker.EnvironmentNamed("dev")
	must(t, err)
	for _, in := range integrations() {
		s.integrate(t, s.env, in)
	}
	other, err := s.broker.EnvironmentNamed("other")
	must(t, err)
	s.integrate(t, other, integrations()[0])
	out := proxy.New(proxy.Options{Broker: s.broker, Transport: transport(s.upstream), Now: s.now, Logger: logger})
	t.Cleanup(func() { must(t, out.Close()) })
	s.handler = web.New(web.Deps{Broker: s.broker, Proxy: out, Logger: logger})
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func declared(name, key string) broker.DeclaredEnvironment {
	return broker.DeclaredEnvironment{Environment: broker.Environment{Name: name, Start: broker.StartAuto}, SecretKey: broker.NewSecret(key)}
}

// integrations are those of every test, one of each kind of credential.
func integrations() []broker.IntegrationInput {
	return []broker.IntegrationInput{
		{
			Key: "code-prod", Provider: "code", ClientID: "client-1", ClientSecret: broker.NewSecret("client-secret-1"),
			Scopes: []string{"read", "write"}, WebhookSecret: broker.NewSecret("webhook-secret-1"), ForwardWebhooks: true,
		},
		{Key: "mail-prod", Provider: "mail", DisplayName: "Team Mail"},
		{Key: "ledger-prod", Provider: "ledger"},
		{Key: "robots-prod", Provider: "robots"},
		{Key: "open-prod", Provider: "open"},
		{Key: "hosted-prod", Provider: "hosted"},
	}
}

func (s *site) integrate(t testing.TB, env *broker.Environment, in broker.IntegrationInput) {
	t.Helper()
	_, err := s.broker.CreateIntegration(t.Context(), broker.System(env.ID), in)
	must(t, err)
}

// key gives an API key of dev with some scopes.
func (s *site) key(t testing.TB, scopes ...string) string {
	t.Helper()
	name := strings.Join(scopes, " ")
	if s.keys[name] == "" {
		parsed, err := broker.ParseScopes(scopes)
		must(t, err)
		key, _, err := s.broker.CreateAPIKey(t.Context(), broker.System(s.env.ID), s.env, broker.KeyInput{Name: "key " + strconv.Itoa(len(s.keys)), Scopes: parsed})
		must(t, err)
		s.keys[name] = key.Reveal()
	}
	return s.keys[name]
}

// accountKey gives an API key of the account with some scopes; all of them if none are named.
func (s *site) accountKey(t testing.TB, scopes ...string) string {
	t.Helper()
	if len(scopes) == 0 {
		scopes = []string{string(broker.ScopeAccount)}
	}
	name := "account: " + strings.Join(scopes, " ")
	if s.keys[name] == "" {
		parsed, err := broker.ParseScopes(scopes)
		must(t, err)
		key, _, err := s.broker.CreateAccountKey(t.Context(), broker.System(""), broker.KeyInput{Name: "key " + strconv.Itoa(len(s.keys)), Scopes: parsed})
		must(t, err)
		s.keys[name] = key.Reveal()
	}
	return s.keys[name]
}

// session makes a connect session of dev.
func (s *site) session(t testing.TB, in broker.SessionInput) string {
	t.Helper()
	_, token, err := s.broker.CreateSession(t.Context(), broker.System(s.env.ID), in)
	must(t, err)
	return token.Reveal()
}

// catalogue is a small one, whose providers are answered for by [site.provider].
func (s *site) catalogue(t testing.TB) broker.Catalogue {
	t.Helper()
	raw, err := os.ReadFile("testdata/providers.yaml")
	must(t, err)
	c, err := providers.Load(providers.Options{Builtin: raw, Client: &http.Client{Transport: roundTripper(s.provider)}, Now: s.now})
	must(t, err)
	must(t, c.Check())
	return c
}

type roundTripper func(*http.Request) *http.Response

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	res := f(r)
	res.Request = r
	return res, nil
}

// provider answers for every provider. What a token request gets is said by the refresh token that comes with it, and
// what a verification gets by the key.
func (s *site) provider(r *http.Request) *http.Response {
	s.asked.Add(1)
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	var form url.Values
	if r.Body != nil {
		body, _ := io.ReadAll(r.Body)
		form, _ = url.ParseQuery(string(body))
	}
	switch {
	case r.Header.Get("X-Api-Key") == "refused":
		w.WriteHeader(http.StatusUnauthorized)
	case r.Header.Get("X-Api-Key") != "":
		_, _ = io.WriteString(w, `{}`)
	case form.Get("refresh_token") == "revoked":
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"gone"}`)
	case form.Get("refresh_token") == "down":
		w.WriteHeader(http.StatusInternalServerError)
	case form.Get("refresh_token") == "garbled":
		_, _ = io.WriteString(w, `<html>`)
	case form.Get("grant_type") == "refresh_token":
		_, _ = io.WriteString(w, `{"access_token":"renewed","refresh_token":"rotated","token_type":"bearer","expires_in":3600,"id":12345678901234567890,"nested":[{"Refresh-Token":"also"}]}`)
	default:
		_, _ = io.WriteString(w, `{"access_token":"from-client","token_type":"bearer","expires_in":3600}`)
	}
	return w.Result()
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := f(r)
	if err == nil {
		res.Request = r
	}
	return res, err
}

// seen is what a provider's API tells of a call.
type seen struct {
	Method        string `json:"method"`
	URI           string `json:"uri"`
	Authorization string `json:"authorization,omitempty"`
	APIKey        string `json:"x_api_key,omitempty"`
	ContentType   string `json:"content_type,omitempty"`
	Body          string `json:"body"`
}

// upstream answers for every provider's API: with what it was sent, or as the path says.
func (s *site) upstream(r *http.Request) (*http.Response, error) {
	s.called.Add(1)
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	w := httptest.NewRecorder()
	switch path := r.URL.Path; {
	case path == "/unreachable":
		return nil, errors.New("no route")
	case path == "/guarded" && r.Header.Get("Authorization") != "Bearer renewed":
		w.WriteHeader(http.StatusUnauthorized)
	case path == "/created":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Link", `</created?page=2>; rel="next"`)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"created":true}`)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(seen{r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"), r.Header.Get("Content-Type"), string(body)})
	}
	return w.Result(), nil
}

// newCourier judges addresses as the product does. What it delivers, once a test lets the broker run, goes to s.told.
func (s *site) newCourier(t testing.TB) broker.Courier {
	t.Helper()
	s.told = make(chan hook, 100)
	policy, err := egress.New(egress.Options{})
	must(t, err)
	return hooks.New(hooks.Options{
		Client: &http.Client{Transport: transport(s.receive)}, Encode: nango.Hook, UserAgent: "test",
		CheckURL: func(raw string) error {
			_, err := policy.CheckURL(raw, egress.URLOptions{Literal: true})
			return err
		},
	})
}

// hook is a webhook as an app gets it.
type hook struct {
	url, body string
	header    http.Header
}

func (s *site) receive(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.told <- hook{r.URL.String(), string(body), r.Header}
	return httptest.NewRecorder().Result(), nil
}

// sealer is what the broker asks of package crypto.
type sealer struct{ *crypto.Keyring }

func (sealer) NewAPIKey(environment string) (key, id string) { return crypto.NewAPIKey(environment) }

func newSealer(t testing.TB) broker.Sealer {
	t.Helper()
	var identity bytes.Buffer
	_, err := crypto.GenerateIdentity(&identity, start)
	must(t, err)
	ids, err := crypto.ParseIdentities(&identity)
	must(t, err)
	dataKey, err := crypto.NewKey(1, ids, start)
	must(t, err)
	ring, err := crypto.OpenKeyring([]crypto.WrappedKey{dataKey}, ids)
	must(t, err)
	return sealer{ring}
}
