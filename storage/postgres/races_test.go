package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/postgres/postgrestest"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// seeded is a fresh database with an environment and an integration, on that many handles.
func seeded(t *testing.T, handles int) []*DB {
	t.Helper()
	o := Options{URL: migrated(t)}
	out := make([]*DB, handles)
	for i := range out {
		out[i] = openTest(t, o)
	}
	ok(t, out[0].SaveEnvironment(t.Context(), &broker.Environment{ID: "environment", Name: "dev"}, broker.Trail{}))
	ok(t, out[0].CreateIntegration(t.Context(), integration("integration"), broker.Trail{}))
	return out
}

func integration(id string) *broker.Integration {
	return &broker.Integration{ID: broker.IntegrationID(id), PublicID: id, Environment: "environment", Key: id}
}

func grant(id string) *broker.Grant {
	return &broker.Grant{
		Connection: &broker.Connection{
			ID: broker.ConnectionID(id), Environment: "environment", Integration: "integration", Key: id, Status: broker.Active, CreatedAt: noon,
		},
		Credential: &broker.Credential{Type: "OAUTH2", Access: broker.Sealed("access"), Refresh: broker.Sealed("refresh")}, New: true,
	}
}

// together runs all at once and waits for them.
func together(n int, f func(i int)) {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			f(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
}

// This is what a second node must not break: two renewals of one token at the same time kill the grant.
func TestOfHundredsOneTakesTheLease(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 2)
	ok(t, nodes[0].PutGrant(t.Context(), grant("c")))
	for round := range int64(5) {
		var winners atomic.Int64
		var winner atomic.Value
		together(200, func(i int) {
			owner := strconv.Itoa(i)
			c, got, err := nodes[i%2].LeaseRefresh(t.Context(), "c", owner, time.Hour)
			if err != nil {
				t.Errorf("lease: %v (cause: %v)", err, errors.Unwrap(err))
			}
			if !got {
				return
			}
			winners.Add(1)
			winner.Store(owner)
			if c.Fence != round+1 || c.LeaseOwner != owner || string(c.Refresh) != "refresh" {
				t.Errorf("round %d: fence %d of %q", round, c.Fence, c.LeaseOwner)
			}
			if left := time.Until(c.LeaseUntil); left < 50*time.Minute || left > 70*time.Minute {
				t.Errorf("the lease lasts %s, want an hour on the database's clock", left)
			}
		})
		if n := winners.Load(); n != 1 {
			t.Fatalf("round %d: %d took the lease", round, n)
		}
		ok(t, nodes[0].ReleaseRefresh(t.Context(), "c", winner.Load().(string), time.Time{}))
	}
}

// A lease that runs out passes on: each who gets it gets another fence, and finds the attempt of the one before.
func TestEveryLeaseHasItsFence(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 2)
	ok(t, nodes[0].PutGrant(t.Context(), grant("c")))
	var mu sync.Mutex
	var fences []int64
	together(60, func(i int) {
		c, got, err := nodes[i%2].LeaseRefresh(t.Context(), "c", strconv.Itoa(i), time.Microsecond)
		if err != nil || !got {
			if err != nil {
				t.Errorf("lease: %v", err)
			}
			return
		}
		mu.Lock()
		defer mu.Unlock()
		fences = append(fences, c.Fence)
		if c.AttemptAt.IsZero() != (c.Fence == 1) {
			t.Errorf("fence %d comes with the attempt of %s", c.Fence, c.AttemptAt)
		}
	})
	slices.Sort(fences)
	c, err := nodes[0].Credential(t.Context(), "c")
	ok(t, err)
	if got := len(slices.Compact(slices.Clone(fences))); got != len(fences) || int64(got) != c.Fence {
		t.Errorf("fences %v, the last one is %d", fences, c.Fence)
	}
}

