package broker

import "time"

// EventKind says what happened.
type EventKind string

// What an app can be told.
const (
	EventConnected       EventKind = "connection.created"
	EventReconnected     EventKind = "connection.reauthorized"
	EventConnectFailed   EventKind = "connection.failed"
	EventRefreshFailed   EventKind = "connection.refresh_failed"
	EventRefreshFailing  EventKind = "connection.refresh_failing"
	EventNeedsReauth     EventKind = "connection.needs_reauth"
	EventDuplicateGrant  EventKind = "connection.duplicate_grant"
	EventDeleted         EventKind = "connection.deleted"
	EventRevocationEnded EventKind = "connection.revocation_gave_up"
)

// Event is a row of the outbox: written in the transaction of the change it tells of, so that no change goes untold and
// none is told that did not happen. It holds ids and codes, never a secret and never a provider's text.
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
