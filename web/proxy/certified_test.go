package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/proxy"
)

// selfSigned gives a certificate and its key in PEM form.
func selfSigned(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, about, about, private.Public(), private)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// Each connection's calls go over a transport of its own certificate, and those of all others over the common one.
func TestCallsShowTheirConnectionsCertificate(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) { _, _ = w.Write([]byte(q.Header.Get("Authorization"))) })
	for _, name := range []string{"ann", "bob"} {
		certificate, key := selfSigned(t, name)
		r.put("certified", name, &broker.Material{Type: "OAUTH2_CC", Access: broker.NewSecret("token-of-" + name), Details: map[string]broker.Secret{
			"client_id": broker.NewSecret("i"), "client_certificate": broker.NewSecret(certificate), "client_private_key": broker.NewSecret(key),
		}})
	}
	r.put("certified", "without", &broker.Material{Type: "OAUTH2_CC", Access: broker.NewSecret("t")})
	var shown []string
	certified := func(cert *tls.Certificate) http.RoundTripper {
		return transport(func(q *http.Request) (*http.Response, error) {
			shown = append(shown, cert.Leaf.Subject.CommonName)
			return r.policy.ProxyTransport().RoundTrip(q)
		})
	}
	call := func(h http.Handler, integration, connection string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		q := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/proxy/me", nil)
		for name, v := range map[string]string{"Authorization": "Bearer " + secretKey, "Provider-Config-Key": integration, "Connection-Id": connection} {
			q.Header.Set(name, v)
		}
		h.ServeHTTP(w, q)
		return w
	}
	for _, on := range []bool{true, false} {
		o := proxy.Options{Broker: r.broker, Reach: reach, Transport: r.policy.ProxyTransport()}
		if on {
			o.Certified = certified
		}
		h := proxy.New(o)
		for _, name := range []string{"ann", "bob"} {
			if w := call(h, "certified", name); on && (w.Code != http.StatusOK || w.Body.String() != "Bearer token-of-"+name) || !on && w.Code != http.StatusBadRequest {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
		if w := call(h, "keyed", "c"); w.Code != http.StatusOK {
			t.Errorf("keyed: %d %s", w.Code, w.Body)
		}
		if w := call(h, "certified", "without"); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"invalid_certificate_or_key_format","message":"the value of client_certificate is missing"`) {
			t.Errorf("without a certificate: %d %s", w.Code, w.Body)
		}
		must(t, h.Close())
	}
	if strings.Join(shown, " ") != "ann bob" {
		t.Errorf("shown %v", shown)
	}
}
