package postgres

import (
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// Both dialects have the same tables, columns and indexes, but for what each needs for itself.
func TestDialectsAgree(t *testing.T) {
	t.Parallel()
	columns, indexes := sqliteSchema(t)
	d := openTest(t, Options{URL: migrated(t)})
	ownColumns, ownIndexes := map[string]string{}, map[string]string{}
	ok(t, d.read(t.Context(), "read schema", func(c *conn) error {
		err := c.all(func(r pgx.Rows) error {
			var table, column, kind string
			var null bool
			err := r.Scan(&table, &column, &kind, &null)
			ownColumns[table+"."+column] = describe(kind, !null)
			return err
		}, `SELECT table_name, column_name, data_type, is_nullable = 'YES' FROM information_schema.columns
			WHERE table_schema = 'public' AND table_name NOT IN ('changes', 'migrations')`)
		if err != nil {
			return err
		}
		return c.all(func(r pgx.Rows) error {
			var table, index, unique string
			err := r.Scan(&table, &index, &unique)
			ownIndexes[index] = table + " " + unique
			return err
		}, `SELECT x.indrelid::regclass::text, x.indexrelid::regclass::text, x.indisunique::text FROM pg_index x
			WHERE x.indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
				AND x.indrelid::regclass::text NOT IN ('changes', 'migrations')
				AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = x.indexrelid)`)
	}))
	differ(t, "column", columns, ownColumns)
	differ(t, "index", indexes, ownIndexes)
	if len(columns) < 150 || len(indexes) < 20 {
		t.Errorf("only %d columns and %d indexes were compared", len(columns), len(indexes))
	}
}

func differ(t *testing.T, what string, sqlite, postgres map[string]string) {
	t.Helper()
	all := maps.Clone(sqlite)
	maps.Copy(all, postgres)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if sqlite[name] != postgres[name] {
			t.Errorf("%s %s: SQLite %q, PostgreSQL %q", what, name, sqlite[name], postgres[name])
		}
	}
}

// describe is a column's type as both dialects have it: SQLite has no other truth than a number's.
func describe(kind string, required bool) string {
	switch strings.ToLower(kind) {
	case "integer", "bigint", "boolean":
		kind = "number"
	case "blob", "bytea":
		kind = "bytes"
	}
	return fmt.Sprintf("%s, required: %t", strings.ToLower(kind), required)
}

// sqliteSchema reads the columns and indexes of the other dialect.
func sqliteSchema(t *testing.T) (columns, indexes map[string]string) {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Dir: dir})
	ok(t, err)
	ok(t, s.Close())
	db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.FileName))
	ok(t, err)
	defer func() { ok(t, db.Close()) }()
	columns, indexes = map[string]string{}, map[string]string{}
	read := func(query string, scan func(*sql.Rows) error) {
		rows, err := db.QueryContext(t.Context(), query)
		ok(t, err)
		defer func() { ok(t, rows.Close()) }()
		for rows.Next() {
			ok(t, scan(rows))
		}
		ok(t, rows.Err())
	}
	read(`SELECT m.name, c.name, c.type, c."notnull" OR c.pk > 0 FROM sqlite_schema m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name NOT LIKE 'goose%'`, func(r *sql.Rows) error {
		var table, column, kind string
		var required bool
		err := r.Scan(&table, &column, &kind, &required)
		columns[table+"."+column] = describe(kind, required)
		return err
	})
	read(`SELECT m.name, i.name, i."unique" FROM sqlite_schema m JOIN pragma_index_list(m.name) i
		WHERE m.type = 'table' AND i.origin = 'c'`, func(r *sql.Rows) error {
		var table, index string
		var unique bool
		err := r.Scan(&table, &index, &unique)
		indexes[index] = fmt.Sprintf("%s %t", table, unique)
		return err
	})
	return columns, indexes
}

func TestTheTrailIsAppendOnly(t *testing.T) {
	t.Parallel()
	d := seeded(t, 1)[0]
	ok(t, d.AppendTrail(t.Context(), broker.Trail{
		Audit: []broker.AuditEntry{{Environment: "environment", Action: "kept"}}, Events: []broker.Event{{Environment: "environment"}},
	}))
	for _, statement := range []string{
		"UPDATE audit SET action = 'forged'", "DELETE FROM audit", "TRUNCATE audit", "UPDATE events SET code = 'forged'", "DELETE FROM events",
		"TRUNCATE events",
		"INSERT INTO audit SELECT * FROM audit ON CONFLICT (sequence) DO UPDATE SET action = 'forged'",
	} {
		err := d.write(t.Context(), "forge", func(tx *conn) error {
			_, err := tx.exec(statement)
			return err
		})
		if err == nil || !strings.Contains(broker.AsError(err).Err.Error(), "append-only") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	lines, err := d.Audit(t.Context(), "environment", 0, 10)
	ok(t, err)
	if len(lines) != 1 || lines[0].Action != "kept" {
		t.Errorf("the trail reads %+v", lines)
	}
}
