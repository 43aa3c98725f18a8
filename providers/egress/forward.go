package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/net/proxy"
)

// dialer connects to an address, as [net.Dialer.DialContext] does.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// aLongTimeAgo is a deadline that has passed.
var aLongTimeAgo = time.Unix(1, 0)

// newForward makes the dialler that goes through o.Proxy. Its errors quote nothing of the URL, which
// may hold a password.
func newForward(o Options) (dialer, error) {
	u, err := parseProxy(o.Proxy)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "socks5" {
		return socks(u, o.Resolver)
	}
	t := &tunnels{address: u.Host, dialer: net.Dialer{Resolver: o.Resolver}}
	if u.User != nil {
		password, _ := u.User.Password()
		t.authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
	}
	if u.Scheme == "https" {
		t.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs, ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}}
	}
	return t.dial, nil
}

// parseProxy wants the port said: whether 80, 1080, 3128 or 8080 is meant differs from tool to tool.
func parseProxy(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("it is not a URL") // the parser's error quotes all of it
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5":
		return nil, errors.New("the scheme must be http, https or socks5")
	case u.Hostname() == "" || u.Port() == "":
		return nil, errors.New("it needs a host and a port, as in http://proxy.internal:3128")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("nothing may follow the port")
	}
	_, err = effectivePort(u)
	return u, err
}

// socks makes the dialler of a SOCKS5 proxy (RFC 1928), which is handed names as they are.
func socks(u *url.URL, resolver *net.Resolver) (dialer, error) {
	var auth *proxy.Auth
	if u.User != nil {
		password, _ := u.User.Password()
		auth = &proxy.Auth{User: u.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", u.Host, auth, &net.Dialer{Resolver: resolver})
	if err != nil {
		return nil, err
	}
	inContext, ok := d.(proxy.ContextDialer)
	if !ok {
		return nil, errors.New("this build has no SOCKS5")
	}
	return inContext.DialContext, nil
}

// dialThrough connects to host:port through the forward proxy. The time of a direct dial bounds
// everything until the target is reached, and every failure is one of dialling: what the proxy says
// of a target, and how soon, would tell a closed port from a filtered one.
func (p *Policy) dialThrough(ctx context.Context, network, address string) (net.Conn, error) {
	if err := p.checkTunnel(address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := p.forward(ctx, network, address)
	switch {
	case errors.Is(err, ErrBlocked):
		return nil, ErrBlocked
	case err != nil:
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("through the egress proxy: %w", err)}
	}
	return conn, nil
}

// checkTunnel judges as much of host:port as is known before somebody else resolves it: a literal
// address as the dialler would, a name by its grammar and, unless it is on the allow list, its port.
func (p *Policy) checkTunnel(address string) error {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return ErrBlocked
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return ErrBlocked
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return p.CheckAddr(netip.AddrPortFrom(addr, uint16(port)))
	}
	if checkHost(host) != nil || !p.opensName(host) && (isLocal(host) || !p.publicPort(uint16(port))) {
		return ErrBlocked
	}
	return nil
}

// tunnels makes connections through an HTTP proxy by CONNECT (RFC 9110 section 9.3.6).
type tunnels struct {
	address       string // of the proxy
	tls           *tls.Config
	authorization string // for the proxy; empty: none
	dialer        net.Dialer
}

func (t *tunnels) dial(ctx context.Context, network, address string) (_ net.Conn, err error) {
	conn, err := t.connect(ctx, network)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(aLongTimeAgo) })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err() // its deadline has come over the connection, which is of no use any more
		}
		if err != nil {
			_ = conn.Close()
		}
	}()
	return conn, t.open(conn, address)
}

// connect reaches the proxy itself.
func (t *tunnels) connect(ctx context.Context, network string) (net.Conn, error) {
	conn, err := t.dialer.DialContext(ctx, network, t.address)
	if err != nil || t.tls == nil {
		return conn, err
	}
	secure := tls.Client(conn, t.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// open asks for a tunnel to host:port. A proxy that answers 403 says that the address may not be
// reached, and is taken at its word: ErrBlocked.
func (t *tunnels) open(conn net.Conn, address string) error {
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{"User-Agent": {""}}}
	if t.authorization != "" {
		ask.Header.Set("Proxy-Authorization", t.authorization)
	}
	if err := ask.Write(conn); err != nil {
		return err
	}
	in := bufio.NewReader(io.LimitReader(conn, maxCallHeaders))
	answer, err := http.ReadResponse(in, ask) //nolint:bodyclose // what follows is the tunnel; closing the body would read it
	switch {
	case err != nil:
		return errors.New("it does not answer as a proxy does") // the parser's error quotes the answer
	case answer.StatusCode == http.StatusForbidden:
		return ErrBlocked
	case answer.StatusCode/100 != 2:
		return fmt.Errorf("it answers %d", answer.StatusCode)
	case in.Buffered() > 0:
		return errors.New("it speaks before the target is spoken to")
	}
	return nil
}
