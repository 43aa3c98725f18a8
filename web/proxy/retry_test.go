package proxy_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/proxy"
)

func ref(integration, key string) broker.ConnectionRef {
	return broker.ConnectionRef{Integration: integration, Key: key}
}

// step is what a transport does at one attempt: an error, or an answer with headers.
type step struct {
	err     error
	status  int
	headers []string
}

func status(code int, headers ...string) step { return step{status: code, headers: headers} }

func refusedBy(op string, err error) step {
	return step{err: &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError(op, err)}}
}

// Waiting is done on a clock that jumps: what is told is how long the caller waits, and how often the API was asked.
func TestRetries(t *testing.T) {
	r := newRig(t, echo)
	for _, integration := range []string{"keyed", "below"} {
		r.get(integration, "/warm")
	}
	dial, reset := refusedBy("dial", syscall.ECONNREFUSED), refusedBy("read", syscall.ECONNRESET)
	timeout := step{err: &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}}
	nowhere := step{err: &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}}
	in := func(d time.Duration) string {
		return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d).Format(http.TimeFormat)
	}
	for _, test := range []retried{
		{"no connection, idempotent", "GET", "keyed", nil, []step{dial, dial, dial, status(200)}, 200, 4, 700 * time.Millisecond},
		{"no connection for good", "PUT", "keyed", nil, []step{dial, dial, dial, dial}, 500, 4, 700 * time.Millisecond},
		{"no connection, not idempotent", "POST", "keyed", nil, []step{dial}, 500, 1, 0},
		{"sent perhaps", "GET", "keyed", nil, []step{reset}, 500, 1, 0},
		{"dial ran out of time", "GET", "keyed", nil, []step{timeout}, 500, 1, 0},
		{"no such name", "GET", "keyed", nil, []step{nowhere}, 500, 1, 0},
		{"blocked", "GET", "keyed", []string{"Retries", "3"}, []step{{err: broker.ErrEgressBlocked}}, 400, 1, 0},

		{"not asked for", "GET", "keyed", nil, []step{status(503)}, 503, 1, 0},
		{"not asked for, limit", "GET", "keyed", nil, []step{status(429, "Retry-After", "1")}, 429, 1, 0},
		{"asked for", "GET", "keyed", []string{"Retries", "2"}, []step{status(500), status(502), status(200)}, 200, 3, 9 * time.Second},
		{"asked for, in vain", "GET", "keyed", []string{"Retries", "2"}, []step{status(500), status(502), status(503)}, 503, 3, 9 * time.Second},
		{"asked for, with a body", "POST", "keyed", []string{"Retries", "1"}, []step{status(500), status(200)}, 200, 2, 3 * time.Second},
		{"asked for, errors", "POST", "keyed", []string{"Retries", "3"}, []step{reset, dial, timeout, status(201)}, 201, 4, 21 * time.Second},
		{"too many", "GET", "keyed", []string{"Retries", "99"}, repeat(status(500), 11), 500, 11, (3 + 6 + 12 + 24 + 48 + 96 + 192 + 384 + 600 + 600) * time.Second},
		{"other statuses", "GET", "keyed", []string{"Retries", "1"}, []step{status(404)}, 404, 1, 0},
		{"listed", "GET", "keyed", []string{"Retries", "2", "Retry-On", "404,409"}, []step{status(409), status(404), status(200)}, 200, 3, 9 * time.Second},
		{"listed without retries", "GET", "keyed", []string{"Retry-On", "404"}, []step{status(404)}, 404, 1, 0},

		{"told how long", "GET", "keyed", []string{"Retries", "1"}, []step{status(429, "Retry-After", "20"), status(200)}, 200, 2, 20 * time.Second},
		{"told until when", "GET", "keyed", []string{"Retries", "1"}, []step{status(503, "Retry-After", in(40*time.Second)), status(200)}, 200, 2, 40 * time.Second},
		{"told too long", "GET", "keyed", []string{"Retries", "1"}, []step{status(503, "Retry-After", "1e300"), status(200)}, 200, 2, 10 * time.Minute},
		{"told too short", "GET", "keyed", []string{"Retries", "1"}, []step{status(503, "Retry-After", "0"), status(200)}, 200, 2, time.Second},
		{"told nonsense", "GET", "keyed", []string{"Retries", "1"}, []step{status(503, "Retry-After", "soon"), status(200)}, 200, 2, 3 * time.Second},

		{"entry's statuses", "GET", "below", []string{"Retries", "1"}, []step{status(418), status(200)}, 200, 2, 3 * time.Second},
		{"not among the entry's", "GET", "below", []string{"Retries", "1"}, []step{status(429)}, 429, 1, 0},
		{"entry's limit", "GET", "below", []string{"Retries", "1"}, []step{status(429, "X-Left", "0"), status(200)}, 200, 2, 3 * time.Second},
		{"entry's header, seconds", "GET", "below", []string{"Retries", "1"}, []step{status(418, "X-After", "7.5"), status(200)}, 200, 2, 7500 * time.Millisecond},
		{"entry's header, epoch", "GET", "below", []string{"Retries", "1"}, []step{status(418, "X-Reset", "946684830"), status(200)}, 200, 2, 30 * time.Second},
		{"entry's header, milliseconds", "GET", "below", []string{"Retries", "1"}, []step{status(418, "X-Reset", "946684830000"), status(200)}, 200, 2, 30 * time.Second},
		{"entry's header, date", "GET", "below", []string{"Retries", "1"}, []step{status(418, "X-Reset", "2000-01-01T00:00:30Z"), status(200)}, 200, 2, 30 * time.Second},
		{"the longest", "GET", "below", []string{"Retries", "1"}, []step{status(418, "X-After", "2", "X-Reset", "946684809", "Retry-After", "5"), status(200)}, 200, 2, 9 * time.Second},
		{"a limit that is not the reason", "GET", "below", []string{"Retries", "1"}, []step{status(502, "X-Reset", "946688400"), status(200)}, 200, 2, 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { r.check(t, &test) })
		})
	}
}

