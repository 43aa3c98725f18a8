package broker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

// FlowID names a flow.
type FlowID string

// FlowStatus is where a flow has got to.
type FlowStatus string

// A flow goes from open to consumed, which happens once, and from there to succeeded or failed. An open one can fail
// too: it expires by time alone, its session is deleted, or another browser brings its state.
const (
	FlowOpen      FlowStatus = "open"
	FlowConsumed  FlowStatus = "consumed"
	FlowSucceeded FlowStatus = "succeeded"
	FlowFailed    FlowStatus = "failed"
)

// Flow is one attempt to get a grant through the end user's browser.
type Flow struct {
	ID          FlowID
	Environment EnvironmentID
	Session     SessionID // empty: none
	Integration IntegrationID
	Connection  ConnectionID // the one to be repaired, later the one that came of it
	Key         string       // the new connection's key; empty: its id
	StateHash   []byte       // SHA-256 of the state
	BrowserHash []byte       // SHA-256 of the secret in the browser's cookie
	Channel     []byte       // SHA-256 of the channel that waits for the result; nil: nobody does
	RedirectURI string       // the same string goes into both requests
	Issuer      string       // what the answer must name, where the provider is known to name it
	AskedScopes []string
	Landing     string // as in [Session]
	Secrets     Sealed // flowSecrets: PKCE verifier, nonce, config, client override
	Status      FlowStatus
	Code        string // why it failed
	CreatedAt   time.Time
	ExpiresAt   time.Time
	ConsumedAt  time.Time
}

// flowLifetime is how long a sign-in may take; it cannot be extended.
const flowLifetime = 10 * time.Minute

// codeInterrupted is why a flow failed whose process ended in the middle of it.
const codeInterrupted = "interrupted"

// flowSecrets is what a flow keeps sealed until its answer comes.
type flowSecrets struct {
	Verifier     string         `json:"verifier,omitempty"`
	Nonce        string         `json:"nonce,omitempty"`
	Config       map[string]any `json:"config,omitempty"`
	ClientID     string         `json:"client_id,omitempty"`
	ClientSecret string         `json:"client_secret,omitempty"`
	RefreshToken string         `json:"refresh_token,omitempty"`
	// The temporary credential, where the provider gave one.
	Token       string `json:"token,omitempty"`
	TokenSecret string `json:"token_secret,omitempty"`
	// The server, where one had to be found, and the client that was made for it.
	Server             *Server `json:"server,omitempty"`
	ServerClientID     string  `json:"server_client_id,omitempty"`
	ServerClientSecret string  `json:"server_client_secret,omitempty"`
}

func flowPlace(f *Flow) place {
	return place{environment: f.Environment, column: columnFlow, row: string(f.ID)}
}

// Started is a sign-in that the browser can be sent to.
type Started struct {
	URL        string // the provider's page
	State      string
	Browser    Secret // goes into the browser's cookie, and nowhere else
	CookieName string // without a prefix
	ExpiresAt  time.Time
	// Scopes are what is asked for where the provider decided that, so that no form could show them.
	Scopes []string
}

// FlowCookieName names the cookie of a state: several sign-ins in one browser do not disturb each other.
func FlowCookieName(state string) string {
	sum := sha256.Sum256([]byte(state))
	return "flow-" + hex.EncodeToString(sum[:4])
}

// The shared callback paths, and the beginning of those that belong to one integration.
const (
	CallbackPath       = "/oauth/callback"
	SecondCallbackPath = "/oauth2/callback"
)

// redirectURI is where the provider sends the browser back. An integration whose authorization server a user names has
// its own, so that one server's answer cannot be taken for another's.
func (b *Broker) redirectURI(f *Facts, i *Integration, path string) string {
	if f.FreeHost {
		return b.publicURL + CallbackPath + "/" + i.PublicID
	}
	return b.publicURL + cmp.Or(path, CallbackPath)
}

// RedirectURI is the address that has to be registered with an integration's provider.
func (b *Broker) RedirectURI(f *Facts, i *Integration) string { return b.redirectURI(f, i, "") }

