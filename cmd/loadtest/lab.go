package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/crypto"
)

// gcPercent is the collector's setting of every process that is measured: the broker's own, so that no side is given
// more room than another.
const gcPercent = 200

// lab is one run of the tool: where it keeps its files, what it has started and what it has found.
type lab struct {
	progress io.Writer
	short    bool
	wanted   map[int]bool
	dir      string // removed at the end
	table    table

	apiKey     string
	shortToken string // of rows whose measure is requests
	longToken  string // of rows whose measure is records

	binaries map[string]string // import path to file
	upstream *process
	stocks   map[int]*stock
	closers  []func() error
}

func newLab(progress io.Writer, short bool, wanted map[int]bool) (*lab, error) {
	dir, err := os.MkdirTemp("", "coatcheck-loadtest-")
	if err != nil {
		return nil, err
	}
	key, _ := crypto.NewAPIKey(environment)
	return &lab{
		progress: progress, short: short, wanted: wanted, dir: dir, apiKey: key, shortToken: patterned(64), longToken: patterned(tokenLength),
		binaries: make(map[string]string), stocks: make(map[int]*stock),
	}, nil
}

// close ends what was started, in the opposite order, and removes the files.
func (l *lab) close() error {
	var errs []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		errs = append(errs, l.closers[i]())
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

// closing has something done at the end, once, also if its owner does it before.
func (l *lab) closing(f func() error) (early func() error) {
	once := sync.OnceValue(f)
	l.closers = append(l.closers, once)
	return once
}

func (l *lab) wants(row int) bool { return l.wanted[row] }

// say tells whoever waits what is being done.
func (l *lab) say(format string, args ...any) { _, _ = fmt.Fprintf(l.progress, format+"\n", args...) }

func (l *lab) shortNote() string {
	if l.short {
		return "; short: " + count(l.many()) + " connections stand in for 1M"
	}
	return ""
}

// many is how many connections the large database has.
func (l *lab) many() int {
	if l.short {
		return 100_000
	}
	return 1_000_000
}

// some is for the database between the small one and the large one.
func (l *lab) some() int { return l.many() / 10 }

// few is how many connections the small database has.
const few = 1_000

// count writes a number of connections as people say it.
func count(n int) string {
	if n >= 1_000_000 {
		return fmt.Sprintf("%gM", float64(n)/1e6)
	}
	return fmt.Sprintf("%gk", float64(n)/1e3)
}

// rounds and window are how often candidates take turns and for how long each time; a short run halves both.
func (l *lab) rounds(n int) int {
	if l.short {
		return max(3, n/2)
	}
	return n
}

func (l *lab) window(d time.Duration) time.Duration {
	if l.short {
		return d / 2
	}
	return d
}

// scratch makes an empty directory.
func (l *lab) scratch(name string) (string, error) { return os.MkdirTemp(l.dir, name+"-") }

// Import paths of the programs that are built for a run.
const (
	module      = "github.com/coatcheck/coatcheck/"
	brokerPkg   = module + "cmd/coatcheck"
	helloPkg    = module + "cmd/loadtest/hello"
	skeletonPkg = module + "cmd/loadtest/skeleton"
)

// binary builds a program as it is built for use, once a run.
func (l *lab) binary(ctx context.Context, pkg string) (string, error) {
	if file, ok := l.binaries[pkg]; ok {
		return file, nil
	}
	l.say("  building %s", pkg)
	file := filepath.Join(l.dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=loadtest", "-o", file, pkg) //nolint:gosec // the package is a constant of ours
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = l.progress
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s: %w", pkg, err)
	}
	l.binaries[pkg] = file
	return file, nil
}
