package broker_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// world is one run of the model: nodes that share a database, a provider that rotates refresh tokens, callers, and a
// scheduler that decides by its seed what happens next. It all lives in a bubble of testing/synctest: the scheduler acts
// when nothing else moves any more, and time passes only while it sleeps.
type world struct {
	modelBase
	t      *testing.T
	seed   uint64
	rng    *rand.Rand // the scheduler's alone
	mutant mutant
	dir    string
	truth  *sqlite.DB    // beside the nodes: what is really stored
	many   bool          // three nodes on one database; otherwise one, which starts again on what it left
	grace  time.Duration // in which the provider takes the last spent token once more
	life   time.Duration // of access tokens
	clean  *fakeProvider // what the provider is when it is not about renewals

	writing sync.Mutex // held while a write is made and noted
	mu      sync.Mutex // guards the rest, which the nodes' goroutines touch
	parked  []*parked
	trace   []string
	notes   []string // what came of the last step, in any order
	broken  string   // the first rule that was broken
	full    bool     // the store takes no writes of credentials
	nodes   []*modelNode
	all     []*modelNode
	ops     []*modelOp
	serial  int
	history history
	sealed  map[string]string // plaintext by ciphertext
	exits   sync.WaitGroup
	aborted bool // a start failed
}

// modelBase is what all runs begin with: a database with an environment and an integration.
type modelBase struct {
	database    []byte
	keyring     *crypto.Keyring
	who         broker.Actor
	integration broker.IntegrationID
}

// newModelBase makes the database, before the time at which bubbles begin.
func newModelBase(t *testing.T) modelBase {
	t.Helper()
	r := newRig(t, func(r *rig) { r.clock.now = time.Date(1999, 12, 31, 12, 0, 0, 0, time.UTC) })
	list, err := r.store.Integrations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	base := modelBase{keyring: r.keyring, who: r.who}
	for _, i := range list {
		if i.Key == "one" {
			base.integration = i.ID
		}
	}
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	if base.database, err = os.ReadFile(filepath.Join(r.dir, sqlite.FileName)); err != nil {
		t.Fatal(err)
	}
	return base
}

// memoryDir is a folder in memory where there is one: nodes die here, machines do not, so nothing has to reach a disk.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "model") //nolint:usetesting // its folder is on a disk, and a commit waits for that
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// modelKeys name the connections. There are few, so that everybody gets in everybody's way.
var modelKeys = []string{"k0", "k1"}

// modelSteps is how long a run is.
const modelSteps = 220

// outcome is what a run came to.
type outcome struct {
	broken string // the rule that was broken; empty: none
	trace  []string
	stats  modelStats
}

// runModel makes the run of a seed.
func runModel(t *testing.T, base modelBase, seed uint64, m mutant) outcome {
	t.Helper()
	var out outcome
	dir := memoryDir(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // of several goroutines that wake up together, the same one comes first
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			modelBase: base, t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x636f6174)), mutant: m, dir: dir,
			clean: newFakeProvider(), sealed: make(map[string]string), history: newHistory(),
		}
		w.clean.now = time.Now
		w.many = seed%2 == 0 || m.many
		w.grace = pickOf(w.rng, 0, 30*time.Second, 10*time.Minute)
		w.life = pickOf(w.rng, 2*time.Minute, 10*time.Minute)
		defer broker.FixChance(w.chance)()
		w.run()
		out = outcome{w.broken, w.trace, w.history.stats}
	})
	return out
}

func pickOf[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// chance is the same for the same seed, moment and bound, whoever asks first.
func (w *world) chance(d time.Duration) time.Duration {
	x := w.seed ^ uint64(time.Now().UnixNano())*0x9e3779b97f4a7c15 ^ uint64(d)*0xbf58476d1ce4e5b9
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return time.Duration((x ^ x>>31) % uint64(d))
}

// run is a whole run: a start, steps, and a time in which nothing is in anybody's way, after which everything must be well.
func (w *world) run() {
	defer w.end()
	if err := os.WriteFile(filepath.Join(w.dir, sqlite.FileName), w.database, 0o600); err != nil {
		w.t.Fatal(err)
	}
	var err error
	if w.truth, err = sqlite.Open(w.t.Context(), sqlite.Options{Dir: w.dir, Now: time.Now}); err != nil {
		w.t.Fatal(err)
	}
	w.nodes = make([]*modelNode, 1)
	if w.many {
		w.nodes = make([]*modelNode, 3)
	}
	w.note("one of %d nodes, grace %s, tokens of %s", len(w.nodes), w.grace, w.life)
	for slot := range w.nodes {
		w.start(slot)
		w.calm(0)
	}
	for _, key := range modelKeys {
		w.begin(w.nodes[0], opImport, key)
		w.calm(0)
	}
	for step := 0; step < modelSteps && w.sound(); step++ {
		w.step()
	}
	if w.sound() {
		w.settle()
	}
}

// sound waits until nothing moves, checks what must hold at every moment, and reports whether all rules still hold.
func (w *world) sound() bool {
	synctest.Wait()
	w.mu.Lock()
	slices.Sort(w.notes)
	w.trace = append(w.trace, w.notes...)
	w.notes = w.notes[:0]
	w.mu.Unlock()
	w.checkStored()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken == ""
}

// note adds to the trace what came of a step.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, "      "+fmt.Sprintf(format, args...))
}

