package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/coatcheck/coatcheck/broker"
)

// RestoreOptions say which backup to put where.
type RestoreOptions struct {
	File    string // a backup
	Dir     string // of the database; made with mode 0700 if it is not there
	Replace bool   // a database that is there is put aside
	// Beside are other files in Dir that belong to the database that is put aside, and go with it.
	Beside []string
	// Now is the clock; nil: the system's.
	Now func() time.Time
	// Verify is handed the keyring. Its error ends the restoration. nil: every keyring will do.
	Verify func([]broker.WrappedKey) error
}

// Restored is what came of a backup.
type Restored struct {
	Contents
	Kept string // the database that was there before; empty: there was none
}

// restoring stands before the random part of a database's name until it is the directory's.
const restoring = FileName + ".restoring-"

// Restore puts the database of a backup into a directory that no server uses. The directory is as it was until the new
// database is on the disk and was found whole. Errors: [ErrInUse], [ErrThere], [ErrDamaged], [ErrTooNew], and what Verify
// returns.
func Restore(ctx context.Context, o RestoreOptions) (*Restored, error) { return restore(ctx, o, embedded) }

func restore(ctx context.Context, o RestoreOptions, migrations fs.FS) (_ *Restored, err error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock := flock.New(filepath.Join(o.Dir, lockName), flock.SetPermissions(0o600))
	got, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if !got {
		return nil, ErrInUse
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	path := filepath.Join(o.Dir, FileName)
	there := exists(path) || exists(path+"-wal")
	if there && !o.Replace {
		return nil, fmt.Errorf("%w: %s", ErrThere, path)
	}
	fresh, found, err := unpack(ctx, o, migrations)
	if err != nil {
		return nil, err
	}
	out := &Restored{Contents: *found}
	if there {
		if out.Kept, err = putAside(ctx, o); err != nil {
			return nil, errors.Join(fmt.Errorf("put the old database aside: %w", err), os.Remove(fresh))
		}
	}
	if err := errors.Join(os.Rename(fresh, path), syncDir(o.Dir)); err != nil {
		return nil, fmt.Errorf("put the database in its place: %w", err)
	}
	return out, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// unpack makes a database of the backup, under a name of its own, and gives what it holds.
func unpack(ctx context.Context, o RestoreOptions, migrations fs.FS) (name string, found *Contents, err error) {
	if err := sweepRestoring(o.Dir); err != nil {
		return "", nil, fmt.Errorf("remove what an earlier restoration left: %w", err)
	}
	from, err := os.Open(o.File)
	if err != nil {
		return "", nil, fmt.Errorf("open the backup: %w", err)
	}
	defer func() { _ = from.Close() }()
	if err := unseal(io.Discard, from); err != nil { // before anything is written
		return "", nil, fmt.Errorf("read %s: %w", o.File, err)
	}
	before, err := examine(ctx, o.File, o.Verify, migrations)
	if err != nil {
		return "", nil, err
	}
	to, err := os.CreateTemp(o.Dir, restoring) // of mode 0600
	if err != nil {
		return "", nil, fmt.Errorf("make the database: %w", err)
	}
	defer func() {
		_ = to.Close()
		if err != nil {
			_ = os.Remove(to.Name())
		}
	}()
	if err := unseal(to, from); err != nil {
		return "", nil, fmt.Errorf("copy %s: %w", o.File, err)
	}
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	err = changeCopy(ctx, to, func(tx *conn) error { return markCopy(tx, now().UTC().Truncate(time.Microsecond)) })
	if err != nil {
		return "", nil, fmt.Errorf("mark the copy: %w", err)
	}
	if found, err = examine(ctx, to.Name(), o.Verify, migrations); err != nil {
		return "", nil, err
	}
	return to.Name(), found, sameRows(before.Rows, found.Rows)
}

// sweepRestoring removes what a restoration left that was killed. The lock says that none is under way.
func sweepRestoring(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), restoring) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// putAside gives the database that is there, and what belongs to it, a name with the time in it. Its log goes along, and
// must not stay: SQLite would read it into the next database of the name.
func putAside(ctx context.Context, o RestoreOptions) (kept string, err error) {
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	path := filepath.Join(o.Dir, FileName)
	emptyLog(ctx, path)
	suffix := ".replaced-" + now().UTC().Format("20060102T150405.000Z")
	kept = path + suffix
	if exists(kept) {
		return "", fmt.Errorf("%s: %w", kept, fs.ErrExist)
	}
	moves := [][2]string{{path, kept}, {path + "-wal", kept + "-wal"}, {path + "-shm", kept + "-shm"}}
	for _, name := range o.Beside {
		moves = append(moves, [2]string{filepath.Join(o.Dir, name), filepath.Join(o.Dir, name) + suffix})
	}
	for _, m := range moves {
		if err := os.Rename(m[0], m[1]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return kept, nil
}

// emptyLog moves the log into its database, so that the file can stand alone. A database that is too damaged for that may
// be why it is replaced, and keeps its log.
func emptyLog(ctx context.Context, path string) {
	db, err := openPool(dsn(path, false), 1)
	if err != nil {
		return
	}
	defer func() { _ = db.Close() }()
	c, err := connect(context.WithoutCancel(ctx), db)
	if err != nil {
		return
	}
	defer c.close()
	_ = c.row("PRAGMA wal_checkpoint(TRUNCATE)", nil, new(int), new(int), new(int))
}