// StartFlow opens a sign-in and gives the address that the browser goes to. Errors: those of ConnectForm, variable_invalid
// naming the field, rate_limited; exchange_failed where the provider has to be asked first and refuses or does not answer.
func (b *Broker) StartFlow(ctx context.Context, who Actor, key string, in ConnectInput) (*Started, error) {
	c, err := b.connecting(ctx, who, key)
	if err != nil {
		return nil, err
	}
	a, ok := c.making.provider.(Authorizer)
	if !ok || !c.making.facts.Interactive {
		return nil, ErrNotSupported.Saying("this provider needs no browser")
	}
	if _, err := c.fill(in); err != nil {
		return nil, err
	}
	if err := b.own(ctx, c, in); err != nil {
		return nil, err
	}
	secrets := flowSecrets{
		Verifier: randomText(32), Nonce: randomText(16), Config: c.making.config,
		ClientID: c.defaults.ClientID, ClientSecret: c.defaults.ClientSecret.Reveal(), RefreshToken: c.defaults.RefreshToken.Reveal(),
	}
	request := &AuthorizeRequest{
		Client: c.making.client, Config: c.making.holding().Config, RedirectURI: b.serverRedirectURI(c, cmp.Or(in.Callback, c.session.Callback)),
		Verifier: secrets.Verifier, Nonce: secrets.Nonce, UserScopes: c.defaults.UserScopes, Params: c.defaults.AuthorizationParams,
	}
	if len(request.Params) == 0 {
		if request.Params, err = browserParams(in.Params); err != nil {
			return nil, err
		}
	}
	// The address is made once without a state, so that what is wrong with it is found before anything is written.
	if _, err := a.AuthorizeURL(request); err != nil {
		return nil, inSection(err, ConfigField)
	}
	f, err := b.beginFlow(ctx, c, secrets, request.RedirectURI, in)
	if err != nil {
		return nil, err
	}
	request.State = f.state
	goal, err := b.destination(ctx, c, a, request, f.flow, secrets)
	if err != nil {
		return nil, err
	}
	return &Started{
		URL: goal, State: f.state, Browser: NewSecret(f.browser), CookieName: FlowCookieName(f.state), ExpiresAt: f.flow.ExpiresAt,
		Scopes: request.foundScopes(c.making.asked),
	}, nil
}

// backendParams are the parameters of an authorization request that only the app's backend may choose: what is asked for,
// and how the answer comes back.
var backendParams = []string{
	"scope", "user_scope", "response_type", "response_mode", "request", "request_uri", "resource", "audience", "client_id",
	"redirect_uri", "state", "nonce", "code_challenge", "code_challenge_method", "claims", "authorization_details",
	"include_granted_scopes", "optional_scope", "client_key", "app_id", "granular_scopes",
}

// browserParams checks the parameters that a browser chose.
func browserParams(in map[string]string) (map[string]string, error) {
	for name := range in {
		if slices.Contains(backendParams, strings.ToLower(name)) {
			return nil, ErrInvalidRequest.On("authorization_params." + name).Saying("only the app's backend may choose this parameter")
		}
	}
	return in, nil
}

// Callback is a browser that comes back from a provider.
type Callback struct {
	Query       url.Values
	Integration string // the public id in the path; "" on a shared path
	Browser     Secret // from the cookie of the state; zero: there is none
	IP          string
	RequestID   string
}

// FlowError is a sign-in that came to nothing, and what is known about where the end user came from.
type FlowError struct {
	Err         *Error
	Provider    string // its display name
	Detail      string // the provider's own words, cleaned and cut; escape them
	Integration string // its key
	Session     *Session
	Environment *Environment
	ReturnURL   string
	Flow        FlowID // as in [Outcome]; empty: the browser has no business with the flow, or nothing came of it yet
	Landing     string // as in [Outcome]
}

// Error gives the code and message of the cause.
func (e *FlowError) Error() string { return e.Err.Error() }

// Unwrap gives the *Error.
func (e *FlowError) Unwrap() error { return e.Err }

// FinishFlow takes the provider's answer, exchanges its code and stores the connection. Whatever goes wrong, the sign-in
// is over and its code is never sent a second time. Errors are *FlowError.
func (b *Broker) FinishFlow(ctx context.Context, cb Callback) (*Outcome, error) {
	b.work.begin()
	defer b.work.done()
	ctx = context.WithoutCancel(ctx) // the end user may close the window; what the provider has issued must be kept
	f, err := b.flowOf(ctx, cb)
	if err != nil {
		return nil, &FlowError{Err: AsError(err)}
	}
	c, err := b.resume(ctx, f, cb)
	if err == nil {
		var o *Outcome
		if o, err = b.finish(ctx, c, cb); err == nil {
			b.waiting.tell(f.Channel, FlowEnd{Integration: o.Integration, Connection: o.Key, Pending: o.Pending})
			return o, nil
		}
	}
	failure := b.flowError(ctx, f, c, err)
	if c.ended {
		b.waiting.tell(f.Channel, FlowEnd{Integration: failure.Integration, Connection: f.Key, Err: failure.Err})
	}
	return nil, failure
}

