package broker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// ConnectForm is everything that the page of one integration shows.
type ConnectForm struct {
	Integration  *Integration
	Facts        *Facts
	Environment  *Environment
	Session      *Session
	Ask          []Field // what is left to ask, in order
	Assigned     *AssignedValue
	Scopes       []string
	Title        string
	DocsConnect  string
	Reconnecting bool
	// AuthorizationOrigin is where the browser will go, "" when that depends on what is typed or it goes nowhere.
	AuthorizationOrigin string
}

// connecting is what a session needs to connect to one integration.
type connecting struct {
	session     *Session
	environment *Environment
	making      *making
	defaults    Defaults
	secrets     flowSecrets // of a flow that is being finished
	repaired    *Connection // where what it holds counts for its repair
	ended       bool        // the flow has come to its end, whatever that is
	assigned    *AssignedValue
}

// AssignedValue is a value that we chose for an end user, who has to enter it at the provider before connecting.
type AssignedValue struct {
	Field Field
	Value string
}

// connecting checks that the actor's session may be used for the integration of that key.
func (b *Broker) connecting(ctx context.Context, who Actor, key string) (*connecting, error) {
	s, err := b.Session(ctx, who)
	if err != nil {
		return nil, err
	}
	env, err := b.Environment(who)
	if err != nil {
		return nil, err
	}
	i, err := b.integration(who, key)
	if err != nil {
		return nil, err
	}
	if !s.Allows(key) {
		return nil, ErrIntegrationRefused
	}
	if _, ended := s.Ended(i.ID); ended {
		return nil, ErrSessionCompleted
	}
	if s.Connection != "" { // nobody is asked for consent that nothing can come of
		if _, err := b.store.Connection(ctx, who.Environment, s.Connection); err != nil {
			return nil, onConnection(err)
		}
	}
	m, err := b.newMaking(who, i)
	if err != nil {
		return nil, err
	}
	d, err := b.defaultsOf(s, key)
	if err != nil {
		return nil, err
	}
	m.bindSession(s, d)
	if err := m.hasClient(); err != nil {
		return nil, err
	}
	c := &connecting{session: s, environment: env, making: m, defaults: d}
	if c.assigned, err = b.assigned(ctx, c); err != nil {
		return nil, err
	}
	return c, b.repair(ctx, c)
}

// hasClient refuses to send anybody to a provider that has to know our client, and could not.
func (m *making) hasClient() error {
	if m.facts.NeedsClient && m.client.ID == "" {
		return ErrNotSupported.Saying("the integration has no client id yet; whoever runs this service has to set it")
	}
	return nil
}

// assigned gives the value that the provider wants us to choose; nil: it wants none. It is what the app's backend decided,
// what the connection that is being repaired has, or one of this session's own: an end user who could choose it could take
// another's, and with it what the other has let us do.
func (b *Broker) assigned(ctx context.Context, c *connecting) (*AssignedValue, error) {
	f := c.making.facts.Assigned
	if f == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	out := &AssignedValue{Field: *f, Value: c.defaults.Config[f.Name]}
	if c.session.Connection != "" && out.Value == "" {
		old, err := b.store.Connection(ctx, c.making.integration.Environment, c.session.Connection)
		if err != nil {
			return nil, onConnection(err)
		}
		out.Value, _ = b.ConfigOf(old)[f.Name].(string)
	}
	if out.Value == "" {
		sum := b.sealer.MAC(labelAssigned, place{row: string(c.session.ID), origin: string(c.making.integration.ID)}.bytes())
		id := uuid.UUID(sum[:16])
		id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // a UUID of our own making (RFC 9562 section 5.8)
		out.Value = id.String()
	}
	return out, nil
}