func TestEveryDeliveryIsClaimedOnce(t *testing.T) {
	t.Parallel()
	const deliveries = 120
	nodes := seeded(t, 4)
	var trail broker.Trail
	for i := range deliveries {
		trail.Deliveries = append(trail.Deliveries, delivery(strconv.Itoa(i), strconv.Itoa(i)))
	}
	ok(t, nodes[0].AppendTrail(t.Context(), trail))
	var claims sync.Map
	var claimed atomic.Int64
	together(32, func(i int) {
		for {
			d, err := nodes[i%4].ClaimDelivery(t.Context(), "endpoint", noon, noon.Add(time.Hour))
			if err != nil {
				t.Errorf("claim: %v", err)
			}
			if d == nil {
				return
			}
			claimed.Add(1)
			if _, twice := claims.LoadOrStore(d.Number, true); twice {
				t.Errorf("delivery %d was claimed twice", d.Number)
			}
		}
	})
	if n := claimed.Load(); n != deliveries {
		t.Errorf("%d of %d were claimed", n, deliveries)
	}
}

func delivery(event, about string) broker.Delivery {
	return broker.Delivery{Event: event, Environment: "environment", Endpoint: "endpoint", About: about, NextAt: noon}
}

// Four nodes tell of one connection, and carry what they tell, at the same time: one of a line is under way at a time,
// and they arrive in the order of their numbers.
func TestALineStaysALine(t *testing.T) {
	t.Parallel()
	const tellers, each = 4, 15
	nodes := seeded(t, 4)
	var under atomic.Int64
	var last atomic.Int64
	var arrived atomic.Int64
	together(2*tellers, func(i int) {
		d := nodes[i%4]
		if i < tellers {
			for n := range each {
				err := d.AppendTrail(t.Context(), broker.Trail{Deliveries: []broker.Delivery{delivery(fmt.Sprint(i, n), "one")}})
				if err != nil {
					t.Errorf("append: %v", err)
				}
			}
			return
		}
		for arrived.Load() < tellers*each && !t.Failed() {
			x, err := d.ClaimDelivery(t.Context(), "endpoint", noon, noon.Add(time.Hour))
			if err != nil {
				t.Errorf("claim: %v", err)
			}
			if x == nil {
				continue
			}
			if under.Add(1) != 1 || !last.CompareAndSwap(min(last.Load(), x.Number-1), x.Number) {
				t.Errorf("delivery %d, after %d, while another was under way", x.Number, last.Load())
			}
			under.Add(-1)
			if err := d.SettleDelivery(t.Context(), broker.DeliveryResult{Number: x.Number, At: noon, Outcome: broker.OutcomeDelivered}); err != nil {
				t.Errorf("settle: %v", err)
			}
			arrived.Add(1)
		}
	})
}

// A reader of the trail remembers a number. What was numbered before it and is committed after it must not be missed.
func TestAReaderOfTheTrailMissesNothing(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 2)
	a, b := nodes[0], nodes[1]
	entry := func(name string) broker.Trail {
		return broker.Trail{
			Audit:  []broker.AuditEntry{{Environment: "environment", Action: name}},
			Events: []broker.Event{{Environment: "environment", Kind: broker.EventKind(name)}},
		}
	}
	read := func(after int64) (names []string, last int64) {
		lines, err := b.Audit(t.Context(), "environment", after, 10)
		ok(t, err)
		events, err := b.Events(t.Context(), "environment", after, 10)
		ok(t, err)
		for _, l := range lines {
			names, last = append(names, l.Action), l.Sequence
		}
		for _, e := range events {
			names = append(names, string(e.Kind))
		}
		return names, last
	}
	ok(t, a.AppendTrail(t.Context(), entry("first")))
	var seen []string
	var last int64
	ok(t, a.write(t.Context(), "take long", func(tx *conn) error {
		if err := leave(tx, entry("slow")); err != nil {
			return err
		}
		ok(t, b.AppendTrail(t.Context(), entry("quick")))
		seen, last = read(0)
		return nil
	}))
	if !slices.Equal(seen, []string{"first", "first"}) {
		t.Errorf("while an earlier one is still to be committed, %q are read", seen)
	}
	if rest, _ := read(last); !slices.Equal(rest, []string{"slow", "quick", "slow", "quick"}) {
		t.Errorf("then %q are read", rest)
	}
}

