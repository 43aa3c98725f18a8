package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// A thousand callers for one expired token: one token request, and everybody gets the new token.
func TestOneRenewalForAThousandCallers(t *testing.T) {
	r := newRig(t)
	ref := r.imported("herd", time.Hour)
	r.clock.advance(2 * time.Hour)

	tokens := make([]string, 1000)
	var all sync.WaitGroup
	for i := range tokens {
		all.Go(func() {
			got, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{})
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
				return
			}
			tokens[i] = got.Material.Access.Reveal()
		})
	}
	all.Wait()

	if requests, reused := r.provider.count(); requests != 1 || reused != 0 {
		t.Fatalf("%d token requests and %d reused refresh tokens, want 1 and 0", requests, reused)
	}
	for i, token := range tokens {
		if token != tokens[0] || token == "" {
			t.Fatalf("caller %d got %q, caller 0 %q", i, token, tokens[0])
		}
	}
}

// The proxy's way out renews too, and a caller that leaves does not take the renewal with it.
func TestARenewalOutlivesItsCaller(t *testing.T) {
	r := newRig(t)
	ref := r.imported("gone", time.Hour)
	r.clock.advance(2 * time.Hour)
	asked, proceed := make(chan struct{}), make(chan struct{})
	r.provider.set(func(p *fakeProvider) {
		p.before = func(int) error { close(asked); <-proceed; return nil }
	})

	ctx, leave := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := r.broker.Outbound(ctx, r.who, ref.Integration, ref.Key)
		result <- err
	}()
	<-asked
	leave()
	if err := <-result; !errors.Is(err, broker.ErrRefreshTimeout) {
		t.Fatalf("the caller that left got %v", err)
	}
	r.provider.set(func(p *fakeProvider) { p.before = nil })
	close(proceed)

	if got := r.reveal(ref); got.Material.Access.Reveal() != "access-token-000002" {
		t.Fatalf("token %q", got.Material.Access.Reveal())
	}
	if requests, _ := r.provider.count(); requests != 1 {
		t.Fatalf("%d token requests", requests)
	}
}

// What a failure means: for the connection, for the integration, or for nobody.
func TestFailuresAreSorted(t *testing.T) {
	tests := []struct {
		name    string
		failure broker.ProviderError
		want    *broker.Error
		status  broker.Status
		reason  string
		again   bool // a later call asks the provider again
	}{
		{"grant lost", broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Status: 400}, broker.ErrNeedsReauth, broker.Failing, broker.ReasonNeedsReauth, false},
		{"client refused", broker.ProviderError{Class: broker.ClientRefused, Code: "invalid_client", Status: 401}, broker.ErrMisconfigured, broker.Active, "", false},
		{"server down", broker.ProviderError{Class: broker.Transient, Code: "http_503", Status: 503}, broker.ErrProviderDown, broker.Failing, broker.ReasonRefreshFails, true},
		{"unreachable", broker.ProviderError{Class: broker.Transient, Code: "network", Reach: broker.ErrUnreachable}, broker.ErrUnreachable, broker.Failing, broker.ReasonRefreshFails, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			ref := r.imported("c", time.Hour)
			r.clock.advance(2 * time.Hour)
			r.provider.set(func(p *fakeProvider) { p.before = func(int) error { return &tt.failure } })

			_, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{})
			var failure *broker.RefreshError
			if !errors.As(err, &failure) || !failure.Attempted || !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v after an attempt", err, tt.want)
			}
			c, err := r.broker.Connection(t.Context(), r.who, ref)
			if err != nil || c.Status != tt.status || c.Reason != tt.reason {
				t.Fatalf("status %q, reason %q, err %v", c.Status, c.Reason, err)
			}

			// At once nobody is asked again.
			_, err = r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{})
			if !errors.As(err, &failure) || failure.Attempted {
				t.Fatalf("second call: %v", err)
			}
			if n, _ := r.provider.count(); n != 1 {
				t.Fatalf("%d requests", n)
			}
			r.provider.set(func(p *fakeProvider) { p.before = nil })
			r.clock.advance(20 * time.Minute)
			_, err = r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{})
			if tt.again != (err == nil) && tt.status != broker.Active {
				t.Fatalf("later: %v", err)
			}
			// Whoever insists can revive it: the refresh token was kept.
			if _, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true}); err != nil {
				t.Fatalf("forced: %v", err)
			}
			if c, _ := r.broker.Connection(t.Context(), r.who, ref); c.Status != broker.Active {
				t.Fatalf("status after success %q", c.Status)
			}
		})
	}
}

