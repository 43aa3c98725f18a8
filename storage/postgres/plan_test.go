package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// Tables that grow with connections or with time are never walked through row by row, where an index could do. What small
// tables do to the planner is kept out.
func TestStatementsUseIndexes(t *testing.T) {
	t.Parallel()
	address := migrated(t)
	as(t, address, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET enable_seqscan = off', current_database()); END $$")
	d := openTest(t, Options{URL: address})
	exercise(t, d)
	ok(t, d.Close()) // sessions tell what they did when they end, which is a little later
	look := openTest(t, Options{URL: address})
	deadline := time.After(20 * time.Second)
	for {
		found := scansOf(t, look)
		told := len(found) == 11
		for _, s := range found {
			told = told && s.finds > 0
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("not every table was looked into by an index: %+v", found)
		}
		if !told {
			continue
		}
		for _, s := range found {
			if s.walks > 0 {
				t.Errorf("%s was walked through %d times", s.table, s.walks)
			}
		}
		return
	}
}

// scans are how often a table was read, row by row and by an index.
type scans struct {
	table        string
	walks, finds int64
}

func scansOf(t *testing.T, d *DB) (out []scans) {
	t.Helper()
	ok(t, d.read(t.Context(), "read statistics", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			var s scans
			err := r.Scan(&s.table, &s.walks, &s.finds)
			out = append(out, s)
			return err
		}, `SELECT relname, seq_scan, coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname IN ('connections', 'credentials',
			'sessions', 'session_ends', 'flows', 'registrations', 'revocations', 'events', 'audit', 'deliveries', 'changes')`)
	}))
	return out
}

