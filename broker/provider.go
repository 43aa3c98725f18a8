package broker

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Catalogue holds the providers that exist.
type Catalogue interface {
	// Provider finds an entry, aliases included.
	Provider(name string) (Provider, bool)
	// Names lists all entries, sorted.
	Names() []string
}

// Provider is an entry of the catalogue together with its mode. What a mode can do beyond this is one of the interfaces
// below; the broker asks with a type assertion.
type Provider interface {
	Facts() *Facts
	// CheckConfig checks connection config against the entry's patterns and the grammar of host names, and drops what the
	// entry does not declare. trusted is set for values from the app's backend: they need only the grammar and may hold a
	// port. Errors: variable_invalid, naming the field.
	CheckConfig(in map[string]string, client *Client, trusted bool) (map[string]string, error)
	// CheckMaterial refuses a credential that no provider would give: an empty token, control characters, too long.
	CheckMaterial(m *Material) error
	// Present says how the credential goes into a request.
	Present(h *Holding) (*Presentation, error)
}

// Authorizer is a provider whose grant needs the end user's browser.
type Authorizer interface {
	// AuthorizeURL is where the browser goes. Errors: variable_invalid, provider_url_invalid.
	AuthorizeURL(r *AuthorizeRequest) (string, error)
	// Exchange sends the code to the token endpoint, exactly once. Errors: *ProviderError. What comes with one is refused,
	// and is to be ended at the provider.
	Exchange(ctx context.Context, r *ExchangeRequest) (*Obtained, error)
}

// Preparer is an Authorizer that asks its provider for a temporary credential before the browser goes there (RFC 5849
// section 2.1). AuthorizeURL then only tells whether the request can be made.
type Preparer interface {
	// Prepare asks, exactly once. Errors: variable_invalid, provider_url_invalid, *ProviderError.
	Prepare(ctx context.Context, r *AuthorizeRequest) (*Temporary, error)
}

// Temporary is a temporary credential. It is of use to one sign-in alone.
type Temporary struct {
	URL    string // where the browser goes with it
	Token  string // the provider's answer names it again
	Secret Secret
}

// Submitter is a provider whose credential an end user types in.
type Submitter interface {
	// Submit checks the typed fields and makes a credential of them, asking the provider where the mode does.
	// Errors: variable_invalid naming the field, *ProviderError.
	Submit(ctx context.Context, h *Holding, fields map[string]Secret) (*Obtained, error)
}

// Renewer is a provider whose credential runs out and can be renewed.
type Renewer interface {
	// Renewable reports whether there is something to renew it with.
	Renewable(m *Material) bool
	// Endpoint names the token endpoint's host, or hosts with spaces between them: a credential is not sent to another one
	// than it was made with. Empty: nobody is asked, or connection config is missing.
	Endpoint(h *Holding) string
	// Renew asks for a new token, exactly once. Errors: *ProviderError. What comes with one was obtained all the same, and is
	// to be kept: of a credential of two parts one may have been renewed.
	Renew(ctx context.Context, h *Holding) (*Obtained, error)
}

// Revoker is a provider that can end a grant.
type Revoker interface {
	// Revoke ends the grant. supported is false where the entry has no way to. Errors: *ProviderError.
	Revoke(ctx context.Context, h *Holding) (supported bool, err error)
}

// Identifier is a provider that can tell which account was connected.
type Identifier interface {
	// Identify gives the account's id, "" where the entry has no way to. Errors: *ProviderError.
	Identify(ctx context.Context, h *Holding) (string, error)
}

// Verifier is a provider that can tell whether a credential works.
type Verifier interface {
	// Verify asks the provider; checked is false where the entry has no way to. A refusal is a *ProviderError of class
	// GrantLost.
	Verify(ctx context.Context, h *Holding) (checked bool, err error)
}

// Locator is a provider that knows where its API stands without a credential.
type Locator interface {
	// BaseURL gives the address of the holding's API, nil where the entry has none. The holding has no secrets: an address
	// that depends on one is an error.
	BaseURL(h *Holding) (*url.URL, error)
}

