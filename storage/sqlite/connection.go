package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// connectionColumns are in the order of connectionFields.
const connectionColumns = `c.number, c.id, i.environment, i.id, c.key, c.name, c.status, c.reason, c.error_id, c.error_code, c.error_at,
	c.end_user_id, c.end_user_email, c.end_user_name, c.end_user_tags, c.organization_id, c.organization_name, c.tags,
	c.metadata, c.config, c.account, c.account_hash, c.grant_hash, ` + isDuplicate + `, c.asked_scopes, c.scopes,
	c.webhook_url, c.revision, c.created_at, c.updated_at, c.authorized_at, c.verified_at, c.ends_at, c.fetched_at`

// isDuplicate tells whether another connection is on the grant of c. It costs a look into an index, which says in most
// cases that there is none.
const isDuplicate = `c.grant_hash IS NOT NULL AND c.status <> 'disconnected' AND EXISTS (SELECT 1 FROM connections d
		WHERE d.grant_hash = c.grant_hash AND d.number <> c.number AND d.status <> 'disconnected')`

const selectConnection = "SELECT " + connectionColumns + `
	FROM connections c JOIN integrations i ON i.number = c.integration_number `

// scanConnection reads a row of connectionColumns by scan, which is Scan of a row or of rows.
func scanConnection(scan func(dest ...any) error) (*broker.Connection, error) {
	c := new(broker.Connection)
	var user struct {
		id, email, name, organization, organizationName sql.NullString
		tags                                            map[string]string
	}
	err := scan(&c.Number, (*string)(&c.ID), (*string)(&c.Environment), (*string)(&c.Integration), &c.Key, &c.Name,
		(*string)(&c.Status), &c.Reason, &c.ErrorID, &c.ErrorCode, when(&c.ErrorAt), &user.id, &user.email, &user.name, doc(&user.tags),
		&user.organization, &user.organizationName, doc(&c.Tags), &c.Metadata, &c.Config, sealed(&c.Account), &c.AccountHash,
		&c.GrantHash, &c.DuplicateGrant, doc(&c.AskedScopes), doc(&c.Scopes), &c.WebhookURL, &c.Revision, when(&c.CreatedAt), when(&c.UpdatedAt),
		when(&c.AuthorizedAt), when(&c.VerifiedAt), when(&c.EndsAt), when(&c.FetchedAt))
	if err != nil {
		return nil, err
	}
	if user.id.Valid {
		c.EndUser = &broker.EndUser{
			ID: user.id.String, Email: user.email.String, DisplayName: user.name.String, Tags: user.tags,
			OrganizationID: user.organization.String, OrganizationName: user.organizationName.String,
		}
	}
	return c, nil
}

// connectionValues are what both statements below write of a connection, in their order.
func connectionValues(c *broker.Connection) []any {
	var id, email, name, tags, organization, organizationName any
	if u := c.EndUser; u != nil {
		id, email, name, tags = u.ID, u.Email, u.DisplayName, dict(u.Tags)
		organization, organizationName = u.OrganizationID, u.OrganizationName
	}
	return []any{
		c.Key, c.Name, string(c.Status), c.Reason, c.ErrorID, c.ErrorCode, micros(c.ErrorAt), id, email, name, tags, organization,
		organizationName, folded(c), dict(c.Tags), text(c.Metadata), text(c.Config), blob(c.Account), blob(c.AccountHash),
		blob(c.GrantHash), list(c.AskedScopes), list(c.Scopes), c.WebhookURL, micros(c.CreatedAt), micros(c.UpdatedAt), micros(c.AuthorizedAt),
		micros(c.VerifiedAt), micros(c.EndsAt),
	}
}

// folded is the lower case of what a search looks at, if SQLite, which knows that of ASCII alone, cannot work it out.
func folded(c *broker.Connection) string {
	s := c.Key
	if c.EndUser != nil {
		s += "\n" + c.EndUser.DisplayName + "\n" + c.EndUser.Email
	}
	if !strings.ContainsFunc(s, func(r rune) bool { return r > '~' }) {
		return ""
	}
	return strings.ToLower(s)
}

