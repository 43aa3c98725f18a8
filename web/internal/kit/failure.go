package kit

import (
	"net/http"
	"strconv"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// HeaderErrorCode carries the broker's own code of a refused request, whatever the surface's contract calls it.
const HeaderErrorCode = "X-Error-Code"

// Status gives the HTTP status of a kind of failure, for surfaces whose contract names no other.
func Status(k broker.Kind) int {
	switch k {
	case broker.Internal:
		return http.StatusInternalServerError
	case broker.Invalid:
		return http.StatusBadRequest
	case broker.Unauthenticated:
		return http.StatusUnauthorized
	case broker.Denied:
		return http.StatusForbidden
	case broker.NotFound:
		return http.StatusNotFound
	case broker.MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case broker.Conflict:
		return http.StatusConflict
	case broker.TooLarge:
		return http.StatusRequestEntityTooLarge
	case broker.UnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case broker.Unprocessable:
		return http.StatusUnprocessableEntity
	case broker.RateLimited:
		return http.StatusTooManyRequests
	case broker.BadGateway:
		return http.StatusBadGateway
	case broker.Unavailable:
		return http.StatusServiceUnavailable
	case broker.Timeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// envelope is how the broker itself tells a failure.
type envelope struct {
	Error struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		RequestID string `json:"request_id"`
	} `json:"error"`
}

// Fail writes a failure in the broker's own envelope.
func Fail(w http.ResponseWriter, r *http.Request, err error) {
	e := broker.AsError(err)
	var out envelope
	out.Error.Code, out.Error.Message, out.Error.RequestID = e.Code, e.Msg, RequestID(r)
	_ = WriteJSON(w, Status(e.Kind), out)
}

// fail notes the failure in the request's log line, sets the headers that all surfaces share, and lets the surface
// write the rest.
func fail(w http.ResponseWriter, r *http.Request, write func(http.ResponseWriter, *http.Request, error), err error) {
	e := broker.AsError(err)
	EventOf(r).Failed(e)
	h := w.Header()
	h.Set(HeaderErrorCode, e.Code)
	// What a handler had prepared for success does not belong to a failure.
	h.Del("Content-Length")
	h.Set("Cache-Control", "no-store")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", seconds(e.RetryAfter))
	}
	if write == nil {
		write = Fail
	}
	write(w, r, err)
}

// seconds rounds up, so that nobody comes back too early.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
