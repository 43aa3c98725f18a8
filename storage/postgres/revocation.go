package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// revokeCredentials makes jobs of what dead connections' credentials hold, due at once. One that holds nothing which a
// provider could end needs none.
func revokeCredentials(tx *conn, numbers []int64, at time.Time) error {
	_, err := tx.exec(`INSERT INTO revocations (id, environment, integration, connection, version, type, origins, access,
			refresh, details, config, account_hash, attempts, waited, created_at, next_at, outcome)
		SELECT gen_random_uuid()::text, i.environment, i.id, c.id, cr.version, cr.type, c.origins, cr.access, cr.refresh, cr.details,
			c.config, c.account_hash, 0, 0, $1::bigint, $1::bigint, ''
		FROM credentials cr
		JOIN connections c ON c.number = cr.connection_number
		JOIN integrations i ON i.number = c.integration_number
		WHERE cr.connection_number = ANY($2)
			AND (cr.access IS NOT NULL OR cr.refresh IS NOT NULL OR cr.details IS NOT NULL)`, micros(at), numbers)
	return err
}

// AddRevocation implements [broker.RevocationStore].
func (d *DB) AddRevocation(ctx context.Context, r *broker.Revocation, t broker.Trail) error {
	return d.write(ctx, "add revocation", func(tx *conn) error {
		_, err := tx.exec(`INSERT INTO revocations (id, environment, integration, connection, version, type, origins, access,
				refresh, details, config, account_hash, attempts, waited, created_at, next_at, done_at, outcome)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`,
			r.ID, string(r.Environment), string(r.Integration), string(r.Connection), r.Version, r.Type, r.Origins,
			blob(r.Access), blob(r.Refresh), blob(r.Details), text(r.Config), blob(r.AccountHash), r.Attempts,
			int64(r.Waited), micros(r.CreatedAt), micros(r.NextAt), micros(r.DoneAt), r.Outcome)
		if err != nil {
			return err
		}
		return leave(tx, t)
	})
}

const revocationColumns = `id, environment, integration, connection, version, type, origins, access, refresh, details,
	config, account_hash, attempts, waited, created_at, next_at, done_at, outcome`

// revocations reads rows of revocationColumns.
func revocations(c *conn, query string, args ...any) ([]*broker.Revocation, error) {
	var out []*broker.Revocation
	err := c.all(func(rows pgx.Rows) error {
		r := new(broker.Revocation)
		out = append(out, r)
		return rows.Scan(&r.ID, (*string)(&r.Environment), (*string)(&r.Integration), (*string)(&r.Connection), &r.Version,
			&r.Type, &r.Origins, sealed(&r.Access), sealed(&r.Refresh), sealed(&r.Details), &r.Config, &r.AccountHash, &r.Attempts,
			(*int64)(&r.Waited), when(&r.CreatedAt), when(&r.NextAt), when(&r.DoneAt), &r.Outcome)
	}, query, args...)
	return out, err
}

// ClaimRevocations implements [broker.RevocationStore]. A claim that finds nothing is not a write.
func (d *DB) ClaimRevocations(ctx context.Context, now, until time.Time, limit int) (claimed []*broker.Revocation, err error) {
	err = d.write(ctx, "claim revocations", func(tx *conn) (err error) {
		claimed, err = revocations(tx, `WITH due AS (
				SELECT id AS due_id, next_at AS due_at FROM revocations WHERE done_at IS NULL AND next_at <= $1
				ORDER BY next_at, created_at, id LIMIT $3 FOR UPDATE SKIP LOCKED),
			claimed AS (
				UPDATE revocations SET next_at = $2 FROM due WHERE id = due_id RETURNING due_at, `+revocationColumns+`)
			SELECT `+revocationColumns+` FROM claimed ORDER BY due_at, created_at, id`, micros(now), micros(until), limitOf(limit))
		return err
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// RetryRevocation implements [broker.RevocationStore].
func (d *DB) RetryRevocation(ctx context.Context, id string, attempts int, waited time.Duration, next time.Time) error {
	return d.write(ctx, "retry revocation", func(tx *conn) error {
		n, err := tx.exec("UPDATE revocations SET attempts = $1, waited = $2, next_at = $3 WHERE id = $4 AND done_at IS NULL",
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
		err := tx.row(`UPDATE revocations SET access = NULL, refresh = NULL, details = NULL, done_at = $1, outcome = $2
			WHERE id = $3 AND done_at IS NULL RETURNING integration`, []any{micros(at), outcome, id}, (*string)(&integration))
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
		out, err = revocations(c, "SELECT "+revocationColumns+" FROM revocations WHERE environment = $1 ORDER BY created_at DESC, id LIMIT $2",
			string(env), limitOf(limit))
		return err
	})
	return out, err
}
