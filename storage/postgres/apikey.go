package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// APIKeys implements [broker.EnvironmentStore].
func (d *DB) APIKeys(ctx context.Context) (out []*broker.APIKey, err error) {
	err = d.read(ctx, "list API keys", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			k := new(broker.APIKey)
			out = append(out, k)
			return r.Scan((*string)(&k.ID), (*string)(&k.Environment), &k.Name, &k.Hash, &k.Hint, doc(&k.Scopes), &k.Managed,
				when(&k.CreatedAt), when(&k.ExpiresAt), when(&k.RevokedAt))
		}, `SELECT id, coalesce(environment, ''), name, hash, hint, scopes, managed, created_at, expires_at, revoked_at
			FROM api_keys ORDER BY created_at NULLS FIRST, id`)
	})
	return out, err
}

// CreateAPIKey implements [broker.EnvironmentStore].
func (d *DB) CreateAPIKey(ctx context.Context, k *broker.APIKey, t broker.Trail) error {
	return d.change(ctx, "create API key", func(tx *conn) error {
		if err := inEnvironment(tx, k.Environment); err != nil {
			return err
		}
		// A key that has run out gives up its name, and an index cannot know the time.
		if err := tx.lock(lockAPIKeys, 0); err != nil {
			return err
		}
		taken, err := tx.exists(`SELECT 1 FROM api_keys
			WHERE environment IS NOT DISTINCT FROM nullif($1, '') AND name = $2 AND revoked_at IS NULL
				AND (expires_at IS NULL OR expires_at > coalesce($3, `+statementTime+`)) LIMIT 1`,
			string(k.Environment), k.Name, d.stamp())
		if err != nil {
			return err
		}
		if taken {
			return broker.ErrConflict.On("name")
		}
		_, err = tx.exec(`INSERT INTO api_keys (id, environment, name, hash, hint, scopes, managed, created_at, expires_at,
				revoked_at)
			VALUES ($1, nullif($2, ''), $3, $4, $5, $6, $7, $8, $9, $10)`,
			string(k.ID), string(k.Environment), k.Name, k.Hash, k.Hint, list(k.Scopes), k.Managed, micros(k.CreatedAt),
			micros(k.ExpiresAt), micros(k.RevokedAt))
		if err != nil {
			return err
		}
		return leave(tx, t)
	})
}

// RevokeAPIKey implements [broker.EnvironmentStore].
func (d *DB) RevokeAPIKey(ctx context.Context, id broker.APIKeyID, at time.Time, t broker.Trail) error {
	return d.change(ctx, "revoke API key", func(tx *conn) error {
		n, err := tx.exec("UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL", micros(at), string(id))
		if err != nil {
			return err
		}
		if n == 0 {
			return broker.ErrNotFound
		}
		return leave(tx, t)
	})
}
