//go:build unix

// Package postgrestest gives tests databases of their own, in a PostgreSQL that runs for one test process and is gone with
// it. It needs PostgreSQL's programs on the machine, and nothing else.
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
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// New gives the address of a fresh, empty database. Without PostgreSQL the test is skipped, unless it runs where one must
// be.
func New(t testing.TB) (address string) {
	t.Helper()
	return create(t, "template0")
}

// templates are the databases that others are copies of, by their names.
var templates sync.Map // string -> func() error

// NewFrom gives the address of a fresh copy of a database that prepare filled, once for each name in a process. Nothing may
// be connected to it any more when prepare returns.
func NewFrom(t testing.TB, name string, prepare func(address string) error) (address string) {
	t.Helper()
	made, _ := templates.LoadOrStore(name, sync.OnceValue(func() error {
		c, err := cluster()
		if err == nil {
			err = c.create("template_"+name, "template0")
		}
		if err != nil {
			return err
		}
		return prepare(c.address("template_" + name))
	}))
	must(t, made.(func() error)())
	return create(t, "template_"+name)
}

// must ends the test on an error: by skipping it, if all that is missing is PostgreSQL and the machine is not one where
// every test has to run.
func must(t testing.TB, err error) {
	t.Helper()
	var missing *missingError
	_, ci := os.LookupEnv("CI")
	switch {
	case err == nil:
	case errors.As(err, &missing) && !ci:
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

type missingError struct{}

func (*missingError) Error() string {
	return "no PostgreSQL to test with: its programs initdb and postgres were not found (build/setup.sh installs them)"
}

// created counts databases, for their names.
var created atomic.Int64

func create(t testing.TB, template string) string {
	t.Helper()
	c, err := cluster()
	must(t, err)
	name := "test_" + strconv.FormatInt(created.Add(1), 10)
	must(t, c.create(name, template))
	t.Cleanup(func() {
		if err := c.run("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return c.address(name)
}

// server is a PostgreSQL that listens on loopback, and its first user's connection.
type server struct {
	dir  string
	port int
	mu   sync.Mutex
	conn *pgx.Conn
	stop io.Closer // held as long as the process lives: its end ends the server
}

// cluster starts the process's server, once.
var cluster = sync.OnceValues(start)

const startPatience = time.Minute

func start() (*server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "coatcheck-postgres-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for PostgreSQL: %w", err)
	}
	s := &server{dir: dir}
	if err := s.start(bin); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w", err), os.RemoveAll(dir))
	}
	return s, nil
}

// programs finds the directory of initdb and postgres: on the path, or where Debian puts those of the newest version.
func programs() (dir string, err error) {
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		candidates = append([]string{path}, candidates...)
	}
	best := -1.0
	for _, path := range candidates {
		if path, err = filepath.EvalSymlinks(path); err != nil { // a link elsewhere does not know its siblings
			continue
		}
		dir0 := filepath.Dir(path)
		if _, err := os.Stat(filepath.Join(dir0, "postgres")); err != nil {
			continue
		}
		version, err := strconv.ParseFloat(filepath.Base(filepath.Dir(dir0)), 64)
		if err != nil {
			version = 0
		}
		if version > best {
			best, dir = version, dir0
		}
	}
	if dir == "" {
		return "", new(missingError)
	}
	return dir, nil
}

// script runs the server as long as its input stays open, and cleans up after it. However the test process ends, its end
// of the pipe is closed then.
const script = `
"$1/postgres" -D "$2/data" >>"$2/log" 2>&1 </dev/null &
pid=$!
read -r _
kill -QUIT "$pid"
wait "$pid"
rm -rf "$2"
`

// settings are for a server whose data nobody will miss.
const settings = `
listen_addresses = '127.0.0.1'
unix_socket_directories = '%s'
port = %d
max_connections = 400
shared_buffers = 64MB
fsync = off
full_page_writes = off
max_wal_size = 256MB
autovacuum = off
deadlock_timeout = 100ms
log_min_messages = error
`

func (s *server) start(bin string) error {
	as, err := unprivileged()
	if err != nil {
		return err
	}
	if as != nil {
		if err := os.Chown(s.dir, int(as.Credential.Uid), int(as.Credential.Gid)); err != nil {
			return err
		}
	}
	data := filepath.Join(s.dir, "data")
	initdb := exec.CommandContext(context.Background(), filepath.Join(bin, "initdb"), //nolint:gosec // a program of the machine's
		"-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions")
	initdb.Dir, initdb.SysProcAttr = s.dir, as
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	if s.port, err = freePort(); err != nil {
		return err
	}
	conf, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(conf, settings, s.dir, s.port)
	if err := errors.Join(err, conf.Close()); err != nil {
		return err
	}
	guard := exec.CommandContext(context.Background(), "/bin/sh", "-c", script, "sh", bin, s.dir) //nolint:gosec // as above
	guard.Dir, guard.SysProcAttr = s.dir, as
	if s.stop, err = guard.StdinPipe(); err != nil {
		return err
	}
	if err := guard.Start(); err != nil {
		return err
	}
	if err := s.connect(); err != nil {
		return errors.Join(err, s.stop.Close(), guard.Wait())
	}
	return nil
}

// unprivileged is whom the server runs as where the tests run as root, whom it refuses; nil: the user of the tests.
func unprivileged() (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // as the comment says
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // nothing to wait for
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// connect waits until the server answers.
func (s *server) connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.address("postgres"))
		if err == nil {
			s.conn = conn
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(log)))
		}
	}
}

// address is a database's.
func (s *server) address(database string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.User("postgres"), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}).String()
}

func (s *server) create(name, template string) error {
	// Copying files is quicker than logging their pages, where a crash need not be survived.
	return s.run("CREATE DATABASE " + name + " TEMPLATE " + template + " STRATEGY FILE_COPY")
}

// run runs one statement as the server's first user.
func (s *server) run(statement string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.conn.Exec(context.Background(), statement)
	return err
}
