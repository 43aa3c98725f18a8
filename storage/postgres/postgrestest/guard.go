//go:build unix

package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"sync"
	"syscall"
)

// script runs a program as long as its own input stays open, and cleans up after it. However the test process ends, its
// end of the pipe is closed then.
const script = `
dir=$1
signal=$2
shift 2
"$@" >>"$dir/log" 2>&1 </dev/null &
pid=$!
read -r _
kill -"$signal" "$pid"
wait "$pid"
rm -rf "$dir"
`

// logName is what the program wrote, in its directory.
const logName = "log"

// pipes are held open as long as the process lives: one that is collected is closed.
var pipes held

type held struct {
	mu  sync.Mutex
	all []io.Closer
}

func (h *held) hold(c io.Closer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, c)
}

// guarded starts a program that is sent a signal when end is closed or this process ends, and whose directory is removed then.
func guarded(dir string, as *syscall.SysProcAttr, signal, program string, args ...string) (end io.Closer, err error) {
	sh := append([]string{"-c", script, "sh", dir, signal, program}, args...)
	c := exec.CommandContext(context.Background(), "/bin/sh", sh...) //nolint:gosec // programs of the machine's
	c.Dir, c.SysProcAttr = dir, as
	pipe, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	pipes.hold(pipe)
	return pipe, nil
}

// workplace makes a directory for a program, and says whom it runs as.
func workplace(name string) (dir string, as *syscall.SysProcAttr, err error) {
	if dir, err = os.MkdirTemp("", name); err != nil {
		return "", nil, fmt.Errorf("make a directory: %w", err)
	}
	if os.Geteuid() != 0 {
		return dir, nil, nil
	}
	// Root is refused.
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return "", nil, err
	}
	uid, errU := strconv.ParseUint(u.Uid, 10, 31)
	gid, errG := strconv.ParseUint(u.Gid, 10, 31)
	if err := errors.Join(errU, errG, os.Chown(dir, int(uid), int(gid))); err != nil {
		return "", nil, err
	}
	return dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // there is nothing to wait for
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
