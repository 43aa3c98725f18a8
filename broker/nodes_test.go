package broker_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// among is a store from which several nodes serve.
type among struct {
	broker.Store
	refused *atomic.Int64 // leases that another node had
	stale   *atomic.Pointer[broker.DueRefresh]
	full    *atomic.Bool // it takes no new tokens
	away    *atomic.Bool // it gives no leases
	blind   *atomic.Bool // it finds no sessions
	looks   *atomic.Int64
	watched *atomic.Int64
	told    chan struct{}
}

// Session fails while the store is blind.
func (s among) Session(ctx context.Context, id broker.SessionID) (*broker.Session, error) {
	s.looks.Add(1)
	if s.blind.Load() {
		return nil, broker.ErrStorageUnavailable
	}
	return s.Store.Session(ctx, id)
}

// SwapCredential fails while the store is full.
func (s among) SwapCredential(ctx context.Context, swap *broker.Swap) error {
	if s.full.Load() {
		return broker.ErrStorageUnavailable
	}
	return s.Store.SwapCredential(ctx, swap)
}

// DueRefreshes may list what another node has leased since.
func (s among) DueRefreshes(ctx context.Context, now time.Time, except []broker.IntegrationID, limit int) ([]broker.DueRefresh, error) {
	if d := s.stale.Swap(nil); d != nil {
		return []broker.DueRefresh{*d}, nil
	}
	return s.Store.DueRefreshes(ctx, now, except, limit)
}

// LeaseRefresh counts the leases that another node has.
func (s among) LeaseRefresh(ctx context.Context, id broker.ConnectionID, owner string, ttl time.Duration) (*broker.Credential, bool, error) {
	if s.away.Load() {
		return nil, false, broker.ErrStorageUnavailable
	}
	c, ok, err := s.Store.LeaseRefresh(ctx, id, owner, ttl)
	if err == nil && !ok {
		s.refused.Add(1)
	}
	return c, ok, err
}

// Standing implements [broker.Shared].
func (s among) Standing(ctx context.Context, integration broker.IntegrationID, key string) (broker.Standing, error) {
	t, err := s.Ticket(ctx, integration, key)
	if err != nil {
		return broker.Standing{}, err
	}
	return broker.Standing{Connection: t.Connection, Revision: t.Revision, Version: t.Version, Status: t.Status}, nil
}

// Ticket tells the revision, as such a store does.
func (s among) Ticket(ctx context.Context, integration broker.IntegrationID, key string) (*broker.Ticket, error) {
	t, err := s.Store.Ticket(ctx, integration, key)
	if err != nil {
		return nil, err
	}
	c, err := s.ConnectionByKey(ctx, integration, key)
	if err == nil {
		t.Revision = c.Revision
	}
	return t, err
}

// FlowsByChannel implements [broker.Shared].
func (s among) FlowsByChannel(ctx context.Context, channels [][]byte) (out []*broker.Flow, err error) {
	for _, channel := range channels {
		f, err := s.FlowByChannel(ctx, channel)
		switch {
		case err == nil:
			out = append(out, f)
		case !errors.Is(err, broker.ErrNotFound):
			return nil, err
		}
	}
	return out, nil
}

// Listen hears what the test tells.
func (s among) Listen(ctx context.Context, heard func()) {
	for {
		select {
		case <-s.told:
			heard()
		case <-ctx.Done():
			return
		}
	}
}

// ForeignChanges counts how often it is asked for.
func (s among) ForeignChanges(ctx context.Context) (int64, error) {
	s.watched.Add(1)
	return s.Store.ForeignChanges(ctx)
}

// DropStaleLeases ends nothing: the other node lives.
func (among) DropStaleLeases(context.Context) (int, error) { return 0, nil }

// DropStaleClaims ends nothing either.
func (among) DropStaleClaims(context.Context) (int, error) { return 0, nil }

// twoNodes are two brokers over one database, with the same keys and provider.
func twoNodes(t *testing.T, options ...func(*rig)) (a, b *rig) {
	t.Helper()
	a = newRig(t, append(options, func(r *rig) {
		r.wrap = func(s broker.Store) broker.Store {
			return among{
				s, new(atomic.Int64), new(atomic.Pointer[broker.DueRefresh]), new(atomic.Bool), new(atomic.Bool), new(atomic.Bool),
				new(atomic.Int64), new(atomic.Int64), make(chan struct{}),
			}
		}
	})...)
	b = new(rig)
	*b = rig{
		t: t, dir: a.dir, clock: a.clock, log: a.log, identity: a.identity, provider: a.provider, origins: a.origins, wrap: a.wrap, courier: a.courier,
	}
	b.startBeside()
	return a, b
}

