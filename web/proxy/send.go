package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// How long to wait before an attempt is repeated.
const (
	firstBackoff = 3 * time.Second // where the caller asks for retries; doubled each time
	minWait      = time.Second     // of what the provider asks for
	maxWait      = 10 * time.Minute
	firstQuick   = 100 * time.Millisecond // where it never reached the provider; doubled each time
	maxQuick     = 3
	maxHops      = 3 // redirects that are followed
)

var errSwitched = errors.New("the provider switched protocols without being asked")

// RoundTrip sends the request until there is an answer for the caller. ReverseProxy calls it once for each call.
func (c *call) RoundTrip(out *http.Request) (*http.Response, error) {
	if c.failure != nil {
		return nil, c.failure
	}
	for {
		res, err := c.transport().RoundTrip(out)
		if err == nil && res.StatusCode == http.StatusForbidden {
			c.h.broker.Refused(out.Context(), c.out, res.Header)
		}
		if err == nil && res.StatusCode >= 200 && res.StatusCode < 300 {
			return c.taken(res), nil
		}
		if err == nil && res.StatusCode < 200 {
			_ = res.Body.Close()
			res, err = nil, errSwitched
		}
		next, failure := c.next(out, res, err)
		switch {
		case failure != nil:
			c.failure = failure
			return nil, failure
		case next == nil && err != nil:
			return nil, err
		case next == nil:
			return c.taken(res), nil
		}
		out = next
	}
}

// transport gives what carries the call: one of its own, where the provider wants to see a certificate.
func (c *call) transport() http.RoundTripper {
	if cert := c.out.Certificate(); cert != nil {
		return c.h.certified(cert)
	}
	return c.h.transport
}

// taken makes the answer the caller's. It is a copy without trailers: the transport writes those into the original when
// the body has ended, and nobody would check them.
func (c *call) taken(res *http.Response) *http.Response {
	c.res = *res
	c.res.Trailer = nil
	return &c.res
}

// next gives the request to send after an answer or an error; nil: that is the result. failure is set where the request
// cannot be made any more. An answer that is not the result is closed.
func (c *call) next(out *http.Request, res *http.Response, err error) (next *http.Request, failure error) {
	switch {
	case over(out) || c.expired.Load():
		return nil, nil
	case err != nil && c.retryError(out, err):
	case err != nil:
		return nil, nil //nolint:nilerr // the error is the result
	case res.StatusCode == http.StatusUnauthorized && c.renew(out):
		drain(res)
	case c.follow(out, res):
		drain(res)
	case c.retryAnswer(out, res):
	default:
		return nil, nil
	}
	return c.again(out)
}

// over reports whether the caller has gone.
func over(out *http.Request) bool { return out.Context().Err() != nil }

// again makes a request for another attempt. The one before may still be read by the transport, so it is left alone.
func (c *call) again(out *http.Request) (*http.Request, error) {
	next := out.WithContext(out.Context())
	next.Header = out.Header.Clone()
	u := *out.URL
	next.URL = &u
	if out.GetBody != nil {
		body, err := out.GetBody()
		if err != nil {
			return nil, broker.ErrInternal.Because(err)
		}
		next.Body = body
	}
	return next, c.authorize(next)
}

// repeatable reports whether the request's body can be sent once more.
func repeatable(out *http.Request) bool {
	return out.Body == nil || out.Body == http.NoBody || out.GetBody != nil
}

// renew has the credential renewed after a 401, once for each call, and reports whether to send the request again. It
// does so for a body that cannot be sent again too: then the caller's own repetition is answered better.
func (c *call) renew(out *http.Request) bool {
	if c.renewed {
		return false
	}
	c.renewed = true
	c.waiting.Store(true)
	fresh, err := c.h.broker.Rejected(out.Context(), c.out)
	c.waiting.Store(false)
	if err != nil || fresh == nil || fresh.Connection() != c.out.Connection() || !repeatable(out) {
		return false
	}
	// The integration may have been changed meanwhile; a credential goes only where it was meant for.
	base, err := c.base(fresh)
	if err != nil || base.Scheme != c.target.scheme || base.Host != c.target.host || strings.TrimSuffix(base.EscapedPath(), "/") != c.target.base {
		return false
	}
	c.out = fresh
	return true
}