// Whoever finishes the last revocation of a deleted integration erases it, however many finish theirs at the same time.
func TestTheLastRevocationErasesTheIntegration(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 4)
	for round := range 10 {
		id := "round" + strconv.Itoa(round)
		ok(t, nodes[0].CreateIntegration(t.Context(), integration(id), broker.Trail{}))
		for i := range 4 {
			g := grant(id + strconv.Itoa(i))
			g.Connection.Integration = broker.IntegrationID(id)
			ok(t, nodes[0].PutGrant(t.Context(), g))
		}
		_, err := nodes[0].DeleteIntegration(t.Context(), broker.IntegrationID(id), noon, broker.Trail{})
		ok(t, err)
		jobs, err := nodes[0].ClaimRevocations(t.Context(), noon, noon.Add(time.Minute), 10)
		ok(t, err)
		if len(jobs) != 4 {
			t.Fatalf("there are %d revocations", len(jobs))
		}
		together(4, func(i int) {
			if err := nodes[i].FinishRevocation(t.Context(), jobs[i].ID, broker.OutcomeRevoked, noon, broker.Trail{}); err != nil {
				t.Errorf("finish: %v", err)
			}
		})
		list, err := nodes[0].Integrations(t.Context())
		ok(t, err)
		if len(list) != 1 {
			t.Fatalf("round %d: the deleted integration is still there", round)
		}
	}
}

// Of two connections that are put on one grant at the same time, the second one is found to be a duplicate: it waits until
// the first is there to be seen.
func TestOneOfTwoIsADuplicate(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 2)
	first, second := grant("first"), grant("second")
	first.Connection.GrantHash, second.Connection.GrantHash = []byte("grant"), []byte("grant")
	done := make(chan error, 1)
	ok(t, nodes[0].change(t.Context(), "put the first", func(tx *conn) error {
		number, err := insertConnection(tx, first.Connection)
		if err != nil {
			return err
		}
		if duplicate, err := duplicated(tx, number, first.Connection.GrantHash); err != nil || duplicate {
			t.Errorf("the first is a duplicate: %t, %v", duplicate, err)
		}
		go func() { done <- nodes[1].PutGrant(t.Context(), second) }()
		for waits := false; !waits && len(done) == 0; {
			err := tx.row("SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "+
				"(SELECT oid FROM pg_database WHERE datname = current_database())", nil, &waits)
			if err != nil {
				return err
			}
		}
		return nil
	}))
	ok(t, <-done)
	if !second.Connection.DuplicateGrant {
		t.Error("neither is a duplicate")
	}
}

// What is deleted takes along what is being made in it: nothing is left that nobody can see any more.
func TestNothingIsMadeInWhatIsBeingDeleted(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 2)
	for round := range 15 {
		id := "round" + strconv.Itoa(round)
		ok(t, nodes[0].CreateIntegration(t.Context(), integration(id), broker.Trail{}))
		session := &broker.Session{ID: broker.SessionID(id), Environment: "environment", TokenHash: []byte(id)}
		ok(t, nodes[0].CreateSession(t.Context(), session, broker.Trail{}))
		g := grant(id)
		g.Connection.Integration = broker.IntegrationID(id)
		flow := &broker.Flow{ID: broker.FlowID(id), Environment: "environment", Session: session.ID, StateHash: []byte(id)}
		together(4, func(i int) {
			var err error
			switch i {
			case 0:
				_, err = nodes[0].DeleteIntegration(t.Context(), broker.IntegrationID(id), noon, broker.Trail{})
			case 1:
				err = nodes[1].PutGrant(t.Context(), g)
			case 2:
				err = nodes[0].DeleteSession(t.Context(), session.ID, "gone", noon, broker.Trail{})
			case 3:
				_, err = nodes[1].CreateFlow(t.Context(), flow, 20, broker.Trail{})
			}
			if err != nil && !errors.Is(err, broker.ErrNotFound) {
				t.Errorf("%d: %v (cause: %v)", i, err, errors.Unwrap(err))
			}
		})
		_, err := nodes[0].Connection(t.Context(), "environment", g.Connection.ID)
		if !errors.Is(err, broker.ErrNotFound) {
			t.Fatalf("round %d: a connection outlived its integration: %v", round, err)
		}
		if f, err := nodes[0].Flow(t.Context(), flow.ID); err == nil && f.Status == broker.FlowOpen {
			t.Fatalf("round %d: an open flow outlived its session", round)
		}
	}
}

