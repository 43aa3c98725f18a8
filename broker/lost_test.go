package broker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

const day = 24 * time.Hour

// lost imports a connection whose token lasts for life, and has its provider say that the grant is gone.
func (r *rig) lost(key string, life time.Duration) broker.ConnectionRef {
	r.t.Helper()
	ref := r.imported(key, life)
	r.provider.set(func(p *fakeProvider) {
		p.before = func(int) error {
			return &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Status: 400}
		}
	})
	_, err := r.broker.Reveal(r.t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true})
	if !errors.Is(err, broker.ErrNeedsReauth) {
		r.t.Fatalf("got %v", err)
	}
	r.provider.set(func(p *fakeProvider) { p.before = nil })
	return ref
}

// stored reads a connection and its credential as they are stored.
func (r *rig) stored(ref broker.ConnectionRef) (*broker.Connection, *broker.Credential) {
	r.t.Helper()
	c, err := r.broker.Connection(r.t.Context(), r.who, ref)
	if err != nil {
		r.t.Fatal(err)
	}
	cred, err := r.store.Credential(r.t.Context(), c.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	return c, cred
}

// later lets time pass and sweeps.
func (r *rig) later(d time.Duration) {
	r.t.Helper()
	r.clock.advance(d)
	if err := r.broker.Sweep(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// audited counts the audit lines of an action.
func (r *rig) audited(action string) int {
	r.t.Helper()
	lines, err := r.store.Audit(r.t.Context(), r.who.Environment, 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	n := 0
	for _, l := range lines {
		if l.Action == action {
			n++
		}
	}
	return n
}

// A lost grant keeps its tokens for thirty days, for whoever insists. Then they are erased; the connection is still there,
// says what it said, asks its provider nothing, and can be connected again.
func TestTheTokensOfALostGrantAreErasedAfterThirtyDays(t *testing.T) {
	r := newRig(t)
	ref, other := r.lost("c", time.Hour), r.imported("other", time.Hour)
	r.later(30*day - time.Minute)
	if _, cred := r.stored(ref); len(cred.Refresh) == 0 {
		t.Fatal("the refresh token is gone too early")
	}
	r.later(time.Minute)
	c, cred := r.stored(ref)
	if len(cred.Access)+len(cred.Refresh)+len(cred.Answer) != 0 {
		t.Fatal("a token is still there")
	}
	if c.Status != broker.Failing || c.Reason != broker.ReasonNeedsReauth {
		t.Fatalf("status %q, reason %q", c.Status, c.Reason)
	}
	if n := r.audited("credential.erase"); n != 1 {
		t.Fatalf("%d audit lines", n)
	}
	if _, cred := r.stored(other); len(cred.Refresh) == 0 {
		t.Fatal("another connection's refresh token is gone")
	}
	for _, force := range []bool{false, true} {
		_, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: force})
		var failure *broker.RefreshError
		if !errors.As(err, &failure) || failure.Attempted || failure.Connection == nil || !errors.Is(err, broker.ErrNeedsReauth) {
			t.Fatalf("forced %t: %v", force, err)
		}
	}
	if _, err := r.wayOut(ref); !errors.Is(err, broker.ErrNeedsReauth) {
		t.Fatalf("the way out: %v", err)
	}
	if n, _ := r.provider.count(); n != 1 {
		t.Fatalf("%d requests", n)
	}
	r.imported("c", time.Hour)
	r.later(day)
	if _, err := r.wayOut(ref); err != nil {
		t.Fatalf("after a new credential: %v", err)
	}
	if _, cred := r.stored(ref); len(cred.Refresh) == 0 || !cred.EraseAt.IsZero() {
		t.Fatalf("the new credential is to be erased at %s", cred.EraseAt)
	}
}

// An access token that is still good outlives its refresh token, and is erased when it runs out.
func TestAGoodTokenOfALostGrantIsServedToItsEnd(t *testing.T) {
	r := newRig(t)
	ref := r.lost("c", 60*day)
	r.later(30 * day)
	if _, cred := r.stored(ref); len(cred.Refresh)+len(cred.Answer) != 0 || len(cred.Access) == 0 {
		t.Fatalf("refresh %d, answer %d, access %d bytes", len(cred.Refresh), len(cred.Answer), len(cred.Access))
	}
	if _, err := r.wayOut(ref); err != nil {
		t.Fatal(err)
	}
	if got := r.reveal(ref); got.Material.Access.IsZero() || !got.Material.Refresh.IsZero() {
		t.Fatal("the access token alone should be given")
	}
	r.later(30 * day)
	if _, cred := r.stored(ref); len(cred.Access) != 0 {
		t.Fatal("the expired token is still there")
	}
	if _, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{}); !errors.Is(err, broker.ErrNeedsReauth) {
		t.Fatalf("got %v", err)
	}
}

// The thirty days begin when the grant was lost, however often somebody tries; a success ends them.
func TestThirtyDaysBeginWithTheLoss(t *testing.T) {
	r := newRig(t)
	revived, hopeless := r.lost("revived", time.Hour), r.lost("hopeless", time.Hour)
	r.later(20 * day)
	if _, err := r.broker.Reveal(t.Context(), r.who, revived, broker.RevealOptions{ForceRefresh: true}); err != nil {
		t.Fatal(err)
	}
	r.provider.set(func(p *fakeProvider) {
		p.before = func(int) error {
			return &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Status: 400}
		}
	})
	_, err := r.broker.Reveal(t.Context(), r.who, hopeless, broker.RevealOptions{ForceRefresh: true})
	if !errors.Is(err, broker.ErrNeedsReauth) {
		t.Fatalf("got %v", err)
	}
	r.later(10 * day)
	if _, cred := r.stored(revived); len(cred.Refresh) == 0 {
		t.Fatal("a revived grant's refresh token was erased")
	}
	if _, cred := r.stored(hopeless); len(cred.Refresh) != 0 {
		t.Fatal("it is still there")
	}
}

