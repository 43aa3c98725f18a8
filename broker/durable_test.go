package broker_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// failingStore is a store whose swaps, or leases, fail while it is told to.
type failingStore struct {
	broker.Store
	noSwap  atomic.Bool
	noLease atomic.Bool
	swaps   atomic.Int64  // tried
	silence chan struct{} // swaps get no answer before it is closed; nil: they do
}

func (s *failingStore) SwapCredential(ctx context.Context, swap *broker.Swap) error {
	s.swaps.Add(1)
	if s.silence != nil {
		<-s.silence
	}
	if s.noSwap.Load() {
		return broker.ErrStorageUnavailable
	}
	return s.Store.SwapCredential(ctx, swap)
}

func (s *failingStore) LeaseRefresh(ctx context.Context, id broker.ConnectionID, owner string, ttl time.Duration) (*broker.Credential, bool, error) {
	if s.noLease.Load() {
		return nil, false, broker.ErrStorageUnavailable
	}
	return s.Store.LeaseRefresh(ctx, id, owner, ttl)
}

// memoryReserve remembers what it was asked.
type memoryReserve struct {
	mu      sync.Mutex
	freed   int
	refills int
	spilled []*broker.Swap
}

func (m *memoryReserve) Free() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.freed++
	return nil
}

func (m *memoryReserve) Refill() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refills++
	return nil
}

func (m *memoryReserve) Spill(swaps []*broker.Swap) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spilled = append(m.spilled, swaps...)
	return nil
}

func (m *memoryReserve) Spilled() ([]*broker.Swap, func() error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.spilled, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.spilled = nil
		return nil
	}, nil
}

func withFailingStore() (*failingStore, *memoryReserve, func(*rig)) {
	f, m := &failingStore{}, &memoryReserve{}
	return f, m, func(r *rig) {
		r.reserve = m
		r.wrap = func(s broker.Store) broker.Store { f.Store = s; return f }
	}
}

// A full disk at the worst moment: the provider has rotated, and the pair cannot be stored. It is held, nobody gets it
// before it is safe, no second renewal begins, and it is stored as soon as there is room.
func TestARenewedTokenIsHeldUntilItIsStored(t *testing.T) {
	store, reserve, option := withFailingStore()
	r := newRig(t, option)
	ref := r.imported("c", time.Hour)
	r.clock.advance(2 * time.Hour)
	store.noSwap.Store(true)

	results := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{})
			results <- err
		}()
	}
	waitFor(t, func() bool { return store.swaps.Load() >= 2 })
	if err := r.broker.Ready(t.Context()); err == nil {
		t.Fatal("ready, although a token waits to be stored")
	}
	select {
	case err := <-results:
		t.Fatalf("somebody got an answer before the commit: %v", err)
	default:
	}
	store.noSwap.Store(false)
	for range 2 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	if n, reused := r.provider.count(); n != 1 || reused != 0 {
		t.Fatalf("%d requests, %d reused", n, reused)
	}
	if err := r.broker.Ready(t.Context()); err != nil {
		t.Fatalf("not ready afterwards: %v", err)
	}
	if reserve.freed != 1 || reserve.refills != 1 {
		t.Fatalf("reserve freed %d times, refilled %d times", reserve.freed, reserve.refills)
	}
}

// A store that cannot be written stops us before the provider is asked.
func TestNothingIsAskedWithoutALease(t *testing.T) {
	store, _, option := withFailingStore()
	r := newRig(t, option)
	ref := r.imported("c", time.Hour)
	r.clock.advance(2 * time.Hour)
	store.noLease.Store(true)
	if _, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{}); !errors.Is(err, broker.ErrStorageUnavailable) {
		t.Fatalf("got %v", err)
	}
	if n, _ := r.provider.count(); n != 0 {
		t.Fatalf("%d requests", n)
	}
}

// A connection that is deleted in the middle of its renewal stays deleted, and the tokens that the provider had already
// issued are ended.
func TestADeletionDuringARenewalIsFinal(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.clock.advance(2 * time.Hour)
	asked, proceed := make(chan struct{}), make(chan struct{})
	r.provider.set(func(p *fakeProvider) {
		p.after = func(int) error { close(asked); <-proceed; return nil }
	})
	result := make(chan error, 1)
	go func() {
		_, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{})
		result <- err
	}()
	<-asked
	if err := r.broker.DeleteConnection(t.Context(), r.who, ref); err != nil {
		t.Fatal(err)
	}
	close(proceed)
	if err := <-result; !errors.Is(err, broker.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	if _, err := r.broker.Connection(t.Context(), r.who, ref); !errors.Is(err, broker.ErrNotFound) {
		t.Fatalf("the connection is back: %v", err)
	}
	if err := r.broker.RevokeDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := r.provider.revocations()
	if len(got) != 2 || got[0] == got[1] {
		t.Fatalf("revoked %q, want the old and the new refresh token", got)
	}
}

