package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

var (
	faultsFor  = flag.Duration("faults.for", 6*time.Second, "how long faults are made")
	faultsSeed = flag.Uint64("faults.seed", 1, "which faults are made, and when")
)

// storm is some nodes, callers who want more of them than is reasonable, and what they were promised.
type storm struct {
	t        *testing.T
	provider *providertest.Server
	nodes    []*process
	database string // empty: SQLite
	mu       sync.Mutex
	down     map[*process]bool
	promised sync.Map // connection id -> *atomic.Int64: the last metadata that was acknowledged
	asked    atomic.Int64
	served   atomic.Int64
}

const (
	stormCallers     = 200
	stormConnections = 20
)

// TestFaultsCostNoGrant kills, stops and cuts off nodes, while hundreds call and the provider fails too. A provider ends a
// grant whose spent token comes back; none may end, and nothing that was acknowledged may be missing.
func TestFaultsCostNoGrant(t *testing.T) {
	t.Run("three nodes on PostgreSQL", func(t *testing.T) {
		provider := stormProvider(t)
		s := &storm{t: t, provider: provider, nodes: nodes(t, provider, 3)}
		for _, v := range s.nodes[0].env {
			if address, ok := strings.CutPrefix(v, "COATCHECK_DATABASE="); ok {
				s.database = address
			}
		}
		s.rage()
	})
	t.Run("one node on SQLite", func(t *testing.T) {
		provider := stormProvider(t)
		(&storm{t: t, provider: provider, nodes: []*process{newProcess(t, provider)}}).rage()
	})
}

// stormProvider rotates refresh tokens, and takes a spent one for a while: an answer that nobody got is asked for again.
func stormProvider(t *testing.T) *providertest.Server {
	t.Helper()
	return providertest.New(t, providertest.Knobs{Rotate: true, Grace: 2 * time.Minute, Slow: 2 * time.Millisecond})
}

func (s *storm) rage() {
	s.down = make(map[*process]bool)
	s.fill()
	ctx, cancel := context.WithCancel(s.t.Context())
	var callers sync.WaitGroup
	for n := range stormCallers {
		callers.Go(func() { s.call(ctx, rand.New(rand.NewPCG(*faultsSeed, uint64(n)))) })
	}
	for i := range stormConnections {
		callers.Go(func() { s.write(ctx, i) })
	}
	s.calm()
	s.breakThings(rand.New(rand.NewPCG(*faultsSeed, 1<<32)))
	cancel()
	callers.Wait()
	s.provider.Set(func(k *providertest.Knobs) { k.HangUp, k.Status, k.Slow = false, 0, 0 })
	s.check()
}

// calm lets all nodes renew for the same callers at once, while nothing fails: no token is spent twice then.
func (s *storm) calm() {
	untilDone(s.t, 30*time.Second, func() (done bool, why string) {
		n := s.provider.Counts().Refreshes
		return n >= 2*stormConnections, fmt.Sprintf("only %d renewals", n)
	})
	if n := s.provider.Counts().Reuses; n != 0 {
		s.t.Errorf("%d spent tokens came back while nothing had failed", n)
	}
}

func connectionName(i int) string { return fmt.Sprint("c", i) }

// node gives one that is not known to be down; nil: there is none.
func (s *storm) node(r *rand.Rand) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 10 {
		if p := s.nodes[r.IntN(len(s.nodes))]; !s.down[p] {
			return p
		}
	}
	return nil
}

func (s *storm) set(p *process, down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[p] = down
}

// call reads tokens, and insists on new ones as often as not.
func (s *storm) call(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		p := s.node(r)
		if p == nil {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		token, _, err := p.token(asking, connectionName(r.IntN(stormConnections)), r.IntN(2) == 0)
		cancel()
		s.asked.Add(1)
		if err == nil && token != "" {
			s.served.Add(1)
		}
	}
}

