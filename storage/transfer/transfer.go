// Package transfer moves everything that a store holds into another store, of another dialect or the same. Rows are copied as
// they are: ids, numbers and ciphertexts stay, so that what was sealed opens under the same keys.
//
// The source must not change meanwhile, which is its opener's to see to; nodes of PostgreSQL that serve are looked for. The target is marked until the end, and nothing is
// served from it before; a transfer that was interrupted goes on after the last row that arrived. In the end every table is
// read from both sides and compared.
package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// Table is one that is copied.
type Table struct {
	Name    string
	Columns []string // in one order for both sides
	Key     []string // the order in which rows are copied
}

// Side is one end of a transfer. A row's values are int64, string, []byte or nil; a truth is 0 or 1.
type Side interface {
	broker.DeploymentStore
	// Tables names the tables that hold what a broker keeps, each with its columns, without what belongs to the dialect.
	Tables(ctx context.Context) (map[string][]string, error)
	// Rows gives at most limit rows that follow a key, in the key's order, compared byte by byte; a nil key comes before all.
	Rows(ctx context.Context, t Table, after []any, limit int) ([][]any, error)
	// Insert adds rows, all of them or none.
	Insert(ctx context.Context, t Table, rows [][]any) error
	// Sequences tells the last number that was given in each table which never gives one twice.
	Sequences(ctx context.Context) (map[string]int64, error)
	// SetSequences makes the next numbers follow on those.
	SetSequences(ctx context.Context, last map[string]int64) error
}

// Errors of a transfer that must not be.
var (
	// ErrNotEmpty is a target that holds something else.
	ErrNotEmpty = errors.New("the target is not empty: transfer into a new database, or put the old one aside")
	// ErrDiffers is a copy that is not what the source holds: somebody wrote to one of them.
	ErrDiffers = errors.New("the copy differs from the source, so something wrote to one of them meanwhile; transfer again, into a new database")
	// ErrIsCopy is a source that is a copy of another store.
	ErrIsCopy = errors.New("the source is a copy: it was moved already, or restored and not adopted; adopt it first if it is the one to use")
	// ErrNotWhole is a source that was itself the target of a transfer that has not finished.
	ErrNotWhole = errors.New("the source is not whole: a transfer into it has not finished")
)

// order lists the tables, those that others refer to first, each with its key.
func order() []Table {
	return []Table{
		{Name: "keyring", Key: []string{"id"}},
		{Name: "environments", Key: []string{"number"}},
		{Name: "api_keys", Key: []string{"id"}},
		{Name: "webhooks", Key: []string{"environment"}},
		{Name: "integrations", Key: []string{"number"}},
		{Name: "registrations", Key: []string{"integration", "issuer", "redirect_uri"}},
		{Name: "sessions", Key: []string{"id"}},
		{Name: "session_ends", Key: []string{"session", "integration"}},
		{Name: "flows", Key: []string{"id"}},
		{Name: "connections", Key: []string{"number"}},
		{Name: "credentials", Key: []string{"connection_number"}},
		{Name: "revocations", Key: []string{"id"}},
		{Name: "events", Key: []string{"sequence"}},
		{Name: "deliveries", Key: []string{"number"}},
		{Name: "audit", Key: []string{"sequence"}},
	}
}

// batch is how many rows are copied at a time.
const batch = 500

// Result tells what was moved.
type Result struct {
	Rows    map[string]int64 // by table
	Resumed bool             // some of it had been copied before
}

// Total is the number of all rows.
func (r *Result) Total() (n int64) {
	for _, rows := range r.Rows {
		n += rows
	}
	return n
}

// Move copies everything from one side to the other. Afterwards the target is the deployment that the source was, and the
// source says of itself that it is a copy, from which nothing is renewed. Errors: [ErrNotEmpty], [ErrDiffers], [ErrIsCopy],
// [ErrNotWhole].
// After any other error it can be run again.
func Move(ctx context.Context, from, to Side, now time.Time) (*Result, error) {
	tables, err := plan(ctx, from, to)
	if err != nil {
		return nil, err
	}
	owner, mark, err := begin(ctx, from, to, tables, now)
	if err != nil {
		return nil, err
	}
	out := &Result{Rows: make(map[string]int64, len(tables)), Resumed: mark.resumed}
	for _, t := range tables {
		if err := copyTable(ctx, from, to, t); err != nil {
			return nil, fmt.Errorf("copy %s: %w", t.Name, err)
		}
	}
	for _, t := range tables {
		if out.Rows[t.Name], err = compare(ctx, from, to, t); err != nil {
			return nil, fmt.Errorf("compare %s: %w", t.Name, err)
		}
	}
	numbers, err := from.Sequences(ctx)
	if err != nil {
		return nil, err
	}
	if err := to.SetSequences(ctx, numbers); err != nil {
		return nil, err
	}
	// A node that began to serve meanwhile may have changed what was compared before it did.
	if err := errors.Join(Vacant(ctx, from), Vacant(ctx, to)); err != nil {
		return nil, err
	}
	left := owner
	left.CopiedAt = now
	if err := from.SetDeployment(ctx, owner.Cluster, left, broker.Trail{}); err != nil {
		return nil, fmt.Errorf("mark the source: %w", err)
	}
	if err := to.SetDeployment(ctx, mark.cluster, owner, broker.Trail{}); err != nil {
		return nil, fmt.Errorf("take the mark off the target: %w", err)
	}
	return out, nil
}