// startBeside is start for another process on the same database.
func (r *rig) startBeside() {
	r.t.Helper()
	db, err := sqlite.Open(r.t.Context(), sqlite.Options{Dir: r.dir, Now: r.clock.Now})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = db.Close() })
	r.serve(db)
}

func TestWhatAnotherNodeWritesCountsAtOnce(t *testing.T) {
	a, b := twoNodes(t)
	ref := a.imported("k", time.Hour)
	served := func(r *rig) string {
		t.Helper()
		o, err := r.wayOut(ref)
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.fake.example.com/", http.NoBody)
		if err := o.Authorize(req); err != nil {
			t.Fatal(err)
		}
		return req.Header.Get("Authorization")
	}
	old := served(a)
	if got := served(b); got != old {
		t.Fatalf("one node serves %s, the other %s", old, got)
	}
	if _, err := a.broker.Reveal(t.Context(), a.who, ref, broker.RevealOptions{ForceRefresh: true}); err != nil {
		t.Fatal(err)
	}
	if now := served(a); now == old || served(b) != now {
		t.Errorf("one node renewed to %s, the other serves %s", now, served(b))
	}
	if err := a.broker.DeleteConnection(t.Context(), a.who, ref); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*rig{a, b} {
		if _, err := r.wayOut(ref); !errors.Is(err, broker.ErrNotFound) {
			t.Errorf("after the deletion: %v", err)
		}
	}
}

// A node that is told of news looks at once: without, a hundred looks would take minutes.
func TestNewsAreLookedAtWhenTheyCome(t *testing.T) {
	a, _ := twoNodes(t)
	a.run()
	store := a.store.(among)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range 100 {
		before := store.watched.Load()
		store.told <- struct{}{}
		for store.watched.Load() == before {
			if ctx.Err() != nil {
				t.Fatal("it waits for its next look")
			}
			runtime.Gosched()
		}
	}
}

func TestNodesRenewOnceInTheBackground(t *testing.T) {
	a, b := twoNodes(t)
	ref := a.imported("k", time.Hour)
	a.clock.advance(50 * time.Minute)
	answer := make(chan struct{})
	a.provider.set(func(p *fakeProvider) { p.before = func(int) error { <-answer; return nil } })
	a.run()
	waitFor(t, func() bool { n, _ := a.provider.count(); return n == 1 })
	c, _ := b.stored(ref)
	b.store.(among).stale.Store(&broker.DueRefresh{Connection: c.ID, Environment: c.Environment, Integration: c.Integration, At: a.clock.Now()})
	b.run()
	waitFor(t, func() bool { return b.store.(among).refused.Load() > 0 })
	close(answer)
	waitFor(t, func() bool { _, c := b.stored(ref); return c.Version == 2 && c.RefreshAt.After(a.clock.Now()) })
	if n, reused := a.provider.count(); n != 1 || reused != 0 {
		t.Errorf("%d requests, %d reused", n, reused)
	}
}

func TestASignInThatEndsOnAnotherNodeIsHeardOf(t *testing.T) {
	for name, test := range map[string]struct {
		origin string // of the page that waits
		code   string // of the provider's answer; empty: it was denied
		want   *broker.Error
	}{
		"it succeeds":           {"https://app.example.com", "code", nil},
		"it fails":              {"https://app.example.com", "", broker.ErrProviderDenied},
		"a page of another app": {"https://evil.example.com", "code", broker.ErrOriginRefused},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := twoNodes(t, func(r *rig) { r.origins = []string{"https://app.example.com"} })
			channel := broker.NewChannel()
			ends, stop := a.broker.Await(channel, test.origin)
			defer stop()
			a.run()
			who, _ := b.session(broker.SessionInput{})
			s, err := b.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{Channel: channel})
			if err != nil {
				t.Fatal(err)
			}
			cb := broker.Callback{Query: url.Values{"state": {s.State}}, Browser: s.Browser}
			if cb.Query.Set("code", test.code); test.code == "" {
				cb.Query.Del("code")
				cb.Query.Set("error", "access_denied")
			}
			o, err := b.broker.FinishFlow(t.Context(), cb)
			if (err == nil) != (test.code != "") {
				t.Fatal(err)
			}
			end := <-ends
			switch {
			case test.origin != "https://app.example.com":
				if !errors.Is(end.Err, test.want) || end.Integration != "" || end.Connection != "" {
					t.Errorf("heard %+v", end)
				}
			case test.want != nil && !errors.Is(end.Err, test.want), test.want == nil && end.Err != nil, end.Integration != "one":
				t.Errorf("heard %+v", end)
			case test.want == nil && end.Connection != o.Key:
				t.Errorf("heard of %q, not %q", end.Connection, o.Key)
			}
		})
	}
}

