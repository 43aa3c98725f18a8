package broker

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// APIKeyID names an API key.
type APIKeyID string

// Scope is one thing that an API key may do. The names are those of the primary API, so that a key's scopes read the
// same everywhere.
type Scope string

// The scopes that exist.
const (
	ScopeAll                Scope = "environment:*"
	ScopeSessionsWrite      Scope = "environment:connect_sessions:write"
	ScopeConnectionsList    Scope = "environment:connections:list"
	ScopeConnectionsListC   Scope = "environment:connections:list_credentials"
	ScopeConnectionsRead    Scope = "environment:connections:read"
	ScopeCredentialsRead    Scope = "environment:connections:read_credentials"
	ScopeRefreshTokensRead  Scope = "environment:connections:read_refresh_tokens"
	ScopeConnectionsCreate  Scope = "environment:connections:create"
	ScopeConnectionsUpdate  Scope = "environment:connections:update"
	ScopeConnectionsDelete  Scope = "environment:connections:delete"
	ScopeIntegrationsList   Scope = "environment:integrations:list"
	ScopeIntegrationsListC  Scope = "environment:integrations:list_credentials"
	ScopeIntegrationsRead   Scope = "environment:integrations:read"
	ScopeIntegrationSecrets Scope = "environment:integrations:read_credentials"
	ScopeIntegrationsCreate Scope = "environment:integrations:create"
	ScopeIntegrationsUpdate Scope = "environment:integrations:update"
	ScopeIntegrationsDelete Scope = "environment:integrations:delete"
	ScopeProxy              Scope = "environment:proxy"
	ScopeVariablesRead      Scope = "environment:variables:read"
	ScopeSigningKeyRotate   Scope = "environment:webhook_signing_key:rotate"
)

// The scopes of an account's keys, which belong to no environment and see into none.
const (
	ScopeAccount                Scope = accountScopes + "*"
	ScopeEnvironmentsCreate     Scope = "account:environments:create"
	ScopeEnvironmentsProduction Scope = "account:environments:set_production"
	ScopeEnvironmentsDelete     Scope = "account:environments:delete"
	ScopeKeysCreate             Scope = "account:environments:api_keys:create"
	ScopeKeysDelete             Scope = "account:environments:api_keys:delete"
)

// accountScopes is how the scopes of an account begin.
const accountScopes = "account:"

// shorthands are names for sets of scopes, for people who make keys on the command line.
var shorthands = map[string][]Scope{
	"sessions:write":           {ScopeSessionsWrite},
	"connections:read":         {ScopeConnectionsList, ScopeConnectionsRead},
	"connections:write":        {ScopeConnectionsCreate, ScopeConnectionsUpdate, ScopeConnectionsDelete},
	"credentials:read":         {ScopeCredentialsRead},
	"credentials:read_refresh": {ScopeRefreshTokensRead},
	"proxy":                    {ScopeProxy},
	"integrations:write": {
		ScopeIntegrationsList, ScopeIntegrationsRead, ScopeIntegrationsCreate, ScopeIntegrationsUpdate, ScopeIntegrationsDelete,
	},
	"admin": {ScopeAll},
}

var knownScopes = []Scope{
	ScopeAll, ScopeSessionsWrite, ScopeConnectionsList, ScopeConnectionsListC, ScopeConnectionsRead, ScopeCredentialsRead,
	ScopeRefreshTokensRead, ScopeConnectionsCreate, ScopeConnectionsUpdate, ScopeConnectionsDelete, ScopeIntegrationsList,
	ScopeIntegrationsListC, ScopeIntegrationsRead, ScopeIntegrationSecrets, ScopeIntegrationsCreate, ScopeIntegrationsUpdate,
	ScopeIntegrationsDelete, ScopeProxy, ScopeVariablesRead, ScopeSigningKeyRotate,
	ScopeAccount, ScopeEnvironmentsCreate, ScopeEnvironmentsProduction, ScopeEnvironmentsDelete, ScopeKeysCreate, ScopeKeysDelete,
	"environment:connections:*", "environment:integrations:*",
	// What these are for does not exist here. Keys are made with them all the same, by scripts that make them everywhere.
	"environment:integrations:list_functions", "environment:functions:*", "environment:functions:list", "environment:functions:read",
	"environment:functions:delete", "environment:functions:compile", "environment:functions:dryrun", "environment:functions:invocations",
	"environment:records:*", "environment:records:read", "environment:records:write", "environment:syncs:*", "environment:syncs:read",
	"environment:syncs:execute", "environment:syncs:update", "environment:syncs:variant:create", "environment:syncs:variant:delete",
	"environment:actions:*", "environment:actions:execute", "environment:deploy", "environment:mcp", "environment:logs:read",
}

