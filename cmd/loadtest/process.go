package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is a server that the run has started.
type process struct {
	addr string
	pid  int
	stop func() error // may be called more than once
}

// self starts this program again as one of its servers.
func (l *lab) self(ctx context.Context, args ...string) (*process, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := command(ctx, path, args...)
	hold, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = l.progress
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	stop := l.closing(func() error {
		_ = hold.Close()
		return ended(cmd.Wait())
	})
	said, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(said), listening)
	if err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("%s did not say where it listens", args[0]), err, stop())
	}
	return &process{addr, cmd.Process.Pid, stop}, nil
}

// command is a program that is asked to end when ctx does, and made to a little later.
func command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // programs that were built for this run, or this one
	cmd.Env = append(os.Environ(), fmt.Sprintf("GOGC=%d", gcPercent))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// ended passes over the ways in which a server ends when it is told to.
func ended(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return nil
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// answering starts a server that does not say when it can be reached, and asks for /health until it answers 200. It
// tells how long that took from the start of the process. What the server writes goes to the two writers.
func (l *lab) answering(ctx context.Context, addr string, stdout, stderr io.Writer, path string, args ...string) (*process, time.Duration, error) {
	cmd := command(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, 0, fmt.Errorf("start %s: %w", path, err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	stop := l.closing(func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		return ended(<-gone)
	})
	health := request("GET", "/health", -1)
	for {
		if err := once(ctx, addr, health); err == nil {
			return &process{addr, cmd.Process.Pid, stop}, time.Since(start), nil
		}
		if err := pause(ctx, 200*time.Microsecond); err != nil {
			return nil, 0, errors.Join(err, stop())
		}
		if time.Since(start) > patience {
			return nil, 0, errors.Join(fmt.Errorf("%s did not come up", path), stop())
		}
		select {
		case err := <-gone:
			gone <- err
			return nil, 0, errors.Join(fmt.Errorf("%s ended before it could be reached", path), err)
		default:
		}
	}
}

// once sends one request on a connection of its own.
func once(ctx context.Context, addr string, request []byte) error {
	c, err := dial(ctx, addr, smallBuffer)
	if err != nil {
		return err
	}
	defer c.close()
	return c.do(request)
}
