package providers

import (
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/coatcheck/coatcheck/broker"
)

// Codes of ours, for failures that have none of the provider's.
const (
	codeNoToken   = "no_token"
	codeBadAnswer = "bad_answer"
	codeTooLarge  = "answer_too_large"
	codeRedirect  = "unexpected_redirect"
	codeHTTP      = "http_" // and the status
)

// clientCodes say that the client is refused, whoever's grant it asked about (RFC 6749 section 5.2).
var clientCodes = []string{"invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type"}

// passingCodes say that the provider cannot answer now, in answers that an entry's predicate took for an error.
var passingCodes = []string{
	"temporarily_unavailable", "server_error", "slow_down", "ratelimited", "rate_limited", "internal_error", "fatal_error",
	"service_unavailable", "request_timeout", "too_many_requests",
}

// verdict is what an answer says of an error.
type verdict struct {
	code      string   // the one to show
	codes     []string // all that stand where codes stand
	text      string
	predicate bool // one of the entry's predicates took the answer for an error
}

// classify sorts an error that the provider answered. A refusal of the grant counts only where the provider did look at
// the request: in a 2xx or 4xx that is not about load or time.
func (r *answerRules) classify(status int, v *verdict) broker.FailureClass {
	if status >= 500 || slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}, status) {
		return broker.Transient
	}
	for _, code := range v.codes {
		switch {
		case code == "invalid_grant" || slices.Contains(r.permanent, code):
			return broker.GrantLost
		case slices.Contains(clientCodes, code) || slices.Contains(r.client, code):
			return broker.ClientRefused
		case slices.Contains(passingCodes, code):
			return broker.Transient
		}
	}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return broker.ClientRefused
	case status < 300 && v.predicate:
		return broker.GrantLost
	}
	return broker.Transient
}

// failure makes the error of an answer.
func (r *answerRules) failure(a *reply, v *verdict, secrets []string) *broker.ProviderError {
	e := &broker.ProviderError{
		Class: r.classify(a.status, v), Code: v.code, Text: cleanText(v.text, secrets), Status: a.status,
		RetryAfter: r.retryAfter(a),
	}
	if e.Code == "" {
		e.Code = codeHTTP + strconv.Itoa(a.status)
	}
	return e
}

// unreadable is the error of an answer that says nothing. After a 2xx the provider may have acted, so a refresh token may
// be spent.
func unreadable(a *reply, code string, retryAfter time.Duration) *broker.ProviderError {
	return &broker.ProviderError{
		Class: broker.Transient, Code: code, Status: a.status, RetryAfter: retryAfter, InDoubt: a.status < 300,
	}
}

// asFailure puts an error that arose before a request was sent into the form that callers of a provider expect. That an
// integration cannot be used as it is set up is as if the provider had refused its client: no connection is at fault.
func asFailure(err error) error {
	var p *broker.ProviderError
	if err == nil || errors.As(err, &p) {
		return err
	}
	e := broker.AsError(err)
	out := &broker.ProviderError{Class: broker.Transient, Code: e.Code, Text: e.Msg}
	switch e.Code {
	case broker.ErrMisconfigured.Code:
		out.Class = broker.ClientRefused
	case broker.ErrEgressBlocked.Code, broker.ErrURLNotAllowed.Code:
		out.Code, out.Reach = broker.ErrEgressBlocked.Code, broker.ErrEgressBlocked
	}
	return out
}

// unreachable says what a caller may learn of a request without an answer.
func unreachable(err error) *broker.Error {
	var known *broker.Error
	if errors.As(err, &known) {
		return known
	}
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return broker.ErrProviderTimeout
	}
	return broker.ErrUnreachable
}

// errorCode is the form of codes that are shown as they are, if they have at most maxErrorCode characters.
var errorCode = expression(`^[A-Za-z0-9_.:-]+$`)

const maxErrorCode = 64

// maxText is the length of a shown description, in characters.
const maxText = 300

// cleanText cuts a provider's description and drops what is no text: control characters and those that turn the direction
// of writing. A description that repeats a secret of the request is dropped whole.
func cleanText(s string, secrets []string) string {
	for _, secret := range secrets {
		if secret != "" && strings.Contains(s, secret) {
			return ""
		}
	}
	var out []rune
	for _, r := range s {
		if len(out) == maxText {
			break
		}
		switch {
		case unicode.IsSpace(r):
			out = append(out, ' ')
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == unicode.ReplacementChar, !unicode.IsPrint(r):
		default:
			out = append(out, r)
		}
	}
	return strings.TrimSpace(string(out))
}

// The bounds of a wait that a provider may ask for.
const (
	minWait = time.Second
	maxWait = time.Hour
)

// parseRetryAfter reads a Retry-After header: seconds or a date (RFC 9110 section 10.2.3). The wait is between a second and
// an hour; zero means that there is none to be read.
func parseRetryAfter(v string, now time.Time) time.Duration {
	v = strings.TrimSpace(v)
	if v == "" {
		return 0
	}
	if seconds, err := strconv.ParseFloat(v, 64); err == nil {
		switch {
		case seconds < 0 || seconds != seconds:
			return 0
		case seconds >= maxWait.Seconds():
			return maxWait
		}
		return max(minWait, time.Duration(seconds*float64(time.Second)))
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(maxWait, max(minWait, at.Sub(now)))
}

// retryAfter is when the provider wants to be asked again: the longest wait that its headers name.
func (r *answerRules) retryAfter(a *reply) time.Duration {
	wait := parseRetryAfter(a.header.Get("Retry-After"), a.at)
	if a.status < 300 {
		return wait
	}
	for _, name := range r.waitAfter {
		wait = max(wait, parseRetryAfter(a.header.Get(name), a.at))
	}
	if r.waitRemaining != "" && a.header.Get(r.waitRemaining) != "0" && a.status != http.StatusTooManyRequests {
		return wait
	}
	for _, name := range r.waitAt {
		wait = max(wait, parseInstantHeader(a.header.Get(name), a.at))
	}
	return wait
}

// parseInstantHeader reads a header with the time to come back at: seconds or milliseconds since 1970, or a date.
func parseInstantHeader(v string, now time.Time) time.Duration {
	n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
	if err != nil {
		if at, err := http.ParseTime(v); err == nil {
			return min(maxWait, max(minWait, at.Sub(now)))
		}
		return 0
	}
	at, ok := epoch(n)
	if !ok || at.Before(now) {
		return 0
	}
	return min(maxWait, max(minWait, at.Sub(now)))
}

// epoch reads seconds since 1970, or milliseconds where the number is too large for seconds.
func epoch(n float64) (time.Time, bool) {
	switch {
	case n >= 1e9 && n < 1e11:
		return time.Unix(0, int64(n*1e3)*int64(time.Millisecond)), true
	case n >= 1e12 && n < 1e14:
		return time.UnixMilli(int64(n)), true
	}
	return time.Time{}, false
}
