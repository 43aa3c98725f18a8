package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// putCredential stores a grant's credential in place of the version that it follows. The connection's row is locked.
func putCredential(tx *conn, number int64, g *broker.Grant) error {
	from, c := g.From, g.Credential
	if g.New {
		from = 0
	}
	n, err := tx.exec(`INSERT INTO credentials AS old (connection_number, version, type, obtained_at, expires_at, refresh_at,
			refresh_expires_at, refreshed_at, failures, failed_at, failing_since, fail_code, lease_owner, lease_until, fence,
			attempt_at, erase_at, access, details, refresh, answer)
		SELECT $1::bigint, $2::bigint + 1, $3, $4::bigint, $5::bigint, $6::bigint, $7::bigint, $8::bigint, $9::bigint, $10::bigint,
			$11::bigint, $12, $13, $14::bigint, $15::bigint, $16::bigint, $17::bigint, $18::bytea, $19::bytea, $20::bytea, $21::bytea
		WHERE $2::bigint = 0 OR EXISTS (SELECT 1 FROM credentials WHERE connection_number = $1)
		ON CONFLICT (connection_number) DO UPDATE SET version = excluded.version, type = excluded.type,
			obtained_at = excluded.obtained_at, expires_at = excluded.expires_at, refresh_at = excluded.refresh_at,
			refresh_expires_at = excluded.refresh_expires_at, refreshed_at = excluded.refreshed_at, failures = excluded.failures,
			failed_at = excluded.failed_at, failing_since = excluded.failing_since, fail_code = excluded.fail_code,
			lease_owner = excluded.lease_owner, lease_until = excluded.lease_until, fence = greatest(old.fence, excluded.fence),
			attempt_at = excluded.attempt_at, erase_at = excluded.erase_at, access = excluded.access, details = excluded.details,
			refresh = excluded.refresh, answer = excluded.answer
		WHERE old.version = $2`,
		number, from, c.Type, micros(c.ObtainedAt), micros(c.ExpiresAt), micros(c.RefreshAt), micros(c.RefreshExpiresAt),
		micros(c.RefreshedAt), c.Failures, micros(c.FailedAt), micros(c.FailingSince), c.FailCode, c.LeaseOwner,
		micros(c.LeaseUntil), c.Fence, micros(c.AttemptAt), micros(c.EraseAt), blob(c.Access), blob(c.Details), blob(c.Refresh),
		blob(c.Answer))
	if err != nil {
		return err
	}
	if n == 0 {
		return broker.ErrConflict
	}
	_, err = tx.exec("UPDATE connections SET origins = $1 WHERE number = $2", c.Origins, number)
	return err
}

