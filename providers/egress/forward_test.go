package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The relay listens on 127.0.0.1, which no policy below allows, and the targets on 127.0.0.2.
const (
	relayUser     = "relay-user"
	relayPassword = "relay-p@ss:word"
)

// userinfo is what stands for them in a URL.
var userinfo = url.UserPassword(relayUser, relayPassword).String()

// relay is a forward proxy that keeps what is asked of it and what passes through.
type relay struct {
	net.Listener
	names map[string]string // where names lead

	mu     sync.Mutex
	asked  []string // targets
	proofs []string // credentials, one for each target
	passed bytes.Buffer
	conns  []net.Conn
}

func newRelay(t *testing.T, serve func(*relay, net.Conn) (target string, err error), wrap func(net.Listener) net.Listener) *relay {
	t.Helper()
	l, err := listen(t, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: wrap(l)}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := r.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns = append(r.conns, conn)
			r.mu.Unlock()
			open.Go(func() { r.tunnel(conn, serve) })
		}
	})
	t.Cleanup(func() {
		_ = r.Close()
		r.mu.Lock()
		for _, conn := range r.conns { // a client may keep one for later
			_ = conn.Close()
		}
		r.mu.Unlock()
		open.Wait()
	})
	return r
}

// tunnel lets serve find out where a connection wants to go, and joins it with its target.
func (r *relay) tunnel(conn net.Conn, serve func(*relay, net.Conn) (string, error)) {
	defer conn.Close()
	target, err := serve(r, conn)
	if err != nil {
		return
	}
	host, port, _ := net.SplitHostPort(target)
	if to, ok := r.names[host]; ok {
		target = net.JoinHostPort(to, port)
	}
	var d net.Dialer
	upstream, err := d.DialContext(context.Background(), "tcp", target)
	if err != nil {
		return
	}
	defer upstream.Close()
	go func() {
		_, _ = io.Copy(conn, upstream)
		_ = conn.Close()
	}()
	_, _ = io.Copy(io.MultiWriter(upstream, r), conn)
}

// Write keeps what clients send to targets.
func (r *relay) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.passed.Write(b)
}

func (r *relay) ask(target, proof string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked, r.proofs = append(r.asked, target), append(r.proofs, proof)
}

// seen gives the targets, the credentials, and what was sent to the targets.
func (r *relay) seen() (asked, proofs []string, passed string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked), slices.Clone(r.proofs), r.passed.String()
}

func plain(l net.Listener) net.Listener { return l }

// serveConnect speaks HTTP.
func serveConnect(r *relay, conn net.Conn) (string, error) {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil || req.Method != http.MethodConnect {
		r.ask("not a CONNECT", "")
		return "", errors.New("not a CONNECT")
	}
	proof, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(req.Header.Get("Proxy-Authorization"), "Basic "))
	r.ask(req.RequestURI, string(proof))
	_, err = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	return req.RequestURI, err
}

// serveSOCKS speaks RFC 1928 and RFC 1929.
func serveSOCKS(r *relay, conn net.Conn) (string, error) {
	in := bufio.NewReader(conn)
	field := func() string {
		n, _ := in.ReadByte()
		b := make([]byte, n)
		_, _ = io.ReadFull(in, b)
		return string(b)
	}
	skip := func(n int) { _, _ = in.Discard(n) }
	skip(1)
	proof, method := "", byte(0)
	if strings.ContainsRune(field(), 2) {
		method = 2
	}
	_, _ = conn.Write([]byte{5, method})
	if method == 2 {
		skip(1)
		proof = field() + ":" + field()
		_, _ = conn.Write([]byte{1, 0})
	}
	skip(3)
	host := ""
	switch kind, _ := in.ReadByte(); kind {
	case 1:
		b := make(net.IP, 4)
		_, _ = io.ReadFull(in, b)
		host = b.String()
	case 3:
		host = field()
	}
	high, _ := in.ReadByte()
	low, err := in.ReadByte()
	if err != nil {
		return "", err
	}
	target := net.JoinHostPort(host, strconv.Itoa(int(high)<<8|int(low)))
	r.ask(target, proof)
	_, err = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	return target, err
}