// A reconnect in the middle of a renewal wins: what the renewal got is dropped, and nothing newer is overwritten.
func TestAReconnectDuringARenewalWins(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.clock.advance(2 * time.Hour)
	asked, proceed := make(chan struct{}), make(chan struct{})
	r.provider.set(func(p *fakeProvider) {
		p.after = func(int) error { close(asked); <-proceed; return nil }
	})
	result := make(chan *broker.Revealed, 1)
	go func() {
		got, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{})
		if err != nil {
			t.Error(err)
		}
		result <- got
	}()
	<-asked
	r.provider.set(func(p *fakeProvider) { p.after = nil })
	r.imported("c", time.Hour) // the same key: overwrites
	close(proceed)
	got := <-result
	if now := r.reveal(ref).Material.Access.Reveal(); now != "access-token-000003" || got.Material.Access.Reveal() != now {
		t.Fatalf("stored %q, the caller got %q", now, got.Material.Access.Reveal())
	}
}

// What was served from memory a moment ago is gone the moment a deletion returns.
func TestACachedTokenDiesWithItsConnection(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	for range 3 {
		if _, err := r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.broker.DeleteConnection(t.Context(), r.who, ref); err != nil {
		t.Fatal(err)
	}
	if _, err := r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key); !errors.Is(err, broker.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	if err := r.broker.RevokeDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := r.store.Revocations(t.Context(), r.who.Environment, 10)
	if err != nil || len(list) != 1 || list[0].Outcome != broker.OutcomeRevoked || len(list[0].Refresh) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
}

// A provider that is down when a connection is deleted is asked again, for three days.
func TestARevocationIsRetriedForThreeDays(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.provider.set(func(p *fakeProvider) {
		p.revokeErr = &broker.ProviderError{Class: broker.Transient, Code: "http_503", Status: 400}
	})
	if err := r.broker.DeleteConnection(t.Context(), r.who, ref); err != nil {
		t.Fatal(err)
	}
	outcome := func() string {
		list, err := r.store.Revocations(t.Context(), r.who.Environment, 10)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d jobs, %v", len(list), err)
		}
		return list[0].Outcome
	}
	for range 80 {
		if err := r.broker.RevokeDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.clock.advance(time.Hour)
	}
	if got := outcome(); got != broker.OutcomeGaveUp {
		t.Fatalf("outcome %q after 80 hours", got)
	}
	events, err := r.store.Events(t.Context(), r.who.Environment, 0, 100)
	if err != nil || events[len(events)-1].Kind != broker.EventRevocationEnded {
		t.Fatalf("events %+v, %v", events, err)
	}
}

