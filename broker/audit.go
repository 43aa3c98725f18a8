package broker

import "time"

// AuditEntry is a line of the audit trail, which nobody can change or remove.
type AuditEntry struct {
	Sequence    int64 // given by the store
	Environment EnvironmentID
	Actor       string
	Action      string // noun.verb: connection.delete, credential.read
	Target      string // the id of what was acted on
	Result      string // ok, or the code of the refusal
	Count       int64  // how many acts the line stands for; credential reads of a minute share one
	IP          string
	RequestID   string
	At          time.Time
}

// Trail is what a change leaves behind. It commits with the change, or the change fails.
type Trail struct {
	Audit      []AuditEntry
	Events     []Event
	Deliveries []Delivery // of the events, to the app
}
