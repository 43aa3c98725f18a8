package egress

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func localPolicy(t *testing.T) *Policy {
	t.Helper()
	return newPolicy(t, Options{Allow: []string{"127.0.0.0/8"}})
}

// serve closes the server after the bodies of the answers that do returned.
func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func do(t *testing.T, c *http.Client, method, url, body string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Basic hunter2")
	resp, err := c.Do(req)
	if err == nil {
		t.Cleanup(func() { resp.Body.Close() })
	}
	return resp, err
}

func TestTokenClientFollowsNoRedirect(t *testing.T) {
	var second atomic.Int64
	thief := serve(t, func(http.ResponseWriter, *http.Request) { second.Add(1) })
	status := http.StatusFound
	provider := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" {
			second.Add(1)
			return
		}
		http.Redirect(w, r, r.URL.Query().Get("to"), status)
	})
	c := localPolicy(t).TokenClient()
	for _, status = range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{thief.URL, "/elsewhere"} {
			for _, method := range []string{http.MethodPost, http.MethodGet} {
				resp, err := do(t, c, method, provider.URL+"/token?to="+to, "client_secret=hunter2")
				if err != nil || resp.StatusCode != status {
					t.Errorf("%s %d to %s: got %v, %v, want the redirect itself", method, status, to, resp, err)
				}
			}
		}
	}
	if n := second.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestMetadataClientRedirects(t *testing.T) {
	var elsewhere atomic.Int64
	other := serve(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	var origin string
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/hops/"))
		switch {
		case r.URL.Path == "/other":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case r.URL.Path == "/userinfo":
			http.Redirect(w, r, strings.Replace(origin, "http://", "http://a@", 1)+"/hops/0", http.StatusFound)
		case r.URL.Path == "/fragment":
			http.Redirect(w, r, "/hops/0#x", http.StatusFound)
		case r.URL.Path == "/name":
			http.Redirect(w, r, strings.Replace(origin, "127.0.0.1", "localhost", 1)+"/hops/0", http.StatusFound)
		case err == nil && n > 0:
			http.Redirect(w, r, "/hops/"+strconv.Itoa(n-1), http.StatusTemporaryRedirect)
		}
	})
	origin = server.URL
	c := localPolicy(t).MetadataClient()
	tests := []struct {
		method, path string
		want         int
		final        string
	}{
		{http.MethodGet, "/hops/0", 200, "/hops/0"},
		{http.MethodGet, "/hops/2", 200, "/hops/0"},
		{http.MethodHead, "/hops/2", 200, "/hops/0"},
		{http.MethodGet, "/hops/3", 307, "/hops/1"},
		{http.MethodPost, "/hops/1", 307, "/hops/1"},
		{http.MethodGet, "/other", 302, "/other"},
		{http.MethodGet, "/userinfo", 302, "/userinfo"},
		{http.MethodGet, "/fragment", 302, "/fragment"},
		{http.MethodGet, "/name", 302, "/name"},
	}
	for _, tt := range tests {
		resp, err := do(t, c, tt.method, origin+tt.path, "")
		if err != nil {
			t.Errorf("%s %s: %v", tt.method, tt.path, err)
		} else if resp.StatusCode != tt.want || resp.Request.URL.Path != tt.final {
			t.Errorf("%s %s: got %d from %s, want %d from %s", tt.method, tt.path, resp.StatusCode, resp.Request.URL.Path, tt.want, tt.final)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests went to another origin", n)
	}
}

func TestSameOrigin(t *testing.T) {
	tests := []struct {
		scheme1, host1, scheme2, host2 string
		want                           bool
	}{
		{"https", "idp.example", "https", "IDP.example:443", true},
		{"http", "idp.example:80", "http", "idp.example", true},
		{"https", "[2001:db8::1]:443", "https", "[2001:db8::1]", true},
		{"https", "idp.example", "http", "idp.example", false},
		{"https", "idp.example:80", "https", "idp.example", false},
		{"https", "idp.example:8443", "https", "idp.example", false},
		{"https", "a.idp.example", "https", "idp.example", false},
	}
	for _, tt := range tests {
		if got := sameOrigin(tt.scheme1, tt.host1, tt.scheme2, tt.host2); got != tt.want {
			t.Errorf("%+v: got %t", tt, got)
		}
	}
}

func TestTLS(t *testing.T) {
	start := func(configure func(*httptest.Server)) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		s.EnableHTTP2 = true
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		configure(s)
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	modern := start(func(*httptest.Server) {})
	tls12 := start(func(s *httptest.Server) { s.TLS.MaxVersion = tls.VersionTLS12 })
	tls11 := start(func(s *httptest.Server) {
		s.EnableHTTP2 = false // which would refuse TLS 1.1 by itself
		s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	})
	roots := x509.NewCertPool()
	roots.AddCert(modern.Certificate())
	trusting := newPolicy(t, Options{Allow: []string{"127.0.0.0/8"}, RootCAs: roots})
	for name, c := range map[string]*http.Client{
		"token": trusting.TokenClient(), "metadata": trusting.MetadataClient(), "proxy": {Transport: trusting.ProxyTransport()},
	} {
		for _, s := range []*httptest.Server{modern, tls12} {
			resp, err := do(t, c, http.MethodGet, s.URL, "")
			if err != nil || resp.ProtoMajor != 2 {
				t.Errorf("%s: got %v, %v, want HTTP/2", name, resp, err)
			}
		}
		if _, err := do(t, c, http.MethodGet, tls11.URL, ""); Classify(err) != Unreachable {
			t.Errorf("%s: TLS 1.1 gave %v, want a failure", name, err)
		}
	}
	if _, err := do(t, localPolicy(t).TokenClient(), http.MethodGet, modern.URL, ""); Classify(err) != Unreachable {
		t.Errorf("unknown authority: got %v, want a failure", err)
	}
}