// bindSession takes over what the app's backend decided.
func (m *making) bindSession(s *Session, d Defaults) {
	m.session, m.reconnect, m.accountFree = s, s.Connection, s.AllowAccountChange
	if d.Scopes != "" {
		m.asked = splitScopes(d.Scopes)
	}
	client := *m.client
	client.Scopes = m.asked
	if d.ClientID != "" {
		client.ID = d.ClientID
	}
	if !d.ClientSecret.IsZero() {
		client.Secret = d.ClientSecret
	}
	m.client = &client
	m.set = func(c *Connection) {
		if s.EndUser != nil {
			c.EndUser = s.EndUser
		}
		// A repair that says nothing about these leaves them as they are.
		if len(s.Tags) > 0 || c.Tags == nil {
			c.Tags = s.Tags
		}
		if s.WebhookURL != "" {
			c.WebhookURL = s.WebhookURL
		}
		if s.ConnectionName != "" {
			c.Name = s.ConnectionName
		}
	}
}

// ownScopes is connection config with the scopes that this connection asks for in place of its integration's.
const ownScopes = "oauth_scopes"

func splitScopes(s string) []string {
	return slices.DeleteFunc(strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }), func(x string) bool { return x == "" })
}

// asked lists the fields that an end user still has to fill: what is automatic, hidden or decided by the backend is not
// asked for.
func (c *connecting) asked() []Field {
	var out []Field
	for _, f := range c.making.facts.Fields {
		if f.Automated || f.Hidden {
			continue
		}
		if _, fixed := c.defaults.Config[f.Name]; fixed && f.Section == ConfigField {
			continue
		}
		if f.Section == CredentialField && c.making.client.Settings[f.Name] != "" {
			continue // the integration has decided it
		}
		out = append(out, f)
	}
	return out
}

// ConnectForm gives what the page of an integration shows. It changes nothing.
func (b *Broker) ConnectForm(ctx context.Context, who Actor, key string) (*ConnectForm, error) {
	c, err := b.connecting(ctx, who, key)
	if err != nil {
		return nil, err
	}
	m := c.making
	form := &ConnectForm{
		Integration: m.integration, Facts: m.facts, Environment: c.environment, Session: c.session, Ask: c.asked(), Assigned: c.assigned, Scopes: m.asked,
		Title: m.integration.DisplayName, DocsConnect: c.defaults.DocsConnect, Reconnecting: c.session.Repairs(),
	}
	if form.Title == "" {
		form.Title = m.facts.DisplayName
	}
	if form.DocsConnect == "" {
		form.DocsConnect = m.facts.DocsConnect
	}
	if u, err := url.Parse(m.facts.AuthorizationURL); err == nil && m.facts.Interactive && u.Host != "" {
		form.AuthorizationOrigin = u.Scheme + "://" + u.Host
	}
	return form, nil
}

// ConnectInput is what an end user typed, and what their page asks for.
type ConnectInput struct {
	// Fields are by section and name: "credentials.apiKey", "connection_config.subdomain".
	Fields map[string]string
	// Params are laid over the entry's own parameters of the authorization request, where the app's backend named none.
	// An empty one takes the entry's away.
	Params map[string]string
	// Blank is set where a program sends the fields: one that is blank was left so on purpose.
	Blank bool
	// Channel is where the result is waited for, made by [NewChannel] or with as many random characters; empty: nowhere.
	Channel string
	// Landing is the path of ours that the browser goes on to in the end, which gets the flow's id; empty: the session's.
	Landing string
	// Callback is the path that the provider sends the browser back to; empty: the session's. An integration that has an
	// address of its own keeps that.
	Callback string
	// Own makes the grant replace what the session's end user has of the integration, instead of standing beside it. A
	// session can say so itself.
	Own bool
}