func TestOneConnectionOfTheAppsOwnOnTwoNodes(t *testing.T) {
	a, b := twoNodes(t)
	type result struct {
		id  broker.ConnectionID
		err error
	}
	results := make(chan result)
	for _, r := range []*rig{a, b, a, b} {
		go func() {
			id, _, _, err := r.once(broker.Proposal{})
			results <- result{id, err}
		}()
	}
	first := <-results
	for range 3 {
		if got := <-results; got != first || got.err != nil {
			t.Errorf("%+v and %+v", first, got)
		}
	}
}

// A node that holds new tokens, because the store took none for longer than a lease lasts, gets time to store them before
// another one asks with the old ones.
func TestATokenThatIsHeldIsNotAskedForAgainElsewhere(t *testing.T) {
	a, b := twoNodes(t)
	ref := a.imported("k", time.Hour)
	full := a.store.(among).full
	full.Store(true)
	done := make(chan error, 2)
	renew := func(r *rig) {
		_, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true})
		done <- err
	}
	go renew(a)
	waitFor(t, func() bool { n, _ := a.provider.count(); return n == 1 })
	a.clock.advance(2 * time.Minute) // the lease is over, and nobody knows what came of it
	go renew(b)
	waitFor(t, func() bool { _, c := b.stored(ref); return c.Fence == 2 })
	full.Store(false)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n, reused := a.provider.count(); n != 1 || reused != 0 {
		t.Errorf("%d requests, %d with a spent token", n, reused)
	}
}

// A store that was away longer than a lease lasts comes back to nodes that hold new tokens: they get the time to store them.
func TestNoAttemptIsRepeatedRightAfterTheStoreWasAway(t *testing.T) {
	a, b := twoNodes(t)
	ref := a.imported("k", time.Hour)
	full := a.store.(among).full
	full.Store(true)
	done := make(chan error, 1)
	go func() {
		_, err := a.broker.Reveal(t.Context(), a.who, ref, broker.RevealOptions{ForceRefresh: true})
		done <- err
	}()
	waitFor(t, func() bool { n, _ := a.provider.count(); return n == 1 })
	a.clock.advance(2 * time.Minute)
	for _, away := range []bool{true, false} {
		b.store.(among).away.Store(away)
		_, err := b.broker.Reveal(t.Context(), b.who, ref, broker.RevealOptions{ForceRefresh: true})
		if !errors.Is(err, broker.ErrStorageUnavailable) || !away && broker.AsError(err).RetryAfter <= 0 {
			t.Errorf("away: %t, and a renewal comes to %v", away, err)
		}
	}
	full.Store(false)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, c := b.stored(ref); c.Version != 2 || c.LeaseOwner != "" {
		t.Errorf("version %d is stored, and %q has the lease", c.Version, c.LeaseOwner)
	}
	if n, reused := a.provider.count(); n != 1 || reused != 0 {
		t.Errorf("%d requests, %d with a spent token", n, reused)
	}
}

