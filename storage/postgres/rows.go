package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/storage/transfer"
)

var _ transfer.Side = (*DB)(nil)

// ErrServing is a database that a node serves from.
var ErrServing = errors.New("database_in_use: a node serves from this database: stop all of them first; one that was killed counts for half a minute")

// ownTables are those of the dialect, of its migrations, and the one that a transfer writes last.
const ownTables = `'changes', 'nodes', 'migrations', 'deployment'`

// Tables implements [transfer.Side].
func (d *DB) Tables(ctx context.Context) (map[string][]string, error) {
	out := make(map[string][]string)
	err := d.read(ctx, "list tables", func(c *conn) error {
		clear(out)
		return c.all(func(r pgx.Rows) error {
			var table, column string
			err := r.Scan(&table, &column)
			out[table] = append(out[table], column)
			return err
		}, `SELECT table_name::text, column_name::text FROM information_schema.columns
			WHERE table_schema = current_schema() AND table_name NOT IN (`+ownTables+`)`)
	})
	return out, err
}

// Rows implements [transfer.Side].
func (d *DB) Rows(ctx context.Context, t transfer.Table, after []any, limit int) (out [][]any, err error) {
	query := "SELECT " + names(t.Columns) + " FROM " + names([]string{t.Name})
	if after != nil {
		query += " WHERE (" + names(t.Key) + ") > (" + marks(len(t.Key)) + ")"
	}
	query += fmt.Sprintf(" ORDER BY %s LIMIT %d", names(t.Key), limit)
	err = d.read(ctx, "read "+t.Name, func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			row, err := r.Values()
			for i, v := range row {
				if truth, ok := v.(bool); ok {
					row[i] = int64(0)
					if truth {
						row[i] = int64(1)
					}
				}
			}
			out = append(out, row)
			return err
		}, query, after...)
	})
	return out, err
}

// Insert implements [transfer.Side].
func (d *DB) Insert(ctx context.Context, t transfer.Table, rows [][]any) error {
	query := "INSERT INTO " + names([]string{t.Name}) + " (" + names(t.Columns) + ") VALUES (" + marks(len(t.Columns)) + ")"
	return d.write(ctx, "insert into "+t.Name, func(tx *conn) error {
		truths, err := column[string](tx, `SELECT column_name::text FROM information_schema.columns
			WHERE table_schema = current_schema() AND table_name = $1 AND data_type = 'boolean'`, t.Name)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if _, err := tx.exec(query, typed(t, row, truths)...); err != nil {
				return err
			}
		}
		return nil
	})
}

// typed makes truths of the numbers of some columns.
func typed(t transfer.Table, row []any, truths []string) []any {
	out := make([]any, len(row))
	copy(out, row)
	for i, column := range t.Columns {
		for _, truth := range truths {
			if n, ok := row[i].(int64); ok && column == truth {
				out[i] = n != 0
			}
		}
	}
	return out
}

// sequences are the columns whose numbers are never given twice.
const sequences = `SELECT c.table_name::text, pg_get_serial_sequence(quote_ident(c.table_name), c.column_name) FROM information_schema.columns c
	WHERE c.table_schema = current_schema() AND c.is_identity = 'YES'`

// Sequences implements [transfer.Side].
func (d *DB) Sequences(ctx context.Context) (map[string]int64, error) {
	out := make(map[string]int64)
	err := d.eachSequence(ctx, "read sequences", func(tx *conn, table, sequence string) error {
		var last int64
		err := tx.row("SELECT last_value - (NOT is_called)::int FROM "+sequence, nil, &last)
		out[table] = last
		return err
	})
	return out, err
}

// SetSequences implements [transfer.Side]. A table that is not named goes on after its highest number.
func (d *DB) SetSequences(ctx context.Context, last map[string]int64) error {
	return d.eachSequence(ctx, "set sequences", func(tx *conn, table, sequence string) error {
		number, ok := last[table]
		if !ok {
			err := tx.row("SELECT coalesce(max(number), 0) FROM "+names([]string{table}), nil, &number)
			if err != nil {
				return err
			}
		}
		_, err := tx.exec("SELECT setval($1::text::regclass, greatest($2::bigint, 1), $2::bigint > 0)", sequence, number)
		return err
	})
}

func (d *DB) eachSequence(ctx context.Context, doing string, f func(tx *conn, table, sequence string) error) error {
	return d.write(ctx, doing, func(tx *conn) error {
		found := make(map[string]string)
		err := tx.all(func(r pgx.Rows) error {
			var table, sequence string
			err := r.Scan(&table, &sequence)
			found[table] = sequence
			return err
		}, sequences)
		if err != nil {
			return err
		}
		for table, sequence := range found {
			if err := f(tx, table, sequence); err != nil {
				return err
			}
		}
		return nil
	})
}

// attendFor is how long a node counts as serving after it was last heard of.
const attendFor = 30 * time.Second

// attendEvery is how often a node lets itself be heard of.
const attendEvery = attendFor / 3

// attend notes that this node serves, and forgets those that have not been heard of for long.
func (d *DB) attend(ctx context.Context) error {
	return d.write(ctx, "note that this node serves", func(tx *conn) error {
		_, err := tx.exec("INSERT INTO nodes (id, seen_at) VALUES ($1, "+statementTime+") ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at", d.node)
		if err != nil {
			return err
		}
		_, err = tx.exec("DELETE FROM nodes WHERE seen_at < "+statementTime+" - $1::bigint", 10*attendFor.Microseconds())
		return err
	})
}

// depart notes that this node serves no more.
func (d *DB) depart(ctx context.Context) error {
	return d.write(ctx, "note that this node has left", func(tx *conn) error {
		_, err := tx.exec("DELETE FROM nodes WHERE id = $1", d.node)
		return err
	})
}

// Vacant makes sure that no node serves from the database. Errors: [ErrServing].
func (d *DB) Vacant(ctx context.Context) error {
	var serving bool
	err := d.read(ctx, "look for nodes", func(c *conn) (err error) {
		serving, err = c.exists("SELECT 1 FROM nodes WHERE id <> $1 AND seen_at > "+statementTime+" - $2::bigint", d.node, attendFor.Microseconds())
		return err
	})
	if err == nil && serving {
		err = ErrServing
	}
	return err
}

func names(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = pgx.Identifier{s}.Sanitize()
	}
	return strings.Join(quoted, ", ")
}

// marks gives n parameters.
func marks(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("$%d", i+1)
	}
	return strings.Join(list, ", ")
}
