package main

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
	"github.com/coatcheck/coatcheck/storage"
)

// tried runs a command beside the process and gives what it says, whatever comes of it.
func (p *process) tried(args ...string) (string, error) {
	p.t.Helper()
	bin, err := exec.LookPath("coatcheck")
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := exec.CommandContext(p.t.Context(), bin, append(args, "--config", filepath.Join(p.dir, "coatcheck.yaml"))...).CombinedOutput()
	return string(out), err
}

// refuses runs a command that must fail with one line that holds the text.
func (p *process) refuses(text string, args ...string) {
	p.t.Helper()
	out, err := p.tried(args...)
	if err == nil || strings.Count(out, "\n") != 1 || !strings.Contains(out, text) {
		p.t.Errorf("%v: got %v, %s", args, err, out)
	}
}

// data is a path in the data directory.
func (p *process) data(name string) string { return filepath.Join(p.dir, "data", name) }

// moved is a process on another machine, with the identity of this one and an address of its own, and no database.
func (p *process) moved() *process {
	p.t.Helper()
	out := newProcess(p.t, p.provider)
	raw, err := os.ReadFile(p.data("identity.txt"))
	if err == nil {
		err = os.Mkdir(out.data(""), 0o700)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	out.write("data/identity.txt", string(raw))
	return out
}

// sql runs a statement on the database, beside the server or without one.
func (p *process) sql(statement string, args ...any) {
	p.t.Helper()
	db, err := sql.Open("sqlite", "file:"+p.data(storage.FileName)+"?_pragma=busy_timeout(5000)")
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = db.ExecContext(p.t.Context(), statement, args...)
	if err := errors.Join(err, db.Close()); err != nil {
		p.t.Fatal(err)
	}
}

// imports makes a connection and ends the test if that does not work.
func (p *process) imports(id string) {
	p.t.Helper()
	if a, err := p.importToken(p.t.Context(), id, time.Now().Add(time.Hour)); err != nil || a.status != http.StatusCreated {
		p.t.Fatal(a, err)
	}
}

// A backup that is made while the broker is busy holds every connection that was acknowledged before. Restored elsewhere,
// all of them are served, and the provider is asked for nothing; once the copy is adopted, what is due is renewed, once.
func TestABackupUnderLoadIsRestoredElsewhere(t *testing.T) {
	provider := providertest.New(t, providertest.Knobs{Rotate: true})
	p := newProcess(t, provider)
	p.start()
	const before = 40
	for i := range before {
		p.imports(fmt.Sprint("before-", i))
	}
	stop := make(chan struct{})
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if a, err := p.importToken(t.Context(), fmt.Sprintf("during-%d-%d", w, n), time.Now().Add(time.Hour)); err != nil || a.status != http.StatusCreated {
					t.Error(a, err)
					return
				}
			}
		})
	}
	file := filepath.Join(t.TempDir(), "backup")
	said := p.command("backup", file)
	close(stop)
	work.Wait()
	for _, text := range []string{"1 environment, ", "1 integration, ", "What opens them is not in it", p.data("identity.txt")} {
		if !strings.Contains(said, text) {
			t.Errorf("backup does not say %q: %s", text, said)
		}
	}
	p.refuses("database_in_use", "restore", file, "--replace")

	q := p.moved()
	if said := q.command("restore", file); !strings.Contains(said, p.origin()) || !strings.Contains(said, `"coatcheck adopt"`) {
		t.Errorf("restore says %s", said)
	}
	checkIntegrity(t, q.data(""))
	q.sql("UPDATE credentials SET refresh_at = 1, failures = 0 WHERE connection_number = (SELECT number FROM connections WHERE key = 'before-0')")
	asked := provider.Counts().Tokens
	q.start()
	if !strings.Contains(q.log.String(), "renewals are paused") || !strings.Contains(q.log.String(), "Nothing is renewed") {
		t.Errorf("the start says nothing of the pause: %s", q.log.String())
	}
	for i := range before {
		if token, a, err := q.token(t.Context(), fmt.Sprint("before-", i), false); err != nil || !provider.Good(token) {
			t.Fatal(i, a, err)
		}
	}
	_, a, err := q.token(t.Context(), "before-1", true)
	if err != nil || a.status != http.StatusServiceUnavailable || a.header.Get("X-Error-Code") != "renewal_paused" {
		t.Errorf("a forced renewal: %v, %v", a, err)
	}
	for path, want := range map[string]string{
		"/health": `{"result":"ok","renewals":"paused"}`, "/ready": `{"result":"ok","renewals":"paused"}`,
		"/livez": `{"result":"ok"}`, "/readyz": `{"result":"ok"}`,
	} {
		if a, err := q.do(t.Context(), http.MethodGet, path, ""); err != nil || a.status != http.StatusOK || a.body != want {
			t.Errorf("%s: %v, %v", path, a, err)
		}
	}
	if got := provider.Counts().Tokens; got != asked {
		t.Fatalf("the provider was asked %d times by a copy", got-asked)
	}

	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if said := q.command("adopt", "--dry-run"); !strings.Contains(said, "this is a copy") {
		t.Errorf("adopt says %s", said)
	}
	if said := q.command("adopt"); !strings.Contains(said, q.origin()) || strings.Contains(said, "Nothing is renewed: none") {
		t.Errorf("adopt says %s", said)
	}
	waitUntil(t, func() bool { return provider.Counts().Refreshes == 1 })
	if token, a, err := q.token(t.Context(), "before-0", false); err != nil || !provider.Good(token) {
		t.Error(a, err)
	}
	if a, err := q.do(t.Context(), http.MethodGet, "/ready", ""); err != nil || a.body != `{"result":"ok"}` {
		t.Error(a, err)
	}
	if err := q.stop(); err != nil {
		t.Error(err)
	}
	if got := provider.Counts(); got.Tokens != asked+1 || got.Refreshes != 1 || got.Reuses != 0 {
		t.Errorf("after the adoption: %+v", got)
	}
}

