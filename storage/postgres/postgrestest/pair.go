//go:build unix

package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Pair is a PostgreSQL and its standby, which has whatever the first one acknowledged.
type Pair struct {
	first, second server
	pull          io.Closer // ends the first one
}

// NewPair starts two servers of their own. Without PostgreSQL the test is skipped, unless it runs where one must be.
func NewPair(t testing.TB) *Pair {
	t.Helper()
	bin := programs()
	if bin == "" {
		must(t, missingError("PostgreSQL"))
	}
	var p Pair
	dir, pull, err := p.first.launch(bin)
	must(t, err)
	t.Cleanup(func() { _ = pull.Close() }) // the test may have done so
	p.pull = pull
	p.first.conn, err = answered(dir, p.first.address("postgres"))
	must(t, err)
	t.Cleanup(func() { _ = p.first.conn.Close(context.Background()) })
	dir, end, err := p.follow(bin)
	must(t, err)
	t.Cleanup(func() { must(t, end.Close()) })
	p.second.conn, err = answered(dir, p.second.address("postgres"))
	must(t, err)
	t.Cleanup(func() { must(t, p.second.conn.Close(context.Background())) })
	must(t, p.follows())
	return &p
}

// Address names both servers, as an operator would: whichever takes writes is meant.
func (p *Pair) Address() string {
	u, q := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres"}, url.Values{}
	u.Host = hostOf(p.first.port) + "," + hostOf(p.second.port)
	q.Set("sslmode", "disable")
	q.Set("target_session_attrs", "read-write")
	u.RawQuery = q.Encode()
	return u.String()
}

// Fail ends the first server as a power cut would, whatever it is doing.
func (p *Pair) Fail() error { return p.pull.Close() }

// Promote lets the second one take writes, and comes back when it does.
func (p *Pair) Promote() error { return p.second.run("SELECT pg_promote()") }

// follow makes the second server out of the first one, and starts it.
func (p *Pair) follow(bin string) (dir string, end io.Closer, err error) {
	dir, as, err := workplace("coatcheck-postgres-")
	if err != nil {
		return "", nil, err
	}
	data := filepath.Join(dir, "data")
	copied := exec.CommandContext(context.Background(), filepath.Join(bin, "pg_basebackup"), //nolint:gosec // a program of the machine's
		"-D", data, "-d", p.first.address("postgres"), "-R", "-X", "stream", "-c", "fast", "--no-sync")
	copied.Dir, copied.SysProcAttr = dir, as
	if out, err := copied.CombinedOutput(); err != nil {
		return "", nil, errors.Join(fmt.Errorf("pg_basebackup: %w: %s", err, bytes.TrimSpace(out)), os.RemoveAll(dir))
	}
	if p.second.port, err = freePort(); err != nil {
		return "", nil, err
	}
	end, err = guarded(dir, as, "QUIT", filepath.Join(bin, "postgres"), "-D", data,
		"-c", "port="+strconv.Itoa(p.second.port), "-c", "unix_socket_directories="+dir)
	return dir, end, err
}

// follows lets the first server acknowledge nothing that the second one does not have, once that one follows.
func (p *Pair) follows() error {
	if err := errors.Join(p.first.run("ALTER SYSTEM SET synchronous_standby_names = '*'"), p.first.run("SELECT pg_reload_conf()")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		var synchronous bool
		err := p.first.conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync')").Scan(&synchronous)
		if err != nil || synchronous {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return errors.New("the standby does not follow")
		}
	}
}

// hostOf is where a server is.
func hostOf(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
