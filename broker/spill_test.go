package broker_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// storing renews a token for a caller, as far as to the store's being asked to take it.
func (r *rig) storing(t *testing.T, store *failingStore) (ref broker.ConnectionRef, stop func(), result <-chan error) {
	t.Helper()
	ref = r.imported("c", time.Hour)
	r.clock.advance(2 * time.Hour)
	stop = r.run()
	done := make(chan error, 1)
	go func() {
		_, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{})
		done <- err
	}()
	waitFor(t, func() bool { return store.swaps.Load() >= 1 })
	return ref, stop, done
}

// When the process has to end before there is room, the sealed pair goes into the reserve, and the next process stores it.
func TestAHeldTokenSurvivesTheEndOfTheProcess(t *testing.T) {
	store, reserve, option := withFailingStore()
	r := newRig(t, option, func(r *rig) { r.drain = 100 * time.Millisecond })
	store.noSwap.Store(true)
	ref, stop, result := r.storing(t, store)
	stop()
	if err := <-result; !errors.Is(err, broker.ErrStorageUnavailable) && !errors.Is(err, broker.ErrRefreshTimeout) {
		t.Fatalf("the caller got %v", err)
	}
	if len(reserve.spilled) != 1 {
		t.Fatalf("%d pairs were saved", len(reserve.spilled))
	}

	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	store.noSwap.Store(false)
	r.start()
	got := r.reveal(ref)
	if got.Material.Access.Reveal() != "access-token-000002" {
		t.Fatalf("token %q", got.Material.Access.Reveal())
	}
	if n, reused := r.provider.count(); n != 1 || reused != 0 || len(reserve.spilled) != 0 {
		t.Fatalf("%d requests, %d reused, %d still saved", n, reused, len(reserve.spilled))
	}
}

// A database that does not even answer, as one whose machine is gone, must not take the pair with it when the process ends.
func TestATokenThatIsBeingStoredSurvivesTheEndOfTheProcess(t *testing.T) {
	store, reserve, option := withFailingStore()
	r := newRig(t, option, func(r *rig) { r.drain = 100 * time.Millisecond })
	store.silence = make(chan struct{})
	ref, stop, result := r.storing(t, store)
	if err := r.broker.Ready(t.Context()); err != nil {
		t.Errorf("not ready, although nothing has failed: %v", err)
	}
	stop()
	if len(reserve.spilled) != 1 || reserve.spilled[0].From != 1 {
		t.Errorf("%d pairs were saved", len(reserve.spilled))
	}
	close(store.silence) // it was stored after all, and what was saved has been overtaken
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	r.start()
	if got := r.reveal(ref).Material.Access.Reveal(); got != "access-token-000002" || len(reserve.spilled) != 0 {
		t.Errorf("token %q, %d still saved", got, len(reserve.spilled))
	}
}

// What was saved of a connection that is deleted before the next start is not forgotten: its tokens end like all others of a
// deleted connection.
func TestASavedTokenEndsWithItsConnection(t *testing.T) {
	store, reserve, option := withFailingStore()
	r := newRig(t, option, func(r *rig) { r.drain = 100 * time.Millisecond })
	store.noSwap.Store(true)
	ref, stop, result := r.storing(t, store)
	stop()
	if err := <-result; err == nil {
		t.Fatal("a token was given out that is not stored")
	}
	c, _ := r.stored(ref)
	if err := r.store.DeleteConnection(t.Context(), c.Environment, c.ID, r.clock.Now(), broker.Trail{}); err != nil {
		t.Fatal(err)
	}
	store.noSwap.Store(false)
	saved := slices.Clone(reserve.spilled)
	for range 2 { // a process may end between what it stores and forgetting that it was saved
		reserve.spilled = slices.Clone(saved)
		if err := r.store.Close(); err != nil {
			t.Fatal(err)
		}
		r.clock.advance(100 * time.Hour)
		r.start()
	}
	if len(saved) != 1 || len(reserve.spilled) != 0 {
		t.Errorf("%d were saved, and %d still are", len(saved), len(reserve.spilled))
	}
	if err := r.broker.RevokeDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := r.provider.revocations()
	slices.Sort(got)
	if want := []string{"refresh-token-000001", "refresh-token-000002"}; !slices.Equal(got, want) {
		t.Errorf("revoked %q, want %q", got, want)
	}
	if _, err := r.broker.Connection(t.Context(), r.who, ref); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("the connection is back: %v", err)
	}
}
