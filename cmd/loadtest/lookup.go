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

// rawQuery reads the same row that a ticket is made of, by its key, and no more.
const rawQuery = `SELECT c.id, c.status, c.config, cr.version, cr.type, cr.access, cr.details, cr.obtained_at, cr.expires_at, cr.refresh_at
	FROM connections c JOIN credentials cr ON cr.connection_number = c.number
	WHERE c.integration_number = ? AND c.key = ?`

// rawReader reads rows with the bare driver: one prepared statement on each of some connections, with the settings that
// the store has.
type rawReader struct {
	db          *sql.DB
	statements  [readers]*sql.Stmt
	integration int64
}

func newRawReader(ctx context.Context, dir string) (_ *rawReader, err error) {
	r := new(rawReader)
	r.db, err = sql.Open("sqlite", "file:"+filepath.Join(dir, sqlite.FileName)+"?_pragma=busy_timeout(5000)&_pragma=cache_size(-8192)&_pragma=mmap_size(0)&_query_only=1")
	if err != nil {
		return nil, err
	}
	r.db.SetMaxOpenConns(readers)
	r.db.SetMaxIdleConns(readers)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if err := r.db.QueryRowContext(ctx, "SELECT number FROM integrations WHERE key = ?", integration).Scan(&r.integration); err != nil {
		return nil, err
	}
	for i := range r.statements {
		c, err := r.db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		r.statements[i], err = c.PrepareContext(ctx, rawQuery) //nolint:sqlclosecheck // closing the database closes it
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *rawReader) close() error { return r.db.Close() }

// read reads one row.
func (r *rawReader) read(ctx context.Context, worker int, key string) error {
	var id, status, kind string
	var config, access, details []byte
	var version int64
	var obtained, expires, refresh sql.NullInt64
	return r.statements[worker].QueryRowContext(ctx, r.integration, key).
		Scan(&id, &status, &config, &version, &kind, &access, &details, &obtained, &expires, &refresh)
}

// opened is a stock with a broker on it and the raw reader beside.
type opened struct {
	*node
	raw  *rawReader
	keys []string
}

// openStock opens a database; cached is the size of the broker's cache.
func (l *lab) openStock(ctx context.Context, connections, cached int) (*opened, func() error, error) {
	s, err := l.stock(ctx, connections)
	if err != nil {
		return nil, nil, err
	}
	origin, err := l.origin(ctx)
	if err != nil {
		return nil, nil, err
	}
	n, err := l.open(ctx, nodeOptions{dir: s.dir, origin: origin, cached: cached})
	if err != nil {
		return nil, nil, err
	}
	raw, err := newRawReader(ctx, s.dir)
	if err != nil {
		return nil, nil, errors.Join(err, n.close())
	}
	return &opened{n, raw, s.keys()}, func() error { return errors.Join(raw.close(), n.close()) }, nil
}

// outbound asks the broker for a connection's way out.
func (o *opened) outbound(ctx context.Context, key string) error {
	_, err := o.broker.Outbound(ctx, o.who, integration, key)
	return err
}

// cacheHits measures row 10: a token that is in the broker's cache, against a point read of its row.
func (l *lab) cacheHits(ctx context.Context) error {
	for _, connections := range []int{few, l.many()} {
		if err := l.cacheHitsAt(ctx, connections); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) cacheHitsAt(ctx context.Context, connections int) (err error) {
	o, closeStock, err := l.openStock(ctx, connections, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStock()) }()
	cached := o.keys[:few]
	for _, key := range cached {
		if err := o.outbound(ctx, key); err != nil {
			return err
		}
	}
	inCache, inAll := uniform(len(cached))(0), uniform(len(o.keys))(1)
	var nanos [2][]float64
	var hit, read cost
	err = takeTurns(ctx, l.rounds(7),
		func(ctx context.Context) (err error) {
			hit, err = costOf(l.window(300*time.Millisecond), func(int) error { return o.outbound(ctx, cached[inCache()]) })
			nanos[0] = append(nanos[0], hit.nanos)
			return err
		},
		func(ctx context.Context) (err error) {
			read, err = costOf(l.window(300*time.Millisecond), func(int) error { return o.raw.read(ctx, 0, o.keys[inAll()]) })
			nanos[1] = append(nanos[1], read.nanos)
			return err
		})
	if err != nil {
		return err
	}
	l.table.add(10, "token lookup, raw point read ÷ cache hit, "+count(connections), ratio(nanos[1], nanos[0]), atLeast(10),
		"%.2f µs ÷ %.3f µs, one goroutine; the read: %.0f allocations", median(nanos[1])/1e3, median(nanos[0])/1e3, read.allocs)
	if connections == few {
		l.table.add(10, "token lookup, allocations of a hit", float64(int(hit.allocs+0.5)), exactly(0), "%.3f", hit.allocs)
	}
	return nil
}

// cacheMisses measures row 11: a token that is not in the cache, read, opened and ready to be sent, against the read
// alone.
func (l *lab) cacheMisses(ctx context.Context) (err error) {
	o, closeStock, err := l.openStock(ctx, l.many(), 16)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStock()) }()
	for _, goroutines := range []int{1, readers} {
		var rates [2][]float64
		if err := takeTurns(ctx, l.rounds(7),
			o.reading(&rates[0], goroutines, l.window(500*time.Millisecond), func(ctx context.Context, _ int, key string) error { return o.outbound(ctx, key) }),
			o.reading(&rates[1], goroutines, l.window(500*time.Millisecond), o.raw.read)); err != nil {
			return err
		}
		l.table.add(11, fmt.Sprintf("cache miss ÷ raw point read, %s, %d at once", count(len(o.keys)), goroutines), ratio(rates[0], rates[1]), atLeast(0.75),
			"%.1fk/s ÷ %.1fk/s", median(rates[0])/1e3, median(rates[1])/1e3)
	}
	return nil
}

// reading is a candidate that reads connections at random.
func (o *opened) reading(into *[]float64, goroutines int, window time.Duration, read func(ctx context.Context, worker int, key string) error) func(context.Context) error {
	var draws [readers]func() int
	for i := range draws {
		draws[i] = uniform(len(o.keys))(i)
	}
	return func(ctx context.Context) error {
		rate, err := rateOf(goroutines, window, func(worker, _ int) error { return read(ctx, worker, o.keys[draws[worker]()]) })
		*into = append(*into, rate)
		return err
	}
}