// fill checks what was typed and puts it where it belongs. Errors: variable_invalid naming the field, invalid_request for
// a field that was not asked for.
func (c *connecting) fill(in ConnectInput) (credentials map[string]Secret, err error) {
	config := make(map[string]string)
	credentials = make(map[string]Secret)
	left := maps.Clone(in.Fields)
	for _, f := range c.making.facts.Fields {
		name := string(f.Section) + "." + f.Name
		value, typed := left[name]
		asked := slices.ContainsFunc(c.asked(), func(a Field) bool { return a.Section == f.Section && a.Name == f.Name })
		if asked {
			delete(left, name)
		} else {
			value, typed = f.Default, f.HasDefault
		}
		if typed && !f.Secret {
			value = strings.TrimSpace(value)
		}
		if value == "" && asked && !f.Optional && !f.HasDefault && (!typed || !in.Blank) {
			return nil, ErrVariableInvalid.On(name).Saying("this field must be filled in")
		}
		if value == "" && !f.HasDefault && (!typed || !in.Blank) {
			continue
		}
		if f.Section == ConfigField {
			config[f.Name] = value
		} else {
			credentials[f.Name] = NewSecret(value)
		}
	}
	for name := range left {
		return nil, ErrInvalidRequest.On(name).Saying("this field is not asked for")
	}
	checked, err := c.making.provider.CheckConfig(config, c.making.client, false)
	if err != nil {
		return nil, inSection(err, ConfigField)
	}
	// What the backend decided lies over what was typed, and was checked by its own measure.
	decided, err := c.making.provider.CheckConfig(c.defaults.Config, c.making.client, true)
	if err != nil {
		return nil, inSection(err, ConfigField)
	}
	maps.Copy(checked, decided)
	if c.assigned != nil {
		checked[c.assigned.Field.Name] = c.assigned.Value
	}
	c.making.config = anyValues(checked)
	return credentials, nil
}

// inSection makes sure that an error names its field together with its section, which is s unless it says another.
func inSection(err error, s FieldSection) error {
	var e *Error
	if errors.As(err, &e) && e.Field != "" && !strings.HasPrefix(e.Field, string(s)+".") && !strings.HasPrefix(e.Field, string(ConfigField)+".") {
		return e.On(string(s) + "." + e.Field)
	}
	return err
}

// Outcome is a connection that came to be.
type Outcome struct {
	Connection  ConnectionID
	Key         string
	Integration string // its key
	Reconnected bool
	Session     *Session
	Environment *Environment
	Facts       *Facts
	ReturnURL   string
	Flow        FlowID   // what [Broker.EndedFlow] finds it by; empty: there was none
	Landing     string   // where the browser goes on to; empty: it stays where it is told
	Missing     []string // scopes that were asked for and not granted
	Pending     bool     // an app has still to be installed, or approved, where somebody else decides that
}

// outcome describes what came of connecting.
func (c *connecting) outcome(conn *Connection, reconnected bool) *Outcome {
	o := &Outcome{
		Connection: conn.ID, Key: conn.Key, Integration: c.making.integration.Key, Reconnected: reconnected,
		Session: c.session, Environment: c.environment, Facts: c.making.facts, Missing: conn.MissingScopes(),
		Pending: c.making.facts.AwaitsInstallation(c.making.config),
	}
	if c.session != nil {
		o.ReturnURL = c.session.ReturnURL
	}
	if c.making.flow != nil {
		o.Flow, o.Landing = c.making.flow.ID, c.making.flow.Landing
	}
	return o
}

// Connect makes a connection of what an end user typed, for providers that need no browser. Errors: variable_invalid
// naming the field, connection_test_failed when the provider refuses, provider_unavailable and its kin when it does not
// answer. Nothing is stored then.
func (b *Broker) Connect(ctx context.Context, who Actor, key string, in ConnectInput) (*Outcome, error) {
	c, err := b.connecting(ctx, who, key)
	if err != nil {
		return nil, err
	}
	submitter, ok := c.making.provider.(Submitter)
	if !ok || c.making.facts.Interactive {
		return nil, ErrNotSupported.Saying("this provider is connected to in the browser")
	}
	typed, err := c.fill(in)
	if err != nil {
		return nil, err
	}
	if err := b.own(ctx, c, in); err != nil {
		return nil, err
	}
	f, err := b.beginFlow(ctx, c, flowSecrets{}, "", in)
	if err != nil {
		return nil, err
	}
	b.work.begin()
	defer b.work.done()
	ctx = context.WithoutCancel(ctx)
	if _, err := b.store.ConsumeFlow(ctx, f.flow.ID, b.Now()); err != nil {
		return nil, err
	}
	c.making.flow = f.flow
	o, err := b.submit(ctx, c, submitter, typed)
	if err != nil {
		return nil, errors.Join(err, b.failFlow(ctx, f.flow, who, AsError(err).Code))
	}
	return o, nil
}

