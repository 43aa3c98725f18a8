package web_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/providers"
	"github.com/coatcheck/coatcheck/storage/sqlite"
	"github.com/coatcheck/coatcheck/web"
	"github.com/coatcheck/coatcheck/web/connect"
	"github.com/coatcheck/coatcheck/web/internal/kit"
	"github.com/coatcheck/coatcheck/web/static"
)

var update = flag.Bool("update", false, "write the golden files")

// site is a broker with everything mounted that the product mounts, but for the proxy.
type site struct {
	broker *broker.Broker
	store  *sqlite.DB
	deps   web.Deps
	http.Handler
}

func newSite(t *testing.T, publicURL string, envs ...broker.Environment) *site {
	t.Helper()
	store, err := sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { _ = store.Close() }) // one test does so itself
	catalogue, err := providers.Load(providers.Options{Builtin: []byte("open:\n  display_name: Open\n  categories: [other]\n  docs: https://docs.test\n  auth_mode: NONE\n")})
	must(t, err)
	logger := slog.New(slog.DiscardHandler)
	b, err := broker.New(t.Context(), broker.Config{
		Store: store, Sealer: newSealer(t), Catalogue: catalogue, Now: time.Now, Logger: logger, PublicURL: publicURL,
	})
	must(t, err)
	declared := make([]broker.DeclaredEnvironment, len(envs))
	for i, e := range envs {
		e.Start = broker.StartAuto
		declared[i].Environment = e
	}
	must(t, b.Declare(t.Context(), declared))
	assets := static.New()
	ui, err := connect.New(connect.Deps{
		Broker: b, Assets: assets, FormKey: bytes.Repeat([]byte{1}, 32),
		CookieKeys: []connect.CookieKeys{{Hash: bytes.Repeat([]byte{2}, 32), Block: bytes.Repeat([]byte{3}, 32)}},
	})
	must(t, err)
	s := &site{broker: b, store: store, deps: web.Deps{
		Broker: b, Proxy: http.NotFoundHandler(), Carrier: carrier{}, Connect: ui, Pages: []web.Surface{assets.Surface()}, Logger: logger,
	}}
	s.Handler = web.New(s.deps)
	return s
}

// carrier is the proxy of surfaces that nobody calls here.
type carrier struct{}

