package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// Environments implements [broker.EnvironmentStore].
func (d *DB) Environments(ctx context.Context) (out []*broker.Environment, err error) {
	err = d.read(ctx, "list environments", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			e := new(broker.Environment)
			out = append(out, e)
			return r.Scan((*string)(&e.ID), &e.Name, &e.DisplayName, doc(&e.AllowedOrigins), doc(&e.ReturnURLs),
				(*string)(&e.Start), &e.Managed, when(&e.CreatedAt), when(&e.UpdatedAt))
		}, `SELECT id, name, display_name, allowed_origins, return_urls, start, managed, created_at, updated_at
			FROM environments WHERE deleted_at IS NULL ORDER BY number`)
	})
	return out, err
}

// SaveEnvironment implements [broker.EnvironmentStore].
func (d *DB) SaveEnvironment(ctx context.Context, e *broker.Environment, t broker.Trail) error {
	return d.change(ctx, "save environment", func(tx *conn) error {
		_, err := tx.exec(`INSERT INTO environments (id, name, display_name, allowed_origins, return_urls, start, managed,
				created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
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

// DeleteEnvironment implements [broker.EnvironmentStore]. The row stays for the trail, without what was in it.
func (d *DB) DeleteEnvironment(ctx context.Context, id broker.EnvironmentID, at time.Time, t broker.Trail) (int, error) {
	var count int
	err := d.change(ctx, "delete environment", func(tx *conn) error {
		count = 0
		n, err := tx.exec(`UPDATE environments SET deleted_at = $1, updated_at = $1, display_name = '', allowed_origins = NULL,
				return_urls = NULL WHERE id = $2 AND deleted_at IS NULL`, micros(at), string(id))
		if err != nil {
			return err
		}
		if n == 0 {
			return broker.ErrNotFound
		}
		if err := endCallers(tx, id, at); err != nil {
			return err
		}
		integrations, err := column[string](tx, "SELECT id FROM integrations WHERE environment = $1 AND deleted_at IS NULL ORDER BY number", string(id))
		if err != nil {
			return err
		}
		for _, i := range integrations {
			n, err := deleteIntegration(tx, broker.IntegrationID(i), at)
			if err != nil {
				return err
			}
			count += n
		}
		return leave(tx, t)
	})
	return count, err
}

// endCallers ends whatever opens an environment or is told of it: its keys, sessions, flows and webhooks.
func endCallers(tx *conn, id broker.EnvironmentID, at time.Time) error {
	_, err := tx.exec("UPDATE api_keys SET revoked_at = $1 WHERE environment = $2 AND revoked_at IS NULL", micros(at), string(id))
	if err != nil {
		return err
	}
	if _, err = tx.exec("DELETE FROM sessions WHERE environment = $1", string(id)); err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE flows SET status = 'failed', code = $1, ended_at = $2, secrets = NULL
		WHERE environment = $3 AND status = 'open'`, broker.ErrNotFound.Code, micros(at), string(id))
	if err != nil {
		return err
	}
	// Nobody is told any more: the key that would sign it goes too.
	if _, err = tx.exec("DELETE FROM webhooks WHERE environment = $1", string(id)); err != nil {
		return err
	}
	_, err = tx.exec("DELETE FROM deliveries WHERE environment_number = (SELECT number FROM environments WHERE id = $1)", string(id))
	return err
}

// inEnvironment makes sure that the environment is there, and stays until the transaction ends. None needs no row.
func inEnvironment(tx *conn, id broker.EnvironmentID) error {
	if id == "" {
		return nil
	}
	there, err := tx.exists("SELECT 1 FROM environments WHERE id = $1 AND deleted_at IS NULL FOR SHARE", string(id))
	if err == nil && !there {
		return broker.ErrNotFound.On("environment")
	}
	return err
}
