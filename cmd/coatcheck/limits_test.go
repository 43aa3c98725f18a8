package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// amend changes the configuration file.
func (p *process) amend(from, to string) {
	p.t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.dir, "coatcheck.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	text := strings.Replace(string(raw), from, to, 1)
	if text == string(raw) {
		p.t.Fatalf("the configuration has no %q", from)
	}
	p.write("coatcheck.yaml", text)
}

// One limit holds for a key, wherever it is used, and for nothing that needs no key.
func TestRequestsPerKey(t *testing.T) {
	p := newProcess(t, providertest.New(t, providertest.Knobs{}))
	p.amend("environments:", "limits: {requests_per_key: 0.05, requests_per_key_burst: 3}\nenvironments:")
	p.start()
	proxied := []string{"Provider-Config-Key", "acme", "Connection-Id", "c"}
	for i, c := range []struct {
		path    string
		headers []string
		status  int
	}{
		{"/connections", nil, http.StatusOK},
		{"/proxy/echo", proxied, http.StatusBadRequest}, // there is no such connection
		{"/connections", nil, http.StatusOK},
		{"/connections", nil, http.StatusTooManyRequests},
		{"/proxy/echo", proxied, http.StatusTooManyRequests},
		{"/health", nil, http.StatusOK},
	} {
		a, err := p.do(t.Context(), http.MethodGet, c.path, "", c.headers...)
		if err != nil || a.status != c.status {
			t.Fatalf("request %d: got %+v, %v, want %d", i, a, err, c.status)
		}
		if c.status == http.StatusTooManyRequests && (a.header.Get("Retry-After") != "20" || a.header.Get("X-Error-Code") != "rate_limited") {
			t.Errorf("request %d: got %v", i, a.header)
		}
	}
}

func TestConnectionsPerAddress(t *testing.T) {
	p := emptyProcess(t)
	p.write("coatcheck.yaml", "listen: "+p.addr+"\npublic_url: "+p.origin()+"\nlimits: {connections_per_address: 2}\nenvironments: {dev: {secret_key: "+p.key+"}}\n")
	p.start()
	dial := func() bool {
		t.Helper()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	}
	p.client.CloseIdleConnections()
	waitUntil(t, dial) // the one of start may count until the server sees that it has ended
	waitUntil(t, dial)
	for range 3 {
		if dial() {
			t.Error("a third connection is let in")
		}
	}
}
