package postgres

import (
	"context"
	"errors"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// digest names something for a lock.
func digest(s string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return int32(h.Sum32()) //nolint:gosec // half of them are negative, which is as good
}

// lockTheLine keeps others from a line's ends until the transaction has ended.
func lockTheLine(tx *conn, endpoint, about string) error {
	return tx.lock(lockLine, digest(endpoint+"\n"+about))
}

// appendDelivery puts a delivery at the end of its line. Whoever stands behind another has no next_at until it comes
// forward, so that those who look for what is due never see it.
func appendDelivery(tx *conn, d *broker.Delivery) error {
	env, err := environmentNumber(tx, d.Environment)
	if err != nil {
		return err
	}
	if err := lockTheLine(tx, d.Endpoint, d.About); err != nil {
		return err
	}
	next := micros(d.NextAt)
	waits, err := tx.exists("SELECT 1 FROM deliveries WHERE endpoint = $1 AND about = $2 AND done_at IS NULL LIMIT 1", d.Endpoint, d.About)
	if err != nil {
		return err
	}
	if waits {
		next = nil
	}
	_, err = tx.exec(`INSERT INTO deliveries (event, environment_number, endpoint, about, kind, attempts, created_at, next_at,
			tried_at, done_at, outcome, status, code, answer, notice)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		d.Event, env, d.Endpoint, d.About, string(d.Kind), d.Attempts, micros(d.CreatedAt), next, micros(d.TriedAt), micros(d.DoneAt),
		d.Outcome, d.Status, d.Code, d.Answer, text(d.Notice))
	return err
}

const deliveryColumns = `d.number, d.event, e.id, d.endpoint, d.about, d.kind, d.attempts, d.created_at, d.next_at, d.tried_at,
	d.done_at, d.outcome, d.status, d.code, d.answer, d.notice`

func deliveryFields(d *broker.Delivery) []any {
	return []any{
		&d.Number, &d.Event, (*string)(&d.Environment), &d.Endpoint, &d.About, (*string)(&d.Kind), &d.Attempts, when(&d.CreatedAt),
		when(&d.NextAt), when(&d.TriedAt), when(&d.DoneAt), &d.Outcome, &d.Status, &d.Code, &d.Answer, &d.Notice,
	}
}

// DeliveryQueues implements [broker.WebhookStore]. It steps from one endpoint to the next in the index, however many
// deliveries wait for each.
func (d *DB) DeliveryQueues(ctx context.Context) (out []broker.DeliveryQueue, err error) {
	err = d.read(ctx, "list delivery queues", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
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
			FROM q WHERE q.endpoint IS NOT NULL ORDER BY q.endpoint`)
	})
	return out, err
}

// ClaimDelivery implements [broker.WebhookStore]. A claim that finds nothing is not a write.
func (d *DB) ClaimDelivery(ctx context.Context, endpoint string, now, until time.Time) (*broker.Delivery, error) {
	var claimed *broker.Delivery
	err := d.write(ctx, "claim delivery", func(tx *conn) error {
		claimed = new(broker.Delivery)
		err := tx.row(`UPDATE deliveries d SET next_at = $1, claimed_at = $2 FROM environments e
			WHERE e.number = d.environment_number AND d.number = (
				SELECT number FROM deliveries WHERE endpoint = $3 AND next_at <= $2
				ORDER BY next_at, number LIMIT 1 FOR UPDATE SKIP LOCKED)
			RETURNING `+deliveryColumns, []any{micros(until), micros(now), endpoint}, deliveryFields(claimed)...)
		if errors.Is(err, pgx.ErrNoRows) {
			claimed = nil
			return nil
		}
		return err
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
		err := tx.row(`UPDATE deliveries SET attempts = attempts + 1, next_at = $1, claimed_at = NULL, tried_at = $2, done_at = $3,
				outcome = $4, status = $5, code = $6, answer = $7
			WHERE number = $8 AND attempts = $9 AND done_at IS NULL AND next_at IS NOT NULL RETURNING endpoint, about`,
			[]any{micros(r.NextAt), micros(r.At), done, r.Outcome, r.Status, r.Code, r.Answer, r.Number, r.Attempts}, &endpoint, &about)
		if err != nil || done == nil {
			return err
		}
		return comeForward(tx, endpoint, about, r.At)
	})
}

