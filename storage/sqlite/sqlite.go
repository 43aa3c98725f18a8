// Package sqlite keeps everything in one SQLite file.
//
// One goroutine writes, on one connection, and takes whatever has queued up into one transaction: a commit waits for the
// disk, so 64 writers that share one are several times as fast as 64 that wait for each other, at full durability. One
// that fails does not fail the others. Four connections read beside it and never wait for the writer.
//
// Statements run on a context that never ends. A write that has begun is not interrupted, because its outcome would be
// unknown; a read is not either, because a cancelled query must never hand out another query's row. A caller's context
// counts as long as its request waits.
//
// The package decides nothing and opens no seal. It refuses what its constraints refuse, in the codes of [broker.Store].
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	_ "modernc.org/sqlite" // the driver

	"github.com/coatcheck/coatcheck/broker"
)

// FileName is the database's name in its directory. SQLite puts -wal and -shm files beside it.
const FileName = "coatcheck.db"

// lockName is the file whose lock the one server of a directory holds.
const lockName = "coatcheck.lock"

// Sizes of the reading side: more connections only make the slowest reads slower, and lists, which can be long, never
// take all of them from the single rows that requests wait for.
const (
	readerCount = 4
	listerCount = 2
)

// pageSize in bytes. Two rows with a token of 1.5 kB do not fill a page of 4 KiB, five nearly fill one of 8 KiB.
const pageSize = 8192

// Options say how to open a database.
type Options struct {
	Dir string // made with mode 0700 if it is not there
	// Exclusive takes the directory's lock and holds it until Close: a server does, commands beside it do not.
	Exclusive bool
	// Now is the store's clock, on which leases run; nil: the system's.
	Now func() time.Time
	// Verify is handed the keyring of a database that has one, before anything is written to it. Its error ends Open, and
	// leaves the database as it was. nil: every keyring will do.
	Verify func([]broker.WrappedKey) error
}

// DB is a broker.Store on a SQLite file. It is safe for concurrent use.
type DB struct {
	dir       string
	exclusive bool
	clock     func() time.Time
	openedAt  time.Time
	lock      *flock.Flock
	writer    *writer
	readers   *pool
	homes     sync.Map // broker.IntegrationID -> *home
}

var _ broker.Store = (*DB)(nil)

// Open opens the database in o.Dir, makes it if it is not there, and brings its schema up to date. The errors of a start
// that must not go on are [ErrInUse], [ErrTooNew] and [ErrTooOld].
func Open(ctx context.Context, o Options) (*DB, error) {
	return open(ctx, o, embedded)
}

func open(ctx context.Context, o Options, migrations fs.FS) (_ *DB, err error) {
	d := &DB{dir: o.Dir, exclusive: o.Exclusive, clock: o.Now, lock: flock.New(filepath.Join(o.Dir, lockName), flock.SetPermissions(0o600))}
	if d.clock == nil {
		d.clock = time.Now
	}
	d.openedAt = d.now()
	defer func() {
		if err != nil {
			_ = d.lock.Close()
		}
	}()
	if err := d.prepareFiles(); err != nil {
		return nil, err
	}
	forever := context.WithoutCancel(ctx)
	if o.Verify != nil {
		if err := d.verify(forever, o.Verify, migrations); err != nil {
			return nil, err
		}
	}
	writing, err := openPool(dsn(d.Path(), false), 1)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = writing.Close()
		}
	}()
	if err := check(forever, writing); err != nil {
		return nil, err
	}
	if err := d.migrate(ctx, writing, migrations); err != nil {
		return nil, err
	}
	reading, err := openPool(dsn(d.Path(), true), readerCount)
	if err != nil {
		return nil, err
	}
	d.readers = newPool(forever, reading)
	d.writer = startWriter(forever, writing)
	return d, nil
}

// openPool opens nothing yet, but n connections when they are needed.
func openPool(dsn string, n int) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// Path is where the database is.
func (d *DB) Path() string { return filepath.Join(d.dir, FileName) }

// prepareFiles makes what is not there, for nobody else to read, and takes the lock if it is wanted. A database that is
// there is not opened here: closing any handle of a file drops all of SQLite's locks on it in this process.
func (d *DB) prepareFiles() error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if d.exclusive {
		got, err := d.lock.TryLock()
		if err != nil {
			return fmt.Errorf("lock data directory: %w", err)
		}
		if !got {
			return ErrInUse
		}
	}
	f, err := os.OpenFile(d.Path(), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make database: %w", err)
	}
	return f.Close()
}

