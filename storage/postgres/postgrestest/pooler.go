//go:build unix

package postgrestest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// pooling is how the pooler goes about it: strictly, so that nothing of a session passes for one of a transaction.
const pooling = `
[databases]
* = host=127.0.0.1 port=%d user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 1000
server_idle_timeout = 5
logfile =
pidfile =
`

// pgbouncer finds the program; empty: it is not there.
func pgbouncer() string {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// pooler starts the process's pooler, once, and gives its host and port.
var pooler = sync.OnceValues(func() (string, error) {
	program := pgbouncer()
	if program == "" {
		return "", missingError("PgBouncer")
	}
	s, err := cluster()
	if err != nil {
		return "", err
	}
	dir, as, err := workplace("coatcheck-pgbouncer-")
	if err != nil {
		return "", err
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	conf := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(conf, fmt.Appendf(nil, pooling, s.port, port), 0o644); err != nil { //nolint:gosec // the program is another user's
		return "", err
	}
	if _, err := guarded(dir, as, "TERM", program, conf); err != nil {
		return "", err
	}
	c, err := answered(dir, addressOf(port, "postgres"))
	if err != nil {
		return "", err
	}
	return hostOf(port), c.Close(context.Background())
})
