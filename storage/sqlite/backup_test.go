package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
)

// wide writes n audit lines that take up more than a page each.
func wide(t *testing.T, d *DB, n int) {
	t.Helper()
	trail := broker.Trail{}
	for i := range n {
		trail.Audit = append(trail.Audit, broker.AuditEntry{Action: "wide", Target: fmt.Sprint(i) + strings.Repeat("x", 10_000), Result: "ok", Count: 1})
	}
	ok(t, d.AppendTrail(t.Context(), trail))
}

// rowsOf counts the audit lines of a database.
func rowsOf(t *testing.T, dir string) int64 {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, FileName))
	ok(t, err)
	defer func() { ok(t, db.Close()) }()
	var n int64
	ok(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM audit").Scan(&n))
	return n
}

// backedUp makes a backup of a database with something in it.
func backedUp(t *testing.T) (d *DB, file string) {
	t.Helper()
	d = openTest(t, Options{Dir: t.TempDir(), Exclusive: true})
	wide(t, d, 3)
	file = filepath.Join(t.TempDir(), "backup")
	_, err := Backup(t.Context(), BackupOptions{Dir: d.dir, File: file})
	ok(t, err)
	return d, file
}

// names lists what is in a directory, but for the lock.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	ok(t, err)
	var out []string
	for _, e := range entries {
		if e.Name() != lockName {
			out = append(out, e.Name())
		}
	}
	return strings.Join(out, " ")
}

// The copy is of one moment, however long it takes, and whoever writes meanwhile waits for nobody.
func TestABackupIsOfOneMomentAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	d := openTest(t, Options{Dir: t.TempDir(), Exclusive: true})
	wide(t, d, 3000) // several steps
	file := filepath.Join(t.TempDir(), "backup")
	steps := 0
	got, err := Backup(t.Context(), BackupOptions{Dir: d.dir, File: file, stepped: func() {
		steps++
		wide(t, d, 1)
		ok(t, d.writer.submit(t.Context(), &request{beside: func(w *writer) error { // and the log is worked off as far as it can be
			return w.conn.row("PRAGMA wal_checkpoint(PASSIVE)", nil, new(int), new(int), new(int))
		}}))
	}})
	ok(t, err)
	if steps < 3 {
		t.Fatalf("it took %d steps", steps)
	}
	if got.Rows["audit"] != 3000 || got.Schema != 1 {
		t.Errorf("the copy holds %d lines in schema %d, want 3000 in 1", got.Rows["audit"], got.Schema)
	}
	info, err := os.Stat(file)
	ok(t, err)
	if info.Mode().Perm() != 0o600 || info.Size() != got.Bytes {
		t.Errorf("mode %o, %d bytes of %d", info.Mode().Perm(), info.Size(), got.Bytes)
	}
	if left := names(t, filepath.Dir(file)); left != "backup" {
		t.Errorf("there is %s", left)
	}
	dir := t.TempDir()
	_, err = Restore(t.Context(), RestoreOptions{File: file, Dir: dir})
	ok(t, err)
	if n := rowsOf(t, dir); n != 3000 {
		t.Errorf("%d lines were restored", n)
	}
	if n := rowsOf(t, d.dir); n != int64(3000+steps) {
		t.Errorf("the database has %d lines", n)
	}
}

