package oidcprovider

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The server is gone when its test is over. No other test runs beside this one, so nobody else takes its port.
func TestServerEndsWithItsTest(t *testing.T) {
	var issuer string
	t.Run("inner", func(t *testing.T) { issuer = start(t).Issuer() })
	client := &http.Client{Transport: &http.Transport{}}
	res, err := client.Get(issuer + "/__counts")
	if err == nil {
		res.Body.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error %v, want a refused connection", err)
	}
}

func TestServerThatDoesNotComeUp(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"ends":    "echo the reason >&2; exit 3",
		"babbles": "echo the reason >&2; echo not json; cat >/dev/null",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		p := &process{cmd: exec.CommandContext(ctx, "sh", "-c", script), cancel: cancel}
		p.cmd.Stderr = &p.stderr
		if _, err := p.start(); err == nil || !strings.Contains(err.Error(), "the reason") {
			t.Errorf("%s: %v, want the reason", name, err)
		}
		if p.cmd.ProcessState == nil {
			t.Errorf("%s: the process was not waited for", name)
		}
	}
}

func TestMissingTool(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := install(t.Context(), t.TempDir())
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
	dir, err := install(t.Context(), root)
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
	if again, err := install(t.Context(), root); again != dir || err != nil {
		t.Errorf("again: %s (%v), want %s", again, err, dir)
	}
}

func TestInstallFails(t *testing.T) {
	fakeNPM(t, "mkdir node_modules; echo no network >&2; exit 1")
	root := t.TempDir()
	if _, err := install(t.Context(), root); err == nil || !strings.Contains(err.Error(), "no network") {
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
	dir, err := install(t.Context(), filepath.Join(root, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(filepath.Join(root, "final"), []byte(dir), 0o600)); err != nil {
		t.Fatal(err)
	}
	if again, err := install(t.Context(), filepath.Join(root, "cache")); again != dir || err != nil {
		t.Errorf("%s (%v), want %s", again, err, dir)
	}
	if got := names(t, filepath.Join(root, "cache")); len(got) != 1 {
		t.Errorf("the cache holds %v", got)
	}
}

// The lock file names no registry, so that npm asks the one that a machine is set up for, and pins everything by hash.
func TestLockFile(t *testing.T) {
	t.Parallel()
	lock, err := packageFiles.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(lock, []byte(`"resolved"`)) {
		t.Error("it names a registry")
	}
	packages := bytes.Count(lock, []byte("\n    \"node_modules/"))
	if hashes := bytes.Count(lock, []byte(`"integrity"`)); packages == 0 || hashes != packages {
		t.Errorf("%d packages, %d hashes", packages, hashes)
	}
}