// targets are a plain and a TLS server on 127.0.0.2, what they are asked, and the authority of the latter, which is for
// example.com.
func targets(t *testing.T) (plain, secure *httptest.Server, roots *x509.CertPool, got chan *http.Request) {
	t.Helper()
	got = make(chan *http.Request, 8)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r })
	start := func(run func(*httptest.Server)) *httptest.Server {
		l, err := listen(t, "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(h)
		_ = s.Listener.Close()
		s.Listener = l
		s.EnableHTTP2 = true
		run(s)
		t.Cleanup(s.Close)
		return s
	}
	plain, secure = start((*httptest.Server).Start), start((*httptest.Server).StartTLS)
	roots = x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	return plain, secure, roots, got
}

// port is where a server listens.
func port(s *httptest.Server) string {
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return port
}

func TestForwardProxy(t *testing.T) {
	plainly, secure, roots, got := targets(t)
	for name, c := range map[string]struct {
		scheme string
		serve  func(*relay, net.Conn) (string, error)
		wrap   func(net.Listener) net.Listener
	}{
		"HTTP":  {"http", serveConnect, plain},
		"HTTPS": {"https", serveConnect, func(l net.Listener) net.Listener { return tls.NewListener(l, secure.TLS) }},
		"SOCKS": {"socks5", serveSOCKS, plain},
	} {
		t.Run(name, func(t *testing.T) {
			zone := &zone{} // knows no name: all are for the proxy to resolve
			r := newRelay(t, c.serve, c.wrap)
			r.names = map[string]string{"example.com": "127.0.0.2"}
			p := newPolicy(t, Options{
				Allow: []string{"127.0.0.2", "example.com"}, RootCAs: roots, Resolver: zone.resolver(),
				Proxy: c.scheme + "://" + userinfo + "@" + strings.Replace(r.Addr().String(), "127.0.0.1", relayHost(c.scheme), 1),
			})
			if c.scheme == "https" { // its certificate has this name, which has to be resolved
				zone.names = map[string][][]string{"example.com.": {{"127.0.0.1"}}}
			}
			for i, client := range []*http.Client{p.TokenClient(), p.MetadataClient(), {Transport: p.ProxyTransport()}} {
				for _, target := range []string{plainly.URL, "http://example.com:" + port(plainly), "https://example.com:" + port(secure)} {
					resp, err := do(t, client, http.MethodPost, target+"/path?query", "client_secret=hunter2")
					if err != nil {
						t.Fatalf("client %d, %s: %v", i, target, err)
					}
					req := <-got
					if req.RequestURI != "/path?query" || req.Header.Get("Proxy-Authorization") != "" {
						t.Errorf("the target sees %s %v", req.RequestURI, req.Header)
					}
					if strings.HasPrefix(target, "https") && resp.ProtoMajor != 2 {
						t.Errorf("%s: got HTTP/%d, want 2", target, resp.ProtoMajor)
					}
				}
			}
			asked, proofs, passed := r.seen()
			slices.Sort(asked)
			want := []string{"127.0.0.2:" + port(plainly), "example.com:" + port(plainly), "example.com:" + port(secure)}
			if slices.Sort(want); !slices.Equal(slices.Compact(asked), want) {
				t.Errorf("the proxy was asked for %v, want %v", asked, want)
			}
			for _, proof := range proofs {
				if proof != relayUser+":"+relayPassword {
					t.Errorf("the proxy was shown %q", proof)
				}
			}
			if n := strings.Count(passed, "hunter2"); n != 2*2*3 { // a header and a body of each plain request
				t.Errorf("the proxy has read %d secrets, want those of plain requests alone", n)
			}
		})
	}
}

// relayHost is how the relay is called: TLS needs a name that its certificate has.
func relayHost(scheme string) string {
	if scheme == "https" {
		return "example.com"
	}
	return "127.0.0.1"
}

