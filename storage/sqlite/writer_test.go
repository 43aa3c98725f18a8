package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// line is a trail of one audit line.
func line(action string) broker.Trail {
	return broker.Trail{Audit: []broker.AuditEntry{{Action: action}}}
}

// lines counts the audit lines of that action.
func lines(t *testing.T, d *DB, action string) int {
	t.Helper()
	var n int
	ok(t, d.read(t.Context(), "count", func(c *conn) error {
		return c.row("SELECT count(*) FROM audit WHERE action = ?", []any{action}, &n)
	}))
	return n
}

// hold keeps the writer busy until release is called, so that what comes in between shares a batch.
func hold(t *testing.T, d *DB) (release func()) {
	t.Helper()
	holding, released := make(chan struct{}), make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		err := d.writer.submit(t.Context(), &request{beside: func(*writer) error {
			close(holding)
			<-released
			return nil
		}})
		if err != nil {
			t.Errorf("hold: %v", err)
		}
	})
	<-holding
	return func() {
		close(released)
		done.Wait()
	}
}

// queued waits until n requests are in the queue.
func queued(d *DB, n int) {
	for len(d.writer.queue) < n {
		runtime.Gosched()
	}
}

func TestWritersShareCommits(t *testing.T) {
	t.Parallel()
	d := openTest(t, Options{Dir: t.TempDir()})
	before := d.Stats()
	release := hold(t, d)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			if err := d.AppendTrail(t.Context(), line("shared")); err != nil {
				t.Errorf("append: %v", err)
			}
		})
	}
	queued(d, 64)
	release()
	all.Wait()
	after := d.Stats()
	if after.Commits-before.Commits != 1 || after.Writes-before.Writes != 64 {
		t.Errorf("%d writes took %d commits, want 64 in one", after.Writes-before.Writes, after.Commits-before.Commits)
	}
	if n := lines(t, d, "shared"); n != 64 {
		t.Errorf("%d of 64 were written", n)
	}
}

func TestOneBadWriteDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	d := seeded(t, 1)
	release := hold(t, d)
	errs := make([]error, 32)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			errs[i] = d.write(t.Context(), "test", func(tx *conn) error {
				if err := leave(tx, line("write "+strconv.Itoa(i))); err != nil {
					return err
				}
				switch i {
				case 5: // a refusal of ours
					return broker.ErrSessionCompleted
				case 11: // a constraint's
					_, err := tx.exec("INSERT INTO keyring (id, wrapped, active) VALUES (1, x'01', 1), (2, x'02', 1)")
					return err
				case 17:
					panic("a bug")
				case 23: // another's row
					_, err := insertConnection(tx, grant("0", time.Time{}).Connection)
					return err
				}
				return nil
			})
		})
	}
	queued(d, len(errs))
	release()
	all.Wait()
	want := map[int]*broker.Error{5: broker.ErrSessionCompleted, 11: broker.ErrConflict, 17: broker.ErrInternal, 23: broker.ErrConflict}
	for i, err := range errs {
		written := 1
		if want[i] != nil {
			written = 0
			if !errors.Is(err, want[i]) {
				t.Errorf("write %d: got %v, want %s", i, err, want[i].Code)
			}
		} else if err != nil {
			t.Errorf("write %d failed with others: %v", i, err)
		}
		if n := lines(t, d, "write "+strconv.Itoa(i)); n != written {
			t.Errorf("write %d left %d lines, want %d", i, n, written)
		}
	}
}

func TestAFailedCommitFailsTheWholeBatch(t *testing.T) {
	t.Parallel()
	d := seeded(t, 1)
	release := hold(t, d)
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			errs[i] = d.write(t.Context(), "test", func(tx *conn) error {
				if i == 3 { // what COMMIT alone finds
					if _, err := tx.exec("PRAGMA defer_foreign_keys = 1"); err != nil {
						return err
					}
					if _, err := tx.exec("DELETE FROM connections"); err != nil {
						return err
					}
				}
				return leave(tx, line("lost"))
			})
		})
	}
	queued(d, len(errs))
	release()
	all.Wait()
	for i, err := range errs {
		if err == nil {
			t.Errorf("write %d is said to be stored", i)
		}
	}
	if n := lines(t, d, "lost"); n != 0 {
		t.Errorf("%d lines of the failed commit are there", n)
	}
	ok(t, d.AppendTrail(t.Context(), line("next")))
	_, err := d.Ticket(t.Context(), "integration", "0")
	ok(t, err)
}

