package broker

import (
	"cmp"
	"context"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// IntegrationID names an integration.
type IntegrationID string

// Integration is a provider configured in an environment.
type Integration struct {
	ID          IntegrationID
	PublicID    string // stands in the integration's own redirect URI; unguessable, not secret
	Environment EnvironmentID
	Key         string // unique among the environment's integrations; callers name it by this
	Provider    string // a catalogue entry's name
	DisplayName string // empty: the provider's
	ClientID    string
	Scopes      []string
	Settings    map[string]string // the provider's own settings (integration_config, custom), less those that are secret
	Hosts       []string          // exact https hosts that a caller may name in place of the provider's
	Shared      bool
	// Secret is the client secret, bound to this row and to TokenOrigin, so that moving either makes it unreadable.
	Secret      Sealed
	TokenOrigin string // scheme and host that Secret and SecretSettings were entered for
	// SecretSettings are the settings that the provider declares secret, a JSON object, bound as Secret is.
	SecretSettings Sealed
	// WebhookSecret checks what the provider sends in.
	WebhookSecret   Sealed
	ForwardWebhooks bool
	Fault           string // why the provider refuses our client; empty: it does not
	FaultAt         time.Time
	Managed         bool // declared in the configuration file
	CreatedAt       time.Time
	UpdatedAt       time.Time
	DeletedAt       time.Time // set: kept only until its revocations are done
	Revision        int64     // bumped by every change; the guard of concurrent ones
}

// Lengths are checked beside the expressions: a count in one is that many copies, which takes a millisecond of each start.
var integrationKey = regexp.MustCompile(`^[a-zA-Z0-9~:.@ _-]+$`)

// ValidIntegrationKey reports whether key has the form of an integration's key.
// What a browser takes for a step in a path has it not.
func ValidIntegrationKey(key string) bool {
	return len(key) <= 255 && integrationKey.MatchString(key) && key != "." && key != ".."
}

// Validate reports the first thing that is wrong with the integration.
func (i *Integration) Validate() error {
	switch {
	case i.ID == "" || i.Environment == "" || i.PublicID == "":
		return ErrInternal.Saying("an integration needs an id, a public id and an environment")
	case !ValidIntegrationKey(i.Key):
		return ErrInvalidRequest.Saying("an integration's key has 1 to 255 of a-z, A-Z, 0-9, space and ~:.@_-").On("unique_key")
	case i.Provider == "":
		return ErrInvalidRequest.Saying("an integration needs a provider").On("provider")
	case utf8.RuneCountInString(i.DisplayName) > 255:
		return ErrInvalidRequest.Saying("the display name is longer than 255 characters").On("display_name")
	case len(i.ClientID) > 1024:
		return ErrInvalidRequest.Saying("the client id is longer than 1024 characters").On("client_id")
	}
	return nil
}

// IntegrationInput is what an integration is made of.
type IntegrationInput struct {
	Key             string
	Provider        string
	DisplayName     string
	ClientID        string
	ClientSecret    Secret
	WebhookSecret   Secret
	Scopes          []string // nil: the provider's default
	Settings        map[string]string
	Hosts           []string
	Shared          bool
	ForwardWebhooks bool
}

// clientSecretPlace binds a client secret to its integration and to the address that it was entered for.
func clientSecretPlace(i *Integration) place {
	return place{environment: i.Environment, column: columnClientSecret, row: string(i.ID), origin: i.TokenOrigin}
}

func webhookSecretPlace(i *Integration) place {
	return place{environment: i.Environment, column: columnWebhookSecret, row: string(i.ID)}
}

// Integrations lists the environment's integrations by provider, then by age. A session sees those that it allows.
func (b *Broker) Integrations(ctx context.Context, who Actor) ([]*Integration, error) {
	list := b.integrationsOf(who.Environment)
	if who.Kind == BySession {
		s, err := b.Session(ctx, who)
		if err != nil {
			return nil, err
		}
		return slices.DeleteFunc(list, func(i *Integration) bool { return !s.Allows(i.Key) }), nil
	}
	return list, who.Allow(ScopeIntegrationsList, ScopeIntegrationsListC)
}

// Integration gives an integration and its provider's facts; nil facts: the provider left the catalogue.
func (b *Broker) Integration(_ context.Context, who Actor, key string) (*Integration, *Facts, error) {
	if err := who.Allow(ScopeIntegrationsRead, ScopeIntegrationSecrets); err != nil {
		return nil, nil, err
	}
	i, err := b.integration(who, key)
	if err != nil {
		return nil, nil, err
	}
	return i, b.factsOf(i), nil
}

// IntegrationOf gives the integration of a connection that the actor was already given.
func (b *Broker) IntegrationOf(c *Connection) (*Integration, *Facts, error) {
	i, ok := b.snapshot.Load().integrations[c.Integration]
	if !ok || i.Environment != c.Environment {
		return nil, nil, ErrNotFound.On("integration")
	}
	return i, b.factsOf(i), nil
}

func (b *Broker) factsOf(i *Integration) *Facts {
	if p, ok := b.catalogue.Provider(i.Provider); ok {
		return p.Facts()
	}
	return nil
}

// CreateIntegration configures a provider. Errors: not_found naming the provider, conflict when the key is taken,
// not_supported when the entry cannot be used.
func (b *Broker) CreateIntegration(ctx context.Context, who Actor, in IntegrationInput) (*Integration, error) {
	if err := who.Allow(ScopeIntegrationsCreate); err != nil {
		return nil, err
	}
	env, err := b.Environment(who)
	if err != nil {
		return nil, err
	}
	if _, err := b.integration(who, in.Key); err == nil {
		return nil, ErrConflict.Saying("an integration of that key exists").On("unique_key")
	}
	i, err := b.newIntegration(env, in)
	if err != nil {
		return nil, err
	}
	return i, b.insertIntegration(ctx, who, i)
}

func (b *Broker) insertIntegration(ctx context.Context, who Actor, i *Integration) error {
	if err := b.store.CreateIntegration(ctx, i, b.audited(who, "integration.create", string(i.ID))); err != nil {
		return err
	}
	b.changed(ctx)
	return nil
}

// newIntegration makes an integration of the input.
func (b *Broker) newIntegration(env *Environment, in IntegrationInput) (*Integration, error) {
	p, err := usableProvider(b.catalogue, in.Provider)
	if err != nil {
		return nil, err
	}
	f := p.Facts()
	now := b.Now()
	i := &Integration{
		ID: IntegrationID(uuid.NewString()), PublicID: randomHex(12), Environment: env.ID, Key: in.Key, Provider: in.Provider,
		DisplayName: in.DisplayName, ClientID: in.ClientID, Scopes: in.Scopes, Settings: in.Settings, Hosts: in.Hosts, Shared: in.Shared,
		TokenOrigin: f.tokenOrigin(in.Settings), ForwardWebhooks: in.ForwardWebhooks, CreatedAt: now, UpdatedAt: now, Revision: 1,
	}
	if i.Scopes == nil {
		i.Scopes = f.DefaultScopes
	}
	for _, h := range i.Hosts {
		if u, err := url.Parse("https://" + h); err != nil || u.Host != h || h == "" || strings.ToLower(h) != h {
			return nil, ErrInvalidRequest.Saying("a host is a name and perhaps a port: " + quote(h)).On("hosts")
		}
	}
	if err := i.Validate(); err != nil {
		return nil, err
	}
	if err := checkSettings(p, i); err != nil {
		return nil, err
	}
	if err := b.sealSettings(i); err != nil {
		return nil, err
	}
	return i, b.sealIntegration(i, &in.ClientSecret, &in.WebhookSecret)
}

// checkSettings checks an integration's settings where its provider declares some.
func checkSettings(p Provider, i *Integration) error {
	c, ok := p.(SettingsChecker)
	if !ok {
		return nil
	}
	checked, err := c.CheckSettings(i.Settings)
	if err != nil {
		return inSection(err, "integration_config")
	}
	i.Settings = checked
	return nil
}

// sealIntegration seals the secrets that are given.
func (b *Broker) sealIntegration(i *Integration, client, webhook *Secret) (err error) {
	if client != nil {
		if i.Secret, err = b.seal(clientSecretPlace(i), *client); err != nil {
			return err
		}
	}
	if webhook != nil {
		i.WebhookSecret, err = b.seal(webhookSecretPlace(i), *webhook)
	}
	return err
}

// IntegrationPatch is a change of an integration; nil fields stay.
type IntegrationPatch struct {
	Key             *string
	DisplayName     *string
	ClientID        *string
	ClientSecret    *Secret // zero clears
	WebhookSecret   *Secret // zero clears
	Scopes          *[]string
	Settings        map[string]string // merged; "" clears
	ForwardWebhooks *bool
}

// UpdateIntegration changes an integration. Errors: managed_by_config; conflict when the new key is taken, or when the
// integration has connections, whose callers would lose it.
func (b *Broker) UpdateIntegration(ctx context.Context, who Actor, key string, p IntegrationPatch) (*Integration, error) {
	if err := who.Allow(ScopeIntegrationsUpdate); err != nil {
		return nil, err
	}
	old, err := b.integration(who, key)
	if err != nil {
		return nil, err
	}
	if old.Managed {
		return nil, ErrManagedByConfig
	}
	i := *old
	if p.Key != nil && *p.Key != i.Key {
		if n, err := b.store.CountConnections(ctx, i.ID); err != nil || n > 0 {
			return nil, cmp.Or(err, error(ErrConflict.Saying("an integration with connections cannot be renamed").On("unique_key")))
		}
		i.Key = *p.Key
	}
	set(&i.DisplayName, p.DisplayName)
	set(&i.ClientID, p.ClientID)
	set(&i.Scopes, p.Scopes)
	set(&i.ForwardWebhooks, p.ForwardWebhooks)
	if f := b.factsOf(&i); f != nil && (p.ClientSecret != nil || len(i.Secret) == 0 && (f.ServerField != "" || f.givesSecret(p.Settings))) {
		i.TokenOrigin = f.tokenOrigin(mergeSettings(old.Settings, p.Settings)) // the secret is entered again, for the address as it is now
	}
	if err := b.changeSettings(old, &i, p.Settings); err != nil {
		return nil, err
	}
	if err := b.keepsOrigin(ctx, old, &i); err != nil {
		return nil, err
	}
	if err := b.sealIntegration(&i, p.ClientSecret, p.WebhookSecret); err != nil {
		return nil, err
	}
	if err := b.strand(ctx, old, &i); err != nil {
		return nil, err
	}
	return &i, b.saveIntegration(ctx, who, &i)
}

// baseURLSetting is the setting that says where a generic provider's API is.
const baseURLSetting = "baseUrl"

// keepsOrigin refuses to point an integration with connections at another API: their credentials were not entered for it.
func (b *Broker) keepsOrigin(ctx context.Context, old, changed *Integration) error {
	if originOf(old.Settings[baseURLSetting]) == originOf(changed.Settings[baseURLSetting]) {
		return nil
	}
	n, err := b.store.CountConnections(ctx, old.ID)
	if err != nil || n == 0 {
		return err
	}
	return ErrSecretRequired.On("integration_config." + baseURLSetting).
		Saying("its connections hold credentials for another address; delete them, or make another integration")
}

// originOf gives scheme and host of a URL; what is none is its own origin.
func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return raw
	}
	return apiOrigin(u)
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// changeSettings lays a change over an integration's settings. Errors: those of the provider; not_supported where that is
// not in the catalogue, which alone knows what is secret.
func (b *Broker) changeSettings(old, i *Integration, change map[string]string) error {
	entry, ok := b.catalogue.Provider(i.Provider)
	switch {
	case len(change) == 0 && i.TokenOrigin == old.TokenOrigin:
		return nil
	case !ok:
		return ErrNotSupported.Saying("the provider left the catalogue")
	}
	all := old.Settings
	if i.TokenOrigin == old.TokenOrigin { // or what is secret has to be entered again with the rest
		var err error
		if all, err = b.settings(old); err != nil && !entry.Facts().givesSecret(change) {
			return err
		}
	}
	i.Settings = mergeSettings(all, change)
	if err := checkSettings(entry, i); err != nil {
		return err
	}
	return b.sealSettings(i)
}

