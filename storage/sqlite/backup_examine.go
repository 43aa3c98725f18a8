package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/coatcheck/coatcheck/broker"
)

// Failures of backing up and restoring. Their texts begin with a published code.
var (
	ErrNoDatabase = errors.New("database_missing: there is no database here")
	ErrTaken      = errors.New("backup_exists: a file of that name exists, and a backup overwrites none")
	ErrThere      = errors.New("database_exists: there is a database already")
	ErrDamaged    = errors.New("backup_damaged: this is not a whole backup")
)

// Contents is what a copy of a database holds.
type Contents struct {
	Bytes      int64            // of the file
	Schema     int64            // its version
	Rows       map[string]int64 // by table
	Deployment broker.Deployment
}

// A backup ends in a line with the hash of all that stands before it. SQLite takes no notice of it. It shows that the file
// is whole; it does not show who wrote it.
const trailerStart = "\ncoatcheck backup 1, sha256 "

const trailerLength = len(trailerStart) + 2*sha256.Size + 1

func trailer(h hash.Hash) []byte { return []byte(trailerStart + hex.EncodeToString(h.Sum(nil)) + "\n") }

// seal writes the last line, and returns when it is on the disk. It gives the file's size.
func seal(f *os.File) (int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<62))
	if err != nil {
		return 0, err
	}
	line := trailer(h)
	if _, err := f.WriteAt(line, n); err != nil {
		return 0, err
	}
	return n + int64(len(line)), f.Sync()
}

// unseal copies what stands before the last line to w, and fails with ErrDamaged if that is not what the line was written
// for.
func unseal(w io.Writer, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	n := info.Size() - int64(trailerLength)
	if !info.Mode().IsRegular() || n <= 0 {
		return ErrDamaged
	}
	line := make([]byte, trailerLength)
	if _, err := f.ReadAt(line, n); err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte(trailerStart)) {
		return fmt.Errorf("%w: its last line is missing", ErrDamaged)
	}
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), io.NewSectionReader(f, 0, n)); err != nil {
		return err
	}
	if !bytes.Equal(line, trailer(h)) {
		return fmt.Errorf("%w: it was changed after it was written", ErrDamaged)
	}
	return nil
}

// examine opens a copy that nobody writes to, and gives what it holds if all of it is sound. It leaves nothing behind.
// Errors: ErrDamaged, ErrTooNew, and what approve returns.
func examine(ctx context.Context, path string, approve func([]broker.WrappedKey) error, migrations fs.FS) (_ *Contents, err error) {
	q := url.Values{
		"mode": {"ro"}, "immutable": {"1"},
		"_pragma": {"cell_size_check(1)", "query_only(1)", "temp_store(MEMORY)", "trusted_schema(0)"},
	}
	db, err := openPool("file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode(), 1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }() // read only: nothing can be lost
	ctx = context.WithoutCancel(ctx)
	c, err := connect(ctx, db)
	if err != nil {
		return nil, asDamage(err)
	}
	defer c.close()
	out := new(Contents)
	for _, look := range []func() error{
		func() error { return compatible(ctx, c, migrations) },
		func() error { return sound(c) },
		func() error { return approved(c, approve) },
		func() (err error) { out.Schema, err = schemaVersion(ctx, c.sql); return err },
		func() (err error) { out.Rows, err = countRows(c); return err },
		func() (err error) { out.Deployment, err = deployment(c); return err },
	} {
		if err := look(); err != nil {
			return nil, asDamage(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	out.Bytes = info.Size()
	return out, nil
}

// asDamage says what it means that SQLite cannot read a file.
func asDamage(err error) error {
	switch resultCode(err) & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// compatible refuses a schema that this version does not know.
func compatible(ctx context.Context, c *conn, migrations fs.FS) error {
	latest, err := latestVersion(migrations)
	if err != nil {
		return err
	}
	current, err := schemaVersion(ctx, c.sql)
	switch {
	case err != nil:
		return err
	case current > latest:
		return tooNew(current, latest)
	case current == 0:
		return fmt.Errorf("%w: it is not a database of this program", ErrDamaged)
	}
	return nil
}

// sound has SQLite look through every page and every reference.
func sound(c *conn) error {
	var verdict string
	if err := c.row("PRAGMA integrity_check(1)", nil, &verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, verdict)
	}
	dangling, err := c.exists("SELECT 1 FROM pragma_foreign_key_check")
	if err == nil && dangling {
		return fmt.Errorf("%w: a row refers to one that is not there", ErrDamaged)
	}
	return err
}

// approved has the keyring approved, if there is one.
func approved(c *conn, approve func([]broker.WrappedKey) error) error {
	keys, err := allKeys(c)
	if err != nil || len(keys) == 0 || approve == nil {
		return err
	}
	return approve(keys)
}

// countRows counts the rows of every table.
func countRows(c *conn) (map[string]int64, error) {
	var names []string
	err := c.all(func(r *sql.Rows) error {
		var name string
		err := r.Scan(&name)
		names = append(names, name)
		return err
	}, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`)
	if err != nil {
		return nil, err
	}
	rows := make(map[string]int64, len(names))
	for _, name := range names {
		var n int64
		if err := c.row(`SELECT count(*) FROM "`+name+`"`, nil, &n); err != nil {
			return nil, err
		}
		rows[name] = n
	}
	return rows, nil
}

// sameRows fails unless both states have the same number of rows in the same tables.
func sameRows(want, got map[string]int64) error {
	if maps.Equal(want, got) {
		return nil
	}
	return fmt.Errorf("%w: the copy does not hold what the database did", ErrDamaged)
}
