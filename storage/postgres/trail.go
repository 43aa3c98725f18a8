package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

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
	if err := tx.row("SELECT number FROM environments WHERE id = $1", []any{string(id)}, &n); err != nil {
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
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		env, a.Actor, a.Action, a.Target, a.Result, a.Count, a.IP, a.RequestID, micros(a.At))
	return err
}

func appendEvent(tx *conn, e *broker.Event) error {
	env, err := environmentNumber(tx, e.Environment)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO events (id, environment_number, kind, integration, connection, key, code, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		e.ID, env, string(e.Kind), string(e.Integration), string(e.Connection), e.Key, e.Code, micros(e.At))
	return err
}

// appendEvents writes what an environment's many connections have in common, in one statement.
func appendEvents(tx *conn, env broker.EnvironmentID, events []broker.Event) error {
	if len(events) == 0 {
		return nil
	}
	number, err := environmentNumber(tx, env)
	if err != nil {
		return err
	}
	ids, connections, keys := make([]string, len(events)), make([]string, len(events)), make([]string, len(events))
	for i, e := range events {
		ids[i], connections[i], keys[i] = e.ID, storable(string(e.Connection)), storable(e.Key)
	}
	e := events[0]
	_, err = tx.exec(`INSERT INTO events (id, environment_number, kind, integration, connection, key, code, at)
		SELECT one.id, $1::bigint, $2::text, $3::text, one.connection, one.key, $4::text, $5::bigint
		FROM unnest($6::text[], $7::text[], $8::text[]) WITH ORDINALITY AS one (id, connection, key, place) ORDER BY one.place`,
		number, string(e.Kind), string(e.Integration), e.Code, micros(e.At), ids, connections, keys)
	return err
}

// AppendTrail implements [broker.TrailStore].
func (d *DB) AppendTrail(ctx context.Context, t broker.Trail) error {
	return d.write(ctx, "append trail", func(tx *conn) error { return leave(tx, t) })
}

// ofEnvironment selects an environment's rows by $1, those of none for the empty id.
func ofEnvironment(id broker.EnvironmentID) string {
	if id == "" {
		return "environment_number IS NULL AND $1 = ''"
	}
	return "environment_number = (SELECT number FROM environments WHERE id = $1)"
}

// What the locks of announce_number have in the upper bits of their keys.
const (
	announcedAudit  = 1
	announcedEvents = 2
)

// settled is the highest number of a table below which none can appear any more. The order of the looks counts: whoever
// took a number up to the last one, and has not been seen among those that hold a lock afterwards, is done.
func settled(c *conn, sequence string, announced int64) (int64, error) {
	var last int64
	if err := c.row("SELECT last_value FROM "+sequence, nil, &last); err != nil {
		return 0, err
	}
	var bound int64
	err := c.row(`SELECT least($1, min(((classid::bigint & 65535) << 32) | objid::bigint)) FROM pg_locks
		WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = $2
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, []any{last, announced}, &bound)
	return bound, err
}

// Audit implements [broker.TrailStore]. The lines that belong to no environment are those of the empty one.
func (d *DB) Audit(ctx context.Context, env broker.EnvironmentID, after int64, limit int) (out []broker.AuditEntry, err error) {
	err = d.list(ctx, "list audit", func(c *conn) error {
		out = nil
		last, err := settled(c, "audit_sequence_seq", announcedAudit)
		if err != nil {
			return err
		}
		return c.all(func(r pgx.Rows) error {
			a := broker.AuditEntry{Environment: env}
			err := r.Scan(&a.Sequence, &a.Actor, &a.Action, &a.Target, &a.Result, &a.Count, &a.IP, &a.RequestID, when(&a.At))
			out = append(out, a)
			return err
		}, `SELECT sequence, actor, action, target, result, count, ip, request_id, at
			FROM audit WHERE `+ofEnvironment(env)+` AND sequence > $2 AND sequence <= $3 ORDER BY sequence LIMIT $4`,
			string(env), after, last, limitOf(limit))
	})
	return out, err
}

// Events implements [broker.TrailStore].
func (d *DB) Events(ctx context.Context, env broker.EnvironmentID, after int64, limit int) (out []broker.Event, err error) {
	err = d.list(ctx, "list events", func(c *conn) error {
		out = nil
		last, err := settled(c, "events_sequence_seq", announcedEvents)
		if err != nil {
			return err
		}
		return c.all(func(r pgx.Rows) error {
			e := broker.Event{Environment: env}
			err := r.Scan(&e.Sequence, &e.ID, (*string)(&e.Kind), (*string)(&e.Integration), (*string)(&e.Connection), &e.Key,
				&e.Code, when(&e.At))
			out = append(out, e)
			return err
		}, `SELECT sequence, id, kind, integration, connection, key, code, at
			FROM events WHERE `+ofEnvironment(env)+` AND sequence > $2 AND sequence <= $3 ORDER BY sequence LIMIT $4`,
			string(env), after, last, limitOf(limit))
	})
	return out, err
}