// A backup changes nothing, whoever has left the database how, and says of the copy alone that it is one.
func TestABackupLeavesTheDatabaseAlone(t *testing.T) {
	t.Parallel()
	d := openTest(t, Options{Dir: t.TempDir(), Exclusive: true})
	ok(t, d.SetDeployment(t.Context(), "", broker.Deployment{Cluster: "one", PublicURL: "https://one.example"}, broker.Trail{}))
	at := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	for name, suffixes := range map[string][]string{"running": nil, "killed": ofKilled, "copied": ofCopied} {
		dir := d.dir
		if suffixes != nil {
			dir = left(t, d, suffixes)
		}
		before := contents(t, dir)
		file := filepath.Join(t.TempDir(), "backup")
		got, err := Backup(t.Context(), BackupOptions{Dir: dir, File: file, Now: func() time.Time { return at }})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		same(t, dir, before)
		want := broker.Deployment{Cluster: "one", PublicURL: "https://one.example", CopiedAt: at}
		if got.Deployment != want {
			t.Errorf("%s: the copy says %+v", name, got.Deployment)
		}
		to := t.TempDir()
		restored, err := Restore(t.Context(), RestoreOptions{File: file, Dir: to})
		ok(t, err)
		if restored.Deployment != want || restored.Kept != "" {
			t.Errorf("%s: restored as %+v", name, restored)
		}
	}
	if got, err := d.Deployment(t.Context()); err != nil || !got.CopiedAt.IsZero() {
		t.Errorf("the database says %+v, %v", got, err)
	}
	if got, err := Backup(t.Context(), BackupOptions{Dir: left(t, d, ofCopied), File: filepath.Join(t.TempDir(), "backup")}); err != nil || got.Rows["deployment"] != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// A file is a backup byte for byte or not at all.
func TestADamagedBackupIsRefused(t *testing.T) {
	t.Parallel()
	_, file := backedUp(t)
	whole, err := os.ReadFile(file)
	ok(t, err)
	changed := func(at int) []byte {
		out := bytes.Clone(whole)
		out[at] ^= 1
		return out
	}
	resealed := func(change func(raw []byte)) []byte { // as somebody would who can compute the last line
		path := filepath.Join(t.TempDir(), "resealed")
		raw := bytes.Clone(whole[:len(whole)-trailerLength])
		change(raw)
		ok(t, os.WriteFile(path, raw, 0o600))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		ok(t, err)
		_, err = seal(f)
		ok(t, errors.Join(err, f.Close()))
		out, err := os.ReadFile(path)
		ok(t, err)
		return out
	}
	for name, raw := range map[string][]byte{
		"empty":                 {},
		"short":                 []byte("SQLite format 3\x00"),
		"cut by a byte":         whole[:len(whole)-1],
		"cut in half":           whole[:len(whole)/2],
		"without its last line": whole[:len(whole)-trailerLength],
		"longer":                append(bytes.Clone(whole), '\n'),
		"changed at the start":  changed(0),
		"changed in the middle": changed(len(whole) / 2),
		"changed last line":     changed(len(whole) - 3),
		"no database":           resealed(func(raw []byte) { clear(raw[:100]) }),
		"damaged pages":         resealed(func(raw []byte) { clear(raw[3*pageSize : 6*pageSize]) }),
	} {
		path := filepath.Join(t.TempDir(), "backup")
		ok(t, os.WriteFile(path, raw, 0o600))
		dir := t.TempDir()
		if _, err := Restore(t.Context(), RestoreOptions{File: path, Dir: dir}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v", name, err)
		}
		if there := names(t, dir); there != "" {
			t.Errorf("%s: there is %s", name, there)
		}
	}
}

// A copy with a row that refers to none is not handed out, and neither is one whose keys do not fit.
func TestABackupThatFailsItsChecksIsNotMade(t *testing.T) {
	t.Parallel()
	d := openTest(t, Options{Dir: t.TempDir(), Exclusive: true})
	ok(t, d.AddKey(t.Context(), broker.WrappedKey{ID: 1, Wrapped: []byte("wrapped"), Active: true, CreatedAt: time.Unix(1, 0)}))
	dir := t.TempDir()
	o := BackupOptions{Dir: d.dir, File: filepath.Join(dir, "backup")}
	wrong := errors.New("the wrong key")
	o.Verify = func(keys []broker.WrappedKey) error {
		if len(keys) != 1 || string(keys[0].Wrapped) != "wrapped" {
			t.Errorf("asked about %+v", keys)
		}
		return wrong
	}
	if _, err := Backup(t.Context(), o); !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
	o.Verify = nil
	if _, err := backup(t.Context(), o, later(t, "SELECT 1;")); err != nil { // an older schema is copied as it is
		t.Error(err)
	}
	o.File += "-2"
	onWriter(t, d, "PRAGMA foreign_keys = OFF")
	ok(t, d.write(t.Context(), "break a reference", func(tx *conn) error {
		_, err := tx.exec("INSERT INTO session_ends (session, integration, connection) VALUES ('none', 'none', 'none')")
		return err
	}))
	if _, err := Backup(t.Context(), o); !errors.Is(err, ErrDamaged) {
		t.Errorf("a dangling reference: %v", err)
	}
	if there := names(t, dir); there != "backup" {
		t.Errorf("there is %s", there)
	}
}

func TestWhatABackupIsNotMadeOf(t *testing.T) {
	t.Parallel()
	d, file := backedUp(t)
	before, err := os.ReadFile(file)
	ok(t, err)
	if _, err := Backup(t.Context(), BackupOptions{Dir: d.dir, File: file}); !errors.Is(err, ErrTaken) {
		t.Errorf("over another: %v", err)
	}
	after, err := os.ReadFile(file)
	ok(t, err)
	if !bytes.Equal(before, after) {
		t.Error("it was overwritten")
	}
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if _, err := Backup(t.Context(), BackupOptions{Dir: t.TempDir(), File: other}); !errors.Is(err, ErrNoDatabase) {
		t.Errorf("of nothing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Backup(ctx, BackupOptions{Dir: d.dir, File: other}); !errors.Is(err, context.Canceled) {
		t.Errorf("by somebody who has left: %v", err)
	}
	newer := openLater(t, Options{Dir: t.TempDir()}, later(t, "CREATE TABLE more (id INTEGER);"))
	if _, err := Backup(t.Context(), BackupOptions{Dir: newer.dir, File: other}); !errors.Is(err, ErrTooNew) {
		t.Errorf("of a newer schema: %v", err)
	}
	if there := names(t, dir); there != "" {
		t.Errorf("there is %s", there)
	}
	if _, err := backup(t.Context(), BackupOptions{Dir: newer.dir, File: other}, later(t, "CREATE TABLE more (id INTEGER);")); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), RestoreOptions{File: other, Dir: dir}); !errors.Is(err, ErrTooNew) {
		t.Errorf("a restoration of a newer schema: %v", err)
	}
}