// A 401 is dealt with by renewing. The same credential is sent again only where the caller lists the status.
func TestRefusalsAreRetriedWhereListed(t *testing.T) {
	r := newRig(t, echo)
	r.get("keyed", "/warm")
	synctest.Test(t, func(t *testing.T) {
		r.check(t, &retried{"refused", "GET", "keyed", []string{"Retries", "2"}, []step{status(401)}, 401, 1, 0})
		r.check(t, &retried{"listed", "GET", "keyed", []string{"Retries", "1", "Retry-On", "401"}, []step{status(401), status(200)}, 200, 2, 3 * time.Second})
	})
}

// retried is a call, what its attempts come to, and what the caller should get.
type retried struct {
	name        string
	method      string
	integration string
	headers     []string
	steps       []step
	want        int
	attempts    int
	waited      time.Duration
}

// check makes the call. It runs where time is the test's own.
func (r *rig) check(t *testing.T, test *retried) {
	attempts := 0
	h := proxy.New(proxy.Options{
		Broker: r.broker, Limits: proxy.Limits{IdleTimeout: time.Second},
		Reach: func(err error) *broker.Error {
			if errors.Is(err, broker.ErrEgressBlocked) {
				return broker.ErrEgressBlocked
			}
			return reach(err)
		},
		Transport: transport(func(q *http.Request) (*http.Response, error) {
			if q.Body != nil {
				if got, err := io.ReadAll(q.Body); string(got) != "body" || err != nil {
					t.Errorf("%s: attempt %d: body %q, %v", test.name, attempts, got, err)
				}
			}
			if q.Header.Get("X-Api-Key")+q.Header.Get("Authorization") == "" || q.Method != test.method {
				t.Errorf("%s: attempt %d: %s %v", test.name, attempts, q.Method, q.Header)
			}
			s := test.steps[attempts]
			attempts++
			if s.err != nil {
				return nil, s.err
			}
			return reply(q, s.status, "answer", s.headers...), nil
		}),
	})
	defer func() { must(t, h.Close()) }()
	var body io.Reader
	if test.method == http.MethodPost {
		body = strings.NewReader("body")
	}
	req := httptest.NewRequestWithContext(t.Context(), test.method, "/proxy/x", body)
	req.Header = r.request(test.method, test.integration, "/x", nil, test.headers...).Header
	w, begin := httptest.NewRecorder(), time.Now()
	h.ServeHTTP(w, req)
	if waited := time.Since(begin); w.Code != test.want || attempts != test.attempts || waited != test.waited {
		t.Errorf("%s: got %d after %d attempts and %v, want %d after %d and %v", test.name, w.Code, attempts, waited, test.want, test.attempts, test.waited)
	}
}

func repeat(s step, n int) []step {
	out := make([]step, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// A body that was not kept is sent once, whatever the caller asks.
func TestRetriesNeedABodyThatIsKept(t *testing.T) {
	attempts := 0
	r := newRig(t, echo, func(r *rig) {
		r.transport = transport(func(q *http.Request) (*http.Response, error) {
			attempts++
			_, _ = io.Copy(io.Discard, q.Body)
			return reply(q, http.StatusServiceUnavailable, ""), nil
		})
	})
	a := r.do(r.request(http.MethodPost, "keyed", "/x", io.MultiReader(strings.NewReader("body")), "Retries", "3"))
	if a.StatusCode != http.StatusServiceUnavailable || attempts != 1 {
		t.Errorf("got %d after %d attempts", a.StatusCode, attempts)
	}
}
