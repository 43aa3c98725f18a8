package broker

import (
	"errors"
	"log/slog"
	"time"
)

// Kind sorts failures by what a caller can do about them. It is closed: adapters switch over it
// without a default, so that a new kind does not go unnoticed.
type Kind int

// The kinds, with the HTTP status that an adapter without a contract of its own gives them.
const (
	Internal         Kind = iota // 500: ours, nothing the caller can do
	Invalid                      // 400: the request is wrong
	Unauthenticated              // 401: who is asking is unknown
	Denied                       // 403: known, and not allowed
	NotFound                     // 404: not there, or another environment's
	MethodNotAllowed             // 405
	Conflict                     // 409: right request, wrong moment
	TooLarge                     // 413
	UnsupportedMedia             // 415
	Unprocessable                // 422: well formed, and refused by a rule
	RateLimited                  // 429: later
	BadGateway                   // 502: the provider or the way to it
	Unavailable                  // 503: later, nothing is lost
	Timeout                      // 504
)

// Error is a failure its caller may act on. Every other error is Internal.
type Error struct {
	Kind       Kind
	Code       string        // published and stable; all are declared below
	Msg        string        // safe to show to a stranger
	Field      string        // the input that is wrong, where one is
	RetryAfter time.Duration // when to come back; zero: unknown
	Err        error         // the cause: for the log, never for the wire
}

// Error gives the code and the message, and never the cause: a cause may name hosts and addresses.
func (e *Error) Error() string { return e.Code + ": " + e.Msg }

// Explain gives an error's text together with the causes that [Error] keeps back: for the log and the operator's terminal.
func Explain(err error) string {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Err == nil {
		return err.Error()
	}
	return err.Error() + ": " + Explain(e.Err)
}

// because is an error in a log line.
func because(err error) slog.Attr { return slog.String("error", Explain(err)) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches by code, so that errors.Is(err, ErrNotFound) holds for every not_found.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// Because returns a copy of e with its cause.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.Err = cause
	return &c
}

// Saying returns a copy of e with another message, which must be safe to show to a stranger.
func (e *Error) Saying(msg string) *Error {
	c := *e
	c.Msg = msg
	return &c
}

// On returns a copy of e that names the wrong input.
func (e *Error) On(field string) *Error {
	c := *e
	c.Field = field
	return &c
}

// After returns a copy of e that says when to come back.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// AsError gives err as an [*Error]; an unknown one becomes internal with err as its cause.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return ErrInternal.Because(err)
}