// Completer is a provider that needs a call after the grant to know, for example, which host serves the account.
type Completer interface {
	// Complete gives what to add to the connection config. Errors: *ProviderError.
	Complete(ctx context.Context, h *Holding) (map[string]string, error)
}

// SettingsChecker is a provider that declares the settings of its integrations.
type SettingsChecker interface {
	// CheckSettings checks an integration's settings and fills in what has a default. Errors: variable_invalid naming the
	// setting: unknown, missing, or not of the right form.
	CheckSettings(in map[string]string) (map[string]string, error)
}

// Client is an integration as its provider sees it.
type Client struct {
	ID       string
	Secret   Secret
	Scopes   []string
	Settings map[string]string
	Hosts    []string
}

// Holding is all that is known of a connection when its provider is asked something.
type Holding struct {
	Client   *Client
	Config   map[string]string
	Material *Material
	Insisted bool // of a renewal: somebody wants all of it renewed, whatever its age
	Shared   bool // of a revocation: others hold the same grant, so only what is not theirs is to be ended
}

// AuthorizeRequest is what an authorization URL is made of.
type AuthorizeRequest struct {
	Client      *Client
	Config      map[string]string
	RedirectURI string
	State       string
	Verifier    string // of PKCE; the URL gets its challenge
	Nonce       string // sent whenever openid is asked
	UserScopes  string
	Params      map[string]string // laid over the entry's own; an empty one takes the entry's away
	Server      *Server           // nil: not found yet, or the provider is no Discoverer
}

// ExchangeRequest is what a code exchange is made of.
type ExchangeRequest struct {
	Client      *Client
	Config      map[string]string
	RedirectURI string
	Code        string // or the verifier of a temporary credential
	Verifier    string // of PKCE
	Nonce       string
	Callback    url.Values // the provider's whole answer, for what the entry takes from it
	Temporary   *Temporary // what the sign-in was prepared with, without its URL; nil: it was not
	Server      *Server    // what was found when the sign-in began; nil: the provider is no Discoverer
	Begun       time.Time  // when the sign-in was; zero: the app's backend got the code by itself
	Repaired    *Repaired  // the connection that is connected again; nil: it is a new one
}

// Repaired is what a connection was before it is connected again.
type Repaired struct {
	Config       map[string]string
	AuthorizedAt time.Time
}

// Obtained is what a provider gave.
type Obtained struct {
	Material *Material
	Config   map[string]string // to add to the connection config
	Account  string            // the account's id, where the answer itself holds it
	Partly   *ProviderError    // why a part was not renewed that the rest is good without; nil: all was
	Erases   bool              // the old refresh token is not to be kept any longer
}

// Presentation is how a credential goes into a request. It may be kept as long as the credential lasts.
type Presentation struct {
	BaseURL *url.URL
	Headers []Header // keys are canonical; set last, over everything
	Query   []Param  // values are already encoded
	Retry   RetryRules
	// Certificate is shown to the server; nil: none is.
	Certificate *tls.Certificate
	// Sign is set where each request needs its own signature; it runs last.
	Sign func(*http.Request) error
	// OnlyBase is set where the credential is for the base URL alone, whatever hosts the integration allows.
	OnlyBase bool
}

// Format gives a placeholder: the headers hold the credential.
func (p *Presentation) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// Header is a header that the provider's authentication sets, or one that its entry adds.
type Header struct {
	Key    string
	Values []string
	// Weak is set for headers that the caller's own may replace, such as accept.
	Weak bool
}

// Param is a query parameter that the provider's authentication sets.
type Param struct{ Key, Value string }

// RetryRules are an entry's own rules for callers that ask for retries.
type RetryRules struct {
	At        []string // headers with the time to come back at: epoch seconds, milliseconds or a date
	After     []string // headers with the seconds to wait
	Remaining string   // header that is "0" when the limit is reached
	Statuses  []StatusRange
}

// StatusRange is a range of HTTP statuses, both ends included.
type StatusRange struct{ From, To int }

