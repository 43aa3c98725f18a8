package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"
)

// starts is how often each program is started, and restingStarts how often its memory is looked at.
const (
	starts        = 15
	restingStarts = 5
)

// started is a way to start a server, and what came of it.
type started struct {
	name   string
	path   string
	args   func(addr string) ([]string, error)
	millis []float64
	rss    []float64
}

// starting measures rows 19 and 20: from exec to the first 200, and memory at rest, against the smallest server.
func (l *lab) starting(ctx context.Context) error {
	path, err := l.binary(ctx, brokerPkg)
	if err != nil {
		return err
	}
	helloPath, err := l.binary(ctx, helloPkg)
	if err != nil {
		return err
	}
	kept, err := l.scratch("start")
	if err != nil {
		return err
	}
	serve := func(addr, dir string) []string {
		return []string{"serve", "--listen", addr, "--data", dir, "--config", filepath.Join(l.dir, "empty.yaml")}
	}
	if err := os.WriteFile(filepath.Join(l.dir, "empty.yaml"), nil, 0o600); err != nil {
		return err
	}
	hello := &started{name: "hello", path: helloPath, args: func(addr string) ([]string, error) { return []string{addr}, nil }}
	existing := &started{name: "existing", path: path, args: func(addr string) ([]string, error) { return serve(addr, kept), nil }}
	fresh := &started{name: "fresh", path: path, args: func(addr string) ([]string, error) {
		dir, err := l.scratch("fresh")
		return serve(addr, dir), err
	}}
	if err := l.start(ctx, existing, 0); err != nil { // makes the database
		return err
	}
	existing.millis = nil
	var candidates []func(context.Context) error
	for _, s := range []*started{hello, existing, fresh} {
		candidates = append(candidates, func(ctx context.Context) error {
			rest := time.Duration(0)
			if l.wants(20) && len(s.millis) < restingStarts {
				rest = time.Second
			}
			return l.start(ctx, s, rest)
		})
	}
	if err := takeTurns(ctx, starts, candidates...); err != nil {
		return err
	}
	if l.wants(19) {
		for _, x := range []struct {
			s    *started
			what string
			goal goal
		}{{existing, "an existing database", atMost(4)}, {fresh, "a fresh one", atMost(8)}} {
			l.table.add(19, "exec to first 200, "+x.what+", ÷ hello", ratio(x.s.millis, hello.millis), x.goal,
				"%.1f ms ÷ %.1f ms", median(x.s.millis), median(hello.millis))
		}
	}
	if l.wants(20) {
		const mib = 1 << 20
		l.table.add(20, "idle RSS ÷ hello", ratio(existing.rss, hello.rss), atMost(5),
			"%.1f MiB ÷ %.1f MiB; after a fresh start %.1f MiB", median(existing.rss)/mib, median(hello.rss)/mib, median(fresh.rss)/mib)
	}
	return nil
}

// start starts a server, lets it rest if its memory is wanted, and stops it.
func (l *lab) start(ctx context.Context, s *started, rest time.Duration) error {
	addr, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	args, err := s.args(addr)
	if err != nil {
		return err
	}
	p, took, err := l.answering(ctx, addr, io.Discard, io.Discard, s.path, args...)
	if err != nil {
		return err
	}
	s.millis = append(s.millis, float64(took.Microseconds())/1e3)
	if rest > 0 {
		if err := pause(ctx, rest); err != nil {
			return err
		}
		rss, err := residentMemory(p.pid)
		if err != nil {
			return err
		}
		s.rss = append(s.rss, rss)
	}
	return p.stop()
}

// binarySize measures row 21.
func (l *lab) binarySize(ctx context.Context) error {
	var sizes [3]float64
	for i, pkg := range []string{brokerPkg, skeletonPkg, helloPkg} {
		path, err := l.binary(ctx, pkg)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		sizes[i] = float64(info.Size()) / (1 << 20)
	}
	l.table.add(21, "stripped binary ÷ its libraries alone", sizes[0]/sizes[1], atMost(2.2), "%.1f MiB ÷ %.1f MiB; hello is %.1f MiB", sizes[0], sizes[1], sizes[2])
	return nil
}
