package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
)

// Integrations implements [broker.IntegrationStore].
func (d *DB) Integrations(ctx context.Context) (out []*broker.Integration, err error) {
	err = d.read(ctx, "list integrations", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			i := new(broker.Integration)
			out = append(out, i)
			return r.Scan((*string)(&i.ID), &i.PublicID, (*string)(&i.Environment), &i.Key, &i.Provider, &i.DisplayName,
				&i.ClientID, doc(&i.Scopes), doc(&i.Settings), doc(&i.Hosts), &i.Shared, sealed(&i.Secret), &i.TokenOrigin,
				sealed(&i.SecretSettings), sealed(&i.WebhookSecret), &i.ForwardWebhooks, &i.Fault, when(&i.FaultAt), &i.Managed, when(&i.CreatedAt),
				when(&i.UpdatedAt), when(&i.DeletedAt), &i.Revision)
		}, `SELECT id, public_id, environment, key, provider, display_name, client_id, scopes, settings, hosts, shared, secret,
				token_origin, secret_settings, webhook_secret, forward_webhooks, fault, fault_at, managed, created_at, updated_at, deleted_at,
				revision
			FROM integrations ORDER BY number`)
	})
	return out, err
}

// integrationValues are what an integration's callers may change, in the order of both statements below.
func integrationValues(i *broker.Integration) []any {
	return []any{
		i.PublicID, i.Key, i.Provider, i.DisplayName, i.ClientID, list(i.Scopes), dict(i.Settings), list(i.Hosts), i.Shared,
		blob(i.Secret), i.TokenOrigin, blob(i.SecretSettings), blob(i.WebhookSecret), i.ForwardWebhooks, i.Fault, micros(i.FaultAt), i.Managed,
		micros(i.CreatedAt), micros(i.UpdatedAt), string(i.ID), string(i.Environment),
	}
}

