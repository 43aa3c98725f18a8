// Package storage opens the store that the configuration names, and keeps the reserve beside it: room, and a last resort,
// for renewed tokens that the store cannot take.
package storage

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// FileName is the database's name in the data directory.
const FileName = sqlite.FileName

// Failures of a start that must not go on. Their texts begin with a published code.
var (
	ErrInUse  = sqlite.ErrInUse  // database_in_use
	ErrTooNew = sqlite.ErrTooNew // schema_too_new
	ErrTooOld = sqlite.ErrTooOld // sqlite_too_old
)

// Options are what a backend needs besides its name.
type Options struct {
	Dir string // the data directory
	// Exclusive is for the one server of a data directory; commands that work beside it leave it out.
	Exclusive bool
	// Now is the store's clock, where the backend has none of its own; nil: the system's.
	Now func() time.Time
	// Verify is handed the keyring of a store that has one, before anything is written. Its error ends Open, and leaves the
	// store as it was. nil: every keyring will do.
	Verify func([]broker.WrappedKey) error
}

// Open opens a store by its name: "sqlite" is a file in the data directory.
func Open(ctx context.Context, name string, o Options) (broker.Store, error) {
	if name != "sqlite" {
		// A name can be an address with a password in it, so no more of it is repeated than its scheme.
		scheme, _, _ := strings.Cut(name, ":")
		return nil, fmt.Errorf("database %.20q is not supported by this build; it supports \"sqlite\"", scheme)
	}
	db, err := sqlite.Open(ctx, sqlite.Options{Dir: o.Dir, Exclusive: o.Exclusive, Now: o.Now, Verify: o.Verify})
	if err != nil {
		return nil, err
	}
	return db, nil
}
