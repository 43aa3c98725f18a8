package storage_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage"
)

// What was spilled beside a database stays with it: its files are read into a backup, and go aside with a database that
// is replaced, so that the next start does not take them for those of the new one.
func TestWhatWasSpilledStaysWithItsDatabase(t *testing.T) {
	t.Parallel()
	o := storage.Options{Dir: filepath.Join(t.TempDir(), "data [1]*")}
	db, err := storage.Open(t.Context(), "sqlite", o)
	ok(t, err)
	ok(t, db.Close())
	r := storage.NewReserve(o.Dir)
	ok(t, r.Spill([]*broker.Swap{swap("a"), swap("b")}))

	file := filepath.Join(t.TempDir(), "backup")
	made, err := storage.WriteBackup(t.Context(), "sqlite", o, file)
	ok(t, err)
	if made.Spilled != 2 || made.Bytes == 0 {
		t.Errorf("got %+v", made)
	}
	if swaps, _, err := r.Spilled(); err != nil || len(swaps) != 2 {
		t.Errorf("%d are left, %v", len(swaps), err)
	}

	if _, err := storage.Restore(t.Context(), "sqlite", o, file, false); !errors.Is(err, storage.ErrThere) {
		t.Fatalf("got %v", err)
	}
	got, err := storage.Restore(t.Context(), "sqlite", o, file, true)
	ok(t, err)
	if swaps, _, err := r.Spilled(); err != nil || len(swaps) != 0 {
		t.Errorf("%d are taken for those of the new database, %v", len(swaps), err)
	}
	_, suffix, _ := strings.Cut(got.Kept, storage.FileName)
	if _, err := os.Stat(filepath.Join(o.Dir, "coatcheck.spill-00000001.json"+suffix)); err != nil {
		t.Error(err)
	}
}

func TestARestorationMakesItsDirectory(t *testing.T) {
	t.Parallel()
	o := storage.Options{Dir: t.TempDir()}
	db, err := storage.Open(t.Context(), "sqlite", o)
	ok(t, err)
	ok(t, db.Close())
	file := filepath.Join(t.TempDir(), "backup")
	_, err = storage.WriteBackup(t.Context(), "sqlite", o, file)
	ok(t, err)
	dir := filepath.Join(t.TempDir(), "new", "data")
	_, err = storage.Restore(t.Context(), "sqlite", storage.Options{Dir: dir}, file, false)
	ok(t, err)
	info, err := os.Stat(dir)
	ok(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("it has mode %o", info.Mode().Perm())
	}
}

func TestOtherDatabasesHaveTheirOwnTools(t *testing.T) {
	t.Parallel()
	o := storage.Options{Dir: t.TempDir()}
	file := filepath.Join(t.TempDir(), "backup")
	const name = "postgres://user:password@host/db"
	_, err := storage.WriteBackup(t.Context(), name, o, file)
	_, err2 := storage.Restore(t.Context(), name, o, file, false)
	for _, err := range []error{err, err2} {
		if err == nil || strings.Contains(err.Error(), "password") {
			t.Errorf("got %v", err)
		}
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was made")
	}
}
