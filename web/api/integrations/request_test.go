package integrations_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/web/api/apitest"
)

// A path goes on byte for byte, however odd it is.
func TestAPathGoesOnAsItWasSent(t *testing.T) {
	var got []string
	s := newSiteWith(t, apitest.Options{Upstream: func(w http.ResponseWriter, r *http.Request) bool {
		uri := r.URL.RequestURI()
		if r.URL.Opaque != "" {
			uri = r.URL.Opaque
		}
		got = append(got, r.Method+" "+uri)
		return true
	}})
	read(t, s.Send(t, http.MethodPost, "/api/integrations/mail/connect", `{"credentials":{"apiKey":"k"}}`, as("ann")...), http.StatusCreated)
	for _, c := range []struct{ line, want string }{
		{"GET /api/integrations/mail/request/files?pageSize=10", "GET /files?pageSize=10"},
		{"GET /API/Integrations/mail/Request/Files/AbC", "GET /Files/AbC"},
		{"GET /api/integrations/mail/request/a%2Fb%2f", "GET /a%2Fb%2f"},
		{"GET /api/integrations/mail/request/a//b/", "GET /a//b/"},
		{"GET /api/integrations/mail/request/a/?", "GET /a/?"},
		{"GET /api/integrations/mail/request/a?x=%2F&y=a+b&x", "GET /a?x=%2F&y=a+b&x"},
		{"GET /api/integrations/mail/request/a:b;c=1,d", "GET /a:b;c=1,d"},
		{"GET /api/integrations/mail/request/{id}|x", "GET /{id}|x"},
		{"GET /api/integrations/mail/request/%7Bid%7D", "GET /%7Bid%7D"},
		{"GET /api/integrations/mail/request/request/api/connect", "GET /request/api/connect"},
		{"GET https://connect.example.com/api/integrations/mail/request/a%2Fb/?x=%20", "GET /a%2Fb/?x=%20"},
		{"HEAD /api/integrations/mail/request/a", "HEAD /a"},
	} {
		got = nil
		if w := s.raw(t, c.line); w.Code != http.StatusOK || len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: got %d %q %s", c.line, w.Code, got, w.Body)
		}
	}
	for _, line := range []string{
		"GET /api/integrations/mail/request/a/../b", "GET /api/integrations/mail/request/%2e%2e/b", "GET /api/integrations/mail/request//a",
		"GET /api/integrations/mail/request/a%5cb", "GET /api/integrations/mail/request/a%00", "GET /api/integrations/mail/request/..%2fb",
		"GET /api/integrations/mail/request/%252e%252e/b", "GET /api/integrations/mail/request/https://evil.example/a",
	} {
		got = nil
		refused(t, line, s.raw(t, line), http.StatusBadRequest, "invalid_path")
		if len(got) != 0 {
			t.Errorf("%s went out as %q", line, got)
		}
	}
}

// raw sends a request as it stands in a text.
func (s *site) raw(t *testing.T, line string) *httptest.ResponseRecorder {
	t.Helper()
	text := line + " HTTP/1.1\r\nHost: connect.example.com\r\nAuthorization: Bearer " + apitest.Key + "\r\nX-Owner-Id: ann\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	must(t, err)
	r.RemoteAddr = "192.0.2.1:1234"
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	return w
}

// What of the caller's own request goes upstream, and what of the answer comes back.
func TestHeadersOfCalls(t *testing.T) {
	var got http.Header
	s := newSiteWith(t, apitest.Options{Upstream: func(w http.ResponseWriter, r *http.Request) bool {
		got = r.Header.Clone()
		h := w.Header()
		h.Set("Cache-Control", "public, max-age=3600")
		h.Set("Set-Cookie", "a=b")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("X-Theirs", "yes")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
		return true
	}})
	token := s.user(t, "ann")
	read(t, s.Send(t, http.MethodPost, "/api/integrations/mail/connect", `{"credentials":{"apiKey":"k"}}`, bearer(token)...), http.StatusCreated)
	mine := []string{"Cookie", "c=d", "X-Mine", "no", "Origin", "https://app.example", "Accept", "text/csv", "If-None-Match", `"v1"`}
	for what, w := range map[string]*httptest.ResponseRecorder{
		"by its path": s.Send(t, http.MethodGet, "/api/integrations/mail/request/a", "", append(bearer(token), mine...)...),
		"described": s.Send(t, http.MethodPost, "/api/integrations/mail/request",
			`{"url":"/a","headers":{"Accept":"text/csv","if-none-match":"\"v1\""}}`, append(bearer(token), "Cookie", "c=d", "X-Mine", "no", "Origin", "https://app.example")...),
	} {
		if w.Code != http.StatusTeapot || w.Body.String() != "short and stout" {
			t.Errorf("%s: got %d %s", what, w.Code, w.Body)
		}
		h := w.Header()
		if h.Get("X-Theirs") != "yes" || h.Get("X-Error-Source") != "upstream" || h.Get("Set-Cookie") != "" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: the answer has %v", what, h)
		}
		if got.Get("Accept") != "text/csv" || got.Get("If-None-Match") != `"v1"` || got.Get("X-Api-Key") != "k" {
			t.Errorf("%s: upstream got %v", what, got)
		}
		for _, name := range []string{"Authorization", "Cookie", "X-Mine", "Origin", "X-Owner-Id"} {
			if got.Get(name) != "" {
				t.Errorf("%s: upstream got %s: %s", what, name, got.Get(name))
			}
		}
	}
}

// An API that refuses the token is asked once more with a fresh one, and its answer counts whatever it is.
func TestARefusedTokenIsRenewedOnce(t *testing.T) {
	var seen []string
	s := newSiteWith(t, apitest.Options{Upstream: func(w http.ResponseWriter, r *http.Request) bool {
		seen = append(seen, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}})
	read(t, s.Send(t, http.MethodPost, connectPath, `{"accessToken":"old","refreshToken":"rt"}`, as("ann")...), http.StatusCreated)
	w := s.Send(t, http.MethodPost, "/api/integrations/my-integration/request", `{"url":"/files"}`, as("ann")...)
	if w.Code != http.StatusUnauthorized || w.Header().Get("X-Error-Source") != "upstream" || strings.Join(seen, ", ") != "Bearer old, Bearer renewed" {
		t.Errorf("got %d %v, upstream saw %v", w.Code, w.Header(), seen)
	}
}

func TestTheDescriptionOfACallIsBounded(t *testing.T) {
	s := newSite(t)
	read(t, s.Send(t, http.MethodPost, "/api/integrations/mail/connect", `{"credentials":{"apiKey":"k"}}`, as("ann")...), http.StatusCreated)
	send := func(size int) *httptest.ResponseRecorder {
		body := `{"url":"/created","method":"POST","data":"` + strings.Repeat("x", size) + `"}`
		return s.Send(t, http.MethodPost, "/api/integrations/mail/request", body, as("ann")...)
	}
	if w := send(4 << 20); w.Code != http.StatusCreated {
		t.Errorf("4 MiB: got %d", w.Code)
	}
	refused(t, "8 MiB and more", send(8<<20), http.StatusRequestEntityTooLarge, "body_too_large")
}
