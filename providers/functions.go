package providers

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the provider asks for it
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
)

// functions are what a template may call, by name. ok is false where the arguments cannot be used: the function then has no
// value, as a placeholder has none whose field was left empty. The second argument is the key of those that have one.
var functions = map[string]func(arg, key string) (v string, ok bool){
	"base64": func(arg, _ string) (string, bool) {
		return base64.StdEncoding.EncodeToString([]byte(arg)), true
	},
	"sha256Hex": func(arg, _ string) (string, bool) {
		sum := sha256.Sum256([]byte(arg))
		return hex.EncodeToString(sum[:]), true
	},
	"sha256Base64": func(arg, _ string) (string, bool) {
		sum := sha256.Sum256([]byte(arg))
		return base64.StdEncoding.EncodeToString(sum[:]), true
	},
	"hmacSha1Hex": func(arg, key string) (string, bool) {
		mac := hmac.New(sha1.New, []byte(key))
		_, _ = mac.Write([]byte(arg))
		return hex.EncodeToString(mac.Sum(nil)), true
	},
	"ed25519Sign": ed25519Sign,
	"fingerprint": fingerprint,
}

// twoArguments are the functions with a key. It stands after the last comma: a message may have commas of its own.
var twoArguments = map[string]bool{"hmacSha1Hex": true, "ed25519Sign": true}

// ed25519Sign gives a signature (RFC 8032) in base64.
func ed25519Sign(message, key string) (string, bool) {
	k, err := parseKey(key)
	if err != nil {
		return "", false
	}
	private, ok := k.Key.(ed25519.PrivateKey)
	if !ok {
		return "", false
	}
	return base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte(message))), true
}

// fingerprint gives the SHA-256 of a private key's public half, in the form that Snowflake prints it.
// https://docs.snowflake.com/en/user-guide/key-pair-auth
func fingerprint(key, _ string) (string, bool) {
	k, err := parseKey(key)
	if err != nil {
		return "", false
	}
	private, ok := k.Key.(crypto.Signer)
	if !ok {
		return "", false
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return "", false
	}
	sum := sha256.Sum256(der)
	return "SHA256:" + base64.StdEncoding.EncodeToString(sum[:]), true
}

// call gives a function's value, or what it lacks for one.
func (p part) call(s *scope) (string, []string) {
	f := functions[p.fn]
	if f == nil {
		return "", []string{p.fn + "()"}
	}
	arg, missing, _ := p.arg.fill(s, nil)
	key, lacks, _ := p.key.fill(s, nil)
	if missing = append(missing, lacks...); len(missing) > 0 {
		return "", missing
	}
	v, ok := f(arg, key)
	if !ok {
		return "", []string{p.fn + "()"}
	}
	return v, nil
}

// cut splits an argument at its last comma outside placeholders; the space around the second half is dropped.
func (q sequence) cut() (before, after sequence, ok bool) {
	for i, p := range slices.Backward(q) {
		at := strings.LastIndexByte(p.text, ',')
		if at < 0 {
			continue
		}
		before = slices.Clone(q[:i]).text(p.text[:at])
		after = sequence(nil).text(p.text[at+1:])
		return before, append(after, q[i+1:]...).trimmed(), true
	}
	return nil, nil, false
}