// A wrong client secret is the integration's fault: none of its connections is marked, and the provider is asked once.
func TestARefusedClientMarksNoConnection(t *testing.T) {
	r := newRig(t)
	refs := make([]broker.ConnectionRef, 200)
	for i := range refs {
		refs[i] = r.imported(fmt.Sprint("c", i), time.Hour)
	}
	r.clock.advance(2 * time.Hour)
	r.provider.set(func(p *fakeProvider) {
		p.before = func(int) error {
			return &broker.ProviderError{Class: broker.ClientRefused, Code: "invalid_client", Status: 401}
		}
	})
	for _, ref := range refs {
		if _, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{}); !errors.Is(err, broker.ErrMisconfigured) {
			t.Fatalf("%s: %v", ref.Key, err)
		}
	}
	list, err := r.broker.Connections(t.Context(), r.who, broker.ConnectionFilter{Limit: 1000})
	if err != nil || len(list) != len(refs) {
		t.Fatalf("%d connections, %v", len(list), err)
	}
	for _, c := range list {
		if c.Status != broker.Active {
			t.Fatalf("%s is %s", c.Key, c.Status)
		}
	}
	if n, _ := r.provider.count(); n != 1 {
		t.Fatalf("the provider was asked %d times within the pause, want 1", n)
	}
	i, _, err := r.broker.Integration(t.Context(), r.who, "one")
	if err != nil || i.Fault != "invalid_client" {
		t.Fatalf("fault %q, %v", i.Fault, err)
	}
	r.provider.set(func(p *fakeProvider) { p.before = nil })
	r.clock.advance(6 * time.Minute)
	r.reveal(refs[0])
	if i, _, _ = r.broker.Integration(t.Context(), r.who, "one"); i.Fault != "" {
		t.Fatalf("fault %q after a success", i.Fault)
	}
}

// A token that is still valid is served while its provider is down, and while its grant is known to be lost.
func TestAValidTokenIsServedWhileRenewalFails(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.clock.advance(55 * time.Minute)
	for _, class := range []broker.FailureClass{broker.Transient, broker.GrantLost} {
		r.provider.set(func(p *fakeProvider) {
			p.before = func(int) error { return &broker.ProviderError{Class: class, Code: "x", Status: 503} }
		})
		r.clock.advance(time.Minute)
		if got := r.reveal(ref); got.Material.Access.Reveal() != "access-token-000001" {
			t.Fatalf("token %q", got.Material.Access.Reveal())
		}
		if _, err := r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key); err != nil {
			t.Fatalf("proxy: %v", err)
		}
	}
	r.clock.advance(time.Hour)
	if _, err := r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key); !errors.Is(err, broker.ErrNeedsReauth) {
		t.Fatalf("an expired token of a lost grant: %v", err)
	}
}

// An answer that got lost is asked for once more, at once. A provider with a grace gives the successor again; one without
// says invalid_grant, which then has a reason of its own.
func TestAnAnswerThatGotLostIsRepeatedOnce(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.clock.advance(2 * time.Hour)
	r.provider.set(func(p *fakeProvider) {
		p.after = func(int) error { return &broker.ProviderError{Class: broker.Transient, Code: "timeout", InDoubt: true} }
	})
	_, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{})
	if !errors.Is(err, broker.ErrNeedsReauth) {
		t.Fatalf("got %v", err)
	}
	if n, reused := r.provider.count(); n != 2 || reused != 1 {
		t.Fatalf("%d requests, %d repeats", n, reused)
	}
	c, err := r.broker.Connection(t.Context(), r.who, ref)
	if err != nil || c.Reason != broker.ReasonOutcomeLost {
		t.Fatalf("reason %q, %v", c.Reason, err)
	}
}

