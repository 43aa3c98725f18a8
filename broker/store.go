package broker

import (
	"context"
	"time"
)

// Store keeps everything. Rows in, rows out: it decides nothing, opens nothing and calls nobody. Every method is atomic
// and durable when it returns nil, trail included. All errors are *Error: not_found, conflict, storage_busy or
// storage_unavailable; anything else is internal. Times are kept to the microsecond, in UTC. Every promise here has a
// test in storage/storetest.
type Store interface {
	EnvironmentStore
	IntegrationStore
	SessionStore
	FlowStore
	RegistrationStore
	ConnectionStore
	CredentialStore
	RevocationStore
	TrailStore
	WebhookStore
	KeyringStore
	DeploymentStore

	// ForeignChanges is a number that rises when another process has written what a broker keeps in memory: environments,
	// API keys, integrations, webhooks, connections, credentials or data keys. It may rise for other writes too.
	ForeignChanges(ctx context.Context) (int64, error)
	// Ping reports whether the store can be read.
	Ping(ctx context.Context) error
	Close() error
}

// Shared is what a store can do besides that several processes serve from at the same time.
type Shared interface {
	// Standing tells what may have changed about a connection since its ticket was read, without reading the rest.
	// NotFound: it is gone.
	Standing(ctx context.Context, integration IntegrationID, key string) (Standing, error)
	// FlowsByChannel finds the flows that have one of the channels.
	FlowsByChannel(ctx context.Context, channels [][]byte) ([]*Flow, error)
	// Listen calls heard soon after another process has written what ForeignChanges counts, or has ended a flow, until ctx
	// ends. It may miss some, and call for nothing: it says when to look, and who has to know looks without it too.
	Listen(ctx context.Context, heard func())
}

// Standing is what every write to a connection that a caller could notice changes.
type Standing struct {
	Connection ConnectionID
	Revision   int64
	Version    int64
	Status     Status
}

// EnvironmentStore keeps environments and their API keys. There are few: they are read whole.
type EnvironmentStore interface {
	Environments(ctx context.Context) ([]*Environment, error)
	// SaveEnvironment inserts it, or replaces the one of the same id. Conflict: the name is taken by another.
	SaveEnvironment(ctx context.Context, e *Environment, t Trail) error
	// DeleteEnvironment takes it out of the list and frees its name, revokes its keys, removes its sessions, fails its open
	// flows and deletes its integrations as DeleteIntegration does. It returns how many connections. NotFound: there is none.
	DeleteEnvironment(ctx context.Context, id EnvironmentID, at time.Time, t Trail) (int, error)
	// APIKeys lists all keys, revoked ones included.
	APIKeys(ctx context.Context) ([]*APIKey, error)
	// CreateAPIKey inserts it. Conflict: the name is taken by a living key of the environment, or a living key has the hash.
	// NotFound: there is no such environment.
	CreateAPIKey(ctx context.Context, k *APIKey, t Trail) error
	// RevokeAPIKey ends a living key. NotFound: there is none of that id, or it was revoked before.
	RevokeAPIKey(ctx context.Context, id APIKeyID, at time.Time, t Trail) error
}

// IntegrationStore keeps integrations. There are few compared with connections: they are read whole.
type IntegrationStore interface {
	// Integrations lists all, deleted ones included as long as they have revocations to do.
	Integrations(ctx context.Context) ([]*Integration, error)
	// CreateIntegration inserts it with revision 1. Conflict: the key is taken in its environment. NotFound: there is no
	// such environment.
	CreateIntegration(ctx context.Context, i *Integration, t Trail) error
	// UpdateIntegration replaces the living one of that id if its revision is still i.Revision, and bumps it.
	// NotFound: there is none. Conflict: the revision is another, or the key is taken.
	UpdateIntegration(ctx context.Context, i *Integration, t Trail) error
	// DeleteIntegration marks it deleted and deletes all its connections as DeleteConnection does, each with an event that
	// says so. It returns how many.
	DeleteIntegration(ctx context.Context, id IntegrationID, at time.Time, t Trail) (int, error)
	// CountConnections counts the living connections of an integration.
	CountConnections(ctx context.Context, id IntegrationID) (int, error)
}

