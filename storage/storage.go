// Package storage opens the store that the configuration names, and keeps the reserve beside it: room, and a last resort,
// for renewed tokens that the store cannot take.
package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/postgres"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// FileName is the database's name in the data directory.
const FileName = sqlite.FileName

// Failures of a start that must not go on. Their texts begin with a published code.
var (
	ErrInUse  = sqlite.ErrInUse  // database_in_use
	ErrTooNew = sqlite.ErrTooNew // schema_too_new
	ErrTooOld = sqlite.ErrTooOld // sqlite_too_old, postgres_too_old
)

// sameError is another backend's failure under the name that this package has for it.
type sameError struct {
	error
	as error
}

func (e sameError) Is(target error) bool { return target == e.as }
func (e sameError) Unwrap() error        { return e.error }

// named gives a failure of PostgreSQL's under this package's names.
func named(err error) error {
	for theirs, ours := range map[error]error{
		postgres.ErrInUse: ErrInUse, postgres.ErrTooNew: ErrTooNew, postgres.ErrTooOld: ErrTooOld,
	} {
		if errors.Is(err, theirs) {
			return sameError{err, ours}
		}
	}
	return err
}

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

// sqliteName is the name of a store in a file of the data directory.
const sqliteName = "sqlite"

// Open opens a store by its name: "sqlite" is a file in the data directory, and an address such as
// postgres://user@host:5432/name a PostgreSQL database, which several servers may share, each with a data directory of its
// own.
func Open(ctx context.Context, name string, o Options) (broker.Store, error) {
	// A name can be an address with a password in it, so no more of it is repeated than its scheme.
	scheme, _, address := strings.Cut(name, "://")
	switch {
	case name == sqliteName:
		db, err := sqlite.Open(ctx, sqlite.Options{Dir: o.Dir, Exclusive: o.Exclusive, Now: o.Now, Verify: o.Verify})
		if err != nil {
			return nil, err
		}
		return db, nil
	case address && (scheme == "postgres" || scheme == "postgresql"):
		db, err := postgres.Open(ctx, postgres.Options{URL: name, Dir: o.Dir, Exclusive: o.Exclusive, Verify: o.Verify})
		if err != nil {
			return nil, named(err)
		}
		return db, nil
	}
	if !address { // settings in another form may begin with the password
		return nil, errors.New("database: what it names is not supported by this build; it supports \"sqlite\" and postgres:// addresses")
	}
	return nil, fmt.Errorf("database %.20q is not supported by this build; it supports \"sqlite\" and postgres:// addresses", scheme)
}
