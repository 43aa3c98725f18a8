package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	modernc "modernc.org/sqlite"

	"github.com/coatcheck/coatcheck/broker"
)

// BackupOptions say what to copy, and where to.
type BackupOptions struct {
	Dir  string // of the database
	File string // to write; it must not exist
	// Now is the clock; nil: the system's.
	Now func() time.Time
	// Verify is handed the keyring. Its error ends the backup. nil: every keyring will do.
	Verify func([]broker.WrappedKey) error
	// Spilled are renewed credentials that lie beside the database. The copy gets them where it has not been overtaken.
	Spilled []*broker.Swap

	stepped func() // a test's, after every step
}

// unfinished stands before the random part of a backup's name as long as it is written.
const unfinished = ".unfinished-"

// backupStep in pages: 8 MiB.
const backupStep = 1024

// Backup copies the database while a server may be using it, and gives what is in the copy. The copy says of itself that
// it is one, so that whatever is started on it waits to be adopted. File appears when all of it is on the disk and was
// found whole. Errors: [ErrNoDatabase], [ErrTaken], [ErrTooNew], [ErrDamaged], and what Verify returns.
//
// It uses SQLite's online backup within one read transaction, which holds up no writer: the log grows meanwhile, that is
// all. Without the transaction the copy would begin anew with every commit of the server. VACUUM INTO holds up nobody
// either, but refuses to run in a transaction, so that nothing could be compared with it, and builds every index anew.
func Backup(ctx context.Context, o BackupOptions) (*Contents, error) { return backup(ctx, o, embedded) }

func backup(ctx context.Context, o BackupOptions, migrations fs.FS) (_ *Contents, err error) {
	source := filepath.Join(o.Dir, FileName)
	if _, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoDatabase, source)
	}
	if _, err := os.Lstat(o.File); err == nil {
		return nil, fmt.Errorf("%w: %s", ErrTaken, o.File)
	}
	f, err := os.CreateTemp(filepath.Dir(o.File), filepath.Base(o.File)+unfinished) // of mode 0600
	if err != nil {
		return nil, fmt.Errorf("make the backup: %w", err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	rows, err := copyInto(ctx, f, source, o, migrations)
	if err != nil {
		return nil, fmt.Errorf("copy the database: %w", err)
	}
	if err := finishCopy(ctx, f, rows, o); err != nil {
		return nil, fmt.Errorf("finish the backup: %w", err)
	}
	found, err := examine(ctx, f.Name(), o.Verify, migrations)
	if err != nil {
		return nil, err
	}
	if found.Bytes, err = seal(f); err != nil {
		return nil, fmt.Errorf("finish the backup: %w", err)
	}
	return found, publish(f.Name(), o.File)
}

// copyInto copies one state of the database into an empty file, and gives the number of rows of that state.
func copyInto(ctx context.Context, f *os.File, source string, o BackupOptions, migrations fs.FS) (rows map[string]int64, err error) {
	dsn, err := untouching(source)
	if err != nil {
		return nil, err
	}
	db, err := openPool(dsn, 1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }() // read only: nothing can be lost
	forever := context.WithoutCancel(ctx)
	c, err := connect(forever, db)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if _, err := c.exec("BEGIN"); err != nil {
		return nil, err
	}
	// The first statement that reads fixes the state.
	if err := compatible(forever, c, migrations); err != nil {
		return nil, err
	}
	if err := approved(c, o.Verify); err != nil {
		return nil, err
	}
	if rows, err = countRows(c); err != nil {
		return nil, err
	}
	return rows, c.sql.Raw(func(driver any) error { return copyPages(ctx, driver, f, o.stepped) })
}

// copyPages runs the online backup on a connection of the driver. The disk takes the copy piece by piece: all of it at the
// end would keep the server's next commits waiting.
func copyPages(ctx context.Context, driver any, f *os.File, stepped func()) (err error) {
	source, ok := driver.(interface {
		NewBackup(to string) (*modernc.Backup, error)
	})
	if !ok {
		return errors.New("this driver cannot copy a database that is in use")
	}
	b, err := source.NewBackup(scratch(f.Name()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Finish()) }()
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if more, err = b.Step(backupStep); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if stepped != nil {
			stepped()
		}
	}
	return nil
}

// scratch names a file that nobody else uses and that is thrown away when anything goes wrong: no log, no journal, and no
// wait for the disk, which its owner sees to.
func scratch(path string) string {
	q := url.Values{"_pragma": {
		"foreign_keys(1)", "journal_mode(MEMORY)", "locking_mode(EXCLUSIVE)", "recursive_triggers(1)", "secure_delete(1)",
		"synchronous(OFF)", "temp_store(MEMORY)", "trusted_schema(0)",
	}}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// finishCopy makes a database of its own of the copied pages: one that needs no log, holds what lay beside the other, and
// says that it is a copy.
func finishCopy(ctx context.Context, f *os.File, rows map[string]int64, o BackupOptions) error {
	if err := unlog(f); err != nil {
		return err
	}
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	at := now().UTC().Truncate(time.Microsecond)
	return changeCopy(ctx, f, func(tx *conn) error {
		copied, err := countRows(tx)
		if err != nil {
			return err
		}
		if err := sameRows(rows, copied); err != nil {
			return err
		}
		for _, s := range o.Spilled {
			err := swapCredential(tx, s, at)
			if err != nil && !errors.Is(err, broker.ErrConflict) && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		return markCopy(tx, at)
	})
}

// unlog takes out of a file's header that it goes with a write-ahead log (https://sqlite.org/fileformat2.html, section
// 1.3.3). A copy of all pages has none.
func unlog(f *os.File) error {
	_, err := f.WriteAt([]byte{1, 1}, 18)
	return err
}

// markCopy notes when the copy was made, unless it is one of a copy.
func markCopy(tx *conn, at time.Time) error {
	d, err := deployment(tx)
	if err != nil || !d.CopiedAt.IsZero() {
		return err
	}
	d.CopiedAt = at
	return putDeployment(tx, d)
}

// changeCopy runs change in a transaction on a file that nobody else uses, and has it on the disk when it returns.
func changeCopy(ctx context.Context, f *os.File, change func(tx *conn) error) error {
	db, err := openPool(scratch(f.Name()), 1)
	if err != nil {
		return err
	}
	c, err := connect(context.WithoutCancel(ctx), db)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	err = inTransaction(c, change)
	c.close()
	return errors.Join(err, db.Close(), f.Sync())
}

func inTransaction(c *conn, change func(tx *conn) error) error {
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := change(c); err != nil {
		return err // closing the connection undoes what was done
	}
	_, err := c.exec("COMMIT")
	return err
}

// publish gives a file that is on the disk its name, unless that is taken by now.
func publish(from, to string) error {
	err := os.Link(from, to)
	switch {
	case errors.Is(err, fs.ErrExist):
		return errors.Join(fmt.Errorf("%w: %s", ErrTaken, to), os.Remove(from))
	case err == nil:
		err = os.Remove(from)
	default: // not every file system has links
		err = os.Rename(from, to)
	}
	return errors.Join(err, syncDir(filepath.Dir(to)))
}

// syncDir puts the names in a directory on the disk.
func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