func TestHeaderLimits(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.Header().Set("X-Long", strings.Repeat("a", n))
	})
	p := localPolicy(t)
	proxy := &http.Client{Transport: p.ProxyTransport()}
	tests := []struct {
		name   string
		client *http.Client
		bytes  int
		fits   bool
	}{
		{"token", p.TokenClient(), 60 << 10, true},
		{"token", p.TokenClient(), 66 << 10, false},
		{"metadata", p.MetadataClient(), 66 << 10, false},
		{"proxy", proxy, 250 << 10, true},
		{"proxy", proxy, 260 << 10, false},
	}
	for _, tt := range tests {
		_, err := do(t, tt.client, http.MethodGet, server.URL+"?n="+strconv.Itoa(tt.bytes), "")
		if (err == nil) != tt.fits {
			t.Errorf("%s, %d bytes: got %v", tt.name, tt.bytes, err)
		}
	}
}

func TestReadBody(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		if r.Header.Get("Accept-Encoding") != "gzip" {
			t.Error("compression was not asked for")
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		zeros := make([]byte, 64<<10)
		for ; n > 0; n -= len(zeros) {
			if _, err := z.Write(zeros[:min(n, len(zeros))]); err != nil {
				return // the reader has seen enough
			}
		}
	})
	c := localPolicy(t).TokenClient()
	tests := []struct {
		bytes int
		limit int64
		want  error
	}{
		{0, 0, nil},
		{MaxBody, 0, nil},
		{MaxBody + 1, 0, ErrTooLarge},
		{16 << 20, 0, ErrTooLarge}, // 16 KiB on the wire
		{1024, 1024, nil},
		{1025, 1024, ErrTooLarge},
		{MaxBody + 1, 1 << 62, nil},
	}
	for _, tt := range tests {
		resp, err := do(t, c, http.MethodGet, server.URL+"?n="+strconv.Itoa(tt.bytes), "")
		if err != nil {
			t.Fatal(err)
		}
		body, err := ReadBody(resp, tt.limit)
		if !errors.Is(err, tt.want) {
			t.Errorf("%d bytes, limit %d: got %v, want %v", tt.bytes, tt.limit, err, tt.want)
		}
		if tt.want == nil && len(body) != tt.bytes || tt.want != nil && body != nil {
			t.Errorf("%d bytes, limit %d: got %d bytes", tt.bytes, tt.limit, len(body))
		}
	}
}

func TestReadBodyRedactsFailures(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "cut short")
	})
	resp, err := do(t, localPolicy(t).TokenClient(), http.MethodGet, server.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := ReadBody(resp, 0); err != ErrUnreachable || body != nil { //nolint:errorlint // nothing may be wrapped
		t.Errorf("got %q, %v, want ErrUnreachable itself", body, err)
	}
}

func TestProxyTransportPassesCompressionThrough(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept-Encoding"); got != "" {
			t.Errorf("the transport asked for %q by itself", got)
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, "hello")
		z.Close()
	})
	resp, err := do(t, &http.Client{Transport: localPolicy(t).ProxyTransport()}, http.MethodGet, server.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.HasPrefix(body, []byte{0x1f, 0x8b}) || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("got %x, %v, want the gzip stream as sent", body, err)
	}
}

func TestProxyHeaderTimeout(t *testing.T) {
	release := make(chan struct{})
	server := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	p := newPolicy(t, Options{Allow: []string{"127.0.0.0/8"}, ProxyHeaderTimeout: 20 * time.Millisecond})
	_, err := do(t, &http.Client{Transport: p.ProxyTransport()}, http.MethodGet, server.URL, "")
	if Classify(err) != Timeout {
		t.Errorf("got %v, want a timeout", err)
	}
}

// What only a long wait would show, or a look at the environment that net/http takes once per process.
func TestTransportSettings(t *testing.T) {
	p := localPolicy(t)
	if first, again := p.ProxyTransport(), p.ProxyTransport(); first != again || p.TokenClient().Transport != p.MetadataClient().Transport {
		t.Error("each call makes a new connection pool")
	}
	if p.TokenClient().Transport == http.RoundTripper(p.ProxyTransport()) {
		t.Error("token calls share the proxy's connections")
	}
	for name, c := range map[string]*http.Client{"token": p.TokenClient(), "metadata": p.MetadataClient()} {
		if c.Timeout != 20*time.Second || c.Timeout <= dialTimeout {
			t.Errorf("%s: total %v, dial %v", name, c.Timeout, dialTimeout)
		}
	}
	proxy := p.ProxyTransport()
	if proxy.MaxIdleConnsPerHost != 512 || proxy.IdleConnTimeout != 90*time.Second || proxy.ResponseHeaderTimeout != 0 {
		t.Errorf("proxy keeps %d for %v, waits %v", proxy.MaxIdleConnsPerHost, proxy.IdleConnTimeout, proxy.ResponseHeaderTimeout)
	}
	for name, tr := range map[string]*http.Transport{"proxy": proxy, "calls": p.calls} {
		if tr.Proxy != nil {
			t.Errorf("%s: a forward proxy would choose the address", name)
		}
		if tr.HTTP2 == nil || tr.HTTP2.SendPingTimeout <= 0 || tr.HTTP2.PingTimeout <= 0 {
			t.Errorf("%s: no ping on idle HTTP/2 connections", name)
		}
	}
}
