package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
)

// revokeCredential makes a job of what a dead connection's credential holds, due at once. One that holds nothing which a
// provider could end needs none.
func revokeCredential(tx *conn, number int64, at time.Time) error {
	_, err := tx.exec(`INSERT INTO revocations (id, environment, integration, connection, version, type, origins, access,
			refresh, details, config, account_hash, attempts, waited, created_at, next_at, outcome)
		SELECT ?, i.environment, i.id, c.id, cr.version, cr.type, c.origins, cr.access, cr.refresh, cr.details, c.config,
			c.account_hash, 0, 0, ?, ?, ''
		FROM credentials cr
		JOIN connections c ON c.number = cr.connection_number
		JOIN integrations i ON i.number = c.integration_number
		WHERE cr.connection_number = ?
			AND (cr.access IS NOT NULL OR cr.refresh IS NOT NULL OR cr.details IS NOT NULL)`,
		uuid.NewString(), micros(at), micros(at), number)
	return err
}

// AddRevocation implements [broker.RevocationStore].
func (d *DB) AddRevocation(ctx context.Context, r *broker.Revocation, t broker.Trail) error {
	return d.write(ctx, "add revocation", func(tx *conn) error {
		_, err := tx.exec(`INSERT INTO revocations (id, environment, integration, connection, version, type, origins, access,
				refresh, details, config, account_hash, attempts, waited, created_at, next_at, done_at, outcome)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			r.ID, string(r.Environment), string(r.Integration), string(r.Connection), r.Version, r.Type, r.Origins,
			blob(r.Access), blob(r.Refresh), blob(r.Details), text(r.Config), blob(r.AccountHash), r.Attempts,
			int64(r.Waited), micros(r.CreatedAt), micros(r.NextAt), micros(r.DoneAt), r.Outcome)
		if err != nil {
			return err
		}
		return leave(tx, t)
	})
}

const selectRevocation = `SELECT id, environment, integration, connection, version, type, origins, access, refresh, details,
	config, account_hash, attempts, waited, created_at, next_at, done_at, outcome FROM revocations `

// revocations reads the rows of a selectRevocation.
func revocations(c *conn, query string, args ...any) ([]*broker.Revocation, error) {
	var out []*broker.Revocation
	err := c.all(func(rows *sql.Rows) error {
		r := new(broker.Revocation)
		out = append(out, r)
		return rows.Scan(&r.ID, (*string)(&r.Environment), (*string)(&r.Integration), (*string)(&r.Connection), &r.Version,
			&r.Type, &r.Origins, sealed(&r.Access), sealed(&r.Refresh), sealed(&r.Details), &r.Config, &r.AccountHash, &r.Attempts,
			(*int64)(&r.Waited), when(&r.CreatedAt), when(&r.NextAt), when(&r.DoneAt), &r.Outcome)
	}, query, args...)
	return out, err
}

// ClaimRevocations implements [broker.RevocationStore]. A look that finds nothing is not a write.
func (d *DB) ClaimRevocations(ctx context.Context, now, until time.Time, limit int) ([]*broker.Revocation, error) {
	var due bool
	err := d.read(ctx, "look for revocations", func(c *conn) (err error) {
		due, err = c.exists("SELECT 1 FROM revocations WHERE done_at IS NULL AND next_at <= ? LIMIT 1", micros(now))
		return err
	})
	if err != nil || !due {
		return nil, err
	}
	var claimed []*broker.Revocation
	err = d.write(ctx, "claim revocations", func(tx *conn) (err error) {
		claimed, err = revocations(tx, selectRevocation+`WHERE done_at IS NULL AND next_at <= ?
			ORDER BY next_at, created_at, id LIMIT ?`, micros(now), limitOf(limit))
		if err != nil {
			return err
		}
		for _, r := range claimed {
			if _, err := tx.exec("UPDATE revocations SET next_at = ? WHERE id = ?", micros(until), r.ID); err != nil {
				return err
			}
			r.NextAt = until
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// RetryRevocation implements [broker.RevocationStore].
func (d *DB) RetryRevocation(ctx context.Context, id string, attempts int, waited time.Duration, next time.Time) error {
	return d.write(ctx, "retry revocation", func(tx *conn) error {
		n, err := tx.exec("UPDATE revocations SET attempts = ?, waited = ?, next_at = ? WHERE id = ? AND done_at IS NULL",
			attempts, int64(waited), micros(next), id)
		if err == nil && n == 0 {
			return broker.ErrNotFound
		}
		return err
	})
}

// FinishRevocation implements [broker.RevocationStore].
func (d *DB) FinishRevocation(ctx context.Context, id, outcome string, at time.Time, t broker.Trail) error {
	return d.write(ctx, "finish revocation", func(tx *conn) error {
		var integration broker.IntegrationID
		err := tx.row(`UPDATE revocations SET access = NULL, refresh = NULL, details = NULL, done_at = ?, outcome = ?
			WHERE id = ? AND done_at IS NULL RETURNING integration`, []any{micros(at), outcome, id}, (*string)(&integration))
		if err != nil {
			return err
		}
		if err := eraseIntegration(tx, integration); err != nil {
			return err
		}
		return leave(tx, t)
	})
}

// Revocations implements [broker.RevocationStore].
func (d *DB) Revocations(ctx context.Context, env broker.EnvironmentID, limit int) (out []*broker.Revocation, err error) {
	err = d.list(ctx, "list revocations", func(c *conn) error {
		out, err = revocations(c, selectRevocation+"WHERE environment = ? ORDER BY created_at DESC, id LIMIT ?",
			string(env), limitOf(limit))
		return err
	})
	return out, err
}
