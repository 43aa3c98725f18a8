package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coatcheck/coatcheck/broker"
)

// Failures of a start that must not go on. Their texts begin with a published code.
var (
	ErrInUse      = errors.New("database_in_use: another server has this data directory open")
	ErrTooNew     = errors.New("schema_too_new: the database was written by a newer version of this program")
	ErrTooOld     = errors.New("postgres_too_old: at least PostgreSQL 14 is needed")
	ErrUnsuitable = errors.New("postgres_unsuitable")
)

// errClosed is for whoever comes after Close.
var errClosed = errors.New("the database is closed")

// What is said of a database that is not there: of a read as well, and of a change that may have been made.
var (
	errAway  = broker.ErrStorageUnavailable.Saying("the database cannot be reached at the moment")
	errDoubt = broker.ErrStorageUnavailable.Saying("the database was lost while a change was stored; look whether it was")
)

// lostError says that the connection broke.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

// doubtError says that it is not known whether the transaction was committed.
type doubtError struct{ error }

func (e doubtError) Unwrap() error { return e.error }

// Conditions by their SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	uniqueViolation      = "23505"
	foreignKeyViolation  = "23503"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	queryCanceled        = "57014"
	tooManyConnections   = "53300"
	readOnlyTransaction  = "25006"
	idleInTransaction    = "25P03"
	insufficientRights   = "42501"
	undefinedTable       = "42P01"
)

// Classes of conditions: their first two characters.
const (
	classConnection = "08"
	classAuth       = "28"
	classCatalog    = "3D" // there is no such database
	classResources  = "53" // the disk or the memory is full
	classOperator   = "57" // it is shut down, or starts up
	classSystem     = "58" // the disk fails
	classCorrupted  = "XX"
)

// interpret gives an error as the codes of [broker.Store], with what was being done as its cause. It is the one place
// that knows PostgreSQL's conditions.
func interpret(doing string, err error) error {
	if err == nil {
		return nil
	}
	var known *broker.Error
	if errors.As(err, &known) {
		return err
	}
	return kind(err).Because(fmt.Errorf("%s: %w", doing, withoutValues(err)))
}

func kind(err error) *broker.Error {
	var server *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return broker.ErrNotFound
	case errors.As(err, new(doubtError)): // also where the server's last word is known
		return errDoubt
	case errors.As(err, &server):
		return kindOf(server)
	case errors.Is(err, errClosed), errors.As(err, &connect):
		return errAway
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return broker.ErrStorageBusy
	case errors.As(err, new(lostError)):
		return errAway
	}
	return broker.ErrInternal
}

func kindOf(e *pgconn.PgError) *broker.Error {
	switch e.Code {
	case uniqueViolation:
		return broker.ErrConflict.On(taken[e.ConstraintName])
	case foreignKeyViolation: // what it belongs to is gone
		return broker.ErrNotFound
	case serializationFailure, deadlockDetected, lockNotAvailable, queryCanceled, tooManyConnections:
		return broker.ErrStorageBusy
	case readOnlyTransaction, idleInTransaction, insufficientRights:
		return broker.ErrStorageUnavailable
	}
	switch class(e) {
	case classConnection, classAuth, classCatalog, classOperator:
		return errAway
	case classResources, classSystem, classCorrupted:
		return broker.ErrStorageUnavailable
	}
	return broker.ErrInternal
}

// taken names the input that a constraint is about, where callers choose it.
var taken = map[string]string{
	"environments_living": "name",
	"integrations_living": "key",
	"connections_by_key":  "key",
}

func class(e *pgconn.PgError) string {
	if len(e.Code) < 2 {
		return ""
	}
	return e.Code[:2]
}

// withoutValues drops what a server's error says beyond its message: the detail repeats values.
func withoutValues(err error) error {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return lineError{err}
	}
	return &pgconn.PgError{
		Severity: server.Severity, SeverityUnlocalized: server.SeverityUnlocalized, Code: server.Code, Message: server.Message,
		TableName: server.TableName, ConstraintName: server.ConstraintName,
	}
}

// lineError is an error on one line: the driver puts each address that it tried on one of its own.
type lineError struct{ error }

func (e lineError) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }
func (e lineError) Unwrap() error { return e.error }

// isServer reports whether the error is one that the server gave.
func isServer(err error) bool { return errors.As(err, new(*pgconn.PgError)) }

// isCondition reports whether the server gave one of the conditions.
func isCondition(err error, codes ...string) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	for _, code := range codes {
		if e.Code == code {
			return true
		}
	}
	return false
}

// fatal reports whether the server ended the session with the error.
func fatal(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.SeverityUnlocalized == "FATAL" || e.SeverityUnlocalized == "PANIC" || isCondition(err, readOnlyTransaction))
}

// errWrongRow is for a row that is not the one asked for, which no caller may see: it holds somebody else's secrets.
var errWrongRow = broker.ErrInternal.Because(errors.New("the database returned another row than was asked for"))
