package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// clockTolerance is how far a database's clock may fall back, as it does when another server takes its place.
const clockTolerance = time.Minute

// LeaseRefresh implements [broker.CredentialStore]. The lease is taken by one statement, on the database's time as of when
// it had the row: whoever had to wait for another looks at what that one left, with a fresh clock. A lease that ends later
// than any could was written by a clock that was ahead.
func (d *DB) LeaseRefresh(ctx context.Context, id broker.ConnectionID, owner string, ttl time.Duration) (*broker.Credential, bool, error) {
	var leased *broker.Credential
	err := d.write(ctx, "lease refresh", func(tx *conn) error {
		leased = nil
		var before, until *int64
		var fence int64
		err := tx.row(`WITH held AS (
				SELECT cr.connection_number AS number, cr.attempt_at FROM credentials cr
				JOIN connections c ON c.number = cr.connection_number WHERE c.id = $1 FOR NO KEY UPDATE OF cr)
			UPDATE credentials cr SET lease_owner = $2, fence = cr.fence + 1, attempt_at = coalesce($4, `+momentTime+`),
				lease_until = coalesce($4, `+momentTime+`) + $3
			FROM held WHERE cr.connection_number = held.number AND (cr.lease_owner = '' OR cr.lease_owner = $2
				OR cr.lease_until IS NULL OR cr.lease_until <= coalesce($4, `+momentTime+`)
				OR cr.lease_until > coalesce($4, `+momentTime+`) + $3 + $5)
			RETURNING held.attempt_at, cr.lease_until, cr.fence`,
			[]any{string(id), owner, ttl.Microseconds(), d.stamp(), clockTolerance.Microseconds()}, &before, &until, &fence)
		if errors.Is(err, pgx.ErrNoRows) {
			return absentOr(tx, nil, `SELECT 1 FROM credentials cr JOIN connections c ON c.number = cr.connection_number WHERE c.id = $1`, string(id))
		}
		if err != nil {
			return err
		}
		c, err := credential(tx, id)
		if err != nil {
			return err
		}
		c.AttemptAt = time.Time{}
		if before != nil {
			c.AttemptAt = time.UnixMicro(*before).UTC()
		}
		leased = c
		return nil
	})
	if err != nil || leased == nil {
		return nil, false, err
	}
	return leased, true, nil
}

// ReleaseRefresh implements [broker.CredentialStore].
func (d *DB) ReleaseRefresh(ctx context.Context, id broker.ConnectionID, owner string, restored time.Time) error {
	return d.write(ctx, "release refresh", func(tx *conn) error {
		_, err := tx.exec(`UPDATE credentials SET lease_owner = '', lease_until = NULL, attempt_at = $1
			WHERE connection_number = (SELECT number FROM connections WHERE id = $2) AND lease_owner = $3`,
			micros(restored), string(id), owner)
		return err
	})
}

// SetRefreshAt implements [broker.CredentialStore].
func (d *DB) SetRefreshAt(ctx context.Context, id broker.ConnectionID, version int64, from, to time.Time) error {
	return d.write(ctx, "set refresh time", func(tx *conn) error {
		_, err := tx.exec(`UPDATE credentials SET refresh_at = $1
			WHERE connection_number = (SELECT number FROM connections WHERE id = $2) AND version = $3
				AND refresh_at IS NOT DISTINCT FROM $4`,
			micros(to), string(id), version, micros(from))
		return err
	})
}

// DueRefreshes implements [broker.CredentialStore]. A lease that was taken later than now binds nobody, as for LeaseRefresh.
func (d *DB) DueRefreshes(ctx context.Context, now time.Time, except []broker.IntegrationID, limit int) (out []broker.DueRefresh, err error) {
	err = d.list(ctx, "list due refreshes", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			var due broker.DueRefresh
			err := r.Scan((*string)(&due.Connection), (*string)(&due.Environment), (*string)(&due.Integration), when(&due.At))
			out = append(out, due)
			return err
		}, `SELECT c.id, i.environment, i.id, cr.refresh_at
			FROM credentials cr
			JOIN connections c ON c.number = cr.connection_number
			JOIN integrations i ON i.number = c.integration_number
			WHERE cr.refresh_at <= $1 AND (cr.lease_until IS NULL OR cr.lease_until <= coalesce($2, `+statementTime+`)
				OR cr.attempt_at > coalesce($2, `+statementTime+`) + $5) AND i.id <> ALL($3)
			ORDER BY cr.refresh_at, cr.connection_number LIMIT $4`,
			micros(now), d.stamp(), texts(except), limitOf(limit), clockTolerance.Microseconds())
	})
	return out, err
}

// NextRefresh implements [broker.CredentialStore].
func (d *DB) NextRefresh(ctx context.Context) (next time.Time, err error) {
	err = d.list(ctx, "look for the next refresh", func(c *conn) error {
		err := c.row(`SELECT refresh_at FROM credentials
			WHERE refresh_at IS NOT NULL AND (lease_until IS NULL OR lease_until <= coalesce($1, `+statementTime+`)
				OR attempt_at > coalesce($1, `+statementTime+`) + $2)
			ORDER BY refresh_at LIMIT 1`, []any{d.stamp(), clockTolerance.Microseconds()}, when(&next))
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return next, err
}

// DropStaleLeases implements [broker.CredentialStore]. Other nodes may be alive, so only time tells which leases are stale.
func (d *DB) DropStaleLeases(ctx context.Context) (int, error) {
	var n int64
	err := d.write(ctx, "drop stale leases", func(tx *conn) (err error) {
		n, err = tx.exec(`UPDATE credentials SET lease_owner = '', lease_until = NULL
			WHERE lease_until IS NOT NULL AND lease_until <= coalesce($1, `+statementTime+`)`, d.stamp())
		return err
	})
	return int(n), err
}