// PluginStateParam is the name that the state has where an app was installed that cannot have another.
const PluginStateParam = "payload"

// InstallationParam is where an answer names the installation of an app.
const InstallationParam = "installation_id"

// installs reports whether a sign-in is the installation of an app, which gives no code.
func (f *Facts) installs() bool {
	return f.CodeParam == PluginStateParam || f.CodeParam == InstallationParam
}

// AppCallbackPath is where a provider sends the browser after an app was installed.
const AppCallbackPath = "/app-auth/connect"

// StateIn gives the state of a provider's answer, "" if there is none or more than one.
func StateIn(q url.Values) string {
	states := q["state"]
	if len(states) == 0 {
		states = q[PluginStateParam]
	}
	if len(states) != 1 {
		return ""
	}
	return states[0]
}

// flowOf checks the answer's form and finds the flow by its state.
func (b *Broker) flowOf(ctx context.Context, cb Callback) (*Flow, error) {
	state := StateIn(cb.Query)
	if state == "" {
		return nil, ErrStateInvalid
	}
	hash, ok := b.sealer.CheckState(state)
	if !ok {
		return nil, ErrStateInvalid
	}
	f, err := b.store.FlowByState(ctx, hash[:])
	if errors.Is(err, ErrNotFound) {
		return nil, ErrStateInvalid
	}
	return f, err
}

// resume checks that the answer belongs to the flow and takes the flow out of use. It gives what is known even when it
// fails, so that the page can say whose sign-in it was.
func (b *Broker) resume(ctx context.Context, f *Flow, cb Callback) (*connecting, error) {
	c := &connecting{}
	who := Actor{Kind: ByBrowser, Environment: f.Environment, Session: f.Session, IP: cb.IP, RequestID: cb.RequestID}
	c.environment = b.snapshot.Load().environments[f.Environment]
	if f.Session != "" {
		s, err := b.store.Session(ctx, f.Session)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return c, err
		}
		c.session = s
	}
	c.ended = f.Status == FlowOpen // as long as nothing below says otherwise, it can come to nothing any more
	i, ok := b.snapshot.Load().integrations[f.Integration]
	if !ok || !i.DeletedAt.IsZero() {
		return c, ErrStateInvalid
	}
	m, err := b.newMaking(who, i)
	if err != nil {
		return c, err
	}
	c.ended = false
	c.making = m
	if f.Status != FlowOpen {
		return c, ErrStateUsed
	}
	if !b.Now().Before(f.ExpiresAt) {
		c.ended = true
		return c, ErrStateExpired
	}
	if err := belongs(f, i, cb); err != nil {
		c.ended = true
		return c, errors.Join(err, b.failFlow(ctx, f, who, AsError(err).Code))
	}
	if ok, err := b.store.ConsumeFlow(ctx, f.ID, b.Now()); err != nil || !ok {
		if err == nil {
			err = ErrStateUsed
		}
		return c, err
	}
	m.flow, c.ended = f, true
	if err := b.restore(f, c); err != nil {
		return c, err
	}
	return c, c.secrets.Server.answeredBy(cb.Query)
}

// belongs checks that the answer came to the right address, in the browser that began, from the right server, and in a
// form that cannot be read in two ways.
func belongs(f *Flow, i *Integration, cb Callback) error {
	sum := sha256.Sum256([]byte(cb.Browser.Reveal()))
	switch {
	case cb.Browser.IsZero() || subtle.ConstantTimeCompare(sum[:], f.BrowserHash) != 1:
		return ErrBrowserMismatch
	case cb.Integration != i.ownCallback(f.RedirectURI):
		return ErrContextMismatch
	case f.Issuer != "" && cb.Query.Get("iss") != f.Issuer:
		return ErrIssuerMismatch
	}
	for _, name := range []string{"code", "iss", "error", "error_description"} {
		if len(cb.Query[name]) > 1 {
			return ErrCallbackInvalid
		}
	}
	if cb.Query.Has("access_token") || cb.Query.Has("id_token") || (cb.Query.Has("code") && cb.Query.Has("error")) {
		return ErrCallbackInvalid
	}
	return nil
}