// What can be judged of a target without its address is judged before the proxy hears of it.
func TestForwardProxyTargets(t *testing.T) {
	r := newRelay(t, serveConnect, plain)
	_, relayPort, _ := net.SplitHostPort(r.Addr().String())
	p := newPolicy(t, Options{Allow: []string{"127.0.0.2", "10.1.0.0/16", "listed.test"}, Proxy: "http://" + r.Addr().String()})
	for address, want := range map[string]error{
		"127.0.0.2:8080": nil, "10.1.2.3:8443": nil, "listed.test:8443": nil, "Listed.TEST:80": nil, "idp.example:443": nil, "192.0.2.1:443": ErrBlocked,
		"127.0.0.1:" + relayPort: ErrBlocked, "[::1]:443": ErrBlocked, "[::ffff:127.0.0.1]:443": ErrBlocked, "[64:ff9b::7f00:1]:443": ErrBlocked,
		"10.2.0.1:443": ErrBlocked, "169.254.169.254:80": ErrBlocked, "[fe80::1%lo]:443": ErrBlocked, "8.8.8.8:443": nil, "8.8.8.8:80": ErrBlocked,
		"localhost:443": ErrBlocked, "a.LocalHost:443": ErrBlocked, "localhost.:443": ErrBlocked, "idp.example:80": ErrBlocked, "idp.example:8443": ErrBlocked,
		"idp.example.:443": ErrBlocked, "0x7f.1:443": ErrBlocked, "2130706433:443": ErrBlocked, "127.1:443": ErrBlocked, "a_b.example:443": ErrBlocked,
		"a b.example:443": ErrBlocked, "a\r\nb:443": ErrBlocked, "bücher.example:443": ErrBlocked, "idp.example:x": ErrBlocked, "idp.example:70000": ErrBlocked,
		"idp.example": ErrBlocked, ":443": ErrBlocked, "": ErrBlocked,
	} {
		if err := p.checkTunnel(address); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", address, err, want)
		}
	}
	for _, target := range []string{"https://127.0.0.1:" + relayPort, "http://localhost", "https://169.254.169.254", "https://idp.example:8443"} {
		if err := get(t, p.TokenClient(), target); Classify(err) != Blocked {
			t.Errorf("%s: got %v", target, err)
		}
	}
	if asked, _, _ := r.seen(); len(asked) != 0 {
		t.Errorf("the proxy was asked for %v", asked)
	}
	local := newPolicy(t, Options{Allow: []string{"127.0.0.0/8"}, Proxy: "http://" + r.Addr().String()})
	if err := local.checkTunnel("localhost:8080"); err != nil {
		t.Errorf("localhost where loopback is allowed: %v", err)
	}
}

// Whatever becomes of a tunnel, a caller learns that the provider cannot be reached, or that it may not be, and nobody the
// proxy's password.
func TestForwardProxyFailures(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		kind   Kind
	}{
		"no such target":    {"HTTP/1.1 502 Bad Gateway\r\n\r\n", Unreachable},
		"target is silent":  {"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 3\r\n\r\nx", Unreachable},
		"wrong password":    {"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", Unreachable},
		"refused":           {"HTTP/1.1 403 Forbidden\r\n\r\n", Blocked},
		"not a proxy":       {"SSH-2.0-OpenSSH_9.9\r\n", Unreachable},
		"hangs up":          {"", Unreachable},
		"speaks too early":  {"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Unreachable},
		"endless headers":   {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 80<<10) + "\r\n\r\n", Unreachable},
		"asks for patience": {"HTTP/1.1 100 Continue\r\n\r\n", Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t, func(r *relay, conn net.Conn) (string, error) {
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				_, _ = io.WriteString(conn, c.answer)
				return "", errors.New("no tunnel")
			}, plain)
			p := newPolicy(t, Options{Proxy: "http://" + userinfo + "@" + r.Addr().String()})
			err := get(t, p.TokenClient(), "https://idp.example/token")
			if Classify(err) != c.kind {
				t.Errorf("got %s (%v), want %s", Classify(err), err, c.kind)
			}
			quiet(t, err)
		})
	}
	closed, err := listen(t, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for _, scheme := range []string{"http", "https", "socks5"} {
		p := newPolicy(t, Options{Proxy: scheme + "://" + userinfo + "@" + closed.Addr().String()})
		err := get(t, p.TokenClient(), "https://idp.example/token")
		if Classify(err) != Unreachable {
			t.Errorf("%s, closed: got %v", scheme, err)
		}
		quiet(t, err)
	}
}