// insertConnection gives the new row's number.
func insertConnection(tx *conn, c *broker.Connection) (int64, error) {
	integration, environment, err := livingIntegration(tx, c.Integration, c.Environment)
	if err != nil {
		return 0, err
	}
	return tx.insert(`INSERT INTO connections (key, name, status, reason, error_id, error_code, error_at, end_user_id, end_user_email,
			end_user_name, end_user_tags, organization_id, organization_name, folded, tags, metadata, config, account,
			account_hash, grant_hash, asked_scopes, scopes, webhook_url, created_at, updated_at, authorized_at, verified_at,
			ends_at, fetched_at, id, integration_number, environment_number, revision)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)`,
		append(connectionValues(c), micros(c.FetchedAt), string(c.ID), integration, environment)...)
}

// updateConnection writes a connection over the row of its id, which must still have its revision, and gives the row's
// number.
func updateConnection(tx *conn, c *broker.Connection) (number int64, err error) {
	err = tx.row(`SELECT c.number FROM connections c JOIN integrations i ON i.number = c.integration_number
		WHERE c.id = ? AND i.id = ? AND i.environment = ?`,
		[]any{string(c.ID), string(c.Integration), string(c.Environment)}, &number)
	if err != nil {
		return 0, err
	}
	n, err := tx.exec(`UPDATE connections SET (key, name, status, reason, error_id, error_code, error_at, end_user_id, end_user_email,
			end_user_name, end_user_tags, organization_id, organization_name, folded, tags, metadata, config, account,
			account_hash, grant_hash, asked_scopes, scopes, webhook_url, created_at, updated_at, authorized_at, verified_at,
			ends_at)
			= (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?), revision = revision + 1
		WHERE number = ? AND revision = ?`, append(connectionValues(c), number, c.Revision)...)
	if err == nil && n == 0 {
		err = broker.ErrConflict
	}
	return number, err
}

// PutGrant implements [broker.ConnectionStore]. The credential gets the version after From, a new one's is 1.
func (d *DB) PutGrant(ctx context.Context, g *broker.Grant) error {
	c := g.Connection
	var number int64
	var duplicate bool
	err := d.write(ctx, "put grant", func(tx *conn) (err error) {
		if g.New {
			number, err = insertConnection(tx, c)
		} else {
			number, err = updateConnection(tx, c)
		}
		if err != nil {
			return err
		}
		if err := putCredential(tx, number, g); err != nil {
			return err
		}
		if g.Flow != "" {
			if err := finishFlow(tx, g.Flow, c, d.now()); err != nil {
				return err
			}
		}
		if g.Session != "" {
			if err := spendSession(tx, g.Session, c, d.now()); err != nil {
				return err
			}
		}
		if err := leave(tx, g.Trail); err != nil {
			return err
		}
		duplicate, err = tx.exists("SELECT 1 FROM connections c WHERE c.number = ? AND "+isDuplicate, number)
		if err != nil || !duplicate {
			return err
		}
		return leave(tx, g.DuplicateTrail)
	})
	if err != nil {
		return err
	}
	c.Number, c.DuplicateGrant = number, duplicate
	if g.New {
		c.Revision = 1
	} else {
		c.Revision++
	}
	return nil
}

// CreatePending implements [broker.ConnectionStore].
func (d *DB) CreatePending(ctx context.Context, c *broker.Connection, t broker.Trail) error {
	return d.createPending(ctx, c, t, func(*conn) error { return nil })
}

// CreateOnly implements [broker.ConnectionStore].
func (d *DB) CreateOnly(ctx context.Context, c *broker.Connection, t broker.Trail) error {
	return d.createPending(ctx, c, t, func(tx *conn) error {
		there, err := tx.exists(`SELECT 1 FROM connections c JOIN integrations i ON i.number = c.integration_number
			WHERE i.id = ? AND c.end_user_id IS NULL`, string(c.Integration))
		if err == nil && there {
			err = broker.ErrConflict.On("connection")
		}
		return err
	})
}

func (d *DB) createPending(ctx context.Context, c *broker.Connection, t broker.Trail, allowed func(*conn) error) error {
	var number int64
	err := d.write(ctx, "create pending connection", func(tx *conn) (err error) {
		if err := allowed(tx); err != nil {
			return err
		}
		if number, err = insertConnection(tx, c); err != nil {
			return err
		}
		return leave(tx, t)
	})
	if err == nil {
		c.Number, c.Revision = number, 1
	}
	return err
}

