package main

import (
	"context"
	"time"
)

// connections is how many the load generator keeps open.
const connections = 64

// pair is the two proxies side by side.
type pair struct{ full, bare target }

// pair starts both proxies for the same upstream, with one connection imported over the broker's API.
func (l *lab) pair(ctx context.Context, method, path string, length int64) (*pair, func() error, error) {
	dir, err := l.scratch("full")
	if err != nil {
		return nil, nil, err
	}
	bare, err := l.bare(ctx)
	if err != nil {
		return nil, nil, err
	}
	full, err := l.full(ctx, dir, 0)
	if err != nil {
		return nil, nil, err
	}
	key := keyOf(0)
	if err := l.importOver(ctx, full.addr, key, l.shortToken); err != nil {
		return nil, nil, err
	}
	p := &pair{
		full: target{"full", full.addr, full.pid, same(l.throughFull(method, path, length, key))},
		bare: target{"bare", bare.addr, bare.pid, same(l.throughBare(method, path, length, key))},
	}
	return p, func() error {
		if err := full.stop(); err != nil {
			return err
		}
		return bare.stop()
	}, nil
}

// proxying measures rows 1, 3 and 5: small requests through the broker and through the bare proxy.
func (l *lab) proxying(ctx context.Context) error {
	p, stop, err := l.pair(ctx, "GET", smallPath, -1)
	if err != nil {
		return err
	}
	if l.wants(1) || l.wants(3) {
		if err := l.saturated(ctx, p); err != nil {
			return err
		}
	}
	if l.wants(5) {
		for _, rate := range []int{500, 2000} {
			if err := l.atRate(ctx, p, rate); err != nil {
				return err
			}
		}
	}
	return stop()
}

// comparison collects what rounds gave for two targets.
type comparison struct {
	rate [2][]float64
	cpu  [2][]float64
}

// compare drives two targets in turns, as hard as they take it.
func (l *lab) compare(ctx context.Context, rounds int, window time.Duration, targets [2]target) (*comparison, error) {
	c := new(comparison)
	var candidates []func(context.Context) error
	for i := range targets {
		candidates = append(candidates, func(ctx context.Context) error {
			s, err := closedLoop(ctx, targets[i], connections, window/4, window)
			if err != nil {
				return err
			}
			c.rate[i], c.cpu[i] = append(c.rate[i], s.rate), append(c.cpu[i], s.cpu)
			return nil
		})
	}
	return c, takeTurns(ctx, rounds, candidates...)
}

func (l *lab) saturated(ctx context.Context, p *pair) error {
	c, err := l.compare(ctx, l.rounds(7), l.window(2*time.Second), [2]target{p.full, p.bare})
	if err != nil {
		return err
	}
	if l.wants(1) {
		l.table.add(1, "proxied req/s, full ÷ bare, 64 connections", ratio(c.rate[0], c.rate[1]), atLeast(0.88),
			"%.0f/s ÷ %.0f/s", median(c.rate[0]), median(c.rate[1]))
	}
	if l.wants(3) {
		l.table.add(3, "proxy CPU per request, full ÷ bare", ratio(c.cpu[0], c.cpu[1]), atMost(1.15),
			"%.1f µs ÷ %.1f µs", median(c.cpu[0]), median(c.cpu[1]))
	}
	return nil
}

// atRate measures latency far from saturation.
func (l *lab) atRate(ctx context.Context, p *pair, rate int) error {
	targets := [2]target{p.full, p.bare}
	var p50, p99 [2][]float64
	var candidates []func(context.Context) error
	for i := range targets {
		candidates = append(candidates, func(ctx context.Context) error {
			latencies, err := openLoop(ctx, targets[i], connections/2, rate, l.window(2*time.Second))
			if err != nil {
				return err
			}
			p50[i] = append(p50[i], float64(quantile(latencies, 0.5).Microseconds()))
			p99[i] = append(p99[i], float64(quantile(latencies, 0.99).Microseconds()))
			return nil
		})
	}
	if err := takeTurns(ctx, l.rounds(7), candidates...); err != nil {
		return err
	}
	for _, q := range []struct {
		name   string
		values [2][]float64
		goal   goal
	}{{"p50", p50, atMost(1.10)}, {"p99", p99, atMost(1.25)}} {
		l.table.add(5, "latency "+q.name+" at "+count(rate)+"/s, full ÷ bare", ratio(q.values[0], q.values[1]), q.goal,
			"%.0f µs ÷ %.0f µs", median(q.values[0]), median(q.values[1]))
	}
	return nil
}
