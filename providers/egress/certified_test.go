package egress

import (
	"crypto/tls"
	"encoding/binary"
	"net/http"
	"testing"
)

func TestCertificatesShareNoTransport(t *testing.T) {
	p := newPolicy(t, Options{})
	cert := func(n uint32) *tls.Certificate {
		return &tls.Certificate{Certificate: [][]byte{binary.BigEndian.AppendUint32(nil, n)}}
	}
	one, ok := p.CertifiedProxy(cert(1)).(*http.Transport)
	if !ok || len(one.TLSClientConfig.Certificates) != 1 || one.TLSClientConfig.InsecureSkipVerify || one.DialContext == nil || one.Proxy != nil {
		t.Fatalf("transport %+v", one)
	}
	if p.CertifiedProxy(cert(1)) != http.RoundTripper(one) {
		t.Error("a certificate has two transports")
	}
	if p.CertifiedProxy(cert(2)) == http.RoundTripper(one) || p.CertifiedCalls(cert(1)) == http.RoundTripper(one) {
		t.Error("a transport is shared")
	}
	if len(p.ProxyTransport().TLSClientConfig.Certificates) != 0 {
		t.Error("the common transport shows a certificate")
	}
	for n := range uint32(4 * maxCertified) {
		p.CertifiedCalls(cert(n))
	}
	p.certifiedCalls.kept.CleanUp()
	if n := p.certifiedCalls.kept.EstimatedSize(); n > maxCertified {
		t.Errorf("%d transports are kept", n)
	}
}
