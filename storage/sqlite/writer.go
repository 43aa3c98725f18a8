package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// maxBatch is how many requests share a commit. The disk's sync stays the larger part of its cost up to there.
const maxBatch = 256

// request is a change that waits for its turn, or something to do on the writing connection between transactions.
type request struct {
	do     func(tx *conn) error
	beside func(w *writer) error
	turn   atomic.Int32 // waiting, begun or abandoned
	err    error        // the outcome, when done is closed
	done   chan struct{}
}

const (
	waiting int32 = iota
	begun
	abandoned
)

// writer is the one goroutine that writes, and its connection.
type writer struct {
	forever context.Context
	db      *sql.DB
	queue   chan *request
	ended   chan struct{}

	mu     sync.RWMutex // held to read while a request is put into the queue, to write while the queue is closed
	closed bool

	conn    *conn // nil: to be opened
	version int64 // data_version as it was last seen
	foreign int64 // how often it was another

	commits, writes atomic.Uint64
}

func startWriter(forever context.Context, db *sql.DB) *writer {
	w := &writer{forever: forever, db: db, queue: make(chan *request, maxBatch), ended: make(chan struct{})}
	go w.run()
	return w
}

// submit queues r and waits for its outcome. When ctx ends before r has begun, r never begins.
func (w *writer) submit(ctx context.Context, r *request) error {
	r.done = make(chan struct{})
	if err := w.enqueue(ctx, r); err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	if r.turn.CompareAndSwap(waiting, abandoned) {
		return ctx.Err()
	}
	<-r.done
	return r.err
}

func (w *writer) enqueue(ctx context.Context, r *request) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case w.queue <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close lets what is queued finish, then moves the log into the database file and closes the connection. The file is
// whole without that move, so its failure is not one of the writes'.
func (w *writer) close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	close(w.queue)
	w.mu.Unlock()
	<-w.ended
	if w.conn != nil {
		_ = w.conn.row("PRAGMA wal_checkpoint(TRUNCATE)", nil, new(int), new(int), new(int))
		w.conn.close()
	}
	return interpret("close database", w.db.Close())
}

// run takes whatever has queued up, again and again. It never waits for more: while one batch waits for the disk, the
// next one gathers.
func (w *writer) run() {
	defer close(w.ended)
	batch := make([]*request, 0, maxBatch)
	for first := range w.queue {
		batch = w.gather(append(batch[:0], first))
		w.serve(batch)
		clear(batch)
	}
}

// gather adds what is in the queue.
func (w *writer) gather(batch []*request) []*request {
	for len(batch) < maxBatch {
		select {
		case r, ok := <-w.queue:
			if !ok {
				return batch
			}
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// serve gives every request of the batch that has not been abandoned its outcome.
func (w *writer) serve(batch []*request) {
	writes := batch[:0]
	for _, r := range batch {
		switch {
		case !r.turn.CompareAndSwap(waiting, begun):
		case r.beside != nil:
			if r.err = w.connect(); r.err == nil {
				r.err = r.beside(w)
			}
			close(r.done)
		default:
			writes = append(writes, r)
		}
	}
	if len(writes) == 0 {
		return
	}
	if err := w.commit(writes); err != nil {
		for _, r := range writes {
			r.err = err
		}
	}
	for _, r := range writes {
		close(r.done)
	}
}

// commit runs the requests in one transaction. An error is all of theirs, and nothing was written; a request's own is in
// its err. Few requests fail, so at first they run without savepoints, which would copy every page that each of them
// changes. When one fails, all that was done is undone, and they run again, each in a savepoint of its own.
func (w *writer) commit(batch []*request) error {
	err := w.transact(batch, w.attempt)
	if !errors.Is(err, errRefused) {
		return err
	}
	if len(batch) == 1 {
		return nil
	}
	return w.transact(batch, w.attemptEach)
}

// errRefused says that one of the requests has failed, and that the others can be tried again without it.
var errRefused = errors.New("a request was refused")

// transact runs attempt in a transaction and commits it.
func (w *writer) transact(batch []*request, attempt func([]*request) error) error {
	if err := w.connect(); err != nil {
		return err
	}
	if _, err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
		if !isBusy(err) { // perhaps an earlier transaction is still open
			w.drop()
		}
		return err
	}
	if err := attempt(batch); err != nil {
		w.undo()
		return err
	}
	if _, err := w.conn.exec("COMMIT"); err != nil {
		w.undo()
		return err
	}
	w.commits.Add(1)
	w.writes.Add(uint64(len(batch)))
	return nil
}

// attempt runs the requests until one fails.
func (w *writer) attempt(batch []*request) error {
	for _, r := range batch {
		if r.err = w.guard(r.do); r.err != nil {
			return errRefused
		}
	}
	return nil
}

// attemptEach runs every request in a savepoint. What fails is undone alone. The error that ends the whole transaction
// is that SQLite has undone it, or that its state is not known.
func (w *writer) attemptEach(batch []*request) error {
	for _, r := range batch {
		if _, err := w.conn.exec("SAVEPOINT request"); err != nil {
			return err
		}
		if r.err = w.guard(r.do); w.conn.broken {
			return r.err
		}
		if r.err != nil {
			if _, err := w.conn.exec("ROLLBACK TO request"); err != nil {
				return cmp.Or(driverError(r.err), err)
			}
		}
		if _, err := w.conn.exec("RELEASE request"); err != nil {
			return err
		}
	}
	return nil
}

// guard runs f. A panic in it fails the request, not the process: nobody else would write any more.
func (w *writer) guard(f func(tx *conn) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a write: %v\n%s", p, debug.Stack())
		}
	}()
	return f(w.conn)
}

// undo leaves the transaction, if SQLite has not done so.
func (w *writer) undo() {
	if w.conn.broken {
		w.drop()
		return
	}
	_, _ = w.conn.exec("ROLLBACK") // should it stay open, the next transaction cannot begin, and drops the connection
}

// drop closes the connection; the next transaction opens another.
func (w *writer) drop() {
	w.conn.close()
	w.conn, w.version = nil, -1
}

// connect makes sure that there is a connection.
func (w *writer) connect() (err error) {
	if w.conn != nil {
		return nil
	}
	w.conn, err = connect(w.forever, w.db)
	return err
}

// foreignChanges counts how often the database was found changed by another connection. A connection of our own that
// had to be replaced counts too: what happened in between is not known.
func (w *writer) foreignChanges() (int64, error) {
	var version int64
	if err := w.conn.row("PRAGMA data_version", nil, &version); err != nil {
		return 0, err
	}
	if version != w.version {
		w.version = version
		w.foreign++
	}
	return w.foreign, nil
}

// Stats counts what the database has done.
type Stats struct {
	Writes  uint64 // requests whose transaction was committed
	Commits uint64 // transactions that they shared
}

// Stats tells what has been done since Open.
func (d *DB) Stats() Stats {
	return Stats{Writes: d.writer.writes.Load(), Commits: d.writer.commits.Load()}
}
