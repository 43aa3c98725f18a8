package broker_test

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// modelSeeds is within how many runs the model meets everything that it is about, and finds each of the mutants.
const modelSeeds = 24

// ordinaryRuns is how many runs an ordinary test makes, a few seconds' worth, and repeatedRuns how many it makes twice.
var ordinaryRuns, repeatedRuns = uint64(modelSeeds), uint64(4)

var (
	modelSeed = flag.Uint64("model.seed", 0, "make this one run of the model test, and print it whole if it fails")
	modelRuns = flag.Uint64("model.runs", 0, "make so many runs in the model test; 0: a few seconds' worth")
)

// report tells of a run in which a rule was broken.
func (o *outcome) report(seed uint64, last int) string {
	from := max(0, len(o.trace)-last)
	return fmt.Sprintf("seed %d: %s\n%s", seed, o.broken, strings.Join(o.trace[from:], "\n"))
}

// Whatever is killed, late, doubled or out of order, the rules of renewals hold:
//
//   - A refresh token is sent by who holds its lease, and again only when nobody living can know what came of the last time.
//   - So a grant is lost to a token that comes twice only if the doubt lasted longer than the provider's grace; then the
//     connection says so, and in no other case.
//   - Nobody gets an access token before its commit, one that has run out, or one that a commit known to the node replaced.
//   - A commit that was acknowledged is there. Versions rise by commits alone; what is deleted stays away, and all its tokens
//     are revoked.
//   - A client that is refused, or a provider that is down, is no connection's fault; a failure keeps all from asking at once.
//   - When everything works again, every connection gives its latest token on every node, or says that its grant has ended.
//
// A run is told by its seed: -model.seed makes it again. It has one node that is killed and starts again, or three on one
// database, which none of them has to itself.
func TestModelOfRenewals(t *testing.T) {
	base := newModelBase(t)
	if *modelSeed != 0 {
		if o := runModel(t, base, *modelSeed, mutant{}); o.broken != "" {
			t.Fatal(o.report(*modelSeed, len(o.trace)))
		}
		return
	}
	var all modelStats
	runs := cmp.Or(*modelRuns, ordinaryRuns)
	for seed := uint64(1); seed <= runs; seed++ {
		o := runModel(t, base, seed, mutant{})
		if o.broken != "" {
			t.Fatal(o.report(seed, 60))
		}
		all.add(&o.stats)
	}
	t.Logf("seeds 1 to %d: %+v", runs, all)
	met := min(all.presented, all.cut, all.repeated, all.committed, all.served, all.ended, all.lost, all.outcomeLost, all.refusedLease, all.refusedClient)
	if runs >= modelSeeds && met == 0 {
		t.Error("these runs do not meet all that they are about")
	}
}

func (s *modelStats) add(x *modelStats) {
	s.steps, s.kills, s.restarts = s.steps+x.steps, s.kills+x.kills, s.restarts+x.restarts
	s.presented, s.cut, s.repeated = s.presented+x.presented, s.cut+x.cut, s.repeated+x.repeated
	s.committed, s.served = s.committed+x.committed, s.served+x.served
	s.ended, s.lost, s.outcomeLost = s.ended+x.ended, s.lost+x.lost, s.outcomeLost+x.outcomeLost
	s.refusedLease, s.refusedClient = s.refusedLease+x.refusedLease, s.refusedClient+x.refusedClient
	s.orphaned, s.spilled = s.orphaned+x.orphaned, s.spilled+x.spilled
}

// A seed makes the same run each time.
func TestASeedMakesTheSameRun(t *testing.T) {
	base := newModelBase(t)
	for seed := uint64(1); seed <= repeatedRuns; seed++ {
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
