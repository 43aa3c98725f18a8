package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
)

// Integrations implements [broker.IntegrationStore].
func (d *DB) Integrations(ctx context.Context) ([]*broker.Integration, error) {
	var out []*broker.Integration
	err := d.read(ctx, "list integrations", func(c *conn) error {
		return c.all(func(r *sql.Rows) error {
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
	err := d.write(ctx, "create integration", func(tx *conn) error {
		if err := inEnvironment(tx, i.Environment); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO integrations (public_id, key, provider, display_name, client_id, scopes, settings, hosts,
				shared, secret, token_origin, secret_settings, webhook_secret, forward_webhooks, fault, fault_at, managed, created_at,
				updated_at, id, environment, revision)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)`, integrationValues(i)...)
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
	err := d.write(ctx, "update integration", func(tx *conn) error {
		n, err := tx.exec(`UPDATE integrations SET (public_id, key, provider, display_name, client_id, scopes, settings, hosts,
				shared, secret, token_origin, secret_settings, webhook_secret, forward_webhooks, fault, fault_at, managed, created_at,
				updated_at) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?), revision = revision + 1
			WHERE id = ? AND environment = ? AND deleted_at IS NULL AND revision = ?`,
			append(integrationValues(i), i.Revision)...)
		if err != nil {
			return err
		}
		if n == 0 {
			return absentOr(tx, broker.ErrConflict, "SELECT 1 FROM integrations WHERE id = ? AND environment = ? AND deleted_at IS NULL",
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
	err := d.write(ctx, "delete integration", func(tx *conn) (err error) {
		if count, err = deleteIntegration(tx, id, at); err != nil {
			return err
		}
		return leave(tx, t)
	})
	return count, err
}

// deleteIntegration marks an integration deleted and deletes its connections, each with its event.
func deleteIntegration(tx *conn, id broker.IntegrationID, at time.Time) (int, error) {
	var number int64
	var env broker.EnvironmentID
	err := tx.row(`UPDATE integrations SET deleted_at = ?, updated_at = ?, revision = revision + 1
		WHERE id = ? AND deleted_at IS NULL RETURNING number, environment`,
		[]any{micros(at), micros(at), string(id)}, &number, (*string)(&env))
	if err != nil {
		return 0, err
	}
	var numbers []int64
	var events []broker.Event
	err = tx.all(func(r *sql.Rows) error {
		var n int64
		e := broker.Event{ID: uuid.NewString(), Environment: env, Kind: broker.EventDeleted, Integration: id, At: at}
		err := r.Scan(&n, (*string)(&e.Connection), &e.Key)
		numbers, events = append(numbers, n), append(events, e)
		return err
	}, "SELECT number, id, key FROM connections WHERE integration_number = ? ORDER BY number", number)
	if err != nil {
		return 0, err
	}
	for _, n := range numbers {
		if err := deleteConnection(tx, n, at); err != nil {
			return 0, err
		}
	}
	if _, err := tx.exec("DELETE FROM registrations WHERE integration = ?", string(id)); err != nil {
		return 0, err
	}
	if err := eraseIntegration(tx, id); err != nil {
		return 0, err
	}
	return len(numbers), leave(tx, broker.Trail{Events: events})
}

// eraseIntegration removes the row of a deleted integration that has nothing to revoke any more.
func eraseIntegration(tx *conn, id broker.IntegrationID) error {
	_, err := tx.exec(`DELETE FROM integrations WHERE id = ? AND deleted_at IS NOT NULL
		AND NOT EXISTS (SELECT 1 FROM revocations WHERE integration = ? AND done_at IS NULL)`, string(id), string(id))
	return err
}

// CountConnections implements [broker.IntegrationStore].
func (d *DB) CountConnections(ctx context.Context, id broker.IntegrationID) (int, error) {
	var n int
	err := d.list(ctx, "count connections", func(c *conn) error {
		return c.row(`SELECT count(*) FROM connections
			WHERE integration_number = (SELECT number FROM integrations WHERE id = ?)`, []any{string(id)}, &n)
	})
	return n, err
}

// livingIntegration gives the number of the integration and of its environment, for a new connection. Without one the
// error is that there is none: a sign-in that began before its integration was deleted ends in nothing.
func livingIntegration(tx *conn, id broker.IntegrationID, env broker.EnvironmentID) (integration, environment int64, err error) {
	err = tx.row(`SELECT i.number, e.number FROM integrations i JOIN environments e ON e.id = i.environment
		WHERE i.id = ? AND e.id = ? AND i.deleted_at IS NULL`, []any{string(id), string(env)}, &integration, &environment)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, 0, broker.ErrNotFound.On("integration")
	}
	return integration, environment, err
}
