package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// later is the migrations of a later version of the program.
func later(t *testing.T, statement string) fs.FS {
	t.Helper()
	first, err := fs.ReadFile(embedded, "00001_init.sql")
	ok(t, err)
	return fstest.MapFS{
		"00001_init.sql":  {Data: first},
		"00002_later.sql": {Data: []byte("-- +goose Up\n" + statement)},
	}
}

func openLater(t *testing.T, o Options, migrations fs.FS) *DB {
	t.Helper()
	d, err := open(t.Context(), o, migrations)
	ok(t, err)
	t.Cleanup(func() { ok(t, d.Close()) })
	return d
}

func TestANewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newer := openLater(t, Options{Dir: dir}, later(t, "CREATE TABLE later (id INTEGER) STRICT;"))
	ok(t, newer.Close())
	_, err := Open(t.Context(), Options{Dir: dir, Exclusive: true})
	if !errors.Is(err, ErrTooNew) || !strings.HasPrefix(err.Error(), "schema_too_new") {
		t.Fatalf("an older program opens a newer schema: %v", err)
	}
	openLater(t, Options{Dir: dir, Exclusive: true}, later(t, "")) // the lock is free
}

func TestAMigrationBacksUpFirst(t *testing.T) {
	t.Parallel()
	d := seeded(t, 5)
	ok(t, d.Close())
	if _, err := os.Stat(d.Path() + ".bak-0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a new database was backed up: %v", err)
	}
	backup := d.Path() + ".bak-1"
	ok(t, os.WriteFile(backup, []byte("of an attempt before"), 0o600))
	openLater(t, Options{Dir: d.dir}, later(t, "DROP TABLE credentials;"))
	info, err := os.Stat(backup)
	ok(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %o", info.Mode().Perm())
	}
	dir := t.TempDir()
	ok(t, os.Rename(backup, dir+"/"+FileName))
	restored := openTest(t, Options{Dir: dir})
	_, err = restored.Ticket(t.Context(), "integration", "4")
	ok(t, err)
}

func TestAFailedMigrationChangesNothing(t *testing.T) {
	t.Parallel()
	d := seeded(t, 1)
	ok(t, d.Close())
	if _, err := open(t.Context(), Options{Dir: d.dir}, later(t, "DROP TABLE credentials; DROP TABLE unknown;")); err == nil {
		t.Fatal("it succeeded")
	}
	again := openTest(t, Options{Dir: d.dir, Exclusive: true})
	_, err := again.Ticket(t.Context(), "integration", "0")
	ok(t, err)
}

func TestNoMigrationUnderARunningServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openTest(t, Options{Dir: dir, Exclusive: true})
	ctx, cancel := context.WithTimeout(t.Context(), 2*migrationLook)
	defer cancel()
	if _, err := open(ctx, Options{Dir: dir}, later(t, "DROP TABLE credentials;")); !errors.Is(err, ErrInUse) {
		t.Fatalf("a command migrates under a server: %v", err)
	}
}

func TestManyOpenAFreshDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			d, err := Open(t.Context(), Options{Dir: dir})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			if err := d.Ping(t.Context()); err != nil {
				t.Errorf("ping: %v", err)
			}
			if err := d.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	all.Wait()
}

// BenchmarkOpen is what a start costs: an existing database, and a fresh one with its migrations.
func BenchmarkOpen(b *testing.B) {
	openAndClose := func(b *testing.B, dir string) {
		d, err := Open(b.Context(), Options{Dir: dir, Exclusive: true})
		ok(b, err)
		ok(b, d.Ping(b.Context()))
		b.StopTimer()
		ok(b, d.Close())
		b.StartTimer()
	}
	b.Run("existing", func(b *testing.B) {
		d := seeded(b, 1000)
		ok(b, d.Close())
		for b.Loop() {
			openAndClose(b, d.dir)
		}
	})
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			openAndClose(b, b.TempDir())
		}
	})
}
