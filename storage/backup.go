package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// Failures of backing up and restoring. Their texts begin with a published code.
var (
	ErrNoDatabase = sqlite.ErrNoDatabase // database_missing
	ErrTaken      = sqlite.ErrTaken      // backup_exists
	ErrThere      = sqlite.ErrThere      // database_exists
	ErrDamaged    = sqlite.ErrDamaged    // backup_damaged
)

// errOtherTools is for a backend that has its own.
var errOtherTools = errors.New("only a SQLite database is backed up and restored by this program; PostgreSQL has its own tools")

// Backup is what one holds.
type Backup struct {
	sqlite.Contents
	Spilled int // renewed tokens among them that lay beside the database
}

// WriteBackup copies the database into file, which must not exist, while a server may be using it. What was spilled beside
// it goes into the copy. Of the options, Exclusive says nothing here.
func WriteBackup(ctx context.Context, name string, o Options, file string) (*Backup, error) {
	if name != "sqlite" {
		return nil, errOtherTools
	}
	// Before the copy is begun: a server that starts meanwhile stores them, and then removes the files.
	spilled, _, err := NewReserve(o.Dir).Spilled()
	if err != nil {
		return nil, err
	}
	contents, err := sqlite.Backup(ctx, sqlite.BackupOptions{Dir: o.Dir, File: file, Now: o.Now, Verify: o.Verify, Spilled: spilled})
	if err != nil {
		return nil, err
	}
	return &Backup{Contents: *contents, Spilled: len(spilled)}, nil
}

// Restore puts the database of a backup into the data directory, which no server may be using. With replace, a database
// that is there is put aside together with what was spilled beside it.
func Restore(ctx context.Context, name string, o Options, file string, replace bool) (*sqlite.Restored, error) {
	if name != "sqlite" {
		return nil, errOtherTools
	}
	beside, err := NewReserve(o.Dir).spills()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for what was spilled: %w", err)
	}
	return sqlite.Restore(ctx, sqlite.RestoreOptions{File: file, Dir: o.Dir, Replace: replace, Beside: beside, Now: o.Now, Verify: o.Verify})
}
