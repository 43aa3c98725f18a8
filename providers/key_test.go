package providers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"
)

// testRSA is a key that is made once: making one takes a while.
var testRSA = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// pemOf gives a key as people have it.
func pemOf(t testing.TB, key any) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, key)}))
}

func TestKeysAsTheyArePasted(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := (&jose.JSONWebKey{Key: testRSA(), KeyID: "k1"}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	whole := pemOf(t, testRSA())
	for name, text := range map[string]string{
		"PKCS #8":               whole,
		"PKCS #1":               string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(testRSA())})),
		"spaces in their place": strings.ReplaceAll(whole, "\n", " "),
		"no lines at all":       strings.ReplaceAll(whole, "\n", ""),
		"escaped lines":         strings.ReplaceAll(whole, "\n", `\n`),
		"lines of Windows":      strings.ReplaceAll(whole, "\n", "\r\n"),
		"the base64 alone":      base64.StdEncoding.EncodeToString(pkcs8(t, testRSA())),
		"base64 of PEM":         base64.StdEncoding.EncodeToString([]byte(whole)),
		"base64 of base64":      base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString(pkcs8(t, testRSA())))),
		"JWK":                   string(jwk),
	} {
		k, err := parseKey("  " + text + "\n")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if key, ok := k.Key.(*rsa.PrivateKey); !ok || !key.Equal(testRSA()) || (name == "JWK") != (k.KeyID == "k1") {
			t.Errorf("%s: another key", name)
		}
	}
	k, err := parseKey(string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})))
	if err != nil || algorithmOf(k) != jose.ES384 {
		t.Errorf("EC: %v", err)
	}
	public, err := (&jose.JSONWebKey{Key: testRSA().Public()}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "words": "not a key at all", "a passphrase": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
		"a certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "half a block": whole[:200], "a public JWK": string(public),
		"a secret JWK": `{"kty":"oct","k":"AAAA"}`, "no JWK": "{", "base64 of base64 of base64 of words": "WVdGaA==",
	} {
		if _, err := parseKey(text); err == nil {
			t.Errorf("%s is taken for a key", name)
		}
	}
}

// The vectors of RFC 7515 appendix A.2 (RS256) and RFC 8037 appendix A.4 (EdDSA), whose signatures are always the same, and
// of RFC 7515 appendix A.3 (ES256), whose signature is verified.
func TestSignaturesOfTheRFCs(t *testing.T) {
	for _, tt := range []struct{ name, key, header, payload, want string }{
		{
			"RS256", `{"kty":"RSA",
"n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
"e":"AQAB",
"d":"Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
"p":"4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
"q":"uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc"}`,
			`{"alg":"RS256"}`, "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}",
			"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
		},
		{
			"EdDSA", `{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
			`{"alg":"EdDSA"}`, "Example of Ed25519 signing",
			"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
		},
		{
			"ES256", `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}`,
			`{"alg":"ES256"}`, "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}", "",
		},
	} {
		k, err := parseKey(tt.key)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		for _, header := range []map[string]jsontext.Value{{"alg": jsontext.Value(`"` + tt.name + `"`)}, {}} { // named, and the key's usual one
			got, err := compactJWS(header, []byte(tt.payload), k)
			if err != nil || tt.want != "" && got != tt.want {
				t.Fatalf("%s: %v", tt.name, err)
			}
			signed, err := jose.ParseSignedCompact(got, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(tt.name)})
			if err != nil {
				t.Fatal(err)
			}
			public := k.Public()
			if payload, err := signed.Verify(&public); err != nil || string(payload) != tt.payload {
				t.Errorf("%s: %v", tt.name, err)
			}
			if first, _, _ := strings.Cut(got, "."); first != base64.RawURLEncoding.EncodeToString([]byte(tt.header)) {
				t.Errorf("%s: header %s", tt.name, first)
			}
		}
	}
}

// RFC 2202 section 3, RFC 8032 section 7.1, and what sha256sum and openssl give.
func TestFunctions(t *testing.T) {
	seed, _ := hex.DecodeString("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
	signature, _ := hex.DecodeString("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
	edwards := pemOf(t, ed25519.NewKeyFromSeed(seed))
	spki, err := x509.MarshalPKIXPublicKey(crypto.Signer(testRSA()).Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	sc := &scope{named: map[string]string{"m": "what do ya want, for nothing?", "k": "Jefe", "r": "r", "e": edwards, "p": pemOf(t, testRSA()), "x": "x"}}
	for in, want := range map[string]string{
		"${hmacSha1Hex(what do ya want for nothing?, Jefe)}": "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
		"a ${hmacSha1Hex(${m}, ${k})}":                       "a d5ec372f0453d31f8a5a7c50d5a2f276f3f75962",
		"${sha256Hex(abc)}":                                  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"${sha256Base64(abc)}":                               "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
		"${base64(${sha256Hex(abc)})}":                       base64.StdEncoding.EncodeToString([]byte("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")),
		"${ed25519Sign(${r},${e})}":                          base64.StdEncoding.EncodeToString(signature),
		"${fingerprint(${p})}":                               "SHA256:" + base64.StdEncoding.EncodeToString(sum[:]),
	} {
		tpl, err := parseTemplate(in)
		if err != nil || tpl.unsupported() != "" {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, missing := tpl.fill(sc); got != want || missing != nil {
			t.Errorf("%s: %s %v", in, got, missing)
		}
	}
	for _, in := range []string{"${ed25519Sign(${r}, ${x})}", "${ed25519Sign(${r}, ${p})}", "${fingerprint(${x})}", "${sha256Hex(${no})}", "${hmacSha1Hex(${r}, ${no})}"} {
		tpl, err := parseTemplate(in)
		if err != nil {
			t.Fatal(err)
		}
		if got, missing := tpl.fill(sc); got != "" || len(missing) != 1 {
			t.Errorf("%s: %q %v", in, got, missing)
		}
	}
}