// SessionStore keeps connect sessions.
type SessionStore interface {
	CreateSession(ctx context.Context, s *Session, t Trail) error
	// SessionByHash finds a session by the hash of its token, expired ones included, with what it has come to.
	SessionByHash(ctx context.Context, hash []byte) (*Session, error)
	Session(ctx context.Context, id SessionID) (*Session, error)
	// DeleteSession removes it and fails its open flows with code.
	DeleteSession(ctx context.Context, id SessionID, code string, at time.Time, t Trail) error
	// SweepSessions removes sessions that expired before then, and flows that ended or expired before then.
	SweepSessions(ctx context.Context, before time.Time) (int, error)
}

// FlowStore keeps flows.
type FlowStore interface {
	// CreateFlow inserts an open flow. With a session it counts one more start; ok is false, and nothing is written, when
	// that would be more than maxStarts. NotFound: the session is gone. Conflict: its state or its Channel is another's. An
	// open flow of the same session gives its Channel up and fails: the browser has begun anew.
	CreateFlow(ctx context.Context, f *Flow, maxStarts int, t Trail) (ok bool, err error)
	Flow(ctx context.Context, id FlowID) (*Flow, error)
	// FlowByState finds a flow by the hash of its state.
	FlowByState(ctx context.Context, hash []byte) (*Flow, error)
	// FlowByChannel finds a flow by its Channel, which no other has.
	FlowByChannel(ctx context.Context, channel []byte) (*Flow, error)
	// SealFlow replaces the Secrets of an open flow; ok is false, and nothing changes, if it is not open.
	SealFlow(ctx context.Context, id FlowID, secrets Sealed) (ok bool, err error)
	// ConsumeFlow takes an open flow out of use and erases its Secrets; ok is false if it was not open. Of any number of
	// callers one gets true.
	ConsumeFlow(ctx context.Context, id FlowID, at time.Time) (ok bool, err error)
	// FailFlow ends an open or consumed flow and erases its Secrets; on any other it changes nothing.
	FailFlow(ctx context.Context, id FlowID, code string, at time.Time, t Trail) error
	// InterruptedFlows lists flows that were consumed before then and have no result.
	InterruptedFlows(ctx context.Context, before time.Time) ([]*Flow, error)
}

// Grant is a connection together with a new credential, and what ends with it.
type Grant struct {
	Connection *Connection
	Credential *Credential
	// New inserts; otherwise the connection of that id is replaced if its credential still has version From and the
	// connection still has its Revision, which is bumped.
	New  bool
	From int64
	// Flow, where set, must be consumed and becomes succeeded with this connection.
	Flow FlowID
	// Session, where set, is spent for the connection's integration. Conflict of code session_completed: it was before.
	Session SessionID
	Trail   Trail
	// DuplicateTrail is left besides where the connection becomes a DuplicateGrant.
	DuplicateTrail Trail
}

// ConnectionFilter selects connections; empty fields select all.
type ConnectionFilter struct {
	Environment  EnvironmentID // required
	Key          string
	Search       string // in key, end user's display name and e-mail; any case
	EndUser      string
	Unowned      bool // without an end user
	Organization string
	// OrIntegrations are those of which connections of any end user do, where one is named.
	OrIntegrations []IntegrationID
	Integrations   []IntegrationID
	Tags           map[string]string // all of them
	Statuses       []Status          // any of them
	AsOf           time.Time         // statuses are as of then: an active one whose EndsAt has come is expired; zero: as stored
	Limit          int               // zero: 100
	Offset         int
	IncludePending bool // connections that never had a success
}

