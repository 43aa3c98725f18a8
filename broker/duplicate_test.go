package broker_test

import (
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// oneGrant imports a connection that holds those tokens.
func (r *rig) oneGrant(key, access, refresh string) broker.ConnectionRef {
	r.t.Helper()
	r.importToken(key, broker.Material{
		Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh), ExpiresAt: r.clock.Now().Add(time.Hour),
	})
	return broker.ConnectionRef{Integration: "one", Key: key}
}

// flagged checks which connections are on a grant that another one is on too, and how often the app was told.
func (r *rig) flagged(told int, want map[broker.ConnectionRef]bool) {
	r.t.Helper()
	for ref, flag := range want {
		c, err := r.broker.Connection(r.t.Context(), r.who, ref)
		if err != nil || c.DuplicateGrant != flag {
			r.t.Fatalf("%s: flagged %t, %v", ref.Key, c.DuplicateGrant, err)
		}
	}
	if n, lines := r.announced(broker.EventDuplicateGrant), r.audited("connection.duplicate_grant"); n != told || lines != told {
		r.t.Fatalf("the app was told %d times, with %d audit lines, want %d", n, lines, told)
	}
}

// Two connections with one refresh token are on one grant: what one of them renews or ends, the other has lost. Both say
// so as long as both are there and hold it.
func TestTwoConnectionsOnOneGrantAreFlagged(t *testing.T) {
	r := newRig(t)
	access, refresh := r.provider.issue(time.Hour)
	one := r.oneGrant("one", access, refresh)
	r.flagged(0, map[broker.ConnectionRef]bool{one: false})
	two := r.oneGrant("two", "another-access-token", refresh)
	r.flagged(1, map[broker.ConnectionRef]bool{one: true, two: true})
	other := r.imported("other", time.Hour)
	r.flagged(1, map[broker.ConnectionRef]bool{other: false})

	// The backend pushes the same again: that is no news.
	r.oneGrant("two", "another-access-token", refresh)
	r.flagged(1, map[broker.ConnectionRef]bool{one: true, two: true})

	// One of them gets a grant of its own.
	r.imported("two", time.Hour)
	r.flagged(1, map[broker.ConnectionRef]bool{one: false, two: false})
	r.oneGrant("two", "another-access-token", refresh)
	r.flagged(2, map[broker.ConnectionRef]bool{one: true, two: true})
	if err := r.broker.DeleteConnection(t.Context(), r.who, one); err != nil {
		t.Fatal(err)
	}
	r.flagged(2, map[broker.ConnectionRef]bool{two: false})
}

// A provider that rotates makes another token of a grant, and not another grant. The token that a connection came with is
// the grant's name: its twin is found by it after any number of renewals.
func TestARotatedGrantIsStillTheSame(t *testing.T) {
	r := newRig(t)
	access, refresh := r.provider.issue(time.Hour)
	one := r.oneGrant("one", access, refresh)
	r.clock.advance(2 * time.Hour)
	rotated := r.reveal(one).Material
	if rotated.Refresh.Reveal() == refresh {
		t.Fatal("the provider did not rotate")
	}
	two := r.oneGrant("two", access, refresh) // spent: its renewal would end the grant of both
	r.flagged(1, map[broker.ConnectionRef]bool{one: true, two: true})
}

// A connection is not its own twin: not when its own token comes back, spent or not, and not when the end user connects
// again at a provider that has but one token for each user.
func TestAConnectionIsNotItsOwnTwin(t *testing.T) {
	r := newRig(t)
	access, refresh := r.provider.issue(time.Hour)
	one := r.oneGrant("one", access, refresh)
	r.oneGrant("one", access, refresh)
	r.flagged(0, map[broker.ConnectionRef]bool{one: false})
	r.clock.advance(2 * time.Hour)
	rotated := r.reveal(one).Material
	r.oneGrant("one", rotated.Access.Reveal(), rotated.Refresh.Reveal())
	r.flagged(0, map[broker.ConnectionRef]bool{one: false})
	r.oneGrant("one", access, refresh)
	r.flagged(0, map[broker.ConnectionRef]bool{one: false})
}

// What differs is no twin, whatever it has in common: renewals that bring the same access token, another integration, a
// credential without any token. Without refresh tokens the access token tells.
func TestWhatIsNoTwin(t *testing.T) {
	r := newRig(t)
	_, first := r.provider.issue(time.Hour)
	_, second := r.provider.issue(time.Hour)
	one, two := r.oneGrant("one", "same-access-token", first), r.oneGrant("two", "same-access-token", second)
	r.flagged(0, map[broker.ConnectionRef]bool{one: false, two: false})
	three := r.oneGrant("three", "same-access-token", "")
	r.flagged(0, map[broker.ConnectionRef]bool{one: false, three: false})
	four := r.oneGrant("four", "same-access-token", "")
	r.flagged(1, map[broker.ConnectionRef]bool{one: false, three: true, four: true})

	typed := func(key, value string) broker.ConnectionRef {
		_, _, err := r.broker.Import(t.Context(), r.who, broker.ImportInput{
			Integration: "typed", Key: key, Config: map[string]any{"region": "eu"},
			Material: &broker.Material{Type: "API_KEY", Access: broker.NewSecret(value)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return broker.ConnectionRef{Integration: "typed", Key: key}
	}
	five, six, seven := typed("five", "same-access-token"), typed("six", ""), typed("seven", "")
	r.flagged(1, map[broker.ConnectionRef]bool{five: false, six: false, seven: false})
}

// The end user connects a second time, and the provider hands out the token that it gave before.
func TestASecondSignInOnOneGrantIsFlagged(t *testing.T) {
	r := newRig(t)
	r.provider.set(func(p *fakeProvider) { p.sameToken = true })
	connect := func() broker.ConnectionRef {
		who, _ := r.session(broker.SessionInput{})
		_, cb := r.started(who)
		o, err := r.broker.FinishFlow(t.Context(), cb)
		if err != nil {
			t.Fatal(err)
		}
		return broker.ConnectionRef{Integration: "one", Key: o.Key}
	}
	one, two := connect(), connect()
	r.flagged(1, map[broker.ConnectionRef]bool{one: true, two: true})
}
