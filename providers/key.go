package providers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// These say nothing of the text: it may be a key all the same, or a part of one.
var (
	errNotAKey = errors.New("it is not a private key in PEM, base64 or JWK form, or it has a passphrase")
	errNotHex  = errors.New("it is not in hexadecimal digits")
)

// parseKey reads a private key as people paste it: PEM with its lines, or with what a form, a file of settings or a shell
// has made of them; the base64 inside it alone; either once more in base64; or a JWK (RFC 7517), which may name itself.
func parseKey(s string) (*jose.JSONWebKey, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "{") {
		return parseJWK(s)
	}
	for range 3 { // base64 in base64, and no deeper
		der, err := keyBytes(s)
		if err != nil {
			return nil, err
		}
		if key := parseDER(der); key != nil {
			return &jose.JSONWebKey{Key: key}, nil
		}
		s = string(der)
	}
	return nil, errNotAKey
}

func parseJWK(s string) (*jose.JSONWebKey, error) {
	k := &jose.JSONWebKey{}
	if k.UnmarshalJSON([]byte(s)) != nil || !k.Valid() { // the library's error may quote the key
		return nil, errNotAKey
	}
	if _, private := k.Key.(crypto.Signer); !private {
		return nil, errNotAKey
	}
	return k, nil
}

// keyBytes gives what stands between the lines of a PEM block, or what a text without such lines holds, decoded. The lines
// themselves need not be whole: where they end is lost first.
func keyBytes(s string) ([]byte, error) {
	s = strings.NewReplacer(`\r`, "", `\n`, "\n").Replace(s)
	if _, rest, ok := strings.Cut(s, "-----BEGIN "); ok {
		name, rest, _ := strings.Cut(rest, "-----")
		body, _, found := strings.Cut(rest, "-----END ")
		if !found || !strings.HasSuffix(name, "PRIVATE KEY") || strings.HasPrefix(name, "ENCRYPTED") {
			return nil, errNotAKey
		}
		s = body
	}
	s = strings.TrimRight(strings.Join(strings.Fields(s), ""), "=")
	der, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil || len(der) == 0 {
		return nil, errNotAKey
	}
	return der, nil
}

// parseDER reads PKCS #8 (RFC 5958), PKCS #1 (RFC 8017) or SEC 1 (RFC 5915); nil: it is none of them.
func parseDER(der []byte) any {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key
	}
	return nil
}

// algorithmOf is the usual algorithm of a key (RFC 7518 section 3.1, RFC 8037 section 3.1); empty: there is none.
func algorithmOf(k *jose.JSONWebKey) jose.SignatureAlgorithm {
	if k.Algorithm != "" {
		return jose.SignatureAlgorithm(k.Algorithm)
	}
	switch key := k.Key.(type) {
	case *rsa.PrivateKey:
		return jose.RS256
	case ed25519.PrivateKey:
		return jose.EdDSA
	case *ecdsa.PrivateKey:
		switch key.Curve {
		case elliptic.P256():
			return jose.ES256
		case elliptic.P384():
			return jose.ES384
		case elliptic.P521():
			return jose.ES512
		}
	}
	return ""
}
