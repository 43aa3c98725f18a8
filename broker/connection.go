package broker

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ConnectionID names a connection.
type ConnectionID string

// Status is where a connection stands. doc.go draws the state machine.
type Status string

// The statuses.
const (
	Pending      Status = "pending"      // no success yet
	Active       Status = "active"       // works
	Failing      Status = "error"        // the last renewal or check failed; Reason says how
	Expired      Status = "expired"      // run out, nothing to renew it with
	Disconnected Status = "disconnected" // ended, row kept
)

// Reasons of a status, besides the provider's own codes.
const (
	ReasonNeedsReauth   = "needs_reauth"         // the grant is gone
	ReasonOutcomeLost   = "refresh_outcome_lost" // the grant is gone, perhaps spent by an attempt that did not end
	ReasonRevoked       = "revoked"              // the provider says that the grant was ended
	ReasonOriginChanged = "origin_changed"       // the integration's address changed, so the old tokens are not sent there
	ReasonIssuerChanged = "issuer_changed"       // the server has another authorization server, so the old tokens are not sent there
	ReasonRefreshFails  = "refresh_failing"      // transient, for an hour or more
)

// Connection is one end user's grant at one integration. Its secrets live apart, in [Credential], so that editing a
// connection can never undo a renewal.
type Connection struct {
	ID          ConnectionID
	Number      int64 // given by the store, rising: some callers know connections by a number
	Environment EnvironmentID
	Integration IntegrationID
	Key         string // the caller's name for it, unique in its integration; by default the id
	Name        string // for people
	Status      Status
	Reason      string    // why it is not active
	ErrorID     string    // names the failure, for support
	ErrorCode   string    // what the provider called it, or we where it did not say; safe to show
	ErrorAt     time.Time // when that was
	EndUser     *EndUser
	Tags        map[string]string
	Metadata    []byte // a JSON object of the caller's; nil: none
	Config      []byte // a JSON object: connection config without what is secret
	Account     Sealed // the provider's name for the account
	AccountHash []byte // keyed hash of integration and account, to find other grants of it
	GrantHash   []byte // keyed hash of integration and grant, to find others that are on the same one; nil: it has no token
	// DuplicateGrant is set by the store where another connection, not disconnected either, has the same GrantHash: what
	// one of them renews, rotates or ends, the other loses.
	DuplicateGrant bool
	AskedScopes    []string
	Scopes         []string // granted; nil: unknown, because the credential was imported
	WebhookURL     string   // events go here instead of the environment's address
	Revision       int64    // bumped by every change; the guard of concurrent ones

	CreatedAt    time.Time
	UpdatedAt    time.Time
	AuthorizedAt time.Time // last connect or reconnect
	VerifiedAt   time.Time // last time that the provider confirmed it
	EndsAt       time.Time // when its credential runs out, if nothing renews that; zero: it does not, as far as is known
	FetchedAt    time.Time // last time that somebody used it; written late, in batches
}

// maxTags, maxTagKey and maxTagValue bound a connection's tags, and maxKey what it and its end user are called: in characters,
// of which none has more than four bytes. They are in indexes, and a row of one has 2,700 bytes in PostgreSQL.
const (
	maxTags     = 10
	maxTagKey   = 64
	maxTagValue = 255
	maxKey      = 255
)

// ValidateTags checks tags and gives them with their keys in lower case. Errors: invalid_request naming the tag.
func ValidateTags(in map[string]string) (map[string]string, error) {
	if len(in) > maxTags {
		return nil, ErrInvalidRequest.Saying("there can be at most 10 tags").On("tags")
	}
	out := make(map[string]string, len(in))
	for k, v := range in {
		lower := strings.ToLower(k)
		if !tagKey.MatchString(k) || len(k) > maxTagKey {
			return nil, ErrInvalidRequest.Saying("a tag's key begins with a letter and has up to 64 letters, digits and _-./").On("tags." + k)
		}
		if _, twice := out[lower]; twice {
			return nil, ErrInvalidRequest.Saying("two tags have the same key").On("tags." + k)
		}
		if v == "" || utf8.RuneCountInString(v) > maxTagValue {
			return nil, ErrInvalidRequest.Saying("a tag's value has 1 to 255 characters").On("tags." + k)
		}
		out[lower] = v
	}
	return out, nil
}

