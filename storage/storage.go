// Package storage opens the store that a setting names. The databases are in its sub-packages, one each, and pass one
// suite of tests: storetest.
package storage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// SQLite is the setting for the database in the data directory.
const SQLite = "sqlite"

// FileName is the SQLite database's name in the data directory.
const FileName = sqlite.FileName

// Options say where a store is and how it is used.
type Options struct {
	Dir string // the data directory; made with mode 0700 if it is not there
	// Exclusive is for the one server of the directory; commands beside it open it without.
	Exclusive bool
	Now       func() time.Time // the store's clock, on which leases run; nil: the system's
}

// Open opens the store that dsn names and brings its schema up to date.
func Open(ctx context.Context, dsn string, o Options) (broker.Store, error) {
	if dsn == SQLite {
		return sqlite.Open(ctx, sqlite.Options{Dir: o.Dir, Exclusive: o.Exclusive, Now: o.Now})
	}
	scheme, _, _ := strings.Cut(dsn, ":")
	return nil, fmt.Errorf("database: %q is not supported by this build; it can be %q", scheme, SQLite)
}
