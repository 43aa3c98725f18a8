package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// fakeProvider is a catalogue of two entries: fake, an OAuth 2 provider that rotates refresh tokens and ends the whole
// family when a spent one comes back, and typed, which takes an API key.
type fakeProvider struct {
	now func() time.Time

	mu       sync.Mutex
	families map[string]*family // by refresh token, spent ones included
	serial   int
	requests int // token requests for a renewal
	codes    map[string]int
	reused   int // spent refresh tokens that came back
	revoked  []string
	account  string
	life     time.Duration // of new tokens; zero: an hour

	// before runs in the middle of a renewal or exchange, without the lock, when it is set.
	before func(n int) error
	// after runs when the provider has issued and before the answer arrives.
	after func(n int) error
	// revoking runs in the middle of a revocation, without the lock, when it is set.
	revoking func()
	// revokeErr is what revocations are answered.
	revokeErr error
	panics    bool
	facts     broker.Facts
	// prepares makes it a provider that is asked before the browser leaves.
	prepares  func(r *broker.AuthorizeRequest) (*broker.Temporary, error)
	base      string            // of the API; a connection of another subdomain has it there
	answers   map[string]string // connection config that renewals bring
	scopes    []string          // that its answers name; nil: they name none
	sameToken bool              // every sign-in gets one and the same, which does not expire
}

type family struct {
	current string
	dead    bool
	access  string
}

func newFakeProvider() *fakeProvider {
	return &fakeProvider{
		families: make(map[string]*family), codes: make(map[string]int), account: "account-1", base: "https://api.fake.example.com",
		scopes: []string{"read"},
		facts: broker.Facts{
			Name: "fake", DisplayName: "Fake", Mode: "OAUTH2", CredentialType: "OAUTH2", Interactive: true, NeedsClient: true, Usable: true,
			AuthorizationURL: "https://fake.example.com/authorize", TokenOrigin: "https://fake.example.com", HasProxy: true,
		},
	}
}

func (p *fakeProvider) Provider(name string) (broker.Provider, bool) {
	switch name {
	case "fake":
		if p.prepares != nil {
			return preparing{p}, true
		}
		return p, true
	case "typed":
		return typedProvider{p}, true
	}
	return nil, false
}

func (p *fakeProvider) Names() []string { return []string{"fake", "typed"} }

func (p *fakeProvider) Facts() *broker.Facts {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.facts
	return &f
}

func (p *fakeProvider) CheckConfig(in map[string]string, _ *broker.Client, _ bool) (map[string]string, error) {
	out := make(map[string]string, len(in))
	for k, v := range in {
		if v == "bad" {
			return nil, broker.ErrVariableInvalid.On(k)
		}
		out[k] = v
	}
	return out, nil
}

func (p *fakeProvider) CheckMaterial(m *broker.Material) error {
	if m.Access.IsZero() {
		return broker.ErrInvalidRequest.On("access_token")
	}
	return nil
}

func (p *fakeProvider) Present(h *broker.Holding) (*broker.Presentation, error) {
	p.mu.Lock()
	raw := p.base
	p.mu.Unlock()
	if sub := h.Config["subdomain"]; sub != "" {
		raw = strings.Replace(raw, "api", sub, 1)
	}
	base, err := url.Parse(raw)
	return &broker.Presentation{
		BaseURL: base, Headers: []broker.Header{{Key: "Authorization", Values: []string{"Bearer " + h.Material.Access.Reveal()}}},
	}, err
}

func (p *fakeProvider) AuthorizeURL(r *broker.AuthorizeRequest) (string, error) {
	q := url.Values{"state": {r.State}, "redirect_uri": {r.RedirectURI}, "client_id": {r.Client.ID}, "verifier": {r.Verifier}}
	return "https://fake.example.com/authorize?" + q.Encode(), nil
}

func (p *fakeProvider) Exchange(_ context.Context, r *broker.ExchangeRequest) (*broker.Obtained, error) {
	p.mu.Lock()
	p.codes[r.Code]++
	before, n := p.before, p.codes[r.Code]
	p.mu.Unlock()
	if before != nil {
		if err := before(n); err != nil {
			return nil, err
		}
	}
	if r.Verifier == "" {
		return nil, &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant"}
	}
	access, refresh := p.issue(p.lifetime())
	if p.same() {
		return &broker.Obtained{Material: &broker.Material{Type: "OAUTH2", Access: broker.NewSecret("the-users-only-token")}}, nil
	}
	return &broker.Obtained{Material: p.material(access, refresh)}, nil
}

func (p *fakeProvider) same() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sameToken
}

func (p *fakeProvider) lifetime() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life > 0 {
		return p.life
	}
	return time.Hour
}

// issue begins a family.
func (p *fakeProvider) issue(time.Duration) (access, refresh string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next(&family{})
}

