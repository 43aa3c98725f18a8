package web

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// serve starts the server as the product does and gives its address.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := Server(h, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// talk sends bytes and reads answers until the server closes or n have come.
func talk(t *testing.T, address, text string, n int) []*http.Response {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	var out []*http.Response
	in := bufio.NewReader(conn)
	for len(out) < n {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return out
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		res.Body = io.NopCloser(bytes.NewReader(body))
		out = append(out, res)
	}
	return out
}

// Where a request ends must be beyond doubt: who is in front of us may read it otherwise.
func TestAmbiguousLengthsAreRefused(t *testing.T) {
	address := serve(t, site(io.Discard))
	for name, headers := range map[string]string{
		"two lengths":         "Content-Length: 3\r\nContent-Length: 4",
		"length and chunked":  "Content-Length: 3\r\nTransfer-Encoding: xchunked",
		"unknown encoding":    "Transfer-Encoding: gzip, chunked",
		"chunked twice":       "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
		"not a number":        "Content-Length: +3",
		"folded header":       "Transfer-Encoding:\r\n chunked2",
		"space before colon":  "Content-Length : 3",
		"name with a control": "Content\x01Length: 3",
	} {
		t.Run(name, func(t *testing.T) {
			got := talk(t, address, "POST /things/special HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+headers+"\r\n\r\n0\r\n\r\nGET /things HTTP/1.1\r\nHost: x\r\n\r\n", 2)
			if len(got) != 1 || got[0].StatusCode != http.StatusBadRequest && got[0].StatusCode != http.StatusNotImplemented || !got[0].Close {
				t.Errorf("got %d answers, the first %+v", len(got), got)
			}
		})
	}
}

// net/http settles a length beside chunks as RFC 9112 says, by the chunks, and drops the length before anybody can refuse it.
// What must not happen is that the length counts for anything, or that what follows counts as a request: somebody in front
// of us who goes by the length has let it through as a part of the body.
func TestNothingFollowsWhatEndsInDoubt(t *testing.T) {
	address := serve(t, site(io.Discard))
	const after = "GET /things/after HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, c := range map[string]struct{ text, want string }{
		"a short length beside chunks": {"POST /proxy/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n-body-\r\n0\r\n\r\n", "proxied POST /proxy/x-body-"},
		"a long one":                   {"POST /proxy/x HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n-body-\r\n0\r\n\r\n", "proxied POST /proxy/x-body-"},
		"the encoding first":           {"POST /proxy/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: CHUNKED\r\nContent-Length: 60\r\n\r\n6\r\n-body-\r\n0\r\n\r\n", "proxied POST /proxy/x-body-"},
		"an empty body":                {"GET /proxy/x HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "proxied GET /proxy/x"},
		"not to the proxy":             {"POST /things/special HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", ""},
		"kept alive in HTTP/1.0":       {"POST /proxy/x HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n-body-", "proxied POST /proxy/x-body-"},
	} {
		t.Run(name, func(t *testing.T) {
			got := talk(t, address, c.text+after, 2)
			if len(got) != 1 || got[0].StatusCode != http.StatusOK {
				t.Fatalf("got %d answers: %+v", len(got), got)
			}
			if body, _ := io.ReadAll(got[0].Body); string(body) != c.want || !got[0].Close {
				t.Errorf("got %q, closed %t", body, got[0].Close)
			}
		})
	}
	if got := talk(t, address, "POST /proxy/x HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n-body-"+after, 2); len(got) != 2 || got[0].Close {
		t.Errorf("a connection without a doubt is not kept: %d answers", len(got))
	}
}

func TestServerRefuses(t *testing.T) {
	address := serve(t, site(io.Discard))
	for name, c := range map[string]struct {
		text   string
		status int
	}{
		"bad escape":         {"GET /things/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		"no host":            {"GET /things HTTP/1.1\r\n\r\n", 400},
		"headers too long":   {"GET /things HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 40<<10) + "\r\n\r\n", 431},
		"HTTP/2 by upgrade":  {"GET /things HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", 200},
		"HTTP/2 beforehand":  {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404},
		"trace":              {"TRACE /things HTTP/1.1\r\nHost: x\r\n\r\n", 405},
		"connect":            {"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 404},
		"a good one, though": {"GET /things HTTP/1.1\r\nHost: x\r\n\r\n", 200},
	} {
		t.Run(name, func(t *testing.T) {
			got := talk(t, address, c.text, 1)
			if len(got) != 1 || got[0].StatusCode != c.status {
				t.Errorf("got %d answers, want %d: %+v", len(got), c.status, *got[0])
			}
		})
	}
}

// The deadlines of one request must not end the next on the same connection, which may be a stream of hours.
func TestDeadlinesDoNotLastIntoTheProxy(t *testing.T) {
	deadlines, reads := make(chan time.Time, 4), make(chan time.Time, 4)
	h := site(io.Discard).(*dispatcher)
	spied := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&deadlineSpy{ResponseWriter: w, set: deadlines, reads: reads}, r)
	})
	address := serve(t, spied)
	got := talk(t, address, "GET /things HTTP/1.1\r\nHost: x\r\n\r\nGET /proxy/x HTTP/1.1\r\nHost: x\r\n\r\n", 2)
	if len(got) != 2 || got[1].StatusCode != http.StatusOK {
		t.Fatalf("got %+v", got)
	}
	if first := <-deadlines; first.IsZero() {
		t.Error("an ordinary request has no deadline for its answer")
	}
	if first := <-reads; first.IsZero() || len(reads) != 0 {
		t.Error("an ordinary request has no deadline for its body, or the proxy has one")
	}
	if second := <-deadlines; !second.IsZero() {
		t.Errorf("the proxy has until %v", second)
	}
}

// deadlineSpy tells the deadlines that are set.
type deadlineSpy struct {
	http.ResponseWriter
	set, reads chan time.Time
}

func (s *deadlineSpy) SetReadDeadline(t time.Time) error {
	s.reads <- t
	return http.NewResponseController(s.ResponseWriter).SetReadDeadline(t)
}

func (s *deadlineSpy) SetWriteDeadline(t time.Time) error {
	s.set <- t
	return http.NewResponseController(s.ResponseWriter).SetWriteDeadline(t)
}

// Each address has so many connections, whatever others have; those of trusted proxies are not counted.
func TestLimitAddresses(t *testing.T) {
	plain, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if LimitAddresses(plain, 0, nil) != plain {
		t.Error("no limit costs something")
	}
	l := LimitAddresses(plain, 2, []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")})
	server := Server(site(io.Discard), slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	// dial opens a connection from an address and reports whether it is answered.
	dial := func(from string) (net.Conn, bool) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.DialContext(t.Context(), "tcp", plain.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, "GET /things HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return conn, false
		}
		_ = res.Body.Close()
		return conn, res.StatusCode == http.StatusOK
	}
	first, ok := dial("127.0.0.1")
	if _, again := dial("127.0.0.1"); !ok || !again {
		t.Fatal("two connections are not let in")
	}
	for range 3 {
		if _, ok := dial("127.0.0.1"); ok {
			t.Error("a third is let in")
		}
		if _, ok := dial("127.0.0.9"); !ok {
			t.Error("a trusted proxy is limited")
		}
	}
	if _, ok := dial("127.0.0.2"); !ok {
		t.Error("another address is shut out")
	}
	_ = first.Close()
	for deadline := time.Now().Add(10 * time.Second); ; { // the server has to see it
		if _, ok := dial("127.0.0.1"); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a connection that has ended still counts")
		}
	}
	if _, ok := dial("127.0.0.1"); ok {
		t.Error("a third is let in, after one has ended")
	}
}

func TestServerLimits(t *testing.T) {
	s := Server(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout != 5*time.Second || s.IdleTimeout != time.Minute || s.MaxHeaderBytes != 32<<10 {
		t.Errorf("got %v %v %d", s.ReadHeaderTimeout, s.IdleTimeout, s.MaxHeaderBytes)
	}
	if s.ReadTimeout != 0 || s.WriteTimeout != 0 {
		t.Error("a limit on whole requests would cut what the proxy streams")
	}
}
