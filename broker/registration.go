package broker

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Registration is a client that an authorization server made for one redirect URI of an integration.
type Registration struct {
	Environment EnvironmentID
	Integration IntegrationID
	Issuer      string // the server's name, or where it registers clients if it has none
	RedirectURI string
	Client      Sealed    // storedClient, bound to all of the above
	ExpiresAt   time.Time // of the client's secret; zero: never
	CreatedAt   time.Time
}

// RegistrationStore keeps registrations, one of each integration, issuer and redirect URI. They go with their integration.
type RegistrationStore interface {
	Registration(ctx context.Context, integration IntegrationID, issuer, redirectURI string) (*Registration, error)
	// PutRegistration keeps it in place of any other of its kind. NotFound: the integration is gone.
	PutRegistration(ctx context.Context, r *Registration, t Trail) error
	// DropRegistration removes the one that was made then; another, or none, is no error.
	DropRegistration(ctx context.Context, r *Registration) error
	// SweepRegistrations removes those that were made before then, and says how many.
	SweepRegistrations(ctx context.Context, before time.Time) (int, error)
}

// storedClient is a registered client on its way into a seal.
type storedClient struct {
	ID     string `json:"id"`
	Secret string `json:"secret,omitempty"`
	Auth   string `json:"auth"`
	Origin string `json:"origin"` // of the token endpoint that there was, the one that the secret is for
}

func registrationPlace(r *Registration) place {
	return place{environment: r.Environment, column: columnRegistration, row: string(r.Integration), origin: r.Issuer + " " + r.RedirectURI}
}

// keepRegistration is how long a registration is used for new sign-ins. Servers forget clients, and say so to the browser
// alone; credentials keep the client that they were made with.
const keepRegistration = 30 * 24 * time.Hour

// fresh reports whether a sign-in may be begun with the registration: its secret lasts well beyond that.
func (r *Registration) fresh(now time.Time) bool {
	if !now.Before(r.CreatedAt.Add(keepRegistration)) {
		return false
	}
	return r.ExpiresAt.IsZero() || now.Add(min(24*time.Hour, r.ExpiresAt.Sub(r.CreatedAt)/4)).Before(r.ExpiresAt)
}

// serverClient decides which client a sign-in is made with, and completes the server with how it proves itself: the one
// that there is, or the address of our document where the server takes that, or one that the server makes.
func (b *Broker) serverClient(ctx context.Context, c *connecting, d Discoverer, s *Server, r *AuthorizeRequest) (*Client, error) {
	m := c.making
	if m.client.ID != "" {
		s.Client = ConfiguredClient
		return m.client, nil
	}
	client := *m.client
	if s.Documents && s.takesPublic() && b.servesDocuments() {
		s.Client, s.ClientAuth = DocumentedClient, "none"
		client.ID, client.Secret = b.documentURL(r.RedirectURI), Secret{}
		return &client, nil
	}
	if s.Registration == "" {
		return nil, ErrNotSupported.Saying("this server lets nobody in who has not registered there; whoever runs this service has to do that and set the client id")
	}
	known, err := b.registration(ctx, c, s, r.RedirectURI)
	if err != nil {
		return nil, err
	}
	if known == nil {
		if known, err = b.register(ctx, c, d, s, r); err != nil {
			return nil, err
		}
	}
	s.Client, s.ClientAuth = RegisteredClient, known.Auth
	client.ID, client.Secret = known.ID, NewSecret(known.Secret)
	return &client, nil
}

// registration finds one that can be used; nil: there is none. In a session's second try none counts that is older than the
// session: the server may have told the end user, and nobody else, that it does not know it.
func (b *Broker) registration(ctx context.Context, c *connecting, s *Server, redirectURI string) (*storedClient, error) {
	r, err := b.store.Registration(ctx, c.making.integration.ID, s.registrar(), redirectURI)
	if errors.Is(err, ErrNotFound) {
		return nil, nil //nolint:nilnil // none is an answer
	}
	if err != nil {
		return nil, err
	}
	again := c.session != nil && c.session.Starts > 0 && r.CreatedAt.Before(c.session.CreatedAt)
	if !r.fresh(b.Now()) || again {
		return nil, nil //nolint:nilnil // as above
	}
	out := new(storedClient)
	if err := b.openJSON(registrationPlace(r), r.Client, out); err != nil {
		return nil, err
	}
	if out.Origin != originOf(s.Token) {
		return nil, nil //nolint:nilnil // as above
	}
	return out, nil
}

// register has the server make a client, and keeps it.
func (b *Broker) register(ctx context.Context, c *connecting, d Discoverer, s *Server, r *AuthorizeRequest) (*storedClient, error) {
	m := c.making
	asking, cancel := context.WithTimeout(ctx, providerTimeout)
	got, err := d.Register(asking, s, &RegisterRequest{
		Client: m.client, Config: r.Config, Name: b.clientName(m.integration), PublicURL: b.publicURL, RedirectURI: r.RedirectURI, Native: b.dev,
	})
	cancel()
	if err != nil {
		return nil, unregistered(err)
	}
	out := &storedClient{ID: got.ID, Secret: got.Secret.Reveal(), Auth: got.Auth, Origin: originOf(s.Token)}
	row := &Registration{
		Environment: m.integration.Environment, Integration: m.integration.ID, Issuer: s.registrar(), RedirectURI: r.RedirectURI,
		ExpiresAt: cut(got.ExpiresAt), CreatedAt: b.Now(),
	}
	if row.Client, err = b.sealJSON(registrationPlace(row), out); err != nil {
		return nil, err
	}
	return out, b.store.PutRegistration(ctx, row, b.audited(m.who, "client.register", string(m.integration.ID)))
}

// unregistered says what went wrong with a registration.
func unregistered(err error) error {
	var p *ProviderError
	switch {
	case !errors.As(err, &p):
		return err
	case p.Reach != nil:
		return p.Reach.Because(err)
	case p.Class == ClientRefused:
		return ErrExchangeFailed.Saying("the server did not register this service as a client").Because(err)
	}
	return ErrProviderDown.After(p.RetryAfter).Because(err)
}

// forgetClient drops a registration that its server does not know any more, so that the next sign-in makes another.
func (b *Broker) forgetClient(ctx context.Context, i *Integration, s *Server, clientID string) {
	if s == nil || s.Client != RegisteredClient {
		return
	}
	r, err := b.store.Registration(ctx, i.ID, s.registrar(), s.RedirectURI)
	var known storedClient
	if err == nil {
		err = b.openJSON(registrationPlace(r), r.Client, &known)
	}
	if err == nil && known.ID == clientID {
		err = b.store.DropRegistration(ctx, r)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		b.log.LogAttrs(ctx, slog.LevelWarn, "a client that its server refuses could not be forgotten",
			slog.String("integration", i.Key), because(err))
	}
}

// sweepRegistrations removes those that no sign-in is begun with any more.
func (b *Broker) sweepRegistrations(ctx context.Context) error {
	_, err := b.store.SweepRegistrations(ctx, b.Now().Add(-keepRegistration))
	return err
}
