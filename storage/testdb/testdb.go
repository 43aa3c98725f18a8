//go:build unix

// Package testdb gives tests above the store a database: SQLite, or PostgreSQL where the environment variable
// COATCHECK_TEST_DATABASE is "postgres". What they promise holds on both, and "make test" runs them on both.
package testdb

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

// Store is a store that can be closed. [Open] does so at the end of the test.
type Store interface {
	broker.Store
	Close() error
}

// Open gives a store on a fresh, empty database. Now is its clock.
func Open(t testing.TB, now func() time.Time) Store {
	t.Helper()
	var store Store
	var err error
	switch name := os.Getenv("COATCHECK_TEST_DATABASE"); name { //nolint:forbidigo // part of tests, which look there
	case "", "sqlite":
		store, err = sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir(), Now: now})
	case "postgres":
		store, err = postgres.Open(t.Context(), postgres.Options{URL: postgrestest.NewFrom(t, "store", migrate), Now: now, Exclusive: true, Dir: t.TempDir()})
	default:
		t.Fatalf("COATCHECK_TEST_DATABASE=%s: want sqlite or postgres", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
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
