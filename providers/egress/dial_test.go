package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// The tests below use two addresses of this machine: 127.0.0.2 is on the allow list and stands for
// an address that may be reached, 127.0.0.1 is not and stands for all that may not.
var reachable = []string{"127.0.0.2"}

// trap is a listener that must not be connected to.
type trap struct{ net.Listener }

// untouched connects itself and fails unless that is the first connection in the listener's queue.
func (l trap) untouched(t *testing.T) {
	t.Helper()
	var d net.Dialer
	marker, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer marker.Close()
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if got, want := first.RemoteAddr().String(), marker.LocalAddr().String(); got != want {
		t.Errorf("%s was connected to before", l.Addr())
	}
}

func listen(t *testing.T, address string) (net.Listener, error) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", address)
	if err == nil {
		t.Cleanup(func() { l.Close() })
	}
	return l, err
}

func newTrap(t *testing.T, address string) trap {
	t.Helper()
	l, err := listen(t, address)
	if err != nil {
		t.Fatal(err)
	}
	return trap{l}
}

// besides returns a server on 127.0.0.2 and traps with the same port on the given hosts.
func besides(t *testing.T, hosts ...string) (port string, traps []trap) {
	t.Helper()
	for range 20 { // the port may be taken on another address
		l, err := listen(t, "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ = net.SplitHostPort(l.Addr().String())
		traps = nil
		for _, host := range hosts {
			if l, err := listen(t, net.JoinHostPort(host, port)); err == nil {
				traps = append(traps, trap{l})
			}
		}
		if len(traps) < len(hosts) {
			continue
		}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		server.Listener.Close()
		server.Listener = l
		server.Start()
		t.Cleanup(server.Close)
		return port, traps
	}
	t.Fatal("no port is free on all addresses")
	return "", nil
}

func get(t *testing.T, c *http.Client, url string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // a trap does not answer
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func TestDialRefusesBeforeConnecting(t *testing.T) {
	z := &zone{names: map[string][][]string{
		"loopback.test.": {{"127.0.0.1"}},
		"six.test.":      {{"::1"}},
		"both.test.":     {{"127.0.0.1", "::1"}},
		"many.test.":     {{"127.0.0.1", "127.0.0.3", "::1"}},
	}}
	port, traps := besides(t, "127.0.0.1", "127.0.0.3", "::1")
	p := newPolicy(t, Options{Allow: reachable, Resolver: z.resolver()})
	for _, host := range []string{
		"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "localhost",
		"loopback.test", "LOOPBACK.test", "loopback.test.", "six.test", "both.test", "many.test",
	} {
		for _, c := range []*http.Client{p.TokenClient(), p.MetadataClient(), {Transport: p.ProxyTransport()}} {
			for _, scheme := range []string{"http", "https"} {
				err := get(t, c, scheme+"://"+host+":"+port+"/")
				if !errors.Is(err, ErrBlocked) || Classify(err) != Blocked {
					t.Fatalf("%s %s: got %v, want ErrBlocked", scheme, host, err)
				}
			}
		}
	}
	for _, trap := range traps {
		trap.untouched(t)
	}
}

// A name that was good when it was first resolved is judged again when it is dialled again.
func TestDialRebinding(t *testing.T) {
	z := &zone{names: map[string][][]string{"rebind.test.": {{"127.0.0.2"}, {"127.0.0.1"}}}}
	port, traps := besides(t, "127.0.0.1")
	p := newPolicy(t, Options{Allow: reachable, Resolver: z.resolver()})
	c := p.TokenClient()
	url := "http://rebind.test:" + port + "/"
	if err := get(t, c, url); err != nil {
		t.Fatalf("first request: %v", err)
	}
	c.CloseIdleConnections()
	if err := get(t, c, url); !errors.Is(err, ErrBlocked) {
		t.Errorf("after rebinding: got %v, want ErrBlocked", err)
	}
	traps[0].untouched(t)
}

// Of a mixed answer only the good addresses are tried, in whatever family and order they come.
func TestDialMixedAnswers(t *testing.T) {
	z := &zone{names: map[string][][]string{
		"a-first.test.":    {{"127.0.0.1", "127.0.0.2"}},
		"a-last.test.":     {{"127.0.0.2", "127.0.0.1"}},
		"aaaa-first.test.": {{"::1", "127.0.0.2"}},
		"aaaa-last.test.":  {{"127.0.0.2", "::1"}},
	}}
	port, traps := besides(t, "127.0.0.1", "::1")
	p := newPolicy(t, Options{Allow: reachable, Resolver: z.resolver()})
	for name := range z.names {
		if err := get(t, p.TokenClient(), "http://"+name[:len(name)-1]+":"+port+"/"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, trap := range traps {
		trap.untouched(t)
	}
}

// A blocked address is reported as such even if another address failed first or last.
func TestDialMixedFailures(t *testing.T) {
	closed, err := listen(t, "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(closed.Addr().String())
	closed.Close()
	z := &zone{names: map[string][][]string{
		"blocked-first.test.": {{"127.0.0.1", "127.0.0.2"}},
		"blocked-last.test.":  {{"127.0.0.2", "127.0.0.1"}},
		"blocked-six.test.":   {{"127.0.0.2", "::1"}},
		"closed.test.":        {{"127.0.0.2"}},
	}}
	p := newPolicy(t, Options{Allow: reachable, Resolver: z.resolver()})
	for name := range z.names {
		want := Blocked
		if name == "closed.test." {
			want = Unreachable
		}
		err := get(t, p.TokenClient(), "http://"+name[:len(name)-1]+":"+port+"/")
		if got := Classify(err); got != want {
			t.Errorf("%s: got %s (%v), want %s", name, got, err, want)
		}
	}
}

func TestDialAllowedName(t *testing.T) {
	z := &zone{names: map[string][][]string{
		"idp.test.":       {{"127.0.0.2"}},
		"other.test.":     {{"127.0.0.2"}},
		"sub.idp.test.":   {{"127.0.0.2"}},
		"idp.test.other.": {{"127.0.0.2"}},
	}}
	port, _ := besides(t)
	p := newPolicy(t, Options{Allow: []string{"Idp.test"}, Resolver: z.resolver()})
	for host, want := range map[string]error{
		"idp.test": nil, "IDP.TEST": nil,
		"other.test": ErrBlocked, "sub.idp.test": ErrBlocked, "idp.test.other": ErrBlocked, "127.0.0.2": ErrBlocked,
	} {
		p.calls.CloseIdleConnections()
		if err := get(t, p.TokenClient(), "http://"+host+":"+port+"/"); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", host, err, want)
		}
	}
}

func TestDialBadAddress(t *testing.T) {
	p := newPolicy(t, Options{Allow: []string{"127.0.0.0/8", "::1"}})
	for _, address := range []string{"", ":80", "127.0.0.1", "0.0.0.0:80", "[::]:80", "[::1%lo]:80"} {
		conn, err := p.dial(t.Context(), "tcp", address)
		if !errors.Is(err, ErrBlocked) {
			t.Errorf("%q: got %v, %v, want ErrBlocked", address, conn, err)
		}
	}
}

func TestUnknownNameIsUnreachable(t *testing.T) {
	z := &zone{}
	p := newPolicy(t, Options{Resolver: z.resolver()})
	err := get(t, p.TokenClient(), "https://nowhere.test/")
	if got := Classify(err); got != Unreachable {
		t.Errorf("got %s (%v), want %s", got, err, Unreachable)
	}
}

func TestSilentServerIsTimeout(t *testing.T) {
	silent := newTrap(t, "127.0.0.2:0")
	p := newPolicy(t, Options{Allow: reachable})
	c := p.TokenClient()
	c.Timeout = 50 * time.Millisecond
	err := get(t, c, "http://"+silent.Addr().String()+"/?code=hunter2")
	if got := Classify(err); got != Timeout {
		t.Errorf("got %s (%v), want %s", got, err, Timeout)
	}
}

type slow struct{}

func (slow) Error() string   { return "i/o timeout" }
func (slow) Timeout() bool   { return true }
func (slow) Temporary() bool { return true }

func TestClassifyAndRedact(t *testing.T) {
	peer := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 443}
	in := func(err error) error {
		return &url.Error{Op: "Post", URL: "https://idp.example/token?code=hunter2", Err: err}
	}
	dial := func(err error) error { return in(&net.OpError{Op: "dial", Net: "tcp", Addr: peer, Err: err}) }
	tests := []struct {
		name string
		err  error
		kind Kind
		want error
	}{
		{"nil", nil, "", nil},
		{"blocked", in(ErrBlocked), Blocked, ErrBlocked},
		{"url", in(ErrURL), Blocked, ErrURL},
		{"refused", dial(errors.New("connection refused")), Unreachable, ErrUnreachable},
		{"filtered", dial(slow{}), Unreachable, ErrUnreachable},
		{"no such name", dial(&net.DNSError{Err: "no such host", Name: "idp.example", IsNotFound: true}), Unreachable, ErrUnreachable},
		{"slow name server", dial(&net.DNSError{Err: "timeout", Name: "idp.example", IsTimeout: true}), Unreachable, ErrUnreachable},
		{"reset", in(&net.OpError{Op: "read", Net: "tcp", Addr: peer, Err: errors.New("connection reset by peer")}), Unreachable, ErrUnreachable},
		{"eof", in(io.EOF), Unreachable, ErrUnreachable},
		{"read timeout", in(&net.OpError{Op: "read", Net: "tcp", Addr: peer, Err: slow{}}), Timeout, ErrTimeout},
		{"deadline", in(context.DeadlineExceeded), Timeout, ErrTimeout},
		{"canceled", in(context.Canceled), Unreachable, context.Canceled},
		{"too large", in(ErrTooLarge), Unreachable, ErrTooLarge},
		{"redacted timeout", ErrTimeout, Timeout, ErrTimeout},
		{"redacted", ErrUnreachable, Unreachable, ErrUnreachable},
	}
	for _, tt := range tests {
		if got := Classify(tt.err); got != tt.kind {
			t.Errorf("%s: kind %q, want %q", tt.name, got, tt.kind)
		}
		// Identity, not errors.Is: nothing may be wrapped.
		if got := Redact(tt.err); got != tt.want { //nolint:errorlint // see above
			t.Errorf("%s: redacted to %v, want %v", tt.name, got, tt.want)
		}
	}
}
