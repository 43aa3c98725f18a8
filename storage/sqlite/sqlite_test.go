package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	empty := migrated(t)
	storetest.Run(t, func(t *testing.T, now func() time.Time) (a, b broker.Store) {
		dir := t.TempDir()
		ok(t, os.WriteFile(filepath.Join(dir, FileName), empty, 0o600))
		return openTest(t, Options{Dir: dir, Now: now}), openTest(t, Options{Dir: dir, Now: now})
	})
}

// migrated is the file of an empty database: copying it is quicker than making it.
func migrated(t *testing.T) []byte {
	t.Helper()
	d := openTest(t, Options{Dir: t.TempDir()})
	ok(t, d.Close())
	file, err := os.ReadFile(d.Path())
	ok(t, err)
	return file
}

func openTest(t testing.TB, o Options) *DB {
	t.Helper()
	d, err := Open(t.Context(), o)
	ok(t, err)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

// everyConn runs f on the writing connection and on all reading ones at once.
func everyConn(t *testing.T, d *DB, f func(c *conn, reads bool)) {
	t.Helper()
	ok(t, d.writer.submit(t.Context(), &request{beside: func(w *writer) error {
		f(w.conn, false)
		return nil
	}}))
	for range readerCount {
		c, err := d.readers.take(t.Context())
		ok(t, err)
		defer d.readers.put(c)
		f(c, true)
	}
}

func TestPragmasAreInForceOnEveryConnection(t *testing.T) {
	t.Parallel()
	d := openTest(t, Options{Dir: t.TempDir()})
	everyConn(t, d, func(c *conn, reads bool) {
		want := map[string]string{
			"busy_timeout": "5000", "journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "secure_delete": "1",
			"trusted_schema": "0", "mmap_size": "0", "cache_size": "-8192", "temp_store": "2", "recursive_triggers": "1",
			"page_size": "8192", "query_only": "0",
		}
		if reads {
			want["query_only"], want["cache_size"] = "1", "-512"
		}
		for name, value := range want {
			var got string
			if err := c.row("PRAGMA "+name, nil, &got); err != nil || got != value {
				t.Errorf("reads %t: %s is %q (%v), want %q", reads, name, got, err, value)
			}
		}
		_, err := c.exec("DELETE FROM sessions")
		if got := errors.Is(interpret("test", err), broker.ErrStorageUnavailable); got != reads {
			t.Errorf("reads %t: a write gives %v", reads, err)
		}
	})
}

func TestFilesAreNobodyElses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a dir", "with ?odd#names%20 & 100%")
	d := openTest(t, Options{Dir: dir, Exclusive: true})
	ok(t, d.AppendTrail(t.Context(), broker.Trail{}))
	info, err := os.Stat(dir)
	ok(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %o", info.Mode().Perm())
	}
	entries, err := os.ReadDir(dir)
	ok(t, err)
	names := map[string]bool{}
	for _, e := range entries {
		info, err := e.Info()
		ok(t, err)
		names[e.Name()] = true
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", e.Name(), info.Mode().Perm())
		}
	}
	for _, name := range []string{FileName, FileName + "-wal", FileName + "-shm", lockName} {
		if !names[name] {
			t.Errorf("%s is not in the directory, which has %v", name, names)
		}
	}
}

func TestOneServerPerDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := Open(t.Context(), Options{Dir: dir, Exclusive: true})
	ok(t, err)
	if _, err := Open(t.Context(), Options{Dir: dir, Exclusive: true}); !errors.Is(err, ErrInUse) || !strings.HasPrefix(err.Error(), "database_in_use") {
		t.Fatalf("a second server: %v", err)
	}
	command := openTest(t, Options{Dir: dir})
	ok(t, command.AppendTrail(t.Context(), broker.Trail{Audit: []broker.AuditEntry{{Action: "test"}}}))
	ok(t, first.Close())
	openTest(t, Options{Dir: dir, Exclusive: true})
}

func TestAFailedOpenGivesUpTheLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	ok(t, os.Mkdir(path, 0o700))
	if _, err := Open(t.Context(), Options{Dir: dir, Exclusive: true}); !errors.Is(err, broker.ErrStorageUnavailable) {
		t.Fatalf("opening what is no file: %v", err)
	}
	ok(t, os.Remove(path))
	ok(t, os.WriteFile(path, bytes.Repeat([]byte("no database "), 1000), 0o600))
	if _, err := Open(t.Context(), Options{Dir: dir, Exclusive: true}); err == nil {
		t.Fatal("opening what is no database succeeded")
	}
	ok(t, os.Remove(path))
	openTest(t, Options{Dir: dir, Exclusive: true})
}

func TestVersionsOfSQLite(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"3.51.3": true, "3.51.4": true, "3.52.0": true, "4.0.0": true, "3.51.12": true,
		"3.51.2": false, "3.50.9": false, "3.9.9": false, "2.99.99": false, "3.51": false, "": false, "3.x.1": false,
	} {
		if got := atLeast(version, oldestSQLite); got != want {
			t.Errorf("atLeast(%q) is %t", version, got)
		}
	}
}

func TestAServerDropsTheLeasesOfTheOneBefore(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	d := seeded(t, 2)
	d.clock = func() time.Time { return now }
	lease := func(d *DB, id broker.ConnectionID, owner string) {
		t.Helper()
		if _, got, err := d.LeaseRefresh(t.Context(), id, owner, time.Hour); err != nil || !got {
			t.Fatalf("lease: %t, %v", got, err)
		}
	}
	lease(d, "0", "before")
	now = now.Add(time.Second)
	server := openTest(t, Options{Dir: d.dir, Exclusive: true, Now: func() time.Time { return now }})
	command := openTest(t, Options{Dir: d.dir, Now: func() time.Time { return now }})
	lease(server, "1", "server")
	if n, err := command.DropStaleLeases(t.Context()); err != nil || n != 0 {
		t.Fatalf("a command dropped %d leases, %v", n, err)
	}
	if n, err := server.DropStaleLeases(t.Context()); err != nil || n != 1 {
		t.Fatalf("the server dropped %d leases, want 1, %v", n, err)
	}
	for id, owner := range map[broker.ConnectionID]string{"0": "", "1": "server"} {
		c, err := server.Credential(t.Context(), id)
		ok(t, err)
		if c.LeaseOwner != owner || c.AttemptAt.IsZero() {
			t.Errorf("connection %s is leased by %q, attempt %s", id, c.LeaseOwner, c.AttemptAt)
		}
	}
}

func TestOwnWritesAreNotForeign(t *testing.T) {
	t.Parallel()
	d := seeded(t, 1)
	before, err := d.ForeignChanges(t.Context())
	ok(t, err)
	for range 3 {
		ok(t, d.AppendTrail(t.Context(), broker.Trail{Audit: []broker.AuditEntry{{Action: "test"}}}))
		ok(t, d.writer.submit(t.Context(), &request{beside: func(w *writer) error {
			return w.conn.row("PRAGMA wal_checkpoint(RESTART)", nil, new(int), new(int), new(int))
		}}))
		_, err := d.Ticket(t.Context(), "integration", "0")
		ok(t, err)
	}
	after, err := d.ForeignChanges(t.Context())
	ok(t, err)
	if after != before {
		t.Errorf("own writes moved it from %d to %d", before, after)
	}
}

