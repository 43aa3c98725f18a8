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

func TestTheEndOfACredentialIsTrueBeforeAnybodyMeetsIt(t *testing.T) {
	r := newRig(t)
	ends := r.importToken("ends", broker.Material{Access: broker.NewSecret("a-token"), ExpiresAt: r.clock.Now().Add(time.Hour)})
	r.imported("renewable", time.Hour)
	// Nothing runs in the background, so nothing is written down.
	selected := func(s broker.Status) (keys []string) {
		t.Helper()
		list, err := r.broker.Connections(t.Context(), r.who, broker.ConnectionFilter{Statuses: []broker.Status{s}})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.Status != s {
				t.Errorf("%s among those that are %s: %s", c.Key, s, c.Status)
			}
			keys = append(keys, c.Key)
		}
		return keys
	}
	if got := selected(broker.Expired); len(got) != 0 {
		t.Errorf("expired before the time: %v", got)
	}
	r.clock.advance(time.Hour)
	if got := selected(broker.Expired); len(got) != 1 || got[0] != "ends" {
		t.Errorf("expired: %v", got)
	}
	if got := selected(broker.Active); len(got) != 1 || got[0] != "renewable" {
		t.Errorf("active: %v", got)
	}
	for _, ref := range []broker.ConnectionRef{{ID: ends.ID}, {Integration: "one", Key: "ends"}} {
		if c, err := r.broker.Connection(t.Context(), r.who, ref); err != nil || c.Status != broker.Expired {
			t.Errorf("%+v: %+v, %v", ref, c, err)
		}
	}
	if h := r.verify(ends.ID); !errors.Is(h.Failure, broker.ErrNeedsReauth) || h.Connection.Status != broker.Expired {
		t.Errorf("checked: %v, %s", h.Failure, h.Connection.Status)
	}
	if _, err := r.broker.RefreshConnection(t.Context(), r.who, broker.ConnectionRef{ID: ends.ID}); !errors.Is(err, broker.ErrNotSupported) {
		t.Errorf("renewed: %v", err)
	}
	r.importToken("ends", broker.Material{Access: broker.NewSecret("another")}) // which lasts
	if got := selected(broker.Expired); len(got) != 0 {
		t.Errorf("expired with a new token: %v", got)
	}
}

func TestAFailureKeepsTheProvidersCode(t *testing.T) {
	r := newRig(t)
	bad := r.typedConnection("refused")
	if h := r.verify(bad.ID); h.Connection.ErrorCode != "unauthorized" {
		t.Errorf("a check: %q", h.Connection.ErrorCode)
	}
	for name, p := range map[string]*broker.ProviderError{
		"transient":   {Class: broker.Transient, Code: "down", Status: 503},
		"our client":  {Class: broker.ClientRefused, Code: "invalid_client", Status: 401},
		"lost grants": {Class: broker.GrantLost, Code: "invalid_grant", Status: 400},
	} {
		ref := r.imported(name, time.Hour)
		r.provider.set(func(f *fakeProvider) { f.before = func(int) error { return p } })
		if _, err := r.broker.RefreshConnection(t.Context(), r.who, ref); err == nil {
			t.Fatalf("%s: renewed", name)
		}
		c, err := r.broker.Connection(t.Context(), r.who, ref)
		if err != nil || c.Status != broker.Failing || c.ErrorCode != p.Code {
			t.Errorf("%s: %s %q, %v", name, c.Status, c.ErrorCode, err)
		}
	}
	r.provider.set(func(f *fakeProvider) { f.before = nil })
	r.clock.advance(time.Hour)
	for _, name := range []string{"transient", "our client"} {
		c, err := r.broker.RefreshConnection(t.Context(), r.who, broker.ConnectionRef{Integration: "one", Key: name})
		if err != nil || c.Status != broker.Active || c.ErrorCode != "" {
			t.Errorf("%s, up again: %+v, %v", name, c, err)
		}
	}
}