// exercise runs most statements once. Deleting an environment, which is rare, walks through the sessions.
func exercise(t *testing.T, d *DB) {
	t.Helper()
	ctx := t.Context()
	ok(t, d.SaveEnvironment(ctx, &broker.Environment{ID: "environment", Name: "dev"}, broker.Trail{}))
	ok(t, d.CreateIntegration(ctx, integration("integration"), broker.Trail{}))
	ok(t, d.CreateSession(ctx, &broker.Session{ID: "session", Environment: "environment", TokenHash: []byte("hash")}, broker.Trail{}))
	_, err := d.CreateFlow(ctx, &broker.Flow{
		ID: "flow", Environment: "environment", Session: "session", StateHash: []byte("state"), Channel: []byte("channel"), CreatedAt: noon,
	}, 20, broker.Trail{})
	ok(t, err)
	_, err = d.ConsumeFlow(ctx, "flow", noon)
	ok(t, err)
	g := grant("new")
	g.Flow, g.Session, g.Connection.GrantHash, g.Credential.EraseAt = "flow", "session", []byte("grant"), noon
	g.Trail = broker.Trail{Audit: []broker.AuditEntry{{Environment: "environment"}}, Events: []broker.Event{{Environment: "environment"}}}
	ok(t, d.PutGrant(ctx, g))
	ok(t, d.PutGrant(ctx, grant("other")))
	r := &broker.Registration{Environment: "environment", Integration: "integration", CreatedAt: noon}
	ok(t, d.PutRegistration(ctx, r, broker.Trail{}))
	exerciseDeliveries(t, d)
	w := &broker.Webhook{Environment: "environment"}
	ok(t, d.SaveWebhook(ctx, w, broker.Trail{}))
	everyFilter := broker.ConnectionFilter{
		Environment: "environment", Search: "x", Tags: map[string]string{"a": "b"}, Statuses: []broker.Status{broker.Active}, AsOf: noon,
		Organization: "o", Unowned: true, Integrations: []broker.IntegrationID{"integration"},
	}
	for i, do := range []func() error{
		func() error { return d.UpdateConnections(ctx, []*broker.Connection{g.Connection}, broker.Trail{}) },
		func() error { return d.TouchFetched(ctx, map[broker.ConnectionID]time.Time{"new": noon}) },
		func() error { _, _, err := d.LeaseRefresh(ctx, "new", "owner", 1); return err },
		func() error {
			return d.FailRefresh(ctx, &broker.RefreshFailure{Connection: "new", Version: 1, Owner: "owner", Status: broker.Failing, CountsAgainst: true, EraseAt: noon})
		},
		func() error { _, err := d.EraseTokens(ctx, noon, 1, broker.AuditEntry{}); return err },
		func() error { return d.ReleaseRefresh(ctx, "new", "owner", noon) },
		func() error { return d.SetRefreshAt(ctx, "new", 1, time.Time{}, noon) },
		func() error {
			return d.SwapCredential(ctx, &broker.Swap{Connection: "new", From: 1, Next: g.Credential})
		},
		func() error { _, err := d.Session(ctx, "session"); return err },
		func() error { _, err := d.SessionByHash(ctx, []byte("hash")); return err },
		func() error { _, err := d.Flow(ctx, "flow"); return err },
		func() error { _, err := d.FlowByState(ctx, []byte("state")); return err },
		func() error { _, err := d.FlowByChannel(ctx, []byte("channel")); return err },
		func() error { _, err := d.SealFlow(ctx, "flow", nil); return err },
		func() error { _, err := d.InterruptedFlows(ctx, noon); return err },
		func() error { _, err := d.Registration(ctx, "integration", "", ""); return err },
		func() error { _, err := d.Connection(ctx, "environment", "new"); return err },
		func() error { _, err := d.ConnectionByKey(ctx, "integration", "new"); return err },
		func() error { _, err := d.Connections(ctx, everyFilter); return err },
		func() error {
			_, err := d.Connections(ctx, broker.ConnectionFilter{Environment: "environment", EndUser: "u"})
			return err
		},
		func() error {
			_, err := d.MatchingConnections(ctx, broker.ConnectionFilter{Environment: "environment", Key: "k"})
			return err
		},
		func() error { _, err := d.Credential(ctx, "new"); return err },
		func() error { _, err := d.Lifetimes(ctx, []broker.ConnectionID{"new"}); return err },
		func() error { _, err := d.Ticket(ctx, "integration", "new"); return err },
		func() error { _, err := d.SharesGrant(ctx, []byte("hash"), "new"); return err },
		func() error { _, err := d.DueRefreshes(ctx, noon, nil, 1); return err },
		func() error { _, err := d.NextRefresh(ctx); return err },
		func() error { _, err := d.DropStaleLeases(ctx); return err },
		func() error { _, err := d.CountConnections(ctx, "integration"); return err },
		func() error { return d.DeleteConnection(ctx, "environment", "new", noon, broker.Trail{}) },
		func() error { _, err := d.ClaimRevocations(ctx, noon, noon, 1); return err },
		func() error { return d.RetryRevocation(ctx, "unknown", 1, 0, noon) },
		func() error { return d.FinishRevocation(ctx, "unknown", broker.OutcomeRevoked, noon, broker.Trail{}) },
		func() error { _, err := d.Revocations(ctx, "environment", 1); return err },
		func() error { _, err := d.Audit(ctx, "environment", 0, 1); return err },
		func() error { _, err := d.Events(ctx, "environment", 0, 1); return err },
		func() error { return d.DropRegistration(ctx, r) },
		func() error { _, err := d.SweepRegistrations(ctx, noon); return err },
		func() error { return d.FailFlow(ctx, "flow", "code", noon, broker.Trail{}) },
		func() error { return d.DeleteSession(ctx, "session", "code", noon, broker.Trail{}) },
		func() error { _, err := d.SweepSessions(ctx, noon); return err },
		func() error { _, err := d.SweepPending(ctx, noon); return err },
		func() error { _, err := d.ForeignChanges(ctx); return err },
		func() error { _, err := d.ForeignChanges(ctx); return err },
		func() error { _, err := d.DeleteIntegration(ctx, "integration", noon, broker.Trail{}); return err },
	} {
		if err := do(); err != nil && !errors.Is(err, broker.ErrNotFound) {
			t.Fatalf("step %d: %v (cause: %v)", i, err, errors.Unwrap(err))
		}
	}
}

// exerciseDeliveries runs the statements of what apps are told.
func exerciseDeliveries(t *testing.T, d *DB) {
	t.Helper()
	ctx := t.Context()
	ok(t, d.AppendTrail(ctx, broker.Trail{Deliveries: []broker.Delivery{delivery("event", "one")}}))
	_, err := d.DeliveryQueues(ctx)
	ok(t, err)
	claimed, err := d.ClaimDelivery(ctx, "endpoint", noon, noon)
	ok(t, err)
	ok(t, d.SettleDelivery(ctx, broker.DeliveryResult{Number: claimed.Number, At: noon, Outcome: broker.OutcomeDead}))
	for _, outcome := range []string{"", broker.OutcomeDead, broker.OutcomeDelivered} {
		_, err = d.Deliveries(ctx, broker.DeliveryFilter{Environment: "environment", Outcome: outcome})
		ok(t, err)
	}
	_, err = d.ReplayDeliveries(ctx, "environment", []int64{claimed.Number}, noon, broker.Trail{})
	ok(t, err)
	_, err = d.SweepDeliveries(ctx, broker.OutcomeDead, noon, 1)
	ok(t, err)
}