// What a reviewer asks first of a database that holds tokens: where are they after they are gone?
func TestErasedSecretsAreNotInTheFile(t *testing.T) {
	t.Parallel()
	d := seeded(t, 50)
	canary := broker.Sealed("canary-canary-canary-canary")
	g := grant("canary", time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC))
	g.Credential.Access, g.Credential.Refresh, g.Credential.Answer = canary, canary, canary
	ok(t, d.PutGrant(t.Context(), g))
	ok(t, d.DeleteConnection(t.Context(), "environment", "canary", time.Now(), broker.Trail{}))
	jobs, err := d.ClaimRevocations(t.Context(), time.Now(), time.Now(), 10)
	ok(t, err)
	if len(jobs) != 1 || !bytes.Equal(jobs[0].Refresh, canary) {
		t.Fatalf("%d revocations", len(jobs))
	}
	ok(t, d.FinishRevocation(t.Context(), jobs[0].ID, broker.OutcomeRevoked, time.Now(), broker.Trail{}))
	lost := grant("lost", time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC))
	lost.Credential.Access, lost.Credential.Refresh, lost.Credential.Answer = canary, canary, canary
	lost.Credential.EraseAt = time.Now()
	ok(t, d.PutGrant(t.Context(), lost))
	n, err := d.EraseTokens(t.Context(), time.Now(), 10, broker.AuditEntry{})
	if err != nil || n != 1 {
		t.Fatalf("the tokens of %d were erased, %v", n, err)
	}
	ok(t, d.Close())
	file, err := os.ReadFile(d.Path())
	ok(t, err)
	if n := bytes.Count(file, canary); n != 0 {
		t.Errorf("the file still holds %d copies", n)
	}
	if _, err := os.Stat(d.Path() + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the log is still there: %v", err)
	}
}

// A connection may cost 1.6 bytes of file for each byte of its secret.
func TestRowsAreCompact(t *testing.T) {
	t.Parallel()
	const connections = 3000
	d := openTest(t, Options{Dir: t.TempDir()})
	ok(t, d.Close())
	empty, err := os.Stat(d.Path())
	ok(t, err)
	d = seeded(t, 0)
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	ok(t, d.write(t.Context(), "seed", func(tx *conn) error {
		for k := range connections {
			// The ids are as long as UUIDs, and in no order.
			g := grant(fmt.Sprintf("%08x-0000-4000-8000-000000000000", uint32(k)*2654435761), now)
			g.Connection.EndUser = &broker.EndUser{ID: fmt.Sprintf("user-%d", k), Email: fmt.Sprintf("user-%d@example.com", k)}
			number, err := insertConnection(tx, g.Connection)
			if err != nil {
				return err
			}
			if err := putCredential(tx, number, g); err != nil {
				return err
			}
		}
		return nil
	}))
	ok(t, d.Close())
	full, err := os.Stat(d.Path())
	ok(t, err)
	perSecret := float64(full.Size()-empty.Size()) / connections / secretSize
	t.Logf("%.2f bytes of file for each byte of secret", perSecret)
	if perSecret > 1.6 {
		t.Errorf("%.2f bytes of file for each byte of secret, at most 1.6 are allowed", perSecret)
	}
}

// largeTables grow with connections or with time: no statement may walk through one row by row.
var largeTables = regexp.MustCompile(`^SCAN (connections|c|d|credentials|cr|sessions|session_ends|flows|revocations|events|audit)( |$)`)

func TestStatementsUseIndexes(t *testing.T) {
	t.Parallel()
	d := seeded(t, 3)
	exercise(t, d)
	var checked int
	everyConn(t, d, func(c *conn, _ bool) {
		for query := range c.stmts {
			if !strings.Contains(query, "FROM") && !strings.Contains(query, "UPDATE") {
				continue
			}
			for _, step := range plan(t, c, query) {
				if largeTables.MatchString(step) && !strings.Contains(step, "INDEX") {
					t.Errorf("%s\n%s", step, query)
				}
			}
			checked++
		}
	})
	if checked < 25 {
		t.Errorf("only %d statements were looked at", checked)
	}
	for name, f := range map[string]broker.ConnectionFilter{
		"connections_by_age":      {},
		"connections_by_end_user": {EndUser: "user"},
		"connections_by_key":      {Key: "key"},
		"connections_unowned":     {Unowned: true, Integrations: []broker.IntegrationID{"integration"}, Statuses: []broker.Status{broker.Active}},
	} {
		f.Environment = "environment"
		where, _ := conditions(&f)
		everyConn(t, d, func(c *conn, _ bool) {
			steps := plan(t, c, selectConnection+where+" ORDER BY c.created_at DESC, c.number DESC LIMIT ? OFFSET ?")
			if !strings.Contains(strings.Join(steps, "\n"), "INDEX "+name) {
				t.Errorf("the list does not use %s:\n%s", name, strings.Join(steps, "\n"))
			}
		})
	}
}