// Lifetimes implements [broker.CredentialStore].
func (d *DB) Lifetimes(ctx context.Context, ids []broker.ConnectionID) (map[broker.ConnectionID]broker.Lifetime, error) {
	out := make(map[broker.ConnectionID]broker.Lifetime, len(ids))
	err := d.list(ctx, "list lifetimes", func(c *conn) error {
		return c.all(func(r pgx.Rows) error {
			var id broker.ConnectionID
			var l broker.Lifetime
			err := r.Scan((*string)(&id), when(&l.ObtainedAt), when(&l.RefreshedAt), when(&l.ExpiresAt), when(&l.RefreshExpiresAt))
			out[id] = l
			return err
		}, `SELECT c.id, k.obtained_at, k.refreshed_at, k.expires_at, k.refresh_expires_at
			FROM connections c JOIN credentials k ON k.connection_number = c.number WHERE c.id = ANY($1)`, texts(ids))
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Credential implements [broker.CredentialStore].
func (d *DB) Credential(ctx context.Context, id broker.ConnectionID) (found *broker.Credential, err error) {
	err = d.read(ctx, "read credential", func(c *conn) error {
		found, err = credential(c, id)
		return err
	})
	return found, err
}

// credential reads a connection's credential.
func credential(c *conn, id broker.ConnectionID) (*broker.Credential, error) {
	found := new(broker.Credential)
	err := c.row(`SELECT c.id, cr.version, cr.type, cr.obtained_at, cr.expires_at, cr.refresh_at,
			cr.refresh_expires_at, cr.refreshed_at, cr.failures, cr.failed_at, cr.failing_since, cr.fail_code, cr.lease_owner,
			cr.lease_until, cr.fence, cr.attempt_at, cr.erase_at, c.origins, cr.access, cr.details, cr.refresh,
			cr.answer
		FROM connections c JOIN credentials cr ON cr.connection_number = c.number WHERE c.id = $1`, []any{string(id)},
		(*string)(&found.Connection), &found.Version, &found.Type, when(&found.ObtainedAt), when(&found.ExpiresAt),
		when(&found.RefreshAt), when(&found.RefreshExpiresAt), when(&found.RefreshedAt), &found.Failures, when(&found.FailedAt),
		when(&found.FailingSince), &found.FailCode, &found.LeaseOwner, when(&found.LeaseUntil), &found.Fence,
		when(&found.AttemptAt), when(&found.EraseAt), &found.Origins, sealed(&found.Access), sealed(&found.Details),
		sealed(&found.Refresh), sealed(&found.Answer))
	if err != nil {
		return nil, err
	}
	if found.Connection != id {
		return nil, errWrongRow
	}
	return found, nil
}

// SwapCredential implements [broker.CredentialStore]. Nil scopes leave those of the connection.
func (d *DB) SwapCredential(ctx context.Context, s *broker.Swap) error {
	return d.write(ctx, "swap credential", func(tx *conn) error {
		var number int64
		err := tx.row("SELECT number FROM connections WHERE id = $1 FOR NO KEY UPDATE", []any{string(s.Connection)}, &number)
		if err != nil {
			return err
		}
		c := s.Next
		n, err := tx.exec(`UPDATE credentials SET version = version + 1, type = $1, obtained_at = $2, expires_at = $3,
				refresh_at = $4, refresh_expires_at = $5, refreshed_at = $6, failures = 0, failed_at = NULL, failing_since = NULL,
				fail_code = '', lease_owner = '', lease_until = NULL, attempt_at = NULL, erase_at = NULL, access = $7, details = $8,
				refresh = $9, answer = $10
			WHERE connection_number = $11 AND version = $12`,
			c.Type, micros(c.ObtainedAt), micros(c.ExpiresAt), micros(c.RefreshAt), micros(c.RefreshExpiresAt),
			micros(c.RefreshedAt), blob(c.Access), blob(c.Details), blob(c.Refresh), blob(c.Answer), number, s.From)
		if err != nil {
			return err
		}
		if n == 0 {
			return broker.ErrConflict
		}
		if err := activate(tx, number, s, d.stamp()); err != nil {
			return err
		}
		return leave(tx, s.Trail)
	})
}

// activate makes a connection active and gives it what came with a renewed token. One that is as it should be is not
// written: most renewals change the credential alone, and a change would cost the connection's editors a conflict.
func activate(tx *conn, number int64, s *broker.Swap, now any) error {
	_, err := tx.exec(`UPDATE connections SET status = 'active', reason = '', error_id = '', error_code = '', error_at = NULL,
			config = coalesce($2, config), scopes = coalesce($3, scopes), updated_at = coalesce($4, `+statementTime+`),
			revision = revision + 1
		WHERE number = $1 AND (status <> 'active' OR reason <> '' OR error_id <> '' OR error_code <> '' OR error_at IS NOT NULL
			OR config IS DISTINCT FROM coalesce($2, config) OR scopes IS DISTINCT FROM coalesce($3, scopes))`,
		number, text(s.Config), list(s.Scopes), now)
	return err
}

// FailRefresh implements [broker.CredentialStore]. On a connection that is gone nothing changes either.
func (d *DB) FailRefresh(ctx context.Context, f *broker.RefreshFailure) error {
	commit := d.write
	if f.Status != "" {
		commit = d.change // a status is something that other nodes keep in memory
	}
	return commit(ctx, "record failed refresh", func(tx *conn) error {
		var number int64
		err := tx.row("SELECT number FROM connections WHERE id = $1 FOR NO KEY UPDATE", []any{string(f.Connection)}, &number)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := tx.exec(`UPDATE credentials SET refresh_at = $1 WHERE connection_number = $2 AND version = $3
			AND (failures = 0 OR refresh_at IS NOT NULL OR lease_owner = $4)`, micros(f.NextAt), number, f.Version, f.Owner)
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
		_, err := tx.exec(`UPDATE credentials SET failures = failures + 1, failed_at = $1::bigint,
			failing_since = coalesce(failing_since, $1::bigint), fail_code = $2, erase_at = coalesce(erase_at, $3)
			WHERE connection_number = $4`, micros(f.At), f.Code, micros(f.EraseAt), number)
		if err != nil {
			return err
		}
	}
	_, err := tx.exec(`UPDATE credentials SET lease_owner = '', lease_until = NULL, attempt_at = CASE WHEN $1::boolean THEN attempt_at END
		WHERE connection_number = $2 AND lease_owner = $3`, f.KeepAttempt, number, f.Owner)
	if err != nil {
		return err
	}
	if f.Status == "" {
		return nil
	}
	_, err = tx.exec(`UPDATE connections SET status = $1, reason = $2, error_id = $3, error_code = $4, error_at = $5::bigint,
		updated_at = $5::bigint, revision = revision + 1 WHERE number = $6`,
		string(f.Status), f.Reason, f.ErrorID, f.Code, micros(f.At), number)
	return err
}

// EraseTokens implements [broker.CredentialStore]. A look that finds nothing is not a change.
func (d *DB) EraseTokens(ctx context.Context, now time.Time, limit int, line broker.AuditEntry) (int, error) {
	var due bool
	err := d.read(ctx, "look for tokens to erase", func(c *conn) (err error) {
		due, err = c.exists("SELECT 1 FROM credentials WHERE erase_at <= $1 LIMIT 1", micros(now))
		return err
	})
	if err != nil || !due {
		return 0, err
	}
	var count int
	err = d.write(ctx, "erase tokens", func(tx *conn) error {
		count = 0
		due, err := column[int64](tx, `SELECT connection_number FROM credentials WHERE erase_at <= $1
			ORDER BY erase_at LIMIT $2 FOR UPDATE SKIP LOCKED`, micros(now), limitOf(limit))
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
	_, err := tx.exec(`UPDATE credentials SET refresh = NULL, answer = NULL, access = CASE WHEN expires_at <= $1 THEN NULL ELSE access END,
		erase_at = CASE WHEN expires_at > $1 THEN expires_at END WHERE connection_number = $2`, micros(now), number)
	if err != nil {
		return err
	}
	err = tx.row(`SELECT c.id, i.environment FROM connections c JOIN integrations i ON i.number = c.integration_number
		WHERE c.number = $1`, []any{number}, &line.Target, (*string)(&line.Environment))
	if err != nil {
		return err
	}
	return appendAudit(tx, &line)
}
