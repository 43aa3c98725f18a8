package postgres

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

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
		id, email, name, organization, organizationName *string
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
	if user.id != nil {
		c.EndUser = &broker.EndUser{
			ID: *user.id, Email: known(user.email), DisplayName: known(user.name), Tags: user.tags,
			OrganizationID: known(user.organization), OrganizationName: known(user.organizationName),
		}
	}
	return c, nil
}

// known is the text, or none for NULL.
func known(s *string) string {
	if s == nil {
		return ""
	}
	return *s
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

// folded is the lower case of what a search looks at, if the database, which compares bytes and
// knows that of ASCII alone, cannot work it out.
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
func insertConnection(tx *conn, c *broker.Connection) (number int64, err error) {
	integration, environment, err := livingIntegration(tx, c.Integration, c.Environment)
	if err != nil {
		return 0, err
	}
	err = tx.row(`INSERT INTO connections (key, name, status, reason, error_id, error_code, error_at, end_user_id, end_user_email,
			end_user_name, end_user_tags, organization_id, organization_name, folded, tags, metadata, config, account,
			account_hash, grant_hash, asked_scopes, scopes, webhook_url, created_at, updated_at, authorized_at, verified_at,
			ends_at, fetched_at, id, integration_number, environment_number, revision)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
			$25, $26, $27, $28, $29, $30, $31, $32, 1) RETURNING number`,
		append(connectionValues(c), micros(c.FetchedAt), string(c.ID), integration, environment), &number)
	return number, err
}

// updateConnection writes a connection over the row of its id, which must still have its revision, and gives the row's
// number. It locks the row.
func updateConnection(tx *conn, c *broker.Connection) (number int64, err error) {
	err = tx.row(`SELECT c.number FROM connections c JOIN integrations i ON i.number = c.integration_number
		WHERE c.id = $1 AND i.id = $2 AND i.environment = $3 FOR NO KEY UPDATE OF c`,
		[]any{string(c.ID), string(c.Integration), string(c.Environment)}, &number)
	if err != nil {
		return 0, err
	}
	n, err := tx.exec(`UPDATE connections SET key = $1, name = $2, status = $3, reason = $4, error_id = $5, error_code = $6,
			error_at = $7, end_user_id = $8, end_user_email = $9, end_user_name = $10, end_user_tags = $11, organization_id = $12,
			organization_name = $13, folded = $14, tags = $15, metadata = $16, config = $17, account = $18, account_hash = $19,
			grant_hash = $20, asked_scopes = $21, scopes = $22, webhook_url = $23, created_at = $24, updated_at = $25,
			authorized_at = $26, verified_at = $27, ends_at = $28, revision = revision + 1
		WHERE number = $29 AND revision = $30`, append(connectionValues(c), number, c.Revision)...)
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
	err := d.change(ctx, "put grant", func(tx *conn) (err error) {
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
			if err := finishFlow(tx, g.Flow, c, d.stamp()); err != nil {
				return err
			}
		}
		if g.Session != "" {
			if err := spendSession(tx, g.Session, c, d.stamp()); err != nil {
				return err
			}
		}
		if err := leave(tx, g.Trail); err != nil {
			return err
		}
		if duplicate, err = duplicated(tx, number, c.GrantHash); err != nil || !duplicate {
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

// duplicated reports whether another connection is on the same grant. Of two that are put at the same time the second one
// sees the first.
func duplicated(tx *conn, number int64, grantHash []byte) (bool, error) {
	if len(grantHash) == 0 {
		return false, nil
	}
	if err := tx.lock(lockGrant, digest(string(grantHash))); err != nil {
		return false, err
	}
	return tx.exists("SELECT 1 FROM connections c WHERE c.number = $1 AND "+isDuplicate, number)
}

// CreatePending implements [broker.ConnectionStore].
func (d *DB) CreatePending(ctx context.Context, c *broker.Connection, t broker.Trail) error {
	var number int64
	err := d.change(ctx, "create pending connection", func(tx *conn) (err error) {
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
	c, err := d.connection(ctx, selectConnection+"WHERE c.id = $1 AND i.environment = $2", string(id), string(env))
	if err == nil && (c.ID != id || c.Environment != env) {
		return nil, errWrongRow
	}
	return c, err
}

// ConnectionByKey implements [broker.ConnectionStore].
func (d *DB) ConnectionByKey(ctx context.Context, integration broker.IntegrationID, key string) (*broker.Connection, error) {
	c, err := d.connection(ctx, selectConnection+"WHERE i.id = $1 AND c.key = $2", string(integration), key)
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

// UpdateConnections implements [broker.ConnectionStore]. Rows are locked in one order, so that two lists that overlap do
// not wait for each other.
func (d *DB) UpdateConnections(ctx context.Context, cs []*broker.Connection, t broker.Trail) error {
	ordered := slices.SortedFunc(slices.Values(cs), func(x, y *broker.Connection) int { return cmp.Compare(x.ID, y.ID) })
	err := d.change(ctx, "update connections", func(tx *conn) error {
		for _, c := range ordered {
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
	return d.change(ctx, "delete connection", func(tx *conn) error {
		var number int64
		err := tx.row(`SELECT c.number FROM connections c JOIN integrations i ON i.number = c.integration_number
			WHERE c.id = $1 AND i.environment = $2 FOR UPDATE OF c`, []any{string(id), string(env)}, &number)
		if err != nil {
			return err
		}
		if err := deleteConnections(tx, []int64{number}, at); err != nil {
			return err
		}
		return leave(tx, t)
	})
}

// deleteConnections removes connections, whose rows are locked: no renewal can store a token any more. What can be revoked
// of their credentials becomes jobs; the sealed fields never leave the database on their way there.
func deleteConnections(tx *conn, numbers []int64, at time.Time) error {
	// A lease or an erasure may be writing to them: once these are locked, what is read is what is there.
	if _, err := tx.exec("SELECT 1 FROM credentials WHERE connection_number = ANY($1) ORDER BY connection_number FOR UPDATE", numbers); err != nil {
		return err
	}
	if err := revokeCredentials(tx, numbers, at); err != nil {
		return err
	}
	if _, err := tx.exec("DELETE FROM credentials WHERE connection_number = ANY($1)", numbers); err != nil {
		return err
	}
	_, err := tx.exec("DELETE FROM connections WHERE number = ANY($1)", numbers)
	return err
}

// TouchFetched implements [broker.ConnectionStore]. Rows are locked in one order, so that two nodes that note the same
// connections do not wait for each other.
func (d *DB) TouchFetched(ctx context.Context, at map[broker.ConnectionID]time.Time) error {
	ids, times := make([]string, 0, len(at)), make([]int64, 0, len(at))
	for id, t := range at {
		ids, times = append(ids, storable(string(id))), append(times, t.UnixMicro())
	}
	return d.write(ctx, "touch connections", func(tx *conn) error {
		_, err := tx.exec(`WITH touched AS (
				SELECT c.number, t.at FROM unnest($1::text[], $2::bigint[]) AS t (id, at) JOIN connections c ON c.id = t.id
				WHERE c.fetched_at IS NULL OR c.fetched_at < t.at ORDER BY c.number FOR NO KEY UPDATE OF c)
			UPDATE connections c SET fetched_at = touched.at FROM touched
			WHERE c.number = touched.number AND (c.fetched_at IS NULL OR c.fetched_at < touched.at)`, ids, times)
		return err
	})
}

// SharesGrant implements [broker.ConnectionStore]. A disconnected connection has ended its grant and shares none.
func (d *DB) SharesGrant(ctx context.Context, accountHash []byte, other broker.ConnectionID) (shared bool, err error) {
	if len(accountHash) == 0 {
		return false, nil
	}
	err = d.read(ctx, "look for other grants", func(c *conn) error {
		shared, err = c.exists(`SELECT 1 FROM connections
			WHERE substr(account_hash, 1, 8) = substr($1::bytea, 1, 8) AND account_hash = $1 AND id <> $2 AND status <> 'disconnected'
			LIMIT 1`, accountHash, string(other))
		return err
	})
	return shared, err
}

// Connections implements [broker.ConnectionStore].
func (d *DB) Connections(ctx context.Context, f broker.ConnectionFilter) (out []*broker.Connection, err error) {
	w := conditions(&f)
	query := selectConnection + w.String() + " ORDER BY c.created_at DESC, c.number DESC LIMIT " +
		w.arg(limitOf(f.Limit)) + " OFFSET " + w.arg(max(f.Offset, 0))
	err = d.list(ctx, "list connections", func(c *conn) error {
		out = nil
		return c.all(func(r pgx.Rows) error {
			found, err := scanConnection(r.Scan)
			out = append(out, found)
			return err
		}, query, w.args...)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// MatchingConnections implements [broker.ConnectionStore].
func (d *DB) MatchingConnections(ctx context.Context, f broker.ConnectionFilter) (count int, err error) {
	w := conditions(&f)
	err = d.list(ctx, "count matching connections", func(c *conn) error {
		return c.row("SELECT count(*) FROM connections c JOIN integrations i ON i.number = c.integration_number "+w.String(), w.args, &count)
	})
	return count, err
}

// SweepPending implements [broker.ConnectionStore].
func (d *DB) SweepPending(ctx context.Context, before time.Time) (int, error) {
	var n int64
	err := d.write(ctx, "sweep pending connections", func(tx *conn) (err error) {
		n, err = tx.exec(`DELETE FROM connections WHERE number = ANY(ARRAY(
			SELECT number FROM connections WHERE status = 'pending' AND updated_at < $1 FOR UPDATE SKIP LOCKED))`, micros(before))
		return err
	})
	return int(n), err
}

// filter is a condition in SQL with its arguments. There are as many texts as combinations of conditions, not as values.
type filter struct {
	parts []string
	args  []any
}

// arg adds an argument and gives its name.
func (w *filter) arg(v any) string {
	w.args = append(w.args, v)
	return "$" + strconv.Itoa(len(w.args))
}

func (w *filter) add(condition string) { w.parts = append(w.parts, condition) }

func (w *filter) String() string { return "WHERE " + strings.Join(w.parts, " AND ") }

// conditions puts a filter into SQL.
func conditions(f *broker.ConnectionFilter) *filter {
	w := new(filter)
	env := w.arg(string(f.Environment))
	w.add("c.environment_number = (SELECT number FROM environments WHERE id = " + env + ")")
	if !f.IncludePending {
		w.add("c.status <> 'pending'")
	}
	if f.Key != "" { // with the integrations named, the key's index serves
		w.add("c.integration_number IN (SELECT number FROM integrations WHERE environment = " + env + ") AND c.key = " + w.arg(f.Key))
	}
	switch {
	case f.EndUser != "" && len(f.OrIntegrations) > 0:
		w.add("(c.end_user_id = " + w.arg(f.EndUser) + " OR i.id = ANY(" + w.arg(texts(f.OrIntegrations)) + "))")
	case f.EndUser != "":
		w.add("c.end_user_id = " + w.arg(f.EndUser))
	}
	if f.Unowned {
		w.add("c.end_user_id IS NULL")
	}
	if f.Organization != "" {
		w.add("c.organization_id = " + w.arg(f.Organization))
	}
	if len(f.Integrations) > 0 {
		w.add("i.id = ANY(" + w.arg(texts(f.Integrations)) + ")")
	}
	if len(f.Statuses) > 0 {
		status := "c.status"
		if !f.AsOf.IsZero() {
			status = "CASE WHEN c.status = 'active' AND c.ends_at <= " + w.arg(micros(f.AsOf)) + " THEN 'expired' ELSE c.status END"
		}
		w.add(status + " = ANY(" + w.arg(texts(f.Statuses)) + ")")
	}
	if len(f.Tags) > 0 {
		w.add("c.tags::jsonb @> " + w.arg(dict(f.Tags)) + "::text::jsonb")
	}
	if f.Search != "" {
		s := w.arg(strings.ToLower(f.Search))
		w.add("(strpos(lower(c.key), " + s + ") > 0 OR strpos(lower(c.end_user_name), " + s + ") > 0 OR strpos(lower(c.end_user_email), " +
			s + ") > 0 OR strpos(c.folded, " + s + ") > 0)")
	}
	return w
}
