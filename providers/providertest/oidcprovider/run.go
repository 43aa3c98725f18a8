package oidcprovider

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest/npm"
)

//go:embed *.mjs
var scripts embed.FS

const (
	// startLimit is how long the server may take until it listens.
	startLimit = time.Minute
	// stopLimit is how long it may take to end once its standard input has; then it is asked by a signal, and once more
	// as much later it is killed.
	stopLimit = 5 * time.Second
)

// settings are the options in the form that server.mjs reads.
type settings struct {
	ClientID       string   `json:"client_id"`
	ClientSecret   string   `json:"client_secret"`
	RedirectURIs   []string `json:"redirect_uris"`
	AccessTokenTTL int64    `json:"access_token_ttl"` // seconds
	ReuseGrace     int64    `json:"reuse_grace_ms"`
	CutOpener      bool     `json:"cut_opener"`
}

// run starts the server's process, gives its port once it listens, and ends the process when the test ends.
func run(t testing.TB, o Options) int {
	t.Helper()
	node, err := npm.Tool("node")
	if err != nil {
		t.Fatal("oidcprovider: ", err)
	}
	dir, err := workspace(t.TempDir())
	if err != nil {
		t.Fatal("oidcprovider: ", err)
	}
	arg, err := json.Marshal(settings{ //nolint:gosec // the secret is a test's, and is meant to go there
		ClientID: o.ClientID, ClientSecret: o.ClientSecret, RedirectURIs: o.RedirectURIs,
		AccessTokenTTL: int64(o.AccessTokenTTL / time.Second), ReuseGrace: o.ReuseGrace.Milliseconds(), CutOpener: o.CutOpener,
	})
	if err != nil {
		t.Fatal("oidcprovider: ", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))                         // the test's ends before its cleanups run
	p := &process{cmd: exec.CommandContext(ctx, node, "server.mjs", string(arg)), cancel: cancel} //nolint:gosec // ours
	p.cmd.Dir, p.cmd.Stderr = dir, &p.stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopLimit
	port, err := p.start()
	if err != nil {
		t.Fatal("oidcprovider: ", err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error("oidcprovider: ", err)
		}
		if t.Failed() && p.stderr.Len() > 0 {
			t.Logf("oidcprovider wrote:\n%s", p.stderr.Bytes())
		}
	})
	return port
}

// workspace puts the scripts where they find the npm packages.
func workspace(dir string) (string, error) {
	packages, err := modules()
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(dir, scripts); err != nil {
		return "", err
	}
	return dir, os.Symlink(packages, filepath.Join(dir, "node_modules"))
}

// process is a server's process.
type process struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc // ends it by a signal
	stdin  io.Closer
	stderr bytes.Buffer // complete once stop has returned
}

// start starts it and reads the line that says where it listens.
func (p *process) start() (int, error) {
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := p.cmd.Start(); err != nil {
		p.cancel()
		return 0, err
	}
	limit := time.AfterFunc(startLimit, p.cancel) // which ends its output, and so the reading
	defer limit.Stop()
	var ready struct {
		Port int `json:"port"`
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		p.cancel()
		_ = p.stop()
		return 0, fmt.Errorf("the server did not come up: %w\n%s", err, p.stderr.Bytes())
	}
	return ready.Port, nil
}

// stop closes its standard input, which ends it, and waits. The error says that it ended badly.
func (p *process) stop() error {
	_ = p.stdin.Close()
	limit := time.AfterFunc(stopLimit, p.cancel)
	defer limit.Stop()
	defer p.cancel()
	return p.cmd.Wait()
}
