//go:build unix

package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// server is a PostgreSQL that listens on loopback, and its first user's connection.
type server struct {
	port int
	mu   sync.Mutex
	conn *pgx.Conn
}

// cluster starts the process's server, once.
var cluster = sync.OnceValues(startServer)

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

func startServer() (*server, error) {
	bin := programs()
	if bin == "" {
		return nil, missingError("PostgreSQL")
	}
	s := new(server)
	dir, _, err := s.launch(bin)
	if err != nil {
		return nil, err
	}
	s.conn, err = answered(dir, s.address("postgres"))
	return s, err
}

// launch makes the server and starts it, in a directory of its own. It ends as in a power cut when end is closed, or this
// process has ended.
func (s *server) launch(bin string) (dir string, end io.Closer, err error) {
	dir, as, err := workplace("coatcheck-postgres-")
	if err != nil {
		return "", nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(context.Background(), filepath.Join(bin, "initdb"), //nolint:gosec // a program of the machine's
		"-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions")
	initdb.Dir, initdb.SysProcAttr = dir, as
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out)), os.RemoveAll(dir))
	}
	if s.port, err = freePort(); err != nil {
		return "", nil, err
	}
	conf, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return "", nil, err
	}
	_, err = fmt.Fprintf(conf, settings, dir, s.port)
	if err := errors.Join(err, conf.Close()); err != nil {
		return "", nil, err
	}
	end, err = guarded(dir, as, "QUIT", filepath.Join(bin, "postgres"), "-D", data)
	return dir, end, err
}

// programs finds the directory of initdb and postgres: those of the newest version where Debian puts them, or what is on
// the path.
func programs() (dir string) {
	newest := -1
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil { // a link from elsewhere does not know its siblings
			candidates = append(candidates, path)
		}
	}
	for _, path := range candidates {
		bin := filepath.Dir(path)
		if _, err := os.Stat(filepath.Join(bin, "postgres")); err != nil {
			continue
		}
		version, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin))) // zero where it is not part of the path
		if version > newest {
			newest, dir = version, bin
		}
	}
	return dir
}

// address is a database's.
func (s *server) address(database string) string { return addressOf(s.port, database) }

func addressOf(port int, database string) string {
	return (&url.URL{
		Scheme: "postgres", User: url.User("postgres"), Host: hostOf(port), Path: "/" + database,
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

// patience is how long a server may take to answer.
const patience = time.Minute

// answered waits until something answers at an address.
func answered(dir, address string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		conn, err := pgx.Connect(ctx, address)
		if err == nil {
			return conn, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(dir, logName))
			return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(log)))
		}
	}
}