// ConnectionStore keeps connections.
type ConnectionStore interface {
	// PutGrant commits a grant and gives the connection its Number, Revision and DuplicateGrant. Conflict: the key is taken in its
	// integration (New), or a version, revision or flow is not what it was.
	PutGrant(ctx context.Context, g *Grant) error
	// CreatePending inserts a connection without a credential.
	CreatePending(ctx context.Context, c *Connection, t Trail) error
	// CreateOnly is CreatePending for the one connection that an integration has without an end user. Conflict: it has one.
	CreateOnly(ctx context.Context, c *Connection, t Trail) error
	Connection(ctx context.Context, env EnvironmentID, id ConnectionID) (*Connection, error)
	ConnectionByKey(ctx context.Context, integration IntegrationID, key string) (*Connection, error)
	// Connections lists, newest first, then by highest number.
	Connections(ctx context.Context, f ConnectionFilter) ([]*Connection, error)
	// MatchingConnections counts what the filter selects, whatever its limit and offset.
	MatchingConnections(ctx context.Context, f ConnectionFilter) (int, error)
	// SweepPending removes pending connections that have not been touched since before then, and says how many.
	SweepPending(ctx context.Context, before time.Time) (int, error)
	// UpdateConnections replaces all of them, or none. Each must still have its Revision, which is bumped. It writes
	// everything but what belongs to the credential, and FetchedAt. Conflict: a revision is another. NotFound: one is gone.
	UpdateConnections(ctx context.Context, cs []*Connection, t Trail) error
	// DeleteConnection removes it and turns its credential, if it has one, into a revocation that is due at once.
	DeleteConnection(ctx context.Context, env EnvironmentID, id ConnectionID, at time.Time, t Trail) error
	// TouchFetched raises FetchedAt; connections that are gone are passed over.
	TouchFetched(ctx context.Context, at map[ConnectionID]time.Time) error
	// SharesGrant reports whether a living connection other than that one has the account hash.
	SharesGrant(ctx context.Context, accountHash []byte, other ConnectionID) (bool, error)
}

// Ticket is what the hot path needs of a connection: one row, nothing decoded.
type Ticket struct {
	Connection  ConnectionID
	Environment EnvironmentID
	Integration IntegrationID
	Status      Status
	Reason      string
	Config      []byte
	Version     int64
	Type        string
	Origins     string
	Access      Sealed
	Details     Sealed
	ObtainedAt  time.Time
	ExpiresAt   time.Time
	RefreshAt   time.Time
	Renewable   bool  // a refresh token is stored
	Revision    int64 // of the connection; only a [Shared] store tells it
}

// Swap is a renewed credential on its way into the store.
type Swap struct {
	Connection ConnectionID
	From       int64 // the version that it renews
	Next       *Credential
	Config     []byte // replaces the connection's config; nil: leaves it
	Scopes     []string
	Trail      Trail
	// Orphan ends what was renewed where the connection is gone by then; stores leave it to the broker.
	Orphan *Revocation
}

// RefreshFailure is a renewal that came to nothing.
type RefreshFailure struct {
	Connection ConnectionID
	Version    int64
	Owner      string
	Code       string // becomes the connection's ErrorCode where Status is set
	At         time.Time
	NextAt     time.Time // next attempt in the background; zero: none
	EraseAt    time.Time // when to erase the tokens, if no such time was set before; zero: never, for all this failure says
	Status     Status    // the connection's new status; empty: unchanged
	Reason     string
	ErrorID    string
	// CountsAgainst is false where the grant is not to blame and nothing is counted.
	CountsAgainst bool
	// KeepAttempt leaves AttemptAt as it is, while the lease ends: the outcome is unknown.
	KeepAttempt bool
	Trail       Trail
}

// DueRefresh is a credential that is due.
type DueRefresh struct {
	Connection  ConnectionID
	Environment EnvironmentID
	Integration IntegrationID
	At          time.Time
}