// say adds a step to the trace.
func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, fmt.Sprintf("%9.3fs ", w.elapsed().Seconds())+fmt.Sprintf(format, args...))
}

// elapsed is the time since the bubble began.
func (w *world) elapsed() time.Duration {
	return time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
}

// breach says that a rule was broken. The first one counts.
func (w *world) breach(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
		w.notes = append(w.notes, "      BROKEN: "+w.broken)
	}
}

// parked is a call that waits for the scheduler.
type parked struct {
	node  *modelNode
	who   string // the caller's operation
	what  string
	about string // the connection
	until time.Time
	fates []fate
	fate  chan fate
}

func (p *parked) String() string { return p.node.name + " " + p.who + " " + p.what + " " + p.about }

// fate is how a parked call goes on.
type fate int

const (
	goOn fate = iota
	die
	gaveUp // the caller's context ended first
	unavailable
	refuseClient
	cutBefore // the request does not arrive, and the caller cannot know it
	cutAfter  // it does, and the answer is lost
)

// patience is how long a living node's call stays parked at most. Longer than a lease lasts is no trouble anywhere but
// between an answer and its commit: there, as in a process that stands still between a look at the clock and a request,
// nothing that a broker does could help.
const (
	patience     = 90 * time.Second
	swapPatience = 3 * time.Second
)

// park waits until the scheduler lets the call go on.
func (w *world) park(ctx context.Context, n *modelNode, what, about string, longest time.Duration, fates ...fate) fate {
	w.mu.Lock()
	if n.dead {
		w.mu.Unlock()
		return die
	}
	p := &parked{
		node: n, who: operation(ctx), what: what, about: about, until: time.Now().Add(longest),
		fates: append([]fate{goOn}, fates...), fate: make(chan fate, 1),
	}
	w.parked = append(w.parked, p)
	w.mu.Unlock()
	select {
	case f := <-p.fate:
		return f
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		w.parked = slices.DeleteFunc(w.parked, func(q *parked) bool { return q == p })
		return gaveUp
	}
}

// waiting lists what is parked, in an order that does not depend on who came first.
func (w *world) waiting() []*parked {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.parked, func(a, b *parked) int {
		return cmp.Or(a.until.Compare(b.until), strings.Compare(a.String(), b.String()))
	})
	return slices.Clone(w.parked)
}

// release lets a parked call go on.
func (w *world) release(p *parked, f fate) {
	w.mu.Lock()
	w.parked = slices.DeleteFunc(w.parked, func(q *parked) bool { return q == p })
	w.mu.Unlock()
	p.fate <- f
}

// calm lets everything go on at once for some time. Everybody has to come to rest some time, too: who calls the store again
// and again at the same moment does that all the time.
func (w *world) calm(d time.Duration) {
	for end := time.Now().Add(d); ; time.Sleep(time.Second) {
		synctest.Wait()
		calls := 0
		for list := w.waiting(); len(list) > 0; list = w.waiting() {
			if calls++; calls > 1000 {
				w.breach("%s does not come to rest", list[0])
				return
			}
			w.release(list[0], goOn)
			synctest.Wait()
		}
		if !time.Now().Before(end) {
			return
		}
	}
}

// sleep lets time pass, but not so much that a call would be parked for too long.
func (w *world) sleep(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		next := min(time.Until(end), time.Second)
		if list := w.waiting(); len(list) > 0 {
			next = min(next, time.Until(list[0].until))
		}
		if next <= 0 {
			return
		}
		time.Sleep(next)
		synctest.Wait()
	}
}

