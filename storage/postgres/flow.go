package postgres

import (
	"bytes"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// CreateFlow implements [broker.FlowStore].
func (d *DB) CreateFlow(ctx context.Context, f *broker.Flow, maxStarts int, t broker.Trail) (bool, error) {
	var ok bool
	err := d.write(ctx, "create flow", func(tx *conn) error {
		ok = true
		if f.Session != "" {
			n, err := tx.exec("UPDATE sessions SET starts = starts + 1 WHERE id = $1 AND starts < $2", string(f.Session), maxStarts)
			if err != nil {
				return err
			}
			if n == 0 {
				ok = false
				return absentOr(tx, nil, "SELECT 1 FROM sessions WHERE id = $1", string(f.Session))
			}
			if err := giveUpChannel(tx, f); err != nil {
				return err
			}
		}
		_, err := tx.exec(`INSERT INTO flows (id, environment, session, integration, connection, key, state_hash, browser_hash,
				channel, redirect_uri, issuer, asked_scopes, landing, secrets, status, code, created_at, expires_at,
				consumed_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
			string(f.ID), string(f.Environment), string(f.Session), string(f.Integration), string(f.Connection), f.Key,
			f.StateHash, blob(f.BrowserHash), blob(f.Channel), f.RedirectURI, f.Issuer, list(f.AskedScopes), f.Landing, blob(f.Secrets),
			string(broker.FlowOpen), f.Code, micros(f.CreatedAt), micros(f.ExpiresAt), micros(f.ConsumedAt))
		if err != nil {
			return err
		}
		return leave(tx, t)
	})
	return ok && err == nil, err
}

// giveUpChannel takes the channel from the session's own earlier flow.
func giveUpChannel(tx *conn, f *broker.Flow) error {
	if len(f.Channel) == 0 {
		return nil
	}
	_, err := tx.exec(`UPDATE flows SET status = 'failed', code = 'superseded', ended_at = $1, secrets = NULL, channel = NULL
		WHERE channel = $2 AND session = $3 AND status = 'open'`, micros(f.CreatedAt), f.Channel, string(f.Session))
	return err
}

const selectFlow = `SELECT id, environment, session, integration, connection, key, state_hash, browser_hash, channel,
	redirect_uri, issuer, asked_scopes, landing, secrets, status, code, created_at, expires_at, consumed_at FROM flows `

func flowFields(f *broker.Flow) []any {
	return []any{
		(*string)(&f.ID), (*string)(&f.Environment), (*string)(&f.Session), (*string)(&f.Integration), (*string)(&f.Connection),
		&f.Key, &f.StateHash, &f.BrowserHash, &f.Channel, &f.RedirectURI, &f.Issuer, doc(&f.AskedScopes), &f.Landing, sealed(&f.Secrets),
		(*string)(&f.Status), &f.Code, when(&f.CreatedAt), when(&f.ExpiresAt), when(&f.ConsumedAt),
	}
}

// Flow implements [broker.FlowStore].
func (d *DB) Flow(ctx context.Context, id broker.FlowID) (*broker.Flow, error) {
	f := new(broker.Flow)
	err := d.read(ctx, "read flow by id", func(c *conn) error {
		return c.row(selectFlow+"WHERE id = $1", []any{string(id)}, flowFields(f)...)
	})
	if err != nil {
		return nil, err
	}
	if f.ID != id {
		return nil, errWrongRow
	}
	return f, nil
}

// FlowByState implements [broker.FlowStore].
func (d *DB) FlowByState(ctx context.Context, hash []byte) (*broker.Flow, error) {
	f := new(broker.Flow)
	err := d.read(ctx, "read flow", func(c *conn) error {
		return c.row(selectFlow+"WHERE state_hash = $1", []any{hash}, flowFields(f)...)
	})
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(f.StateHash, hash) {
		return nil, errWrongRow
	}
	return f, nil
}

// FlowsByChannel implements [broker.Shared].
func (d *DB) FlowsByChannel(ctx context.Context, channels [][]byte) (out []*broker.Flow, err error) {
	err = d.read(ctx, "read flows by channel", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			f := new(broker.Flow)
			out = append(out, f)
			return r.Scan(flowFields(f)...)
		}, selectFlow+"WHERE channel = ANY($1)", channels)
	})
	return out, err
}

// FlowByChannel implements [broker.FlowStore].
func (d *DB) FlowByChannel(ctx context.Context, channel []byte) (*broker.Flow, error) {
	f := new(broker.Flow)
	err := d.read(ctx, "read flow by channel", func(c *conn) error {
		return c.row(selectFlow+"WHERE channel = $1", []any{channel}, flowFields(f)...)
	})
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(f.Channel, channel) {
		return nil, errWrongRow
	}
	return f, nil
}

// SealFlow implements [broker.FlowStore].
func (d *DB) SealFlow(ctx context.Context, id broker.FlowID, secrets broker.Sealed) (bool, error) {
	var n int64
	err := d.write(ctx, "seal flow", func(tx *conn) (err error) {
		n, err = tx.exec("UPDATE flows SET secrets = $1 WHERE id = $2 AND status = 'open'", blob(secrets), string(id))
		return err
	})
	return n == 1, err
}

// ConsumeFlow implements [broker.FlowStore].
func (d *DB) ConsumeFlow(ctx context.Context, id broker.FlowID, at time.Time) (bool, error) {
	var n int64
	err := d.write(ctx, "consume flow", func(tx *conn) (err error) {
		n, err = tx.exec("UPDATE flows SET status = 'consumed', consumed_at = $1, secrets = NULL WHERE id = $2 AND status = 'open'",
			micros(at), string(id))
		return err
	})
	return n == 1, err
}

// FailFlow implements [broker.FlowStore].
func (d *DB) FailFlow(ctx context.Context, id broker.FlowID, code string, at time.Time, t broker.Trail) error {
	return d.write(ctx, "fail flow", func(tx *conn) error {
		n, err := tx.exec(`UPDATE flows SET status = 'failed', code = $1, ended_at = $2, secrets = NULL
			WHERE id = $3 AND status IN ('open', 'consumed')`, code, micros(at), string(id))
		if err != nil || n == 0 {
			return err
		}
		if err := tx.tell(); err != nil {
			return err
		}
		return leave(tx, t)
	})
}

// InterruptedFlows implements [broker.FlowStore].
func (d *DB) InterruptedFlows(ctx context.Context, before time.Time) ([]*broker.Flow, error) {
	var out []*broker.Flow
	err := d.list(ctx, "list interrupted flows", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			f := new(broker.Flow)
			out = append(out, f)
			return r.Scan(flowFields(f)...)
		}, selectFlow+"WHERE status = 'consumed' AND consumed_at < $1 ORDER BY consumed_at", micros(before))
	})
	return out, err
}

// finishFlow lets a consumed flow end in a connection.
func finishFlow(tx *conn, id broker.FlowID, c *broker.Connection, now any) error {
	n, err := tx.exec(`UPDATE flows SET status = 'succeeded', connection = $1, ended_at = coalesce($2, `+statementTime+`)
		WHERE id = $3 AND environment = $4 AND status = 'consumed'`, string(c.ID), now, string(id), string(c.Environment))
	if err != nil {
		return err
	}
	if n == 0 {
		return broker.ErrConflict.On("flow")
	}
	return tx.tell()
}