var tagKey = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_./-]*$`)

// Validate reports the first thing that is wrong with the connection.
func (c *Connection) Validate() error {
	switch {
	case c.ID == "" || c.Environment == "" || c.Integration == "":
		return ErrInternal.Saying("a connection needs an id, an environment and an integration")
	case c.Key == "" || len(c.Key) > maxKey || !utf8.ValidString(c.Key) || strings.ContainsFunc(c.Key, unicode.IsControl):
		return ErrInvalidRequest.Saying("a connection's id has 1 to 255 characters, and no control characters").On("connection_id")
	}
	return orElse(validName(c.Name), c.EndUser.Validate())
}

// Connections lists the environment's connections, newest first. The filter's environment is set here.
func (b *Broker) Connections(ctx context.Context, who Actor, f ConnectionFilter) ([]*Connection, error) {
	if err := who.Allow(ScopeConnectionsList, ScopeConnectionsListC); err != nil {
		return nil, err
	}
	f.Environment = who.Environment
	return b.listed(ctx, f)
}

// Connection gives a connection without its credential. Errors: not_found naming integration or connection.
func (b *Broker) Connection(ctx context.Context, who Actor, ref ConnectionRef) (*Connection, error) {
	if err := who.Allow(ScopeConnectionsRead, ScopeCredentialsRead); err != nil {
		return nil, err
	}
	c, _, err := b.lookUp(ctx, who, ref)
	return c, err
}

// lookUp finds a connection of the actor's environment by the names that callers use.
func (b *Broker) lookUp(ctx context.Context, who Actor, ref ConnectionRef) (*Connection, *Integration, error) {
	if ref.ID != "" {
		return b.lookUpByID(ctx, who, ref.ID)
	}
	i, err := b.integration(who, ref.Integration)
	if err != nil {
		return nil, nil, err
	}
	c, err := b.store.ConnectionByKey(ctx, i.ID, ref.Key)
	if err == nil && c.Status == Pending {
		err = ErrNotFound
	}
	if err != nil {
		return nil, nil, onConnection(err)
	}
	current(b.Now(), c)
	return c, i, nil
}

func (b *Broker) lookUpByID(ctx context.Context, who Actor, id ConnectionID) (*Connection, *Integration, error) {
	c, err := b.store.Connection(ctx, who.Environment, id)
	if err != nil {
		return nil, nil, onConnection(err)
	}
	i, ok := b.snapshot.Load().integrations[c.Integration]
	if !ok || !i.DeletedAt.IsZero() {
		return nil, nil, ErrNotFound.On("connection").Saying("there is no connection of that id")
	}
	current(b.Now(), c)
	return c, i, nil
}

// RevealOptions say how a credential is to be read.
type RevealOptions struct {
	ForceRefresh bool // renew it now, whatever its age
}

// Revealed is a connection with its credential in the clear.
type Revealed struct {
	Connection     *Connection
	Integration    *Integration
	Facts          *Facts
	Material       *Material      // nil: there is none
	Config         map[string]any // connection config, the secret fields included
	RefreshAllowed bool           // the actor may see refresh tokens
}

// Reveal gives a credential that is good for a while, renewing it first where that is due, and leaves a trace. When it
// cannot be renewed but has not run out, it is given as it is; a token that ran out and has nothing to renew it with is
// given too, for its ExpiresAt says so. Errors: not_found naming what; *RefreshError.
func (b *Broker) Reveal(ctx context.Context, who Actor, ref ConnectionRef, o RevealOptions) (*Revealed, error) {
	if err := who.Allow(ScopeCredentialsRead); err != nil {
		return nil, err
	}
	c, i, err := b.lookUp(ctx, who, ref)
	if err != nil {
		return nil, err
	}
	if err := b.reads.read(b.line(who, "credential.read", string(c.ID))); err != nil {
		return nil, err
	}
	b.reads.used(c.ID, b.Now())
	cred, err := b.store.Credential(ctx, c.ID)
	if errors.Is(err, ErrNotFound) && (c.Status == Pending || c.Status == Disconnected) {
		return b.revealed(who, c, i, nil)
	}
	if err != nil { // it had one a moment ago: it was deleted
		return nil, onConnection(err)
	}
	fresh, err := b.freshened(ctx, i, c, cred, o)
	if err != nil {
		return nil, err
	}
	if fresh.Version != cred.Version { // the connection has changed with it
		if c, err = b.store.Connection(ctx, who.Environment, c.ID); err != nil {
			return nil, onConnection(err)
		}
	}
	return b.revealed(who, c, i, fresh)
}

// freshened renews the credential where that is due or demanded.
func (b *Broker) freshened(ctx context.Context, i *Integration, conn *Connection, c *Credential, o RevealOptions) (*Credential, error) {
	p, ok := b.catalogue.Provider(i.Provider)
	if !ok {
		return c, nil
	}
	renewer, ok := p.(Renewer)
	if !ok {
		return c, nil
	}
	m, err := b.openMaterial(i.Environment, c)
	if err != nil {
		return nil, err
	}
	if !renewer.Renewable(m) {
		if c.isLost() && c.hasExpired(b.Now()) { // what it was renewed with has been erased
			return nil, knownLost(conn, c)
		}
		return c, nil
	}
	r := renewal{environment: i.Environment, connection: c.Connection, than: c.Version, why: whenDue}
	if o.ForceRefresh {
		r.why = demanded
	} else if !due(p.Facts(), c, b.Now()) {
		return c, nil
	}
	fresh, err := b.renew(ctx, r)
	if err == nil {
		return fresh, nil
	}
	if o.ForceRefresh || c.hasExpired(b.Now()) {
		return nil, err
	}
	// It is still good, unless the connection was deleted, here or on another node, while the renewal was tried.
	now, gone := b.store.Credential(ctx, c.Connection)
	switch {
	case gone != nil:
		return nil, onConnection(gone)
	case now.hasExpired(b.Now()):
		return nil, err
	}
	return now, nil
}

// revealed opens what the actor gets.
func (b *Broker) revealed(who Actor, c *Connection, i *Integration, cred *Credential) (*Revealed, error) {
	r := &Revealed{
		Connection: c, Integration: i, Facts: b.factsOf(i), Config: b.ConfigOf(c),
		RefreshAllowed: who.Kind == BySystem || who.Scopes.Has(ScopeRefreshTokensRead),
	}
	if cred == nil {
		return r, nil
	}
	m, err := b.openMaterial(c.Environment, cred)
	if err != nil {
		return nil, err
	}
	r.Material = m
	for k, v := range revealedConfig(m.Details) {
		r.Config[k] = v
	}
	return r, nil
}

// ConnectionPatch is a change of a connection; nil fields stay.
type ConnectionPatch struct {
	EndUser    *EndUser
	Tags       map[string]string // replaces all
	WebhookURL *string
	Name       *string
}

// UpdateConnection changes what is known about a connection, and never its credential.
func (b *Broker) UpdateConnection(ctx context.Context, who Actor, ref ConnectionRef, p ConnectionPatch) (*Connection, error) {
	if err := who.Allow(ScopeConnectionsUpdate); err != nil {
		return nil, err
	}
	if p.Tags != nil {
		tags, err := ValidateTags(p.Tags)
		if err != nil {
			return nil, err
		}
		p.Tags = tags
	}
	if p.WebhookURL != nil {
		if err := b.checkReceiver(*p.WebhookURL, fieldOverride); err != nil {
			return nil, err
		}
	}
	changed, err := b.change(ctx, who, []ConnectionRef{ref}, "connection.update", func(c *Connection) error {
		if p.EndUser != nil {
			c.EndUser = p.EndUser
		}
		if p.Tags != nil {
			c.Tags = p.Tags
		}
		set(&c.WebhookURL, p.WebhookURL)
		set(&c.Name, p.Name)
		return c.Validate()
	})
	if err != nil {
		return nil, err
	}
	return changed[0], nil
}

// SetMetadata replaces the metadata of connections, or lays metadata, a JSON object, over what they have, member by
// member. All of them are changed, or none.
func (b *Broker) SetMetadata(ctx context.Context, who Actor, integration string, keys []string, metadata []byte, merge bool) error {
	if err := who.Allow(ScopeConnectionsUpdate); err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(metadata, &members); err != nil || members == nil {
		return ErrInvalidRequest.Saying("metadata must be a JSON object").On("metadata")
	}
	var refs []ConnectionRef
	for _, key := range slices.Compact(slices.Sorted(slices.Values(keys))) {
		refs = append(refs, ConnectionRef{Integration: integration, Key: key})
	}
	_, err := b.change(ctx, who, refs, "connection.metadata", func(c *Connection) error {
		if !merge || len(c.Metadata) == 0 {
			c.Metadata = metadata
			return nil
		}
		var merged map[string]json.RawMessage
		if err := json.Unmarshal(c.Metadata, &merged); err != nil {
			return ErrInternal.Because(err)
		}
		maps.Copy(merged, members)
		raw, err := json.Marshal(merged)
		c.Metadata = raw
		return err
	})
	return err
}

// change reads connections, changes them and writes them, again from the start when somebody else was faster.
func (b *Broker) change(ctx context.Context, who Actor, refs []ConnectionRef, action string, apply func(*Connection) error) ([]*Connection, error) {
	for attempt := 0; ; attempt++ {
		var list []*Connection
		var trail Trail
		for _, ref := range refs {
			c, _, err := b.lookUp(ctx, who, ref)
			if err != nil {
				return nil, err
			}
			if err := apply(c); err != nil {
				return nil, err
			}
			c.UpdatedAt = b.Now()
			list = append(list, c)
			trail.Audit = append(trail.Audit, b.line(who, action, string(c.ID)))
		}
		err := b.store.UpdateConnections(ctx, list, trail)
		if err == nil || !errors.Is(err, ErrConflict) || attempt == 10 {
			return list, err
		}
	}
}

// DeleteConnection removes a connection. Its credential is unusable at once; that the provider ends the grant is seen to
// afterwards.
func (b *Broker) DeleteConnection(ctx context.Context, who Actor, ref ConnectionRef) error {
	if err := who.Allow(ScopeConnectionsDelete); err != nil {
		return err
	}
	c, _, err := b.lookUp(ctx, who, ref)
	if err != nil {
		return err
	}
	return b.removeConnection(ctx, who, c)
}

func (b *Broker) removeConnection(ctx context.Context, who Actor, c *Connection) error {
	trail := b.audited(who, "connection.delete", string(c.ID))
	trail.Events = []Event{b.event(EventDeleted, c, "")}
	return b.cache.writing(c.Integration, c.Key, func() error {
		return onConnection(b.store.DeleteConnection(ctx, who.Environment, c.ID, b.Now(), trail))
	})
}