// quiet checks that an error does not tell the proxy's credential.
func quiet(t *testing.T, err error) {
	t.Helper()
	for _, secret := range []string{relayUser, relayPassword, userinfo, base64.StdEncoding.EncodeToString([]byte(relayUser + ":" + relayPassword))} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells the credential: %v", err)
		}
	}
}

// A target that the proxy waits for in vain is as unreachable as one whose port is closed.
func TestForwardProxyThatIsSilent(t *testing.T) {
	silent := newTrap(t, "127.0.0.1:0")
	for _, scheme := range []string{"http", "https", "socks5"} {
		p := newPolicy(t, Options{Proxy: scheme + "://" + silent.Addr().String()})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		conn, err := p.dialThrough(ctx, "tcp", "idp.example:443")
		if conn != nil || Classify(err) != Unreachable {
			t.Errorf("%s: got %v, %v", scheme, conn, err)
		}
	}
}

func TestForwardProxyURL(t *testing.T) {
	for _, raw := range []string{
		"http://proxy.internal:3128", "http://proxy_1:3128/", "https://10.0.0.1:443", "http://[::1]:8080", "socks5://u@proxy:1080", "http://" + userinfo + "@proxy:1",
	} {
		if _, err := New(Options{Proxy: raw}); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, raw := range []string{
		"proxy.internal:3128", "http://proxy.internal", "http://:3128", "ftp://hunter2@proxy:21", "socks4://proxy:1080", "http://u:hunter2@proxy:port",
		"http://u:hunter2@proxy:3128/path", "http://u:hunter2@proxy:3128?q", "http://u:hunter2@proxy:3128#f", "http://u:hunter2@proxy:70000",
		"http://u:hunter2%zz@proxy:3128", "//proxy:3128", "hunter2",
	} {
		_, err := New(Options{Allow: []string{"nonsense!"}, Proxy: raw})
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "proxy: ") || !strings.Contains(err.Error(), "nonsense!") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// What the process was started with does not decide where requests go, with a proxy of ours or without.
func TestProxyEnvironmentIsIgnored(t *testing.T) {
	plainly, _, _, got := targets(t)
	const nowhere = "127.0.0.1:1" // always the same: net/http reads the environment once
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://"+nowhere)
		t.Setenv(strings.ToLower(name), "http://"+nowhere)
	}
	for _, name := range []string{"NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
	target := "http://listed.test:" + port(plainly)
	u, _ := url.Parse(target)
	if would, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err != nil || would == nil || would.Host != nowhere {
		t.Fatalf("the environment has no effect on anybody: %v, %v", would, err)
	}
	r := newRelay(t, serveConnect, plain)
	r.names = map[string]string{"listed.test": "127.0.0.2"}
	for _, proxy := range []string{"", "http://" + r.Addr().String()} {
		z := &zone{names: map[string][][]string{"listed.test.": {{"127.0.0.2"}}}}
		p := newPolicy(t, Options{Allow: []string{"listed.test"}, Resolver: z.resolver(), Proxy: proxy})
		for _, c := range []*http.Client{p.TokenClient(), p.MetadataClient(), {Transport: p.ProxyTransport()}} {
			if err := get(t, c, target); err != nil {
				t.Errorf("proxy %q: %v", proxy, err)
				continue
			}
			<-got
		}
	}
}
