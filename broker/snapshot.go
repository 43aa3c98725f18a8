package broker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
)

// snapshot is everything that is small and read on every request: environments with their webhooks, API keys and integrations. It is
// replaced whole when one of them changes, so that reading takes no lock.
type snapshot struct {
	environments map[EnvironmentID]*Environment
	names        map[string]*Environment
	keys         map[[sha256.Size]byte]*knownKey
	integrations map[IntegrationID]*Integration // deleted ones included, for their revocations
	byKey        map[integrationName]*Integration
	webhooks     map[EnvironmentID]*Webhook
	clients      sync.Map // IntegrationID -> *Client, opened at first use
}

type integrationName struct {
	environment EnvironmentID
	key         string
}

// knownKey is a living API key with the actor that it makes.
type knownKey struct {
	key   *APIKey
	actor Actor
}

// reload replaces the snapshot by what the store holds. Changes of other processes are noted before they are read, so
// that one that comes in between is seen again.
//
// It follows our own writes, so it does not end with the caller's context; if it does not succeed, the watch tries again
// within a second.
func (b *Broker) reload(ctx context.Context) error {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	b.foreign.Store(unknownChanges)
	ctx = context.WithoutCancel(ctx)
	foreign, err := b.store.ForeignChanges(ctx)
	if err != nil {
		return err
	}
	environments, err := b.store.Environments(ctx)
	if err != nil {
		return err
	}
	keys, err := b.store.APIKeys(ctx)
	if err != nil {
		return err
	}
	integrations, err := b.store.Integrations(ctx)
	if err != nil {
		return err
	}
	webhooks, err := b.store.Webhooks(ctx)
	if err != nil {
		return err
	}
	deployment, err := b.store.Deployment(ctx)
	if err != nil {
		return err
	}
	b.snapshot.Store(newSnapshot(environments, keys, integrations, webhooks))
	b.foreign.Store(foreign)
	b.redeploy(ctx, deployment)
	return nil
}

// unknownChanges is no count of the store's: whatever it says next is news.
const unknownChanges = -1

// changed brings a committed change into the snapshot. It is no failure of the change if that has to wait.
func (b *Broker) changed(ctx context.Context) {
	if err := b.reload(ctx); err != nil {
		b.log.LogAttrs(ctx, slog.LevelError, "a change is stored and not in use yet; trying again", because(err))
	}
}

func newSnapshot(environments []*Environment, keys []*APIKey, integrations []*Integration, webhooks []*Webhook) *snapshot {
	s := &snapshot{
		environments: make(map[EnvironmentID]*Environment, len(environments)),
		names:        make(map[string]*Environment, len(environments)),
		keys:         make(map[[sha256.Size]byte]*knownKey, len(keys)),
		integrations: make(map[IntegrationID]*Integration, len(integrations)),
		byKey:        make(map[integrationName]*Integration, len(integrations)),
		webhooks:     make(map[EnvironmentID]*Webhook, len(webhooks)),
	}
	for _, w := range webhooks {
		s.webhooks[w.Environment] = w
	}
	for _, e := range environments {
		s.environments[e.ID], s.names[e.Name] = e, e
	}
	for _, k := range keys {
		if k.RevokedAt.IsZero() && len(k.Hash) == sha256.Size {
			s.keys[[sha256.Size]byte(k.Hash)] = &knownKey{
				key:   k,
				actor: Actor{Kind: ByKey, Environment: k.Environment, Key: k.ID, Scopes: k.Scopes},
			}
		}
	}
	for _, i := range integrations {
		s.integrations[i.ID] = i
		if i.DeletedAt.IsZero() {
			s.byKey[integrationName{i.Environment, i.Key}] = i
		}
	}
	return s
}

// refreshForeign reloads if another process has written, and forgets what is cached.
func (b *Broker) refreshForeign(ctx context.Context) error {
	n, err := b.store.ForeignChanges(ctx)
	if err != nil || n == b.foreign.Load() {
		return err
	}
	if err := b.reload(ctx); err != nil {
		return err
	}
	b.cache.clear()
	return nil
}

