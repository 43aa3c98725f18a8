package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
	"github.com/coatcheck/coatcheck/web/proxy"
)

// signedAPI is an API that takes signed requests alone. It is the rig's upstream.
type signedAPI struct {
	provider *providertest.OAuth1

	mu    sync.Mutex
	lines []string // of the requests that were signed well
	last  string   // body of the last one
}

func (s *signedAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if problem := s.provider.Check(r, body); problem != "" {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, problem)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines, s.last = append(s.lines, r.Method+" "+r.RequestURI), string(body)
	switch r.URL.Path {
	case "/redirect":
		w.Header().Set("Location", "/other?a=%2F")
		w.WriteHeader(http.StatusFound)
	case "/refused":
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// newSignedRig has a connection "c" of the integration "signed".
func newSignedRig(t *testing.T, options ...func(*rig)) (*rig, *signedAPI) {
	t.Helper()
	api := &signedAPI{provider: providertest.NewOAuth1(t, providertest.OAuth1Knobs{})}
	r := newRig(t, api.ServeHTTP, options...)
	token, secret := api.provider.Grant()
	r.put("signed", "c", &broker.Material{
		Type: "OAUTH1", Access: broker.NewSecret(token), Details: map[string]broker.Secret{"oauth_token_secret": broker.NewSecret(secret)},
	})
	return r, api
}

const formType = "application/x-www-form-urlencoded"

// The API checks every signature over what reached it, the port in its address included.
func TestRequestsAreSignedAsTheyAreSent(t *testing.T) {
	r, api := newSignedRig(t)
	stream := func(text string) io.Reader { return io.MultiReader(strings.NewReader(text)) } // no length
	for name, test := range map[string]struct {
		method, path string
		body         io.Reader
		headers      []string
		sent         string // what arrives
	}{
		"a plain path":         {"GET", "/a", nil, nil, ""},
		"the root":             {"GET", "/", nil, nil, ""},
		"a query":              {"GET", "/a?b=2&a=1&a=0&a-b=3&c", nil, nil, ""},
		"a query in escapes":   {"GET", "/a?q=%20+%2B%26%C3%A9%c3%a9~*'()!&%61=b", nil, nil, ""},
		"an empty query":       {"GET", "/a?", nil, nil, ""},
		"a slash in a segment": {"GET", "/a%2Fb/c%2fd?e=%2F", nil, nil, ""},
		"odd characters":       {"GET", "/a|b/{c}/é/~;x=1,2:@$&'()*+!", nil, nil, ""},
		"a form":               {"POST", "/form?b=2", strings.NewReader("status=hello+world%21&b=1&b=&c%40"), []string{"Content-Type", formType}, "status=hello+world%21&b=1&b=&c%40"},
		"a form in UTF-8":      {"PUT", "/form", strings.NewReader("a=%C3%A9"), []string{"Content-Type", formType + "; charset=UTF-8"}, "a=%C3%A9"},
		"no form after all":    {"POST", "/form", strings.NewReader(""), []string{"Content-Type", formType}, "{}"},
		"JSON":                 {"POST", "/json?a=b", strings.NewReader(`{"a":"b&c=d"}`), []string{"Content-Type", "application/json"}, `{"a":"b&c=d"}`},
		"a stream":             {"PUT", "/stream", stream("b=2&a=1"), []string{"Content-Type", "application/octet-stream"}, "b=2&a=1"},
		"a long stream":        {"PUT", "/stream", stream(strings.Repeat("x", 3<<20)), []string{"Content-Type", "text/plain"}, strings.Repeat("x", 3<<20)},
		"no body":              {"DELETE", "/a?b", nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.do(r.request(test.method, "signed", test.path, test.body, test.headers...))
			if got.StatusCode != http.StatusOK {
				t.Fatalf("%d %s", got.StatusCode, got.body)
			}
			line := test.method + " " + strings.TrimSuffix(test.path, "?")
			if last := api.lines[len(api.lines)-1]; last != line || api.last != test.sent {
				t.Errorf("%s with %d bytes arrived, want %s with %d", last, len(api.last), line, len(test.sent))
			}
		})
	}
	if n := api.provider.Counts(); n.Refused != 0 {
		t.Errorf("counts %+v", n)
	}
}

func TestRedirectsAreSignedAgain(t *testing.T) {
	r, api := newSignedRig(t)
	if got := r.get("signed", "/redirect?x=1"); got.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", got.StatusCode, got.body)
	}
	if want := []string{"GET /redirect?x=1", "GET /other?a=%2F"}; !slices.Equal(api.lines, want) {
		t.Errorf("got %v", api.lines)
	}
}

