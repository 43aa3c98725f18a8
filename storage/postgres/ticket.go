package postgres

import (
	"context"

	"github.com/coatcheck/coatcheck/broker"
)

// selectTicket reads what a proxied request needs: two indexes and three rows, in one message there and back.
const selectTicket = `SELECT i.id, i.environment, c.key, c.id, c.status, c.reason, c.config, coalesce(cr.version, 0),
		coalesce(cr.type, ''), c.origins, cr.access, cr.details, cr.obtained_at, cr.expires_at, cr.refresh_at, cr.refresh IS NOT NULL
	FROM integrations i
	JOIN connections c ON c.integration_number = i.number
	LEFT JOIN credentials cr ON cr.connection_number = c.number
	WHERE i.id = $1 AND c.key = $2`

// Ticket implements [broker.CredentialStore].
func (d *DB) Ticket(ctx context.Context, integration broker.IntegrationID, key string) (*broker.Ticket, error) {
	t := new(broker.Ticket)
	var found string
	err := d.read(ctx, "read ticket", func(c *conn) error {
		return c.row(selectTicket, []any{string(integration), key}, (*string)(&t.Integration), (*string)(&t.Environment), &found,
			(*string)(&t.Connection), (*string)(&t.Status), &t.Reason, &t.Config, &t.Version, &t.Type, &t.Origins, sealed(&t.Access),
			sealed(&t.Details), when(&t.ObtainedAt), when(&t.ExpiresAt), when(&t.RefreshAt), &t.Renewable)
	})
	if err != nil {
		return nil, err
	}
	if t.Integration != integration || found != key {
		return nil, errWrongRow
	}
	return t, nil
}
