package main

import (
	"context"
	"errors"
	"time"
)

// streams is how many large bodies move at once.
const streams = 8

// largeBodies measures rows 7 and 8: bodies of 100 MiB, and the memory that they take while they pass.
func (l *lab) largeBodies(ctx context.Context) error {
	p, stop, err := l.pair(ctx, "GET", largePath, -1)
	if err != nil {
		return err
	}
	up := *p
	up.full.requests = same(l.throughFull("POST", sinkPath, large, keyOf(0)))
	up.bare.requests = same(l.throughBare("POST", sinkPath, large, keyOf(0)))
	idle, err := settled(ctx, p.full.pid)
	if err != nil {
		return err
	}
	var downRate, upRate [2][]float64
	into := func(rates *[]float64, move func(context.Context, target, int) (float64, error), t target) func(context.Context) error {
		return func(ctx context.Context) error {
			rate, err := move(ctx, t, streams)
			*rates = append(*rates, rate)
			return err
		}
	}
	peak, err := peakMemory(ctx, p.full.pid, func(ctx context.Context) error {
		return takeTurns(ctx, l.rounds(7),
			into(&downRate[0], download, p.full), into(&downRate[1], download, p.bare),
			into(&upRate[0], upload, up.full), into(&upRate[1], upload, up.bare))
	})
	if err != nil {
		return err
	}
	if l.wants(7) {
		l.table.add(7, "100 MiB bodies down, 8 at once, full ÷ bare", ratio(downRate[0], downRate[1]), atLeast(0.90),
			"%.0f MB/s ÷ %.0f MB/s", median(downRate[0]), median(downRate[1]))
		l.table.add(7, "100 MiB bodies up, 8 at once, full ÷ bare", ratio(upRate[0], upRate[1]), atLeast(0.90),
			"%.0f MB/s ÷ %.0f MB/s", median(upRate[0]), median(upRate[1]))
	}
	if l.wants(8) {
		const mib = 1 << 20
		l.table.add(8, "peak RSS during that above idle, MiB", (peak-idle)/mib, atMost(16), "%.1f MiB - %.1f MiB", peak/mib, idle/mib)
	}
	return stop()
}

// settled gives the memory of a process that has nothing to do.
func settled(ctx context.Context, pid int) (float64, error) {
	if err := pause(ctx, time.Second); err != nil {
		return 0, err
	}
	return residentMemory(pid)
}

// peakMemory looks at a process's memory again and again while work is done.
func peakMemory(ctx context.Context, pid int, work func(context.Context) error) (peak float64, err error) {
	looking, stop := context.WithCancel(ctx)
	looked := make(chan error, 1)
	go func() {
		for {
			now, err := residentMemory(pid)
			if err != nil {
				looked <- err
				return
			}
			if peak = max(peak, now); pause(looking, 10*time.Millisecond) != nil {
				looked <- nil
				return
			}
		}
	}()
	err = work(ctx)
	stop()
	return peak, errors.Join(err, <-looked)
}
