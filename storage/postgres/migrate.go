package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// embedded is the migrations of this version.
var embedded, _ = fs.Sub(migrationFiles, "migrations")

// migration is a file with its number. PostgreSQL takes a file as it is: comments in it mean nothing.
type migration struct {
	version int64
	name    string
	script  string
}

// readMigrations reads all, in their order.
func readMigrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "*.sql") // sorted
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	out := make([]migration, len(names))
	for i, name := range names {
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil || version != int64(i)+1 {
			return nil, fmt.Errorf("migration %s: its number should be %d", name, i+1)
		}
		script, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		out[i] = migration{version, name, string(script)}
	}
	return out, nil
}

// migrate brings the schema up to date. A start with nothing to do costs one small query. Otherwise each migration is a
// transaction under a lock: of several nodes that start at once one does it, and the others find it done.
func (d *DB) migrate(ctx context.Context, files fs.FS) error {
	migrations, err := readMigrations(files)
	if err != nil {
		return err
	}
	current, err := d.version(ctx, migrations)
	if err != nil {
		return err
	}
	for current < int64(len(migrations)) {
		if current, err = d.migrateNext(ctx, migrations); err != nil {
			return err
		}
	}
	return nil
}

// version is the schema's version, which must not be newer than the newest migration.
func (d *DB) version(ctx context.Context, migrations []migration) (current int64, err error) {
	err = d.read(ctx, "read schema version", func(c *conn) error {
		current, err = schemaVersion(c)
		return err
	})
	if err != nil {
		return 0, err
	}
	if latest := int64(len(migrations)); current > latest {
		return 0, tooNew(current, latest)
	}
	return current, nil
}

func tooNew(current, latest int64) error {
	return fmt.Errorf("%w: it has schema %d, this one knows %d", ErrTooNew, current, latest)
}

// schemaVersion is the version that the database has; zero: it is empty.
func schemaVersion(c *conn) (v int64, err error) {
	// Reading a table has the session take notice of what others have made; asking for a name alone does not, and then it
	// may go on believing, after it has waited for another node's migration, that there is no such table.
	kept, err := c.exists("SELECT 1 FROM pg_class WHERE oid = to_regclass('migrations')")
	if err != nil || !kept {
		return 0, err
	}
	err = c.row("SELECT coalesce(max(version), 0) FROM migrations", nil, &v)
	return v, err
}

// migrateNext applies the migration after the one that is in force when the lock is had, and gives its version. It takes as long
// as it takes, and ends with ctx: nothing of it is done then.
func (d *DB) migrateNext(ctx context.Context, migrations []migration) (int64, error) {
	var current int64
	err := d.repeat(ctx, "migrate database", func(_ context.Context, c *pgxpool.Conn) error {
		tx, err := c.BeginTx(ctx, pgx.TxOptions{
			BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0",
		})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
		db := &conn{ctx: ctx, on: tx}
		if err := db.lock(lockSchema, 0); err != nil {
			return err
		}
		if current, err = schemaVersion(db); err != nil || current >= int64(len(migrations)) {
			return err
		}
		m := migrations[current]
		if err := apply(ctx, tx, m); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		current = m.version
		return outcome(tx.Commit(ctx))
	})
	if err == nil && current > int64(len(migrations)) {
		return 0, tooNew(current, int64(len(migrations)))
	}
	return current, err
}

// apply runs a migration's statements and notes that they were run.
func apply(ctx context.Context, tx pgx.Tx, m migration) error {
	if _, err := tx.Exec(ctx, m.script); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL, at BIGINT NOT NULL)")
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO migrations (version, name, at) VALUES ($1, $2, "+statementTime+")", m.version, m.name)
	return err
}