// submit turns what was typed into a connection, if the provider takes it.
func (b *Broker) submit(ctx context.Context, c *connecting, s Submitter, typed map[string]Secret) (*Outcome, error) {
	m := c.making
	asking, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	got, err := s.Submit(asking, m.holding(), typed)
	if err != nil {
		return nil, inSection(refusal(err), CredentialField)
	}
	m.take(got)
	if own, ok := m.config[ownScopes].(string); ok && own != "" {
		m.asked = splitScopes(own)
	}
	if !m.material.Answer.IsZero() { // a token endpoint's; what was typed has no scopes
		m.grantedAsAsked()
	}
	if v, ok := m.provider.(Verifier); ok {
		if _, err := v.Verify(asking, m.holding()); err != nil {
			return nil, refusal(err)
		}
	}
	b.complete(ctx, m)
	conn, reconnected, err := b.keepGrant(ctx, m)
	if err != nil {
		return nil, err
	}
	return c.outcome(conn, reconnected), nil
}

// take lays what the provider gave over what is known.
func (m *making) take(got *Obtained) {
	m.material, m.account = got.Material, got.Account
	if m.config == nil {
		m.config = make(map[string]any)
	}
	for k, v := range got.Config {
		// What the app's backend or the end user decided is not replaced by what an answer holds.
		if old, ok := m.config[k]; !ok || old == "" {
			m.config[k] = v
		}
	}
}

// refusal turns a provider's failure into what an end user is told.
func refusal(err error) error {
	var p *ProviderError
	if !errors.As(err, &p) {
		return err
	}
	if p.Class == ClientRefused && p.Status == 0 && p.Code == ErrMisconfigured.Code { // nobody was asked
		return ErrMisconfigured.Because(p)
	}
	switch p.Class {
	case GrantLost, ClientRefused:
		return ErrTestFailed.Because(p)
	case Transient:
		if p.Reach != nil {
			return p.Reach.Because(p)
		}
		return ErrProviderDown.After(p.RetryAfter).Because(p)
	}
	return ErrProviderDown.Because(p)
}

// begun is a flow that was just opened.
type begun struct {
	flow    *Flow
	state   string
	browser string
}

// beginFlow opens a flow and counts it.
func (b *Broker) beginFlow(ctx context.Context, c *connecting, secrets flowSecrets, redirect string, in ConnectInput) (*begun, error) {
	waiting, err := channelHash(in.Channel)
	if err != nil {
		return nil, err
	}
	if c.session != nil {
		err := b.waiting.claim(waiting, c.session.ID, func(origin string) bool { return b.PageAllowed(origin, c.environment, c.session) })
		if err != nil {
			return nil, err
		}
	}
	state, hash := b.sealer.NewState()
	browser := randomHex(32)
	browserHash := sha256.Sum256([]byte(browser))
	m, now := c.making, b.Now()
	f := &Flow{
		ID: FlowID(uuid.NewString()), Environment: m.integration.Environment, Integration: m.integration.ID, Connection: m.reconnect,
		Key: m.key, StateHash: hash[:], BrowserHash: browserHash[:], Channel: waiting, RedirectURI: redirect, Issuer: m.facts.Issuer, AskedScopes: m.asked,
		Landing: in.Landing, Status: FlowOpen, CreatedAt: now, ExpiresAt: now.Add(flowLifetime),
	}
	if c.session != nil {
		f.Session, f.Landing = c.session.ID, cmp.Or(in.Landing, c.session.Landing)
	}
	if f.Secrets, err = b.sealJSON(flowPlace(f), secrets); err != nil {
		return nil, err
	}
	ok, err := b.store.CreateFlow(ctx, f, maxStarts, b.audited(m.who, "flow.start", string(f.ID)))
	if err != nil {
		if !errors.Is(err, ErrConflict) { // then another flow has the channel
			b.waiting.unclaim(waiting)
		}
		return nil, err
	}
	if !ok {
		b.waiting.unclaim(waiting)
		return nil, ErrRateLimited.Saying("too many sign-ins were begun with this link; the app has to make a new one")
	}
	return &begun{flow: f, state: state, browser: browser}, nil
}
