package storage_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage"
	"github.com/coatcheck/coatcheck/storage/postgres"
	"github.com/coatcheck/coatcheck/storage/postgres/postgrestest"
	"github.com/coatcheck/coatcheck/storage/storetest"
	"github.com/coatcheck/coatcheck/storage/transfer"
)

// populated is a data directory with a database in it.
func populated(t *testing.T, n int) storage.Options {
	t.Helper()
	o := storage.Options{Dir: t.TempDir()}
	within(t, "sqlite", o, func(s broker.Store) { storetest.Populate(t, s, n) })
	return o
}

// within opens a store for as long as f runs.
func within(t *testing.T, name string, o storage.Options, f func(s broker.Store)) {
	t.Helper()
	s, err := storage.Open(t.Context(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	f(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// everything reads all connections with their credentials, and what else tells whether a store is the same.
func everything(t *testing.T, s broker.Store) (connections []*broker.Connection, credentials []*broker.Credential) {
	t.Helper()
	environments, err := s.Environments(t.Context())
	if err != nil || len(environments) != 1 {
		t.Fatal(environments, err)
	}
	connections, err = s.Connections(t.Context(), broker.ConnectionFilter{Environment: environments[0].ID, Limit: 1 << 20, IncludePending: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range connections {
		got, err := s.Credential(t.Context(), c.ID)
		if err != nil && !errors.Is(err, broker.ErrNotFound) { // a pending one has none
			t.Fatal(err)
		}
		credentials = append(credentials, got)
	}
	return connections, credentials
}

func TestTransferThereAndBack(t *testing.T) {
	there := postgrestest.New(t)
	o := populated(t, 1200) // more than two batches
	var before, after snapshot
	within(t, "sqlite", o, func(s broker.Store) { before.take(t, s) })
	moved, err := storage.Transfer(t.Context(), "sqlite", there, o)
	if err != nil {
		t.Fatal(err)
	}
	if moved.Rows["connections"] != 1202 || moved.Resumed {
		t.Errorf("%+v", moved)
	}
	within(t, there, o, func(s broker.Store) {
		after.take(t, s)
		after.same(t, before)
		// A number that was given is not given again, although its row is gone.
		c := *after.connections[0]
		c.ID, c.Key = "new", "new"
		if err := s.CreatePending(t.Context(), &c, broker.Trail{}); err != nil {
			t.Fatal(err)
		}
		if c.Number != 1204 {
			t.Errorf("the next connection has number %d", c.Number)
		}
		after.take(t, s)
	})
	// The old database is a copy from now on, which nobody moves again by mistake.
	if _, err := storage.Transfer(t.Context(), "sqlite", postgrestest.New(t), o); !errors.Is(err, transfer.ErrIsCopy) {
		t.Errorf("the moved source: %v", err)
	}
	back := storage.Options{Dir: t.TempDir()}
	if _, err := storage.Transfer(t.Context(), there, "sqlite", back); err != nil {
		t.Fatal(err)
	}
	within(t, "sqlite", back, func(s broker.Store) {
		var home snapshot
		home.take(t, s)
		home.same(t, after)
	})
}

// snapshot is what a store holds of what matters.
type snapshot struct {
	connections []*broker.Connection
	credentials []*broker.Credential
	deployment  broker.Deployment
}

func (p *snapshot) take(t *testing.T, s broker.Store) {
	t.Helper()
	p.connections, p.credentials = everything(t, s)
	var err error
	if p.deployment, err = s.Deployment(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (p *snapshot) same(t *testing.T, want snapshot) {
	t.Helper()
	if len(p.connections) == 0 || !reflect.DeepEqual(*p, want) {
		t.Errorf("it is not the same: %d connections and %d, deployments %+v and %+v",
			len(p.connections), len(want.connections), p.deployment, want.deployment)
	}
}

func TestTransferThatWasInterruptedGoesOn(t *testing.T) {
	there := postgrestest.New(t)
	o := populated(t, 1200)
	within(t, "sqlite", o, func(from broker.Store) {
		within(t, there, o, func(to broker.Store) {
			_, err := transfer.Move(t.Context(), from.(transfer.Side), &failing{Side: to.(transfer.Side), batches: 2}, time.Now())
			if !errors.Is(err, errFull) {
				t.Fatalf("it was not interrupted: %v", err)
			}
			// Nothing is served from what is there so far.
			if d, err := to.Deployment(t.Context()); err != nil || d.FillingSince.IsZero() {
				t.Errorf("the target says %+v, %v", d, err)
			}
		})
	})
	elsewhere := o
	elsewhere.Dir = t.TempDir()
	if _, err := storage.Transfer(t.Context(), there, "sqlite", elsewhere); !errors.Is(err, transfer.ErrNotWhole) {
		t.Errorf("what is there so far was moved on: %v", err)
	}
	moved, err := storage.Transfer(t.Context(), "sqlite", there, o)
	if err != nil || !moved.Resumed || moved.Rows["connections"] != 1202 {
		t.Errorf("%+v, %v", moved, err)
	}
}

// A node that is started while a transfer is under way could renew what has been compared.
func TestTransferWhileANodeStarts(t *testing.T) {
	there := postgrestest.New(t)
	within(t, there, storage.Options{Dir: t.TempDir()}, func(from broker.Store) {
		storetest.Populate(t, from, 1)
		within(t, "sqlite", storage.Options{Dir: t.TempDir()}, func(to broker.Store) {
			within(t, there, storage.Options{Dir: t.TempDir(), Exclusive: true}, func(node broker.Store) {
				begins := &begun{side: from.(side), begin: func() error {
					_, err := node.ForeignChanges(t.Context())
					return err
				}}
				if _, err := transfer.Move(t.Context(), begins, to.(transfer.Side), time.Now()); !errors.Is(err, postgres.ErrServing) {
					t.Errorf("it went on: %v", err)
				}
			})
			if d, err := from.Deployment(t.Context()); err != nil || !d.CopiedAt.IsZero() {
				t.Errorf("the source was marked: %+v, %v", d, err)
			}
			moved, err := transfer.Move(t.Context(), from.(transfer.Side), to.(transfer.Side), time.Now())
			if err != nil || !moved.Resumed {
				t.Errorf("once it has stopped: %+v, %v", moved, err)
			}
		})
	})
}

// side is a source that nodes may serve from.
type side interface {
	transfer.Side
	Vacant(ctx context.Context) error
}

// begun is one from which a node begins to serve once everything was compared.
type begun struct {
	side
	begin func() error
}

func (b *begun) Sequences(ctx context.Context) (map[string]int64, error) {
	if err := b.begin(); err != nil {
		return nil, err
	}
	return b.side.Sequences(ctx)
}

var errFull = errors.New("the disk is full")

// failing takes so many batches of connections.
type failing struct {
	transfer.Side
	batches int
}

func (f *failing) Insert(ctx context.Context, t transfer.Table, rows [][]any) error {
	if t.Name == "connections" {
		if f.batches--; f.batches < 0 {
			return errFull
		}
	}
	return f.Side.Insert(ctx, t, rows)
}

// altered loses the last byte of what it is given to keep.
type altered struct{ transfer.Side }

func (a altered) Insert(ctx context.Context, t transfer.Table, rows [][]any) error {
	for _, row := range rows {
		for i, v := range row {
			if raw, ok := v.([]byte); ok && t.Name == "credentials" {
				row[i] = raw[:len(raw)-1]
			}
		}
	}
	return a.Side.Insert(ctx, t, rows)
}

func TestTransferIsRefused(t *testing.T) {
	o := populated(t, 1)
	there := postgrestest.New(t)
	if _, err := storage.Transfer(t.Context(), "sqlite", "sqlite", o); !errors.Is(err, storage.ErrSameStore) {
		t.Errorf("into itself: %v", err)
	}
	server := o
	server.Exclusive = true
	within(t, "sqlite", server, func(broker.Store) {
		if _, err := storage.Transfer(t.Context(), "sqlite", there, o); !errors.Is(err, storage.ErrInUse) {
			t.Errorf("while a server uses the source: %v", err)
		}
	})
	within(t, there, storage.Options{Dir: t.TempDir(), Exclusive: true}, func(s broker.Store) {
		if _, err := s.ForeignChanges(t.Context()); err != nil { // a server looks all the time
			t.Fatal(err)
		}
		if _, err := storage.Transfer(t.Context(), "sqlite", there, o); !errors.Is(err, postgres.ErrServing) {
			t.Errorf("while a server uses the target: %v", err)
		}
	})
	within(t, "sqlite", o, func(from broker.Store) {
		within(t, there, o, func(to broker.Store) {
			_, err := transfer.Move(t.Context(), from.(transfer.Side), altered{to.(transfer.Side)}, time.Now())
			if !errors.Is(err, transfer.ErrDiffers) {
				t.Errorf("what arrives in another form: %v", err)
			}
		})
	})
	other := postgrestest.New(t)
	within(t, other, o, func(s broker.Store) { storetest.Populate(t, s, 1) })
	if _, err := storage.Transfer(t.Context(), "sqlite", other, o); !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("into a database that is in use: %v", err)
	}
	within(t, "sqlite", o, func(s broker.Store) {
		if d, err := s.Deployment(t.Context()); err != nil || !d.CopiedAt.IsZero() {
			t.Errorf("the source was marked: %+v, %v", d, err)
		}
	})
}
