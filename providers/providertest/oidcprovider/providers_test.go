package oidcprovider

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers"
	"github.com/coatcheck/coatcheck/providers/egress"
)

// entryProvider is all that an entry with these fields has to be.
type entryProvider interface {
	broker.Provider
	broker.Authorizer
	broker.Identifier
	broker.Renewer
	broker.Revoker
}

// connection is a provider of the catalogue, used as the broker uses it.
type connection struct {
	*app
	provider entryProvider
	client   *broker.Client
}

// load reads the server's entry with the real policy for outgoing requests, which lets this machine be reached.
func load(t *testing.T, a *app) *connection {
	t.Helper()
	policy, err := egress.New(egress.Options{Allow: []string{"127.0.0.0/8"}})
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := providers.Load(providers.Options{
		Overlays: []providers.File{{Name: "overlay.yaml", Data: []byte(a.Entry("independent"))}},
		Client:   policy.TokenClient(),
		CheckURL: func(raw string, literal bool) (*url.URL, error) {
			return policy.CheckURL(raw, egress.URLOptions{Literal: literal})
		},
		Warn: func(provider, message string) { t.Errorf("%s: %s", provider, message) },
	})
	if err != nil {
		t.Fatal(err)
	}
	found, _ := catalogue.Provider("independent")
	p, ok := found.(entryProvider)
	if !ok {
		t.Fatalf("the entry is a %T", found)
	}
	if f := p.Facts(); !f.Usable || !f.HasProxy || f.TokenOrigin != a.Issuer() {
		t.Fatalf("usable %t (%s), proxy %t, token origin %s", f.Usable, f.UnusableReason, f.HasProxy, f.TokenOrigin)
	}
	return &connection{app: a, provider: p, client: &broker.Client{
		ID: clientID, Secret: broker.NewSecret(clientSecret), Scopes: p.Facts().DefaultScopes,
	}}
}

// authorize gets a grant.
func (c *connection) authorize() *broker.Obtained {
	c.t.Helper()
	verifier := oauth2.GenerateVerifier()
	target, err := c.provider.AuthorizeURL(&broker.AuthorizeRequest{
		Client: c.client, RedirectURI: redirectURI, State: "a state", Verifier: verifier, Nonce: "a nonce",
	})
	if err != nil {
		c.t.Fatal(err)
	}
	callback, err := c.Approve(c.ctx, target)
	if err != nil {
		c.t.Fatal(err)
	}
	answer := callback.Query()
	if answer.Get("state") != "a state" || answer.Get("code") == "" {
		c.t.Fatalf("state %q, error %q", answer.Get("state"), answer.Get("error"))
	}
	got, err := c.provider.Exchange(c.ctx, &broker.ExchangeRequest{
		Client: c.client, RedirectURI: redirectURI, Code: answer.Get("code"), Verifier: verifier, Nonce: "a nonce", Callback: answer,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return got
}

func (c *connection) holding(m *broker.Material) *broker.Holding {
	return &broker.Holding{Client: c.client, Material: m}
}

func (c *connection) renew(m *broker.Material) *broker.Material {
	c.t.Helper()
	got, err := c.provider.Renew(c.ctx, c.holding(m))
	if err != nil {
		c.t.Fatal(err)
	}
	return got.Material
}

// wantRenewal checks that a renewal fails, and as what.
func (c *connection) wantRenewal(m *broker.Material, class broker.FailureClass, code string) {
	c.t.Helper()
	_, err := c.provider.Renew(c.ctx, c.holding(m))
	var p *broker.ProviderError
	if !errors.As(err, &p) || p.Class != class || p.Code != code {
		c.t.Errorf("error %#v, want class %d, code %s", err, class, code)
	}
}

// The code of this project gets, uses, renews and ends a grant at a server that is not of this project.
func TestCatalogueEntry(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"client_secret_basic", "client_secret_post"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			a := start(t, func(o *Options) { o.TokenAuthMethod, o.AccessTokenTTL = method, 5*time.Minute })
			c := load(t, a)
			before := time.Now()
			first := c.authorize().Material
			if first.Refresh.IsZero() || first.ExpiresAt.Sub(before).Round(time.Minute) != 5*time.Minute {
				t.Errorf("refresh token: %t, expires at %s", !first.Refresh.IsZero(), first.ExpiresAt)
			}
			if id, err := c.provider.Identify(c.ctx, c.holding(first)); id != Account || err != nil {
				t.Errorf("the account is %q (%v)", id, err)
			}
			second := c.renew(first)
			if second.Refresh.Reveal() == first.Refresh.Reveal() || second.Access.Reveal() == first.Access.Reveal() {
				t.Error("the renewal kept a token")
			}
			third := c.renew(second)
			c.wantCounts(Counts{TokenRequests: types(1, 2), TokensIssued: types(1, 2), Rotations: 2})

			if supported, err := c.provider.Revoke(c.ctx, c.holding(third)); !supported || err != nil {
				t.Errorf("revocation: supported %t, %v", supported, err)
			}
			c.wantRenewal(third, broker.GrantLost, "invalid_grant")
			c.wantCounts(Counts{TokenRequests: types(1, 3), TokensIssued: types(1, 2), Rotations: 2, GrantsRevoked: 1})
		})
	}
}

// What goes wrong is sorted by what it means for the connection.
func TestCatalogueEntryFails(t *testing.T) {
	t.Parallel()
	c := load(t, start(t))
	first := c.authorize().Material
	second := c.renew(first)

	right := c.client.Secret
	c.client.Secret = broker.NewSecret("another")
	c.wantRenewal(second, broker.ClientRefused, "invalid_client")
	c.client.Secret = right

	c.wantRenewal(first, broker.GrantLost, "invalid_grant") // a reuse, which ends the grant
	c.wantRenewal(second, broker.GrantLost, "invalid_grant")
	c.wantCounts(Counts{TokenRequests: types(1, 4), TokensIssued: types(1, 1), Rotations: 1, Reuses: 1, GrantsRevoked: 1})
}
