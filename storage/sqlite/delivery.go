package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// appendDelivery puts a delivery at the end of its line. Whoever stands behind another has no next_at until it comes
// forward, so that those who look for what is due never see it.
func appendDelivery(tx *conn, d *broker.Delivery) error {
	env, err := environmentNumber(tx, d.Environment)
	if err != nil {
		return err
	}
	next := micros(d.NextAt)
	waits, err := tx.exists("SELECT 1 FROM deliveries WHERE endpoint = ? AND about = ? AND done_at IS NULL LIMIT 1", d.Endpoint, d.About)
	if err != nil {
		return err
	}
	if waits {
		next = nil
	}
	_, err = tx.exec(`INSERT INTO deliveries (event, environment_number, endpoint, about, kind, attempts, created_at, next_at,
			tried_at, done_at, outcome, status, code, answer, notice)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		d.Event, env, d.Endpoint, d.About, string(d.Kind), d.Attempts, micros(d.CreatedAt), next, micros(d.TriedAt), micros(d.DoneAt),
		d.Outcome, d.Status, d.Code, d.Answer, text(d.Notice))
	return err
}

const selectDelivery = `SELECT d.number, d.event, e.id, d.endpoint, d.about, d.kind, d.attempts, d.created_at, d.next_at, d.tried_at,
	d.done_at, d.outcome, d.status, d.code, d.answer, d.notice
	FROM deliveries d JOIN environments e ON e.number = d.environment_number `

func deliveryFields(d *broker.Delivery) []any {
	return []any{
		&d.Number, &d.Event, (*string)(&d.Environment), &d.Endpoint, &d.About, (*string)(&d.Kind), &d.Attempts, when(&d.CreatedAt),
		when(&d.NextAt), when(&d.TriedAt), when(&d.DoneAt), &d.Outcome, &d.Status, &d.Code, &d.Answer, &d.Notice,
	}
}

// DeliveryQueues implements [broker.WebhookStore]. It steps from one endpoint to the next in the index, however many
// deliveries wait for each.
func (d *DB) DeliveryQueues(ctx context.Context) ([]broker.DeliveryQueue, error) {
	var out []broker.DeliveryQueue
	err := d.read(ctx, "list delivery queues", func(c *conn) error {
		return c.all(func(r *sql.Rows) error {
			var q broker.DeliveryQueue
			err := r.Scan(&q.Endpoint, when(&q.NextAt))
			out = append(out, q)
			return err
		}, `WITH RECURSIVE q (endpoint) AS (
				SELECT (SELECT endpoint FROM deliveries WHERE next_at IS NOT NULL ORDER BY endpoint LIMIT 1)
				UNION ALL
				SELECT (SELECT d.endpoint FROM deliveries d WHERE d.next_at IS NOT NULL AND d.endpoint > q.endpoint
					ORDER BY d.endpoint LIMIT 1)
				FROM q WHERE q.endpoint IS NOT NULL)
			SELECT q.endpoint, (SELECT d.next_at FROM deliveries d WHERE d.endpoint = q.endpoint AND d.next_at IS NOT NULL
				ORDER BY d.next_at LIMIT 1)
			FROM q WHERE q.endpoint IS NOT NULL`)
	})
	return out, err
}

// ClaimDelivery implements [broker.WebhookStore]. A look that finds nothing is not a write.
func (d *DB) ClaimDelivery(ctx context.Context, endpoint string, now, until time.Time) (*broker.Delivery, error) {
	var due bool
	err := d.read(ctx, "look for deliveries", func(c *conn) (err error) {
		due, err = c.exists("SELECT 1 FROM deliveries WHERE endpoint = ? AND next_at <= ? LIMIT 1", endpoint, micros(now))
		return err
	})
	if err != nil || !due {
		return nil, err
	}
	var claimed *broker.Delivery
	err = d.write(ctx, "claim delivery", func(tx *conn) error {
		claimed = nil
		var number int64
		err := tx.row(`UPDATE deliveries SET next_at = ?, claimed_at = ? WHERE number = (
				SELECT number FROM deliveries WHERE endpoint = ? AND next_at <= ? ORDER BY next_at, number LIMIT 1)
			RETURNING number`, []any{micros(until), micros(now), endpoint, micros(now)}, &number)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // another was faster
		}
		if err != nil {
			return err
		}
		c := new(broker.Delivery)
		if err := tx.row(selectDelivery+"WHERE d.number = ?", []any{number}, deliveryFields(c)...); err != nil {
			return err
		}
		claimed = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// SettleDelivery implements [broker.WebhookStore].
func (d *DB) SettleDelivery(ctx context.Context, r broker.DeliveryResult) error {
	var done any
	if r.Outcome != "" {
		done = micros(r.At)
	}
	return d.write(ctx, "settle delivery", func(tx *conn) error {
		var endpoint, about string
		err := tx.row(`UPDATE deliveries SET attempts = attempts + 1, next_at = ?, claimed_at = NULL, tried_at = ?, done_at = ?,
				outcome = ?, status = ?, code = ?, answer = ?
			WHERE number = ? AND attempts = ? AND done_at IS NULL AND next_at IS NOT NULL RETURNING endpoint, about`,
			[]any{micros(r.NextAt), micros(r.At), done, r.Outcome, r.Status, r.Code, r.Answer, r.Number, r.Attempts}, &endpoint, &about)
		if err != nil || done == nil {
			return err
		}
		return comeForward(tx, endpoint, about, r.At)
	})
}

// comeForward lets the first of a line be tried, if none is being tried already.
func comeForward(tx *conn, endpoint, about string, at time.Time) error {
	_, err := tx.exec(`UPDATE deliveries SET next_at = ?1 WHERE number = (
			SELECT min(number) FROM deliveries WHERE endpoint = ?2 AND about = ?3 AND done_at IS NULL)
		AND NOT EXISTS (SELECT 1 FROM deliveries WHERE endpoint = ?2 AND about = ?3 AND done_at IS NULL AND next_at IS NOT NULL)`,
		micros(at), endpoint, about)
	return err
}

// DropStaleClaims implements [broker.WebhookStore]. Whoever holds the directory's lock is the one that delivers: what was
// claimed before it opened the database was claimed by a server that is gone, and so was what was claimed in the future.
// Others wait until the claim has run out.
func (d *DB) DropStaleClaims(ctx context.Context) (int, error) {
	if !d.exclusive {
		return 0, nil
	}
	var n int64
	err := d.write(ctx, "drop stale claims", func(tx *conn) (err error) {
		n, err = tx.exec(`UPDATE deliveries SET next_at = ?, claimed_at = NULL
			WHERE claimed_at IS NOT NULL AND (claimed_at < ? OR claimed_at > ?)`,
			micros(d.now()), micros(d.openedAt), micros(d.now().Add(clockTolerance)))
		return err
	})
	return int(n), err
}

// Deliveries implements [broker.WebhookStore].
func (d *DB) Deliveries(ctx context.Context, f broker.DeliveryFilter) ([]*broker.Delivery, error) {
	before := f.Before
	if before == 0 {
		before = math.MaxInt64
	}
	query, args := selectDelivery+"WHERE d."+ofEnvironment+" AND d.number < ?2 ORDER BY d.number DESC LIMIT ?3", []any{string(f.Environment), before, limitOf(f.Limit)}
	if f.Outcome == broker.OutcomeDead { // it has an index of its own: it is what people look for
		query = selectDelivery + "WHERE d." + ofEnvironment + " AND d.outcome = 'dead' AND d.number < ?2 ORDER BY d.number DESC LIMIT ?3"
	} else if f.Outcome != "" {
		query = selectDelivery + "WHERE d." + ofEnvironment + " AND d.number < ?2 AND d.outcome = ?4 ORDER BY d.number DESC LIMIT ?3"
		args = append(args, f.Outcome)
	}
	var out []*broker.Delivery
	err := d.list(ctx, "list deliveries", func(c *conn) error {
		return c.all(func(r *sql.Rows) error {
			x := new(broker.Delivery)
			out = append(out, x)
			return r.Scan(deliveryFields(x)...)
		}, query, args...)
	})
	return out, err
}

// ReplayDeliveries implements [broker.WebhookStore].
func (d *DB) ReplayDeliveries(ctx context.Context, env broker.EnvironmentID, numbers []int64, at time.Time, t broker.Trail) (int, error) {
	var n int
	err := d.write(ctx, "replay deliveries", func(tx *conn) error {
		n = 0
		for _, number := range numbers {
			var endpoint, about string
			err := tx.row(`UPDATE deliveries SET attempts = 0, next_at = NULL, done_at = NULL, outcome = ''
				WHERE number = ? AND done_at IS NOT NULL AND environment_number = (SELECT number FROM environments WHERE id = ?)
				RETURNING endpoint, about`, []any{number, string(env)}, &endpoint, &about)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			n++
			if err := comeForward(tx, endpoint, about, at); err != nil {
				return err
			}
		}
		return leave(tx, t)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// SweepDeliveries implements [broker.WebhookStore]. A look that finds nothing is not a write.
func (d *DB) SweepDeliveries(ctx context.Context, outcome string, before time.Time, limit int) (int, error) {
	var old bool
	err := d.read(ctx, "look for old deliveries", func(c *conn) (err error) {
		old, err = c.exists("SELECT 1 FROM deliveries WHERE outcome = ? AND done_at < ? LIMIT 1", outcome, micros(before))
		return err
	})
	if err != nil || !old {
		return 0, err
	}
	var n int64
	err = d.write(ctx, "sweep deliveries", func(tx *conn) (err error) {
		n, err = tx.exec(`DELETE FROM deliveries WHERE number IN (
			SELECT number FROM deliveries WHERE outcome = ? AND done_at < ? LIMIT ?)`, outcome, micros(before), limitOf(limit))
		return err
	})
	return int(n), err
}
