package kit_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

func TestLimiter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l := kit.NewLimiter(2, 3, func() time.Time { return now })
	a, b := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	for range 3 {
		if err := l.Take(a); err != nil {
			t.Fatalf("within the burst: %v", err)
		}
	}
	err := l.Take(a)
	if e := broker.AsError(err); !errors.Is(e, broker.ErrRateLimited) || e.RetryAfter != 500*time.Millisecond {
		t.Fatalf("over the burst: %v, back after %v", err, e.RetryAfter)
	}
	if err := l.Take(b); err != nil {
		t.Errorf("another address: %v", err)
	}
	now = now.Add(500 * time.Millisecond)
	if err := l.Take(a); err != nil {
		t.Errorf("when told to come back: %v", err)
	}
	if err := l.Take(a); err == nil {
		t.Error("two came by where one may")
	}
}

// Who has a /64 to choose addresses from must not have as many buckets.
func TestLimiterTakesAnIPv6SubscriberForOne(t *testing.T) {
	now := time.Now()
	l := kit.NewLimiter(1, 1, func() time.Time { return now })
	if err := l.Take(netip.MustParseAddr("2001:db8:0:1::1")); err != nil {
		t.Fatal(err)
	}
	if err := l.Take(netip.MustParseAddr("2001:db8:0:1:ffff::2")); err == nil {
		t.Error("the same /64 came by")
	}
	if err := l.Take(netip.MustParseAddr("2001:db8:0:2::1")); err != nil {
		t.Errorf("another /64: %v", err)
	}
	if err := l.Take(netip.Addr{}); err != nil {
		t.Errorf("no address: %v", err)
	}
	if err := l.Take(netip.Addr{}); err == nil {
		t.Error("those without an address share one bucket")
	}
}

func TestLimiterForgetsTheOldest(t *testing.T) {
	now := time.Now()
	l := kit.NewLimiter(1, 1, func() time.Time { return now })
	first := netip.MustParseAddr("10.0.0.0")
	for a, n := first, 0; n < 20_000; a, n = a.Next(), n+1 {
		if err := l.Take(a); err != nil {
			t.Fatalf("%s: %v", a, err)
		}
	}
	if err := l.Take(first); err == nil {
		t.Error("the first was forgotten while there was room")
	}
	_ = l.Take(netip.MustParseAddr("192.0.2.1")) // takes the place of the second, which came longest ago
	if err := l.Take(first); err == nil {
		t.Error("the one that came last was forgotten")
	}
	if err := l.Take(first.Next()); err != nil {
		t.Errorf("the oldest is still remembered: %v", err)
	}
}

func TestKeyLimiter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		rate  float64
		burst int
		want  int // at once
		wait  time.Duration
	}{
		{2, 3, 3, 500 * time.Millisecond},
		{2.5, 0, 3, 400 * time.Millisecond},
		{0.1, 0, 1, 10 * time.Second},
		{4, 1, 1, 250 * time.Millisecond},
	} {
		l := kit.NewKeyLimiter(c.rate, c.burst, func() time.Time { return now })
		for i := range c.want {
			if err := l.Take("a"); err != nil {
				t.Fatalf("%+v, request %d: %v", c, i, err)
			}
		}
		err := l.Take("a")
		if e := broker.AsError(err); !errors.Is(e, broker.ErrRateLimited) || e.RetryAfter != c.wait {
			t.Errorf("%+v: got %v, back after %v", c, err, e.RetryAfter)
		}
		if err := l.Take("b"); err != nil {
			t.Errorf("%+v: another key: %v", c, err)
		}
		now = now.Add(c.wait)
		if err := l.Take("a"); err != nil {
			t.Errorf("%+v: when told to come back: %v", c, err)
		}
	}
}
