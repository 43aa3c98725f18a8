package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/providers"
	"github.com/coatcheck/coatcheck/providers/egress"
	"github.com/coatcheck/coatcheck/storage"
	"github.com/coatcheck/coatcheck/web/api/nango"
	"github.com/coatcheck/coatcheck/web/hooks"
)

// node is a broker with everything that it stands on.
type node struct {
	config *config
	log    *slog.Logger
	store  broker.Store
	keys   *crypto.Keyring
	egress *egress.Policy
	broker *broker.Broker
	fresh  bool // the identity was made just now

	overlaid [sha256.Size]byte            // what the overlays in force hold
	declared []broker.DeclaredEnvironment // as of the start
}

// sealer is the keyring as the broker knows it.
type sealer struct{ *crypto.Keyring }

// NewAPIKey makes a key of an environment of that name.
func (sealer) NewAPIKey(environment string) (key, id string) { return crypto.NewAPIKey(environment) }

// openNode opens the data directory and starts a broker on it. exclusive is for the one server of the directory; other
// commands write beside it.
func openNode(ctx context.Context, c *config, env environ, log *slog.Logger, exclusive bool) (_ *node, err error) {
	n := &node{config: c, log: log}
	if n.egress, err = newEgress(c, c.Egress.Allow); err != nil {
		return nil, err
	}
	catalogue, err := n.catalogue()
	if err != nil {
		return nil, err
	}
	if err := checkDataDir(c.Data); err != nil {
		return nil, err
	}
	ids, err := n.identities(env, exclusive)
	if err != nil {
		return nil, err
	}
	n.store, err = storage.Open(ctx, c.Database, storage.Options{
		Dir: c.Data, Exclusive: exclusive, Now: time.Now,
		Verify: func(stored []broker.WrappedKey) error {
			_, err := unlock(stored, ids)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.store.Close())
		}
	}()
	if n.keys, err = openKeyring(ctx, n.store, ids); err != nil {
		return nil, err
	}
	courier, err := n.courier()
	if err != nil {
		return nil, err
	}
	bc := broker.Config{
		Store: n.store, Sealer: sealer{n.keys}, Catalogue: catalogue, Now: time.Now, Logger: log, PublicURL: c.PublicURL, Courier: courier,
		CacheEntries: c.Limits.CachedConnections, RefreshConcurrency: c.Limits.RefreshConcurrency, RefreshPerHost: c.Limits.RefreshPerHost,
	}
	if exclusive {
		bc.Reserve = storage.NewReserve(c.Data)
	}
	if n.broker, err = broker.New(ctx, bc); err != nil || !exclusive {
		return n, err
	}
	return n, n.broker.Claim(ctx)
}

// newEgress makes the one way out.
func newEgress(c *config, allow []string) (*egress.Policy, error) {
	through, err := secretFrom("egress.proxy", c.Egress.Proxy, c.Egress.ProxyFile, c.dir)
	if err != nil {
		return nil, err
	}
	p, err := egress.New(egress.Options{Allow: allow, Proxy: through, Dev: c.dev(), ProxyHeaderTimeout: 2 * time.Minute})
	if err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	return p, nil
}

// courier carries webhooks under the egress policy, to which a developer's machine adds itself: an app that is being
// written is told without further ado.
func (n *node) courier() (*hooks.Courier, error) {
	allow := n.config.Egress.Allow
	if n.config.dev() {
		allow = append(slices.Clone(allow), "127.0.0.0/8", "::1")
	}
	policy, err := newEgress(n.config, allow)
	if err != nil {
		return nil, err
	}
	return hooks.New(hooks.Options{
		Client: policy.TokenClient(), Reach: reach, Encode: nango.Hook, UserAgent: "coatcheck/" + version,
		CheckURL: func(raw string) error {
			_, err := policy.CheckURL(raw, egress.URLOptions{Literal: true})
			return err
		},
	}), nil
}

// catalogue loads the built-in entries and the operator's own over them.
func (n *node) catalogue() (*providers.Catalogue, error) {
	overlays, err := n.overlays()
	if err != nil {
		return nil, err
	}
	n.overlaid = digest(overlays)
	return providers.Load(n.catalogueOptions(overlays))
}

// overlays reads the operator's own entries.
func (n *node) overlays() ([]providers.File, error) {
	var overlays []providers.File
	for _, name := range n.config.Providers {
		raw, err := os.ReadFile(within(n.config.dir, name))
		if err != nil {
			return nil, fmt.Errorf("providers: %w", err)
		}
		overlays = append(overlays, providers.File{Name: name, Data: raw})
	}
	return overlays, nil
}

