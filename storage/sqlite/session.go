package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"time"

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
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
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
	s, err := d.session(ctx, selectSession+"WHERE token_hash = ?", hash)
	if err == nil && !bytes.Equal(s.TokenHash, hash) {
		return nil, errWrongRow
	}
	return s, err
}

// Session implements [broker.SessionStore].
func (d *DB) Session(ctx context.Context, id broker.SessionID) (*broker.Session, error) {
	s, err := d.session(ctx, selectSession+"WHERE id = ?", string(id))
	if err == nil && s.ID != id {
		return nil, errWrongRow
	}
	return s, err
}

func (d *DB) session(ctx context.Context, query string, key any) (*broker.Session, error) {
	s := new(broker.Session)
	err := d.read(ctx, "read session", func(c *conn) error {
		var user *endUser
		err := c.row(query, []any{key}, (*string)(&s.ID), (*string)(&s.Environment), &s.TokenHash, doc(&user), doc(&s.Tags),
			doc(&s.Integrations), (*string)(&s.Connection), &s.First, &s.Landing, &s.Callback, &s.Own, &s.ConnectionName,
			&s.AllowAccountChange, doc(&s.AllowedOrigins),
			&s.ReturnURL, &s.WebhookURL, sealed(&s.Defaults), &s.Starts, when(&s.CreatedAt), when(&s.ExpiresAt))
		if err != nil {
			return err
		}
		s.EndUser = (*broker.EndUser)(user)
		return c.all(func(r *sql.Rows) error {
			var e broker.SessionEnd
			err := r.Scan((*string)(&e.Integration), (*string)(&e.Connection), when(&e.At))
			s.Done = append(s.Done, e)
			return err
		}, "SELECT integration, connection, at FROM session_ends WHERE session = ? ORDER BY at, integration", string(s.ID))
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// DeleteSession implements [broker.SessionStore].
func (d *DB) DeleteSession(ctx context.Context, id broker.SessionID, code string, at time.Time, t broker.Trail) error {
	return d.write(ctx, "delete session", func(tx *conn) error {
		_, err := tx.exec(`UPDATE flows SET status = 'failed', code = ?, ended_at = ?, secrets = NULL
			WHERE session = ? AND status = 'open'`, code, micros(at), string(id))
		if err != nil {
			return err
		}
		n, err := tx.exec("DELETE FROM sessions WHERE id = ?", string(id))
		if err != nil {
			return err
		}
		if n == 0 {
			return broker.ErrNotFound
		}
		return leave(tx, t)
	})
}

// SweepSessions implements [broker.SessionStore]. A consumed flow without a result stays until it has one: an exchange
// may still be under way.
func (d *DB) SweepSessions(ctx context.Context, before time.Time) (int, error) {
	var count int
	err := d.write(ctx, "sweep sessions", func(tx *conn) error {
		count = 0
		for _, statement := range []string{
			"DELETE FROM sessions WHERE expires_at < ?",
			"DELETE FROM flows WHERE ended_at < ?",
			"DELETE FROM flows WHERE status = 'open' AND expires_at < ?",
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
func spendSession(tx *conn, id broker.SessionID, c *broker.Connection, at time.Time) error {
	n, err := tx.exec(`INSERT INTO session_ends (session, integration, connection, at) VALUES (?, ?, ?, ?)
		ON CONFLICT (session, integration) DO NOTHING`, string(id), string(c.Integration), string(c.ID), micros(at))
	if err == nil && n == 0 {
		return broker.ErrSessionCompleted
	}
	return err
}
