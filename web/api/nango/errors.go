package nango

import (
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// issue says what is wrong with one value, as the original's validation library does. Indexes in a path are strings.
type issue struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Path    []string `json:"path"`
}

// refusal is a failure in this API's own words.
type refusal struct {
	cause   *broker.Error // what it is in the broker's words: the log and X-Error-Code go by it
	status  int
	code    string
	message string
	issues  []issue
	payload any // nil: none
	method  string
	path    string
}

func (r *refusal) Error() string { return r.cause.Error() }

// Unwrap gives the broker's error.
func (r *refusal) Unwrap() error { return r.cause }

// failure is the envelope. Members appear only where the contract has them.
type failure struct {
	Error failureDetail `json:"error"`
}

type failureDetail struct {
	Code    string  `json:"code"`
	Message string  `json:"message,omitempty"`
	Errors  []issue `json:"errors,omitempty"`
	Payload any     `json:"payload,omitzero"`
	Method  string  `json:"method,omitempty"`
	Path    string  `json:"path,omitempty"`
}

// fail writes a failure.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	var own *refusal
	if !errors.As(err, &own) {
		own = reword(r, broker.AsError(err))
	}
	_ = kit.WriteJSON(w, own.status, failure{failureDetail{
		Code: own.code, Message: own.message, Errors: own.issues, Payload: own.payload, Method: own.method, Path: own.path,
	}})
}

// Which part of a request an issue is about.
const (
	inBody  = "invalid_body"
	inQuery = "invalid_query_params"
	inPath  = "invalid_uri_params"
)

// invalid refuses a request for its issues.
func invalid(part string, issues []issue) error {
	cause := broker.ErrInvalidRequest
	for _, i := range issues {
		if i.Code == codeUnrecognized {
			cause = broker.ErrUnknownField
		}
	}
	return &refusal{cause: cause, status: http.StatusBadRequest, code: part, issues: issues}
}

// invalidBody refuses a body for a reason that is no single value's.
func invalidBody(cause *broker.Error, message string) error {
	return &refusal{cause: cause, status: http.StatusBadRequest, code: inBody, message: message}
}

// called gives the broker's error another name.
func called(err *broker.Error, status int, code string) error {
	return &refusal{cause: err, status: status, code: code, message: err.Msg}
}

// missing rewords not_found, which this API calls differently at almost every endpoint. An empty name leaves it.
func missing(err error, status int, integration, connection string) error {
	e := broker.AsError(err)
	if !errors.Is(e, broker.ErrNotFound) {
		return err
	}
	code := connection
	if e.Field == "integration" {
		code = integration
	}
	if code == "" {
		return err
	}
	return called(e, status, code)
}

// answers are the codes and statuses that the contract has for the broker's errors wherever they happen.
var answers = map[string]struct {
	status int
	code   string
}{
	broker.ErrInsufficientScope.Code:  {http.StatusForbidden, "forbidden"},
	broker.ErrInvalidRequest.Code:     {http.StatusBadRequest, inBody},
	broker.ErrUnknownField.Code:       {http.StatusBadRequest, inBody},
	broker.ErrInvalidQuery.Code:       {http.StatusBadRequest, inQuery},
	broker.ErrUnsupportedMedia.Code:   {http.StatusUnsupportedMediaType, "invalid_content_type"},
	broker.ErrRateLimited.Code:        {http.StatusTooManyRequests, "too_many_request"},
	broker.ErrUnreadable.Code:         {http.StatusInternalServerError, "server_error"},
	broker.ErrStorageUnavailable.Code: {http.StatusServiceUnavailable, "server_error"},
	broker.ErrStorageBusy.Code:        {http.StatusServiceUnavailable, "server_error"},
}

// reword gives a broker's error the words of this API. What the contract has no word for keeps the broker's.
func reword(r *http.Request, e *broker.Error) *refusal {
	switch {
	case e.Kind == broker.Unauthenticated:
		return unauthenticated(e)
	case errors.Is(e, broker.ErrInternal):
		return unexpected(r, e)
	case e.Field != "" && (e.Kind == broker.Invalid || e.Kind == broker.Unprocessable):
		return &refusal{cause: e, status: http.StatusBadRequest, code: inBody, issues: []issue{custom(e.Msg, e.Field)}}
	}
	out := &refusal{cause: e, status: kit.Status(e.Kind), code: e.Code, message: e.Msg}
	if known, ok := answers[e.Code]; ok {
		out.status, out.code = known.status, known.code
	}
	if errors.Is(e, broker.ErrRateLimited) {
		out.message, out.method, out.path = "", r.Method, kit.LogPath(r.URL.Path)
	}
	return out
}

// custom is the issue of a rule that is not about a value's form. The broker names fields with dots; only the first
// separates, since integration keys can hold more of them.
func custom(message, field string) issue {
	return issue{Code: "custom", Message: message, Path: strings.SplitN(field, ".", 2)}
}

// unauthenticated tells apart what callers can tell apart anyway: which keys exist stays unsaid. Its payload is always
// there and always empty.
func unauthenticated(e *broker.Error) *refusal {
	code := "unknown_account"
	switch {
	case errors.Is(e, kit.ErrNoToken):
		code = "missing_public_key"
	case errors.Is(e, kit.ErrNoCredential):
		code = "missing_auth_header"
	case errors.Is(e, kit.ErrEmptyCredential):
		code = "malformed_auth_header"
	case errors.Is(e, kit.ErrNotAKey):
		code = "invalid_secret_key_format"
	case errors.Is(e, kit.ErrNotASession):
		code = "invalid_connect_session_token_format"
	case errors.Is(e, broker.ErrSessionInvalid), errors.Is(e, broker.ErrSessionExpired):
		code = "unknown_connect_session_token"
	case errors.Is(e, broker.ErrDeprecatedAuth):
		code = e.Code
	}
	return &refusal{cause: e, status: http.StatusUnauthorized, code: code, message: e.Msg, payload: struct{}{}}
}

// unexpected tells nothing but an id by which the log has more.
func unexpected(r *http.Request, e *broker.Error) *refusal {
	id := kit.RequestID(r)
	if id == "" {
		id = uuid.NewString()
	}
	return &refusal{
		cause: e, status: http.StatusInternalServerError, code: "generic_error_support",
		message: "something went wrong on our side; give support this id: \"" + id + "\"", payload: id,
	}
}
