package egress

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// MaxBody is ReadBody's limit where none is given: enough for any OAuth answer or metadata document.
const MaxBody = 256 << 10

const (
	callTimeout     = 20 * time.Second // a whole call, body included
	maxCallHeaders  = 64 << 10
	maxProxyHeaders = 256 << 10
	maxRedirects    = 2
)

// ProxyTransport returns the transport of the authenticated proxy, the same one at each call; it
// must not be changed. It keeps many connections per host, passes compressed bodies through as they
// are, and bounds neither a request's whole time nor the idle time of a body: the proxy does.
func (p *Policy) ProxyTransport() *http.Transport { return p.proxy }

// TokenClient returns the client for calls that carry secrets of ours: token requests, revocation,
// registration, webhooks. A call takes at most 20 seconds with its body, and answers have at most
// 64 KiB of headers. A redirect is never followed but returned as the answer, so that a secret goes
// nowhere but to the URL it was meant for.
func (p *Policy) TokenClient() *http.Client {
	return &http.Client{
		Transport:     p.calls,
		Timeout:       callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// MetadataClient returns the client for discovery. It differs from TokenClient in that a GET or HEAD
// follows at most two redirects to its own origin, each checked as a new URL. Any other redirect is
// returned as the answer.
func (p *Policy) MetadataClient() *http.Client {
	return &http.Client{
		Transport:     p.calls,
		Timeout:       callTimeout,
		CheckRedirect: p.checkRedirect,
	}
}

func (p *Policy) checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > maxRedirects || first.Method != http.MethodGet && first.Method != http.MethodHead {
		return http.ErrUseLastResponse
	}
	// The origin is the same, so an IP address here was accepted when the first URL was checked.
	u, err := p.CheckURL(next.URL.String(), URLOptions{Literal: true})
	if err != nil || !sameOrigin(u.Scheme, u.Host, first.URL.Scheme, first.URL.Host) {
		return http.ErrUseLastResponse
	}
	return nil
}

// sameOrigin compares two origins, with or without the scheme's default port (RFC 6454 section 5).
func sameOrigin(scheme1, host1, scheme2, host2 string) bool {
	return scheme1 == scheme2 && withoutPort(scheme1, host1) == withoutPort(scheme2, host2)
}

func withoutPort(scheme, host string) string {
	port := ":443"
	if scheme == "http" {
		port = ":80"
	}
	return strings.TrimSuffix(strings.ToLower(host), port)
}

// ReadBody reads a response's body, decompressed if the transport asked for compression. It returns
// ErrTooLarge when there is more than limit bytes of it, 0 meaning MaxBody, and otherwise the
// redacted error of the read. The caller closes the body.
func ReadBody(resp *http.Response, limit int64) ([]byte, error) {
	if limit <= 0 {
		limit = MaxBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, resp.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, ErrTooLarge
	case err != nil:
		return nil, Redact(err)
	}
	return body, nil
}

func (p *Policy) proxyTransport(o Options) *http.Transport {
	t := p.transport(o)
	t.MaxIdleConns = 4096
	t.MaxIdleConnsPerHost = 512
	t.DisableCompression = true
	t.ResponseHeaderTimeout = o.ProxyHeaderTimeout
	t.MaxResponseHeaderBytes = maxProxyHeaders
	return t
}

func (p *Policy) callTransport(o Options) *http.Transport {
	t := p.transport(o)
	t.MaxIdleConns = 256
	t.MaxIdleConnsPerHost = 16
	t.MaxResponseHeaderBytes = maxCallHeaders
	return t
}

func (p *Policy) transport(o Options) *http.Transport {
	dial := p.dial
	if p.forward != nil {
		dial = p.dialThrough
	}
	return &http.Transport{
		// HTTPS_PROXY and its like would have another machine choose the address, unchecked. The
		// operator's own proxy is dialled below.
		Proxy:               nil,
		DialContext:         dial,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout: 10 * time.Second,
		// Without the pings a peer that went away holds every request of its one connection.
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}
