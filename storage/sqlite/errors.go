package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/coatcheck/coatcheck/broker"
)

// Failures of a start that must not go on. Their texts begin with a published code.
var (
	ErrInUse  = errors.New("database_in_use: another server has this data directory open")
	ErrTooNew = errors.New("schema_too_new: the database was written by a newer version of this program")
	ErrTooOld = errors.New("sqlite_too_old: this SQLite can damage its files; at least 3.51.3 is needed")
)

// errClosed is for whoever comes after Close.
var errClosed = errors.New("the database is closed")

// interpret gives an error as the codes of [broker.Store], with what was being done as its cause. It is the one place
// that knows the driver's numbers.
func interpret(doing string, err error) error {
	if err == nil {
		return nil
	}
	var known *broker.Error
	if errors.As(err, &known) {
		return err
	}
	return kind(err).Because(fmt.Errorf("%s: %w", doing, err))
}

func kind(err error) *broker.Error {
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return broker.ErrNotFound
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return broker.ErrStorageBusy
	case errors.Is(err, errClosed), errors.Is(err, sql.ErrConnDone), errors.Is(err, driver.ErrBadConn):
		return broker.ErrStorageUnavailable
	}
	switch code := resultCode(err); code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return broker.ErrConflict
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: // what it belongs to is gone
		return broker.ErrNotFound
	default:
		switch code & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return broker.ErrStorageBusy
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN:
			return broker.ErrStorageUnavailable
		}
	}
	return broker.ErrInternal
}

// resultCode gives the extended result code of an error of SQLite's, zero for another.
func resultCode(err error) int {
	var e *modernc.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// isBusy reports that another process holds the write lock.
func isBusy(err error) bool { return resultCode(err)&0xff == sqlite3.SQLITE_BUSY }

// driverError gives err if it is the driver's, nil if it is a refusal of ours.
func driverError(err error) error {
	var refusal *broker.Error
	if errors.As(err, &refusal) {
		return nil
	}
	return err
}

// errWrongRow is for a row that is not the one asked for, which no caller may see: it holds somebody else's secrets.
var errWrongRow = broker.ErrInternal.Because(errors.New("the database returned another row than was asked for"))
