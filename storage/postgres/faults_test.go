package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/postgres/postgrestest"
)

// as runs a statement on a connection of its own.
func as(t *testing.T, address, statement string, args ...any) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), address)
	ok(t, err)
	_, err = c.Exec(t.Context(), statement, args...)
	ok(t, err)
	ok(t, c.Close(t.Context()))
}

// endSessions ends all sessions of the database but the one that says so.
const endSessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

func refused(t *testing.T, err error, want *broker.Error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v (cause: %v), want %s", err, errors.Unwrap(err), want.Code)
	}
}

func TestARestartedServerIsUsedAgain(t *testing.T) {
	t.Parallel()
	address := migrated(t)
	d := openTest(t, Options{URL: address})
	for range 3 {
		together(8, func(int) {
			if err := d.Ping(t.Context()); err != nil {
				t.Errorf("ping: %v", err)
			}
		})
		as(t, address, endSessions)
		ok(t, d.AppendTrail(t.Context(), broker.Trail{Audit: []broker.AuditEntry{{Action: "write"}}}))
		ok(t, d.Ping(t.Context()))
	}
	lines, err := d.Audit(t.Context(), "", 0, 10)
	ok(t, err)
	if len(lines) != 3 {
		t.Errorf("%d lines were written, want 3", len(lines))
	}
}

// ownSession gives the process id of a transaction's session.
func ownSession(t *testing.T, tx *conn) (pid int) {
	t.Helper()
	ok(t, tx.row("SELECT pg_backend_pid()", nil, &pid))
	return pid
}

func TestWhatBreaksBeforeTheCommitIsRepeated(t *testing.T) {
	t.Parallel()
	address := migrated(t)
	d := openTest(t, Options{URL: address})
	attempts := 0
	ok(t, d.write(t.Context(), "test", func(tx *conn) error {
		if attempts++; attempts == 1 {
			as(t, address, "SELECT pg_terminate_backend($1, 5000)", ownSession(t, tx))
		}
		return appendAudit(tx, &broker.AuditEntry{Action: "write"})
	}))
	if attempts != 2 {
		t.Errorf("it was attempted %d times", attempts)
	}
}

// Whether a commit that was sent has happened cannot be known, so nothing is done twice.
func TestWhatBreaksAtTheCommitIsNotRepeated(t *testing.T) {
	t.Parallel()
	address := migrated(t)
	d := openTest(t, Options{URL: address})
	attempts := 0
	err := d.write(t.Context(), "test", func(tx *conn) error {
		attempts++
		if err := appendAudit(tx, &broker.AuditEntry{Action: "write"}); err != nil {
			return err
		}
		as(t, address, "SELECT pg_terminate_backend($1, 5000)", ownSession(t, tx))
		return nil
	})
	refused(t, err, broker.ErrStorageUnavailable)
	if attempts != 1 {
		t.Errorf("it was attempted %d times", attempts)
	}
}

// Whoever writes what nodes keep in memory and is not told that it was committed learns of it as of another node's writes,
// even if the server gets to it later: a key that was revoked must not count for as long as nobody else changes anything.
func TestACommitInDoubtIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	address := migrated(t)
	d := openTest(t, Options{URL: address})
	look := func() int64 {
		n, err := d.ForeignChanges(t.Context())
		ok(t, err)
		return n
	}
	rename := func(name string) error {
		return d.SaveEnvironment(t.Context(), &broker.Environment{ID: "environment", Name: name}, broker.Trail{})
	}
	ok(t, rename("dev"))
	before := look()
	told := d.telling.Load()
	told.options.CommitQuery += "; SELECT pg_terminate_backend(pg_backend_pid())"
	err := rename("committed")
	refused(t, err, broker.ErrStorageUnavailable)
	if msg := broker.AsError(err).Msg; strings.Contains(msg, "nothing was changed") {
		t.Errorf("the caller is told: %s", msg)
	}
	list, err := d.Environments(t.Context())
	ok(t, err)
	if list[0].Name != "committed" {
		t.Fatalf("it is called %q: there is no doubt", list[0].Name)
	}
	now := look()
	if now == before {
		t.Error("nobody learns that it was committed")
	}
	as(t, address, "INSERT INTO changes (xid, node, at) VALUES (pg_current_xact_id(), $1, 0)", told.name) // its commit comes late
	if late := look(); late == now {
		t.Error("nobody learns that it was committed later")
	}
	now = look()
	ok(t, rename("known"))
	if after := look(); after != now {
		t.Errorf("an own write moved it from %d to %d", now, after)
	}
}

