package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/coatcheck/coatcheck/storage/transfer"
)

var _ transfer.Side = (*DB)(nil)

// ownTables are those of the dialect, of its migrations, and the one that a transfer writes last.
const ownTables = `'goose_db_version', 'deployment'`

// Tables implements [transfer.Side].
func (d *DB) Tables(ctx context.Context) (map[string][]string, error) {
	out := make(map[string][]string)
	err := d.read(ctx, "list tables", func(c *conn) error {
		return c.all(func(r *sql.Rows) error {
			var table, column string
			if err := r.Scan(&table, &column); err != nil {
				return err
			}
			out[table] = append(out[table], column)
			return nil
		}, `SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c
			WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name NOT IN (`+ownTables+`)`)
	})
	return out, err
}

// Rows implements [transfer.Side].
func (d *DB) Rows(ctx context.Context, t transfer.Table, after []any, limit int) (out [][]any, err error) {
	query := "SELECT " + columnList(t.Columns) + " FROM " + quote(t.Name)
	if after != nil {
		query += " WHERE (" + columnList(t.Key) + ") > (" + marks(len(t.Key)) + ")"
	}
	query += fmt.Sprintf(" ORDER BY %s LIMIT %d", columnList(t.Key), limit)
	err = d.read(ctx, "read "+t.Name, func(c *conn) error {
		out = nil
		return c.allOnce(func(r *sql.Rows) error {
			row, to := make([]any, len(t.Columns)), make([]any, len(t.Columns))
			for i := range row {
				to[i] = &row[i]
			}
			out = append(out, row)
			return r.Scan(to...)
		}, query, after...)
	})
	return out, err
}

// Insert implements [transfer.Side].
func (d *DB) Insert(ctx context.Context, t transfer.Table, rows [][]any) error {
	query := "INSERT INTO " + quote(t.Name) + " (" + columnList(t.Columns) + ") VALUES (" + marks(len(t.Columns)) + ")"
	return d.write(ctx, "insert into "+t.Name, func(tx *conn) error {
		for _, row := range rows {
			if _, err := tx.exec(query, row...); err != nil {
				return err
			}
		}
		return nil
	})
}

// Sequences implements [transfer.Side].
func (d *DB) Sequences(ctx context.Context) (map[string]int64, error) {
	out := make(map[string]int64)
	err := d.read(ctx, "read sequences", func(c *conn) error {
		return c.all(func(r *sql.Rows) error {
			var table string
			var last int64
			err := r.Scan(&table, &last)
			out[table] = last
			return err
		}, "SELECT name, seq FROM sqlite_sequence")
	})
	return out, err
}

// SetSequences implements [transfer.Side].
func (d *DB) SetSequences(ctx context.Context, last map[string]int64) error {
	return d.write(ctx, "set sequences", func(tx *conn) error {
		for table, number := range last {
			there, err := tx.exists("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ? AND sql LIKE '%AUTOINCREMENT%'", table)
			if err != nil {
				return err
			}
			if !there {
				continue // its numbers follow on the highest that is there
			}
			if _, err := tx.exec("DELETE FROM sqlite_sequence WHERE name = ?", table); err != nil {
				return err
			}
			if _, err := tx.exec("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", table, number); err != nil {
				return err
			}
		}
		return nil
	})
}

// quote quotes a name of the schema.
func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func columnList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return strings.Join(quoted, ", ")
}

// marks gives n parameters.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