// Vacant makes sure that nobody serves from a side, where others can do so while it is open here.
func Vacant(ctx context.Context, s broker.DeploymentStore) error {
	if v, ok := s.(interface {
		Vacant(ctx context.Context) error
	}); ok {
		return v.Vacant(ctx)
	}
	return nil
}

// plan puts the tables of both sides together.
func plan(ctx context.Context, from, to Side) ([]Table, error) {
	source, err := from.Tables(ctx)
	if err != nil {
		return nil, err
	}
	target, err := to.Tables(ctx)
	if err != nil {
		return nil, err
	}
	tables := order()
	for i, t := range tables {
		if _, ok := source[t.Name]; !ok {
			return nil, fmt.Errorf("the source has no table %s", t.Name)
		}
		tables[i].Columns = slices.Sorted(slices.Values(source[t.Name]))
		if !slices.Equal(tables[i].Columns, slices.Sorted(slices.Values(target[t.Name]))) {
			return nil, fmt.Errorf("the columns of %s differ: both sides must be of this version", t.Name)
		}
	}
	for name := range maps.Keys(source) {
		if !slices.ContainsFunc(tables, func(t Table) bool { return t.Name == name }) {
			return nil, fmt.Errorf("it is not known how to copy %s", name)
		}
	}
	return tables, nil
}

// marked is what keeps the target from being used.
type marked struct {
	cluster string
	resumed bool
}

// begin marks the target, or finds the mark of the same transfer there, and gives whose the source is.
func begin(ctx context.Context, from, to Side, tables []Table, now time.Time) (owner broker.Deployment, m marked, err error) {
	if owner, err = from.Deployment(ctx); err != nil {
		return owner, m, err
	}
	found, err := to.Deployment(ctx)
	if err != nil {
		return owner, m, err
	}
	m.cluster = "transfer-of-" + owner.Cluster
	if found.Cluster == m.cluster && !found.FillingSince.IsZero() {
		// The source may carry its mark already, if the last run ended just before its end.
		m.resumed, owner.CopiedAt = true, time.Time{}
		return owner, m, nil
	}
	if !owner.FillingSince.IsZero() {
		return owner, m, ErrNotWhole
	}
	if !owner.CopiedAt.IsZero() {
		return owner, m, ErrIsCopy
	}
	if found != (broker.Deployment{}) {
		return owner, m, ErrNotEmpty
	}
	for _, t := range tables {
		rows, err := to.Rows(ctx, t, nil, 1)
		if err != nil {
			return owner, m, err
		}
		if len(rows) > 0 {
			return owner, m, ErrNotEmpty
		}
	}
	return owner, m, to.SetDeployment(ctx, "", broker.Deployment{Cluster: m.cluster, FillingSince: now}, broker.Trail{})
}

// copyTable copies what follows the target's last row.
func copyTable(ctx context.Context, from, to Side, t Table) error {
	after, err := last(ctx, to, t)
	if err != nil {
		return err
	}
	for {
		rows, err := from.Rows(ctx, t, after, batch)
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := to.Insert(ctx, t, rows); err != nil {
			return err
		}
		after = t.keyOf(rows[len(rows)-1])
	}
}

// last gives the key of a table's last row; nil: it is empty.
func last(ctx context.Context, s Side, t Table) (after []any, err error) {
	for {
		rows, err := s.Rows(ctx, t, after, batch)
		if err != nil || len(rows) == 0 {
			return after, err
		}
		after = t.keyOf(rows[len(rows)-1])
	}
}

func (t Table) keyOf(row []any) []any {
	out := make([]any, len(t.Key))
	for i, name := range t.Key {
		out[i] = row[slices.Index(t.Columns, name)]
	}
	return out
}

// compare reads a table from both sides and gives its number of rows.
func compare(ctx context.Context, from, to Side, t Table) (int64, error) {
	n, sum, err := digest(ctx, from, t)
	if err != nil {
		return 0, err
	}
	copied, copiedSum, err := digest(ctx, to, t)
	if err != nil {
		return 0, err
	}
	if n != copied || sum != copiedSum {
		return 0, fmt.Errorf("%w (%d rows and %d)", ErrDiffers, n, copied)
	}
	return n, nil
}

// digest reads a whole table.
func digest(ctx context.Context, s Side, t Table) (n int64, sum [sha256.Size]byte, err error) {
	h := sha256.New()
	var after []any
	for {
		rows, err := s.Rows(ctx, t, after, batch)
		if err != nil {
			return 0, sum, err
		}
		if len(rows) == 0 {
			return n, [sha256.Size]byte(h.Sum(nil)), nil
		}
		for _, row := range rows {
			for _, v := range row {
				if err := mix(h, v); err != nil {
					return 0, sum, err
				}
			}
		}
		n += int64(len(rows))
		after = t.keyOf(rows[len(rows)-1])
	}
}

// mix writes a value so that no two different rows read the same.
func mix(h hash.Hash, v any) error {
	var kind byte
	var raw []byte
	switch v := v.(type) {
	case nil:
		kind = 'n'
	case int64:
		kind, raw = 'i', binary.BigEndian.AppendUint64(nil, uint64(v)) //nolint:gosec // any bit pattern will do
	case string:
		kind, raw = 't', []byte(v)
	case []byte:
		kind, raw = 'b', v
	default:
		return fmt.Errorf("a value of type %T cannot be copied", v)
	}
	_, _ = h.Write(binary.BigEndian.AppendUint64([]byte{kind}, uint64(len(raw)))) // a hash never fails
	_, _ = h.Write(raw)
	return nil
}
