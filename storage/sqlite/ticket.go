package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// selectTicket reads what a proxied request needs: an index and two rows. Its columns are in the order of ticketRow.
// Parameters are bound by position: the driver looks numbered ones up one by one. Type and origins, neither of which holds a
// line break, come as one text: each costs the driver three allocations.
const selectTicket = `SELECT c.integration_number, c.key, c.id, c.status, c.reason, c.config, cr.version,
		cr.type || char(10) || c.origins, cr.access, cr.details, cr.obtained_at, cr.expires_at, cr.refresh_at, cr.refresh IS NOT NULL
	FROM connections c LEFT JOIN credentials cr ON cr.connection_number = c.number
	WHERE c.integration_number = ? AND c.key = ?`

// home is what never changes about an integration: numbers are not given twice.
type home struct {
	number      int64
	environment broker.EnvironmentID
}

// Ticket implements [broker.CredentialStore]. It is the one read that requests wait for, so it spares itself what
// database/sql does for convenience: half of the time of a read like this.
func (d *DB) Ticket(ctx context.Context, integration broker.IntegrationID, key string) (*broker.Ticket, error) {
	c, err := d.readers.take(ctx)
	if err != nil {
		return nil, interpret("read ticket", err)
	}
	defer d.readers.put(c)
	h, known, err := d.home(c, integration)
	if err != nil {
		return nil, interpret("read ticket", err)
	}
	t, err := c.ticketOf(h, integration, key)
	if known && errors.Is(err, sql.ErrNoRows) {
		// What was known may be out of date, if an integration of that id was erased and made anew.
		d.homes.Delete(integration)
		if h, _, err = d.home(c, integration); err == nil {
			t, err = c.ticketOf(h, integration, key)
		}
	}
	if err != nil {
		return nil, interpret("read ticket", err)
	}
	return t, nil
}

// home finds an integration's, and reports whether it was known before.
func (d *DB) home(c *conn, id broker.IntegrationID) (h *home, known bool, err error) {
	if v, ok := d.homes.Load(id); ok {
		return v.(*home), true, nil
	}
	h = new(home)
	err = c.row("SELECT number, environment FROM integrations WHERE id = ?", []any{string(id)}, &h.number, (*string)(&h.environment))
	if err != nil {
		return nil, false, err
	}
	d.homes.Store(id, h)
	return h, false, nil
}

// ticketStatement is selectTicket on one connection, with the room for its arguments and its result.
type ticketStatement struct {
	driver.Stmt
	args [2]driver.NamedValue
	row  ticketRow
}

func (c *conn) ticketOf(h *home, integration broker.IntegrationID, key string) (t *broker.Ticket, err error) {
	err = c.sql.Raw(func(driverConn any) (err error) {
		if c.ticket == nil {
			if c.ticket, err = prepareTicket(c.ctx, driverConn); err != nil {
				return err
			}
		}
		t, err = c.ticket.read(c.ctx, h.number, key)
		return err
	})
	if err != nil {
		return nil, c.note(err)
	}
	t.Integration, t.Environment = integration, h.environment
	return t, nil
}

func prepareTicket(ctx context.Context, driverConn any) (*ticketStatement, error) {
	p, ok := driverConn.(driver.ConnPrepareContext)
	if !ok {
		return nil, fmt.Errorf("%T prepares no statements", driverConn)
	}
	stmt, err := p.PrepareContext(ctx, selectTicket)
	if err != nil {
		return nil, err
	}
	s := &ticketStatement{Stmt: stmt}
	s.args[0].Ordinal, s.args[1].Ordinal = 1, 2
	return s, nil
}

// read gives the ticket of a connection, or sql.ErrNoRows.
func (s *ticketStatement) read(ctx context.Context, integration int64, key string) (t *broker.Ticket, err error) {
	q, ok := s.Stmt.(driver.StmtQueryContext)
	if !ok {
		return nil, fmt.Errorf("%T runs no queries", s.Stmt)
	}
	s.args[0].Value, s.args[1].Value = integration, key
	rows, err := q.QueryContext(ctx, s.args[:])
	if err != nil {
		return nil, err
	}
	defer func() {
		clear(s.row[:]) // no secret stays behind
		if e := rows.Close(); err == nil {
			err = e
		}
	}()
	if err := rows.Next(s.row[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = sql.ErrNoRows
		}
		return nil, err
	}
	return s.row.ticket(integration, key)
}

// ticketRow is a row of selectTicket as the driver gives it. Bytes in it are ours: a driver must not touch them again.
type ticketRow [14]driver.Value

// ticket decodes the row, if it is the one asked for. A column of another type than it was made with gives the zero
// value, as NULL does: tables are strict.
func (r *ticketRow) ticket(integration int64, key string) (*broker.Ticket, error) {
	if r.number(0) != integration || r.text(1) != key {
		return nil, errWrongRow
	}
	kind, origins, _ := strings.Cut(r.text(7), "\n")
	return &broker.Ticket{
		Connection: broker.ConnectionID(r.text(2)),
		Status:     broker.Status(r.text(3)),
		Reason:     r.text(4),
		Config:     r.document(5),
		Version:    r.number(6),
		Type:       kind,
		Origins:    origins,
		Access:     r.bytes(8),
		Details:    r.bytes(9),
		ObtainedAt: r.time(10),
		ExpiresAt:  r.time(11),
		RefreshAt:  r.time(12),
		Renewable:  r.number(13) != 0,
	}, nil
}

func (r *ticketRow) number(i int) int64 {
	n, _ := r[i].(int64)
	return n
}

func (r *ticketRow) text(i int) string {
	s, _ := r[i].(string)
	return s
}

// document is a text that is passed on as bytes.
func (r *ticketRow) document(i int) []byte {
	if s := r.text(i); s != "" {
		return []byte(s)
	}
	return nil
}

func (r *ticketRow) bytes(i int) []byte {
	b, _ := r[i].([]byte)
	return b
}

func (r *ticketRow) time(i int) time.Time {
	if n, ok := r[i].(int64); ok {
		return time.UnixMicro(n).UTC()
	}
	return time.Time{}
}
