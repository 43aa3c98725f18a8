package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
	"github.com/coatcheck/coatcheck/storage/postgres/postgrestest"
)

// TestFailoverCostsNoGrant ends the database server while three nodes renew and write, and lets its standby take over. The
// provider ends a grant at once when a spent token comes back: none may, since no node ends here. What was acknowledged is
// there afterwards.
func TestFailoverCostsNoGrant(t *testing.T) {
	servers := postgrestest.NewPair(t)
	provider := providertest.New(t, providertest.Knobs{Rotate: true, Slow: 20 * time.Millisecond})
	s := &storm{t: t, provider: provider, nodes: nodesOn(t, provider, 3, servers.Address()), down: make(map[*process]bool)}
	s.fill()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var callers sync.WaitGroup
	for n := range 20 {
		callers.Go(func() { s.call(ctx, rand.New(rand.NewPCG(*faultsSeed, uint64(n)))) })
	}
	for i := range stormConnections {
		callers.Go(func() { s.write(ctx, i) })
	}
	s.calm()
	failed := time.Now()
	if err := servers.Fail(); err != nil {
		t.Fatal(err)
	}
	// Calls that need the database are refused, and say why.
	untilDone(t, time.Minute, func() (done bool, why string) {
		_, a, err := s.nodes[0].token(t.Context(), connectionName(0), true)
		return err == nil && a.status == http.StatusServiceUnavailable, fmt.Sprint("a call that needs the database: ", a, err)
	})
	if err := servers.Promote(); err != nil {
		t.Fatal(err)
	}
	took := time.Now()
	for _, p := range s.nodes {
		untilDone(t, time.Minute, func() (done bool, why string) {
			a, err := p.do(t.Context(), http.MethodGet, "/ready", "")
			return err == nil && a.status == http.StatusOK, fmt.Sprint("a node is not ready again: ", a, err)
		})
	}
	t.Logf("nodes are ready %v after the standby took over, %v after the server had ended", time.Since(took), time.Since(failed))
	before := provider.Counts().Refreshes
	untilDone(t, time.Minute, func() (done bool, why string) {
		n := provider.Counts().Refreshes - before
		return n >= 2*stormConnections, fmt.Sprintf("only %d renewals since the standby took over", n)
	})
	cancel()
	callers.Wait()
	s.check()
	if n := provider.Counts().Reuses; n != 0 {
		t.Errorf("%d spent tokens came back", n)
	}
}

// fill starts the nodes and makes the connections.
func (s *storm) fill() {
	for _, p := range s.nodes {
		p.start()
	}
	for i := range stormConnections {
		a, err := s.nodes[i%len(s.nodes)].importToken(s.t.Context(), connectionName(i), time.Now().Add(time.Hour))
		if err != nil || a.status != http.StatusCreated {
			s.t.Fatal(a, err)
		}
		s.promised.Store(connectionName(i), new(atomic.Int64))
	}
}
