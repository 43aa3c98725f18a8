package providers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// jwtAt loads an entry of that mode.
func jwtAt(t *testing.T, lines string) *jwtProvider {
	t.Helper()
	return provider[*jwtProvider](t, load(t, "x:\n  display_name: X\n  auth_mode: JWT\n  "+strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n  ")+"\n"), "x")
}

// verified checks a token's signature and gives its header and its claims.
func verified(t *testing.T, token string, key any, algs ...jose.SignatureAlgorithm) (header jose.Header, claims jsontext.Value) {
	t.Helper()
	signed, err := jose.ParseSignedCompact(token, algs)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed.Signatures[0].Header, payload
}

func TestTokensOfOurOwn(t *testing.T) {
	p := jwtAt(t, `
signature: {protocol: RSA}
token:
  signing_key: ${credentials.privateKey}
  expires_in_ms: 1200000
  header: {alg: RS512, typ: JWT, kid: '${credentials.keyId}', x: '${credentials.none}'}
  payload:
    iss: ${connectionConfig.account}.${userName}
    sub: ${fingerprint(${credentials.privateKey})}
    aud: ['${credentials.audiences}', fixed]
    scope: ${credentials.none}
    admin: true
    level: 3
credentials:
  keyId: {title: K, description: d}
  userName: {title: U, description: d}
  audiences: {title: A, description: d}
  none: {title: N, description: d, optional: true}
  privateKey: {title: P, description: d, secret: true}
connection_config: {account: {title: A, description: d}}
proxy: {base_url: https://x.example}
`)
	h := &broker.Holding{Config: map[string]string{"account": "acme"}}
	typed := secrets("keyId", "k1", "userName", "ann", "audiences", "a, b", "privateKey", pemOf(t, testRSA()))
	got, err := p.Submit(t.Context(), h, typed)
	if err != nil {
		t.Fatal(err)
	}
	m := got.Material
	header, claims := verified(t, m.Access.Reveal(), testRSA().Public(), jose.RS512)
	if header.KeyID != "k1" || header.ExtraHeaders["typ"] != "JWT" || header.ExtraHeaders["x"] != nil {
		t.Errorf("header %+v", header)
	}
	mark, _ := fingerprint(pemOf(t, testRSA()), "")
	for path, want := range map[string]string{
		"iss": "acme.ann", "sub": mark, "aud.0": "a", "aud.1": "b", "aud.2": "fixed", "scope": "", "admin": "true", "level": "3",
		"exp": fmt.Sprint(m.ExpiresAt.Unix()), "iat": fmt.Sprint(m.ExpiresAt.Add(-20 * time.Minute).Unix()),
	} {
		if v := scalarText(get(claims, path)); v != want {
			t.Errorf("%s is %q, want %q", path, v, want)
		}
	}
	if m.Type != "JWT" || m.Details["privateKey"].IsZero() || !p.Facts().OnDemand || p.Endpoint(h) != "" || !p.Renewable(m) {
		t.Errorf("material %v", m.Type)
	}
	h.Material = m
	shown, err := p.Present(h)
	if err != nil || shown.Headers[0].Values[0] != "Bearer "+m.Access.Reveal() {
		t.Error(err)
	}
	renewed, err := p.Renew(t.Context(), h)
	if err != nil || renewed.Material.Details["userName"].Reveal() != "ann" {
		t.Error(err)
	}
	h.Material = &broker.Material{Details: secrets("privateKey", "nonsense")}
	_, err = p.Renew(t.Context(), h)
	if e := failed(t, err); e.Class != broker.GrantLost || e.Code != codeKeyUnusable || strings.Contains(e.Text, "nonsense") {
		t.Errorf("%+v", e)
	}
	typed["privateKey"] = broker.NewSecret("nonsense")
	_, err = p.Submit(t.Context(), h, typed)
	wantInvalid(t, "no key", err, "privateKey")
	delete(typed, "keyId")
	_, err = p.Submit(t.Context(), h, typed)
	wantInvalid(t, "no id", err, "keyId")
	if p.CheckMaterial(&broker.Material{Details: m.Details}) != nil || p.CheckMaterial(&broker.Material{}) == nil || p.CheckMaterial(&broker.Material{Access: broker.NewSecret("a b")}) == nil {
		t.Error("what is taken in differs")
	}
}

func TestTokensSignedWithASecret(t *testing.T) {
	secret := strings.Repeat("\x01k\xff", 11)
	for _, tt := range []struct {
		name, encoding, template, typed string
		key                             []byte
	}{
		{"id and secret", "", "${credentials.privateKey.secret}", "id1:" + hex.EncodeToString([]byte(secret)), []byte(secret)},
		{"text with bars", "{hmac_secret_encoding: utf8}", "${credentials.privateKey}||x", strings.Repeat("s", 32), []byte(strings.Repeat("s", 32) + "||x")},
	} {
		protocol := "signature: {protocol: HMAC}"
		if tt.encoding != "" {
			protocol = "signature: {protocol: HMAC, hmac_secret_encoding: utf8}"
		}
		p := jwtAt(t, protocol+`
token:
  signing_key: `+tt.template+`
  expires_in_ms: 300000
  header: {alg: HS256, kid: '${credentials.privateKey.id}'}
  payload: {aud: /admin/}
credentials: {privateKey: {title: P, description: d}}
proxy: {base_url: https://x.example, headers: {authorization: 'Ghost ${accessToken}'}}
`)
		got, err := p.Submit(t.Context(), &broker.Holding{}, secrets("privateKey", tt.typed))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		header, claims := verified(t, got.Material.Access.Reveal(), tt.key, jose.HS256)
		if text(get(claims, "aud")) != "/admin/" || (header.KeyID == "id1") != (tt.encoding == "") {
			t.Errorf("%s: %+v", tt.name, header)
		}
		shown, err := p.Present(&broker.Holding{Material: got.Material})
		if err != nil || !strings.HasPrefix(shown.Headers[0].Values[0], "Ghost ") {
			t.Errorf("%s: %v", tt.name, err)
		}
		if _, err := p.Submit(t.Context(), &broker.Holding{}, secrets("privateKey", "id1:zz")); err == nil {
			t.Errorf("%s: a key that is too short, or none, is taken", tt.name)
		}
	}
}

// The assertion of RFC 7523 section 2.1 and 2.2, made anew for each sign-in with what was typed, and never kept.
func TestAssertionsAreMadeAnew(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var sent []url.Values
	d := newDoor(t, func(w http.ResponseWriter, _ *http.Request, body string) {
		form, _ := url.ParseQuery(body)
		sent = append(sent, form)
		_, _ = io.WriteString(w, `{"access_token":"x","expires_in":3600}`)
	})
	p := twoStepAt(t, d.URL, `
token_url: SERVER/token
body_format: form
token_params:
  grant_type: client_credentials
  client_assertion: ${credentials.assertion}
  signed: ${token}
token_response: {token: access_token, token_expiration: expires_in, token_expiration_strategy: expireIn}
assertion:
  type: jwt
  key: ${assertionOption.privateKey}
  lifetimeInSeconds: 300
  header: {alg: ES256, kid: '${credentials.certificateId}'}
  payload: {iss: '${credentials.clientId}', sub: '${credentials.clientId}', aud: 'https://${connectionConfig.account}.x.example/token', jti: '${random}'}
signature: {protocol: EC}
token: {signing_key: '${assertionOption.privateKey}', expires_in_ms: 60000, payload: {sub: '${credentials.clientId}'}}
connection_config: {account: {title: A, description: d}}
credentials:
  clientId: {title: C, description: d}
  certificateId: {title: C, description: d}
assertion_option:
  privateKey: {title: K, description: d}
`)
	option := slices.IndexFunc(p.Facts().Fields, func(f broker.Field) bool { return f.Name == "assertionOption.privateKey" })
	if option < 0 || !p.Facts().Fields[option].Secret || p.Facts().Fields[option].Section != broker.CredentialField {
		t.Fatalf("fields %+v", p.Facts().Fields)
	}
	h := &broker.Holding{Config: map[string]string{"account": "acme"}}
	got, err := p.Submit(t.Context(), h, secrets("clientId", "c", "certificateId", "k1", "assertionOption.privateKey", pemOf(t, key)))
	if err != nil {
		t.Fatal(err)
	}
	if _, kept := got.Material.Details[nameAssertion]; kept || got.Material.Details["assertionOption.privateKey"].IsZero() {
		t.Error("what is kept differs")
	}
	h.Material = got.Material
	if _, err := p.Renew(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, form := range sent {
		header, claims := verified(t, form.Get("client_assertion"), key.Public(), jose.ES256)
		iat, exp := scalarText(get(claims, "iat")), scalarText(get(claims, "exp"))
		if header.KeyID != "k1" || text(get(claims, "iss")) != "c" || text(get(claims, "sub")) != "c" || text(get(claims, "aud")) != "https://acme.x.example/token" || len(iat) != len(exp) || iat >= exp {
			t.Errorf("header %+v claims %s", header, claims)
		}
		ids[text(get(claims, "jti"))] = true
		verified(t, form.Get("signed"), key.Public(), jose.ES256)
	}
	if len(sent) != 2 || len(ids) != 2 {
		t.Errorf("%d requests, %d assertions", len(sent), len(ids))
	}
}
