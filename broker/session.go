package broker

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// SessionID names a connect session.
type SessionID string

// EndUser is who connects, as the app's backend describes them.
type EndUser struct {
	ID               string
	Email            string
	DisplayName      string
	Tags             map[string]string
	OrganizationID   string
	OrganizationName string
}

// Validate reports the first thing that is wrong with the end user; nil is nobody.
func (u *EndUser) Validate() error {
	if u != nil && utf8.RuneCountInString(u.ID) > maxKey {
		return ErrInvalidRequest.Saying("an end user's id has at most 255 characters").On("end_user.id")
	}
	return nil
}

// Defaults is what the app's backend has decided for one integration of a session. What a browser sends never lies over it.
type Defaults struct {
	Scopes              string            // replaces the integration's; comma separated
	UserScopes          string            // Slack's second list
	AuthorizationParams map[string]string // more parameters of the authorization request
	Config              map[string]string // connection config, prefilled and fixed
	ClientID            string            // the end user's own client, in place of the integration's
	ClientSecret        Secret
	RefreshToken        Secret // kept in place of the provider's
	DocsConnect         string // where the form's help leads
}

// Session lets one end user make or repair connections for a short while.
type Session struct {
	ID                 SessionID
	Environment        EnvironmentID
	TokenHash          []byte // SHA-256 of the whole token
	EndUser            *EndUser
	Tags               map[string]string
	Integrations       []string     // keys that it allows; empty: all
	Connection         ConnectionID // the one that it repairs, or brings to its first success
	First              bool         // Connection is pending: this is to be its first success
	Landing            string       // a path of ours that the browser goes on to when a sign-in has ended; empty: it stays where it is told
	Callback           string       // the path that providers send the browser back to; empty: [CallbackPath]
	Own                bool         // what it connects replaces what its end user has of the integration
	ConnectionName     string       // name of the connection that it makes
	AllowAccountChange bool         // a reconnect may end in another account
	AllowedOrigins     []string     // may frame the UI and get its messages; empty: the environment's
	ReturnURL          string       // where the end user goes afterwards; empty: stays
	WebhookURL         string       // events of its connections go here instead
	Defaults           Sealed       // map[integration key]Defaults, sealed as one: it can hold client secrets
	Starts             int          // sign-ins begun
	Done               []SessionEnd // what it has come to
	CreatedAt          time.Time
	ExpiresAt          time.Time
}

// SessionEnd is one success of a session.
type SessionEnd struct {
	Integration IntegrationID
	Connection  ConnectionID
	At          time.Time
}

// Allows reports whether the session may be used for the integration with that key.
func (s *Session) Allows(key string) bool {
	if len(s.Integrations) == 0 {
		return true
	}
	for _, k := range s.Integrations {
		if k == key {
			return true
		}
	}
	return false
}

// Repairs reports whether the session is there to connect again what was connected before.
func (s *Session) Repairs() bool { return s.Connection != "" && !s.First }

// Ended gives the session's success for the integration, if it had one.
func (s *Session) Ended(i IntegrationID) (SessionEnd, bool) {
	for _, d := range s.Done {
		if d.Integration == i {
			return d, true
		}
	}
	return SessionEnd{}, false
}

// How long a session lives, and what it may do meanwhile.
const (
	sessionLifetime    = 15 * time.Minute
	maxSessionLifetime = time.Hour
	maxStarts          = 20 // sign-ins of one session
	sessionTokenPrefix = "nango_connect_session_"
	sessionTokenLength = len(sessionTokenPrefix) + 64
)

// ConnectionRef names a connection as callers do: by its id, or by two keys. Pending connections have no keys yet.
type ConnectionRef struct {
	ID          ConnectionID // empty: the keys name it
	Integration string       // the integration's key
	Key         string       // the connection's key
}

// SessionInput is what a connect session is made of.
type SessionInput struct {
	EndUser            *EndUser
	Tags               map[string]string
	Integrations       []string            // keys; empty: all
	Defaults           map[string]Defaults // by integration key
	AllowedOrigins     []string            // each one of the environment's; empty: all of them
	ReturnURL          string
	WebhookURL         string
	ConnectionName     string
	Lifetime           time.Duration // zero: 15 minutes; at most an hour
	Reconnect          *ConnectionRef
	AllowAccountChange bool
	Landing            string
	Callback           string
	Own                bool
}

