package oidcprovider

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os/exec"
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
