package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How often a transaction is begun again that is known to have come to nothing through no fault of its own, and how long
// the first pause before that is at most; each next one may be twice as long.
const (
	maxAttempts = 8
	firstPause  = 10 * time.Millisecond
)

// grace is what the network may add to a statement's time limit.
const grace = 5 * time.Second

// maxStatements is how many statements, each as long as it may be, fit into a transaction's time limit.
const maxStatements = 3

// begin prepares the beginnings and ends of transactions. Limits are set for one transaction, because behind a pooler the
// next may be in another session.
func (d *DB) begin() {
	limits := fmt.Sprintf("; SET LOCAL statement_timeout = %d; SET LOCAL idle_in_transaction_session_timeout = %d",
		d.limit.Milliseconds(), (d.limit + grace).Milliseconds())
	d.writing = pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED" + limits}
	d.reading = pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY" + limits}
	d.telling.Store(d.tellAs(d.node))
}

// telling is writing that the other nodes are told of.
type telling struct {
	name    string // of whoever tells
	options pgx.TxOptions
}

func (d *DB) tellAs(name string) *telling {
	t := &telling{name, d.writing}
	t.options.CommitQuery = "INSERT INTO changes (xid, node, at) VALUES (pg_current_xact_id(), '" + name + "', " + statementTime + "); NOTIFY " + newsChannel + ", '" + d.node + "'; COMMIT"
	return t
}

// doubt makes what this node has told until now somebody else's: whoever wrote it was told of a failure, and may find out by
// [DB.ForeignChanges] alone that it was committed, or still is while the server works on what a connection left behind.
func (d *DB) doubt() {
	d.telling.Store(d.tellAs(uuid.NewString()))
	d.doubts.Add(1)
}

// read runs f on a connection, outside of a transaction. Statements see one state of the database each.
func (d *DB) read(ctx context.Context, doing string, f func(*conn) error) error {
	return d.repeat(ctx, doing, func(ctx context.Context, c *pgxpool.Conn) error {
		return f(&conn{ctx: ctx, on: c, node: d.node})
	})
}

// list is read for what may take long: the server ends it in time, and not all connections are taken by such.
func (d *DB) list(ctx context.Context, doing string, f func(*conn) error) error {
	select {
	case d.lists <- struct{}{}:
		defer func() { <-d.lists }()
	case <-ctx.Done():
		return interpret(doing, ctx.Err())
	}
	return d.transact(ctx, doing, d.reading, f)
}

// write runs f in a transaction and returns when it has been committed, or when nothing of it has been. f may run more
// than once, of which the last time counts: what it tells its caller it sets anew each time.
func (d *DB) write(ctx context.Context, doing string, f func(tx *conn) error) error {
	return d.transact(ctx, doing, d.writing, f)
}

// change is write for what other nodes keep in memory.
func (d *DB) change(ctx context.Context, doing string, f func(tx *conn) error) error {
	return d.transact(ctx, doing, d.telling.Load().options, f)
}

func (d *DB) transact(ctx context.Context, doing string, o pgx.TxOptions, f func(tx *conn) error) error {
	return d.repeat(ctx, doing, func(ctx context.Context, c *pgxpool.Conn) (err error) {
		tx, err := c.BeginTx(ctx, o)
		if err != nil {
			return err
		}
		// After a commit it does nothing; if it fails, the connection is closed, and the server undoes the rest.
		defer func() { _ = tx.Rollback(ctx) }()
		if err := f(&conn{ctx: ctx, on: tx, node: d.node}); err != nil {
			return err
		}
		if err = outcome(tx.Commit(ctx)); errors.As(err, new(doubtError)) {
			d.doubt()
		}
		return err
	})
}

// outcome sorts the errors of a commit: after those of the server's that leave the session alive nothing was committed.
func outcome(err error) error {
	if err == nil || errors.Is(err, pgx.ErrTxCommitRollback) || isServer(err) && !fatal(err) {
		return err
	}
	return doubtError{err}
}

// repeat runs f on a connection, again if that is worth it. It waits for a connection as long as ctx lasts, or for some
// time; what f then does is not interrupted by ctx's end, because its outcome would be unknown.
func (d *DB) repeat(ctx context.Context, doing string, f func(context.Context, *pgxpool.Conn) error) error {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		err := d.attempt(ctx, f)
		if err == nil || !worthwhile(err, attempt) {
			return interpret(doing, err)
		}
		select {
		case <-time.After(rand.N(pause)): //nolint:gosec // so that two do not meet again; nothing to guess
			pause *= 2
		case <-ctx.Done():
			return interpret(doing, err)
		}
	}
}

// worthwhile reports whether what failed is known to have changed nothing, and may succeed now: two stood in each other's
// way, or the connection had been broken before, as all are when a server was restarted or another took its place.
func worthwhile(err error, attempt int) bool {
	switch {
	case errors.As(err, new(doubtError)):
		return false
	case isCondition(err, serializationFailure, deadlockDetected):
		return attempt < maxAttempts
	}
	return errors.As(err, new(lostError)) && attempt == 1
}

// attempt runs f once.
func (d *DB) attempt(ctx context.Context, f func(context.Context, *pgxpool.Conn) error) (err error) {
	if d.closed.Load() {
		return errClosed
	}
	waiting, stopWaiting := context.WithTimeout(ctx, d.patient)
	defer stopWaiting()
	c, err := d.pool.Acquire(waiting)
	if err != nil {
		if d.closed.Load() {
			return errClosed
		}
		return err
	}
	defer c.Release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxStatements*d.limit+grace)
	defer cancel()
	err = f(ctx, c)
	if fatal(err) || err != nil && !isServer(err) && c.Conn().IsClosed() {
		_ = c.Conn().Close(ctx)
		d.lostAt.Store(time.Now().UnixNano())
		return lostError{err}
	}
	return err
}