func mergeSettings(old, change map[string]string) map[string]string {
	if len(change) == 0 {
		return old
	}
	out := maps.Clone(old)
	if out == nil {
		out = make(map[string]string, len(change))
	}
	for k, v := range change {
		if v == "" {
			delete(out, k)
			continue
		}
		out[k] = v
	}
	return out
}

// saveIntegration stores a changed integration. A changed client is tried again at once.
func (b *Broker) saveIntegration(ctx context.Context, who Actor, i *Integration) error {
	i.UpdatedAt, i.Fault, i.FaultAt = b.Now(), "", time.Time{}
	if err := i.Validate(); err != nil {
		return err
	}
	if err := b.store.UpdateIntegration(ctx, i, b.audited(who, "integration.update", string(i.ID))); err != nil {
		return err
	}
	b.faults.clear(i.ID)
	b.changed(ctx)
	return nil
}

// DeleteIntegration deletes an integration and all its connections, whose grants are then ended at the provider.
func (b *Broker) DeleteIntegration(ctx context.Context, who Actor, key string) error {
	if err := who.Allow(ScopeIntegrationsDelete); err != nil {
		return err
	}
	i, err := b.integration(who, key)
	if err != nil {
		return err
	}
	if i.Managed {
		return ErrManagedByConfig
	}
	if _, err := b.store.DeleteIntegration(ctx, i.ID, b.Now(), b.audited(who, "integration.delete", string(i.ID))); err != nil {
		return err
	}
	b.cache.clear()
	b.changed(ctx)
	return nil
}

