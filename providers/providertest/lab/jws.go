package lab

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
)

// jws is a signed token in its compact form (RFC 7515 section 7.1).
type jws struct {
	header, claims map[string]any
	signed         []byte
	signature      []byte
}

// readJWS reads a token, which nobody believes yet; nil: it is none.
func readJWS(text string) *jws {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil
	}
	t := &jws{signed: []byte(parts[0] + "." + parts[1])}
	object := func(part string) map[string]any {
		raw, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			return nil
		}
		out, _ := decoded(raw).(map[string]any)
		return out
	}
	t.header, t.claims = object(parts[0]), object(parts[1])
	var err error
	if t.signature, err = base64.RawURLEncoding.DecodeString(parts[2]); err != nil || t.header == nil || t.claims == nil {
		return nil
	}
	return t
}

// decoded reads JSON, with numbers as they are written; nil: it is none.
func decoded(raw []byte) any {
	var out any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&out) != nil || d.More() {
		return nil
	}
	return out
}

// genuine reports whether a token is signed with a key, by the algorithm that it names (RFC 7518 section 3). A secret is
// bytes.
func (t *jws) genuine(key any) bool {
	sum := sha256.Sum256(t.signed)
	alg, _ := t.header["alg"].(string)
	switch k := key.(type) {
	case []byte:
		mac := hmac.New(sha256.New, k)
		mac.Write(t.signed)
		return alg == "HS256" && hmac.Equal(mac.Sum(nil), t.signature)
	case *rsa.PublicKey:
		switch alg {
		case "RS256":
			return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], t.signature) == nil
		case "PS256":
			return rsa.VerifyPSS(k, crypto.SHA256, sum[:], t.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
	case *ecdsa.PublicKey:
		half := len(t.signature) / 2
		return alg == "ES256" && len(t.signature) == 64 &&
			ecdsa.Verify(k, sum[:], new(big.Int).SetBytes(t.signature[:half]), new(big.Int).SetBytes(t.signature[half:]))
	}
	return false
}

// when gives a claim that is a moment; zero: it is none.
func (t *jws) when(claim string) time.Time {
	n, ok := t.claims[claim].(json.Number)
	seconds, err := n.Int64()
	if !ok || err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// vouches says what is wrong with a token that somebody signed, beside its age: by whom, and what it says. life is how long
// it is good for; zero: ten minutes at most.
func vouches(text string, key any, header, claims map[string]any, life time.Duration) string {
	t := readJWS(text)
	switch {
	case t == nil:
		return "it is no signed token"
	case !t.genuine(key):
		return "its signature is not of that key and algorithm"
	}
	if problem := unlike(header, t.header); problem != "" {
		return "its header: " + problem
	}
	claims = maps.Clone(claims)
	claims["iat"], claims["exp"] = t.claims["iat"], t.claims["exp"]
	if problem := unlike(claims, t.claims); problem != "" {
		return "its claims: " + problem
	}
	lasts := t.when("exp").Sub(t.when("iat"))
	if t.when("iat").IsZero() || life > 0 && lasts != life || lasts <= 0 || life == 0 && lasts > 10*time.Minute {
		return "it does not last as long as it should"
	}
	return ""
}

// current says whether a token is good at a moment; clocks differ by a minute.
func (t *jws) current(now time.Time) bool {
	return !t.when("iat").After(now.Add(time.Minute)) && now.Before(t.when("exp"))
}

// unlike says in which names a value differs from what it should be, never in which values: those are secrets.
func unlike(want, got any) string { return strings.Join(differing(want, got, ""), ", ") }

func differing(want, got any, at string) []string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		var out []string
		for _, name := range slices.Sorted(maps.Keys(w)) {
			if v, given := g[name]; given {
				out = append(out, differing(w[name], v, dotted(at, name))...)
			} else {
				out = append(out, dotted(at, name)+" is missing")
			}
		}
		for _, name := range slices.Sorted(maps.Keys(g)) {
			if _, wanted := w[name]; !wanted {
				out = append(out, dotted(at, name)+" should not be there")
			}
		}
		return out
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(w) {
			var out []string
			for i := range w {
				out = append(out, differing(w[i], g[i], dotted(at, fmt.Sprint(i)))...)
			}
			return out
		}
	case string:
		if g, ok := got.(string); ok && (g == w || w == anything && g != "") {
			return nil
		}
	default:
		_, isText := got.(string)
		if !isText && fmt.Sprint(got) == fmt.Sprint(w) {
			return nil
		}
	}
	return []string{strings.TrimPrefix(at+" is not as it should be", " ")}
}

func dotted(at, name string) string { return strings.TrimPrefix(at+"."+name, ".") }
