package broker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

func (r *rig) typedConnection(key string) *broker.Connection {
	r.t.Helper()
	got, _, err := r.broker.Import(r.t.Context(), r.who, broker.ImportInput{
		Integration: "typed", Config: map[string]any{"region": "eu"}, Unverified: true,
		Material: &broker.Material{Type: "API_KEY", Access: broker.NewSecret(key)},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return got.Connection
}

func (r *rig) verify(id broker.ConnectionID) *broker.Health {
	r.t.Helper()
	h, err := r.broker.VerifyConnection(r.t.Context(), r.who, broker.ConnectionRef{ID: id})
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func TestACheckAsksTheProviderAndIsNoted(t *testing.T) {
	r := newRig(t)
	r.clock.advance(time.Minute)
	good, bad := r.typedConnection("good"), r.typedConnection("refused")
	if h := r.verify(good.ID); h.Failure != nil || h.Connection.Status != broker.Active || !h.Connection.VerifiedAt.Equal(r.clock.Now()) {
		t.Errorf("good: %+v", h)
	}
	h := r.verify(bad.ID)
	if !errors.Is(h.Failure, broker.ErrTestFailed) || h.Connection.Status != broker.Failing || h.Connection.Reason != broker.ReasonCheckFailed {
		t.Errorf("bad: %+v", h)
	}
	if c, err := r.broker.Connection(t.Context(), r.who, broker.ConnectionRef{ID: bad.ID}); err != nil || c.Status != broker.Failing {
		t.Errorf("stored: %+v, %v", c, err)
	}
	pending, _ := r.proposed(broker.Proposal{})
	if h := r.verify(pending.ID); !errors.Is(h.Failure, broker.ErrConnectionPending) || h.Connection.Status != broker.Pending {
		t.Errorf("pending: %+v", h)
	}
}

func TestACheckOfARenewableCredentialHealsIt(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	c, err := r.broker.Connection(t.Context(), r.who, ref)
	if err != nil {
		t.Fatal(err)
	}
	// The fake provider has no call that would tell, so a renewal is the check.
	r.provider.set(func(p *fakeProvider) {
		p.before = func(int) error { return &broker.ProviderError{Code: "down", Status: 503} }
	})
	h := r.verify(c.ID)
	if !errors.Is(h.Failure, broker.ErrProviderDown) || h.Connection.Status != broker.Failing {
		t.Errorf("down: %+v", h)
	}
	r.provider.set(func(p *fakeProvider) { p.before = nil })
	r.clock.advance(20 * time.Minute) // past the back-off
	if h = r.verify(c.ID); h.Failure != nil || h.Connection.Status != broker.Active {
		t.Errorf("up again: %+v", h)
	}
	if account, err := r.broker.Account(h.Connection); err != nil || account != "account-1" {
		t.Errorf("account %q, %v", account, err)
	}
}

func TestARenewalOnDemandTellsHowItWent(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.clock.advance(time.Minute)
	before := r.reveal(ref)
	c, err := r.broker.RefreshConnection(t.Context(), r.who, ref)
	if err != nil {
		t.Fatal(err)
	}
	lives, err := r.broker.Lifetimes(t.Context(), []*broker.Connection{c})
	if err != nil || !c.SyncedAt(lives[c.ID]).Equal(r.clock.Now()) || lives[c.ID].ExpiresAt.IsZero() {
		t.Errorf("lifetimes %+v, %v", lives, err)
	}
	if after := r.reveal(ref); after.Material.Access.Reveal() == before.Material.Access.Reveal() {
		t.Error("the token is the old one")
	}

	r.provider.set(func(p *fakeProvider) {
		p.before = func(int) error { return &broker.ProviderError{Code: "down", Status: 503} }
	})
	if _, err = r.broker.RefreshConnection(t.Context(), r.who, ref); !errors.Is(err, broker.ErrProviderDown) {
		t.Errorf("down: %v", err)
	}
	if c, err = r.broker.Connection(t.Context(), r.who, ref); err != nil || c.Status != broker.Failing {
		t.Errorf("down: %+v, %v", c, err)
	}
	r.provider.set(func(p *fakeProvider) { p.before = nil })
	if c, err = r.broker.RefreshConnection(t.Context(), r.who, ref); err != nil || c.Status != broker.Active {
		t.Errorf("up again: %+v, %v", c, err)
	}

	typed := r.typedConnection("good")
	if _, err = r.broker.RefreshConnection(t.Context(), r.who, broker.ConnectionRef{ID: typed.ID}); !errors.Is(err, broker.ErrNotSupported) {
		t.Errorf("nothing to renew: %v", err)
	}
	if _, reused := r.provider.count(); reused != 0 {
		t.Errorf("%d refresh tokens were spent twice", reused)
	}
}