// write counts up in a connection's metadata, and remembers the last number that was acknowledged.
func (s *storm) write(ctx context.Context, connection int) {
	id := connectionName(connection)
	last, _ := s.promised.Load(id)
	r := rand.New(rand.NewPCG(*faultsSeed, uint64(connection)<<33))
	for n := int64(1); ctx.Err() == nil; n++ {
		p := s.node(r)
		if p == nil {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		a, err := p.do(asking, http.MethodPost, "/connections/metadata",
			fmt.Sprintf(`{"connection_id":%q,"provider_config_key":"acme","metadata":{"n":%d}}`, id, n))
		cancel()
		if err == nil && a.status < 300 {
			last.(*atomic.Int64).Store(n)
		}
	}
}

// breakThings makes one fault after the other until the time is over, and mends them all.
func (s *storm) breakThings(r *rand.Rand) {
	faults := []func(*rand.Rand){s.kill, s.freeze, s.hangUp, s.refuse}
	if s.database != "" {
		faults = append(faults, s.cut)
	}
	end := time.Now().Add(*faultsFor)
	for n := 0; time.Now().Before(end); n++ {
		faults[n%len(faults)](r) // each comes, in whatever time there is
	}
}

// kill ends a node as a power cut would, and starts it again.
func (s *storm) kill(r *rand.Rand) {
	p := s.nodes[r.IntN(len(s.nodes))]
	s.set(p, true)
	p.kill()
	p.start()
	s.set(p, false)
}

// freeze stops a node for a while, in the middle of whatever it does. Callers do not know.
func (s *storm) freeze(r *rand.Rand) {
	p := s.nodes[r.IntN(len(s.nodes))]
	p.mu.Lock()
	running := p.cmd.Process
	p.mu.Unlock()
	for _, signal := range []os.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := running.Signal(signal); err != nil {
			s.t.Errorf("%v: %v", signal, err)
		}
		s.last(r, frozenFor())
	}
}

// frozenFor is how long a node is stopped at most: in a long run longer than a lease lasts.
func frozenFor() time.Duration {
	if *faultsFor >= 5*time.Minute {
		return 90 * time.Second
	}
	return 500 * time.Millisecond
}

// hangUp lets the provider issue tokens and hang up.
func (s *storm) hangUp(r *rand.Rand) {
	s.provider.Set(func(k *providertest.Knobs) { k.HangUp = true })
	s.last(r, 200*time.Millisecond)
	s.provider.Set(func(k *providertest.Knobs) { k.HangUp = false })
}

// refuse lets the provider fail.
func (s *storm) refuse(r *rand.Rand) {
	s.provider.Set(func(k *providertest.Knobs) { k.Status = http.StatusBadGateway })
	s.last(r, 200*time.Millisecond)
	s.provider.Set(func(k *providertest.Knobs) { k.Status = 0 })
}

// cut breaks all connections to the database.
func (s *storm) cut(*rand.Rand) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.database)
	if err != nil {
		s.t.Errorf("connect to cut: %v", err)
		return
	}
	defer func() { _ = c.Close(ctx) }()
	_, err = c.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	if err != nil {
		s.t.Errorf("cut: %v", err)
	}
}

// last lets a fault be for a while.
func (s *storm) last(r *rand.Rand, atMost time.Duration) {
	timer := time.NewTimer(time.Duration(r.Int64N(int64(atMost))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.t.Context().Done():
	}
}

// check reads everything from every node, once all is well again.
func (s *storm) check() {
	for i := range stormConnections {
		id := connectionName(i)
		s.agree(id)
		a, err := s.nodes[0].do(s.t.Context(), http.MethodGet, "/connections/"+id+"?provider_config_key=acme", "")
		if err != nil {
			s.t.Fatal(err)
		}
		var n int64
		if _, rest, ok := strings.Cut(a.body, `"metadata":{"n":`); ok {
			_, _ = fmt.Sscan(rest, &n)
		}
		last, _ := s.promised.Load(id)
		if promised := last.(*atomic.Int64).Load(); n < promised {
			s.t.Errorf("%s: metadata %d was acknowledged, and %d is there", id, promised, n)
		}
	}
	counts := s.provider.Counts()
	if counts.FamiliesRevoked != 0 {
		s.t.Errorf("%d grants were ended by the provider", counts.FamiliesRevoked)
	}
	if s.served.Load() == 0 || counts.Refreshes == 0 {
		s.t.Error("nothing was tried")
	}
	s.t.Logf("%d calls, %d served; %d renewals asked for, %d tokens issued, %d repeated for want of an answer, %d grants ended",
		s.asked.Load(), s.served.Load(), counts.Refreshes, counts.Issued, counts.Reuses, counts.FamiliesRevoked)
}

// agree waits until all nodes serve the same token, and a good one: an attempt that a killed node has left is repeated when its
// lease is over.
func (s *storm) agree(id string) {
	s.t.Helper()
	untilDone(s.t, 2*time.Minute, func() (done bool, why string) {
		var tokens []string
		for _, p := range s.nodes {
			token, a, err := p.token(s.t.Context(), id, false)
			if err != nil || !s.provider.Good(token) {
				return false, fmt.Sprint(id, " is not served: ", a, err)
			}
			tokens = append(tokens, token)
		}
		return len(slices.Compact(tokens)) == 1, id + ": the nodes serve different tokens"
	})
}

// untilDone polls a condition.
func untilDone(t *testing.T, patience time.Duration, condition func() (done bool, why string)) {
	t.Helper()
	deadline := time.After(patience)
	for {
		done, why := condition()
		if done {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Error(why)
			return
		}
	}
}