// comeForward lets the first of a line be tried, if none is being tried already.
func comeForward(tx *conn, endpoint, about string, at time.Time) error {
	if err := lockTheLine(tx, endpoint, about); err != nil {
		return err
	}
	_, err := tx.exec(`UPDATE deliveries SET next_at = $1 WHERE number = (
			SELECT min(number) FROM deliveries WHERE endpoint = $2 AND about = $3 AND done_at IS NULL)
		AND NOT EXISTS (SELECT 1 FROM deliveries WHERE endpoint = $2 AND about = $3 AND done_at IS NULL AND next_at IS NOT NULL)`,
		micros(at), endpoint, about)
	return err
}

// DropStaleClaims implements [broker.WebhookStore]. Other nodes may be trying what is claimed: claims run out by themselves.
func (d *DB) DropStaleClaims(context.Context) (int, error) { return 0, nil }

// Deliveries implements [broker.WebhookStore].
func (d *DB) Deliveries(ctx context.Context, f broker.DeliveryFilter) (out []*broker.Delivery, err error) {
	before := f.Before
	if before == 0 {
		before = math.MaxInt64
	}
	query := "SELECT " + deliveryColumns + " FROM deliveries d JOIN environments e ON e.number = d.environment_number WHERE d." +
		ofEnvironment(f.Environment) + " AND d.number < $2"
	args := []any{string(f.Environment), before, limitOf(f.Limit)}
	switch f.Outcome {
	case "":
	case broker.OutcomeDead: // it has an index of its own: it is what people look for
		query += " AND d.outcome = 'dead'"
	default:
		query += " AND d.outcome = $4"
		args = append(args, f.Outcome)
	}
	query += " ORDER BY d.number DESC LIMIT $3"
	err = d.list(ctx, "list deliveries", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			x := new(broker.Delivery)
			out = append(out, x)
			return r.Scan(deliveryFields(x)...)
		}, query, args...)
	})
	return out, err
}

// ReplayDeliveries implements [broker.WebhookStore]. Rows are locked in one order.
func (d *DB) ReplayDeliveries(ctx context.Context, env broker.EnvironmentID, numbers []int64, at time.Time, t broker.Trail) (int, error) {
	ordered := slices.Compact(slices.Sorted(slices.Values(numbers)))
	var n int
	err := d.write(ctx, "replay deliveries", func(tx *conn) error {
		n = 0
		for _, number := range ordered {
			var endpoint, about string
			err := tx.row(`UPDATE deliveries SET attempts = 0, next_at = NULL, done_at = NULL, outcome = ''
				WHERE number = $1 AND done_at IS NOT NULL AND environment_number = (SELECT number FROM environments WHERE id = $2)
				RETURNING endpoint, about`, []any{number, string(env)}, &endpoint, &about)
			if errors.Is(err, pgx.ErrNoRows) {
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

// SweepDeliveries implements [broker.WebhookStore].
func (d *DB) SweepDeliveries(ctx context.Context, outcome string, before time.Time, limit int) (int, error) {
	var n int64
	err := d.write(ctx, "sweep deliveries", func(tx *conn) (err error) {
		n, err = tx.exec(`DELETE FROM deliveries WHERE number = ANY(ARRAY(
			SELECT number FROM deliveries WHERE outcome = $1 AND done_at < $2 LIMIT $3 FOR UPDATE SKIP LOCKED))`,
			outcome, micros(before), limitOf(limit))
		return err
	})
	return int(n), err
}
