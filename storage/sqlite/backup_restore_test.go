package sqlite

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// A database that is there is not touched without being told to, and never lost.
func TestARestorationKeepsWhatItReplaces(t *testing.T) {
	t.Parallel()
	_, file := backedUp(t)
	for name, suffixes := range map[string][]string{"closed": ofClosed, "killed": ofKilled, "copied": ofCopied} {
		old := openTest(t, Options{Dir: t.TempDir()})
		wide(t, old, 7)
		dir := left(t, old, suffixes)
		ok(t, os.WriteFile(filepath.Join(dir, "spilled"), []byte("of the old one"), 0o600))
		before := contents(t, dir)
		at := time.Date(2030, 1, 2, 3, 4, 5, 6e6, time.UTC)
		o := RestoreOptions{File: file, Dir: dir, Beside: []string{"spilled"}, Now: func() time.Time { return at }}
		if _, err := Restore(t.Context(), o); !errors.Is(err, ErrThere) {
			t.Errorf("%s: got %v", name, err)
		}
		same(t, dir, before)

		o.Replace = true
		got, err := Restore(t.Context(), o)
		ok(t, err)
		const suffix = ".replaced-20300102T030405.006Z"
		if want := filepath.Join(dir, FileName+suffix); got.Kept != want {
			t.Errorf("%s: kept as %s", name, got.Kept)
		}
		if n := rowsOf(t, dir); n != 3 {
			t.Errorf("%s: %d lines were restored", name, n)
		}
		ok(t, os.Rename(got.Kept, filepath.Join(dir, FileName)))
		if n := rowsOf(t, dir); n != 7 {
			t.Errorf("%s: %d lines were kept", name, n)
		}
		if raw, err := os.ReadFile(filepath.Join(dir, "spilled"+suffix)); err != nil || string(raw) != "of the old one" {
			t.Errorf("%s: what lay beside: %s, %v", name, raw, err)
		}
	}
}

// One that SQLite cannot open any more is replaced too, log and all: the log must not be read into the new one.
func TestADamagedDatabaseIsReplaced(t *testing.T) {
	t.Parallel()
	_, file := backedUp(t)
	old := openTest(t, Options{Dir: t.TempDir()})
	onWriter(t, old, "PRAGMA wal_checkpoint(TRUNCATE)")
	wide(t, old, 7)
	dir := left(t, old, ofCopied)
	path := filepath.Join(dir, FileName)
	damaged := bytes.Repeat([]byte("the disk has failed "), 10_000)
	ok(t, os.WriteFile(path, damaged, 0o600))
	log, err := os.ReadFile(path + "-wal")
	ok(t, err)
	got, err := Restore(t.Context(), RestoreOptions{File: file, Dir: dir, Replace: true})
	ok(t, err)
	if n := rowsOf(t, dir); n != 3 {
		t.Errorf("%d lines were restored", n)
	}
	raw, err := os.ReadFile(got.Kept)
	ok(t, err)
	if !bytes.Equal(raw, damaged) {
		t.Error("the old file was changed")
	}
	if kept, err := os.ReadFile(got.Kept + "-wal"); err != nil || len(kept) != len(log) {
		t.Errorf("%d bytes of the old log were kept of %d, %v", len(kept), len(log), err)
	}
}

// Under a running server nothing is restored, nor with the wrong keys; what a killed restoration left goes away.
func TestWhereNothingIsRestored(t *testing.T) {
	t.Parallel()
	source := openTest(t, Options{Dir: t.TempDir()})
	ok(t, source.AddKey(t.Context(), broker.WrappedKey{ID: 1, Wrapped: []byte("wrapped"), Active: true, CreatedAt: time.Unix(1, 0)}))
	file := filepath.Join(t.TempDir(), "backup")
	_, err := Backup(t.Context(), BackupOptions{Dir: source.dir, File: file})
	ok(t, err)

	server := openTest(t, Options{Dir: t.TempDir(), Exclusive: true})
	before := contents(t, server.dir)
	if _, err := Restore(t.Context(), RestoreOptions{File: file, Dir: server.dir, Replace: true}); !errors.Is(err, ErrInUse) {
		t.Errorf("under a server: %v", err)
	}
	same(t, server.dir, before)

	dir := filepath.Join(t.TempDir(), "new")
	wrong := errors.New("the wrong key")
	o := RestoreOptions{File: file, Dir: dir, Verify: func([]broker.WrappedKey) error { return wrong }}
	if _, err := Restore(t.Context(), o); !errors.Is(err, wrong) {
		t.Errorf("with the wrong key: %v", err)
	}
	ok(t, os.WriteFile(filepath.Join(dir, restoring+"123"), []byte("half"), 0o600))
	o.Verify = nil
	if _, err := Restore(t.Context(), o); err != nil {
		t.Error(err)
	}
	if there := names(t, dir); there != FileName {
		t.Errorf("there is %s", there)
	}
	info, err := os.Stat(filepath.Join(dir, FileName))
	ok(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the database has mode %o", info.Mode().Perm())
	}
	keys, err := openTest(t, Options{Dir: dir, Exclusive: true}).Keys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Errorf("the keys are %v, %v", keys, err)
	}
}
