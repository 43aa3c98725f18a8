package egress

import (
	"crypto/sha256"
	"crypto/tls"
	"net/http"
	"time"

	"github.com/maypok86/otter/v2"
)

const (
	maxCertified  = 256              // transports of each kind
	certifiedFor  = 10 * time.Minute // without a call; a connection of one that was dropped ends when it has idled long enough
	certifiedIdle = 8                // connections per host
)

// certified keeps a transport for each client certificate. They share nothing: a connection was opened under one
// certificate, and whoever is let onto it speaks under that name.
type certified struct {
	base *http.Transport
	kept *otter.Cache[[sha256.Size]byte, *http.Transport]
}

func newCertified(base *http.Transport) *certified {
	return &certified{base: base, kept: otter.Must(&otter.Options[[sha256.Size]byte, *http.Transport]{
		MaximumSize: maxCertified, ExpiryCalculator: otter.ExpiryAccessing[[sha256.Size]byte, *http.Transport](certifiedFor),
	})}
}

// of gives the transport of a certificate. Whoever has the certificate has its key: a pair is made of both or not at all.
func (c *certified) of(cert *tls.Certificate) http.RoundTripper {
	h := sha256.New()
	for _, der := range cert.Certificate {
		_, _ = h.Write(der)
	}
	key := [sha256.Size]byte(h.Sum(nil))
	if t, ok := c.kept.GetIfPresent(key); ok {
		return t
	}
	t := c.base.Clone()
	t.TLSClientConfig.Certificates = []tls.Certificate{*cert}
	t.MaxIdleConns, t.MaxIdleConnsPerHost = certifiedIdle, certifiedIdle
	if first, kept := c.kept.SetIfAbsent(key, t); !kept {
		return first
	}
	return t
}

// CertifiedProxy is ProxyTransport with a client certificate (RFC 8705). The server's own is verified as ever.
func (p *Policy) CertifiedProxy(cert *tls.Certificate) http.RoundTripper {
	return p.certifiedProxy.of(cert)
}

// CertifiedCalls is TokenClient's transport with a client certificate.
func (p *Policy) CertifiedCalls(cert *tls.Certificate) http.RoundTripper {
	return p.certifiedCalls.of(cert)
}
