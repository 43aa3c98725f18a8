package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// tokenLength is the size of the access tokens in a database, a large JWT's.
const tokenLength = 1500

// stock is a database with many connections, used by all rows that need one of its size.
type stock struct {
	dir         string
	connections int
	keys        func() []string // of all connections
}

// keyOf is the key of a connection in a stock. As in life, it is the connection's id and in no order.
func keyOf(i int) string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))) //nolint:gosec // a count
	return uuid.UUID(sum[:16]).String()
}

func newStock(dir string, connections int) *stock {
	return &stock{dir, connections, sync.OnceValue(func() []string {
		keys := make([]string, connections)
		for i := range keys {
			keys[i] = keyOf(i)
		}
		return keys
	})}
}

// stock gives the database of that size, which is made when it is first asked for.
func (l *lab) stock(ctx context.Context, connections int) (*stock, error) {
	if s, ok := l.stocks[connections]; ok {
		return s, nil
	}
	origin, err := l.origin(ctx)
	if err != nil {
		return nil, err
	}
	l.say("  making a database of %s connections", count(connections))
	dir, err := l.scratch("stock-" + count(connections))
	if err != nil {
		return nil, err
	}
	start := time.Now()
	m := &broker.Material{Access: broker.NewSecret(l.longToken), ExpiresAt: time.Now().AddDate(1, 0, 0)}
	if err := l.fill(ctx, nodeOptions{dir: dir, origin: origin}, connections, m); err != nil {
		return nil, fmt.Errorf("make a database of %d connections: %w", connections, err)
	}
	l.say("    %.0fk/s", float64(connections)/1e3/time.Since(start).Seconds())
	l.stocks[connections] = newStock(dir, connections)
	return l.stocks[connections], nil
}