// CredentialStore keeps each connection's credential. Only these methods and PutGrant write it.
type CredentialStore interface {
	Credential(ctx context.Context, id ConnectionID) (*Credential, error)
	// Lifetimes tells of those of the connections that have a credential.
	Lifetimes(ctx context.Context, ids []ConnectionID) (map[ConnectionID]Lifetime, error)
	// Ticket finds a connection by its integration and key. A pending one has version 0.
	Ticket(ctx context.Context, integration IntegrationID, key string) (*Ticket, error)
	// LeaseRefresh lets owner renew for ttl, on the store's clock, unless another owner holds the lease (ok is false).
	// It bumps the fence and marks an attempt; the credential is read after the lease was taken, with the AttemptAt that
	// an earlier attempt without an outcome left, zero if there was none. Taking the lease is a durable write.
	LeaseRefresh(ctx context.Context, id ConnectionID, owner string, ttl time.Duration) (c *Credential, ok bool, err error)
	// ReleaseRefresh gives up owner's lease without an attempt having been made; restored is put back as AttemptAt.
	ReleaseRefresh(ctx context.Context, id ConnectionID, owner string, restored time.Time) error
	// SwapCredential stores next with version From+1 if the stored version is still From, clears lease, attempt, failures
	// and EraseAt, and makes the connection active; the origins stay as they are. If not, nothing changes. Conflict: the version
	// is newer. NotFound: the connection is gone.
	SwapCredential(ctx context.Context, s *Swap) error
	// FailRefresh records a failure if the version is still the same, and clears the lease of owner. On another version
	// nothing changes and nothing is wrong; nor where the grant was found to be lost since owner's lease ran out.
	FailRefresh(ctx context.Context, f *RefreshFailure) error
	// SetRefreshAt moves the next background attempt if the version is still the same, and so is the time, zero included:
	// what came of an attempt in between has its own plans, or none for a grant that was lost.
	SetRefreshAt(ctx context.Context, id ConnectionID, version int64, from, to time.Time) error
	// DueRefreshes lists credentials that are due and not leased, most overdue first, without those of some integrations.
	DueRefreshes(ctx context.Context, now time.Time, except []IntegrationID, limit int) ([]DueRefresh, error)
	// NextRefresh is when the next unleased credential is due; zero: none.
	NextRefresh(ctx context.Context) (time.Time, error)
	// EraseTokens erases the tokens of at most limit credentials whose EraseAt has come, most overdue first: the refresh
	// token, the answer, and the access token unless it is still good. That one is kept to its end, which becomes EraseAt.
	// Each leaves the line, in its environment and with its connection as the target. It returns how many there were.
	EraseTokens(ctx context.Context, now time.Time, limit int, line AuditEntry) (int, error)
	// DropStaleLeases ends leases whose owner cannot be alive any more. AttemptAt stays: the outcome is unknown.
	DropStaleLeases(ctx context.Context) (int, error)
}

// RevocationStore keeps revocations.
type RevocationStore interface {
	// AddRevocation inserts it. Conflict: the id exists. NotFound: there is no such environment.
	AddRevocation(ctx context.Context, r *Revocation, t Trail) error
	// ClaimRevocations takes due ones, oldest first, and moves their NextAt to until, so that another claims them only
	// if this one dies.
	ClaimRevocations(ctx context.Context, now, until time.Time, limit int) ([]*Revocation, error)
	// RetryRevocation puts it back for later. NotFound: it is finished, or there is none.
	RetryRevocation(ctx context.Context, id string, attempts int, waited time.Duration, next time.Time) error
	// FinishRevocation erases its sealed fields and keeps the outcome. The last one of a deleted integration erases that
	// integration's row.
	FinishRevocation(ctx context.Context, id, outcome string, at time.Time, t Trail) error
	// Revocations lists an environment's, newest first.
	Revocations(ctx context.Context, env EnvironmentID, limit int) ([]*Revocation, error)
}

// TrailStore keeps what changes leave behind.
type TrailStore interface {
	// AppendTrail writes audit lines and events that belong to no other change.
	AppendTrail(ctx context.Context, t Trail) error
	// Audit lists an environment's lines after a sequence number, oldest first.
	Audit(ctx context.Context, env EnvironmentID, after int64, limit int) ([]AuditEntry, error)
	// Events lists an environment's events after a sequence number, oldest first.
	Events(ctx context.Context, env EnvironmentID, after int64, limit int) ([]Event, error)
}

// DeliveryQueue is what waits for one endpoint.
type DeliveryQueue struct {
	Endpoint string
	NextAt   time.Time // of the next one that may be tried
}

// DeliveryResult is what came of an attempt.
type DeliveryResult struct {
	Number   int64
	Attempts int // as they were before: the guard against a result that comes too late
	At       time.Time
	Outcome  string    // empty: it is tried again
	NextAt   time.Time // when
	Status   int       // of the answer; zero: there was none
	Code     string    // why not, where the status does not say it
	Answer   string    // the beginning of a refusal
}

