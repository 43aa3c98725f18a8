package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// Keys implements [broker.KeyringStore].
func (d *DB) Keys(ctx context.Context) (out []broker.WrappedKey, err error) {
	err = d.read(ctx, "list keys", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			var k broker.WrappedKey
			err := r.Scan(&k.ID, &k.Wrapped, doc(&k.Recipients), &k.Check, &k.Active, when(&k.CreatedAt))
			out = append(out, k)
			return err
		}, "SELECT id, wrapped, recipients, check_value, active, created_at FROM keyring ORDER BY id")
	})
	return out, err
}

// AddKey implements [broker.KeyringStore].
func (d *DB) AddKey(ctx context.Context, k broker.WrappedKey) error {
	return d.change(ctx, "add key", func(tx *conn) error {
		if err := tx.lock(lockKeyring, 0); err != nil {
			return err
		}
		if k.Active {
			if _, err := tx.exec("UPDATE keyring SET active = false WHERE active"); err != nil {
				return err
			}
		}
		_, err := tx.exec(`INSERT INTO keyring (id, wrapped, recipients, check_value, active, created_at)
			VALUES ($1, $2, $3, $4, $5, $6)`,
			int64(k.ID), k.Wrapped, list(k.Recipients), blob(k.Check), k.Active, micros(k.CreatedAt))
		return err
	})
}