// restore brings back what the flow kept sealed.
func (b *Broker) restore(f *Flow, c *connecting) error {
	var s flowSecrets
	if err := b.openJSON(flowPlace(f), f.Secrets, &s); err != nil {
		return err
	}
	m := c.making
	if c.session != nil {
		m.bindSession(c.session, Defaults{ClientID: s.ClientID, ClientSecret: NewSecret(s.ClientSecret)})
		if _, ended := c.session.Ended(m.integration.ID); ended {
			return ErrSessionCompleted
		}
	} else if f.Session != "" {
		return ErrSessionInvalid // it was deleted while the browser was away
	}
	m.reconnect, m.key, m.asked, m.config = f.Connection, f.Key, f.AskedScopes, maps.Clone(s.Config)
	c.secrets, m.client = s, s.client(m.client)
	if s.Server != nil {
		m.asked = s.Server.Scopes
	}
	return nil
}

// maxCode bounds an authorization code.
const maxCode = 4096

// finish exchanges the code and stores what comes of it.
func (b *Broker) finish(ctx context.Context, c *connecting, cb Callback) (*Outcome, error) {
	m := c.making
	if code := cb.Query.Get("error"); code != "" {
		said := &ProviderError{Class: GrantLost, Code: code, Text: cb.Query.Get("error_description")}
		if code == "access_denied" {
			return nil, ErrProviderDenied.Because(said)
		}
		return nil, ErrProviderError.Because(said)
	}
	if (m.facts.CodeParam == InstallationParam || m.facts.InstalledLater && !cb.Query.Has("code")) && cb.Query.Get("setup_action") == "request" {
		return nil, ErrProviderError.Because(&ProviderError{
			Class: GrantLost, Code: "installation_requested", Text: "an owner of the account has to approve the installation first; connect again after that",
		})
	}
	code, err := codeIn(cb.Query, m.facts, c.secrets)
	if err != nil {
		return nil, err
	}
	a, ok := m.provider.(Authorizer)
	if !ok {
		return nil, ErrNotSupported
	}
	repaired, err := b.repaired(ctx, m)
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, providerTimeout)
	got, err := a.Exchange(asking, &ExchangeRequest{
		Client: m.client, Config: m.holding().Config, RedirectURI: m.flow.RedirectURI, Code: code,
		Verifier: c.secrets.Verifier, Nonce: c.secrets.Nonce, Callback: cb.Query, Temporary: c.secrets.temporary(),
		Server: c.secrets.Server, Begun: m.flow.CreatedAt, Repaired: repaired,
	})
	cancel()
	if err != nil {
		if asProviderError(err).Class == ClientRefused {
			b.forgetClient(ctx, m.integration, c.secrets.Server, m.client.ID)
		}
		return nil, errors.Join(ErrExchangeFailed.Because(err), b.refuse(ctx, m, got))
	}
	m.take(got)
	if m.facts.KeepsRefresh { // OAuth 1.0 has no scopes
		m.grantedAsAsked()
	}
	m.override(c.secrets)
	return b.keepObtained(ctx, c)
}

// codeIn gives the code of the provider's answer.
func codeIn(q url.Values, f *Facts, s flowSecrets) (string, error) {
	if s.Token != "" {
		return verifierIn(q, s.Token)
	}
	param := f.CodeParam
	if param == "" {
		param = "code"
	}
	code := q.Get(param)
	if code == "" || len(code) > maxCode || len(q[param]) != 1 {
		return "", ErrCallbackInvalid
	}
	return code, nil
}

// override keeps the end user's own client with the credential, for its renewal.
func (m *making) override(s flowSecrets) {
	if s.RefreshToken != "" {
		m.material.Refresh = NewSecret(s.RefreshToken)
	}
	if s.ClientID == "" && s.ClientSecret == "" {
		return
	}
	if m.material.Details == nil {
		m.material.Details = make(map[string]Secret)
	}
	m.material.Details["client_id"], m.material.Details["client_secret"] = NewSecret(m.client.ID), m.client.Secret
}

// cleanText makes a stranger's text fit to be shown: short, on one line, without control characters and without those
// that turn the direction of writing.
func cleanText(s string) string {
	out := make([]rune, 0, maxDetail)
	for _, r := range s {
		if len(out) == maxDetail {
			break
		}
		switch {
		case unicode.IsSpace(r):
			out = append(out, ' ')
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == unicode.ReplacementChar:
		default:
			out = append(out, r)
		}
	}
	return string(out)
}