// Time in which the provider must not be asked is none of the three days, neither for the revocation that found out nor for
// those that were not even tried.
func TestAClosedGateDoesNotUseUpARevocation(t *testing.T) {
	r := newRig(t)
	first, second := r.imported("first", time.Hour), r.imported("second", time.Hour)
	r.provider.set(func(p *fakeProvider) {
		p.revokeErr = &broker.ProviderError{Class: broker.Transient, Code: "http_503", Status: 503, RetryAfter: 100 * time.Hour}
	})
	for _, ref := range []broker.ConnectionRef{first, second} {
		if err := r.broker.DeleteConnection(t.Context(), r.who, ref); err != nil {
			t.Fatal(err)
		}
		if err := r.broker.RevokeDue(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pass := func(hours int) {
		for range hours {
			r.clock.advance(time.Hour)
			if err := r.broker.RevokeDue(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	pass(99)
	r.provider.set(func(p *fakeProvider) {
		p.revokeErr = &broker.ProviderError{Class: broker.Transient, Code: "http_400", Status: 400}
	})
	pass(60) // they are tried now, and fail
	r.provider.set(func(p *fakeProvider) { p.revokeErr = nil })
	pass(2)
	if n := len(r.provider.revocations()); n != 2 {
		t.Fatalf("%d of 2 were revoked", n)
	}
}

// A provider that lets nobody in is not waited for for ever: the tokens of a deleted connection are not kept longer than
// those of a lost grant.
func TestARevocationEndsBehindAClosedGateToo(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.provider.set(func(p *fakeProvider) {
		p.revokeErr = &broker.ProviderError{Class: broker.Transient, Code: "http_503", Status: 503, RetryAfter: 20 * 24 * time.Hour}
	})
	if err := r.broker.DeleteConnection(t.Context(), r.who, ref); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := r.broker.RevokeDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.clock.advance(20*24*time.Hour + time.Second)
	}
	list, err := r.store.Revocations(t.Context(), r.who.Environment, 10)
	if err != nil || len(list) != 1 || list[0].Outcome != broker.OutcomeGaveUp || len(list[0].Refresh) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
}

// Where revoking a token ends every token of the account, it is left alone while another connection needs it.
func TestASharedGrantIsNotRevoked(t *testing.T) {
	r := newRig(t)
	r.provider.facts.RevokesGrant = true
	connect := func() broker.ConnectionRef {
		who, _ := r.session(broker.SessionInput{})
		_, cb := r.started(who)
		o, err := r.broker.FinishFlow(t.Context(), cb)
		if err != nil {
			t.Fatal(err)
		}
		return broker.ConnectionRef{Integration: "one", Key: o.Key}
	}
	first, second := connect(), connect()
	for i, ref := range []broker.ConnectionRef{first, second} {
		if err := r.broker.DeleteConnection(t.Context(), r.who, ref); err != nil {
			t.Fatal(err)
		}
		if err := r.broker.RevokeDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(r.provider.revocations()); n != i {
			t.Fatalf("%d revocations after deleting %d of 2", n, i+1)
		}
	}
}

// A provider that makes us panic ends neither the process nor the job.
func TestAPanicInARevocationIsSurvived(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.provider.set(func(p *fakeProvider) { p.panics = true })
	if err := r.broker.DeleteConnection(t.Context(), r.who, ref); err != nil {
		t.Fatal(err)
	}
	if err := r.broker.RevokeDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.provider.set(func(p *fakeProvider) { p.panics = false })
	r.clock.advance(time.Hour)
	if err := r.broker.RevokeDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(r.provider.revocations()); n != 1 {
		t.Fatalf("%d revocations", n)
	}
}

// A caller that hangs up while its change commits does not keep the change from counting.
func TestADeletionCountsWhenItsCallerHangsUp(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	who := broker.System(r.who.Environment)
	if _, err := r.broker.CreateIntegration(ctx, who, broker.IntegrationInput{Key: "two", Provider: "fake", ClientID: "c"}); err != nil {
		t.Fatal(err)
	}
	access, _ := r.provider.issue(time.Hour)
	_, _, err := r.broker.Import(ctx, r.who, broker.ImportInput{Integration: "two", Key: "c", Material: &broker.Material{Type: "OAUTH2", Access: broker.NewSecret(access)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.broker.Outbound(ctx, r.who, "two", "c"); err != nil {
		t.Fatal(err)
	}
	leaving, leave := context.WithCancel(ctx)
	leaver := &leavingStore{Store: r.store, leave: leave}
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	r.wrap = func(s broker.Store) broker.Store { leaver.Store = s; return leaver }
	r.start()
	if _, err := r.broker.Outbound(ctx, r.who, "two", "c"); err != nil {
		t.Fatal(err)
	}
	_ = r.broker.DeleteIntegration(leaving, who, "two")
	if _, err := r.broker.Outbound(ctx, r.who, "two", "c"); !errors.Is(err, broker.ErrNotFound) {
		t.Fatalf("a deleted integration: %v", err)
	}
}

// leavingStore has the caller leave at the moment of the commit.
type leavingStore struct {
	broker.Store
	leave func()
}

func (s *leavingStore) DeleteIntegration(ctx context.Context, id broker.IntegrationID, at time.Time, t broker.Trail) (int, error) {
	n, err := s.Store.DeleteIntegration(ctx, id, at, t)
	s.leave()
	return n, err
}

// A token that could not be renewed is given as it is, as long as it is good, and not where its connection was deleted while
// that was tried.
func TestATokenIsNotGivenAfterItsDeletion(t *testing.T) {
	down := &broker.ProviderError{Class: broker.Transient, Code: "http_503", Status: 503}
	for name, left := range map[string]time.Duration{"a read": 10 * time.Minute, "a call": 20 * time.Second} {
		for what, answer := range map[string]error{"the provider is down": down, "it has issued another": nil} {
			t.Run(name+", "+what, func(t *testing.T) {
				r := newRig(t)
				ref := r.imported("c", time.Hour)
				r.clock.advance(time.Hour - left)
				asked, proceed := make(chan struct{}), make(chan struct{})
				r.provider.set(func(p *fakeProvider) {
					p.before = func(int) error { close(asked); <-proceed; return answer }
				})
				result := make(chan error, 1)
				go func() {
					var err error
					if name == "a call" {
						_, err = r.wayOut(ref)
					} else {
						_, err = r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{})
					}
					result <- err
				}()
				<-asked
				if err := r.broker.DeleteConnection(t.Context(), r.who, ref); err != nil {
					t.Fatal(err)
				}
				close(proceed)
				if err := <-result; !errors.Is(err, broker.ErrNotFound) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}