// Every code that a refused request can have. Callers match on the code; the message may change.
var (
	ErrStateInvalid       = declare(Invalid, "state_invalid", "this sign-in link is not one of ours, or it is damaged")
	ErrStateExpired       = declare(Invalid, "state_expired", "this sign-in took longer than ten minutes and has ended")
	ErrContextMismatch    = declare(Invalid, "context_mismatch", "the answer came back on another integration's address")
	ErrIssuerMismatch     = declare(Invalid, "issuer_mismatch", "the answer came from another authorization server")
	ErrCallbackInvalid    = declare(Invalid, "callback_invalid", "the provider's answer is malformed")
	ErrProviderDenied     = declare(Invalid, "provider_denied", "access was not granted")
	ErrProviderError      = declare(Invalid, "provider_error", "the provider answered with an error")
	ErrInvalidRequest     = declare(Invalid, "invalid_request", "the request is not valid")
	ErrInvalidJSON        = declare(Invalid, "invalid_json", "the body is not one JSON object")
	ErrUnknownField       = declare(Invalid, "unknown_field", "the body has a field that does not exist")
	ErrCursorInvalid      = declare(Invalid, "cursor_invalid", "the page cursor is not one of ours")
	ErrInvalidPath        = declare(Invalid, "invalid_path", "the path is not allowed")
	ErrInvalidQuery       = declare(Invalid, "invalid_query", "the query string is malformed")
	ErrReservedHeader     = declare(Invalid, "reserved_header", "the provider's authentication sets this header")
	ErrReservedParam      = declare(Invalid, "reserved_param", "the provider's authentication sets this query parameter")
	ErrBaseURLNotAllowed  = declare(Invalid, "base_url_not_allowed", "the integration does not allow this host")
	ErrReturnURLRefused   = declare(Invalid, "return_url_not_allowed", "the return URL is not on the environment's list")
	ErrCredentialInURL    = declare(Invalid, "credential_in_url", "a credential must not stand in a URL; send it in a header or the body, and replace it")
	ErrUpgradeRefused     = declare(Invalid, "upgrade_not_supported", "protocol upgrades are not proxied")
	ErrNotSupported       = declare(Invalid, "not_supported", "this is not supported")
	ErrTestFailed         = declare(Invalid, "connection_test_failed", "the provider refused these credentials")
	ErrUnauthorized       = declare(Unauthenticated, "unauthorized", "the API key is missing or not valid")
	ErrSessionInvalid     = declare(Unauthenticated, "session_invalid", "the connect session is not known")
	ErrSessionExpired     = declare(Unauthenticated, "session_expired", "the connect session has expired")
	ErrDeprecatedAuth     = declare(Unauthenticated, "deprecated_authentication", "public keys are not accepted; make a connect session")
	ErrBrowserMismatch    = declare(Denied, "browser_mismatch", "this sign-in was started in another browser")
	ErrUserMismatch       = declare(Denied, "user_mismatch", "the connection belongs to another user")
	ErrIntegrationRefused = declare(Denied, "integration_not_allowed", "the connect session does not allow this integration")
	ErrInsufficientScope  = declare(Denied, "insufficient_scope", "the API key does not hold the scope that this needs")
	ErrOriginRefused      = declare(Denied, "origin_not_allowed", "pages of this origin may not do this")
	ErrCSRF               = declare(Denied, "csrf", "this form was not sent from our own page")
	ErrNotFound           = declare(NotFound, "not_found", "there is no such object")
	ErrMethodNotAllowed   = declare(MethodNotAllowed, "method_not_allowed", "this address does not take that method")
	ErrStateUsed          = declare(Conflict, "state_used", "this sign-in was already finished")
	ErrSessionCompleted   = declare(Conflict, "session_completed", "this connect session was already used for this integration")
	ErrManagedByConfig    = declare(Conflict, "managed_by_config", "the configuration file declares this object; change it there")
	ErrAccountMismatch    = declare(Conflict, "account_mismatch", "another account was connected than before")
	ErrConnectionPending  = declare(Conflict, "connection_pending", "the connection is not authorized yet")
	ErrNeedsReauth        = declare(Conflict, "needs_reauth", "the end user has to connect again")
	ErrConflict           = declare(Conflict, "conflict", "an object of that name exists, or it has just been changed by somebody else")
	ErrBodyTooLarge       = declare(TooLarge, "body_too_large", "the body is too large")
	ErrUnsupportedMedia   = declare(UnsupportedMedia, "unsupported_media_type", "the content type is not supported here")
	ErrRateLimited        = declare(RateLimited, "rate_limited", "too many requests")
	ErrProviderURLInvalid = declare(Unprocessable, "provider_url_invalid", "the provider's address must be https")
	ErrURLNotAllowed      = declare(Unprocessable, "url_not_allowed", "this address must not be contacted")
	ErrVariableInvalid    = declare(Unprocessable, "variable_invalid", "the value does not have the form that the provider needs")
	ErrPKCEUnsupported    = declare(Unprocessable, "pkce_unsupported", "this server does not say that it protects sign-ins with PKCE (S256), so none is begun")
	ErrResourceMismatch   = declare(Unprocessable, "resource_mismatch", "this server's metadata is about another server")
	ErrSecretRequired     = declare(Unprocessable, "secret_required", "the address changes, so the secret has to be sent again")
	ErrInternal           = declare(Internal, "internal", "something went wrong on our side")
	ErrUnreadable         = declare(Internal, "credential_unreadable", "the stored credential cannot be opened")
	ErrExchangeFailed     = declare(BadGateway, "exchange_failed", "the provider did not give a token; please start again")
	ErrEgressBlocked      = declare(BadGateway, "egress_blocked", "the provider's address must not be contacted")
	ErrUnreachable        = declare(BadGateway, "provider_unreachable", "the provider could not be reached")
	ErrProviderDown       = declare(Unavailable, "provider_unavailable", "the provider does not answer at the moment")
	ErrStorageUnavailable = declare(Unavailable, "storage_unavailable", "the change could not be stored; nothing was changed")
	ErrStorageBusy        = declare(Unavailable, "storage_busy", "the database is busy; nothing was changed").After(time.Second)
	ErrMisconfigured      = declare(Unavailable, "misconfigured", "the provider refuses this integration's client")
	ErrRenewalPaused      = declare(Unavailable, "renewal_paused", "tokens are not renewed here until the operator of this service has adopted its store")
	ErrRefreshTimeout     = declare(Timeout, "refresh_timeout", "the token is still being renewed")
	ErrProviderTimeout    = declare(Timeout, "provider_timeout", "the provider did not answer in time")
)

// ErrIssuerUnexpected is issuer_mismatch before the browser has left: a server's metadata names another issuer than it must.
var ErrIssuerUnexpected = &Error{
	Kind: Unprocessable, Code: ErrIssuerMismatch.Code, Msg: "this server's metadata names another authorization server than it must",
}

// declared is every error above, in the order of declaration.
var declared []*Error

func declare(kind Kind, code, msg string) *Error {
	e := &Error{Kind: kind, Code: code, Msg: msg}
	declared = append(declared, e)
	return e
}

// DeclaredErrors lists every error that a refused request can have, so that an adapter can be tested with all of them.
func DeclaredErrors() []*Error { return append([]*Error(nil), declared...) }
