package npm_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/coatcheck/coatcheck/providers/providertest/npm"
)

// lockFiles are what is installed. The npm of these tests does not read them.
var lockFiles = fstest.MapFS{"package.json": {Data: []byte("{}")}, "package-lock.json": {Data: []byte("{}")}}

func TestMissingTool(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := npm.Install(t.Context(), t.TempDir(), "packages", lockFiles)
	if err == nil || !strings.Contains(err.Error(), "npm is needed") || !strings.Contains(err.Error(), "apt-get install nodejs npm") {
		t.Errorf("error %v, want what to install", err)
	}
}

// fakeNPM puts a program in npm's place.
func fakeNPM(t *testing.T, script string) {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestInstallOnce(t *testing.T) {
	fakeNPM(t, `test -f package-lock.json && mkdir node_modules && echo "$@" >node_modules/args`)
	root := filepath.Join(t.TempDir(), "new")
	dir, err := npm.Install(t.Context(), root, "packages", lockFiles)
	if err != nil {
		t.Fatal(err)
	}
	args, err := os.ReadFile(filepath.Join(dir, "node_modules", "args"))
	if err != nil || !strings.HasPrefix(string(args), "ci --ignore-scripts ") {
		t.Errorf("npm was called with %q (%v)", args, err)
	}
	if got := names(t, root); len(got) != 1 {
		t.Errorf("the cache holds %v", got)
	}
	fakeNPM(t, "exit 1")
	if again, err := npm.Install(t.Context(), root, "packages", lockFiles); again != dir || err != nil {
		t.Errorf("again: %s (%v), want %s", again, err, dir)
	}
}

func TestInstallFails(t *testing.T) {
	fakeNPM(t, "mkdir node_modules; echo no network >&2; exit 1")
	root := t.TempDir()
	if _, err := npm.Install(t.Context(), root, "packages", lockFiles); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("error %v, want npm's own words", err)
	}
	if got := names(t, root); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// Two that install at the same time both succeed: the one that comes second takes the first one's.
func TestInstallTwiceAtOnce(t *testing.T) {
	root := t.TempDir()
	fakeNPM(t, `mkdir node_modules; final=$(cat "$ROOT/final" 2>/dev/null) && mkdir -p "$final/node_modules"; true`)
	t.Setenv("ROOT", root)
	dir, err := npm.Install(t.Context(), filepath.Join(root, "cache"), "packages", lockFiles)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(filepath.Join(root, "final"), []byte(dir), 0o600)); err != nil {
		t.Fatal(err)
	}
	if again, err := npm.Install(t.Context(), filepath.Join(root, "cache"), "packages", lockFiles); again != dir || err != nil {
		t.Errorf("%s (%v), want %s", again, err, dir)
	}
	if got := names(t, filepath.Join(root, "cache")); len(got) != 1 {
		t.Errorf("the cache holds %v", got)
	}
}
