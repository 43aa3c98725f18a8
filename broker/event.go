package broker

import "time"

// EventKind says what happened.
type EventKind string

// What an app can be told.
const (
	EventConnected       EventKind = "connection.created"
	EventReconnected     EventKind = "connection.reauthorized"
	EventConnectFailed   EventKind = "connection.failed"
	EventRefreshFailed   EventKind = "connection.refresh_failed"  // the first of a row; nothing may be lost yet
	EventRefreshFailing  EventKind = "connection.refresh_failing" // the token has run out, or it has gone on for an hour
	EventNeedsReauth     EventKind = "connection.needs_reauth"    // only the end user can mend it
	EventDuplicateGrant  EventKind = "connection.duplicate_grant" // two connections hold one and the same grant
	EventDeleted         EventKind = "connection.deleted"
	EventRevocationEnded EventKind = "connection.revocation_gave_up"
)

// Event is a row of the outbox: written in the transaction of the change it tells of, so that no change goes untold and
// none is told that did not happen. It holds ids and codes, never a secret and never a provider's text. What the app hears
// of it is a [Notice], on its way as a [Delivery].
type Event struct {
	Sequence    int64 // given by the store: the order of commits
	ID          string
	Environment EnvironmentID
	Kind        EventKind
	Integration IntegrationID
	Connection  ConnectionID // empty: none came to be
	Key         string       // the connection's key, which outlives its row
	Code        string       // why, for failures
	At          time.Time
}