// Facts are an entry's facts for pages, APIs and the broker's rules.
type Facts struct {
	Name             string
	DisplayName      string
	Mode             string // OAUTH2, API_KEY, ...
	CredentialType   string // the type of the credentials it gives: it differs from Mode for some
	Docs             string
	DocsConnect      string
	Categories       []string
	DefaultScopes    []string
	Fields           []Field // what an end user is asked for, in order
	Template         []byte  // the entry as JSON, verbatim, aliases resolved
	Interactive      bool    // needs the end user's browser
	NeedsClient      bool    // needs a client id of the integration
	Usable           bool
	UnusableReason   string
	AuthorizationURL string // "" where it has placeholders
	TokenOrigin      string // scheme and host, "" where it has placeholders
	// FreeHost is set where an end user supplies the authorization domain: such integrations get their own redirect URI.
	FreeHost         bool
	ServerField      string        // the connection config that names the server of a connection, which a repair keeps; empty: none does
	CodeParam        string        // the callback's name for the code, where it is not code
	Issuer           string        // what authorization answers name, where the entry promises that they do
	RefreshBuffer    time.Duration // renew this long before the end; zero: the broker's own rule
	ServesBuffer     time.Duration // a served token lasts at least this long; zero: the broker's own rule
	RefreshIdle      time.Duration // a refresh token dies when unused for this long; zero: unknown
	OnDemand         bool          // renewed without asking the provider, so that it is done when somebody needs it and not before
	RevokesGrant     bool          // revoking one token ends every token of that user and client
	RevokesOwn       bool          // of a shared grant, a part is a connection's own and can be ended
	InstalledLater   bool          // end users install an app, which somebody else may have to approve first
	HasProxy         bool
	KeepsRefresh     bool // an answer without a refresh token keeps the old one, always true for OAuth 2
	ForwardsWebhooks bool
	SecretSettings   []string // the settings of an integration that are kept as secrets
	// Assigned is the connection config that we choose for each end user, who has to enter it at the provider; nil: there
	// is none.
	Assigned *Field
}

// Field is one thing that an end user is asked for.
type Field struct {
	Name        string
	Section     FieldSection
	Title       string
	Description string
	Example     string
	Pattern     string // anchored; RE2
	Format      string // hostname, uuid, uri, email or ""
	Options     []string
	Prefix      string // decoration around the value, not part of it
	Suffix      string
	Default     string
	HasDefault  bool
	DocSection  string
	Optional    bool
	Hidden      bool // not shown; its default is used
	Secret      bool
	Automated   bool // never asked
}

// FieldSection says where a field's value goes.
type FieldSection string

// The sections.
const (
	ConfigField     FieldSection = "connection_config"
	CredentialField FieldSection = "credentials"
)

// FailureClass sorts what providers answer by what it means for the connection.
type FailureClass int

// The classes.
const (
	// Transient says nothing about the grant: network, timeouts, 5xx, garbage.
	Transient FailureClass = iota
	// GrantLost: the provider says that this grant is no longer good.
	GrantLost
	// ClientRefused: the provider refuses the integration's client; its connections are not to blame.
	ClientRefused
)

// ProviderError is a provider's refusal or failure to answer.
type ProviderError struct {
	Class      FailureClass
	Code       string        // the provider's error code if it has the form of one, else ours; safe to show
	Text       string        // the provider's description, cut to 300 characters without control characters; show it escaped
	Status     int           // HTTP status; zero: no answer
	RetryAfter time.Duration // as the provider asked, clamped; zero: it did not
	// InDoubt is set when the request may have arrived and its outcome is unknown.
	InDoubt bool
	// Moved is set when nothing was sent, because the server is not the one any more that the grant is of.
	Moved bool
	// Reach says how the network failed, as egress_blocked, provider_unreachable or provider_timeout; nil: it did not.
	Reach *Error
}

// Error gives the code alone: a provider's text can hold anything.
func (e *ProviderError) Error() string { return "provider: " + e.Code }