// There is nothing to renew: a refusal is passed on, and the request is not sent again.
func TestRefusalsOfASignatureArePassedOn(t *testing.T) {
	r, api := newSignedRig(t)
	if got := r.get("signed", "/refused"); got.StatusCode != http.StatusUnauthorized || got.Header.Get("X-Error-Source") != "upstream" || len(api.lines) != 1 {
		t.Errorf("%d %v, %v", got.StatusCode, got.Header, api.lines)
	}
}

func TestSignedRequestsThatAreRefused(t *testing.T) {
	r, api := newSignedRig(t)
	form := []string{"Content-Type", formType}
	stream := io.MultiReader(strings.NewReader("a=1"))
	for name, test := range map[string]struct {
		req          *http.Request
		status       int
		ours, theirs string
	}{
		"a token of their own": {r.request("GET", "signed", "/a?OAuth%5ftoken=x", nil), 400, "reserved_param", "reserved_param"},
		"a token in the form":  {r.request("POST", "signed", "/a", strings.NewReader("oauth_token=x"), form...), 400, "reserved_param", "reserved_param"},
		"a broken form":        {r.request("POST", "signed", "/a", strings.NewReader("a=%"), form...), 400, "invalid_request", "invalid_request"},
		"a form without end":   {r.request("POST", "signed", "/a", stream, form...), 413, "body_too_large", "body_too_large"},
		"a long form":          {r.request("POST", "signed", "/a", strings.NewReader(strings.Repeat("a", 1<<20+1)), form...), 413, "body_too_large", "body_too_large"},
		"a header":             {r.request("GET", "signed", "/a", nil, "Nango-Proxy-Authorization", "OAuth x"), 400, "reserved_header", "reserved_header"},
	} {
		t.Run(name, func(t *testing.T) { r.do(test.req).refused(t, test.status, test.ours, test.theirs) })
	}
	if len(api.lines) != 0 {
		t.Errorf("these were sent: %v", api.lines)
	}
}

// A form whose end does not come is the caller's fault, although the proxy reads it before there is a call.
func TestFormThatBreaksOffWhileItIsSigned(t *testing.T) {
	r, api := newSignedRig(t, idle)
	answer := r.raw(head("POST", "/a", "signed", "Content-Type: "+formType, "Content-Length: 10") + "a=1")
	if !strings.Contains(answer, "HTTP/1.1 400") || !strings.Contains(answer, "X-Error-Code: invalid_request") || len(api.lines) != 0 {
		t.Errorf("got %s, upstream %v", answer, api.lines)
	}
}

// Each attempt has a nonce and a signature of its own, also for a form, which is read once.
func TestRetriesAreSignedAgain(t *testing.T) {
	r, api := newSignedRig(t)
	r.get("signed", "/warm")
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		h := proxy.New(proxy.Options{Broker: r.broker, Reach: reach, Transport: transport(func(q *http.Request) (*http.Response, error) {
			attempts++
			if problem := arrive(t, api.provider, q); problem != "" {
				t.Errorf("attempt %d: %s", attempts, problem)
			}
			switch attempts {
			case 1:
				return reply(q, http.StatusServiceUnavailable, "busy"), nil
			case 2:
				return nil, errors.New("the connection broke")
			}
			return reply(q, http.StatusOK, "done"), nil
		})})
		defer func() { must(t, h.Close()) }()
		w := httptest.NewRecorder()
		q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/proxy/form?b=2", strings.NewReader("a=1&b=3"))
		for name, v := range map[string]string{
			"Authorization": "Bearer " + secretKey, "Provider-Config-Key": "signed", "Connection-Id": "c", "Retries": "2", "Content-Type": formType,
		} {
			q.Header.Set(name, v)
		}
		h.ServeHTTP(w, q)
		if w.Code != http.StatusOK || attempts != 3 {
			t.Errorf("%d after %d attempts: %s", w.Code, attempts, w.Body)
		}
	})
	if n := api.provider.Counts(); n.Replays != 0 || n.Refused != 0 {
		t.Errorf("counts %+v", n)
	}
}

// arrive lets a request go over a wire and has it checked on the other side.
func arrive(t *testing.T, provider *providertest.OAuth1, q *http.Request) (problem string) {
	t.Helper()
	var wire bytes.Buffer
	must(t, q.Write(&wire))
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	must(t, err)
	body, err := io.ReadAll(got.Body)
	must(t, err)
	if string(body) != "a=1&b=3" {
		t.Errorf("the body is %q", body)
	}
	return provider.Check(got, body)
}
