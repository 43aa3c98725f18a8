package broker

import "time"

// Sealed is ciphertext that opens only in the row, column and version that it was made for.
type Sealed []byte

// Credential is what a connection holds now.
type Credential struct {
	Connection ConnectionID
	Version    int64  // bumped by every new token; the guard of concurrent renewals
	Type       string // OAUTH2, OAUTH2_CC, API_KEY, BASIC, NONE, ...
	Origins    string // where it may be sent: see originsOf; kept by renewals, and part of what its seals are bound to
	Access     Sealed // access token or API key
	Refresh    Sealed // refresh token; kept for a while when a grant is lost, so that it can be tried again
	Details    Sealed // JSON object of other secrets: user name and password, client override, secret config
	Answer     Sealed // the provider's last answer as it came
	ObtainedAt time.Time
	ExpiresAt  time.Time // of the access token; zero: unknown or never
	// RefreshExpiresAt is the end of the refresh token, where the provider tells it.
	RefreshExpiresAt time.Time
	RefreshAt        time.Time // when to renew it in the background; zero: never
	RefreshedAt      time.Time // last renewal
	Failures         int       // renewals that failed since the last success
	FailedAt         time.Time // the last of them
	FailingSince     time.Time // the first of them
	FailCode         string
	EraseAt          time.Time // when the tokens of a lost grant are to be erased; zero: they are kept

	// The lease: who is renewing it, until when, and since when an attempt has been under way. An attempt without an
	// outcome stays here when its owner dies.
	LeaseOwner string
	LeaseUntil time.Time
	Fence      int64 // rises with every lease
	AttemptAt  time.Time
}

// isLost reports whether the grant is gone as far as anybody knows: a renewal failed, and none is planned.
func (c *Credential) isLost() bool { return c.Failures > 0 && c.RefreshAt.IsZero() }

// hasExpired reports whether the access token has run out.
func (c *Credential) hasExpired(now time.Time) bool {
	return !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt)
}

// Material is a credential in the clear. It exists in memory, in broker and providers, and nowhere else.
type Material struct {
	Type             string
	Access           Secret
	Refresh          Secret
	Details          map[string]Secret
	Answer           Secret // JSON
	ExpiresAt        time.Time
	RefreshExpiresAt time.Time
	Scopes           []string // granted, where the provider says so; nil: unknown
}

// Revocation is a job: end a grant at its provider. The sealed fields are the dead credential's own, moved here by the
// store, and bound as they were to its connection and version.
type Revocation struct {
	ID          string
	Environment EnvironmentID
	Integration IntegrationID
	Connection  ConnectionID
	Version     int64
	Type        string
	Origins     string
	Access      Sealed
	Refresh     Sealed
	Details     Sealed
	Config      []byte
	AccountHash []byte
	Attempts    int           // that reached the provider, or tried to
	Waited      time.Duration // put off because the provider was not to be asked
	CreatedAt   time.Time
	NextAt      time.Time // when to try; while one is trying, when to try again should it die
	DoneAt      time.Time // zero: not yet
	Outcome     string    // revoked, unsupported, shared_grant, gave_up
}

// How a revocation can end.
const (
	OutcomeRevoked     = "revoked"
	OutcomeUnsupported = "unsupported"
	OutcomeSharedGrant = "shared_grant"
	OutcomeGaveUp      = "gave_up"
)
