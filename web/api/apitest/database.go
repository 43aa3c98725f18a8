package apitest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/postgres"
	"github.com/coatcheck/coatcheck/storage/postgres/postgrestest"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// openStore gives a store on a fresh, empty database: of SQLite, or of PostgreSQL where the environment variable
// COATCHECK_TEST_DATABASE is "postgres". What an API promises holds on both, and "make test" runs its tests on both.
func openStore(t testing.TB, now func() time.Time) broker.Store {
	t.Helper()
	var store broker.Store
	var err error
	switch name := os.Getenv("COATCHECK_TEST_DATABASE"); name { //nolint:forbidigo // part of tests, which look there
	case "", "sqlite":
		store, err = sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir(), Now: now})
	case "postgres":
		store, err = postgres.Open(t.Context(), postgres.Options{URL: postgrestest.NewFrom(t, "store", migrate), Now: now, Exclusive: true, Dir: t.TempDir()})
	default:
		t.Fatalf("COATCHECK_TEST_DATABASE=%s: want sqlite or postgres", name)
	}
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	return store
}

// migrate makes the schema once, of which every test's database is a copy.
func migrate(address string) error {
	db, err := postgres.Open(context.Background(), postgres.Options{URL: address})
	if err != nil {
		return err
	}
	return db.Close()
}
