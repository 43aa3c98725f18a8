package web

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// Limits of a connection. Reading a body and writing an answer are limited by kit.Observer, because the proxy
// may do both for hours.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 32 << 10
)

// Server makes the server that serves h: HTTP/1 alone, since TLS ends in front of us, and HTTP/2 without it lets
// requests be smuggled past what stands there.
func Server(h http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// Strangers can make net/http log at will, so it does not until somebody looks.
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols: protocols,
	}
}

// lastOfConnection has the connection closed after the answer, wherever somebody in front of us may have seen the request
// end elsewhere: what follows must not be taken for a request of its own. That is asked for where a Content-Length stands
// beside Transfer-Encoding, which overrides it (RFC 9112 section 6.3), and where HTTP/1.0 is sent with Transfer-Encoding
// (section 6.1). net/http drops the header that does not count before anybody can look, so the few requests that come in
// chunks, and all of HTTP/1.0, are treated alike.
func lastOfConnection(w http.ResponseWriter, r *http.Request) {
	if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
		w.Header().Set("Connection", "close")
	}
}

// KeyLimit makes what lets each API key send only so many requests a second, and so many at once: a burst of zero is what a
// second brings. It is for [Deps] and for the proxy, which share it. It is nil, no limit, where perSecond is zero.
func KeyLimit(perSecond float64, burst int) func(broker.APIKeyID) error {
	if perSecond == 0 {
		return nil
	}
	return kit.NewKeyLimiter(perSecond, burst, time.Now).Take
}

// LimitAddresses gives a listener that lets each address have n connections open at a time, and closes those beyond
// without an answer: nothing has been read that could be answered. An IPv6 client is taken with its whole /64. Trusted
// proxies are not limited, because they carry everybody. It is l itself where n is zero.
func LimitAddresses(l net.Listener, n int, trusted []netip.Prefix) net.Listener {
	if n == 0 {
		return l
	}
	return &addressListener{Listener: l, most: n, trusted: trusted, open: make(map[netip.Prefix]int)}
}

type addressListener struct {
	net.Listener
	most    int
	trusted kit.Proxies

	mu   sync.Mutex
	open map[netip.Prefix]int
}

// Accept gives the next connection that may stay.
func (l *addressListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := kit.Peer(conn.RemoteAddr().String())
		if l.trusted.Trusts(peer) {
			return conn, nil
		}
		from := kit.Subscriber(peer)
		if l.enter(from) {
			return &countedConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		_ = conn.Close()
	}
}

func (l *addressListener) enter(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from] >= l.most {
		return false
	}
	l.open[from]++
	return true
}

func (l *addressListener) leave(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

// countedConn counts until it is closed.
type countedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection, and makes room for another.
func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}