func TestANameIsTakenByOne(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 2)
	for _, env := range []broker.EnvironmentID{"environment", ""} {
		var made atomic.Int64
		together(10, func(i int) {
			id := fmt.Sprint(env, i)
			err := nodes[i%2].CreateAPIKey(t.Context(), &broker.APIKey{ID: broker.APIKeyID(id), Environment: env, Name: "backend", Hash: []byte(id)}, broker.Trail{})
			switch {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, broker.ErrConflict):
				t.Errorf("create: %v", err)
			}
		})
		if n := made.Load(); n != 1 {
			t.Errorf("%d keys of %q have one name", n, env)
		}
	}
}

func TestOneOfManyDataKeysIsActive(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 2)
	together(8, func(i int) {
		k := broker.WrappedKey{ID: uint32(i) + 1, Wrapped: []byte("wrapped"), Active: true}
		if err := nodes[i%2].AddKey(t.Context(), k); err != nil {
			t.Errorf("add: %v", err)
		}
	})
	keys, err := nodes[0].Keys(t.Context())
	ok(t, err)
	active := 0
	for _, k := range keys {
		if k.Active {
			active++
		}
	}
	if len(keys) != 8 || active != 1 {
		t.Errorf("%d of %d keys are active", active, len(keys))
	}
}

func TestManyNodesOpenAFreshDatabase(t *testing.T) {
	t.Parallel()
	address := postgrestest.New(t)
	together(6, func(int) {
		d, err := Open(t.Context(), Options{URL: address})
		if err != nil {
			t.Errorf("open: %s", broker.Explain(err))
			return
		}
		if err := errors.Join(d.Ping(t.Context()), d.Close()); err != nil {
			t.Errorf("ping and close: %v", err)
		}
	})
}

// Renewals, failures, edits, reconnects and leases of the same connections from two nodes end in truth or in a refusal,
// and never in a deadlock that is told to the caller.
func TestWritersOfAConnectionDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 2)
	ids := []broker.ConnectionID{"a", "b", "c"}
	for _, id := range ids {
		ok(t, nodes[0].PutGrant(t.Context(), grant(string(id))))
	}
	together(24, func(i int) {
		d, ctx := nodes[i%2], t.Context()
		for round := range 8 {
			id := ids[(i+round)%len(ids)]
			var errs []error
			c, err := d.Connection(ctx, "environment", id)
			errs = append(errs, err)
			cred, err := d.Credential(ctx, id)
			errs = append(errs, err)
			if errors.Join(errs...) != nil {
				t.Errorf("read: %v", errs)
				return
			}
			switch i % 6 {
			case 0:
				err = d.SwapCredential(ctx, &broker.Swap{Connection: id, From: cred.Version, Next: cred, Config: []byte(strconv.Itoa(round))})
			case 1:
				err = d.FailRefresh(ctx, &broker.RefreshFailure{Connection: id, Version: cred.Version, Status: broker.Failing, CountsAgainst: true})
			case 2:
				err = d.PutGrant(ctx, &broker.Grant{Connection: c, Credential: cred, From: cred.Version})
			case 3:
				_, _, err = d.LeaseRefresh(ctx, id, strconv.Itoa(i), time.Millisecond)
			case 4:
				other, e := d.Connection(ctx, "environment", ids[(i+round+1)%len(ids)])
				if e == nil {
					e = d.UpdateConnections(ctx, []*broker.Connection{c, other}, broker.Trail{})
				}
				err = e
			case 5:
				err = d.TouchFetched(ctx, map[broker.ConnectionID]time.Time{"a": time.Now(), "b": time.Now(), "c": time.Now()})
			}
			if err != nil && !errors.Is(err, broker.ErrConflict) {
				t.Errorf("writer %d: %v (cause: %v)", i%6, err, errors.Unwrap(err))
			}
		}
	})
}
