package main

import (
	"context"
	"math"
	"math/rand/v2"
	"time"
)

// zipfExponent says how unequally callers use connections.
const zipfExponent = 1.05

// spreadLoad lets each worker call through connections of its own choice: draw gives the next one's number.
func (l *lab) spreadLoad(keys []string, draw func(worker int) func() int) func(int) func() []byte {
	template := l.throughFull("GET", smallPath, -1, keys[0])
	at := indexOf(template, keys[0])
	return func(worker int) func() []byte {
		mine := append([]byte(nil), template...)
		next := draw(worker)
		return func() []byte {
			copy(mine[at:], keys[next()])
			return mine
		}
	}
}

func indexOf(request []byte, key string) int {
	for i := range request {
		if len(request)-i >= len(key) && string(request[i:i+len(key)]) == key {
			return i
		}
	}
	return -1
}

// zipf draws connections as busy apps use them: a few very often, most hardly ever.
func zipf(n int) func(worker int) func() int {
	return func(worker int) func() int {
		z := rand.NewZipf(dice(worker), zipfExponent, 1, uint64(n-1)) //nolint:gosec // a count
		return func() int { return int(z.Uint64()) }                  //nolint:gosec // below n, which is an int
	}
}

// uniform draws all connections alike.
func uniform(n int) func(worker int) func() int {
	return func(worker int) func() int {
		d := dice(worker)
		return func() int { return d.IntN(n) }
	}
}

// stocked starts the real broker on a stock.
func (l *lab) stocked(ctx context.Context, s *stock, cached int, draw func(int) func() int) (target, func() error, error) {
	p, err := l.full(ctx, s.dir, cached)
	if err != nil {
		return target{}, nil, err
	}
	return target{count(s.connections), p.addr, p.pid, l.spreadLoad(s.keys(), draw)}, p.stop, nil
}

// grownProxying measures row 13: the broker with many connections and a cache for a tenth of them, against the broker with
// few, all of which its cache holds.
func (l *lab) grownProxying(ctx context.Context) error {
	many, err := l.stock(ctx, l.many())
	if err != nil {
		return err
	}
	little, err := l.stock(ctx, few)
	if err != nil {
		return err
	}
	grown, stopGrown, err := l.stocked(ctx, many, many.connections/10, zipf(many.connections))
	if err != nil {
		return err
	}
	small, stopSmall, err := l.stocked(ctx, little, 0, zipf(little.connections))
	if err != nil {
		return err
	}
	l.say("  filling the cache")
	if err := l.fillCache(ctx, grown, many); err != nil {
		return err
	}
	c, err := l.compare(ctx, l.rounds(7), l.window(3*time.Second), [2]target{grown, small})
	if err != nil {
		return err
	}
	l.table.add(13, "proxied req/s, "+count(many.connections)+" ÷ 1k connections, Zipf 1.05, cache a tenth", ratio(c.rate[0], c.rate[1]), atLeast(0.80),
		"%.0f/s ÷ %.0f/s; CPU %.1f µs ÷ %.1f µs; 1k is cached whole; a cache that keeps the busiest hits %.2f",
		median(c.rate[0]), median(c.rate[1]), median(c.cpu[0]), median(c.cpu[1]), zipfShare(many.connections/10, many.connections))
	if err := stopGrown(); err != nil {
		return err
	}
	return stopSmall()
}

// fillCache calls through the busiest connections once each, so that the cache is as it would be after a long time, and
// then as usual for a while.
func (l *lab) fillCache(ctx context.Context, t target, s *stock) error {
	inTurn := t
	inTurn.requests = l.spreadLoad(s.keys()[:s.connections/10], func(worker int) func() int {
		i := worker - connections
		return func() int {
			i = (i + connections) % (s.connections / 10)
			return i
		}
	})
	// At some thousand requests a second.
	if _, err := closedLoop(ctx, inTurn, connections, 0, time.Duration(s.connections/10)*time.Second/8000); err != nil {
		return err
	}
	_, err := closedLoop(ctx, t, connections, 0, l.window(6*time.Second))
	return err
}

// zipfShare is the part of all calls that goes to the busiest of n connections.
func zipfShare(busiest, n int) float64 {
	var some, all float64
	for i := range n {
		p := math.Pow(float64(i+1), -zipfExponent)
		if all += p; i < busiest {
			some += p
		}
	}
	return some / all
}

// missedProxying measures row 6: proxied calls of which none finds its connection in the cache, against calls of which
// all do.
func (l *lab) missedProxying(ctx context.Context) error {
	s, err := l.stock(ctx, l.some())
	if err != nil {
		return err
	}
	missing, stop, err := l.stocked(ctx, s, 16, uniform(s.connections))
	if err != nil {
		return err
	}
	hitting := missing
	hitting.requests = l.spreadLoad(s.keys()[:1], uniform(1))
	c, err := l.compare(ctx, l.rounds(5), l.window(2*time.Second), [2]target{missing, hitting})
	if err != nil {
		return err
	}
	l.table.add(6, "full proxy, cache miss ÷ hit, CPU, "+count(s.connections)+" connections", ratio(c.cpu[0], c.cpu[1]), atMost(1.40),
		"%.1f µs ÷ %.1f µs; %.0f/s ÷ %.0f/s", median(c.cpu[0]), median(c.cpu[1]), median(c.rate[0]), median(c.rate[1]))
	return stop()
}