// modelNode is a process with a broker.
type modelNode struct {
	w        *world
	name     string
	slot     int
	db       *sqlite.DB
	broker   *broker.Broker // nil: it has not started yet
	reserve  *modelReserve
	stop     context.CancelFunc
	stopping bool
	ended    bool // its Run has returned
	dead     bool
	owner    string // its name in leases
}

// start starts a node in a slot.
func (w *world) start(slot int) {
	time.Sleep(time.Millisecond) // nobody starts at the very moment at which another died
	w.mu.Lock()
	w.serial++
	n := &modelNode{w: w, name: fmt.Sprintf("%c%d", 'a'+slot, w.serial), slot: slot, reserve: new(modelReserve)}
	if old := w.nodes[slot]; old != nil {
		n.reserve.left = old.reserve.left
	}
	w.nodes[slot], w.all = n, append(w.all, n)
	w.mu.Unlock()
	db, err := sqlite.Open(w.t.Context(), sqlite.Options{Dir: w.dir, Exclusive: !w.many, Now: time.Now})
	if err != nil {
		w.t.Fatal(err)
	}
	n.db = db
	ctx, stop := context.WithCancel(named(context.Background(), "background"))
	n.stop = stop
	w.exits.Go(func() { n.run(ctx) })
}

// run makes the broker and does its work in the background.
func (n *modelNode) run(ctx context.Context) {
	w := n.w
	n.reserve.node = n
	b, err := broker.New(ctx, broker.Config{
		Store: w.storeOf(n), Sealer: modelSealer{sealer{w.keyring}, w}, Catalogue: nodeCatalogue{w.clean, n}, Reserve: n.reserve,
		Now: time.Now, Logger: slog.New(slog.DiscardHandler), PublicURL: publicURL, RefreshPerHost: 2, Drain: 10 * time.Second,
	})
	if err != nil {
		w.mu.Lock()
		n.ended, w.aborted = true, true
		w.mu.Unlock()
		w.note("%s does not start: %v", n.name, err)
		return
	}
	b.KeepShardsApart(w.integration, modelKeys)
	w.mu.Lock()
	n.broker = b
	w.mu.Unlock()
	if err := b.Run(ctx); err != nil {
		w.note("%s ends: %v", n.name, err)
	}
	b.EndCaches()
	w.mu.Lock()
	n.ended = true
	w.mu.Unlock()
}

// kill ends a node: none of its calls has an effect any more. What it was just sending may still arrive.
func (w *world) kill(n *modelNode) {
	w.noteLeases(n)
	w.mu.Lock()
	n.dead = true
	w.mu.Unlock()
	for _, p := range w.waiting() {
		if p.node != n {
			continue
		}
		f := die
		if p.what == callRenew && w.rng.IntN(2) == 0 {
			f = cutAfter
		}
		w.release(p, f)
	}
	n.stop() // its goroutines are still there, and must come to an end
	synctest.Wait()
	if err := n.db.Close(); err != nil {
		w.t.Error(err)
	}
}

// end ends everything that is left, so that the bubble can.
func (w *world) end() {
	for _, n := range w.nodes {
		if n != nil && !n.dead {
			w.kill(n)
		}
	}
	for _, o := range w.ops {
		o.leave()
	}
	w.exits.Wait()
	if w.truth != nil {
		_ = w.truth.Close()
	}
	for range 3 {
		if w.aborted { // a broker that was never made has caches too, whose goroutines end when they are collected
			runtime.GC()
			time.Sleep(2 * time.Second)
		}
	}
}

// modelSealer seals as the product does, and remembers what.
type modelSealer struct {
	sealer
	w *world
}

func (s modelSealer) Seal(plaintext, associated []byte) ([]byte, error) {
	box, err := s.sealer.Seal(plaintext, associated)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.sealed[string(box)] = string(plaintext)
	return box, err
}

// opened is what a box holds.
func (w *world) opened(box broker.Sealed) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sealed[string(box)]
}

// modelReserve is a reserve that outlives its node, unless that was killed.
type modelReserve struct {
	node *modelNode
	left []*broker.Swap
}

func (*modelReserve) Free() error   { return nil }
func (*modelReserve) Refill() error { return nil }

func (r *modelReserve) Spill(swaps []*broker.Swap) error {
	w := r.node.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if !r.node.dead {
		r.left = append(r.left, swaps...)
	}
	return nil
}

func (r *modelReserve) Spilled() ([]*broker.Swap, func() error, error) {
	w := r.node.w
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(r.left), func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		r.left = nil
		return nil
	}, nil
}
