package main

import (
	"crypto/sha256"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// With another key a start ends at once, and leaves what there is as it is: after a kill, whose log is still beside the
// database, and where a migration is to be done.
func TestTheWrongKeyLeavesTheDatabaseAlone(t *testing.T) {
	p := emptyProcess(t)
	p.write("coatcheck.yaml", "listen: "+p.addr+"\npublic_url: "+p.origin()+"\ndata: data\nenvironments: {dev: {secret_key: "+p.key+"}}\n")
	p.start()
	p.kill()
	data := filepath.Join(p.dir, "data")
	if _, err := os.Stat(filepath.Join(data, sqlite.FileName+"-wal")); err != nil {
		t.Fatal("the kill left no log: ", err)
	}
	right := filepath.Join(data, "identity.txt")
	if err := os.Rename(right, filepath.Join(p.dir, "right.txt")); err != nil {
		t.Fatal(err)
	}
	if err := writeIdentity(right); err != nil {
		t.Fatal(err)
	}
	p.refusesToStart("after a kill", data, "serve")
	p.refusesToStart("a command after a kill", data, "apikey", "list")

	db, err := sql.Open("sqlite", filepath.Join(data, sqlite.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	p.refusesToStart("with an older schema", data, "serve")
}

// refusesToStart runs a command that has the wrong key, and compares the data directory before and after it.
func (p *process) refusesToStart(when, data string, command ...string) {
	p.t.Helper()
	bin, err := exec.LookPath("coatcheck")
	if err != nil {
		p.t.Fatal(err)
	}
	before := hashes(p.t, data)
	out, err := exec.CommandContext(p.t.Context(), bin, append(command, "--config", filepath.Join(p.dir, "coatcheck.yaml"))...).CombinedOutput()
	if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "encryption_key_wrong") {
		p.t.Errorf("%s: got %v, %s", when, err, out)
	}
	after := hashes(p.t, data)
	for name := range after {
		if _, ok := before[name]; !ok {
			p.t.Errorf("%s: %s was made", when, name)
		}
	}
	for name, hash := range before {
		if after[name] != hash {
			p.t.Errorf("%s: %s was changed or removed", when, name)
		}
	}
}

// hashes gives a hash of each file, but for the log's index, which readers use too.
func hashes(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	out := make(map[string][32]byte)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "-shm") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = sha256.Sum256(raw)
	}
	return out
}