// follow aims the call at where the answer redirects it to, and reports whether to go there: only GET and HEAD, only
// within the origin and the base path, and under the rules for every path.
func (c *call) follow(out *http.Request, res *http.Response) bool {
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return false
	}
	location := res.Header["Location"]
	if c.hops == maxHops || len(location) != 1 || out.Method != http.MethodGet && out.Method != http.MethodHead || out.Body != nil {
		return false
	}
	t, ok := c.target.redirected(location[0])
	if ok {
		c.hops++
		c.target = t
	}
	return ok
}

// redirected gives the target that a Location header names, if it is one that the call may go to.
func (t *target) redirected(location string) (target, bool) {
	location, _, _ = strings.Cut(location, "#")
	path, query, _ := strings.Cut(location, "?")
	if scheme, rest, ok := strings.Cut(path, ":"); ok && isScheme(scheme) {
		if !strings.EqualFold(scheme, t.scheme) || !strings.HasPrefix(rest, "//") {
			return *t, false
		}
		path = rest
	}
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		host, rest, _ := strings.Cut(rest, "/")
		if !sameHost(t.scheme, host, t.host) {
			return *t, false
		}
		path = "/" + rest
	}
	switch {
	case path == "":
		path = t.path
	case path[0] != '/':
		path = t.path[:strings.LastIndexByte(t.path, '/')+1] + path
	}
	odd, ok := checkPath(path)
	if !ok || checkQuery(query) != nil || !strings.HasPrefix(path, t.base+"/") {
		return *t, false
	}
	next := *t
	next.path, next.query, next.odd, next.itself = path, query, odd, false
	return next, true
}

// retryError reports whether to try again after an attempt without an answer, and waits until then.
func (c *call) retryError(out *http.Request, err error) bool {
	if !repeatable(out) || c.body != nil && c.body.fault.Load() != nil || errors.Is(c.h.reach(err), broker.ErrEgressBlocked) {
		return false
	}
	if c.control.retries > 0 {
		return c.retryAfter(out.Context(), backoff(c.retried))
	}
	if c.retried < maxQuick && idempotent(out.Method) && neverSent(err) {
		return c.wait(out.Context(), firstQuick<<c.retried)
	}
	return false
}

// retryAnswer reports whether to try again after an answer that the caller asked to be spared, waits until then and
// closes the answer.
func (c *call) retryAnswer(out *http.Request, res *http.Response) bool {
	if c.retried >= c.control.retries || !repeatable(out) || !c.worthRetrying(res) {
		return false
	}
	wait, asked := pause(c.out.Retry(), res, c.h.now())
	if !asked {
		wait = backoff(c.retried)
	}
	drain(res)
	return c.retryAfter(out.Context(), wait)
}

// worthRetrying reports whether an answer is one of those that are tried again: what the caller lists, what the
// provider's entry lists or else 429 and 5xx, and where the entry's header says that a limit is used up. A 401 is dealt
// with by renewing, and tried again with the same credential only if the caller lists it.
func (c *call) worthRetrying(res *http.Response) bool {
	status := res.StatusCode
	if c.control.asksFor(status) {
		return true
	}
	if status < http.StatusBadRequest || status == http.StatusUnauthorized {
		return false
	}
	rules := c.out.Retry()
	if rules.Remaining != "" && res.Header.Get(rules.Remaining) == "0" {
		return true
	}
	if len(rules.Statuses) == 0 {
		return status >= http.StatusInternalServerError || status == http.StatusTooManyRequests
	}
	for _, r := range rules.Statuses {
		if status >= r.From && status <= r.To {
			return true
		}
	}
	return false
}