// ConnectionCount counts the integration's connections.
func (b *Broker) ConnectionCount(ctx context.Context, who Actor, i *Integration) (int, error) {
	if err := who.Allow(ScopeIntegrationsRead, ScopeIntegrationSecrets); err != nil {
		return 0, err
	}
	return b.store.CountConnections(ctx, i.ID)
}

// ClientSecrets are an integration's secrets.
type ClientSecrets struct {
	ClientID      string
	ClientSecret  Secret
	WebhookSecret Secret
	Scopes        []string
	Settings      map[string]string // the secret ones among them
}

// ClientSecrets gives an integration's secrets, and leaves a trace of that.
func (b *Broker) ClientSecrets(_ context.Context, who Actor, key string) (*ClientSecrets, error) {
	if err := who.Allow(ScopeIntegrationSecrets); err != nil {
		return nil, err
	}
	i, err := b.integration(who, key)
	if err != nil {
		return nil, err
	}
	if err := b.reads.read(b.line(who, "integration.read_credentials", string(i.ID))); err != nil {
		return nil, err
	}
	out := &ClientSecrets{ClientID: i.ClientID, Scopes: i.Scopes}
	if out.ClientSecret, err = b.open(clientSecretPlace(i), i.Secret); err != nil {
		return nil, err
	}
	if out.Settings, err = b.settings(i); err != nil {
		return nil, err
	}
	out.WebhookSecret, err = b.open(webhookSecretPlace(i), i.WebhookSecret)
	return out, err
}