// As long as it is not known which pages may hear of a sign-in, none does.
func TestNothingIsToldWhileASessionCannotBeRead(t *testing.T) {
	a, b := twoNodes(t, func(r *rig) { r.origins = []string{"https://app.example.com"} })
	store := a.store.(among)
	store.blind.Store(true)
	channel := broker.NewChannel()
	ends, stop := a.broker.Await(channel, "https://evil.example.com")
	defer stop()
	who, _ := b.session(broker.SessionInput{})
	s, err := b.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{Channel: channel})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.broker.FinishFlow(t.Context(), broker.Callback{Query: url.Values{"state": {s.State}, "code": {"code"}}, Browser: s.Browser}); err != nil {
		t.Fatal(err)
	}
	a.run()
	waitFor(t, func() bool { return store.looks.Load() >= 2 })
	if len(ends) != 0 {
		t.Fatalf("heard %+v", <-ends)
	}
	store.blind.Store(false)
	if end := <-ends; !errors.Is(end.Err, broker.ErrOriginRefused) {
		t.Errorf("heard %+v", end)
	}
}

// A node that has not yet read what another one has just written must not give up for good what it finds to do.
func TestWorkThatANodeKnowsTooLittleOfIsNotGivenUp(t *testing.T) {
	c := &fakeCourier{}
	a, b := twoNodes(t, func(r *rig) { r.courier = c })
	a.webhook.URL = primaryURL
	a.declare(t.Context()) // the other node knows of no address
	a.imported("told", time.Hour)
	b.expectTold(c, "app created")
	for _, d := range a.deliveries() {
		if d.Outcome != broker.OutcomeDelivered {
			t.Errorf("a delivery was given up: %+v", d)
		}
	}

	system := broker.System(a.who.Environment)
	if _, err := a.broker.CreateIntegration(t.Context(), system, broker.IntegrationInput{Key: "two", Provider: "fake", ClientID: "c"}); err != nil {
		t.Fatal(err)
	}
	access, refresh := a.provider.issue(time.Hour)
	_, _, err := a.broker.Import(t.Context(), a.who, broker.ImportInput{Integration: "two", Key: "k", Material: &broker.Material{
		Type: "OAUTH2", Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.broker.DeleteConnection(t.Context(), a.who, broker.ConnectionRef{Integration: "two", Key: "k"}); err != nil {
		t.Fatal(err)
	}
	if err := b.broker.RevokeDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := a.provider.revocations(); len(got) != 1 || got[0] != refresh {
		t.Errorf("revoked %q, want %q", got, refresh)
	}
}

// What one node is working on is left to it by another whose clock is ahead.
func TestClocksOfNodesMayDiffer(t *testing.T) {
	c := &fakeCourier{}
	a, other := twoNodes(t, func(r *rig) { r.courier, r.webhook.URL = c, primaryURL })
	ahead := *other
	ahead.clock, ahead.webhook = &clock{now: a.clock.Now().Add(2 * time.Minute)}, a.webhook
	ahead.startBeside()

	busy, proceed := make(chan struct{}), make(chan struct{})
	c.set(func(*broker.Parcel) broker.Receipt {
		busy <- struct{}{}
		<-proceed
		return broker.Receipt{Status: 200}
	})
	ref := a.imported("k", time.Hour)
	done := make(chan error, 1)
	go func() { done <- a.broker.DeliverDue(t.Context()) }()
	<-busy
	c.set(nil)
	ahead.deliverDue()
	close(proceed)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := len(c.take()); n != 1 {
		t.Errorf("the app was told %d times", n)
	}

	proceed = make(chan struct{})
	a.provider.set(func(p *fakeProvider) {
		p.revoking = func() {
			busy <- struct{}{}
			<-proceed
		}
	})
	if err := a.broker.DeleteConnection(t.Context(), a.who, ref); err != nil {
		t.Fatal(err)
	}
	go func() { done <- a.broker.RevokeDue(t.Context()) }()
	<-busy
	a.provider.set(func(p *fakeProvider) { p.revoking = nil })
	if err := ahead.broker.RevokeDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(proceed)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := a.provider.revocations(); len(got) != 1 {
		t.Errorf("revoked %q", got)
	}
}

// Nodes that start together with a file that has lost its key find it open, and end it; that another was faster is no failure.
func TestNodesStartTogetherWithoutAKeyOfBefore(t *testing.T) {
	a, b := twoNodes(t)
	declared := a.declared()
	declared[0].SecretKey = broker.Secret{}
	for _, r := range []*rig{a, b} {
		if err := r.broker.Declare(t.Context(), declared); err != nil {
			t.Errorf("declare: %v", err)
		}
		if _, err := r.broker.Authenticate(rigKey); !errors.Is(err, broker.ErrUnauthorized) {
			t.Errorf("the key opens still: %v", err)
		}
	}
}
