package broker_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// ordinaryRuns is how many runs an ordinary test makes: a few seconds' worth.
const ordinaryRuns = 24

var (
	modelSeed = flag.Uint64("model.seed", 0, "make this one run of the model test, and print it whole if it fails")
	modelRuns = flag.Uint64("model.runs", ordinaryRuns, "make so many runs in the model test")
)

// report tells of a run in which a rule was broken.
func (o *outcome) report(seed uint64, last int) string {
	from := max(0, len(o.trace)-last)
	return fmt.Sprintf("seed %d: %s\n%s", seed, o.broken, strings.Join(o.trace[from:], "\n"))
}

// Whatever is killed, late, doubled or out of order, the rules of renewals hold.
func TestModelOfRenewals(t *testing.T) {
	base := newModelBase(t)
	if *modelSeed != 0 {
		if o := runModel(t, base, *modelSeed, mutant{}); o.broken != "" {
			t.Fatal(o.report(*modelSeed, len(o.trace)))
		}
		return
	}
	var all []modelStats
	for seed := uint64(1); seed <= *modelRuns; seed++ {
		o := runModel(t, base, seed, mutant{})
		if o.broken != "" {
			t.Fatal(o.report(seed, 60))
		}
		all = append(all, o.stats)
	}
	t.Logf("seeds 1 to %d: %+v", *modelRuns, sum(all))
}

func sum(all []modelStats) (s modelStats) {
	for _, x := range all {
		s.steps += x.steps
		s.presented += x.presented
		s.committed += x.committed
		s.repeated += x.repeated
		s.lost += x.lost
		s.outcomeLost += x.outcomeLost
		s.ended += x.ended
		s.kills += x.kills
		s.restarts += x.restarts
		s.cut += x.cut
		s.refusedLease += x.refusedLease
		s.orphaned += x.orphaned
		s.spilled += x.spilled
		s.refusedClient += x.refusedClient
		s.served += x.served
	}
	return s
}

// A seed makes the same run each time.
func TestASeedMakesTheSameRun(t *testing.T) {
	base := newModelBase(t)
	for seed := uint64(1); seed <= 4; seed++ {
		first, second := runModel(t, base, seed, mutant{}), runModel(t, base, seed, mutant{})
		if !slices.Equal(first.trace, second.trace) {
			for i := range min(len(first.trace), len(second.trace)) {
				if first.trace[i] != second.trace[i] {
					t.Errorf("seed %d, line %d:\n%s\nand\n%s", seed, i, strings.Join(first.trace[max(0, i-8):i+1], "\n"), second.trace[i])
					break
				}
			}
			t.Errorf("seed %d: %d and %d lines", seed, len(first.trace), len(second.trace))
		}
	}
}