// declareIntegration makes the integration what the configuration file says.
func (b *Broker) declareIntegration(ctx context.Context, e *Environment, in IntegrationInput) (IntegrationID, error) {
	who := System(e.ID)
	fresh, err := b.newIntegration(e, in)
	if err != nil {
		return "", err
	}
	fresh.Managed = true
	old, err := b.integration(who, in.Key)
	if err != nil {
		return fresh.ID, b.insertIntegration(ctx, who, fresh)
	}
	if old.Provider != in.Provider {
		if n, err := b.store.CountConnections(ctx, old.ID); err != nil || n > 0 {
			return "", cmp.Or(err, error(ErrConflict.Saying("its connections belong to "+old.Provider+"; give the new provider another key")))
		}
	}
	fresh.ID, fresh.PublicID, fresh.CreatedAt, fresh.Revision = old.ID, old.PublicID, old.CreatedAt, old.Revision
	if b.sameIntegration(old, fresh, in) {
		return old.ID, nil
	}
	if err := b.keepsOrigin(ctx, old, fresh); err != nil {
		return "", err
	}
	if err := b.sealIntegration(fresh, &in.ClientSecret, &in.WebhookSecret); err != nil {
		return "", err
	}
	if err := b.strand(ctx, old, fresh); err != nil {
		return "", err
	}
	return fresh.ID, b.saveIntegration(ctx, who, fresh)
}

// sameIntegration reports whether nothing has to be written. Two seals of one secret differ, so they are opened.
func (b *Broker) sameIntegration(old, fresh *Integration, in IntegrationInput) bool {
	x, y := *old, *fresh
	for _, i := range []*Integration{&x, &y} {
		i.Secret, i.WebhookSecret, i.SecretSettings, i.UpdatedAt, i.Fault, i.FaultAt = nil, nil, nil, time.Time{}, "", time.Time{}
	}
	if !reflect.DeepEqual(x, y) {
		return false
	}
	was, err := b.settings(old)
	now, err2 := b.settings(fresh)
	if err != nil || err2 != nil || !maps.Equal(was, now) {
		return false
	}
	client, err := b.open(clientSecretPlace(old), old.Secret)
	webhook, err2 := b.open(webhookSecretPlace(old), old.WebhookSecret)
	return err == nil && err2 == nil && client.Reveal() == in.ClientSecret.Reveal() && webhook.Reveal() == in.WebhookSecret.Reveal()
}