// plan is how SQLite goes about a query.
func plan(t *testing.T, c *conn, query string) []string {
	t.Helper()
	rows, err := c.sql.QueryContext(c.ctx, "EXPLAIN QUERY PLAN "+query, make([]any, strings.Count(query, "?"))...)
	ok(t, err)
	defer func() { ok(t, rows.Close()) }()
	var steps []string
	for rows.Next() {
		var step string
		ok(t, rows.Scan(new(int), new(int), new(int), &step))
		steps = append(steps, step)
	}
	ok(t, rows.Err())
	return steps
}

// exercise runs most statements once.
func exercise(t *testing.T, d *DB) {
	t.Helper()
	ctx, now := t.Context(), time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := &broker.Session{ID: "session", Environment: "environment", TokenHash: []byte("hash")}
	ok(t, d.CreateSession(ctx, s, broker.Trail{}))
	_, err := d.CreateFlow(ctx, &broker.Flow{ID: "flow", Environment: "environment", Session: "session", StateHash: []byte("state")}, 20, broker.Trail{})
	ok(t, err)
	_, err = d.ConsumeFlow(ctx, "flow", now)
	ok(t, err)
	g := grant("new", now)
	g.Flow, g.Session = "flow", "session"
	g.Trail = broker.Trail{Audit: []broker.AuditEntry{{Environment: "environment"}}, Events: []broker.Event{{Environment: "environment"}}}
	ok(t, d.PutGrant(ctx, g))
	ok(t, d.UpdateConnections(ctx, []*broker.Connection{g.Connection}, broker.Trail{}))
	ok(t, d.TouchFetched(ctx, map[broker.ConnectionID]time.Time{"new": now}))
	_, _, err = d.LeaseRefresh(ctx, "new", "owner", time.Minute)
	ok(t, err)
	ok(t, d.FailRefresh(ctx, &broker.RefreshFailure{Connection: "new", Version: 1, Owner: "owner", Status: broker.Failing, CountsAgainst: true, EraseAt: now}))
	_, err = d.EraseTokens(ctx, now, 1, broker.AuditEntry{})
	ok(t, err)
	ok(t, d.ReleaseRefresh(ctx, "new", "owner", now))
	ok(t, d.SetRefreshAt(ctx, "new", 1, time.Time{}, now))
	ok(t, d.SwapCredential(ctx, &broker.Swap{Connection: "new", From: 1, Next: g.Credential}))
	ok(t, d.DeleteConnection(ctx, "environment", "0", now, broker.Trail{}))
	jobs, err := d.ClaimRevocations(ctx, now, now, 1)
	ok(t, err)
	ok(t, d.RetryRevocation(ctx, jobs[0].ID, 1, 0, now))
	ok(t, d.FinishRevocation(ctx, jobs[0].ID, broker.OutcomeRevoked, now, broker.Trail{}))
	ok(t, d.DeleteSession(ctx, "session", "code", now, broker.Trail{}))
	ok(t, d.FailFlow(ctx, "flow", "code", now, broker.Trail{}))
	exerciseDeliveries(t, d, now)
	for _, read := range []func() error{
		func() error { _, err := d.Session(ctx, "session"); return err },
		func() error { _, err := d.SessionByHash(ctx, []byte("hash")); return err },
		func() error { _, err := d.FlowByState(ctx, []byte("state")); return err },
		func() error { _, err := d.InterruptedFlows(ctx, now); return err },
		func() error { _, err := d.Connection(ctx, "environment", "1"); return err },
		func() error { _, err := d.ConnectionByKey(ctx, "integration", "1"); return err },
		func() error { _, err := d.Credential(ctx, "1"); return err },
		func() error { _, err := d.Ticket(ctx, "integration", "1"); return err },
		func() error { _, err := d.SharesGrant(ctx, []byte("hash"), "1"); return err },
		func() error { _, err := d.DueRefreshes(ctx, now, nil, 1); return err },
		func() error { _, err := d.NextRefresh(ctx); return err },
		func() error { _, err := d.DropStaleLeases(ctx); return err },
		func() error { _, err := d.Revocations(ctx, "environment", 1); return err },
		func() error { _, err := d.Audit(ctx, "environment", 0, 1); return err },
		func() error { _, err := d.Events(ctx, "environment", 0, 1); return err },
		func() error { _, err := d.CountConnections(ctx, "integration"); return err },
		func() error { _, err := d.SweepSessions(ctx, now); return err },
		func() error { _, err := d.DeleteIntegration(ctx, "integration", now, broker.Trail{}); return err },
	} {
		if err := read(); err != nil && !errors.Is(err, broker.ErrNotFound) {
			t.Fatal(err)
		}
	}
}

