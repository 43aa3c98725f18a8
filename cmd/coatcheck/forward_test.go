package main

import (
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// forwardProxy lets CONNECT through to whoever shows the password, and keeps what it is asked for.
type forwardProxy struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

func newForwardProxy(t *testing.T, user, password string) *forwardProxy {
	t.Helper()
	f := &forwardProxy{}
	proof := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked = append(f.asked, r.Method+" "+r.RequestURI)
		f.mu.Unlock()
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != proof {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		f.join(w, r.RequestURI)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *forwardProxy) join(w http.ResponseWriter, target string) {
	upstream, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", target)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer func() { _ = upstream.Close() }()
	w.WriteHeader(http.StatusOK)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	go func() {
		_, _ = io.Copy(conn, upstream)
		_ = conn.Close()
	}()
	_, _ = io.Copy(upstream, buffered)
}

func (f *forwardProxy) targets() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(f.asked)
	slices.Sort(out)
	return slices.Compact(out)
}

// With a forward proxy, renewals and proxied calls go through it and no other way; its password is in no log.
func TestEverythingLeavesThroughTheForwardProxy(t *testing.T) {
	const user, password = "operator", "a-password-of-the-proxy"
	provider := providertest.New(t, providertest.Knobs{Rotate: true})
	p := newProcess(t, provider)
	f := newForwardProxy(t, user, password)
	p.amend("egress: {allow: [127.0.0.1]}", "egress: {allow: [127.0.0.1], proxy: \"http://"+user+":${EGRESS_PASSWORD}@"+f.Listener.Addr().String()+"\"}")
	p.env = []string{"EGRESS_PASSWORD=" + password, "HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1"}
	p.start()
	if a, err := p.importToken(t.Context(), "c", time.Now().Add(time.Hour)); err != nil || a.status != http.StatusCreated {
		t.Fatal(a, err)
	}
	if token, a, err := p.token(t.Context(), "c", true); err != nil || token == "" {
		t.Fatal(a, err)
	}
	a, err := p.do(t.Context(), http.MethodGet, "/proxy/echo", "", "Provider-Config-Key", "acme", "Connection-Id", "c")
	if err != nil || a.status != http.StatusOK {
		t.Fatal(a, err)
	}
	if got, want := f.targets(), []string{"CONNECT " + strings.TrimPrefix(provider.URL, "http://")}; !slices.Equal(got, want) {
		t.Errorf("the proxy was asked for %v, want %v", got, want)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	f.Close()
	p.start()
	a, err = p.do(t.Context(), http.MethodGet, "/proxy/echo", "", "Provider-Config-Key", "acme", "Connection-Id", "c")
	if err != nil || a.header.Get("X-Error-Code") != "provider_unreachable" {
		t.Fatal("without the proxy: ", a, err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(p.log.String(), "through the egress proxy: ") {
		t.Errorf("the log does not say why:\n%s", p.log.String())
	}
	for _, secret := range []string{password, base64.StdEncoding.EncodeToString([]byte(user + ":" + password))} {
		if log := p.log.String(); strings.Contains(log, secret) {
			t.Errorf("the log has the password of the proxy:\n%s", log)
		}
	}
}
