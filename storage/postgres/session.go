package postgres

import (
	"bytes"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// endUser is how a session keeps its end user.
type endUser struct {
	ID               string            `json:"id,omitempty"`
	Email            string            `json:"email,omitempty"`
	DisplayName      string            `json:"display_name,omitempty"`
	Tags             map[string]string `json:"tags,omitempty"`
	OrganizationID   string            `json:"organization_id,omitempty"`
	OrganizationName string            `json:"organization_name,omitempty"`
}

// CreateSession implements [broker.SessionStore]. A new session has come to nothing yet: its Done is not kept.
func (d *DB) CreateSession(ctx context.Context, s *broker.Session, t broker.Trail) error {
	return d.write(ctx, "create session", func(tx *conn) error {
		var user any
		if s.EndUser != nil {
			user = encode((*endUser)(s.EndUser))
		}
		_, err := tx.exec(`INSERT INTO sessions (id, environment, token_hash, end_user, tags, integrations, connection, first,
				landing, callback, own, connection_name, allow_account_change, allowed_origins, return_url, webhook_url, defaults, starts, created_at,
				expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)`,
			string(s.ID), string(s.Environment), s.TokenHash, user, dict(s.Tags), list(s.Integrations), string(s.Connection), s.First,
			s.Landing, s.Callback, s.Own, s.ConnectionName, s.AllowAccountChange, list(s.AllowedOrigins), s.ReturnURL, s.WebhookURL, blob(s.Defaults),
			s.Starts, micros(s.CreatedAt), micros(s.ExpiresAt))
		if err != nil {
			return err
		}
		return leave(tx, t)
	})
}

const selectSession = `SELECT id, environment, token_hash, end_user, tags, integrations, connection, first, landing, callback, own,
	connection_name, allow_account_change, allowed_origins, return_url, webhook_url, defaults, starts, created_at, expires_at FROM sessions `

// SessionByHash implements [broker.SessionStore].
func (d *DB) SessionByHash(ctx context.Context, hash []byte) (*broker.Session, error) {
	s, err := d.session(ctx, selectSession+"WHERE token_hash = $1", hash)
	if err == nil && !bytes.Equal(s.TokenHash, hash) {
		return nil, errWrongRow
	}
	return s, err
}

// Session implements [broker.SessionStore].
func (d *DB) Session(ctx context.Context, id broker.SessionID) (*broker.Session, error) {
	s, err := d.session(ctx, selectSession+"WHERE id = $1", string(id))
	if err == nil && s.ID != id {
		return nil, errWrongRow
	}
	return s, err
}

func (d *DB) session(ctx context.Context, query string, key any) (s *broker.Session, err error) {
	err = d.read(ctx, "read session", func(c *conn) error {
		s = new(broker.Session)
		var user *endUser
		err := c.row(query, []any{key}, (*string)(&s.ID), (*string)(&s.Environment), &s.TokenHash, doc(&user), doc(&s.Tags),
			doc(&s.Integrations), (*string)(&s.Connection), &s.First, &s.Landing, &s.Callback, &s.Own, &s.ConnectionName,
			&s.AllowAccountChange, doc(&s.AllowedOrigins),
			&s.ReturnURL, &s.WebhookURL, sealed(&s.Defaults), &s.Starts, when(&s.CreatedAt), when(&s.ExpiresAt))
		if err != nil {
			return err
		}
		s.EndUser = (*broker.EndUser)(user)
		return c.all(func(r pgx.Rows) error {
			var e broker.SessionEnd
			err := r.Scan((*string)(&e.Integration), (*string)(&e.Connection), when(&e.At))
			s.Done = append(s.Done, e)
			return err
		}, "SELECT integration, connection, at FROM session_ends WHERE session = $1 ORDER BY at, integration", string(s.ID))
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// DeleteSession implements [broker.SessionStore]. The session's row goes first: a new flow writes to it, so none comes
// after those that are failed here.
func (d *DB) DeleteSession(ctx context.Context, id broker.SessionID, code string, at time.Time, t broker.Trail) error {
	return d.write(ctx, "delete session", func(tx *conn) error {
		n, err := tx.exec("DELETE FROM sessions WHERE id = $1", string(id))
		if err != nil {
			return err
		}
		if n == 0 {
			return broker.ErrNotFound
		}
		_, err = tx.exec(`UPDATE flows SET status = 'failed', code = $1, ended_at = $2, secrets = NULL
			WHERE session = $3 AND status = 'open'`, code, micros(at), string(id))
		if err != nil {
			return err
		}
		return leave(tx, t)
	})
}

// SweepSessions implements [broker.SessionStore]. A consumed flow without a result stays until it has one: an exchange
// may still be under way. Rows that another node is sweeping, or that are in use, are left to the next time.
func (d *DB) SweepSessions(ctx context.Context, before time.Time) (int, error) {
	var count int
	err := d.write(ctx, "sweep sessions", func(tx *conn) error {
		count = 0
		for _, statement := range []string{
			"DELETE FROM sessions WHERE id = ANY(ARRAY(SELECT id FROM sessions WHERE expires_at < $1 FOR UPDATE SKIP LOCKED))",
			"DELETE FROM flows WHERE id = ANY(ARRAY(SELECT id FROM flows WHERE ended_at < $1 FOR UPDATE SKIP LOCKED))",
			"DELETE FROM flows WHERE id = ANY(ARRAY(SELECT id FROM flows WHERE status = 'open' AND expires_at < $1 FOR UPDATE SKIP LOCKED))",
		} {
			n, err := tx.exec(statement, micros(before))
			if err != nil {
				return err
			}
			count += int(n)
		}
		return nil
	})
	return count, err
}

// spendSession records a session's one success at an integration.
func spendSession(tx *conn, id broker.SessionID, c *broker.Connection, now any) error {
	n, err := tx.exec(`INSERT INTO session_ends (session, integration, connection, at)
		VALUES ($1, $2, $3, coalesce($4, `+statementTime+`)) ON CONFLICT (session, integration) DO NOTHING`,
		string(id), string(c.Integration), string(c.ID), now)
	if err == nil && n == 0 {
		return broker.ErrSessionCompleted
	}
	return err
}