// The API refused the token: it is renewed once, however many requests found out.
func TestARejectedTokenIsRenewedOncePerVersion(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	first, err := r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if newer, err := r.broker.Rejected(t.Context(), first); err != nil || newer == nil {
				t.Errorf("rejected: %v, %v", newer, err)
			}
		})
	}
	all.Wait()
	if n, reused := r.provider.count(); n != 1 || reused != 0 {
		t.Fatalf("%d requests, %d reused", n, reused)
	}
	second, err := r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key)
	if err != nil {
		t.Fatal(err)
	}
	// An API that refuses whatever it gets does not have tokens renewed with every call.
	if again, err := r.broker.Rejected(t.Context(), second); err != nil || again != nil {
		t.Fatalf("again: %v, %v", again, err)
	}
	if n, _ := r.provider.count(); n != 1 {
		t.Fatalf("%d requests", n)
	}
}

// The background renews before anybody asks.
func TestTheBackgroundRenewsBeforeExpiry(t *testing.T) {
	r := newRig(t)
	refs := make([]broker.ConnectionRef, 20)
	for i := range refs {
		refs[i] = r.imported(fmt.Sprint("c", i), time.Hour)
	}
	r.clock.advance(50 * time.Minute)
	stop := r.run()
	waitFor(t, func() bool { n, _ := r.provider.count(); return n >= len(refs) })
	stop()
	if n, reused := r.provider.count(); n != len(refs) || reused != 0 {
		t.Fatalf("%d requests, %d reused", n, reused)
	}
	for _, ref := range refs {
		if got := r.reveal(ref); !got.Material.ExpiresAt.After(r.clock.Now().Add(45 * time.Minute)) {
			t.Fatalf("%s expires at %s", ref.Key, got.Material.ExpiresAt)
		}
	}
	if n, _ := r.provider.count(); n != len(refs) {
		t.Fatalf("%d requests after reading", n)
	}
}

// waitFor polls a condition that another goroutine makes true.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the condition did not come true")
		}
	}
}

// A token that ran out with nothing to renew it is given as it is by a read, refused by the proxy, and its connection
// says so.
func TestATokenThatCannotBeRenewedRunsOut(t *testing.T) {
	r := newRig(t)
	_, _, err := r.broker.Import(t.Context(), r.who, broker.ImportInput{Integration: "one", Key: "c", Material: &broker.Material{
		Type: "OAUTH2", Access: broker.NewSecret("the-only-token"), ExpiresAt: r.clock.Now().Add(time.Hour),
	}})
	if err != nil {
		t.Fatal(err)
	}
	ref := broker.ConnectionRef{Integration: "one", Key: "c"}
	for _, force := range []bool{false, true} {
		got, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: force})
		if err != nil || got.Material.Access.Reveal() != "the-only-token" {
			t.Fatalf("before its end: %v", err)
		}
	}
	r.clock.advance(2 * time.Hour)
	stop := r.run()
	defer stop()
	waitFor(t, func() bool {
		c, err := r.broker.Connection(t.Context(), r.who, ref)
		return err == nil && c.Status == broker.Expired
	})
	if got := r.reveal(ref); got.Material.Access.Reveal() != "the-only-token" {
		t.Fatal("another token")
	}
	if _, err := r.broker.Outbound(t.Context(), r.who, "one", "c"); !errors.Is(err, broker.ErrNeedsReauth) {
		t.Fatalf("proxy: %v", err)
	}
	if n, _ := r.provider.count(); n != 0 {
		t.Fatalf("%d requests", n)
	}
}

