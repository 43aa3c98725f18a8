package sqlite

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// contents gives a hash of every file in a directory, but for the lock and the log's index, which hold nothing.
func contents(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	out := make(map[string][32]byte)
	entries, err := os.ReadDir(dir)
	ok(t, err)
	for _, e := range entries {
		if e.Name() == lockName || strings.HasSuffix(e.Name(), "-shm") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		ok(t, err)
		out[e.Name()] = sha256.Sum256(raw)
	}
	return out
}

// same fails unless nothing in dir has changed since before.
func same(t *testing.T, dir string, before map[string][32]byte) {
	t.Helper()
	after := contents(t, dir)
	for name, hash := range after {
		if was, there := before[name]; !there {
			t.Errorf("%s was made", name)
		} else if was != hash {
			t.Errorf("%s was changed", name)
		}
	}
	for name := range before {
		if _, there := after[name]; !there {
			t.Errorf("%s was removed", name)
		}
	}
}

// Files that a process leaves behind: when it closes the database, when it is killed, and without the index, which nobody
// needs to copy.
var (
	ofClosed = []string{""}
	ofKilled = []string{"", "-wal", "-shm"}
	ofCopied = []string{"", "-wal"}
)

// left copies a database's files to another directory.
func left(t *testing.T, d *DB, suffixes []string) string {
	t.Helper()
	if len(suffixes) == 1 {
		ok(t, d.Close())
	}
	dir := t.TempDir()
	for _, suffix := range suffixes {
		raw, err := os.ReadFile(d.Path() + suffix)
		ok(t, err)
		ok(t, os.WriteFile(filepath.Join(dir, FileName+suffix), raw, 0o600))
	}
	return dir
}

// Until the keyring has been approved nothing is written: no migration, no backup, and no log moved into the file.
func TestTheKeyringIsVerifiedFirst(t *testing.T) {
	t.Parallel()
	wrong := errors.New("the wrong key")
	for name, files := range map[string][]string{"closed": ofClosed, "killed": ofKilled, "copied": ofCopied} {
		for _, exclusive := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				d := seeded(t, 5)
				key := broker.WrappedKey{ID: 7, Wrapped: []byte("wrapped"), Recipients: []string{"age1"}, Check: []byte("check"), Active: true}
				ok(t, d.AddKey(t.Context(), key))
				dir := left(t, d, files)
				before := contents(t, dir)
				verify := func(answer error) func([]broker.WrappedKey) error {
					return func(keys []broker.WrappedKey) error {
						if len(keys) != 1 || keys[0].ID != key.ID || string(keys[0].Wrapped) != "wrapped" || string(keys[0].Check) != "check" || !keys[0].Active {
							t.Errorf("got %+v", keys)
						}
						return answer
					}
				}
				o := Options{Dir: dir, Exclusive: exclusive, Verify: verify(wrong)}
				if _, err := open(t.Context(), o, later(t, "DROP TABLE credentials;")); !errors.Is(err, wrong) {
					t.Fatalf("with a migration to do: %v", err)
				}
				same(t, dir, before)
				if _, err := Open(t.Context(), o); !errors.Is(err, wrong) {
					t.Fatalf("without one: %v", err)
				}
				same(t, dir, before)
				o.Verify = verify(nil)
				right := openLater(t, o, later(t, "CREATE TABLE later (id INTEGER) STRICT;"))
				_, err := right.Ticket(t.Context(), "integration", "4")
				ok(t, err)
				if _, err := os.Stat(right.Path() + ".bak-1"); err != nil {
					t.Errorf("no backup: %v", err)
				}
			})
		}
	}
}

// A schema that is too new is left alone as well, and its keyring is not read: it may be another.
func TestANewerSchemaIsNotTouched(t *testing.T) {
	t.Parallel()
	d := openLater(t, Options{Dir: t.TempDir()}, later(t, "DROP TABLE keyring;"))
	dir := left(t, d, ofKilled)
	before := contents(t, dir)
	_, err := Open(t.Context(), Options{Dir: dir, Verify: func([]broker.WrappedKey) error {
		t.Error("there is no keyring")
		return nil
	}})
	if !errors.Is(err, ErrTooNew) {
		t.Errorf("got %v", err)
	}
	same(t, dir, before)
}

// Where there is no key yet there is nothing to verify.
func TestAFreshDatabaseIsNotVerified(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), Exclusive: true, Verify: func([]broker.WrappedKey) error {
		t.Error("a database without a key was verified")
		return nil
	}}
	ok(t, openTest(t, o).Close())
	ok(t, openTest(t, o).Close())
}

// What cannot be read is said, and not taken for a database without keys.
func TestADamagedDatabaseIsNotVerified(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, FileName), []byte(strings.Repeat("not a database. ", 1024)), 0o600))
	before := contents(t, dir)
	if _, err := Open(t.Context(), Options{Dir: dir, Verify: func([]broker.WrappedKey) error { return nil }}); err == nil {
		t.Error("it opens")
	}
	same(t, dir, before)
}
