package sqlite

import (
	"context"
	"database/sql"

	"github.com/coatcheck/coatcheck/broker"
)

// Environments implements [broker.EnvironmentStore].
func (d *DB) Environments(ctx context.Context) ([]*broker.Environment, error) {
	var out []*broker.Environment
	err := d.read(ctx, "list environments", func(c *conn) error {
		return c.all(func(r *sql.Rows) error {
			e := new(broker.Environment)
			out = append(out, e)
			return r.Scan((*string)(&e.ID), &e.Name, &e.DisplayName, doc(&e.AllowedOrigins), doc(&e.ReturnURLs),
				(*string)(&e.Start), &e.Managed, when(&e.CreatedAt), when(&e.UpdatedAt))
		}, `SELECT id, name, display_name, allowed_origins, return_urls, start, managed, created_at, updated_at
			FROM environments ORDER BY number`)
	})
	return out, err
}

// SaveEnvironment implements [broker.EnvironmentStore].
func (d *DB) SaveEnvironment(ctx context.Context, e *broker.Environment, t broker.Trail) error {
	return d.write(ctx, "save environment", func(tx *conn) error {
		_, err := tx.exec(`INSERT INTO environments (id, name, display_name, allowed_origins, return_urls, start, managed,
				created_at, updated_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET (name, display_name, allowed_origins, return_urls, start, managed, created_at,
				updated_at) = (excluded.name, excluded.display_name, excluded.allowed_origins, excluded.return_urls,
				excluded.start, excluded.managed, excluded.created_at, excluded.updated_at)`,
			string(e.ID), e.Name, e.DisplayName, list(e.AllowedOrigins), list(e.ReturnURLs), string(e.Start), e.Managed,
			micros(e.CreatedAt), micros(e.UpdatedAt))
		if err != nil {
			return err
		}
		return leave(tx, t)
	})
}
