package sqlite

import (
	"context"
	"database/sql"

	"github.com/coatcheck/coatcheck/broker"
)

// defaultLimit is how many rows a list has where the caller does not say.
const defaultLimit = 100

func limitOf(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return n
}

// environmentNumber is what the large tables know an environment by. Nothing belongs to an environment that there is
// not; audit lines may belong to none.
func environmentNumber(tx *conn, id broker.EnvironmentID) (any, error) {
	if id == "" {
		return nil, nil //nolint:nilnil // it is NULL
	}
	var n int64
	if err := tx.row("SELECT number FROM environments WHERE id = ?", []any{string(id)}, &n); err != nil {
		return nil, err
	}
	return n, nil
}

// leave writes what a change leaves behind, in the change's transaction.
func leave(tx *conn, t broker.Trail) error {
	for i := range t.Audit {
		if err := appendAudit(tx, &t.Audit[i]); err != nil {
			return err
		}
	}
	for i := range t.Events {
		if err := appendEvent(tx, &t.Events[i]); err != nil {
			return err
		}
	}
	for i := range t.Deliveries {
		if err := appendDelivery(tx, &t.Deliveries[i]); err != nil {
			return err
		}
	}
	return nil
}

func appendAudit(tx *conn, a *broker.AuditEntry) error {
	env, err := environmentNumber(tx, a.Environment)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO audit (environment_number, actor, action, target, result, count, ip, request_id, at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		env, a.Actor, a.Action, a.Target, a.Result, a.Count, a.IP, a.RequestID, micros(a.At))
	return err
}

func appendEvent(tx *conn, e *broker.Event) error {
	env, err := environmentNumber(tx, e.Environment)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO events (id, environment_number, kind, integration, connection, key, code, at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		e.ID, env, string(e.Kind), string(e.Integration), string(e.Connection), e.Key, e.Code, micros(e.At))
	return err
}

// AppendTrail implements [broker.TrailStore].
func (d *DB) AppendTrail(ctx context.Context, t broker.Trail) error {
	return d.write(ctx, "append trail", func(tx *conn) error { return leave(tx, t) })
}

// ofEnvironment selects an environment's rows, those of none for the empty id, and none for an id that there is not.
const ofEnvironment = `environment_number IS iif(?1 = '', NULL, coalesce((SELECT number FROM environments WHERE id = ?1), -1))`

// Audit implements [broker.TrailStore]. The lines that belong to no environment are those of the empty one.
func (d *DB) Audit(ctx context.Context, env broker.EnvironmentID, after int64, limit int) ([]broker.AuditEntry, error) {
	var out []broker.AuditEntry
	err := d.list(ctx, "list audit", func(c *conn) error {
		return c.all(func(r *sql.Rows) error {
			a := broker.AuditEntry{Environment: env}
			err := r.Scan(&a.Sequence, &a.Actor, &a.Action, &a.Target, &a.Result, &a.Count, &a.IP, &a.RequestID, when(&a.At))
			out = append(out, a)
			return err
		}, `SELECT sequence, actor, action, target, result, count, ip, request_id, at
			FROM audit WHERE `+ofEnvironment+` AND sequence > ?2 ORDER BY sequence LIMIT ?3`, string(env), after, limitOf(limit))
	})
	return out, err
}

// Events implements [broker.TrailStore].
func (d *DB) Events(ctx context.Context, env broker.EnvironmentID, after int64, limit int) ([]broker.Event, error) {
	var out []broker.Event
	err := d.list(ctx, "list events", func(c *conn) error {
		return c.all(func(r *sql.Rows) error {
			e := broker.Event{Environment: env}
			err := r.Scan(&e.Sequence, &e.ID, (*string)(&e.Kind), (*string)(&e.Integration), (*string)(&e.Connection), &e.Key,
				&e.Code, when(&e.At))
			out = append(out, e)
			return err
		}, `SELECT sequence, id, kind, integration, connection, key, code, at
			FROM events WHERE `+ofEnvironment+` AND sequence > ?2 ORDER BY sequence LIMIT ?3`, string(env), after, limitOf(limit))
	})
	return out, err
}
