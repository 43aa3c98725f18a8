package providertest

import "time"

// Knobs is how the provider behaves. The zero value is a provider without oddities, whose tokens last an hour.
type Knobs struct {
	// Lifetime is what expires_in says; zero: an hour.
	Lifetime time.Duration
	// Rotate gives a new refresh token with each renewal. The old one may be used again for Grace, with the same result;
	// after that its use revokes the whole family.
	Rotate bool
	Grace  time.Duration
	// NoRefreshToken leaves refresh tokens out.
	NoRefreshToken bool
	// Now is the provider's clock; nil: time.Now.
	Now func() time.Time

	// How token answers look.

	NoExpiresIn     bool
	ExpiresInString bool   // "3600"
	ExpiresInFloat  bool   // 3600.5
	ExpiresIn       string // written as it is; for what is no number
	FormAnswers     bool   // form-encoded in place of JSON
	ContentType     string // in place of the right one
	Nested          string // the object that the token stands in, such as authed_user
	ErrorIn200      bool   // errors are 200 with {"ok": false, "error": ...}
	DuplicateKeys   bool   // access_token stands there twice
	WrongCase       bool   // Access_Token
	Oversized       bool   // the answer has more than 256 KiB
	NoToken         bool   // 200 and an object without a token

	// What happens in place of an answer. The request is counted all the same.

	Error      string        // every token request is refused with this code
	Status     int           // every token request is answered with this status and a page of HTML
	RetryAfter string        // the header, with Status or Error
	Stall      bool          // token requests wait for Release
	HangUp     bool          // the provider does what it is asked, then closes the connection without an answer
	HangUpMid  bool          // it closes the connection in the middle of the answer
	Slow       time.Duration // token requests take this long
	Redirect   int           // token, revocation, API and identity requests are redirected to the collector with this status

	// Authorization.

	Deny    bool // the consent is refused
	NoIss   bool // the answer does not name the issuer
	Account string
	// API refuses every bearer with this status; zero: it checks them.
	API int
}

// Counts is what the provider was asked and what came of it.
type Counts struct {
	Authorizations    int
	Tokens            int // token requests, whatever came of them
	Exchanges         int // of these, by the grant that they asked for
	Refreshes         int
	ClientCredentials int
	Issued            int // tokens given, hung up or not
	Reuses            int // uses of a refresh token that had been used
	FamiliesRevoked   int // families that ended because of them
	Revocations       int
	Identities        int
	API               int
	Collected         int // requests that followed a redirect to the collector
}

// TokenRequest is one request to the token endpoint as it came.
type TokenRequest struct {
	Grant         string
	Authorization string // the header
	ContentType   string
	Query         string
	Body          string
}