// CreateSession makes a connect session and gives its token, which is told only now.
func (b *Broker) CreateSession(ctx context.Context, who Actor, in SessionInput) (*Session, Secret, error) {
	if err := who.Allow(ScopeSessionsWrite); err != nil {
		return nil, Secret{}, err
	}
	env, err := b.Environment(who)
	if err != nil {
		return nil, Secret{}, err
	}
	s := &Session{
		ID: SessionID(uuid.NewString()), Environment: env.ID, EndUser: in.EndUser, Tags: in.Tags, Integrations: in.Integrations,
		AllowAccountChange: in.AllowAccountChange, AllowedOrigins: in.AllowedOrigins, ReturnURL: in.ReturnURL,
		WebhookURL: in.WebhookURL, ConnectionName: in.ConnectionName, Landing: in.Landing, Callback: in.Callback,
		Own: in.Own, CreatedAt: b.Now(),
	}
	if err := b.bindSession(ctx, who, env, s, in); err != nil {
		return nil, Secret{}, err
	}
	token := sessionTokenPrefix + randomHex(32)
	hash := sha256.Sum256([]byte(token))
	s.TokenHash = hash[:]
	if s.Defaults, err = b.sealDefaults(s, in.Defaults); err != nil {
		return nil, Secret{}, err
	}
	if err := b.store.CreateSession(ctx, s, b.audited(who, "session.create", string(s.ID))); err != nil {
		return nil, Secret{}, err
	}
	return s, NewSecret(token), nil
}

