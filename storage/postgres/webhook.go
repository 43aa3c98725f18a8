package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// Webhooks implements [broker.WebhookStore].
func (d *DB) Webhooks(ctx context.Context) (out []*broker.Webhook, err error) {
	err = d.read(ctx, "list webhooks", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			w := new(broker.Webhook)
			out = append(out, w)
			return r.Scan((*string)(&w.Environment), &w.URL, &w.SecondaryURL, &w.MuteCreation, &w.MuteRefreshErrors,
				&w.NoLegacySignature, sealed(&w.Key), &w.Version, sealed(&w.OldKey), when(&w.OldUntil), &w.Managed, doc(&w.Stopped),
				&w.Revision, when(&w.UpdatedAt))
		}, `SELECT environment, url, secondary_url, mute_creation, mute_refresh_errors, no_legacy_signature, key, version, old_key,
			old_until, managed, stopped, revision, updated_at FROM webhooks`)
	})
	return out, err
}

// SaveWebhook implements [broker.WebhookStore].
func (d *DB) SaveWebhook(ctx context.Context, w *broker.Webhook, t broker.Trail) error {
	fields := []any{
		w.URL, w.SecondaryURL, w.MuteCreation, w.MuteRefreshErrors, w.NoLegacySignature, blob(w.Key), w.Version, blob(w.OldKey),
		micros(w.OldUntil), w.Managed, list(w.Stopped), micros(w.UpdatedAt), string(w.Environment),
	}
	return d.change(ctx, "save webhook", func(tx *conn) error {
		if w.Revision == 0 {
			if err := inEnvironment(tx, w.Environment); err != nil {
				return err
			}
			_, err := tx.exec(`INSERT INTO webhooks (url, secondary_url, mute_creation, mute_refresh_errors, no_legacy_signature, key,
					version, old_key, old_until, managed, stopped, updated_at, environment, revision)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1)`, fields...)
			if err != nil {
				return err
			}
			return leave(tx, t)
		}
		n, err := tx.exec(`UPDATE webhooks SET url = $1, secondary_url = $2, mute_creation = $3, mute_refresh_errors = $4,
				no_legacy_signature = $5, key = $6, version = $7, old_key = $8, old_until = $9, managed = $10, stopped = $11,
				updated_at = $12, revision = revision + 1
			WHERE environment = $13 AND revision = $14`, append(fields[:len(fields):len(fields)], w.Revision)...)
		switch {
		case err != nil:
			return err
		case n == 0:
			return broker.ErrConflict
		}
		return leave(tx, t)
	})
}
