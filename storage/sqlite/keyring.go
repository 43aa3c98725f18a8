package sqlite

import (
	"context"
	"database/sql"

	"github.com/coatcheck/coatcheck/broker"
)

// Keys implements [broker.KeyringStore].
func (d *DB) Keys(ctx context.Context) ([]broker.WrappedKey, error) {
	var out []broker.WrappedKey
	err := d.read(ctx, "list keys", func(c *conn) (err error) {
		out, err = allKeys(c)
		return err
	})
	return out, err
}

func allKeys(c *conn) (out []broker.WrappedKey, err error) {
	err = c.all(func(r *sql.Rows) error {
		var k broker.WrappedKey
		err := r.Scan(&k.ID, &k.Wrapped, doc(&k.Recipients), &k.Check, &k.Active, when(&k.CreatedAt))
		out = append(out, k)
		return err
	}, "SELECT id, wrapped, recipients, check_value, active, created_at FROM keyring ORDER BY id")
	return out, err
}

// AddKey implements [broker.KeyringStore].
func (d *DB) AddKey(ctx context.Context, k broker.WrappedKey) error {
	return d.write(ctx, "add key", func(tx *conn) error {
		if k.Active {
			if _, err := tx.exec("UPDATE keyring SET active = 0 WHERE active = 1"); err != nil {
				return err
			}
		}
		_, err := tx.exec(`INSERT INTO keyring (id, wrapped, recipients, check_value, active, created_at)
			VALUES (?, ?, ?, ?, ?, ?)`,
			k.ID, k.Wrapped, list(k.Recipients), blob(k.Check), k.Active, micros(k.CreatedAt))
		return err
	})
}