// exerciseDeliveries runs the statements of what apps are told.
func exerciseDeliveries(t *testing.T, d *DB, now time.Time) {
	t.Helper()
	ctx := t.Context()
	w := &broker.Webhook{Environment: "environment"}
	ok(t, d.SaveWebhook(ctx, w, broker.Trail{}))
	w.Revision = 1
	ok(t, d.SaveWebhook(ctx, w, broker.Trail{}))
	ok(t, d.AppendTrail(ctx, broker.Trail{Deliveries: []broker.Delivery{{Environment: "environment", Endpoint: "e", NextAt: now}}}))
	_, err := d.Webhooks(ctx)
	ok(t, err)
	_, err = d.DeliveryQueues(ctx)
	ok(t, err)
	claimed, err := d.ClaimDelivery(ctx, "e", now, now)
	ok(t, err)
	ok(t, d.SettleDelivery(ctx, broker.DeliveryResult{Number: claimed.Number, At: now, Outcome: broker.OutcomeDead}))
	for _, outcome := range []string{"", broker.OutcomeDead, broker.OutcomeDelivered} {
		_, err = d.Deliveries(ctx, broker.DeliveryFilter{Environment: "environment", Outcome: outcome})
		ok(t, err)
	}
	_, err = d.ReplayDeliveries(ctx, "environment", []int64{claimed.Number}, now, broker.Trail{})
	ok(t, err)
	_, err = d.DropStaleClaims(ctx)
	ok(t, err)
	claimed, err = d.ClaimDelivery(ctx, "e", now, now)
	ok(t, err)
	ok(t, d.SettleDelivery(ctx, broker.DeliveryResult{Number: claimed.Number, At: now, Outcome: broker.OutcomeDead}))
	_, err = d.SweepDeliveries(ctx, broker.OutcomeDead, now.Add(time.Second), 1)
	ok(t, err)
}

func TestTheTrailIsAppendOnly(t *testing.T) {
	t.Parallel()
	d := seeded(t, 0)
	ok(t, d.AppendTrail(t.Context(), broker.Trail{
		Audit: []broker.AuditEntry{{Environment: "environment", Action: "kept"}}, Events: []broker.Event{{Environment: "environment"}},
	}))
	for _, statement := range []string{
		"UPDATE audit SET action = 'forged'", "DELETE FROM audit",
		"REPLACE INTO audit SELECT sequence, environment_number, actor, 'forged', target, result, count, ip, request_id, at FROM audit",
		"UPDATE events SET code = 'forged'", "DELETE FROM events",
		"REPLACE INTO events SELECT sequence, id, environment_number, kind, integration, connection, key, 'forged', at FROM events",
	} {
		err := d.write(t.Context(), "forge", func(tx *conn) error {
			_, err := tx.exec(statement)
			return err
		})
		if err == nil || !strings.Contains(fmt.Sprint(errors.Unwrap(err)), "append-only") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	lines, err := d.Audit(t.Context(), "environment", 0, 10)
	ok(t, err)
	if len(lines) != 1 || lines[0].Action != "kept" {
		t.Errorf("the trail reads %+v", lines)
	}
}