func TestADeadlockIsRepeated(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 2)
	ok(t, nodes[0].CreateIntegration(t.Context(), integration("other"), broker.Trail{}))
	var attempts atomic.Int64
	holding := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	together(2, func(i int) {
		first := true
		err := nodes[i].write(t.Context(), "test", func(tx *conn) error {
			attempts.Add(1)
			names := []string{"integration", "other"}
			if _, err := tx.exec("UPDATE integrations SET fault = 'x' WHERE id = $1", names[i]); err != nil {
				return err
			}
			if first {
				first = false
				close(holding[i])
				<-holding[1-i]
			}
			_, err := tx.exec("UPDATE integrations SET fault = 'x' WHERE id = $1", names[1-i])
			return err
		})
		if err != nil {
			t.Errorf("%v (cause: %v)", err, errors.Unwrap(err))
		}
	})
	if n := attempts.Load(); n < 3 {
		t.Errorf("%d attempts: there was no deadlock", n)
	}
}

func TestAStatementTakesNoLongerThanItMay(t *testing.T) {
	t.Parallel()
	address := migrated(t)
	holder := openTest(t, Options{URL: address})
	waiter := openTest(t, Options{URL: address + "&statement_timeout=200ms"})
	e := &broker.Environment{ID: "environment", Name: "dev"}
	ok(t, holder.SaveEnvironment(t.Context(), e, broker.Trail{}))
	ok(t, holder.write(t.Context(), "hold", func(tx *conn) error {
		if _, err := tx.exec("UPDATE environments SET name = 'held'"); err != nil {
			return err
		}
		refused(t, waiter.SaveEnvironment(t.Context(), e, broker.Trail{}), broker.ErrStorageBusy)
		return nil
	}))
	ok(t, waiter.SaveEnvironment(t.Context(), e, broker.Trail{}))
}

func TestAReadOnlyDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	address := migrated(t)
	d := openTest(t, Options{URL: address})
	as(t, address, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$")
	as(t, address, endSessions)
	refused(t, d.AppendTrail(t.Context(), broker.Trail{Audit: []broker.AuditEntry{{Action: "write"}}}), broker.ErrStorageUnavailable)
	ok(t, d.Ping(t.Context()))
}

func TestAServerThatIsNotThereIsUnavailable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	ok(t, l.Close())
	_, err = Open(t.Context(), Options{URL: "postgres://user:canary@" + l.Addr().String() + "/name?sslmode=disable"})
	refused(t, err, broker.ErrStorageUnavailable)
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), "canary") {
			t.Errorf("the password is in %q", e)
		}
	}
}

// A client that leaves must cost neither a connection nor the outcome of what has begun.
func TestACallerWhoLeavesInterruptsNothing(t *testing.T) {
	t.Parallel()
	d := openTest(t, Options{URL: migrated(t)})
	ctx, leave := context.WithCancel(t.Context())
	ok(t, d.write(ctx, "test", func(tx *conn) error {
		leave()
		return appendAudit(tx, &broker.AuditEntry{Action: "write"})
	}))
	lines, err := d.Audit(t.Context(), "", 0, 10)
	ok(t, err)
	if len(lines) != 1 {
		t.Errorf("%d lines were written", len(lines))
	}
	if n := d.pool.Stat().NewConnsCount(); n != 1 {
		t.Errorf("%d connections were opened", n)
	}
}

func TestNodesOfOneDatabaseHaveTheirOwnDirectories(t *testing.T) {
	t.Parallel()
	address, dir := migrated(t), t.TempDir()
	first, err := Open(t.Context(), Options{URL: address, Dir: dir, Exclusive: true})
	ok(t, err)
	_, err = Open(t.Context(), Options{URL: address, Dir: dir, Exclusive: true})
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("a second server in the directory: %v", err)
	}
	openTest(t, Options{URL: address, Dir: t.TempDir(), Exclusive: true})
	openTest(t, Options{URL: address, Dir: dir})
	ok(t, first.Close())
	openTest(t, Options{URL: address, Dir: dir, Exclusive: true})
}

func TestAnUnsuitableDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	address := postgrestest.New(t)
	as(t, address, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$")
	if _, err := Open(t.Context(), Options{URL: address}); !errors.Is(err, ErrUnsuitable) {
		t.Fatalf("a database that loses what was committed: %v", err)
	}
}

func TestConditionsAreSorted(t *testing.T) {
	t.Parallel()
	server := func(code string) error { return &pgconn.PgError{Code: code, Severity: "ERROR"} }
	for want, errs := range map[*broker.Error][]error{
		broker.ErrConflict:    {server("23505")},
		broker.ErrNotFound:    {server("23503"), pgx.ErrNoRows},
		broker.ErrStorageBusy: {server("40001"), server("40P01"), server("57014"), server("55P03"), server("53300"), context.Canceled, context.DeadlineExceeded},
		broker.ErrStorageUnavailable: {
			server("53100"), server("53200"), server("25006"), server("57P01"), server("57P03"), server("58030"), server("08006"), server("28P01"),
			server("3D000"), server("42501"), server("XX001"), errClosed,
			doubtError{io.EOF},
			lostError{io.EOF},
		},
		broker.ErrInternal: {server("42601"), server("22003"), server(""), io.EOF},
	} {
		for _, err := range errs {
			got := interpret("test", err)
			refused(t, got, want)
			if !errors.Is(got, err) && errors.As(err, new(*pgconn.PgError)) == false {
				t.Errorf("%v is not the cause of %v", err, got)
			}
		}
	}
	taken := interpret("test", &pgconn.PgError{Code: "23505", ConstraintName: "connections_by_key", Detail: "Key (key)=(canary) already exists."})
	if e := broker.AsError(taken); e.Field != "key" || strings.Contains(e.Err.Error(), "canary") {
		t.Errorf("a taken key is told as %q: %v", e.Field, e.Err)
	}
	known := broker.ErrConflict.On("flow")
	if got := broker.AsError(interpret("test", known)); got != known {
		t.Errorf("a refusal became %v", got)
	}
}