// KnownScopes lists every scope that a key can hold.
func KnownScopes() Scopes { return slices.Clone(knownScopes) }

// Scopes is what a key holds.
type Scopes []Scope

// Has reports whether the scopes cover want: one is equal to it, or ends in ":*" and covers its beginning.
func (s Scopes) Has(want Scope) bool {
	for _, have := range s {
		if have == want {
			return true
		}
		if prefix, ok := strings.CutSuffix(string(have), "*"); ok && strings.HasSuffix(prefix, ":") && strings.HasPrefix(string(want), prefix) {
			return true
		}
	}
	return false
}

// ParseScopes reads scope names and the short names for sets of them.
func ParseScopes(names []string) (Scopes, error) {
	var out Scopes
	for _, name := range names {
		set, ok := shorthands[name]
		if !ok && slices.Contains(knownScopes, Scope(name)) {
			set, ok = []Scope{Scope(name)}, true
		}
		if !ok {
			return nil, ErrInvalidRequest.Saying("there is no scope " + quote(name)).On("scopes")
		}
		for _, one := range set {
			if !slices.Contains(out, one) {
				out = append(out, one)
			}
		}
	}
	if len(out) == 0 {
		return nil, ErrInvalidRequest.Saying("a key needs at least one scope").On("scopes")
	}
	return out, nil
}

// APIKey is a key of an environment's backend, or of the account. Only its hash is kept.
type APIKey struct {
	ID          APIKeyID
	Environment EnvironmentID // empty: the account's, which makes and deletes environments and their keys
	Name        string        // unique among the environment's living keys
	Hash        []byte        // SHA-256 of the whole key
	Hint        string        // its first characters, so that people can tell keys apart
	Scopes      Scopes
	Managed     bool // declared in the configuration file
	CreatedAt   time.Time
	ExpiresAt   time.Time // zero: never
	RevokedAt   time.Time // zero: living
}

// Validate reports the first thing that is wrong with the key.
func (k *APIKey) Validate() error {
	switch {
	case k.ID == "" || len(k.Hash) != 32:
		return ErrInternal.Saying("an API key needs an id and a hash")
	case k.Name == "" || utf8.RuneCountInString(k.Name) > 255:
		return ErrInvalidRequest.Saying("the key's name must have 1 to 255 characters").On("name")
	case len(k.Scopes) == 0:
		return ErrInvalidRequest.Saying("a key needs at least one scope").On("scopes")
	}
	for _, s := range k.Scopes {
		if strings.HasPrefix(string(s), accountScopes) != (k.Environment == "") {
			return ErrInvalidRequest.Saying("an account's key holds scopes of accounts, and an environment's key those of environments: " + quote(string(s))).On("scopes")
		}
	}
	return nil
}