// catalogueOptions says what a catalogue is made of.
func (n *node) catalogueOptions(overlays []providers.File) providers.Options {
	return providers.Options{
		Builtin: coatcheck.Catalogue, Overlays: overlays, Client: n.egress.TokenClient(), Metadata: n.egress.MetadataClient(),
		Certified: n.egress.CertifiedCalls, Now: time.Now,
		Warn: func(provider, message string) {
			n.log.Warn("part of a provider's entry has no effect", slog.String("provider", provider), slog.String("reason", message))
		},
		CheckURL: func(raw string, literal bool) (*url.URL, error) {
			return n.egress.CheckURL(raw, egress.URLOptions{Literal: literal})
		},
		Reach: reach,
	}
}

// reach says what a caller may learn of a request that brought no answer: never which address it was, nor whether it was
// closed or filtered.
func reach(err error) *broker.Error {
	switch egress.Classify(err) {
	case egress.Blocked:
		return broker.ErrEgressBlocked
	case egress.Timeout:
		return broker.ErrProviderTimeout
	case egress.Unreachable:
		return broker.ErrUnreachable
	}
	return broker.ErrUnreachable
}

// identities reads the age identities that open the data keys. On this machine, beside no database, they are made.
func (n *node) identities(env environ, mayMake bool) (*crypto.Identities, error) {
	file := n.config.Encryption.IdentityFile
	if text := n.config.Encryption.Identity; text != "" {
		return crypto.ParseIdentities(strings.NewReader(text))
	}
	ids, err := crypto.LoadIdentityFile(file)
	if err == nil || !errors.Is(err, crypto.ErrKeyMissing) {
		return ids, keyError(err)
	}
	if !mayMake || !n.config.dev() || databaseExists(n.config) {
		return nil, fmt.Errorf("encryption_key_missing: %s holds no age identity; make one with \"coatcheck keys generate\" and set encryption.identity_file", file)
	}
	if err := writeIdentity(file); err != nil {
		return nil, err
	}
	n.fresh = true
	return crypto.LoadIdentityFile(file)
}

// keyError gives the code that scripts look for.
func keyError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, crypto.ErrKeyPermissions):
		return fmt.Errorf("key_permissions: %w", err)
	}
	return err
}

// databaseExists reports whether there is something that an identity which is made now could not open.
func databaseExists(c *config) bool {
	_, err := os.Stat(filepath.Join(c.Data, storage.FileName))
	return c.Database != "sqlite" || !errors.Is(err, fs.ErrNotExist)
}

// checkDataDir refuses a data directory that others on the machine can look into.
func checkDataDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || runtime.GOOS == "windows" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("data: %s is not a directory", dir)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("key_permissions: others can look into %s (mode %04o); use chmod 700", dir, info.Mode().Perm())
	}
	return nil
}

// writeIdentity makes a new identity, for its owner alone.
func writeIdentity(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("make an identity: %w", err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make an identity: %w", err)
	}
	_, err = crypto.GenerateIdentity(f, time.Now())
	return errors.Join(err, f.Sync(), f.Close())
}

// openKeyring opens the stored data keys, or makes the first one.
func openKeyring(ctx context.Context, store broker.Store, ids *crypto.Identities) (*crypto.Keyring, error) {
	stored, err := store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	if len(stored) == 0 {
		k, err := crypto.NewKey(1, ids, time.Now().UTC().Truncate(time.Microsecond))
		if err != nil {
			return nil, err
		}
		if err := store.AddKey(ctx, broker.WrappedKey(k)); err != nil && !errors.Is(err, broker.ErrConflict) {
			return nil, err
		}
		if stored, err = store.Keys(ctx); err != nil {
			return nil, err
		}
	}
	return unlock(stored, ids)
}

// unlock opens stored data keys.
func unlock(stored []broker.WrappedKey, ids *crypto.Identities) (*crypto.Keyring, error) {
	keys := make([]crypto.WrappedKey, len(stored))
	for i, k := range stored {
		keys[i] = crypto.WrappedKey(k)
	}
	keyring, err := crypto.OpenKeyring(keys, ids)
	var wrong *crypto.WrongKeyError
	if errors.As(err, &wrong) {
		return nil, fmt.Errorf("encryption_key_wrong: %w", err)
	}
	return keyring, err
}