// What providers and apps answer can hold anything; it must not fail the change that notes it, nor later searches.
func TestOddTextIsStored(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 1)
	d := nodes[0]
	g := grant("c")
	g.Connection.EndUser = &broker.EndUser{ID: "user", DisplayName: "a\x00b\xff"}
	g.Connection.Tags = map[string]string{"a\x00": "b\x00", "plan": "pro"}
	ok(t, d.PutGrant(t.Context(), g))
	c, err := d.Connection(t.Context(), "environment", "c")
	ok(t, err)
	if c.EndUser.DisplayName != "a\ufffdb\ufffd" || c.Tags["a\ufffd"] != "b\ufffd" || c.Tags["plan"] != "pro" {
		t.Errorf("it reads %q, %q", c.EndUser.DisplayName, c.Tags)
	}
	for _, f := range []broker.ConnectionFilter{{Tags: map[string]string{"plan": "pro"}}, {Search: "B\xff"}} {
		f.Environment = "environment"
		if n, err := d.MatchingConnections(t.Context(), f); err != nil || n != 1 {
			t.Errorf("%+v finds %d, %v", f, n, err)
		}
	}
	_, err = d.Ticket(t.Context(), "integration", "c\x00")
	refused(t, err, broker.ErrNotFound)
}

func TestForgottenChangesAreNotMissed(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 2)
	look := func() int64 {
		n, err := nodes[0].ForeignChanges(t.Context())
		ok(t, err)
		return n
	}
	before := look()
	ok(t, nodes[1].SaveEnvironment(t.Context(), &broker.Environment{ID: "environment", Name: "renamed"}, broker.Trail{}))
	ok(t, nodes[1].forgetChanges(t.Context(), time.Now().Add(time.Hour).UnixMicro()))
	nodes[0].seen.at -= lookChanges + 1 // it was asleep for as long
	if after := look(); after != before+1 {
		t.Errorf("it was %d and is %d", before, after)
	}
	var rows int
	ok(t, nodes[0].read(t.Context(), "count", func(c *conn) error { return c.row("SELECT count(*) FROM changes", nil, &rows) }))
	if rows != 0 {
		t.Errorf("%d rows are left", rows)
	}
	own := look()
	ok(t, nodes[0].SaveEnvironment(t.Context(), &broker.Environment{ID: "environment", Name: "again"}, broker.Trail{}))
	if after := look(); after != own {
		t.Errorf("an own write moved it from %d to %d", own, after)
	}
}

// A transaction that is numbered early and committed late is noticed all the same.
func TestALateCommitIsNoticed(t *testing.T) {
	t.Parallel()
	nodes := seeded(t, 2)
	look := func() int64 {
		n, err := nodes[0].ForeignChanges(t.Context())
		ok(t, err)
		return n
	}
	look()
	var during int64
	ok(t, nodes[1].change(t.Context(), "take long", func(tx *conn) error {
		if _, err := tx.exec("UPDATE environments SET name = 'late'"); err != nil {
			return err
		}
		ok(t, nodes[1].AddKey(t.Context(), broker.WrappedKey{ID: 1, Wrapped: []byte("quick")}))
		during = look()
		if again := look(); again != during {
			t.Errorf("it went from %d to %d, and nobody has committed", during, again)
		}
		return nil
	}))
	if after := look(); after != during+1 {
		t.Errorf("it was %d and is %d", during, after)
	}
}

// Whoever listens hears again after the connection was lost, and nothing is left behind in a pooler's sessions.
func TestListening(t *testing.T) {
	t.Parallel()
	o := Options{URL: migrated(t)}
	a, b := openTest(t, o), openTest(t, o)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	heard := make(chan struct{}, 100)
	go a.Listen(ctx, func() { heard <- struct{}{} })
	<-heard
	ok(t, b.write(t.Context(), "cut", func(tx *conn) error {
		_, err := tx.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'")
		return err
	}))
	<-heard // of what may have come meanwhile
	ok(t, b.write(t.Context(), "tell", func(tx *conn) error { return tx.tell() }))
	<-heard
	if !postgrestest.HasPooler() {
		t.Skip("no PgBouncer to listen behind: build/setup.sh installs it")
	}
	o.URL = postgrestest.Pooled(t, o.URL)
	openTest(t, o).Listen(t.Context(), func() { t.Error("it listens behind a pooler") }) // and comes back
}
