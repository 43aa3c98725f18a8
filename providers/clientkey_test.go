package providers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/egress"
)

// assertionsAt is an authorization server that takes assertions of clients (RFC 7523 section 3) and nothing else.
func assertionsAt(t *testing.T, public crypto.PublicKey, alg jose.SignatureAlgorithm) (*door, *[]string) {
	t.Helper()
	seen := &[]string{}
	var d *door
	d = newDoor(t, func(w http.ResponseWriter, r *http.Request, body string) {
		form, _ := url.ParseQuery(body)
		signed, err := jose.ParseSignedCompact(form.Get("client_assertion"), []jose.SignatureAlgorithm{alg})
		var claims []byte
		if err == nil {
			claims, err = signed.Verify(public)
		}
		id := text(get(claims, "jti"))
		good := err == nil && form.Get("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" && !form.Has("client_secret") &&
			text(get(claims, "iss")) == form.Get("client_id") && text(get(claims, "sub")) == "the-client" && id != "" && !slices.Contains(*seen, id) &&
			text(get(claims, "aud")) == d.URL+r.URL.Path && scalarText(get(claims, "exp")) > scalarText(get(claims, "iat"))
		if !good {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
			return
		}
		*seen = append(*seen, id+" "+signed.Signatures[0].Header.KeyID)
		_, _ = io.WriteString(w, `{"access_token":"t","token_type":"bearer","expires_in":3600,"refresh_token":"r"}`)
	})
	return d, seen
}

func TestClientsThatProveThemselvesWithAKey(t *testing.T) {
	d, seen := assertionsAt(t, testRSA().Public(), jose.RS256)
	p := provider[*clientCredentials](t, load(t, strings.ReplaceAll(`
x:
  display_name: X
  auth_mode: OAUTH2_CC
  token_url: SERVER/token
  token_params: {grant_type: client_credentials}
  token_request_auth_method: private_key_jwt
  revocation_url: SERVER/revoke
  proxy: {base_url: SERVER}
`, "SERVER", d.URL)), "x")
	var names []string
	for _, f := range p.Facts().Fields {
		names = append(names, f.Name)
	}
	if !slices.Equal(names, []string{"client_id", "client_private_key"}) {
		t.Errorf("asks for %v", names)
	}
	jwk, err := (&jose.JSONWebKey{Key: testRSA(), KeyID: "k1"}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Submit(t.Context(), &broker.Holding{Client: &broker.Client{}}, secrets("client_id", "the-client", "client_private_key", string(jwk)))
	if err != nil {
		t.Fatal(err)
	}
	h := &broker.Holding{Client: &broker.Client{}, Material: got.Material}
	if _, err := p.Renew(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if supported, err := p.Revoke(t.Context(), h); !supported || err != nil {
		t.Error(supported, err)
	}
	if len(*seen) != 4 || !strings.HasSuffix((*seen)[0], " k1") { // both tokens are revoked
		t.Errorf("assertions %v", *seen)
	}
	ours := &broker.Client{ID: "the-client", Secret: broker.NewSecret(pemOf(t, testRSA()))}
	if _, err := p.Submit(t.Context(), &broker.Holding{Client: ours}, nil); err != nil {
		t.Errorf("the integration's key: %v", err)
	}
	_, err = p.Submit(t.Context(), &broker.Holding{Client: &broker.Client{}}, secrets("client_id", "the-client", "client_private_key", "nonsense"))
	wantInvalid(t, "no key", err, "client_private_key")
	_, err = p.Submit(t.Context(), &broker.Holding{Client: &broker.Client{}}, secrets("client_id", "the-client"))
	wantInvalid(t, "nothing", err, "client_private_key")
	_, err = p.Submit(t.Context(), &broker.Holding{Client: &broker.Client{}}, secrets("client_id", "another", "client_private_key", string(jwk)))
	if e := failed(t, err); e.Class != broker.GrantLost || e.Code != "invalid_client" {
		t.Errorf("%+v", e)
	}
}

func TestCodesAreExchangedWithAKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, seen := assertionsAt(t, key.Public(), jose.ES256)
	p := oauth(t, load(t, strings.ReplaceAll(`
x:
  display_name: X
  auth_mode: OAUTH2
  authorization_url: https://x.example/authorize
  token_url: SERVER/token
  token_auth_method: private_key_jwt
`, "SERVER", d.URL)), "x")
	c := &broker.Client{ID: "the-client", Secret: broker.NewSecret(pemOf(t, key))}
	got, err := p.Exchange(t.Context(), &broker.ExchangeRequest{Client: c, Code: "c", RedirectURI: "https://c.example/oauth/callback"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Renew(t.Context(), &broker.Holding{Client: c, Material: got.Material}); err != nil {
		t.Fatal(err)
	}
	if len(*seen) != 2 {
		t.Errorf("assertions %v", *seen)
	}
	_, err = p.Exchange(t.Context(), &broker.ExchangeRequest{Client: client, Code: "c"})
	if e := failed(t, err); e.Code != "variable_invalid" || strings.Contains(e.Text, client.Secret.Reveal()) {
		t.Errorf("%+v", e)
	}
}

// authority signs certificates of clients.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	a.cert = a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, key.Public())
	return a
}

func (a *authority) sign(t *testing.T, c *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// issue gives a client's certificate and key in PEM form.
func (a *authority) issue(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, private.Public())
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})), pemOf(t, private)
}

