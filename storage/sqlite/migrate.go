package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// embedded is the migrations of this version.
var embedded, _ = fs.Sub(migrationFiles, "migrations")

// How long to wait for another process that migrates, and how often to look.
const (
	migrationPatience = 10 * time.Second
	migrationLook     = 50 * time.Millisecond
)

// migrate brings the schema up to date. A start with nothing to do costs one small query: the migrations' library is not
// asked. Otherwise the directory's lock is needed, so that nobody changes the schema under a running server, and no two
// processes change it at once.
func (d *DB) migrate(ctx context.Context, db *sql.DB, migrations fs.FS) error {
	latest, err := latestVersion(migrations)
	if err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, migrationPatience)
	defer cancel()
	ctx = context.WithoutCancel(ctx) // it ends the waiting, not the work
	for {
		current, err := schemaVersion(ctx, db)
		if err != nil {
			return interpret("read schema version", err)
		}
		if current > latest {
			return tooNew(current, latest)
		}
		if current == latest {
			return nil
		}
		mine, err := d.lockToMigrate()
		if err != nil {
			return err
		}
		if mine {
			return d.migrateLocked(ctx, db, migrations)
		}
		select {
		case <-time.After(migrationLook):
		case <-patience.Done():
			return fmt.Errorf("%w, and its schema has to be migrated", ErrInUse)
		}
	}
}

// lockToMigrate reports whether the lock is held, which a server already does.
func (d *DB) lockToMigrate() (bool, error) {
	if d.exclusive {
		return true, nil
	}
	got, err := d.lock.TryLock()
	if err != nil {
		return false, fmt.Errorf("lock data directory: %w", err)
	}
	return got, nil
}

// migrateLocked does what is still to do: another may have done it before the lock was free.
func (d *DB) migrateLocked(ctx context.Context, db *sql.DB, migrations fs.FS) (err error) {
	if !d.exclusive {
		defer func() { err = errors.Join(err, d.lock.Unlock()) }()
	}
	current, err := schemaVersion(ctx, db)
	if err != nil {
		return interpret("read schema version", err)
	}
	if current > 0 {
		if err := d.backUp(ctx, db, current); err != nil {
			return interpret("back up before migrating", err)
		}
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, migrations, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return interpret("migrate database", err)
	}
	return nil
}

func tooNew(current, latest int64) error {
	return fmt.Errorf("%w: it has schema %d, this one knows %d", ErrTooNew, current, latest)
}

// latestVersion is the highest version among the migrations.
func latestVersion(migrations fs.FS) (int64, error) {
	names, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return 0, fmt.Errorf("list migrations: %w", err)
	}
	var latest int64
	for _, name := range names {
		v, err := goose.NumericComponent(name)
		if err != nil {
			return 0, fmt.Errorf("migration %s: %w", name, err)
		}
		latest = max(latest, v)
	}
	return latest, nil
}

// rower is a database or one connection to it.
type rower interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// schemaVersion is the version that the database has; zero: it is empty.
func schemaVersion(ctx context.Context, db rower) (int64, error) {
	var kept bool
	err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = ?", goose.DefaultTablename).Scan(&kept)
	if err != nil || !kept {
		return 0, err
	}
	var v int64
	err = db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&v)
	return v, err
}

// backUp writes a copy of the database as it is, readable by nobody else, and has it on the disk when it returns. One of
// an earlier attempt is replaced: it holds no more than this one.
func (d *DB) backUp(ctx context.Context, db *sql.DB, version int64) error {
	path := fmt.Sprintf("%s.bak-%d", d.Path(), version)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}