// When the process is told to end, what has been asked of a provider is waited for and stored, and nothing else is asked.
func TestAnEndBeginsNothing(t *testing.T) {
	r := newRig(t, func(r *rig) { r.perHost = 2 })
	refs := make([]broker.ConnectionRef, 20)
	for i := range refs {
		refs[i] = r.imported(fmt.Sprint("c", i), time.Hour)
	}
	asked, proceed := make(chan struct{}, len(refs)), make(chan struct{})
	r.provider.set(func(p *fakeProvider) {
		p.after = func(int) error { asked <- struct{}{}; <-proceed; return nil }
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.broker.Run(ctx) }()
	var callers sync.WaitGroup
	for _, ref := range refs {
		callers.Go(func() {
			_, _ = r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true})
		})
	}
	<-asked
	<-asked
	cancel()
	r.broker.Stop()
	close(proceed)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	callers.Wait()
	if n, reused := r.provider.count(); n != 2 || reused != 0 {
		t.Fatalf("%d requests, %d reused", n, reused)
	}
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	r.start()
	for _, ref := range refs {
		if _, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true}); err != nil {
			t.Fatalf("%s: %v", ref.Key, err)
		}
	}
}

// A token that never lasts long is served as long as it is good, and not renewed for every call.
func TestShortLivedTokens(t *testing.T) {
	for _, life := range []time.Duration{20 * time.Second, 45 * time.Second, 90 * time.Second, 2 * time.Minute} {
		for _, buffer := range []time.Duration{0, 10 * time.Minute} {
			r := newRig(t)
			r.provider.set(func(p *fakeProvider) { p.life, p.facts.RefreshBuffer, p.facts.ServesBuffer = life, buffer, buffer })
			ref := r.imported("c", life)
			for elapsed := time.Duration(0); elapsed < 4*life; elapsed += life / 8 {
				for range 3 {
					if _, err := r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key); err != nil {
						t.Fatalf("life %s, buffer %s, after %s: %v", life, buffer, elapsed, err)
					}
				}
				r.clock.advance(life / 8)
			}
			if n, _ := r.provider.count(); n < 3 || n > 12 {
				t.Fatalf("life %s, buffer %s: %d renewals in four lives", life, buffer, n)
			}
		}
	}
}

// An end user's own client that its provider refuses is that connection's trouble alone.
func TestAnOwnClientConcernsNobodyElse(t *testing.T) {
	r := newRig(t)
	access, refresh := r.provider.issue(time.Hour)
	_, _, err := r.broker.Import(t.Context(), r.who, broker.ImportInput{Integration: "one", Key: "own", Material: &broker.Material{
		Type: "OAUTH2", Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh), ExpiresAt: r.clock.Now().Add(time.Hour),
		Details: map[string]broker.Secret{"client_id": broker.NewSecret("own"), "client_secret": broker.NewSecret("own")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	other := r.imported("other", time.Hour)
	r.clock.advance(2 * time.Hour)
	r.provider.set(func(p *fakeProvider) {
		p.before = func(int) error {
			return &broker.ProviderError{Class: broker.ClientRefused, Code: "invalid_client", Status: 401}
		}
	})
	if _, err := r.broker.Reveal(t.Context(), r.who, broker.ConnectionRef{Integration: "one", Key: "own"}, broker.RevealOptions{}); !errors.Is(err, broker.ErrNeedsReauth) {
		t.Fatalf("got %v", err)
	}
	r.provider.set(func(p *fakeProvider) { p.before = nil })
	r.reveal(other)
}

// An address that changed since the client was entered gets neither its secret nor a refresh token.
func TestAChangedAddressGetsNoSecret(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.clock.advance(2 * time.Hour)
	r.provider.set(func(p *fakeProvider) { p.facts.TokenOrigin = "https://elsewhere.example.com" })
	if _, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{}); !errors.Is(err, broker.ErrSecretRequired) {
		t.Fatalf("got %v", err)
	}
	// The operator enters the client again, for the new address. That is no word of the end user's.
	r.declare(t.Context())
	for _, force := range []bool{false, true} {
		if _, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: force}); !errors.Is(err, broker.ErrNeedsReauth) {
			t.Fatalf("after the client was entered again: %v", err)
		}
	}
	if c, err := r.broker.Connection(t.Context(), r.who, ref); err != nil || c.Reason != broker.ReasonOriginChanged {
		t.Fatalf("reason %q, %v", c.Reason, err)
	}
	if n, _ := r.provider.count(); n != 0 {
		t.Fatalf("%d requests", n)
	}
}