// DeliveryFilter selects deliveries; empty fields select all.
type DeliveryFilter struct {
	Environment EnvironmentID // required
	Outcome     string
	Before      int64 // numbers below this one; zero: all
	Limit       int   // zero: 100
}

// WebhookStore keeps where apps are told, and what is on its way there. Deliveries of one endpoint about one connection
// form a line, in the order of their commits: the first of them may be tried, and the others wait behind it.
type WebhookStore interface {
	// Webhooks lists those of all environments. There are few: they are read whole.
	Webhooks(ctx context.Context) ([]*Webhook, error)
	// SaveWebhook inserts one of revision zero, and replaces another if its revision is still w.Revision; it bumps it.
	// Conflict: the revision is another. NotFound: there is no such environment.
	SaveWebhook(ctx context.Context, w *Webhook, t Trail) error
	// DeliveryQueues lists the endpoints for which something waits, those that are being tried included.
	DeliveryQueues(ctx context.Context) ([]DeliveryQueue, error)
	// ClaimDelivery takes the endpoint's most overdue one and moves its NextAt to until, so that another claims it only if
	// this one dies; nil: none is due.
	ClaimDelivery(ctx context.Context, endpoint string, now, until time.Time) (*Delivery, error)
	// SettleDelivery counts an attempt and puts the delivery back, or ends it and lets the next of its line come forward.
	// NotFound: it has ended, or another attempt was counted.
	SettleDelivery(ctx context.Context, r DeliveryResult) error
	// DropStaleClaims makes due at once what a process that cannot be alive any more was trying.
	DropStaleClaims(ctx context.Context) (int, error)
	// Deliveries lists them, newest first.
	Deliveries(ctx context.Context, f DeliveryFilter) ([]*Delivery, error)
	// ReplayDeliveries puts ended ones at the front of what waits in their lines, as if they had never been tried. It
	// gives how many of the numbers were the environment's and had ended.
	ReplayDeliveries(ctx context.Context, env EnvironmentID, numbers []int64, at time.Time, t Trail) (int, error)
	// SweepDeliveries removes at most limit that ended with that outcome before then, and says how many.
	SweepDeliveries(ctx context.Context, outcome string, before time.Time, limit int) (int, error)
}

// WrappedKey is a data key as the store keeps it.
type WrappedKey struct {
	ID         uint32
	Wrapped    []byte   // sealed for the recipients
	Recipients []string // public
	Check      []byte   // proves that the key was opened with the right identity
	Active     bool     // seals what is new; exactly one is
	CreatedAt  time.Time
}

// KeyringStore keeps the wrapped data keys.
type KeyringStore interface {
	Keys(ctx context.Context) ([]WrappedKey, error)
	// AddKey inserts it; an active one takes that from the others. Conflict: the id exists.
	AddKey(ctx context.Context, k WrappedKey) error
}

// Reserve is what keeps a renewed token when the disk is full or the store fails for good.
type Reserve interface {
	// Free gives room to the store.
	Free() error
	// Refill takes the room back; it fails as long as there is none.
	Refill() error
	// Spill writes swaps to a durable file, ciphertext only.
	Spill(swaps []*Swap) error
	// Spilled reads what an earlier process spilled; done removes it.
	Spilled() (swaps []*Swap, done func() error, err error)
}

// Sealer seals, opens and derives. The associated data binds ciphertext to its place.
type Sealer interface {
	Seal(plaintext, associated []byte) ([]byte, error)
	Open(box, associated []byte) ([]byte, error)
	// MAC is stable as long as the keyring lives.
	MAC(label string, data []byte) [32]byte
	// NewState makes an OAuth state and the hash by which it is found.
	NewState() (state string, hash [32]byte)
	// CheckState refuses what NewState did not make, without looking anywhere.
	CheckState(state string) (hash [32]byte, ok bool)
	// NewAPIKey makes a key of an environment of that name, and its id.
	NewAPIKey(environment string) (key, id string)
}
