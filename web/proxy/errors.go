package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// refusal is a failure in the words of the API that callers know.
type refusal struct {
	cause   *broker.Error // in the broker's words: X-Error-Code and the log go by it
	status  int
	code    string
	message string
	issues  []issue
	payload any    // nil: none
	method  string // of the failures that tell it
	path    string
	flat    bool // without the envelope, as network failures are
}

// Error gives the broker's code and message.
func (r *refusal) Error() string { return r.cause.Error() }

// Unwrap gives the broker's error.
func (r *refusal) Unwrap() error { return r.cause }

// detail is what a failure tells. Members appear only where the contract has them.
type detail struct {
	Code    string  `json:"code"`
	Message string  `json:"message,omitempty"`
	Errors  []issue `json:"errors,omitempty"`
	Payload any     `json:"payload,omitzero"`
	Method  string  `json:"method,omitempty"`
	Path    string  `json:"path,omitempty"`
}

type envelope struct {
	Error detail `json:"error"`
}

// ofCertificate rewords what is wrong with a client certificate or its key; other errors are as they were.
func ofCertificate(err error) error {
	e := broker.AsError(err)
	if !errors.Is(e, broker.ErrVariableInvalid) || e.Field != "client_certificate" && e.Field != "client_private_key" {
		return err
	}
	return &refusal{cause: e, status: http.StatusBadRequest, code: "invalid_certificate_or_key_format", message: e.Msg}
}

// refuse answers with a failure.
func (c *call) refuse(err error) {
	c.transit = false
	if c.result != nil {
		c.handBack(err)
		return
	}
	r := c.reword(err)
	c.code = r.cause.Code
	h := c.w.Header()
	protect(h)
	h["Cache-Control"] = noStore
	h["X-Error-Source"] = byBroker
	h["X-Request-Id"] = []string{c.requestID()}
	h[kit.HeaderErrorCode] = []string{r.cause.Code}
	if after := r.cause.RetryAfter; after > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(int64((after+time.Second-1)/time.Second), 10)}
	}
	if r.status >= http.StatusInternalServerError && r.cause.Err != nil {
		c.h.log.LogAttrs(c.in.Context(), slog.LevelError, "a proxied call failed",
			slog.String("request_id", c.requestID()), slog.String("code", r.cause.Code), slog.String("error", r.cause.Err.Error()))
	}
	d := detail{Code: r.code, Message: r.message, Errors: r.issues, Payload: r.payload, Method: r.method, Path: r.path}
	if r.flat {
		_ = kit.WriteJSON(c, r.status, d)
		return
	}
	_ = kit.WriteJSON(c, r.status, envelope{d})
}

// invalidHeaders refuses a request for its control headers.
func invalidHeaders(issues []issue) error {
	return &refusal{cause: broker.ErrInvalidRequest, status: http.StatusBadRequest, code: "invalid_headers", issues: issues}
}

// unanswered tells that a call brought no answer. An address that must not be reached is a matter of the base URL; for
// the rest the API has a form of its own, in which each of our codes is one of Node's.
func (c *call) unanswered(e *broker.Error) error {
	out := &refusal{
		cause: &broker.Error{Kind: e.Kind, Code: e.Code, Msg: e.Msg}, status: http.StatusInternalServerError,
		code: "ECONNREFUSED", message: e.Msg, method: strings.ToLower(c.in.Method), flat: true,
	}
	switch {
	case errors.Is(e, broker.ErrEgressBlocked):
		return &refusal{cause: out.cause, status: http.StatusBadRequest, code: "base_url_override_not_allowed", message: e.Msg}
	case errors.Is(e, broker.ErrProviderTimeout):
		out.code = "ETIMEDOUT"
	}
	return out
}

