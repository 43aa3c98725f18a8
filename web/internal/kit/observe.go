package kit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
)

// Event is what is known of a request. It is filled on the way and written as one log line at the end. It belongs to the
// request's goroutine.
type Event struct {
	// ID is random and given out in X-Request-Id. It is never taken from the request, so that nobody can make two
	// requests look like one.
	ID string
	// IP is the client's address, as far as the trusted proxies can be believed; the zero Addr if it cannot be told.
	IP netip.Addr

	attrs []slog.Attr
	level slog.Level
}

type eventKey struct{}

// EventOf gives the request's event. A request that came by no [Observer] has an empty one.
func EventOf(r *http.Request) *Event {
	if e, ok := r.Context().Value(eventKey{}).(*Event); ok {
		return e
	}
	return &Event{}
}

// RequestID gives the request's id.
func RequestID(r *http.Request) string { return EventOf(r).ID }

// Note adds ids to the request's log line: never a secret, and nothing of a query, header or body.
func (e *Event) Note(attrs ...slog.Attr) { e.attrs = append(e.attrs, attrs...) }

// Failed notes a refusal. The cause is logged only where the request is not to blame: elsewhere it says nothing new.
func (e *Event) Failed(err *broker.Error) {
	e.Note(slog.String("code", err.Code))
	switch Status(err.Kind) {
	case http.StatusInternalServerError:
		e.level = slog.LevelError
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.level = slog.LevelWarn
	default:
		return
	}
	if err.Err != nil {
		e.Note(slog.String("error", err.Err.Error()))
	}
}

// came notes who sends the request.
func (e *Event) came(who broker.Actor) {
	if who.Environment != "" {
		e.Note(slog.String("environment", string(who.Environment)))
	}
	if who.Key != "" {
		e.Note(slog.String("key", string(who.Key)))
	}
	if who.Session != "" {
		e.Note(slog.String("session", string(who.Session)))
	}
}

// Observer is the outermost wrapper of everything but the proxy, which does the same by cheaper means.
type Observer struct {
	Logger  *slog.Logger
	Proxies Proxies // whose X-Forwarded-For is believed
	Secure  bool    // the public URL is https
}

// How long a request may take to arrive, and its answer to leave.
const (
	readTimeout  = 30 * time.Second
	writeTimeout = 60 * time.Second
)

// hsts is a year, in seconds, as the Strict-Transport-Security header has it.
const hsts = "max-age=31536000"

// Wrap gives each request an id, an address, safe headers and a log line, and turns a panic into an answer.
func (o *Observer) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		e := &Event{ID: uuid.NewString(), IP: o.Proxies.ClientIP(r)}
		rec := &recorder{ResponseWriter: w}
		deadlines(rec, start)
		o.headers(rec.Header(), e.ID)
		r = r.WithContext(context.WithValue(r.Context(), eventKey{}, e))
		defer o.log(e, rec, r, start)
		defer survive(rec, r, nil)
		next.ServeHTTP(rec, r)
	})
}

// deadlines bounds how long the request may hold its connection, a body included that nobody reads. Where there is no
// connection, in tests, there is nothing to bound.
func deadlines(w http.ResponseWriter, now time.Time) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(now.Add(readTimeout))
	_ = c.SetWriteDeadline(now.Add(writeTimeout))
}

// headers sets what every answer has unless its handler knows better. Nothing is stored by default: most answers hold a
// credential or depend on one.
func (o *Observer) headers(h http.Header, id string) {
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	if o.Secure {
		h.Set("Strict-Transport-Security", hsts)
	}
}

func (o *Observer) log(e *Event, rec *recorder, r *http.Request, start time.Time) {
	took := time.Since(start)
	attrs := append([]slog.Attr{
		slog.String("request_id", e.ID),
		slog.String("method", cut(r.Method, 16)),
		slog.String("path", LogPath(r.URL.Path)),
		slog.Int("status", rec.answered()),
		slog.Int64("bytes", rec.bytes),
		slog.Float64("ms", float64(took.Microseconds())/1000),
	}, e.attrs...)
	o.Logger.LogAttrs(r.Context(), e.level, "request", attrs...)
}

// Secrets that somebody may put into a path: connect tokens, which links carry, and API keys.
var secretInPath = regexp.MustCompile(`(` + SessionPrefix + `|` + keyPrefix + `)[^/]*`)

// LogPath gives a path as it may be logged: without secrets, and not at any length.
func LogPath(path string) string {
	return cut(secretInPath.ReplaceAllString(path, "${1}[masked]"), 512)
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// survive turns a panic into an internal failure. It is deferred. What has already begun to be answered is cut off
// instead, so that nobody takes a part for the whole; so is what a handler itself aborts.
func survive(rec *recorder, r *http.Request, write func(http.ResponseWriter, *http.Request, error)) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	e := EventOf(r)
	e.Note(slog.String("stack", string(debug.Stack())))
	err := broker.ErrInternal.Because(fmt.Errorf("panic of type %T", p))
	if rec.status != 0 {
		e.Failed(err)
		panic(http.ErrAbortHandler)
	}
	fail(rec, r, write, err)
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int // 0: nothing yet
	bytes  int64
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// answered is the status for the log: an empty answer is 200, as net/http has it.
func (w *recorder) answered() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}