// dsn names the file and what every connection to it must set. The driver runs busy_timeout first, then the others by
// name, then the journal mode, which has to come after the page size.
func dsn(path string, readOnly bool) string {
	q := url.Values{
		"_pragma": {
			"busy_timeout(5000)", // a command waits for the server, and the server for the command
			"cache_size(-8192)",  // KiB; any commit drops the readers' caches, so more would not help
			"foreign_keys(1)",
			"mmap_size(0)", // a mapping is thrown away with every commit of another connection
			"page_size(" + strconv.Itoa(pageSize) + ")",
			"recursive_triggers(1)", // so that REPLACE cannot get around the triggers that keep the trail
			"secure_delete(1)",      // what is deleted is overwritten
			"synchronous(FULL)",     // a renewed token that a power cut takes back is a dead connection
			"temp_store(MEMORY)",    // savepoints and sorts leave nothing in files elsewhere
			"trusted_schema(0)",
		},
		"_journal_mode": {"WAL"},
		"_txlock":       {"immediate"},
	}
	if readOnly {
		q.Set("_query_only", "1")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// oldestSQLite is the first without a flaw by which a checkpoint beside a write could damage the file.
var oldestSQLite = [3]int{3, 51, 3}

// check makes sure of what everything else relies on.
func check(ctx context.Context, db *sql.DB) error {
	var version, journal string
	var synchronous int
	err := db.QueryRowContext(ctx, "SELECT sqlite_version(), journal_mode, synchronous FROM pragma_journal_mode, pragma_synchronous").
		Scan(&version, &journal, &synchronous)
	if err != nil {
		return interpret("open database", err)
	}
	if !atLeast(version, oldestSQLite) {
		return fmt.Errorf("%w: it is %s", ErrTooOld, version)
	}
	if journal != "wal" || synchronous != 2 {
		return fmt.Errorf("the file system does not let the database be durable: journal mode %s, synchronous %d", journal, synchronous)
	}
	return nil
}

// atLeast reports whether a version like 3.51.3 is the one wanted or a later one.
func atLeast(version string, want [3]int) bool {
	parts := strings.SplitN(version, ".", 3)
	for i, w := range want {
		if i >= len(parts) {
			return false
		}
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return false
		}
		if n != w {
			return n > w
		}
	}
	return true
}

// Close lets writes that wait finish, moves the log into the file and gives up the lock.
func (d *DB) Close() error {
	d.readers.close()
	err := d.writer.close()
	return errors.Join(err, d.lock.Close())
}

// Ping reports whether the store can be read.
func (d *DB) Ping(ctx context.Context) error {
	return d.read(ctx, "ping", func(c *conn) error {
		_, err := c.exists("SELECT 1 FROM environments")
		return err
	})
}

// ForeignChanges is a number that rises when another process has written. It does not rise with writes of d.
func (d *DB) ForeignChanges(ctx context.Context) (int64, error) {
	var n int64
	err := d.writer.submit(ctx, &request{beside: func(w *writer) (err error) {
		n, err = w.foreignChanges()
		return err
	}})
	return n, interpret("look for changes", err)
}

// now is the store's time, as precise as it is kept.
func (d *DB) now() time.Time { return d.clock().UTC().Truncate(time.Microsecond) }

// read runs f on a reading connection. Statements see one state of the database each.
func (d *DB) read(ctx context.Context, doing string, f func(*conn) error) error {
	c, err := d.readers.take(ctx)
	if err != nil {
		return interpret(doing, err)
	}
	defer d.readers.put(c)
	return interpret(doing, f(c))
}

// list is read for what may take long.
func (d *DB) list(ctx context.Context, doing string, f func(*conn) error) error {
	select {
	case d.readers.listing <- struct{}{}:
		defer func() { <-d.readers.listing }()
	case <-ctx.Done():
		return interpret(doing, ctx.Err())
	}
	return d.read(ctx, doing, f)
}

// write runs f in a transaction and returns when it has been committed, or when nothing of it has been. It runs on
// another goroutine, not at all if ctx ends before its turn, and perhaps twice, of which the last time counts: what it
// tells its caller it sets anew each time.
func (d *DB) write(ctx context.Context, doing string, f func(tx *conn) error) error {
	return interpret(doing, d.writer.submit(ctx, &request{do: f}))
}