// CreateIntegration implements [broker.IntegrationStore].
func (d *DB) CreateIntegration(ctx context.Context, i *broker.Integration, t broker.Trail) error {
	err := d.change(ctx, "create integration", func(tx *conn) error {
		if err := inEnvironment(tx, i.Environment); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO integrations (public_id, key, provider, display_name, client_id, scopes, settings, hosts,
				shared, secret, token_origin, secret_settings, webhook_secret, forward_webhooks, fault, fault_at, managed, created_at,
				updated_at, id, environment, revision)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, 1)`,
			integrationValues(i)...)
		if err != nil {
			return err
		}
		return leave(tx, t)
	})
	if err == nil {
		i.Revision = 1
	}
	return err
}

// UpdateIntegration implements [broker.IntegrationStore].
func (d *DB) UpdateIntegration(ctx context.Context, i *broker.Integration, t broker.Trail) error {
	err := d.change(ctx, "update integration", func(tx *conn) error {
		n, err := tx.exec(`UPDATE integrations SET public_id = $1, key = $2, provider = $3, display_name = $4, client_id = $5,
				scopes = $6, settings = $7, hosts = $8, shared = $9, secret = $10, token_origin = $11, secret_settings = $12,
				webhook_secret = $13, forward_webhooks = $14, fault = $15, fault_at = $16, managed = $17, created_at = $18,
				updated_at = $19, revision = revision + 1
			WHERE id = $20 AND environment = $21 AND deleted_at IS NULL AND revision = $22`,
			append(integrationValues(i), i.Revision)...)
		if err != nil {
			return err
		}
		if n == 0 {
			return absentOr(tx, broker.ErrConflict, "SELECT 1 FROM integrations WHERE id = $1 AND environment = $2 AND deleted_at IS NULL",
				string(i.ID), string(i.Environment))
		}
		return leave(tx, t)
	})
	if err == nil {
		i.Revision++
	}
	return err
}

// absentOr tells why a guarded change met no row: there is none, or it is not what it was.
func absentOr(tx *conn, otherwise error, query string, args ...any) error {
	there, err := tx.exists(query, args...)
	if err != nil {
		return err
	}
	if !there {
		return broker.ErrNotFound
	}
	return otherwise
}

// DeleteIntegration implements [broker.IntegrationStore].
func (d *DB) DeleteIntegration(ctx context.Context, id broker.IntegrationID, at time.Time, t broker.Trail) (int, error) {
	var count int
	err := d.change(ctx, "delete integration", func(tx *conn) (err error) {
		if count, err = deleteIntegration(tx, id, at); err != nil {
			return err
		}
		return leave(tx, t)
	})
	return count, err
}

// deleteIntegration marks an integration deleted and deletes its connections, each with its event. The mark comes first:
// whoever makes a connection holds the row, so what is looked for afterwards is all there will be.
func deleteIntegration(tx *conn, id broker.IntegrationID, at time.Time) (int, error) {
	var number int64
	var env broker.EnvironmentID
	err := tx.row(`UPDATE integrations SET deleted_at = $1, updated_at = $1, revision = revision + 1
		WHERE id = $2 AND deleted_at IS NULL RETURNING number, environment`,
		[]any{micros(at), string(id)}, &number, (*string)(&env))
	if err != nil {
		return 0, err
	}
	numbers, events, err := connectionsOf(tx, number, broker.Event{Environment: env, Kind: broker.EventDeleted, Integration: id, At: at})
	if err != nil {
		return 0, err
	}
	if err := deleteConnections(tx, numbers, at); err != nil {
		return 0, err
	}
	if _, err := tx.exec("DELETE FROM registrations WHERE integration = $1", string(id)); err != nil {
		return 0, err
	}
	if err := eraseIntegration(tx, id); err != nil {
		return 0, err
	}
	return len(numbers), appendEvents(tx, env, events)
}

// connectionsOf locks all connections of an integration, and gives their numbers and an event for each.
func connectionsOf(tx *conn, integration int64, like broker.Event) (numbers []int64, events []broker.Event, err error) {
	err = tx.all(func(r pgx.Rows) error {
		var n int64
		e := like
		e.ID = uuid.NewString()
		err := r.Scan(&n, (*string)(&e.Connection), &e.Key)
		numbers, events = append(numbers, n), append(events, e)
		return err
	}, "SELECT number, id, key FROM connections WHERE integration_number = $1 ORDER BY number FOR UPDATE", integration)
	return numbers, events, err
}

// eraseIntegration removes the row of a deleted integration that has nothing to revoke any more. It locks the row before
// it looks, so that of those who do its last revocations the last one sees that.
func eraseIntegration(tx *conn, id broker.IntegrationID) error {
	deleted, err := tx.exists("SELECT 1 FROM integrations WHERE id = $1 AND deleted_at IS NOT NULL FOR UPDATE", string(id))
	if err != nil || !deleted {
		return err
	}
	_, err = tx.exec(`DELETE FROM integrations WHERE id = $1
		AND NOT EXISTS (SELECT 1 FROM revocations WHERE integration = $1 AND done_at IS NULL)`, string(id))
	return err
}

// CountConnections implements [broker.IntegrationStore].
func (d *DB) CountConnections(ctx context.Context, id broker.IntegrationID) (n int, err error) {
	err = d.list(ctx, "count connections", func(c *conn) error {
		return c.row(`SELECT count(*) FROM connections
			WHERE integration_number = (SELECT number FROM integrations WHERE id = $1)`, []any{string(id)}, &n)
	})
	return n, err
}

// livingIntegration gives the number of the integration and of its environment, for a new connection, and keeps both from
// being deleted meanwhile. Without one the error is that there is none: a sign-in that began before its integration was
// deleted ends in nothing.
func livingIntegration(tx *conn, id broker.IntegrationID, env broker.EnvironmentID) (integration, environment int64, err error) {
	err = tx.row(`SELECT i.number, e.number FROM integrations i JOIN environments e ON e.id = i.environment
		WHERE i.id = $1 AND e.id = $2 AND i.deleted_at IS NULL FOR SHARE OF i`, []any{string(id), string(env)}, &integration, &environment)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, broker.ErrNotFound.On("integration")
	}
	return integration, environment, err
}
