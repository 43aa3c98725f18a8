package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coatcheck/coatcheck/broker"
)

// lockName is the file whose lock the one server of a data directory holds.
const lockName = "coatcheck.lock"

// oldest is the oldest PostgreSQL that is still maintained, as server_version_num has it.
const oldest = 140000

// Options say how to open a database.
type Options struct {
	// URL is the database's address, postgres://user@host:5432/name. Besides PostgreSQL's own parameters it takes those of
	// the driver's pool, such as pool_max_conns (16 unless it says otherwise). connect_timeout is 5 seconds and
	// statement_timeout 10 unless it says otherwise; the latter is set for each transaction, not for the session.
	URL string
	Dir string // the data directory, made with mode 0700 if it is not there; empty: none
	// Exclusive takes the data directory's lock and holds it until Close: what a server spills is in there. It keeps no
	// other node from the database.
	Exclusive bool
	// Now is a clock in place of the database's, for tests; nil: leases run on the database's.
	Now func() time.Time
	// Verify is handed the keyring of a database that has one, before anything is written to it. Its error ends Open, and
	// leaves the database as it was. nil: every keyring will do.
	Verify func([]broker.WrappedKey) error
}

// DB is a broker.Store on a PostgreSQL database. It is safe for concurrent use, and so is the database by several.
type DB struct {
	pool    *pgxpool.Pool
	lock    *flock.Flock // nil: there is no data directory
	clock   func() time.Time
	node    string        // names this handle in the table of changes
	serves  bool          // it is a node, and no command
	limit   time.Duration // of a statement
	patient time.Duration // how long to wait for a connection
	writing pgx.TxOptions
	reading pgx.TxOptions
	telling atomic.Pointer[telling]
	doubts  atomic.Int64  // commits of which it is not known whether they happened
	lists   chan struct{} // holds one for each list under way
	lostAt  atomic.Int64  // when a connection was found broken, in nanoseconds since 1970
	closed  atomic.Bool
	once    sync.Once
	seen    seen
}

var _ broker.Store = (*DB)(nil)

// Open connects to the database and brings its schema up to date; of several that do so at once one does the work. The
// errors of a start that must not go on are [ErrInUse], [ErrTooNew], [ErrTooOld] and [ErrUnsuitable].
func Open(ctx context.Context, o Options) (*DB, error) {
	return open(ctx, o, embedded)
}

func open(ctx context.Context, o Options, migrations fs.FS) (_ *DB, err error) {
	s, err := parse(o.URL)
	if err != nil {
		return nil, err
	}
	d := &DB{
		clock: o.Now, node: uuid.NewString(), serves: o.Exclusive,
		limit: s.statement, patient: s.statement + s.pool.ConnConfig.ConnectTimeout,
	}
	defer func() { //nolint:contextcheck // whoever opened it may have left
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := d.prepareDir(o.Dir, o.Exclusive); err != nil {
		return nil, err
	}
	d.begin()
	d.lists = make(chan struct{}, max(1, s.pool.MaxConns/2))
	s.pool.ShouldPing, s.pool.PingTimeout = d.doubtful, s.pool.ConnConfig.ConnectTimeout
	// The pool's own work goes on when whoever opened it has left.
	if d.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), s.pool); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	if o.Verify != nil {
		if err := d.verify(ctx, o.Verify, migrations); err != nil {
			return nil, err
		}
	}
	if err := d.migrate(ctx, migrations); err != nil {
		return nil, err
	}
	return d, nil
}

// prepareDir makes the data directory, for nobody else to read, and takes its lock if it is wanted.
func (d *DB) prepareDir(dir string, exclusive bool) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if !exclusive {
		return nil
	}
	d.lock = flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	got, err := d.lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock data directory: %w", err)
	}
	if !got {
		return ErrInUse
	}
	return nil
}

// check makes sure of what everything else relies on.
func (d *DB) check(ctx context.Context) error {
	var version int
	var encoding, durable string
	err := d.read(ctx, "open database", func(c *conn) error {
		return c.row(`SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
			current_setting('synchronous_commit')`, nil, &version, &encoding, &durable)
	})
	switch {
	case err != nil:
		return err
	case version < oldest:
		return fmt.Errorf("%w: it is %d.%d", ErrTooOld, version/10000, version%10000)
	case encoding != "UTF8":
		return fmt.Errorf("%w: the database's encoding is %s and must be UTF8", ErrUnsuitable, encoding)
	case durable == "off": // a renewed token that a power cut takes back is a dead connection
		return fmt.Errorf("%w: synchronous_commit is off for this user or database and must be on", ErrUnsuitable)
	}
	return nil
}

// Close waits for what is under way, closes all connections and gives up the lock.
func (d *DB) Close() (err error) {
	d.once.Do(func() {
		if d.seen.attended != 0 {
			_ = d.depart(context.Background()) // or it counts as serving for half a minute
		}
		d.closed.Store(true)
		if d.pool != nil {
			d.pool.Close()
		}
		if d.lock != nil {
			err = d.lock.Close()
		}
	})
	return err
}

// doubtful reports whether a connection is to be tried before it is used: it has not been for a while, or not since another
// one was found broken, as all of them are when the server was restarted.
func (d *DB) doubtful(_ context.Context, p pgxpool.ShouldPingParams) bool {
	return p.IdleDuration > idleTrust || time.Now().Add(-p.IdleDuration).UnixNano() <= d.lostAt.Load()
}

// idleTrust is how long a connection that is not used is taken for whole.
const idleTrust = time.Second

// Ping reports whether the store can be read.
func (d *DB) Ping(ctx context.Context) error {
	return d.read(ctx, "ping", func(c *conn) error {
		_, err := c.exists("SELECT 1 FROM environments LIMIT 1")
		return err
	})
}

// stamp is the time of the clock that stands in for the database's; NULL where there is none.
func (d *DB) stamp() any {
	if d.clock == nil {
		return nil
	}
	return d.clock().UTC().UnixMicro()
}

// The database's time in microseconds: as of the statement's beginning, and as of the very moment, which is later if the
// statement had to wait for a row.
const (
	statementTime = "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint"
	momentTime    = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
)
