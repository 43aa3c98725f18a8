package postgres

import (
	"context"
	"sync"
)

// Rows of the table of changes are kept for a while, in which every node is to look; one that did not takes it for a
// change.
const (
	keepChanges  = int64(10 * 60 * 1e6) // microseconds
	lookChanges  = keepChanges / 2
	sweepChanges = keepChanges / 10
)

// seen is what this node has seen of the others' changes.
type seen struct {
	mu       sync.Mutex
	snapshot string // of the last look: which transactions had been committed; empty: there was none
	server   string // that gave it
	at       int64  // when, on the database's clock
	swept    int64
	attended int64 // when this node last let itself be heard of
	count    int64
}

// ForeignChanges implements [broker.Store]. Numbers that transactions take are in another order than their commits, and
// commits have none, so a node remembers which transactions it could see, and looks for rows of others that it could not.
// Of d's own writes there is none, unless their outcome is unknown, and of writes by others those count that concern what
// nodes keep in memory. A server that was restarted, or took another's place, counts too: it may number its transactions as
// ones that were seen and that it never had.
func (d *DB) ForeignChanges(ctx context.Context) (int64, error) {
	d.seen.mu.Lock()
	defer d.seen.mu.Unlock()
	s := &d.seen
	var snapshot, server string
	var at int64
	var changed bool
	err := d.read(ctx, "look for changes", func(c *conn) error {
		// A row of a transaction that is still to come is left from a database that this one was restored from.
		return c.row(`SELECT pg_current_snapshot()::text, extract(epoch FROM pg_postmaster_start_time())::text, `+statementTime+`,
			$1 <> '' AND EXISTS (SELECT 1 FROM changes
				WHERE xid >= pg_snapshot_xmin(nullif($1, '')::pg_snapshot) AND xid < pg_snapshot_xmax(pg_current_snapshot())
				AND NOT pg_visible_in_snapshot(xid, nullif($1, '')::pg_snapshot) AND node <> $2)`,
			[]any{s.snapshot, d.telling.Load().name}, &snapshot, &server, &at, &changed)
	})
	if err != nil {
		return 0, err
	}
	if gap := at - s.at; s.snapshot != "" && (changed || server != s.server || gap < 0 || gap > lookChanges) {
		s.count++
	}
	s.snapshot, s.server, s.at = snapshot, server, at
	if gap := at - s.attended; d.serves && (gap > attendEvery.Microseconds() || gap < 0) {
		if err := d.attend(ctx); err != nil {
			return 0, err
		}
		s.attended = at
	}
	if at-s.swept > sweepChanges || at < s.swept {
		s.swept = at
		return s.count + d.doubts.Load(), d.forgetChanges(ctx, at-keepChanges)
	}
	return s.count + d.doubts.Load(), nil
}

// forgetChanges removes rows that everybody has seen.
func (d *DB) forgetChanges(ctx context.Context, before int64) error {
	return d.write(ctx, "forget changes", func(tx *conn) error {
		_, err := tx.exec(`DELETE FROM changes WHERE xid = ANY(ARRAY(SELECT xid FROM changes WHERE at < $1 FOR UPDATE SKIP LOCKED))`, before)
		return err
	})
}
