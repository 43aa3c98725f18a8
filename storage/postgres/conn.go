package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// conn runs statements on one connection, in a transaction or out of one. Every text here is a constant of the program, or
// one of few: its description is kept with the connection.
type conn struct {
	ctx context.Context // ends some time after the server should have answered, and not with the caller
	on  interface {
		Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
		Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
		QueryRow(ctx context.Context, query string, args ...any) pgx.Row
	}
	node string // whose it is
}

// exec runs a statement and gives the number of rows that it changed.
func (c *conn) exec(query string, args ...any) (int64, error) {
	tag, err := c.on.Exec(c.ctx, query, clean(args)...)
	return tag.RowsAffected(), err
}

// row reads the first row of a statement's result into dest. Without one the error is pgx.ErrNoRows.
func (c *conn) row(query string, args []any, dest ...any) error {
	return c.on.QueryRow(c.ctx, query, clean(args)...).Scan(dest...)
}

// exists reports whether a statement has a result.
func (c *conn) exists(query string, args ...any) (bool, error) {
	var one int
	err := c.row(query, args, &one)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// all hands every row of a statement's result to scan. The result is closed even if scan panics: an open one would keep
// the connection.
func (c *conn) all(scan func(pgx.Rows) error, query string, args ...any) error {
	rows, err := c.on.Query(c.ctx, query, clean(args)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// column reads a column of a statement's result.
func column[T string | int64](c *conn, query string, args ...any) ([]T, error) {
	var out []T
	err := c.all(func(r pgx.Rows) error {
		var v T
		err := r.Scan(&v)
		out = append(out, v)
		return err
	}, query, args...)
	return out, err
}

// clean makes every text among the arguments one that PostgreSQL takes.
func clean(args []any) []any {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = storable(s)
		}
	}
	return args
}

// Locks on what has no row, by what they are about.
const (
	lockSchema     int32 = iota + 1 // its migration
	lockAPIKeys                     // the names of API keys
	lockKeyring                     // which data key is the active one
	lockGrant                       // a grant's hash
	lockLine                        // a line of deliveries
	lockDeployment                  // whose the database is
)

// lock waits for a lock that the end of the transaction gives back. Two that fall together cost each other time alone.
func (c *conn) lock(about, which int32) error {
	_, err := c.exec("SELECT pg_advisory_xact_lock($1::int, $2::int)", about, which)
	return err
}
