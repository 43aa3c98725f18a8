package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// putCredential stores a grant's credential in place of the version that it follows.
func putCredential(tx *conn, number int64, g *broker.Grant) error {
	var version, fence int64
	err := tx.row("SELECT version, fence FROM credentials WHERE connection_number = ?", []any{number}, &version, &fence)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	from := g.From
	if g.New {
		from = 0
	}
	if version != from {
		return broker.ErrConflict
	}
	c := g.Credential
	if _, err := tx.exec("UPDATE connections SET origins = ? WHERE number = ?", c.Origins, number); err != nil {
		return err
	}
	_, err = tx.exec(`REPLACE INTO credentials (connection_number, version, type, obtained_at, expires_at, refresh_at,
			refresh_expires_at, refreshed_at, failures, failed_at, failing_since, fail_code, lease_owner, lease_until, fence,
			attempt_at, erase_at, access, details, refresh, answer)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		number, from+1, c.Type, micros(c.ObtainedAt), micros(c.ExpiresAt), micros(c.RefreshAt), micros(c.RefreshExpiresAt),
		micros(c.RefreshedAt), c.Failures, micros(c.FailedAt), micros(c.FailingSince), c.FailCode, c.LeaseOwner,
		micros(c.LeaseUntil), max(fence, c.Fence), micros(c.AttemptAt), micros(c.EraseAt), blob(c.Access),
		blob(c.Details), blob(c.Refresh), blob(c.Answer))
	return err
}

// Lifetimes implements [broker.CredentialStore].
func (d *DB) Lifetimes(ctx context.Context, ids []broker.ConnectionID) (map[broker.ConnectionID]broker.Lifetime, error) {
	out := make(map[broker.ConnectionID]broker.Lifetime, len(ids))
	err := d.list(ctx, "list lifetimes", func(c *conn) error {
		return c.all(func(r *sql.Rows) error {
			var id broker.ConnectionID
			var l broker.Lifetime
			err := r.Scan((*string)(&id), when(&l.ObtainedAt), when(&l.RefreshedAt), when(&l.ExpiresAt), when(&l.RefreshExpiresAt))
			out[id] = l
			return err
		}, `SELECT c.id, k.obtained_at, k.refreshed_at, k.expires_at, k.refresh_expires_at
			FROM json_each(?) AS want JOIN connections c ON c.id = want.value JOIN credentials k ON k.connection_number = c.number`,
			list(ids))
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Credential implements [broker.CredentialStore].
func (d *DB) Credential(ctx context.Context, id broker.ConnectionID) (found *broker.Credential, err error) {
	err = d.read(ctx, "read credential", func(c *conn) error {
		found, _, err = credential(c, id)
		return err
	})
	return found, err
}

// credential reads a connection's credential, and the connection's number.
func credential(c *conn, id broker.ConnectionID) (*broker.Credential, int64, error) {
	found := new(broker.Credential)
	var number int64
	err := c.row(`SELECT c.number, c.id, cr.version, cr.type, cr.obtained_at, cr.expires_at, cr.refresh_at,
			cr.refresh_expires_at, cr.refreshed_at, cr.failures, cr.failed_at, cr.failing_since, cr.fail_code, cr.lease_owner,
			cr.lease_until, cr.fence, cr.attempt_at, cr.erase_at, c.origins, cr.access, cr.details, cr.refresh,
			cr.answer
		FROM connections c JOIN credentials cr ON cr.connection_number = c.number WHERE c.id = ?`, []any{string(id)},
		&number, (*string)(&found.Connection), &found.Version, &found.Type, when(&found.ObtainedAt), when(&found.ExpiresAt),
		when(&found.RefreshAt), when(&found.RefreshExpiresAt), when(&found.RefreshedAt), &found.Failures, when(&found.FailedAt),
		when(&found.FailingSince), &found.FailCode, &found.LeaseOwner, when(&found.LeaseUntil), &found.Fence,
		when(&found.AttemptAt), when(&found.EraseAt), &found.Origins, sealed(&found.Access), sealed(&found.Details),
		sealed(&found.Refresh), sealed(&found.Answer))
	if err != nil {
		return nil, 0, err
	}
	if found.Connection != id {
		return nil, 0, errWrongRow
	}
	return found, number, nil
}

// clockTolerance is how far clocks may be apart.
const clockTolerance = time.Minute

// LeaseRefresh implements [broker.CredentialStore].
func (d *DB) LeaseRefresh(ctx context.Context, id broker.ConnectionID, owner string, ttl time.Duration) (*broker.Credential, bool, error) {
	var leased *broker.Credential
	err := d.write(ctx, "lease refresh", func(tx *conn) error {
		leased = nil
		c, number, err := credential(tx, id)
		if err != nil {
			return err
		}
		now := d.now()
		// A lease that ends later than any could was written by a clock that was ahead.
		if left := c.LeaseUntil.Sub(now); c.LeaseOwner != "" && c.LeaseOwner != owner && left > 0 && left <= ttl+clockTolerance {
			return nil
		}
		c.LeaseOwner, c.LeaseUntil, c.Fence = owner, now.Add(ttl), c.Fence+1
		_, err = tx.exec(`UPDATE credentials SET lease_owner = ?, lease_until = ?, fence = ?, attempt_at = ?
			WHERE connection_number = ?`, owner, micros(c.LeaseUntil), c.Fence, micros(now), number)
		leased = c
		return err
	})
	if err != nil || leased == nil {
		return nil, false, err
	}
	return leased, true, nil
}

// ReleaseRefresh implements [broker.CredentialStore].
func (d *DB) ReleaseRefresh(ctx context.Context, id broker.ConnectionID, owner string, restored time.Time) error {
	return d.write(ctx, "release refresh", func(tx *conn) error {
		_, err := tx.exec(`UPDATE credentials SET lease_owner = '', lease_until = NULL, attempt_at = ?
			WHERE connection_number = (SELECT number FROM connections WHERE id = ?) AND lease_owner = ?`,
			micros(restored), string(id), owner)
		return err
	})
}

// SwapCredential implements [broker.CredentialStore]. Nil scopes leave those of the connection.
func (d *DB) SwapCredential(ctx context.Context, s *broker.Swap) error {
	return d.write(ctx, "swap credential", func(tx *conn) error { return swapCredential(tx, s, d.now()) })
}

func swapCredential(tx *conn, s *broker.Swap, now time.Time) error {
	var number int64
	var settled bool
	err := tx.row(`SELECT number, status = 'active' AND reason = '' AND error_id = '' AND error_code = '' AND error_at IS NULL
		FROM connections WHERE id = ?`, []any{string(s.Connection)}, &number, &settled)
	if err != nil {
		return err
	}
	c := s.Next
	n, err := tx.exec(`UPDATE credentials SET version = version + 1, type = ?, obtained_at = ?, expires_at = ?,
			refresh_at = ?, refresh_expires_at = ?, refreshed_at = ?, failures = 0, failed_at = NULL, failing_since = NULL,
			fail_code = '', lease_owner = '', lease_until = NULL, attempt_at = NULL, erase_at = NULL, access = ?, details = ?,
			refresh = ?, answer = ?
		WHERE connection_number = ? AND version = ?`,
		c.Type, micros(c.ObtainedAt), micros(c.ExpiresAt), micros(c.RefreshAt), micros(c.RefreshExpiresAt),
		micros(c.RefreshedAt), blob(c.Access), blob(c.Details), blob(c.Refresh), blob(c.Answer), number, s.From)
	if err != nil {
		return err
	}
	if n == 0 {
		return broker.ErrConflict
	}
	if !settled || s.Config != nil || s.Scopes != nil {
		if err := activate(tx, number, s, now); err != nil {
			return err
		}
	}
	return leave(tx, s.Trail)
}

// activate makes a connection active and gives it what came with a renewed token. One that is as it should be is not
// written: most renewals change the credential alone, and a change would cost the connection's editors a conflict.
func activate(tx *conn, number int64, s *broker.Swap, now time.Time) error {
	_, err := tx.exec(`UPDATE connections SET status = 'active', reason = '', error_id = '', error_code = '', error_at = NULL,
			config = coalesce(?2, config), scopes = coalesce(?3, scopes), updated_at = ?4, revision = revision + 1
		WHERE number = ?1 AND (status <> 'active' OR reason <> '' OR error_id <> '' OR error_code <> '' OR error_at IS NOT NULL
			OR config IS NOT coalesce(?2, config) OR scopes IS NOT coalesce(?3, scopes))`,
		number, text(s.Config), list(s.Scopes), micros(now))
	return err
}

// FailRefresh implements [broker.CredentialStore]. On a connection that is gone nothing changes either.
func (d *DB) FailRefresh(ctx context.Context, f *broker.RefreshFailure) error {
	return d.write(ctx, "record failed refresh", func(tx *conn) error {
		number, err := numberOf(tx, f.Connection)
		if errors.Is(err, broker.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := tx.exec(`UPDATE credentials SET refresh_at = ? WHERE connection_number = ? AND version = ?
			AND (failures = 0 OR refresh_at IS NOT NULL OR lease_owner = ?)`, micros(f.NextAt), number, f.Version, f.Owner)
		if err != nil || n == 0 {
			return err
		}
		if err := recordFailure(tx, number, f); err != nil {
			return err
		}
		return leave(tx, f.Trail)
	})
}

func recordFailure(tx *conn, number int64, f *broker.RefreshFailure) error {
	if f.CountsAgainst {
		_, err := tx.exec(`UPDATE credentials SET failures = failures + 1, failed_at = ?1,
			failing_since = coalesce(failing_since, ?1), fail_code = ?2, erase_at = coalesce(erase_at, ?3)
			WHERE connection_number = ?4`, micros(f.At), f.Code, micros(f.EraseAt), number)
		if err != nil {
			return err
		}
	}
	_, err := tx.exec(`UPDATE credentials SET lease_owner = '', lease_until = NULL, attempt_at = CASE WHEN ? THEN attempt_at END
		WHERE connection_number = ? AND lease_owner = ?`, f.KeepAttempt, number, f.Owner)
	if err != nil {
		return err
	}
	if f.Status == "" {
		return nil
	}
	_, err = tx.exec(`UPDATE connections SET status = ?, reason = ?, error_id = ?, error_code = ?, error_at = ?, updated_at = ?,
		revision = revision + 1 WHERE number = ?`,
		string(f.Status), f.Reason, f.ErrorID, f.Code, micros(f.At), micros(f.At), number)
	return err
}

// SetRefreshAt implements [broker.CredentialStore].
func (d *DB) SetRefreshAt(ctx context.Context, id broker.ConnectionID, version int64, from, to time.Time) error {
	return d.write(ctx, "set refresh time", func(tx *conn) error {
		_, err := tx.exec(`UPDATE credentials SET refresh_at = ?
			WHERE connection_number = (SELECT number FROM connections WHERE id = ?) AND version = ? AND refresh_at IS ?`,
			micros(to), string(id), version, micros(from))
		return err
	})
}

// EraseTokens implements [broker.CredentialStore].
func (d *DB) EraseTokens(ctx context.Context, now time.Time, limit int, line broker.AuditEntry) (int, error) {
	var count int
	err := d.write(ctx, "erase tokens", func(tx *conn) error {
		due, err := column[int64](tx, "SELECT connection_number FROM credentials WHERE erase_at <= ? ORDER BY erase_at LIMIT ?",
			micros(now), limitOf(limit))
		if err != nil {
			return err
		}
		for _, number := range due {
			if err := eraseTokens(tx, number, now, line); err != nil {
				return err
			}
		}
		count = len(due)
		return nil
	})
	return count, err
}

func eraseTokens(tx *conn, number int64, now time.Time, line broker.AuditEntry) error {
	_, err := tx.exec(`UPDATE credentials SET refresh = NULL, answer = NULL, access = iif(expires_at <= ?1, NULL, access),
		erase_at = iif(expires_at > ?1, expires_at, NULL) WHERE connection_number = ?2`, micros(now), number)
	if err != nil {
		return err
	}
	err = tx.row(`SELECT c.id, i.environment FROM connections c JOIN integrations i ON i.number = c.integration_number
		WHERE c.number = ?`, []any{number}, &line.Target, (*string)(&line.Environment))
	if err != nil {
		return err
	}
	return appendAudit(tx, &line)
}

// DueRefreshes implements [broker.CredentialStore]. A lease that was taken later than now binds nobody, as for LeaseRefresh.
func (d *DB) DueRefreshes(ctx context.Context, now time.Time, except []broker.IntegrationID, limit int) ([]broker.DueRefresh, error) {
	var out []broker.DueRefresh
	err := d.list(ctx, "list due refreshes", func(c *conn) error {
		return c.all(func(r *sql.Rows) error {
			var due broker.DueRefresh
			err := r.Scan((*string)(&due.Connection), (*string)(&due.Environment), (*string)(&due.Integration), when(&due.At))
			out = append(out, due)
			return err
		}, `SELECT c.id, i.environment, i.id, cr.refresh_at
			FROM credentials cr
			JOIN connections c ON c.number = cr.connection_number
			JOIN integrations i ON i.number = c.integration_number
			WHERE cr.refresh_at <= ? AND (cr.lease_until IS NULL OR cr.lease_until <= ? OR cr.attempt_at > ?)
				AND i.id NOT IN (SELECT value FROM json_each(?))
			ORDER BY cr.refresh_at, cr.connection_number LIMIT ?`,
			micros(now), micros(d.now()), micros(d.now().Add(clockTolerance)), encode(append([]broker.IntegrationID{}, except...)), limitOf(limit))
	})
	return out, err
}

// NextRefresh implements [broker.CredentialStore].
func (d *DB) NextRefresh(ctx context.Context) (next time.Time, err error) {
	err = d.list(ctx, "look for the next refresh", func(c *conn) error {
		err := c.row(`SELECT refresh_at FROM credentials
			WHERE refresh_at IS NOT NULL AND (lease_until IS NULL OR lease_until <= ? OR attempt_at > ?)
			ORDER BY refresh_at LIMIT 1`, []any{micros(d.now()), micros(d.now().Add(clockTolerance))}, when(&next))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return next, err
}

// DropStaleLeases implements [broker.CredentialStore]. Whoever holds the directory's lock knows more than the clock: a
// lease from before it opened the database belongs to a server that is gone, and so does one from the future.
func (d *DB) DropStaleLeases(ctx context.Context) (int, error) {
	before, after := time.Unix(0, 0), time.Unix(1<<40, 0)
	if d.exclusive {
		before, after = d.openedAt, d.now().Add(clockTolerance)
	}
	var n int64
	err := d.write(ctx, "drop stale leases", func(tx *conn) (err error) {
		n, err = tx.exec(`UPDATE credentials SET lease_owner = '', lease_until = NULL
			WHERE lease_until IS NOT NULL AND (lease_until <= ? OR attempt_at < ? OR attempt_at > ?)`,
			micros(d.now()), micros(before), micros(after))
		return err
	})
	return int(n), err
}