// fill makes one connection through the broker and copies it, past the store, until there are so many: the store's own
// commits, however well shared, would take minutes for a million. The copies are what the broker would have written, apart
// from their equal times and tokens; each is sealed for its own row and opens.
func (l *lab) fill(ctx context.Context, o nodeOptions, connections int, m *broker.Material) (err error) {
	n, err := l.open(ctx, o)
	if err != nil {
		return err
	}
	n.recorder.record()
	first, err := n.bring(ctx, keyOf(0), m)
	if err := errors.Join(err, n.close()); err != nil {
		return err
	}
	// Pages that are written once need no journal, and the indexes, whose keys are in no order, want to be in memory.
	// Of a larger cache the driver would ask the system for more pieces of memory than a process may have.
	db, err := sql.Open("sqlite", "file:"+filepath.Join(o.dir, sqlite.FileName)+"?_pragma=synchronous(0)&_pragma=cache_size(-1000000)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "PRAGMA journal_mode = OFF"); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	c := &copier{recorder: n.recorder, tx: tx, template: first}
	if err := c.copyAll(ctx, connections); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return flush(filepath.Join(o.dir, sqlite.FileName))
}

// flush has a file on the disk when it returns: what is still on its way would hold up the commits that are measured.
func flush(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// copier writes copies of one connection.
type copier struct {
	recorder *recorder
	tx       *sql.Tx
	template *broker.Connection
	sealed   []sealedField
}

// sealedField is one field of the template's credential.
type sealedField struct {
	column    string
	place     []byte
	plaintext []byte
}

// batch is how many rows a statement inserts.
const batch = 50

func (c *copier) copyAll(ctx context.Context, connections int) error {
	if err := c.readSealed(ctx); err != nil {
		return err
	}
	rows := &copied{table: "connections", number: "number", differ: []string{"id", "key", "grant_hash"}}
	credentials := &copied{table: "credentials", number: "connection_number"}
	for _, f := range c.sealed {
		credentials.differ = append(credentials.differ, f.column)
	}
	for begin := 1; begin < connections; begin += batch {
		end := min(begin+batch, connections)
		if err := c.insert(ctx, rows, begin, end, namesOf); err != nil {
			return err
		}
		if err := c.insert(ctx, credentials, begin, end, c.sealFor); err != nil {
			return err
		}
	}
	return nil
}

// namesOf gives the names of another connection, and one for its grant: in life no two are on the same.
func namesOf(id string) ([]any, error) {
	grant := sha256.Sum256([]byte(id))
	return []any{id, id, grant[:16]}, nil
}

// insert writes some copies of the template's row in a table.
func (c *copier) insert(ctx context.Context, t *copied, begin, end int, valuesOf func(id string) ([]any, error)) error {
	var args []any
	for i := begin; i < end; i++ {
		values, err := valuesOf(keyOf(i))
		if err != nil {
			return err
		}
		args = append(append(args, c.template.Number+int64(i)), values...)
	}
	if t.rows != end-begin {
		if err := t.prepare(ctx, c.tx, c.template.Number, end-begin); err != nil {
			return err
		}
	}
	_, err := t.statement.ExecContext(ctx, args...)
	return err
}

// readSealed reads and opens the template's sealed fields.
func (c *copier) readSealed(ctx context.Context) error {
	for _, column := range []string{"access", "details", "refresh", "answer"} {
		var box []byte
		err := c.tx.QueryRowContext(ctx, "SELECT "+column+" FROM credentials WHERE connection_number = ?", c.template.Number).Scan(&box)
		if err != nil {
			return err
		}
		if len(box) == 0 {
			continue
		}
		place, plaintext, err := c.recorder.placeOf(box)
		if err != nil {
			return err
		}
		c.sealed = append(c.sealed, sealedField{column, place, plaintext})
	}
	return nil
}

// sealFor seals the template's secrets for the row of another connection.
func (c *copier) sealFor(id string) ([]any, error) {
	out := make([]any, len(c.sealed))
	for i, f := range c.sealed {
		// Both ids are UUIDs, so the lengths that stand beside them stay right.
		box, err := c.recorder.Keyring.Seal(f.plaintext, bytes.ReplaceAll(f.place, []byte(c.template.ID), []byte(id)))
		if err != nil {
			return nil, err
		}
		out[i] = box
	}
	return out, nil
}

// copied is a table with a row of the template's.
type copied struct {
	table  string
	number string   // the column with the connection's number
	differ []string // the columns that differ from copy to copy, besides the number

	statement *sql.Stmt // inserts so many rows; the transaction closes it
	rows      int
}

// prepare makes the statement that inserts so many copies. Its arguments are each copy's number and the values of the
// columns that differ.
func (t *copied) prepare(ctx context.Context, tx *sql.Tx, template int64, rows int) error {
	names, err := t.columns(ctx, tx)
	if err != nil {
		return err
	}
	values := slices.Clone(names)
	for i := range 1 + len(t.differ) {
		values[i] = "column" + strconv.Itoa(i+1)
	}
	// Selecting from the table that is written to would make SQLite put the row somewhere else first, each time.
	_, err = tx.ExecContext(ctx, "CREATE TEMP TABLE IF NOT EXISTS template_"+t.table+" AS SELECT * FROM "+t.table+" WHERE "+t.number+" = ?", template)
	if err != nil {
		return err
	}
	one := "(" + strings.Repeat("?, ", len(t.differ)) + "?)"
	t.rows = rows
	//nolint:gosec // table and columns are the schema's own
	t.statement, err = tx.PrepareContext(ctx, "INSERT INTO "+t.table+" ("+strings.Join(names, ", ")+") SELECT "+strings.Join(values, ", ")+
		" FROM (VALUES "+strings.Repeat(one+", ", rows-1)+one+") CROSS JOIN temp.template_"+t.table)
	return err
}

// columns lists the table's columns: first the number, then those that differ, then the others.
func (t *copied) columns(ctx context.Context, tx *sql.Tx) ([]string, error) {
	rows, err := tx.QueryContext(ctx, "SELECT name FROM pragma_table_info(?)", t.table)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	names := append([]string{t.number}, t.differ...)
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		if !slices.Contains(names[:1+len(t.differ)], name) {
			names = append(names, name)
		}
	}
	return names, rows.Err()
}

// dice gives random numbers that are the same in each run.
func dice(seed int) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(seed), 20260504)) //nolint:gosec // they choose what to read; nobody gains by guessing
}