// minKeyLength is the shortest text that can be an API key; anything shorter is not looked up.
const minKeyLength = 16

// Authenticate gives the actor of an API key. Unknown, revoked and expired keys are refused alike; a key is found by the
// hash of the whole, so that timing tells nothing about it.
func (b *Broker) Authenticate(key string) (Actor, error) {
	if len(key) < minKeyLength {
		return Actor{}, ErrUnauthorized
	}
	k, ok := b.snapshot.Load().keys[sha256.Sum256([]byte(key))]
	if !ok {
		return Actor{}, ErrUnauthorized
	}
	if !k.key.ExpiresAt.IsZero() && !k.key.living(b.clock()) {
		return Actor{}, ErrUnauthorized
	}
	return k.actor, nil
}

// Environment gives the actor's environment.
func (b *Broker) Environment(who Actor) (*Environment, error) {
	e, ok := b.snapshot.Load().environments[who.Environment]
	if !ok {
		return nil, ErrNotFound.On("environment")
	}
	return e, nil
}

// EnvironmentNamed finds an environment by its name, for the command line.
func (b *Broker) EnvironmentNamed(name string) (*Environment, error) {
	e, ok := b.snapshot.Load().names[name]
	if !ok {
		return nil, ErrNotFound.On("environment")
	}
	return e, nil
}

// Environments lists all, by name, for the command line.
func (b *Broker) Environments() []*Environment {
	return slices.SortedFunc(maps.Values(b.snapshot.Load().environments), func(x, y *Environment) int {
		return strings.Compare(x.Name, y.Name)
	})
}

// integration finds a living integration of the actor's environment.
func (b *Broker) integration(who Actor, key string) (*Integration, error) {
	i, ok := b.snapshot.Load().byKey[integrationName{who.Environment, key}]
	if !ok {
		return nil, ErrNotFound.On("integration").Saying("there is no integration of that key")
	}
	return i, nil
}

// integrationsOf lists the environment's living integrations by provider, then by age.
func (b *Broker) integrationsOf(env EnvironmentID) []*Integration {
	var out []*Integration
	for name, i := range b.snapshot.Load().byKey {
		if name.environment == env {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(x, y *Integration) int {
		return cmp.Or(strings.Compare(x.Provider, y.Provider), x.CreatedAt.Compare(y.CreatedAt), strings.Compare(x.Key, y.Key))
	})
	return out
}

// client opens an integration's client, once a snapshot.
func (b *Broker) client(i *Integration) (*Client, error) {
	if f := b.factsOf(i); f != nil && f.tokenOrigin(i.Settings) != i.TokenOrigin {
		return nil, ErrSecretRequired.Saying("the provider's address has changed since this client was entered; enter it again")
	}
	s := b.snapshot.Load()
	if c, ok := s.clients.Load(i.ID); ok && s.integrations[i.ID] == i {
		return c.(*Client), nil
	}
	secret, err := b.open(clientSecretPlace(i), i.Secret)
	if err != nil {
		return nil, err
	}
	settings, err := b.settings(i)
	if err != nil {
		return nil, err
	}
	c := &Client{ID: i.ClientID, Secret: secret, Scopes: i.Scopes, Settings: settings, Hosts: i.Hosts}
	if s.integrations[i.ID] == i {
		s.clients.Store(i.ID, c)
	}
	return c, nil
}

// watch notices what other processes write, such as a key that the command line revokes, within a second; sooner, if the
// store tells of it.
func (b *Broker) watch(ctx context.Context) {
	b.every(ctx, watchEvery, b.news, "watch for changes", func(ctx context.Context) error {
		err := b.refreshForeign(ctx)
		if b.shared != nil {
			err = errors.Join(err, b.listen(ctx)) // with what has just been read
		}
		return err
	})
}

// heardNews makes watch look at once.
func (b *Broker) heardNews() {
	select {
	case b.news <- struct{}{}:
	default:
	}
}
