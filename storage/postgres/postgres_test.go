package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/postgres/postgrestest"
	"github.com/coatcheck/coatcheck/storage/storetest"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (cause: %v)", err, broker.AsError(err).Err)
	}
}

// migrated is the address of a fresh database with the schema of this version.
func migrated(t testing.TB) string {
	t.Helper()
	return postgrestest.NewFrom(t, "migrated", func(address string) error {
		d, err := Open(context.Background(), Options{URL: address}) // it is there for other tests too
		if err != nil {
			return err
		}
		return d.Close()
	})
}

func openTest(t testing.TB, o Options) *DB {
	t.Helper()
	d, err := Open(t.Context(), o)
	ok(t, err)
	t.Cleanup(func() { ok(t, d.Close()) })
	return d
}

// One of the two handles goes through a pooler, where there is one: what holds directly holds behind it.
func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, now func() time.Time) (a, b broker.Store) {
		o := Options{URL: migrated(t), Now: now}
		a = openTest(t, o)
		if postgrestest.HasPooler() {
			o.URL = postgrestest.Pooled(t, o.URL)
		}
		return a, openTest(t, o)
	})
}
