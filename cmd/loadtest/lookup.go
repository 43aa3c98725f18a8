package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// readers is how many goroutines read at once where throughput is measured, each on a connection of its own.
const readers = 4

// SQLite's connections within a process compete for the memory of their page caches, so what is compared is never open
// at the same time: each turn opens its side, warms it up, measures and closes it.
const openingWarmUp = 150 * time.Millisecond

// rawQuery reads the same row that a ticket is made of, by its key, and no more.
const rawQuery = `SELECT c.id, c.status, c.config, cr.version, cr.type, cr.access, cr.details, cr.obtained_at, cr.expires_at, cr.refresh_at
	FROM connections c JOIN credentials cr ON cr.connection_number = c.number
	WHERE c.integration_number = ? AND c.key = ?`

// rawReader reads rows with the bare driver: one prepared statement on each of some connections.
type rawReader struct {
	db          *sql.DB
	statements  [readers]*sql.Stmt
	integration int64
}

// raw lets work use a raw reader of a stock.
func (l *lab) raw(ctx context.Context, s *stock, work func(*rawReader) error) (err error) {
	r := new(rawReader)
	r.db, err = sql.Open("sqlite", "file:"+filepath.Join(s.dir, sqlite.FileName)+"?_pragma=busy_timeout(5000)&_query_only=1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.db.Close()) }()
	r.db.SetMaxOpenConns(readers)
	r.db.SetMaxIdleConns(readers)
	if err := r.db.QueryRowContext(ctx, "SELECT number FROM integrations WHERE key = ?", integration).Scan(&r.integration); err != nil {
		return err
	}
	for i := range r.statements {
		c, err := r.db.Conn(ctx)
		if err != nil {
			return err
		}
		r.statements[i], err = c.PrepareContext(ctx, rawQuery) //nolint:sqlclosecheck // closing the database closes it
		if err != nil {
			return err
		}
	}
	return work(r)
}

// read reads one row.
func (r *rawReader) read(ctx context.Context, worker int, key string) error {
	var id, status, kind string
	var config, access, details []byte
	var version int64
	var obtained, expires, refresh sql.NullInt64
	return r.statements[worker].QueryRowContext(ctx, r.integration, key).
		Scan(&id, &status, &config, &version, &kind, &access, &details, &obtained, &expires, &refresh)
}

// on lets work use a broker on a stock; cached is the size of the broker's cache.
func (l *lab) on(ctx context.Context, s *stock, cached int, work func(*node) error) error {
	origin, err := l.origin(ctx)
	if err != nil {
		return err
	}
	n, err := l.open(ctx, nodeOptions{dir: s.dir, origin: origin, cached: cached})
	if err != nil {
		return err
	}
	return errors.Join(work(n), n.close())
}

// outbound asks the broker for a connection's way out.
func (n *node) outbound(ctx context.Context, _ int, key string) error {
	_, err := n.broker.Outbound(ctx, n.who, integration, key)
	return err
}

// ticket reads what a call needs from the store, past the broker's cache.
func (n *node) ticket(ctx context.Context, _ int, key string) error {
	_, err := n.db.Ticket(ctx, n.upstream, key)
	return err
}

// reader reads the connection of that key.
type reader func(ctx context.Context, worker int, key string) error

// throughput has connections of a stock read at random, and gives how many a second.
func (s *stock) throughput(ctx context.Context, goroutines int, window time.Duration, read reader) (float64, error) {
	keys := s.keys()
	draws := make([]func() int, goroutines)
	for i := range draws {
		draws[i] = uniform(len(keys))(i)
	}
	op := func(worker, _ int) error { return read(ctx, worker, keys[draws[worker]()]) }
	if _, err := rateOf(goroutines, openingWarmUp, op); err != nil {
		return 0, err
	}
	return rateOf(goroutines, window, op)
}

// cacheHits measures row 10: a token that is in the broker's cache, against a point read of its row.
func (l *lab) cacheHits(ctx context.Context) error {
	for _, connections := range []int{few, l.many()} {
		s, err := l.stock(ctx, connections)
		if err != nil {
			return err
		}
		if err := l.cacheHitsIn(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) cacheHitsIn(ctx context.Context, s *stock) error {
	keys := s.keys()
	window := l.window(300 * time.Millisecond)
	var nanos [2][]float64
	var hit, read cost
	err := takeTurns(ctx, l.rounds(7),
		func(ctx context.Context) error {
			return l.on(ctx, s, 0, func(n *node) (err error) {
				hit, err = alone(ctx, window, keys[:few], n.outbound)
				nanos[0] = append(nanos[0], hit.nanos)
				return err
			})
		},
		func(ctx context.Context) error {
			return l.raw(ctx, s, func(r *rawReader) (err error) {
				read, err = alone(ctx, window, keys, r.read)
				nanos[1] = append(nanos[1], read.nanos)
				return err
			})
		})
	if err != nil {
		return err
	}
	l.table.add(10, "token lookup, raw point read ÷ cache hit, "+count(s.connections), ratio(nanos[1], nanos[0]), atLeast(10),
		"%.1f µs ÷ %.2f µs, one goroutine; the read: %.0f allocations", median(nanos[1])/1e3, median(nanos[0])/1e3, read.allocs)
	if s.connections == few {
		l.table.add(10, "token lookup, allocations of a hit", float64(int(hit.allocs+0.5)), exactly(0), "%.3f", hit.allocs)
	}
	return nil
}

// alone gives what a read costs on one goroutine, of keys at random, after each of the first was read once.
func alone(ctx context.Context, window time.Duration, keys []string, read reader) (cost, error) {
	for _, key := range keys[:few] {
		if err := read(ctx, 0, key); err != nil {
			return cost{}, err
		}
	}
	draw := uniform(len(keys))(0)
	op := func(int) error { return read(ctx, 0, keys[draw()]) }
	if _, err := costOf(openingWarmUp, op); err != nil {
		return cost{}, err
	}
	return costOf(window, op)
}

// cacheMisses measures row 11: a token that is not in the cache, read, opened and ready to be sent, against the read
// alone.
func (l *lab) cacheMisses(ctx context.Context) error {
	s, err := l.stock(ctx, l.many())
	if err != nil {
		return err
	}
	window := l.window(500 * time.Millisecond)
	for _, goroutines := range []int{1, readers} {
		var rates [3][]float64
		note := func(i int, read reader) error {
			rate, err := s.throughput(ctx, goroutines, window, read)
			rates[i] = append(rates[i], rate)
			return err
		}
		err := takeTurns(ctx, l.rounds(7),
			func(ctx context.Context) error {
				return l.on(ctx, s, 16, func(n *node) error { return note(0, n.outbound) })
			},
			func(ctx context.Context) error {
				return l.raw(ctx, s, func(r *rawReader) error { return note(1, r.read) })
			},
			func(ctx context.Context) error {
				return l.on(ctx, s, 16, func(n *node) error { return note(2, n.ticket) })
			})
		if err != nil {
			return err
		}
		l.table.add(11, fmt.Sprintf("cache miss ÷ raw point read, %s, %d at once", count(s.connections), goroutines), ratio(rates[0], rates[1]), atLeast(0.75),
			"%.1fk/s ÷ %.1fk/s; the store's read alone: %.1fk/s", median(rates[0])/1e3, median(rates[1])/1e3, median(rates[2])/1e3)
	}
	return nil
}
