package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
)

// conn is one connection with the statements that were prepared on it. Preparing costs as much as running, so they are
// kept: every text here is a constant of the program.
type conn struct {
	ctx    context.Context // never ends: see the package comment
	sql    *sql.Conn
	stmts  map[string]*sql.Stmt
	ticket *ticketStatement
	broken bool // the driver has given it up
}

func connect(forever context.Context, db *sql.DB) (*conn, error) {
	c, err := db.Conn(forever)
	if err != nil {
		return nil, err
	}
	return &conn{ctx: forever, sql: c, stmts: make(map[string]*sql.Stmt)}, nil
}

// stmt gives the statement for a text that is a constant.
func (c *conn) stmt(query string) (*sql.Stmt, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	s, err := c.sql.PrepareContext(c.ctx, query)
	if err != nil {
		return nil, c.note(err)
	}
	c.stmts[query] = s
	return s, nil
}

// exec runs a statement and gives the number of rows that it changed.
func (c *conn) exec(query string, args ...any) (int64, error) {
	s, err := c.stmt(query) //nolint:sqlclosecheck // it is kept as long as the connection
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(c.ctx, args...)
	if err != nil {
		return 0, c.note(err)
	}
	return res.RowsAffected()
}

// insert runs a statement and gives the number of the row that it made.
func (c *conn) insert(query string, args ...any) (int64, error) {
	s, err := c.stmt(query) //nolint:sqlclosecheck // it is kept as long as the connection
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(c.ctx, args...)
	if err != nil {
		return 0, c.note(err)
	}
	return res.LastInsertId()
}

// row reads the first row of a statement's result into dest. Without one the error is sql.ErrNoRows.
func (c *conn) row(query string, args []any, dest ...any) error {
	s, err := c.stmt(query) //nolint:sqlclosecheck // it is kept as long as the connection
	if err != nil {
		return err
	}
	return c.note(s.QueryRowContext(c.ctx, args...).Scan(dest...))
}

// exists reports whether a statement has a result.
func (c *conn) exists(query string, args ...any) (bool, error) {
	var one int
	err := c.row(query, args, &one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// all hands every row of a statement's result to scan.
func (c *conn) all(scan func(*sql.Rows) error, query string, args ...any) error {
	s, err := c.stmt(query) //nolint:sqlclosecheck // it is kept as long as the connection
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(c.ctx, args...)
	if err != nil {
		return c.note(err)
	}
	return c.note(each(rows, scan))
}

// allOnce is all for a text that was put together, and is not worth keeping.
func (c *conn) allOnce(scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := c.sql.QueryContext(c.ctx, query, args...)
	if err != nil {
		return c.note(err)
	}
	return c.note(each(rows, scan))
}

// each hands every row to scan and closes the result, even if scan panics: an open one would keep the connection.
func each(rows *sql.Rows, scan func(*sql.Rows) error) (err error) {
	defer func() {
		if e := rows.Close(); err == nil {
			err = e
		}
	}()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// note marks the connection if the error says that it is of no more use.
func (c *conn) note(err error) error {
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		c.broken = true
	}
	return err
}

// close closes the statements and then the connection.
func (c *conn) close() {
	for _, s := range c.stmts {
		_ = s.Close()
	}
	_ = c.sql.Raw(func(any) error {
		if c.ticket != nil {
			_ = c.ticket.Close()
		}
		return driver.ErrBadConn // or database/sql would keep the connection, with what is open on it
	})
	_ = c.sql.Close()
}

// pool hands out reading connections. One is opened when none that is open is free, so that a start, which reads one thing
// after the other, opens one.
type pool struct {
	forever context.Context
	db      *sql.DB
	idle    chan *conn    // open and free
	vacant  chan struct{} // holds one for each that is not open
	listing chan struct{} // holds one for each list under way
	closed  chan struct{}
	once    sync.Once
}

func newPool(forever context.Context, db *sql.DB) *pool {
	p := &pool{
		forever: forever, db: db, idle: make(chan *conn, readerCount), vacant: make(chan struct{}, readerCount),
		listing: make(chan struct{}, listerCount), closed: make(chan struct{}),
	}
	for range readerCount {
		p.vacant <- struct{}{}
	}
	return p
}

// take waits for a connection until ctx ends.
func (p *pool) take(ctx context.Context) (*conn, error) {
	select {
	case <-p.closed:
		return nil, errClosed
	default:
	}
	select {
	case c := <-p.idle:
		return c, nil
	default:
	}
	select {
	case <-p.closed:
		return nil, errClosed
	case c := <-p.idle:
		return c, nil
	case <-p.vacant:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := connect(p.forever, p.db) //nolint:contextcheck // it outlives who asks first
	if err != nil {
		p.vacant <- struct{}{}
	}
	return c, err
}

// put gives a connection back.
func (p *pool) put(c *conn) {
	if c.broken {
		c.close()
		p.vacant <- struct{}{}
		return
	}
	p.idle <- c
}

// close waits for the readers and closes their connections.
func (p *pool) close() {
	p.once.Do(func() {
		close(p.closed)
		for range readerCount {
			select {
			case c := <-p.idle:
				c.close()
			case <-p.vacant:
			}
		}
		_ = p.db.Close()
	})
}
