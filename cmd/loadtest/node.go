package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/providers"
	"github.com/coatcheck/coatcheck/providers/egress"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// Names in every database of a run.
const (
	environment  = "dev"
	integration  = "upstream"
	provider     = "loadtest"
	clientID     = "loadtest-client"
	clientSecret = "loadtest-client-secret"
	publicURL    = "http://localhost:3003"
	identityFile = "identity.txt"
	overlayFile  = "loadtest.yaml"
)

// entry describes the run's own API and token endpoint to the broker.
const entry = `loadtest:
  display_name: Load test
  categories: [dev-tools]
  auth_mode: OAUTH2
  authorization_url: %[1]s/authorize
  token_url: %[1]s/token
  token_auth_method: client_secret_post
  docs: https://datatracker.ietf.org/doc/html/rfc6749
  refresh_rotation: "yes"
  proxy:
    base_url: %[1]s
`

// nodeOptions say what a broker inside this process is like.
type nodeOptions struct {
	dir     string
	origin  string // of the API and the token endpoint
	cached  int    // connections in the cache; zero: the broker's default
	perHost int    // renewals under way at a time; zero: the broker's default
	wrap    func(broker.Store) broker.Store
}

// node is a broker inside this process, on what the real one stands on: SQLite, the keyring, the catalogue.
type node struct {
	db       *sqlite.DB
	broker   *broker.Broker
	recorder *recorder
	egress   *egress.Policy
	who      broker.Actor
	upstream broker.IntegrationID
}

// open opens a data directory, which is made if it is not there.
func (l *lab) open(ctx context.Context, o nodeOptions) (_ *node, err error) {
	if err := prepareDir(o.dir, o.origin); err != nil {
		return nil, err
	}
	n := new(node)
	if n.egress, err = egress.New(egress.Options{Allow: []string{"127.0.0.1"}, Dev: true}); err != nil {
		return nil, err
	}
	catalogue, err := n.catalogue(o.dir)
	if err != nil {
		return nil, err
	}
	ids, err := crypto.LoadIdentityFile(filepath.Join(o.dir, identityFile))
	if err != nil {
		return nil, err
	}
	if n.db, err = sqlite.Open(ctx, sqlite.Options{Dir: o.dir, Exclusive: true, Now: time.Now}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.db.Close())
		}
	}()
	ring, err := keyring(ctx, n.db, ids)
	if err != nil {
		return nil, err
	}
	n.recorder = &recorder{Keyring: ring}
	config := broker.Config{
		Store: n.db, Sealer: n.recorder, Catalogue: catalogue, Now: time.Now, Logger: slog.New(slog.DiscardHandler), PublicURL: publicURL,
		CacheEntries: o.cached, RefreshPerHost: o.perHost, RefreshConcurrency: o.perHost,
	}
	if o.wrap != nil {
		config.Store = o.wrap(n.db)
	}
	if n.broker, err = broker.New(ctx, config); err != nil {
		return nil, err
	}
	return n, n.declare(ctx, l.apiKey)
}

func (n *node) close() error { return n.db.Close() }

// prepareDir puts an identity and the catalogue's overlay into a data directory.
func prepareDir(dir, origin string) error {
	if err := os.WriteFile(filepath.Join(dir, overlayFile), fmt.Appendf(nil, entry, origin), 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, identityFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = crypto.GenerateIdentity(f, time.Now())
	return errors.Join(err, f.Close())
}

func (n *node) catalogue(dir string) (*providers.Catalogue, error) {
	overlay, err := os.ReadFile(filepath.Join(dir, overlayFile))
	if err != nil {
		return nil, err
	}
	return providers.Load(providers.Options{
		Builtin: coatcheck.Catalogue, Overlays: []providers.File{{Name: overlayFile, Data: overlay}}, Client: n.egress.TokenClient(), Now: time.Now,
		CheckURL: func(raw string, literal bool) (*url.URL, error) {
			return n.egress.CheckURL(raw, egress.URLOptions{Literal: literal})
		},
	})
}

// keyring opens the database's data key, or makes it.
func keyring(ctx context.Context, db *sqlite.DB, ids *crypto.Identities) (*crypto.Keyring, error) {
	stored, err := db.Keys(ctx)
	if err != nil {
		return nil, err
	}
	if len(stored) == 0 {
		k, err := crypto.NewKey(1, ids, time.Now().UTC().Truncate(time.Microsecond))
		if err != nil {
			return nil, err
		}
		if err := db.AddKey(ctx, broker.WrappedKey(k)); err != nil {
			return nil, err
		}
		stored = []broker.WrappedKey{broker.WrappedKey(k)}
	}
	keys := make([]crypto.WrappedKey, len(stored))
	for i, k := range stored {
		keys[i] = crypto.WrappedKey(k)
	}
	return crypto.OpenKeyring(keys, ids)
}

// declare writes what the configuration file of the real broker says too.
func (n *node) declare(ctx context.Context, apiKey string) error {
	err := n.broker.Declare(ctx, []broker.DeclaredEnvironment{{
		Environment: broker.Environment{Name: environment},
		SecretKey:   broker.NewSecret(apiKey),
		Integrations: []broker.IntegrationInput{{
			Key: integration, Provider: provider, ClientID: clientID, ClientSecret: broker.NewSecret(clientSecret), ForwardWebhooks: true,
		}},
	}})
	if err != nil {
		return err
	}
	if n.who, err = n.broker.Authenticate(apiKey); err != nil {
		return err
	}
	i, _, err := n.broker.Integration(ctx, n.who, integration)
	if err != nil {
		return err
	}
	n.upstream = i.ID
	return nil
}

// bring imports a credential as a connection.
func (n *node) bring(ctx context.Context, key string, m *broker.Material) (*broker.Connection, error) {
	m.Type = "OAUTH2"
	r, _, err := n.broker.Import(ctx, n.who, broker.ImportInput{Integration: integration, Key: key, Material: m})
	if err != nil {
		return nil, err
	}
	return r.Connection, nil
}

// recorder is the keyring, and remembers what boxes were bound to while it is told to. So a box can be made for another
// row without knowing how the broker writes down where a field stands.
type recorder struct {
	*crypto.Keyring
	mu     sync.Mutex
	on     bool
	places [][]byte
}

// Seal seals and remembers.
func (r *recorder) Seal(plaintext, associated []byte) ([]byte, error) {
	r.mu.Lock()
	if r.on {
		r.places = append(r.places, associated)
	}
	r.mu.Unlock()
	return r.Keyring.Seal(plaintext, associated)
}

// record remembers from now on.
func (r *recorder) record() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = true
}

// placeOf finds what a box was bound to, and opens it.
func (r *recorder) placeOf(box []byte) (place, plaintext []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, place := range r.places {
		if plaintext, err := r.Open(box, place); err == nil {
			return place, plaintext, nil
		}
	}
	return nil, nil, errors.New("a sealed field was not sealed by this run")
}

// NewAPIKey makes a key of an environment of that name.
func (*recorder) NewAPIKey(environment string) (key, id string) { return crypto.NewAPIKey(environment) }