// retryAfter waits, and reports whether another attempt is left and the caller still there.
func (c *call) retryAfter(ctx context.Context, d time.Duration) bool {
	return c.retried < c.control.retries && c.wait(ctx, d)
}

// wait waits before another attempt, which it counts. It reports false when the caller has gone.
func (c *call) wait(ctx context.Context, d time.Duration) bool {
	c.retried++
	c.waiting.Store(true)
	defer c.waiting.Store(false)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func backoff(retried int) time.Duration { return min(firstBackoff<<retried, maxWait) }

// pause is how long the provider asks to be left alone: the longest of Retry-After (RFC 9110 section 10.2.3) and of what
// the entry's own headers say. A time at which a limit is renewed stands in every answer of some providers, so it counts
// only where the limit can be the reason.
func pause(rules *broker.RetryRules, res *http.Response, now time.Time) (wait time.Duration, asked bool) {
	note := func(d time.Duration, ok bool) {
		if ok {
			wait, asked = max(wait, d), true
		}
	}
	text := res.Header.Get("Retry-After")
	note(seconds(text))
	note(until(text, now))
	for _, name := range rules.After {
		note(seconds(res.Header.Get(name)))
	}
	if res.StatusCode < http.StatusInternalServerError {
		for _, name := range rules.At {
			text := res.Header.Get(name)
			note(until(text, now))
			note(epoch(text, now))
		}
	}
	return min(max(wait, minWait), maxWait), asked
}

// maxSeconds is more than anybody waits, and less than overflows.
const maxSeconds = 1e9

// seconds reads a number of seconds.
func seconds(text string) (time.Duration, bool) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0) {
		return 0, false
	}
	return time.Duration(min(n, maxSeconds) * float64(time.Second)), true
}

// until reads a date.
func until(text string, now time.Time) (time.Duration, bool) {
	if text == "" {
		return 0, false
	}
	at, err := http.ParseTime(text)
	if err != nil {
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			return 0, false
		}
	}
	return at.Sub(now), true
}

// epoch reads a time in seconds or milliseconds since 1970.
func epoch(text string, now time.Time) (time.Duration, bool) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0 && n < 1e15) {
		return 0, false
	}
	if n < 1e11 { // seconds, until the year 5138
		n *= 1000
	}
	return time.UnixMilli(int64(n)).Sub(now), true
}

// drain reads what is left of a small answer, so that its connection can be used again, and closes it.
func drain(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, bufferSize)
	_ = res.Body.Close()
}

// idempotent reports whether a request may be repeated without being asked (RFC 9110 section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// neverSent reports whether no connection came about, for a reason that may be gone in a moment. A dial that ran out of
// time has taken its time already, and a name that does not exist will not in a moment.
func neverSent(err error) bool {
	var op *net.OpError
	var name *net.DNSError
	return errors.As(err, &op) && op.Op == "dial" && !op.Timeout() && !(errors.As(err, &name) && name.IsNotFound)
}

// reach is the answer to what a caller may learn of a failure where the transport has none of its own. No connection is
// one thing, whether a port is closed or filtered and whether the name exists.
func reach(err error) *broker.Error {
	var timeout net.Error
	var op *net.OpError
	dialling := errors.As(err, &op) && op.Op == "dial"
	if errors.As(err, &timeout) && timeout.Timeout() && !dialling {
		return broker.ErrProviderTimeout
	}
	return broker.ErrUnreachable
}

// describe says for the log why a call brought no answer. Many of net/http's errors quote what the provider sent, which
// may be anything, so those give their kind alone.
func describe(err error) string {
	var op *net.OpError
	var u *url.Error
	switch {
	case errors.As(err, &u):
		return describe(u.Err)
	case errors.As(err, &op):
		return op.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection ended before an answer came"
	}
	return kindOf(err)
}
