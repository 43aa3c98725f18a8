package connections

import (
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// The codes of this API. There are a few; X-Error-Code has the broker's own, which says more.
const (
	codeBadRequest = "BAD_REQUEST"
	codeNotFound   = "NOT_FOUND"
	codeInternal   = "INTERNAL_ERROR"
)

// refusal is a failure in this API's own words.
type refusal struct {
	cause   *broker.Error // what it is in the broker's words: the log and X-Error-Code go by it
	status  int
	code    string
	message string
}

func (r *refusal) Error() string { return r.cause.Error() }

// Unwrap gives the broker's error.
func (r *refusal) Unwrap() error { return r.cause }

// failure is the envelope.
type failure struct {
	Success bool          `json:"success"`
	Error   failureDetail `json:"error"`
}

type failureDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// fail writes a failure.
func fail(w http.ResponseWriter, _ *http.Request, err error) {
	var own *refusal
	if !errors.As(err, &own) {
		own = reword(broker.AsError(err))
	}
	_ = kit.WriteJSON(w, own.status, failure{Error: failureDetail{own.code, own.message}})
}

// badRequest refuses a request in these words.
func badRequest(cause *broker.Error, message string) error {
	return &refusal{cause: cause, status: http.StatusBadRequest, code: codeBadRequest, message: message}
}

// reword gives a broker's error the words of this API.
func reword(e *broker.Error) *refusal {
	out := &refusal{cause: e, status: kit.Status(e.Kind), message: sentence(e.Msg)}
	switch e.Kind {
	case broker.Internal:
		out.code = codeInternal
	case broker.Invalid, broker.Unprocessable:
		out.status, out.code = http.StatusBadRequest, codeBadRequest
		if e.Field != "" && !strings.Contains(e.Msg, e.Field) {
			out.message += ": " + shorten(e.Field)
		}
	case broker.Unauthenticated:
		out.code = "UNAUTHORIZED"
	case broker.Denied:
		out.code = "FORBIDDEN"
	case broker.NotFound:
		out.code = codeNotFound
		switch e.Field {
		case "connection":
			out.message = "Connection not found"
		case "integration":
			out.message = "Provider not found"
		}
	case broker.MethodNotAllowed:
		out.code = "METHOD_NOT_ALLOWED"
	case broker.Conflict:
		out.code = "CONFLICT"
	case broker.TooLarge:
		out.code = "PAYLOAD_TOO_LARGE"
	case broker.UnsupportedMedia:
		out.code = "UNSUPPORTED_MEDIA_TYPE"
	case broker.RateLimited:
		out.code = "RATE_LIMITED"
	case broker.BadGateway:
		out.code = "BAD_GATEWAY"
	case broker.Unavailable:
		out.code = "SERVICE_UNAVAILABLE"
	case broker.Timeout:
		out.code = "GATEWAY_TIMEOUT"
	}
	return out
}

// sentence begins a message with a capital, as this API's messages do.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:]
}

// shorten cuts a stranger's text.
func shorten(s string) string { return s[:min(len(s), 100)] }
