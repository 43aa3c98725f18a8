package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"
)

// keysOfUsers is how many users have keys of their own, and keyOfClient is that of an integration.
const (
	keysOfUsers = 4
	keyOfClient = keysOfUsers
)

// pair is a key of each kind. They are made once, when they are first needed: making them takes longer than all else here.
type pair struct {
	rsa func() *rsa.PrivateKey
	ec  func() *ecdsa.PrivateKey
}

var keys = newPairs()

func newPairs() [keysOfUsers + 1]pair {
	var out [keysOfUsers + 1]pair
	for n := range out {
		out[n] = pair{
			rsa: sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) }),
			ec:  sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }),
		}
	}
	return out
}

// must gives a value whose error would be a mistake in this package.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// privatePEM writes a key: in either of the two forms that RSA keys are found in, and elliptic curves in that of theirs.
func privatePEM(key crypto.Signer, n int) string {
	block := &pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))}
	if k, ok := key.(*rsa.PrivateKey); ok && n%2 == 1 {
		block = &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}
	}
	return string(pem.EncodeToMemory(block))
}

// publicOf gives the public half of a key in PEM form; nil: it is none.
func publicOf(text string) crypto.PublicKey {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k.Public()
	}
	if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return k.(crypto.Signer).Public() // all of them are signers
	}
	return nil
}

// fingerprint is what Snowflake knows a public key by.
// https://docs.snowflake.com/en/user-guide/key-pair-auth
func fingerprint(text string) (string, bool) {
	public := publicOf(text)
	if public == nil {
		return "", false
	}
	sum := sha256.Sum256(must(x509.MarshalPKIXPublicKey(public)))
	return "SHA256:" + base64.StdEncoding.EncodeToString(sum[:]), true
}

// clientJWK writes the key of an end user's client as a JWK (RFC 7517), which names itself: an RSA one or, of users with an
// odd number, one of an elliptic curve.
func clientJWK(n int) string {
	number := func(i *big.Int) string { return base64.RawURLEncoding.EncodeToString(i.Bytes()) }
	out := map[string]string{"kid": clientKeyID(n)}
	if n%2 == 1 {
		raw := must(keys[n].ec().Bytes())
		point := must(keys[n].ec().PublicKey.Bytes())[1:]
		half := len(point) / 2
		for name, b := range map[string][]byte{"x": point[:half], "y": point[half:], "d": raw} {
			out[name] = base64.RawURLEncoding.EncodeToString(b)
		}
		out["kty"], out["crv"] = "EC", "P-256"
	} else {
		k := keys[n].rsa()
		k.Precompute()
		out["kty"] = "RSA"
		for name, i := range map[string]*big.Int{
			"n": k.N, "e": big.NewInt(int64(k.E)), "d": k.D, "p": k.Primes[0], "q": k.Primes[1],
			"dp": k.Precomputed.Dp, "dq": k.Precomputed.Dq, "qi": k.Precomputed.Qinv,
		} {
			out[name] = number(i)
		}
	}
	return string(must(json.Marshal(out)))
}

func clientKeyID(n int) string { return "key-" + strings.Repeat("k", n+1) }

// clientKey gives the public half of that key, and the algorithm that belongs to it (RFC 7518 section 3.1).
func clientKey(n int) (public crypto.PublicKey, alg string) {
	if n%2 == 1 && n != keyOfClient {
		return keys[n].ec().Public(), "ES256"
	}
	return keys[n].rsa().Public(), "RS256"
}