// Connection implements [broker.ConnectionStore].
func (d *DB) Connection(ctx context.Context, env broker.EnvironmentID, id broker.ConnectionID) (*broker.Connection, error) {
	c, err := d.connection(ctx, selectConnection+"WHERE c.id = ? AND i.environment = ?", string(id), string(env))
	if err == nil && (c.ID != id || c.Environment != env) {
		return nil, errWrongRow
	}
	return c, err
}

// ConnectionByKey implements [broker.ConnectionStore].
func (d *DB) ConnectionByKey(ctx context.Context, integration broker.IntegrationID, key string) (*broker.Connection, error) {
	c, err := d.connection(ctx, selectConnection+"WHERE i.id = ? AND c.key = ?", string(integration), key)
	if err == nil && (c.Integration != integration || c.Key != key) {
		return nil, errWrongRow
	}
	return c, err
}

func (d *DB) connection(ctx context.Context, query string, args ...any) (found *broker.Connection, err error) {
	err = d.read(ctx, "read connection", func(c *conn) error {
		found, err = scanConnection(func(dest ...any) error { return c.row(query, args, dest...) })
		return err
	})
	return found, err
}

// UpdateConnections implements [broker.ConnectionStore].
func (d *DB) UpdateConnections(ctx context.Context, cs []*broker.Connection, t broker.Trail) error {
	err := d.write(ctx, "update connections", func(tx *conn) error {
		for _, c := range cs {
			if _, err := updateConnection(tx, c); err != nil {
				return err
			}
		}
		return leave(tx, t)
	})
	if err != nil {
		return err
	}
	for _, c := range cs {
		c.Revision++
	}
	return nil
}

// DeleteConnection implements [broker.ConnectionStore].
func (d *DB) DeleteConnection(ctx context.Context, env broker.EnvironmentID, id broker.ConnectionID, at time.Time, t broker.Trail) error {
	return d.write(ctx, "delete connection", func(tx *conn) error {
		var number int64
		err := tx.row(`SELECT c.number FROM connections c JOIN integrations i ON i.number = c.integration_number
			WHERE c.id = ? AND i.environment = ?`, []any{string(id), string(env)}, &number)
		if err != nil {
			return err
		}
		if err := deleteConnection(tx, number, at); err != nil {
			return err
		}
		return leave(tx, t)
	})
}

// deleteConnection removes a connection. What can be revoked of its credential becomes a job; the sealed fields never
// leave the database on their way there.
func deleteConnection(tx *conn, number int64, at time.Time) error {
	if err := revokeCredential(tx, number, at); err != nil {
		return err
	}
	if _, err := tx.exec("DELETE FROM credentials WHERE connection_number = ?", number); err != nil {
		return err
	}
	_, err := tx.exec("DELETE FROM connections WHERE number = ?", number)
	return err
}

