package broker_test

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// logBuffer collects the log.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// rig is a broker on a real SQLite file with a provider that tests control.
type rig struct {
	t        testing.TB
	dir      string
	clock    *clock
	log      *logBuffer
	identity *crypto.Identities
	keyring  *crypto.Keyring
	store    broker.Store
	provider *fakeProvider
	broker   *broker.Broker
	who      broker.Actor // a key that may do everything
	reserve  broker.Reserve
	courier  broker.Courier
	webhook  broker.DeclaredWebhook
	wrap     func(broker.Store) broker.Store
	origins  []string // that the environment allows
	drain    time.Duration
	perHost  int
}

const publicURL = "https://connect.example.com"

func newRig(t testing.TB, options ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), clock: newClock(), log: &logBuffer{}, provider: newFakeProvider()}
	r.provider.now = r.clock.Now
	var identity bytes.Buffer
	if _, err := crypto.GenerateIdentity(&identity, r.clock.Now()); err != nil {
		t.Fatal(err)
	}
	ids, err := crypto.ParseIdentities(&identity)
	if err != nil {
		t.Fatal(err)
	}
	r.identity = ids
	for _, o := range options {
		o(r)
	}
	r.start()
	return r
}

// start opens the store and makes a broker on it: also after stop, as a process that starts again.
func (r *rig) start() {
	r.t.Helper()
	ctx := r.t.Context()
	db, err := sqlite.Open(ctx, sqlite.Options{Dir: r.dir, Exclusive: true, Now: r.clock.Now})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = db.Close() })
	r.serve(db)
}

// serve makes a broker on a store that is open.
func (r *rig) serve(db broker.Store) {
	r.t.Helper()
	ctx := r.t.Context()
	var err error
	r.store = db
	if r.wrap != nil {
		r.store = r.wrap(db)
	}
	r.openKeys(ctx)
	r.broker, err = broker.New(ctx, broker.Config{
		Store: r.store, Sealer: sealer{r.keyring}, Catalogue: r.provider, Now: r.clock.Now, Reserve: r.reserve, Courier: r.courier,
		Logger: slog.New(slog.NewJSONHandler(r.log, nil)), PublicURL: publicURL, RefreshPerHost: cmp.Or(r.perHost, 64), Drain: r.drain,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.declare(ctx)
}

func (r *rig) openKeys(ctx context.Context) {
	r.t.Helper()
	stored, err := r.store.Keys(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(stored) == 0 {
		k, err := crypto.NewKey(1, r.identity, r.clock.Now())
		if err != nil {
			r.t.Fatal(err)
		}
		if err := r.store.AddKey(ctx, broker.WrappedKey(k)); err != nil {
			r.t.Fatal(err)
		}
		stored = []broker.WrappedKey{broker.WrappedKey(k)}
	}
	keys := make([]crypto.WrappedKey, len(stored))
	for i, k := range stored {
		keys[i] = crypto.WrappedKey(k)
	}
	if r.keyring, err = crypto.OpenKeyring(keys, r.identity); err != nil {
		r.t.Fatal(err)
	}
}

type sealer struct{ *crypto.Keyring }

func (sealer) NewAPIKey(env string) (key, id string) { return crypto.NewAPIKey(env) }

const rigKey = "a-preset-key-of-the-tests"

// declare configures one environment with two integrations of the fake provider.
func (r *rig) declare(ctx context.Context) {
	r.t.Helper()
	err := r.broker.Declare(ctx, r.declared())
	if err != nil {
		r.t.Fatal(err)
	}
	if r.who, err = r.broker.Authenticate(rigKey); err != nil {
		r.t.Fatal(err)
	}
}

// declared is what the configuration file says.
func (r *rig) declared() []broker.DeclaredEnvironment {
	return []broker.DeclaredEnvironment{{
		Environment: broker.Environment{Name: "dev", AllowedOrigins: r.origins, ReturnURLs: []string{"https://app.example.com/done"}},
		SecretKey:   broker.NewSecret(rigKey),
		Webhook:     r.webhook,
		Integrations: []broker.IntegrationInput{
			{Key: "one", Provider: "fake", ClientID: "client", ClientSecret: broker.NewSecret("client-secret"), Scopes: []string{"read"}},
			{Key: "typed", Provider: "typed"},
		},
	}}
}

// run does the background work until the returned function is called.
func (r *rig) run() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	b := r.broker
	go func() { done <- b.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				r.t.Errorf("Run: %v", err)
			}
		})
	}
	r.t.Cleanup(stop)
	return stop
}

// imported makes a connection with a token of the provider that lives for life.
func (r *rig) imported(key string, life time.Duration) broker.ConnectionRef {
	r.t.Helper()
	access, refresh := r.provider.issue(life)
	m := &broker.Material{Type: "OAUTH2", Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh)}
	if life > 0 {
		m.ExpiresAt = r.clock.Now().Add(life)
	}
	_, _, err := r.broker.Import(r.t.Context(), r.who, broker.ImportInput{Integration: "one", Key: key, Material: m})
	if err != nil {
		r.t.Fatal(err)
	}
	return broker.ConnectionRef{Integration: "one", Key: key}
}

// importToken imports a credential as it is.
func (r *rig) importToken(key string, m broker.Material) *broker.Connection {
	r.t.Helper()
	m.Type = "OAUTH2"
	got, _, err := r.broker.Import(r.t.Context(), r.who, broker.ImportInput{Integration: "one", Key: key, Material: &m})
	if err != nil {
		r.t.Fatal(err)
	}
	return got.Connection
}

// reveal reads a token and fails the test if that does not work.
func (r *rig) reveal(ref broker.ConnectionRef) *broker.Revealed {
	r.t.Helper()
	got, err := r.broker.Reveal(r.t.Context(), r.who, ref, broker.RevealOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// session makes a connect session and its actor.
func (r *rig) session(in broker.SessionInput) (broker.Actor, *broker.Session) {
	r.t.Helper()
	s, token, err := r.broker.CreateSession(r.t.Context(), r.who, in)
	if err != nil {
		r.t.Fatal(err)
	}
	who, err := r.broker.AuthenticateSession(r.t.Context(), token.Reveal())
	if err != nil {
		r.t.Fatal(err)
	}
	return who, s
}