// Renewed tokens that the database could not take are in the copy, unless it has newer ones.
func TestABackupHoldsWhatWasSpilled(t *testing.T) {
	t.Parallel()
	d := openTest(t, Options{Dir: t.TempDir(), Exclusive: true})
	id := connected(t, d)
	swap := func(of broker.ConnectionID, from int64) *broker.Swap {
		return &broker.Swap{Connection: of, From: from, Next: &broker.Credential{
			Connection: of, Version: from + 1, Type: "OAUTH2", Access: broker.Sealed("new access"), Refresh: broker.Sealed("new refresh"),
		}, Trail: line("renewed")}
	}
	file, dir := filepath.Join(t.TempDir(), "backup"), t.TempDir()
	_, err := Backup(t.Context(), BackupOptions{
		Dir: d.dir, File: file, Spilled: []*broker.Swap{swap(id, 1), swap(id, 1), swap("gone", 1)},
	})
	ok(t, err)
	_, err = Restore(t.Context(), RestoreOptions{File: file, Dir: dir})
	ok(t, err)
	copied := openTest(t, Options{Dir: dir})
	got, err := copied.Credential(t.Context(), id)
	ok(t, err)
	if got.Version != 2 || string(got.Refresh) != "new refresh" {
		t.Errorf("the copy holds version %d, %s", got.Version, got.Refresh)
	}
	if n := lines(t, copied, "renewed"); n != 1 {
		t.Errorf("its trail was written %d times", n)
	}
	if got, err := d.Credential(t.Context(), id); err != nil || got.Version != 1 {
		t.Errorf("the database holds version %d, %v", got.Version, err)
	}
}

// connected makes a connection with a credential of version 1.
func connected(t *testing.T, d *DB) broker.ConnectionID {
	t.Helper()
	env := &broker.Environment{ID: broker.EnvironmentID(uuid.NewString()), Name: "dev", Start: broker.StartAuto}
	ok(t, d.SaveEnvironment(t.Context(), env, broker.Trail{}))
	i := &broker.Integration{ID: broker.IntegrationID(uuid.NewString()), PublicID: uuid.NewString(), Environment: env.ID, Key: "one", Provider: "one"}
	ok(t, d.CreateIntegration(t.Context(), i, broker.Trail{}))
	id := broker.ConnectionID(uuid.NewString())
	ok(t, d.PutGrant(t.Context(), &broker.Grant{
		New:        true,
		Connection: &broker.Connection{ID: id, Environment: env.ID, Integration: i.ID, Key: "one", Status: broker.Active},
		Credential: &broker.Credential{Connection: id, Version: 1, Type: "OAUTH2", Access: broker.Sealed("access"), Refresh: broker.Sealed("refresh")},
	}))
	return id
}