func TestCertificatesOfClients(t *testing.T) {
	a := newAuthority(t)
	clients := x509.NewCertPool()
	clients.AddCert(a.cert)
	var seen []string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.Path+" "+r.TLS.PeerCertificates[0].Subject.CommonName)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"t","expires_in":3600,"sub":"me"}`)
	}))
	s.TLS = &tls.Config{ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	entry := strings.ReplaceAll(`
x:
  display_name: X
  auth_mode: OAUTH2_CC
  require_client_certificate: true
  token_url: SERVER/token
  token_params: {grant_type: client_credentials}
  identity_endpoint: GET SERVER/me
  proxy: {base_url: SERVER}
`, "SERVER", s.URL)
	loadUnder := func(roots *x509.CertPool) *clientCredentials {
		policy, err := egress.New(egress.Options{Allow: []string{"127.0.0.0/8"}, RootCAs: roots})
		if err != nil {
			t.Fatal(err)
		}
		o := options(t, entry)
		o.Client, o.Certified = policy.TokenClient(), policy.CertifiedCalls
		c, err := Load(o)
		if err != nil {
			t.Fatal(err)
		}
		return provider[*clientCredentials](t, c, "x")
	}
	p := loadUnder(roots)
	typed := func(certificate, key string) map[string]broker.Secret {
		return secrets("client_id", "i", "client_secret", "s", "client_certificate", certificate, "client_private_key", key)
	}
	certificate, key := a.issue(t, "ann")
	other, otherKey := a.issue(t, "bob")
	none := &broker.Holding{Client: &broker.Client{}}
	got, err := p.Submit(t.Context(), none, typed(certificate, key))
	if err != nil {
		t.Fatal(err)
	}
	h := &broker.Holding{Client: &broker.Client{}, Material: got.Material}
	if id, err := p.Identify(t.Context(), h); err != nil || id != "me" {
		t.Errorf("%q %v", id, err)
	}
	if _, err := p.Submit(t.Context(), none, typed(other, strings.ReplaceAll(otherKey, "\n", " "))); err != nil {
		t.Error(err)
	}
	if want := []string{"/token ann", "/me ann", "/token bob"}; !slices.Equal(seen, want) {
		t.Errorf("seen %v", seen)
	}
	shown, err := p.Present(h)
	if err != nil || shown.Certificate == nil {
		t.Errorf("presented %v", err)
	}
	for field, bad := range map[string]map[string]broker.Secret{
		"client_certificate": typed(certificate, otherKey), "client_private_key": typed(certificate, "nonsense"),
	} {
		_, err := p.Submit(t.Context(), none, bad)
		wantInvalid(t, field, err, field)
	}
	_, err = p.Submit(t.Context(), none, typed("nonsense", key))
	wantInvalid(t, "no certificate", err, "client_certificate")
	// The server's own certificate is verified all the same.
	_, err = loadUnder(x509.NewCertPool()).Submit(t.Context(), none, typed(certificate, key))
	if e := failed(t, err); e.Class != broker.Transient || e.Reach == nil {
		t.Errorf("%+v", e)
	}
	if len(seen) != 3 {
		t.Errorf("seen %v", seen)
	}
}