func (carrier) Carry(http.ResponseWriter, *http.Request, kit.Errand) error {
	return broker.ErrNotSupported
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sealer is what the broker asks of package crypto.
type sealer struct{ *crypto.Keyring }

func (sealer) NewAPIKey(environment string) (key, id string) { return crypto.NewAPIKey(environment) }

func newSealer(t *testing.T) broker.Sealer {
	t.Helper()
	var identity bytes.Buffer
	_, err := crypto.GenerateIdentity(&identity, time.Now())
	must(t, err)
	ids, err := crypto.ParseIdentities(&identity)
	must(t, err)
	key, err := crypto.NewKey(1, ids, time.Now())
	must(t, err)
	ring, err := crypto.OpenKeyring([]crypto.WrappedKey{key}, ids)
	must(t, err)
	return sealer{ring}
}

// Every endpoint there is, who may call it, and how much it takes: a new one shows up in review.
func TestRoutes(t *testing.T) {
	const golden = "testdata/routes.golden"
	got := web.Table(newSite(t, "https://connect.example.com").deps)
	if *update {
		must(t, os.WriteFile(golden, []byte(got), 0o600))
		return
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if got != string(want) {
		t.Errorf("the routes have changed; if that is meant, run the test with -update\n%s", got)
	}
}

func get(h http.Handler, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHealth(t *testing.T) {
	s := newSite(t, "https://connect.example.com")
	stop := make(chan struct{})
	s.deps.Stopping = stop
	h := web.New(s.deps)
	check := func(when string, ready int, words ...string) {
		t.Helper()
		for i, path := range []string{"/health", "/livez", "/Ready/", "/readyz"} {
			want := http.StatusOK
			if i >= 2 {
				want = ready
			}
			var body struct{ Result string }
			got := get(h, path)
			must(t, json.NewDecoder(got.Body).Decode(&body))
			if got.Code != want || body.Result != words[i] {
				t.Errorf("%s, %s: got %d %q", when, path, got.Code, body.Result)
			}
			if i == 0 && got.Header().Get("Strict-Transport-Security") == "" {
				t.Error("https is not for ever")
			}
		}
	}
	check("in order", http.StatusOK, "ok", "ok", "ok", "ok")
	close(stop)
	check("stopping", http.StatusServiceUnavailable, "ok", "ok", "not ready", "not ok")
}

func TestNotReadyWithoutTheStore(t *testing.T) {
	s := newSite(t, "https://connect.example.com")
	must(t, s.store.Close())
	got := get(s, "/ready")
	if got.Code != http.StatusServiceUnavailable || got.Body.String() != `{"result":"not ready"}` {
		t.Errorf("got %d %s", got.Code, got.Body)
	}
}

// Which pages may read what a session is answered.
func TestOrigins(t *testing.T) {
	const public, local = "https://connect.example.com", "http://localhost:3003"
	open, bound := broker.Environment{Name: "open"}, broker.Environment{Name: "bound", AllowedOrigins: []string{"https://app.test", "https://two.test"}}
	for name, c := range map[string]struct {
		url, env  string
		envs      []broker.Environment
		session   []string // the session's own origins
		origin    string
		want      string
		preflight string
	}{
		"none configured":              {public, "open", []broker.Environment{open}, nil, "https://any.test", "*", "*"},
		"configured":                   {public, "bound", []broker.Environment{bound}, nil, "https://app.test", "https://app.test", "https://app.test"},
		"not configured":               {public, "bound", []broker.Environment{bound}, nil, "https://any.test", "", ""},
		"the session's":                {public, "bound", []broker.Environment{bound}, []string{"https://two.test"}, "https://two.test", "https://two.test", "https://two.test"},
		"not the session's":            {public, "bound", []broker.Environment{bound}, []string{"https://two.test"}, "https://app.test", "", "https://app.test"},
		"another environment's":        {public, "open", []broker.Environment{open, bound}, nil, "https://any.test", "*", "*"},
		"not for another environment":  {public, "bound", []broker.Environment{open, bound}, nil, "https://any.test", "", "*"},
		"here, and from here":          {local, "open", []broker.Environment{open}, nil, "http://localhost:8080", "http://localhost:8080", "http://localhost:8080"},
		"here, and from elsewhere":     {local, "open", []broker.Environment{open}, nil, "https://any.test", "", ""},
		"here, as configured":          {local, "bound", []broker.Environment{bound}, nil, "https://app.test", "https://app.test", "https://app.test"},
		"here, though others are told": {local, "bound", []broker.Environment{bound}, nil, "http://localhost:8080", "", ""},
		"null":                         {local, "open", []broker.Environment{open}, nil, "null", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, c.url, c.envs...)
			env, err := s.broker.EnvironmentNamed(c.env)
			must(t, err)
			_, token, err := s.broker.CreateSession(t.Context(), broker.System(env.ID), broker.SessionInput{AllowedOrigins: c.session})
			must(t, err)
			got := get(s, "/connect/session", "Authorization", "Bearer "+token.Reveal(), "Origin", c.origin)
			if o := got.Header().Get("Access-Control-Allow-Origin"); got.Code != http.StatusOK || o != c.want {
				t.Errorf("got %d %q, want %q", got.Code, o, c.want)
			}
			r := httptest.NewRequest(http.MethodOptions, "/connect/session", nil)
			r.Header.Set("Origin", c.origin)
			r.Header.Set("Access-Control-Request-Method", http.MethodGet)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if o := w.Header().Get("Access-Control-Allow-Origin"); o != c.preflight {
				t.Errorf("preflight: got %q, want %q", o, c.preflight)
			}
		})
	}
}

// API keys do not belong into browsers: whatever is configured, no page may read what they are answered.
func TestKeysGetNoOrigins(t *testing.T) {
	s := newSite(t, "https://connect.example.com", broker.Environment{Name: "dev", AllowedOrigins: []string{"https://app.test"}})
	env, err := s.broker.EnvironmentNamed("dev")
	must(t, err)
	key, _, err := s.broker.CreateAPIKey(t.Context(), broker.System(env.ID), env, broker.KeyInput{Name: "a", Scopes: broker.Scopes{broker.ScopeAll}})
	must(t, err)
	for _, path := range []string{"/connections", "/integrations", "/providers", "/providers/open", "/connect/session", "/health", "/nothing"} {
		got := get(s, path, "Authorization", "Bearer "+key.Reveal(), "Origin", "https://app.test")
		for name := range got.Header() {
			if name == "Access-Control-Allow-Origin" || name == "Access-Control-Allow-Credentials" {
				t.Errorf("%s: %s is %q", path, name, got.Header().Get(name))
			}
		}
	}
}