// living reports whether the key opens anything at that time.
func (k *APIKey) living(now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

// KeyInput is what an API key is made of.
type KeyInput struct {
	Name    string
	Scopes  Scopes
	Expires time.Time // zero: never
}

// maxKeys is how many living keys an environment has at most, as does the account.
const maxKeys = 50

// CreateAPIKey makes a key of the environment and gives it, which is told only now. Errors: conflict, naming name when it
// is taken, and keys when there are too many.
func (b *Broker) CreateAPIKey(ctx context.Context, who Actor, e *Environment, in KeyInput) (Secret, *APIKey, error) {
	return b.createKey(ctx, who, e.ID, e.Name, in)
}

// CreateAccountKey makes a key of the account. Errors: those of CreateAPIKey.
func (b *Broker) CreateAccountKey(ctx context.Context, who Actor, in KeyInput) (Secret, *APIKey, error) {
	return b.createKey(ctx, who, "", "account", in)
}

func (b *Broker) createKey(ctx context.Context, who Actor, env EnvironmentID, name string, in KeyInput) (Secret, *APIKey, error) {
	if err := who.Allow(ScopeKeysCreate); err != nil {
		return Secret{}, nil, err
	}
	living := 0
	for _, k := range b.snapshot.Load().keys {
		if k.key.Environment == env && k.key.living(b.Now()) {
			living++
		}
	}
	if living >= maxKeys {
		return Secret{}, nil, ErrConflict.Saying("there are 50 keys already; delete one first").On("keys")
	}
	text, id := b.sealer.NewAPIKey(name)
	k, err := b.addKey(ctx, who, env, APIKeyID(id), text, in, false)
	if err != nil {
		return Secret{}, nil, err
	}
	return NewSecret(text), k, nil
}

// addKey stores the hash of a key.
func (b *Broker) addKey(ctx context.Context, who Actor, env EnvironmentID, id APIKeyID, text string, in KeyInput, managed bool) (*APIKey, error) {
	hash := sha256.Sum256([]byte(text))
	k := &APIKey{
		ID: id, Environment: env, Name: in.Name, Hash: hash[:], Hint: hint(text), Scopes: in.Scopes, Managed: managed,
		CreatedAt: b.Now(), ExpiresAt: cut(in.Expires),
	}
	if err := k.Validate(); err != nil {
		return nil, err
	}
	who.Environment = env
	if err := b.store.CreateAPIKey(ctx, k, b.audited(who, "apikey.create", string(id))); err != nil {
		return nil, err
	}
	b.changed(ctx)
	return k, nil
}

// hint is what people may see of a key: enough to tell it from others, and none of what is secret.
func hint(text string) string {
	if strings.HasPrefix(text, "coat_") && len(text) > 24 {
		return text[:strings.LastIndexByte(text[:len(text)-20], '_')+1]
	}
	return text[:min(4, len(text)/4)] + "..."
}

// declareKey makes sure that the preset key opens the environment, and gives its id.
func (b *Broker) declareKey(ctx context.Context, e *Environment, preset Secret) (APIKeyID, error) {
	text := preset.Reveal()
	if len(text) < minKeyLength {
		return "", ErrInvalidRequest.Saying("a preset key needs at least 16 characters")
	}
	if k, ok := b.snapshot.Load().keys[sha256.Sum256([]byte(text))]; ok {
		if k.key.Environment != e.ID {
			return "", ErrConflict.Saying("two environments have the same key")
		}
		return k.key.ID, nil
	}
	// One that it replaces is ended after this one opens: see release.
	id := APIKeyID(uuid.NewString())
	_, err := b.addKey(ctx, System(e.ID), e.ID, id, text, KeyInput{Name: "configuration file " + string(id[:8]), Scopes: Scopes{ScopeAll}}, true)
	return id, err
}

// APIKeys lists the environment's keys, revoked ones included, oldest first.
func (b *Broker) APIKeys(ctx context.Context, e *Environment) ([]*APIKey, error) {
	return b.keysOf(ctx, e.ID)
}

// AccountKeys lists the account's keys, revoked ones included, oldest first.
func (b *Broker) AccountKeys(ctx context.Context) ([]*APIKey, error) { return b.keysOf(ctx, "") }

func (b *Broker) keysOf(ctx context.Context, env EnvironmentID) ([]*APIKey, error) {
	all, err := b.store.APIKeys(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(k *APIKey) bool { return k.Environment != env })
	slices.SortFunc(all, func(x, y *APIKey) int { return x.CreatedAt.Compare(y.CreatedAt) })
	return all, nil
}

// DeleteAPIKey ends a key of the environment. Errors: not_found; managed_by_config when the configuration file declares it.
func (b *Broker) DeleteAPIKey(ctx context.Context, who Actor, e *Environment, id APIKeyID) error {
	if err := who.Allow(ScopeKeysDelete); err != nil {
		return err
	}
	k := b.livingKey(id)
	switch {
	case k == nil || k.Environment != e.ID:
		return ErrNotFound.On("key")
	case k.Managed:
		return ErrManagedByConfig
	}
	return b.RevokeAPIKey(ctx, who, id)
}

// livingKey finds a key that was not revoked; nil: there is none of that id.
func (b *Broker) livingKey(id APIKeyID) *APIKey {
	for _, k := range b.snapshot.Load().keys {
		if k.key.ID == id {
			return k.key
		}
	}
	return nil
}

// RevokeAPIKey ends a key, whosever it is. Errors: not_found.
func (b *Broker) RevokeAPIKey(ctx context.Context, who Actor, id APIKeyID) error {
	if err := who.Allow(ScopeKeysDelete); err != nil {
		return err
	}
	if k := b.livingKey(id); k != nil {
		who.Environment = k.Environment // whose trail it belongs to
	}
	if err := b.store.RevokeAPIKey(ctx, id, b.Now(), b.audited(who, "apikey.revoke", string(id))); err != nil {
		return err
	}
	b.changed(ctx)
	return nil
}