// outrun is a store that takes no leases, and where another node's attempt ends right before a renewal is put off here.
type outrun struct {
	broker.Store
	lost   broker.RefreshFailure
	putOff chan struct{}
}

func (*outrun) LeaseRefresh(context.Context, broker.ConnectionID, string, time.Duration) (*broker.Credential, bool, error) {
	return nil, false, broker.ErrStorageUnavailable
}

func (s *outrun) SetRefreshAt(ctx context.Context, id broker.ConnectionID, version int64, from, to time.Time) error {
	s.lost.Connection, s.lost.Version = id, version
	if err := s.Store.FailRefresh(ctx, &s.lost); err != nil {
		return err
	}
	defer func() { s.putOff <- struct{}{} }()
	return s.Store.SetRefreshAt(ctx, id, version, from, to)
}

// A renewal that came to nothing here is not put off where another node has found meanwhile that the grant is lost: the
// provider would be asked again, and the app told again.
func TestALostGrantIsNotPutOff(t *testing.T) {
	store := &outrun{putOff: make(chan struct{})}
	r := newRig(t, func(r *rig) { r.wrap = func(s broker.Store) broker.Store { store.Store = s; return store } })
	ref := r.imported("c", time.Hour)
	r.clock.advance(50 * time.Minute)
	store.lost = broker.RefreshFailure{Code: "invalid_grant", At: r.clock.Now(), Status: broker.Failing, Reason: broker.ReasonNeedsReauth, CountsAgainst: true}
	r.run()
	<-store.putOff
	if c, cred := r.stored(ref); !cred.RefreshAt.IsZero() || c.Reason != broker.ReasonNeedsReauth {
		t.Errorf("it is %s (%s), the next attempt is at %s", c.Status, c.Reason, cred.RefreshAt)
	}
}