// next rotates; the caller holds the lock.
func (p *fakeProvider) next(f *family) (access, refresh string) {
	p.serial++
	f.access, f.current = fmt.Sprintf("access-token-%06d", p.serial), fmt.Sprintf("refresh-token-%06d", p.serial)
	p.families[f.current] = f
	return f.access, f.current
}

func (p *fakeProvider) material(access, refresh string) *broker.Material {
	return &broker.Material{
		Type: "OAUTH2", Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh), ExpiresAt: p.now().Add(p.lifetime()),
		Scopes: p.scopes, Answer: broker.NewSecret(`{"access_token":"` + access + `"}`),
	}
}

func (p *fakeProvider) Renewable(m *broker.Material) bool { return !m.Refresh.IsZero() }

func (p *fakeProvider) Endpoint(h *broker.Holding) string {
	if host := h.Config["token_host"]; host != "" {
		return host
	}
	_, host, _ := strings.Cut(p.Facts().TokenOrigin, "://")
	return host
}

func (p *fakeProvider) Renew(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	p.mu.Lock()
	p.requests++
	before, after, n := p.before, p.after, p.requests
	p.mu.Unlock()
	if before != nil {
		if err := before(n); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, &broker.ProviderError{Class: broker.Transient, Code: "timeout", InDoubt: true}
	}
	got, err := p.rotate(h.Material.Refresh.Reveal())
	if err == nil && after != nil {
		if err := after(n); err != nil {
			return nil, err
		}
	}
	return got, err
}

func (p *fakeProvider) rotate(refresh string) (*broker.Obtained, error) {
	p.mu.Lock()
	f, ok := p.families[refresh]
	if !ok || f.dead {
		p.mu.Unlock()
		return nil, &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Status: 400}
	}
	if f.current != refresh {
		p.reused++
		f.dead = true
		p.mu.Unlock()
		return nil, &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Status: 400}
	}
	access, next := p.next(f)
	config := p.answers
	p.mu.Unlock()
	return &broker.Obtained{Material: p.material(access, next), Config: config}, nil
}

func (p *fakeProvider) Revoke(_ context.Context, h *broker.Holding) (bool, error) {
	p.mu.Lock()
	revoking := p.revoking
	p.mu.Unlock()
	if revoking != nil {
		revoking()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.panics {
		panic("the provider's answer")
	}
	if p.revokeErr != nil {
		return false, p.revokeErr
	}
	p.revoked = append(p.revoked, h.Material.Refresh.Reveal())
	if f, ok := p.families[h.Material.Refresh.Reveal()]; ok {
		f.dead = true
	}
	return true, nil
}

func (p *fakeProvider) Identify(context.Context, *broker.Holding) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.account, nil
}

// set changes the provider's behaviour.
func (p *fakeProvider) set(change func(p *fakeProvider)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *fakeProvider) count() (requests, reused int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests, p.reused
}

func (p *fakeProvider) revocations() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.revoked...)
}

// typedProvider takes an API key, which it verifies.
type typedProvider struct{ fake *fakeProvider }

func (typedProvider) Facts() *broker.Facts {
	return &broker.Facts{
		Name: "typed", DisplayName: "Typed", Mode: "API_KEY", CredentialType: "API_KEY", Usable: true, HasProxy: true,
		Fields: []broker.Field{
			{Name: "region", Section: broker.ConfigField, Title: "Region"},
			{Name: "tenant", Section: broker.ConfigField, Title: "Tenant secret", Secret: true, Optional: true},
			{Name: "apiKey", Section: broker.CredentialField, Title: "API key", Secret: true},
		},
	}
}

func (t typedProvider) CheckConfig(in map[string]string, c *broker.Client, trusted bool) (map[string]string, error) {
	return t.fake.CheckConfig(in, c, trusted)
}

func (typedProvider) CheckMaterial(*broker.Material) error { return nil }

func (t typedProvider) Present(h *broker.Holding) (*broker.Presentation, error) {
	if h.Config["region"] == "" {
		return nil, errors.New("no region")
	}
	return &broker.Presentation{Headers: []broker.Header{
		{Key: "X-Api-Key", Values: []string{h.Material.Access.Reveal()}}, {Key: "X-Tenant", Values: []string{h.Config["tenant"]}},
	}}, nil
}

func (typedProvider) Submit(_ context.Context, _ *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	return &broker.Obtained{Material: &broker.Material{Type: "API_KEY", Access: fields["apiKey"]}}, nil
}

func (typedProvider) Verify(_ context.Context, h *broker.Holding) (bool, error) {
	if h.Material.Access.Reveal() == "refused" {
		return true, &broker.ProviderError{Class: broker.GrantLost, Code: "unauthorized", Status: 401}
	}
	return true, nil
}