// bindSession checks what the session is to be bound to.
func (b *Broker) bindSession(ctx context.Context, who Actor, env *Environment, s *Session, in SessionInput) error {
	life := in.Lifetime
	if life == 0 {
		life = sessionLifetime
	}
	if life < 0 || life > maxSessionLifetime {
		return ErrInvalidRequest.Saying("a session lives for at most an hour").On("lifetime")
	}
	s.ExpiresAt = s.CreatedAt.Add(life)
	if err := orElse(validName(in.ConnectionName), in.EndUser.Validate()); err != nil {
		return err
	}
	for n, key := range in.Integrations {
		if _, err := b.integration(who, key); err != nil {
			return ErrInvalidRequest.Saying("there is no integration of that key").On("allowed_integrations." + strconv.Itoa(n))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(in.Defaults)) {
		if _, err := b.integration(who, key); err != nil {
			return ErrInvalidRequest.Saying("there is no integration of that key").On("integrations_config_defaults." + key)
		}
	}
	if in.ReturnURL != "" && !ReturnURLAllowed(in.ReturnURL, env.ReturnURLs) {
		return ErrReturnURLRefused.On("return_url")
	}
	if err := b.checkReceiver(in.WebhookURL, fieldOverride); err != nil {
		return err
	}
	for _, o := range in.AllowedOrigins {
		if !originAllowed(o, env.AllowedOrigins, b.dev) {
			return ErrInvalidRequest.Saying("the environment does not allow this origin: " + quote(o)).On("allowed_origins")
		}
	}
	if in.Reconnect == nil {
		return nil
	}
	c, i, err := b.lookUp(ctx, who, *in.Reconnect)
	if err != nil {
		return err
	}
	s.Connection, s.First, s.Integrations = c.ID, c.Status == Pending, []string{i.Key}
	if s.EndUser == nil {
		s.EndUser = c.EndUser
	}
	return nil
}

// originAllowed reports whether an origin may frame the UI and get its messages. An environment without a list allows
// every origin on this machine as long as we are on this machine ourselves, and none otherwise.
func originAllowed(origin string, list []string, dev bool) bool {
	if !validOrigin(origin) {
		return false
	}
	if len(list) > 0 {
		return slices.Contains(list, origin)
	}
	u, err := url.Parse(origin)
	return dev && err == nil && Loopback(u.Hostname())
}

// OriginAllowed reports whether a browser page of that origin may use the session's UI.
func (b *Broker) OriginAllowed(origin string, e *Environment, s *Session) bool {
	if s != nil && len(s.AllowedOrigins) > 0 {
		return slices.Contains(s.AllowedOrigins, origin)
	}
	return originAllowed(origin, e.AllowedOrigins, b.dev)
}

// PageAllowed reports whether a browser page of that origin may hear of the session: our own, one of the allowed origins or,
// where none are configured, any; on this machine its own pages alone. No cookie is at stake, only what the page holds already.
func (b *Broker) PageAllowed(origin string, e *Environment, s *Session) bool {
	return origin == b.publicURL || b.OriginAllowed(origin, e, s) || len(b.Origins(e, s)) == 0 && !b.DevMode()
}

// Origins lists the origins that the session's UI may talk to, by name. An environment without a list has none to name.
func (b *Broker) Origins(e *Environment, s *Session) []string {
	if s != nil && len(s.AllowedOrigins) > 0 {
		return s.AllowedOrigins
	}
	return e.AllowedOrigins
}

// AuthenticateSession gives the actor of a connect session's token.
func (b *Broker) AuthenticateSession(ctx context.Context, token string) (Actor, error) {
	if len(token) != sessionTokenLength || !strings.HasPrefix(token, sessionTokenPrefix) {
		return Actor{}, ErrSessionInvalid
	}
	hash := sha256.Sum256([]byte(token))
	s, err := b.store.SessionByHash(ctx, hash[:])
	if errors.Is(err, ErrNotFound) {
		return Actor{}, ErrSessionInvalid
	}
	if err != nil {
		return Actor{}, err
	}
	if !b.Now().Before(s.ExpiresAt) {
		return Actor{}, ErrSessionExpired
	}
	return Actor{Kind: BySession, Environment: s.Environment, Session: s.ID}, nil
}

// Session gives the actor's session.
func (b *Broker) Session(ctx context.Context, who Actor) (*Session, error) {
	if who.Kind != BySession {
		return nil, ErrSessionInvalid
	}
	s, err := b.store.Session(ctx, who.Session)
	if errors.Is(err, ErrNotFound) || err == nil && s.Environment != who.Environment {
		return nil, ErrSessionInvalid
	}
	return s, err
}

// DeleteSession ends the actor's session and whatever sign-ins are open in it.
func (b *Broker) DeleteSession(ctx context.Context, who Actor) error {
	s, err := b.Session(ctx, who)
	if err != nil {
		return err
	}
	err = b.store.DeleteSession(ctx, s.ID, ErrSessionInvalid.Code, b.Now(), b.audited(who, "session.delete", string(s.ID)))
	if err == nil {
		b.waiting.tellSession(s.ID, FlowEnd{Err: ErrSessionInvalid})
	}
	return err
}

// storedDefaults is Defaults on its way into a seal.
type storedDefaults struct {
	Scopes       string            `json:"scopes,omitempty"`
	UserScopes   string            `json:"user_scopes,omitempty"`
	Params       map[string]string `json:"params,omitempty"`
	Config       map[string]string `json:"config,omitempty"`
	ClientID     string            `json:"client_id,omitempty"`
	ClientSecret string            `json:"client_secret,omitempty"`
	RefreshToken string            `json:"refresh_token,omitempty"`
	DocsConnect  string            `json:"docs_connect,omitempty"`
}

func sessionPlace(s *Session) place {
	return place{environment: s.Environment, column: columnDefaults, row: string(s.ID)}
}

func (b *Broker) sealDefaults(s *Session, by map[string]Defaults) (Sealed, error) {
	if len(by) == 0 {
		return nil, nil
	}
	stored := make(map[string]storedDefaults, len(by))
	for key, d := range by {
		stored[key] = storedDefaults{
			d.Scopes, d.UserScopes, d.AuthorizationParams, d.Config, d.ClientID, d.ClientSecret.Reveal(), d.RefreshToken.Reveal(), d.DocsConnect,
		}
	}
	return b.sealJSON(sessionPlace(s), stored)
}

// SessionDefaults gives what the app's backend decided for the integration of that key.
func (b *Broker) SessionDefaults(ctx context.Context, who Actor, key string) (Defaults, error) {
	s, err := b.Session(ctx, who)
	if err != nil {
		return Defaults{}, err
	}
	return b.defaultsOf(s, key)
}

func (b *Broker) defaultsOf(s *Session, key string) (Defaults, error) {
	if s == nil {
		return Defaults{}, nil
	}
	var stored map[string]storedDefaults
	if err := b.openJSON(sessionPlace(s), s.Defaults, &stored); err != nil {
		return Defaults{}, err
	}
	d := stored[key]
	return Defaults{
		d.Scopes, d.UserScopes, d.Params, d.Config, d.ClientID, NewSecret(d.ClientSecret), NewSecret(d.RefreshToken), d.DocsConnect,
	}, nil
}
