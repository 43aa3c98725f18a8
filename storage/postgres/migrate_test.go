package postgres

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/postgres/postgrestest"
)

// later is the migrations of a later version of the program.
func later(t *testing.T, statement string) fs.FS {
	t.Helper()
	first, err := fs.ReadFile(embedded, "00001_init.sql")
	ok(t, err)
	return fstest.MapFS{
		"00001_init.sql":  {Data: first},
		"00002_later.sql": {Data: []byte("-- +goose Up\n" + statement)},
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	address := postgrestest.New(t)
	newer, err := open(t.Context(), Options{URL: address}, later(t, "CREATE TABLE later (id BIGINT);"))
	ok(t, err)
	ok(t, newer.Close())
	_, err = Open(t.Context(), Options{URL: address})
	if !errors.Is(err, ErrTooNew) || !strings.HasPrefix(err.Error(), "schema_too_new") {
		t.Fatalf("an older program opens a newer schema: %v", err)
	}
}

func TestAFailedMigrationChangesNothing(t *testing.T) {
	t.Parallel()
	address := migrated(t)
	if _, err := open(t.Context(), Options{URL: address}, later(t, "DROP TABLE credentials; DROP TABLE unknown;")); err == nil {
		t.Fatal("it succeeded")
	}
	d := openTest(t, Options{URL: address})
	_, err := d.Credential(t.Context(), "unknown")
	refused(t, err, broker.ErrNotFound)
}

func TestMigrationsAreNumbered(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"first.sql", "00002_first.sql"} {
		if _, err := readMigrations(fstest.MapFS{name: {}}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAWrongKeyLeavesTheDatabaseAlone(t *testing.T) {
	t.Parallel()
	wrong := errors.New("the wrong key")
	verify := func([]broker.WrappedKey) error { return wrong }
	address := postgrestest.New(t)
	d, err := Open(t.Context(), Options{URL: address, Verify: verify}) // it has none yet
	ok(t, err)
	ok(t, d.AddKey(t.Context(), broker.WrappedKey{ID: 1, Wrapped: []byte("wrapped"), Active: true}))
	ok(t, d.Close())
	_, err = open(t.Context(), Options{URL: address, Verify: verify}, later(t, "DROP TABLE credentials;"))
	if !errors.Is(err, wrong) {
		t.Fatalf("got %v", err)
	}
	d = openTest(t, Options{URL: address})
	_, err = d.Credential(t.Context(), "unknown")
	refused(t, err, broker.ErrNotFound)
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	s, err := parse("postgresql://user@db.internal/name?statement_timeout=1500&pool_max_conns=3&connect_timeout=2&sslmode=disable")
	ok(t, err)
	if s.statement.Milliseconds() != 1500 || s.pool.MaxConns != 3 || s.pool.ConnConfig.ConnectTimeout.Seconds() != 2 {
		t.Errorf("it reads %+v", s)
	}
	if _, sent := s.pool.ConnConfig.RuntimeParams["statement_timeout"]; sent {
		t.Error("a session's parameter is sent, which a pooler refuses")
	}
	s, err = parse("postgres://user@db.internal/name")
	ok(t, err)
	if s.statement != defaultStatementTimeout || s.pool.MaxConns != defaultMaxConns || s.pool.ConnConfig.ConnectTimeout != defaultConnectTimeout {
		t.Errorf("the defaults are %+v", s)
	}
	for _, address := range []string{
		"", "sqlite", "mysql://user:canary@host/x", "postgres://user:canary@host:port/x", "postgres://user:can%zzary@host/canary", "host=x password=canary",
		"postgres://user:canary@host/x?sslmode=unknown", "postgres://user:canary@host/x?statement_timeout=soon", "postgres://host/x?statement_timeout=0",
		"postgres://user@host/x?password=canary&pool_max_conns=none",
	} {
		if _, err := parse(address); err == nil || strings.Contains(err.Error(), "canary") || !strings.HasPrefix(err.Error(), "database: ") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// Who has waited for another node's migration finds it done: a session that looked for the tables before must not remember
// that there were none.
func TestAMigrationOfAnotherNodeIsSeen(t *testing.T) {
	t.Parallel()
	address := postgrestest.New(t)
	d, err := open(t.Context(), Options{URL: address + "&pool_max_conns=1"}, fstest.MapFS{}) // looks, in its only session
	ok(t, err)
	t.Cleanup(func() { ok(t, d.Close()) })
	small := fstest.MapFS{"00001_init.sql": {Data: []byte("CREATE TABLE one (id BIGINT);")}} // a large one makes all sessions forget everything
	migrations, err := readMigrations(small)
	ok(t, err)
	other, err := pgx.Connect(t.Context(), address)
	ok(t, err)
	defer func() { _ = other.Close(context.Background()) }()
	tx, err := other.Begin(t.Context())
	ok(t, err)
	_, err = tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock($1::int, 0)", lockSchema)
	ok(t, err)
	done := make(chan error, 1)
	go func() { done <- d.migrate(t.Context(), small) }()
	for waits := false; !waits; {
		ok(t, tx.QueryRow(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "+
			"AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))").Scan(&waits))
	}
	for _, m := range migrations {
		ok(t, apply(t.Context(), tx, m))
	}
	ok(t, tx.Commit(t.Context()))
	ok(t, <-done)
}
