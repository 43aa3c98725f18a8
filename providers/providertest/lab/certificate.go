package lab

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"sync"
	"time"
)

// certificates are valid at any time that a test plays at.
var (
	certified      = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	certifiedUntil = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

// authority is who signs the certificates of clients.
var authority = sync.OnceValue(func() *x509.Certificate {
	key := keys[keyOfClient].ec()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: certified, NotAfter: certifiedUntil,
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key))))
})

// certificate is that of a user's client, in PEM form. The authority's own stands behind those of odd users.
func certificate(n int) string {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(int64(n) + 2), Subject: pkix.Name{CommonName: "client"}, NotBefore: certified, NotAfter: certifiedUntil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	block := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	out := block(must(x509.CreateCertificate(rand.Reader, c, authority(), keys[n].ec().Public(), keys[keyOfClient].ec())))
	if n%2 == 1 {
		out += block(authority().Raw)
	}
	return out
}

// wantsCertificate reports whether a client shows a certificate beside its secret (RFC 8705).
func (e *Entry) wantsCertificate() bool { return e.at("require_client_certificate") == true }

// shown says what is wrong with the certificate that came with a request: it has to be the user's, and of our authority.
func (p *Provider) shown(q *request, g *grant) string {
	if !p.entry.wantsCertificate() {
		if len(q.certificates) > 0 {
			return "a certificate is shown to somebody who did not ask for one"
		}
		return ""
	}
	if len(q.certificates) == 0 {
		return "no certificate is shown"
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority())
	_, err := q.certificates[0].Verify(x509.VerifyOptions{Roots: roots, CurrentTime: p.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil || !keys[g.user.N].ec().PublicKey.Equal(q.certificates[0].PublicKey) {
		return "the certificate is not the client's"
	}
	return ""
}
