package postgres

import (
	"context"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// Registration implements [broker.RegistrationStore].
func (d *DB) Registration(ctx context.Context, integration broker.IntegrationID, issuer, redirectURI string) (*broker.Registration, error) {
	r := new(broker.Registration)
	err := d.read(ctx, "read registration", func(c *conn) error {
		return c.row(`SELECT environment, integration, issuer, redirect_uri, client, expires_at, created_at FROM registrations
			WHERE integration = $1 AND issuer = $2 AND redirect_uri = $3`, []any{string(integration), issuer, redirectURI},
			(*string)(&r.Environment), (*string)(&r.Integration), &r.Issuer, &r.RedirectURI, sealed(&r.Client), when(&r.ExpiresAt), when(&r.CreatedAt))
	})
	if err != nil {
		return nil, err
	}
	if r.Integration != integration || r.Issuer != issuer || r.RedirectURI != redirectURI {
		return nil, errWrongRow
	}
	return r, nil
}

// PutRegistration implements [broker.RegistrationStore].
func (d *DB) PutRegistration(ctx context.Context, r *broker.Registration, t broker.Trail) error {
	return d.write(ctx, "put registration", func(tx *conn) error {
		n, err := tx.exec(`INSERT INTO registrations (integration, issuer, redirect_uri, environment, client, expires_at, created_at)
			SELECT id, $1, $2, environment, $3::bytea, $4::bigint, $5::bigint FROM integrations
			WHERE id = $6 AND environment = $7 AND deleted_at IS NULL FOR SHARE
			ON CONFLICT (integration, issuer, redirect_uri) DO UPDATE SET
				client = excluded.client, expires_at = excluded.expires_at, created_at = excluded.created_at`,
			r.Issuer, r.RedirectURI, blob(r.Client), micros(r.ExpiresAt), micros(r.CreatedAt), string(r.Integration), string(r.Environment))
		if err != nil {
			return err
		}
		if n == 0 {
			return broker.ErrNotFound.On("integration")
		}
		return leave(tx, t)
	})
}

// DropRegistration implements [broker.RegistrationStore].
func (d *DB) DropRegistration(ctx context.Context, r *broker.Registration) error {
	return d.write(ctx, "drop registration", func(tx *conn) error {
		_, err := tx.exec("DELETE FROM registrations WHERE integration = $1 AND issuer = $2 AND redirect_uri = $3 AND created_at = $4",
			string(r.Integration), r.Issuer, r.RedirectURI, micros(r.CreatedAt))
		return err
	})
}

// SweepRegistrations implements [broker.RegistrationStore].
func (d *DB) SweepRegistrations(ctx context.Context, before time.Time) (int, error) {
	var n int64
	err := d.write(ctx, "sweep registrations", func(tx *conn) (err error) {
		n, err = tx.exec("DELETE FROM registrations WHERE created_at < $1", micros(before))
		return err
	})
	return int(n), err
}
