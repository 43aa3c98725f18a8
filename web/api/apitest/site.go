package apitest

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/providers"
	"github.com/coatcheck/coatcheck/web"
	"github.com/coatcheck/coatcheck/web/connect"
	"github.com/coatcheck/coatcheck/web/proxy"
	"github.com/coatcheck/coatcheck/web/static"
)

// Start is when every test begins.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// The preset keys of the environments dev and other. Both look as a key that another broker made.
const (
	Key      = "11111111-2222-4333-8444-555555555555"
	OtherKey = "99999999-2222-4333-8444-555555555555"
)

// PublicURL is where a site is, unless [Options] say otherwise.
const PublicURL = "https://connect.example.com"

// Options are what differs between the sites of different tests.
type Options struct {
	// Catalogue is YAML in the form of providers.yaml. Every entry is answered for by the doubles.
	Catalogue []byte
	// Integrations are those of dev, Others those of the environment other.
	Integrations, Others []broker.IntegrationInput
	// Declare may change the two environments before they are made.
	Declare func(dev, other *broker.DeclaredEnvironment)
	// Provider may answer for the providers' authorization pages, token endpoints and verifications, and reports whether
	// it did. A form that was sent is in PostForm, and the body can be read. nil: [Site] answers as it says there.
	Provider func(w http.ResponseWriter, r *http.Request) bool
	// Upstream may answer for the providers' APIs in the same way.
	Upstream func(w http.ResponseWriter, r *http.Request) bool
	// Connect mounts the Connect UI, without which nobody can sign in.
	Connect bool
	// Mount may change what is mounted: to add surfaces, append them to Pages.
	Mount func(d *web.Deps)
	// Encode writes webhooks. nil: as in the Nango-compatible API.
	Encode    func(*broker.Notice) ([]byte, error)
	PublicURL string // empty: [PublicURL]
}

// Site is a broker on a database of its own with everything mounted that the product mounts, and doubles outside. Its environments are
// dev, whose key is [Key], and other, whose key is [OtherKey].
//
// The double of the providers agrees to every sign-in and gives tokens for every code. How a renewal ends is said by the
// refresh token: "revoked", "down" and "garbled" fail in these ways. An API key in X-Api-Key verifies unless it is
// "refused". The double of their APIs answers with what it was sent, as JSON, but for a few paths: /guarded wants a renewed
// token, /created makes something, and /unreachable is not reached.
type Site struct {
	Broker  *broker.Broker
	Config  broker.Config // which the broker was made with
	Handler http.Handler
	// Env is dev and Other the other environment.
	Env, Other *broker.Environment
	Log        *Journal
	Asked      atomic.Int64 // requests that providers got
	Called     atomic.Int64 // calls that went through the proxy to their APIs
	// Told has the webhooks, once [Site.Run] lets the broker send them.
	Told chan Hook

	options Options
	clock   atomic.Int64      // added to Start
	keys    map[string]string // by scopes
}

// New makes a site, which ends with the test.
func New(t testing.TB, o Options) *Site {
	t.Helper()
	s := &Site{Log: new(Journal), Told: make(chan Hook, 100), options: o, keys: make(map[string]string)}
	s.Config = broker.Config{
		Store: openStore(t, s.Now), Sealer: newSealer(t), Catalogue: s.catalogue(t), Now: s.Now, Logger: slog.New(slog.NewJSONHandler(s.Log, nil)),
		PublicURL: cmp.Or(o.PublicURL, PublicURL), Courier: s.courier(t),
	}
	var err error
	s.Broker, err = broker.New(t.Context(), s.Config)
	must(t, err)
	s.declare(t)
	for _, in := range o.Integrations {
		s.Integrate(t, s.Env, in)
	}
	for _, in := range o.Others {
		s.Integrate(t, s.Other, in)
	}
	s.mount(t)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *Site) catalogue(t testing.TB) broker.Catalogue {
	t.Helper()
	c, err := providers.Load(providers.Options{
		Builtin: s.options.Catalogue, Client: &http.Client{Transport: transport(s.provider)}, Certified: certified(s.provider), Now: s.Now,
	})
	must(t, err)
	must(t, c.Check())
	return c
}

// Declared is an environment with a preset key, as it is configured.
func Declared(name, key string) broker.DeclaredEnvironment {
	return broker.DeclaredEnvironment{Environment: broker.Environment{Name: name, Start: broker.StartAuto}, SecretKey: broker.NewSecret(key)}
}

func (s *Site) declare(t testing.TB) {
	t.Helper()
	dev, other := Declared("dev", Key), Declared("other", OtherKey)
	if s.options.Declare != nil {
		s.options.Declare(&dev, &other)
	}
	must(t, s.Broker.Declare(t.Context(), []broker.DeclaredEnvironment{dev, other}))
	var err error
	s.Env, err = s.Broker.EnvironmentNamed("dev")
	must(t, err)
	s.Other, err = s.Broker.EnvironmentNamed("other")
	must(t, err)
}

