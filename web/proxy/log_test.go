package proxy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/web/proxy"
)

func TestAccessLog(t *testing.T) {
	r := newRig(t, echo)
	a := r.do(r.request(http.MethodPost, "below", "/a%2Fb?query=secret", strings.NewReader("secret body"), "Nango-Proxy-X-Header", "secret"))
	r.get("nope", "/a\"\\\xff\u2028<b>?query=secret")
	r.get("oauth", "/k/"+secretKey)
	r.get("oauth", "/coat_dev_abcdef_0123456789/x")
	r.get("pathed", "/"+r.upstream.URL+"/botthe-provider%27s-own-api-key/x")
	r.get("keyed", "/"+apiKey)
	r.get("keyed", "/"+strings.Repeat("a", 1000))
	r.get("nope", "/x", "Authorization", "-")
	lines := r.lines()
	if len(lines) != 8 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	first := lines[0]
	want := []string{
		"bytes_in", "bytes_out", "connection", "environment", "host", "integration", "key", "level", "method", "ms", "msg", "path", "request_id", "status", "time",
	}
	if names := slices.Sorted(maps.Keys(first)); !slices.Equal(names, want) {
		t.Errorf("members %v, want %v", names, want)
	}
	c, err := r.broker.Connection(t.Context(), r.who, ref("below", "c"))
	must(t, err)
	for name, value := range map[string]any{
		"method": "POST", "path": "/a%2Fb", "status": 200.0, "bytes_in": 11.0, "bytes_out": float64(len(a.body)), "integration": "below",
		"connection": string(c.ID), "key": string(r.who.Key), "environment": string(r.who.Environment), "request_id": a.Header.Get("X-Request-Id"),
		"host": strings.TrimPrefix(r.upstream.URL, "http://"),
	} {
		if first[name] != value {
			t.Errorf("%s: %v, want %v", name, first[name], value)
		}
	}
	for i, want := range []struct{ path, code any }{
		{"/a%2Fb", nil},
		{"/proxy/a\"\\\ufffd\u2028<b>", "not_found"},
		{"[masked]", "credential_in_url"},
		{"/coat_[masked]/x", nil},
		{"/x", nil},
		{"[masked]", nil},
		{"/" + strings.Repeat("a", 511), nil},
		{"/proxy/x", "unauthorized"},
	} {
		if lines[i]["path"] != want.path || lines[i]["code"] != want.code {
			t.Errorf("line %d: path %v, code %v, want %v", i, lines[i]["path"], lines[i]["code"], want)
		}
	}
	for _, secret := range []string{"secret", secretKey, apiKey, "access-", "the-provider"} {
		if strings.Contains(r.access.String(), secret) {
			t.Errorf("%q is in the log:\n%s", secret, r.access)
		}
	}
}

// gate is a writer that waits to be let go on.
type gate struct {
	entered, leave chan struct{}
	out            logBuffer
}

func (g *gate) Write(p []byte) (int, error) {
	g.entered <- struct{}{}
	<-g.leave
	return g.out.Write(p)
}

// A log that cannot be written costs memory up to a limit, and no call waits for it.
func TestAccessLogIsBounded(t *testing.T) {
	g := &gate{entered: make(chan struct{}), leave: make(chan struct{})}
	h := proxy.New(proxy.Options{LogOutput: g})
	call := func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, "/proxy/"+strings.Repeat("a", 500), nil)
		must(t, err)
		h.ServeHTTP(discard{http.Header{}}, req)
	}
	call()
	<-g.entered // and from now on nothing is written
	const calls = 10_000
	for range calls {
		call()
	}
	closed := make(chan error)
	go func() { closed <- h.Close() }()
	g.leave <- struct{}{}
	<-g.entered
	close(g.leave)
	must(t, <-closed)
	lines := strings.Split(strings.TrimSpace(g.out.String()), "\n")
	var last struct {
		Msg   string
		Count int
	}
	must(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
	if last.Msg != "access log lines dropped" || last.Count == 0 || last.Count+len(lines)-1 != calls+1 || len(g.out.String()) > 5<<20 {
		t.Errorf("%d lines and %d bytes, and at last %+v", len(lines), len(g.out.String()), last)
	}
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header       { return d.header }
func (discard) WriteHeader(int)             {}
func (discard) Write(p []byte) (int, error) { return len(p), nil }

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestAccessLogThatCannotBeWritten(t *testing.T) {
	h := proxy.New(proxy.Options{LogOutput: broken{}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, "/proxy", nil)
	must(t, err)
	h.ServeHTTP(discard{http.Header{}}, req)
	if err := h.Close(); err == nil {
		t.Error("nobody is told")
	}
}

// Lines are there soon, without anything else happening.
func TestAccessLogIsWrittenSoon(t *testing.T) {
	out, in := io.Pipe()
	h := proxy.New(proxy.Options{LogOutput: in})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, "/proxy", nil)
	must(t, err)
	h.ServeHTTP(discard{http.Header{}}, req)
	var line map[string]any
	must(t, json.NewDecoder(out).Decode(&line))
	if fmt.Sprint(line["status"]) != "204" {
		t.Errorf("got %v", line)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	must(t, h.Close())
}