func TestWhoLeavesBeforeTheirTurnIsSkipped(t *testing.T) {
	t.Parallel()
	d := openTest(t, Options{Dir: t.TempDir()})
	release := hold(t, d)
	ctx, leaveNow := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var err error
	all.Go(func() { err = d.AppendTrail(ctx, line("skipped")) })
	queued(d, 1)
	leaveNow()
	all.Wait() // nobody waits for the writer
	release()
	if !errors.Is(err, broker.ErrStorageBusy) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ok(t, d.AppendTrail(t.Context(), line("next")))
	if n := lines(t, d, "skipped"); n != 0 {
		t.Error("it was written after all")
	}
}

func TestWhoLeavesInTheirTurnWaits(t *testing.T) {
	t.Parallel()
	d := openTest(t, Options{Dir: t.TempDir()})
	ctx, leaveNow := context.WithCancel(t.Context())
	err := d.write(ctx, "test", func(tx *conn) error {
		leaveNow()
		return leave(tx, line("written"))
	})
	if err != nil {
		t.Errorf("a write that had begun gives %v", err)
	}
	if n := lines(t, d, "written"); n != 1 {
		t.Errorf("%d lines were written", n)
	}
}

func TestWhatIsQueuedIsWrittenBeforeClose(t *testing.T) {
	t.Parallel()
	d := openTest(t, Options{Dir: t.TempDir()})
	release := hold(t, d)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if err := d.AppendTrail(t.Context(), line("queued")); err != nil {
				t.Errorf("append: %v", err)
			}
		})
	}
	queued(d, 10)
	closing := make(chan error)
	go func() { closing <- d.Close() }()
	release()
	ok(t, <-closing)
	all.Wait()
	if n := lines(t, openTest(t, Options{Dir: d.dir}), "queued"); n != 10 {
		t.Errorf("%d of 10 were written", n)
	}
}

// onWriter runs a pragma on the writing connection.
func onWriter(t *testing.T, d *DB, pragma string) {
	t.Helper()
	ok(t, d.writer.submit(t.Context(), &request{beside: func(w *writer) error {
		_, err := w.conn.sql.ExecContext(w.conn.ctx, pragma)
		return err
	}}))
}

func TestABusyDatabaseSaysSo(t *testing.T) {
	t.Parallel()
	d := seeded(t, 1)
	onWriter(t, d, "PRAGMA busy_timeout(1)")
	other := openTest(t, Options{Dir: d.dir})
	err := other.write(t.Context(), "hold the lock", func(*conn) error {
		for range 2 {
			if err := d.AppendTrail(t.Context(), line("busy")); !errors.Is(err, broker.ErrStorageBusy) {
				return fmt.Errorf("a write beside another's transaction gives %w", err)
			}
		}
		_, err := d.Ticket(t.Context(), "integration", "0")
		return err
	})
	ok(t, err)
	ok(t, d.AppendTrail(t.Context(), line("free")))
	if n := lines(t, d, "busy"); n != 0 {
		t.Errorf("%d refused lines are there", n)
	}
}

func TestAFullDiskAndBack(t *testing.T) {
	t.Parallel()
	d := seeded(t, 20)
	var pages int
	ok(t, d.read(t.Context(), "count pages", func(c *conn) error { return c.row("PRAGMA page_count", nil, &pages) }))
	onWriter(t, d, fmt.Sprintf("PRAGMA max_page_count(%d)", pages+2))
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	big := func(id string) error { return d.PutGrant(t.Context(), grant(id, now)) }
	stored := 0
	for ; stored < 100; stored++ {
		if err := big("alone " + strconv.Itoa(stored)); err != nil {
			if !errors.Is(err, broker.ErrStorageUnavailable) {
				t.Fatalf("a full disk gives %v", err)
			}
			break
		}
	}
	if stored == 100 {
		t.Fatal("the disk did not fill up")
	}
	release := hold(t, d)
	errs := make([]error, 16)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = big("batch " + strconv.Itoa(i)) })
	}
	queued(d, len(errs))
	release()
	all.Wait()
	for i, err := range errs {
		_, read := d.Ticket(t.Context(), "integration", "batch "+strconv.Itoa(i))
		switch {
		case err == nil && read != nil:
			t.Errorf("write %d is said to be stored, and reads %v", i, read)
		case err != nil && !errors.Is(err, broker.ErrStorageUnavailable):
			t.Errorf("write %d gives %v", i, err)
		case err != nil && !errors.Is(read, broker.ErrNotFound):
			t.Errorf("write %d failed, and reads %v", i, read)
		}
	}
	for i := range 20 {
		_, err := d.Ticket(t.Context(), "integration", strconv.Itoa(i))
		ok(t, err)
	}
	onWriter(t, d, "PRAGMA max_page_count(1000000)")
	for i := range 20 {
		ok(t, big("after "+strconv.Itoa(i)))
	}
	var verdict string
	ok(t, d.read(t.Context(), "check", func(c *conn) error { return c.row("PRAGMA integrity_check", nil, &verdict) }))
	if verdict != "ok" {
		t.Errorf("the database is %s", verdict)
	}
}

func TestABrokenConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	d := seeded(t, 1)
	before, err := d.ForeignChanges(t.Context())
	ok(t, err)
	ok(t, d.writer.submit(t.Context(), &request{beside: func(w *writer) error { return w.conn.sql.Close() }}))
	if err := d.AppendTrail(t.Context(), line("lost")); !errors.Is(err, broker.ErrStorageUnavailable) {
		t.Errorf("a broken connection gives %v", err)
	}
	ok(t, d.AppendTrail(t.Context(), line("stored")))
	after, err := d.ForeignChanges(t.Context())
	ok(t, err)
	if after <= before {
		t.Error("what happened while there was no connection is not known, and must count as a change")
	}
	var readers []*conn // all of them at once, or it would be the same one each time
	for range readerCount {
		c, err := d.readers.take(t.Context())
		ok(t, err)
		ok(t, c.sql.Close())
		readers = append(readers, c)
	}
	for _, c := range readers {
		d.readers.put(c)
	}
	for range readerCount { // each finds its connection broken, and gives it up
		_, err := d.Ticket(t.Context(), "integration", "0")
		if err != nil && !errors.Is(err, broker.ErrStorageUnavailable) {
			t.Errorf("a broken connection gives %v", err)
		}
	}
	for range readerCount {
		_, err := d.Ticket(t.Context(), "integration", "0")
		ok(t, err)
	}
}

func TestATransactionThatStaysOpenIsLeft(t *testing.T) {
	t.Parallel()
	d := seeded(t, 1)
	onWriter(t, d, "BEGIN IMMEDIATE")
	if err := d.AppendTrail(t.Context(), line("lost")); !errors.Is(err, broker.ErrInternal) {
		t.Errorf("a transaction in a transaction gives %v", err)
	}
	ok(t, d.AppendTrail(t.Context(), line("stored")))
	if n := lines(t, openTest(t, Options{Dir: d.dir}), "stored"); n != 1 {
		t.Errorf("%d lines were stored", n)
	}
}

func TestReadersWaitNoLongerThanTheirCaller(t *testing.T) {
	t.Parallel()
	d := seeded(t, 1)
	for range listerCount { // lists leave readers for the others
		d.readers.listing <- struct{}{}
	}
	_, err := d.Ticket(t.Context(), "integration", "0")
	ok(t, err)
	ctx, leaveNow := context.WithCancel(t.Context())
	leaveNow()
	if _, err := d.Connections(ctx, broker.ConnectionFilter{Environment: "environment"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a list whose caller has left gives %v", err)
	}
	var taken []*conn
	for range readerCount {
		c, err := d.readers.take(t.Context())
		ok(t, err)
		taken = append(taken, c)
	}
	if _, err := d.Ticket(ctx, "integration", "0"); !errors.Is(err, context.Canceled) {
		t.Errorf("a read whose caller has left gives %v", err)
	}
	for _, c := range taken {
		d.readers.put(c)
	}
}

// BenchmarkWrite is a durable write: alone, and among 64 writers.
func BenchmarkWrite(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(strconv.Itoa(writers), func(b *testing.B) {
			d := seeded(b, 5000)
			next := grant("", time.Now()).Credential
			before := d.Stats()
			var all sync.WaitGroup
			b.ResetTimer()
			for w := range writers {
				all.Go(func() {
					for i := w; i < b.N; i += writers {
						id := broker.ConnectionID(strconv.Itoa(i % 5000))
						if err := d.SwapCredential(b.Context(), &broker.Swap{Connection: id, From: int64(i/5000) + 1, Next: next}); err != nil {
							b.Errorf("swap: %v", err)
						}
					}
				})
			}
			all.Wait()
			after := d.Stats()
			b.ReportMetric(float64(after.Writes-before.Writes)/float64(after.Commits-before.Commits), "writes/commit")
		})
	}
}