// TouchFetched implements [broker.ConnectionStore].
func (d *DB) TouchFetched(ctx context.Context, at map[broker.ConnectionID]time.Time) error {
	return d.write(ctx, "touch connections", func(tx *conn) error {
		for id, t := range at {
			_, err := tx.exec("UPDATE connections SET fetched_at = ? WHERE id = ? AND (fetched_at IS NULL OR fetched_at < ?)",
				micros(t), string(id), micros(t))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// SharesGrant implements [broker.ConnectionStore]. A disconnected connection has ended its grant and shares none.
func (d *DB) SharesGrant(ctx context.Context, accountHash []byte, other broker.ConnectionID) (shared bool, err error) {
	if len(accountHash) == 0 {
		return false, nil
	}
	err = d.read(ctx, "look for other grants", func(c *conn) error {
		shared, err = c.exists(`SELECT 1 FROM connections
			WHERE substr(account_hash, 1, 8) = substr(?1, 1, 8) AND account_hash = ?1 AND id <> ?2 AND status <> 'disconnected'
			LIMIT 1`, accountHash, string(other))
		return err
	})
	return shared, err
}

// Connections implements [broker.ConnectionStore].
func (d *DB) Connections(ctx context.Context, f broker.ConnectionFilter) ([]*broker.Connection, error) {
	where, args := conditions(&f)
	args = append(args, limitOf(f.Limit), max(f.Offset, 0))
	var out []*broker.Connection
	err := d.list(ctx, "list connections", func(c *conn) error {
		return c.allOnce(func(r *sql.Rows) error {
			found, err := scanConnection(r.Scan)
			out = append(out, found)
			return err
		}, selectConnection+where+" ORDER BY c.created_at DESC, c.number DESC LIMIT ? OFFSET ?", args...)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// MatchingConnections implements [broker.ConnectionStore].
func (d *DB) MatchingConnections(ctx context.Context, f broker.ConnectionFilter) (count int, err error) {
	where, args := conditions(&f)
	err = d.list(ctx, "count matching connections", func(c *conn) error {
		return c.allOnce(func(r *sql.Rows) error { return r.Scan(&count) },
			"SELECT count(*) FROM connections c JOIN integrations i ON i.number = c.integration_number "+where, args...)
	})
	return count, err
}

// SweepPending implements [broker.ConnectionStore].
func (d *DB) SweepPending(ctx context.Context, before time.Time) (int, error) {
	var n int64
	err := d.write(ctx, "sweep pending connections", func(tx *conn) (err error) {
		n, err = tx.exec("DELETE FROM connections WHERE status = 'pending' AND updated_at < ?", micros(before))
		return err
	})
	return int(n), err
}

// conditions puts a filter into SQL. Lists go in as JSON, so that there are as many texts as combinations, not as values.
func conditions(f *broker.ConnectionFilter) (where string, args []any) {
	var parts []string
	add := func(condition string, values ...any) {
		parts = append(parts, condition)
		args = append(args, values...)
	}
	environment := "c.environment_number = (SELECT number FROM environments WHERE id = ?)"
	if f.Key != "" || f.EndUser != "" || f.Unowned && len(f.Integrations) > 0 {
		environment = "+" + environment // no index for this one: the order that it offers is worth less than theirs
	}
	add(environment, string(f.Environment))
	if !f.IncludePending {
		add("c.status <> 'pending'")
	}
	if f.Key != "" { // with the integrations named, the key's index serves
		add("c.integration_number IN (SELECT number FROM integrations WHERE environment = ?) AND c.key = ?", string(f.Environment), f.Key)
	}
	switch {
	case f.EndUser != "" && len(f.OrIntegrations) > 0:
		add("(c.end_user_id = ? OR i.id IN (SELECT value FROM json_each(?)))", f.EndUser, list(f.OrIntegrations))
	case f.EndUser != "":
		add("c.end_user_id = ?", f.EndUser)
	}
	if f.Unowned {
		add("c.end_user_id IS NULL")
	}
	if f.Organization != "" {
		add("c.organization_id = ?", f.Organization)
	}
	if len(f.Integrations) > 0 {
		add("i.id IN (SELECT value FROM json_each(?))", list(f.Integrations))
	}
	if len(f.Statuses) > 0 {
		status, values := "c.status", []any{list(f.Statuses)}
		if !f.AsOf.IsZero() {
			status, values = "iif(c.status = 'active' AND c.ends_at <= ?, 'expired', c.status)", append([]any{micros(f.AsOf)}, values...)
		}
		add(status+" IN (SELECT value FROM json_each(?))", values...)
	}
	if len(f.Tags) > 0 {
		add(`NOT EXISTS (SELECT 1 FROM json_each(?) AS want
			WHERE NOT EXISTS (SELECT 1 FROM json_each(c.tags) AS have WHERE have.key = want.key AND have.value = want.value))`,
			dict(f.Tags))
	}
	if f.Search != "" {
		s := strings.ToLower(f.Search)
		add(`(instr(lower(c.key), ?) OR instr(lower(c.end_user_name), ?) OR instr(lower(c.end_user_email), ?) OR instr(c.folded, ?))`,
			s, s, s, s)
	}
	return "WHERE " + strings.Join(parts, " AND "), args
}

// numberOf finds a connection's number.
func numberOf(tx *conn, id broker.ConnectionID) (int64, error) {
	var n int64
	err := tx.row("SELECT number FROM connections WHERE id = ?", []any{string(id)}, &n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, broker.ErrNotFound.On("connection")
	}
	return n, err
}
