package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// newsChannel is where nodes let each other know that there is something to look for, by their names and nothing else.
const newsChannel = "coatcheck"

// How long to wait before listening again after a connection was lost: at first, and at most.
const (
	firstListen = time.Second
	lastListen  = 30 * time.Second
)

// Listen implements [broker.Shared], on a connection of its own. Behind a pooler it does nothing: a session there is
// not ours to listen in.
func (d *DB) Listen(ctx context.Context, heard func()) {
	for pause := firstListen; ctx.Err() == nil && !d.closed.Load(); pause = min(2*pause, lastListen) {
		began := time.Now()
		if again := d.listen(ctx, heard); !again {
			return
		}
		if time.Since(began) > lastListen {
			pause = firstListen
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// listen does so until the connection is lost. again: there is one to have.
func (d *DB) listen(ctx context.Context, heard func()) (again bool) {
	c, err := pgx.ConnectConfig(ctx, d.pool.Config().ConnConfig)
	if err != nil {
		return true
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	var session uint32
	if err := c.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&session); err != nil {
		return true
	}
	if session != c.PgConn().PID() { // the server's process is another than the one that greeted us
		return false
	}
	if _, err := c.Exec(ctx, "LISTEN "+newsChannel); err != nil {
		return true
	}
	heard() // of what came before
	for {
		n, err := c.WaitForNotification(ctx)
		if err != nil {
			return true
		}
		if n.Payload != d.node {
			heard()
		}
	}
}

// tell lets other nodes know of a transaction once it is committed.
func (c *conn) tell() error {
	_, err := c.exec("SELECT pg_notify($1, $2)", newsChannel, c.node)
	return err
}