// Under another public URL nothing is renewed, until the store is adopted while the broker is stopped.
func TestAnotherPublicURLRenewsNothing(t *testing.T) {
	provider := providertest.New(t, providertest.Knobs{Rotate: true})
	p := newProcess(t, provider)
	p.start()
	p.imports("one")
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	p.amend("public_url: "+p.origin(), "public_url: https://new.example.com")
	p.start()
	if _, a, err := p.token(t.Context(), "one", true); err != nil || a.header.Get("X-Error-Code") != "renewal_paused" {
		t.Fatal(a, err)
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if said := p.command("adopt"); !strings.Contains(said, "the public URL here is https://new.example.com") {
		t.Errorf("adopt says %s", said)
	}
	p.start()
	if token, a, err := p.token(t.Context(), "one", true); err != nil || !provider.Good(token) {
		t.Fatal(a, err)
	}
	if got := provider.Counts().Tokens; got != 1 {
		t.Errorf("the provider was asked %d times", got)
	}
}

// A backup that is killed leaves no file under the name that it was to have, whenever that happens, and no trace in the
// database.
func TestAKilledBackupLeavesNothing(t *testing.T) {
	p := newProcess(t, providertest.New(t, providertest.Knobs{}))
	p.start()
	p.imports("one")
	p.sql(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
		INSERT INTO audit (actor, action, target, result, count, ip, request_id) SELECT '', 'wide', printf('%.*c', 10000, 'x'), '', 1, '', '' FROM n`)
	bin, err := exec.LookPath("coatcheck")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for round, atLeast := range []int64{0, 8 << 20, 32 << 20, 62_000_000} { // the last in the middle of the checks
		dir := t.TempDir()
		file := filepath.Join(dir, "backup")
		cmd := exec.CommandContext(t.Context(), bin, "backup", file, "--config", filepath.Join(p.dir, "coatcheck.yaml"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, func() bool { return largest(t, dir) >= atLeast })
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err == nil {
			continue // it was quicker
		}
		killed++
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("round %d: there is a backup: %v", round, err)
		}
	}
	if killed == 0 {
		t.Fatal("no backup was killed")
	}
	p.imports("two")
	for _, id := range []string{"one", "two"} {
		if token, a, err := p.token(t.Context(), id, false); err != nil || token == "" {
			t.Error(id, a, err)
		}
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	checkIntegrity(t, p.data(""))
}

// largest is the size of the largest file in a directory; -1: there is none.
func largest(t *testing.T, dir string) int64 {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(-1)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size = max(size, info.Size())
		}
	}
	return size
}

// What cannot be restored is refused with one clear line, and the data directory stays as it is.
func TestWhatIsNotBackedUpOrRestored(t *testing.T) {
	p := newProcess(t, providertest.New(t, providertest.Knobs{}))
	p.start()
	p.imports("one")
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "backup")
	p.command("backup", file)
	p.refuses("backup_exists", "backup", file)
	p.refuses("database_exists", "restore", file)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if secret := p.key; strings.Contains(string(raw), secret) || strings.Contains(string(raw), "AGE-SECRET-KEY") {
		t.Error("a secret is in the backup")
	}

	q := p.moved()
	q.refuses("database_missing", "adopt")
	q.refuses("database_missing", "backup", filepath.Join(dir, "none"))
	for name, damaged := range map[string]string{"cut": string(raw[:len(raw)-4096]), "altered": strings.Replace(string(raw), "acme", "acne", 1)} {
		q.write(name, damaged)
		q.refuses("backup_damaged", "restore", filepath.Join(q.dir, name))
	}
	right := q.data("identity.txt")
	if err := os.Rename(right, filepath.Join(q.dir, "right.txt")); err != nil {
		t.Fatal(err)
	}
	q.refuses("encryption_key_missing", "restore", file)
	if err := writeIdentity(right); err != nil {
		t.Fatal(err)
	}
	q.refuses("encryption_key_wrong", "restore", file)
	if _, err := os.Stat(q.data(storage.FileName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a database: %v", err)
	}

	p.sql("INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
	p.refuses("schema_too_new", "backup", filepath.Join(dir, "newer"))
	if said := p.command("restore", file, "--replace"); !strings.Contains(said, ".replaced-") {
		t.Errorf("restore says %s", said)
	}
	p.command("adopt")
	p.start()
	if token, a, err := p.token(t.Context(), "one", false); err != nil || token == "" {
		t.Error(a, err)
	}
}