// mount puts the surfaces together as cmd/coatcheck does.
func (s *Site) mount(t testing.TB) {
	t.Helper()
	out := proxy.New(proxy.Options{Broker: s.Broker, Transport: transport(s.upstream), Certified: certified(s.upstream), Now: s.Now, Logger: s.Config.Logger})
	t.Cleanup(func() { must(t, out.Close()) })
	deps := web.Deps{Broker: s.Broker, Proxy: out, Carrier: out, Logger: s.Config.Logger}
	if s.options.Connect {
		assets := static.New()
		ui, err := connect.New(connect.Deps{
			Broker: s.Broker, Assets: assets, FormKey: bytes.Repeat([]byte{1}, 32),
			CookieKeys: []connect.CookieKeys{{Hash: bytes.Repeat([]byte{2}, 32), Block: bytes.Repeat([]byte{3}, 32)}},
		})
		must(t, err)
		deps.Connect, deps.Pages = ui, []web.Surface{assets.Surface()}
	}
	if s.options.Mount != nil {
		s.options.Mount(&deps)
	}
	s.Handler = web.New(deps)
}

// Now is the time, which stands still until [Site.Advance] moves it.
func (s *Site) Now() time.Time { return Start.Add(time.Duration(s.clock.Load())) }

// Advance moves the clock.
func (s *Site) Advance(d time.Duration) { s.clock.Add(int64(d)) }

// Run lets the broker do its work in the background, webhooks among it, until the test ends.
func (s *Site) Run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Broker.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
}

// Integrate makes an integration.
func (s *Site) Integrate(t testing.TB, env *broker.Environment, in broker.IntegrationInput) {
	t.Helper()
	_, err := s.Broker.CreateIntegration(t.Context(), broker.System(env.ID), in)
	must(t, err)
}

// Key gives an API key of dev with some scopes, the same one each time.
func (s *Site) Key(t testing.TB, scopes ...string) string {
	t.Helper()
	return s.keyNamed(t, "dev: ", scopes, func(in broker.KeyInput) (broker.Secret, *broker.APIKey, error) {
		return s.Broker.CreateAPIKey(t.Context(), broker.System(s.Env.ID), s.Env, in)
	})
}

// AccountKey gives an API key of the account with some scopes, all of them if none are named; the same one each time.
func (s *Site) AccountKey(t testing.TB, scopes ...string) string {
	t.Helper()
	if len(scopes) == 0 {
		scopes = []string{string(broker.ScopeAccount)}
	}
	return s.keyNamed(t, "account: ", scopes, func(in broker.KeyInput) (broker.Secret, *broker.APIKey, error) {
		return s.Broker.CreateAccountKey(t.Context(), broker.System(""), in)
	})
}

func (s *Site) keyNamed(t testing.TB, of string, scopes []string, create func(broker.KeyInput) (broker.Secret, *broker.APIKey, error)) string {
	t.Helper()
	name := of + strings.Join(scopes, " ")
	if s.keys[name] == "" {
		parsed, err := broker.ParseScopes(scopes)
		must(t, err)
		key, _, err := create(broker.KeyInput{Name: "key " + strconv.Itoa(len(s.keys)), Scopes: parsed})
		must(t, err)
		s.keys[name] = key.Reveal()
	}
	return s.keys[name]
}

// Session makes a connect session of dev and gives its token.
func (s *Site) Session(t testing.TB, in broker.SessionInput) string {
	t.Helper()
	_, token, err := s.Broker.CreateSession(t.Context(), broker.System(s.Env.ID), in)
	must(t, err)
	return token.Reveal()
}

// Send sends a request with dev's key, unless the headers say otherwise. They are name, value, name, value.
func (s *Site) Send(t testing.TB, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := newRequest(t, method, target, body)
	r.Header.Set("Authorization", "Bearer "+Key)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return s.serve(r)
}

// newRequest makes a request as a server gets it. A body is JSON.
func newRequest(t testing.TB, method, target, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func (s *Site) serve(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	return w
}

// Journal is a log that can be read while it is written.
type Journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// sealer is what the broker asks of package crypto.
type sealer struct{ *crypto.Keyring }

func (sealer) NewAPIKey(environment string) (key, id string) { return crypto.NewAPIKey(environment) }

func newSealer(t testing.TB) broker.Sealer {
	t.Helper()
	var identity bytes.Buffer
	_, err := crypto.GenerateIdentity(&identity, Start)
	must(t, err)
	ids, err := crypto.ParseIdentities(&identity)
	must(t, err)
	dataKey, err := crypto.NewKey(1, ids, Start)
	must(t, err)
	ring, err := crypto.OpenKeyring([]crypto.WrappedKey{dataKey}, ids)
	must(t, err)
	return sealer{ring}
}