// answers are the codes and statuses that the contract has for the broker's errors.
var answers = map[string]struct {
	status int
	code   string
}{
	broker.ErrInsufficientScope.Code: {http.StatusForbidden, "forbidden"},
	broker.ErrBaseURLNotAllowed.Code: {http.StatusBadRequest, "base_url_override_not_allowed"},
	broker.ErrRateLimited.Code:       {http.StatusTooManyRequests, "too_many_request"},
	// Until its first success a connection is unknown to this API.
	broker.ErrConnectionPending.Code: {http.StatusBadRequest, "server_error"},
	// Nothing was tried: it is known that the end user has to connect again.
	broker.ErrNeedsReauth.Code:        {http.StatusFailedDependency, "server_error"},
	broker.ErrUnreadable.Code:         {http.StatusInternalServerError, "server_error"},
	broker.ErrStorageUnavailable.Code: {http.StatusServiceUnavailable, "server_error"},
	broker.ErrStorageBusy.Code:        {http.StatusServiceUnavailable, "server_error"},
}

// reword gives an error the words of the API. What the contract has no word for keeps the broker's.
func (c *call) reword(err error) *refusal {
	var own *refusal
	if errors.As(err, &own) {
		return own
	}
	var failed *broker.RefreshError
	if errors.As(err, &failed) && failed.Err.Kind != broker.Internal {
		return refreshFailed(failed)
	}
	e := broker.AsError(err)
	out := &refusal{cause: e, status: kit.Status(e.Kind), code: e.Code, message: e.Msg}
	switch {
	case e.Kind == broker.Unauthenticated:
		out.code, out.payload = unauthenticated(e), struct{}{}
	case errors.Is(e, broker.ErrNotFound) && e.Field == "integration":
		out.code = "unknown_provider_config"
	case errors.Is(e, broker.ErrNotFound):
		out.status, out.code, out.message = http.StatusBadRequest, "server_error", "Failed to get connection"
	case errors.Is(e, broker.ErrInternal):
		out.code, out.payload = "generic_error_support", c.requestID()
		out.message = "something went wrong on our side; give support this id: \"" + c.requestID() + "\""
	case e.Kind == broker.Unprocessable:
		out.status = http.StatusBadRequest // a mistake in the connection's own settings
	}
	if known, ok := answers[e.Code]; ok {
		out.status, out.code = known.status, known.code
	}
	if errors.Is(e, broker.ErrRateLimited) {
		out.message, out.method, out.path = "", c.in.Method, prefix+strings.TrimPrefix(c.loggedPath(), prefix)
	}
	if e.Field != "" && e.Kind == broker.Invalid {
		out.message += ": " + e.Field
	}
	return out
}

// refreshFailed tells that the credential has run out and could not be renewed. 424 means that it was not even tried,
// and the code tells a pause after a failure from a grant that is gone.
func refreshFailed(f *broker.RefreshError) *refusal {
	out := &refusal{
		cause: f.Err, status: http.StatusBadRequest, code: "server_error",
		message: "Failed to get connection credentials: '" + f.Err.Msg + "'",
	}
	switch {
	case errors.Is(f.Err, broker.ErrStorageUnavailable), errors.Is(f.Err, broker.ErrStorageBusy):
		out.status, out.message = http.StatusServiceUnavailable, f.Err.Msg
	case f.Attempted && f.Unreadable():
		out.status = http.StatusInternalServerError
	case f.Attempted:
	case errors.Is(f.Err, broker.ErrNeedsReauth):
		out.status = http.StatusFailedDependency
	default:
		out.status, out.code = http.StatusFailedDependency, "connection_refresh_backoff"
	}
	return out
}

// unauthenticated tells apart what callers can tell apart anyway: which keys exist stays unsaid.
func unauthenticated(e *broker.Error) string {
	switch {
	case errors.Is(e, kit.ErrNoCredential):
		return "missing_auth_header"
	case errors.Is(e, kit.ErrEmptyCredential):
		return "malformed_auth_header"
	case errors.Is(e, kit.ErrNotAKey):
		return "invalid_secret_key_format"
	}
	return "unknown_account"
}

// kindOf names an error's type.
func kindOf(err error) string { return fmt.Sprintf("%T", err) }
