package providers

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // HMAC-SHA1 is what OAuth 1.0 providers take, and its weakness is not that of the hash
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// The signature methods of RFC 5849 section 3.4 that are built, and HMAC-SHA256, which providers have added since.
const (
	hmacSHA1   = "HMAC-SHA1"
	hmacSHA256 = "HMAC-SHA256"
	plaintext  = "PLAINTEXT"
)

// oauth1Signer signs requests (RFC 5849 section 3), each time with a timestamp and a nonce of its own. The libraries that
// there are read a form from its stream, or sign one alone of parameters that have the same name; a proxy sends both, and
// has to sign what it sends.
type oauth1Signer struct {
	method    string
	realm     string // empty: none
	clientID  string
	token     string // empty: none yet
	clientKey broker.Secret
	tokenKey  broker.Secret
	now       func() time.Time
	nonce     func() string // nil: a random one
}

// sign sets the Authorization header, and changes nothing else in the request. Protocol parameters besides the usual ones
// are more. Errors: reserved_param, body_too_large, rate_limited, invalid_request, provider_url_invalid.
func (s *oauth1Signer) sign(r *http.Request, more ...pair) error {
	protocol := append(pairs{
		{"oauth_consumer_key", s.clientID},
		{"oauth_nonce", s.newNonce()},
		{"oauth_signature_method", s.method},
		{"oauth_timestamp", strconv.FormatInt(s.now().Unix(), 10)},
		{"oauth_version", "1.0"},
	}, more...)
	if s.token != "" {
		protocol = append(protocol, pair{"oauth_token", s.token})
	}
	signature, err := s.signature(r, protocol)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("OAuth ")
	if s.realm != "" { // a quoted string, and no part of the signature (section 3.5.1)
		b.WriteString(`realm="` + percentEncoded(s.realm) + `", `)
	}
	for _, p := range protocol {
		b.WriteString(p.Key + `="` + percentEncoded(p.Value) + `", `)
	}
	b.WriteString(`oauth_signature="` + percentEncoded(signature) + `"`)
	r.Header["Authorization"] = []string{b.String()}
	return nil
}

func (s *oauth1Signer) newNonce() string {
	if s.nonce != nil {
		return s.nonce()
	}
	return rand.Text()
}

// signature gives the value of oauth_signature.
func (s *oauth1Signer) signature(r *http.Request, protocol pairs) (string, error) {
	params, err := formPairs(r.URL.RawQuery)
	if err != nil {
		return "", err
	}
	key := percentEncoded(s.clientKey.Reveal()) + "&" + percentEncoded(s.tokenKey.Reveal())
	if s.method == plaintext { // the key itself (section 3.4.4)
		if r.URL.Scheme != "https" {
			return "", broker.ErrProviderURLInvalid.Saying("this provider's signatures must not be sent without TLS")
		}
		return key, nil
	}
	form, err := signedForm(r)
	if err != nil {
		return "", err
	}
	params = append(append(params, form...), protocol...)
	digest := sha1.New
	if s.method == hmacSHA256 {
		digest = sha256.New
	}
	mac := hmac.New(digest, []byte(key))
	_, _ = io.WriteString(mac, signatureBase(r, params))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// signatureBase gives the text that is signed (section 3.4.1.1).
func signatureBase(r *http.Request, params pairs) string {
	encoded := make(pairs, len(params))
	for i, p := range params {
		encoded[i] = pair{percentEncoded(p.Key), percentEncoded(p.Value)}
	}
	slices.SortFunc(encoded, func(a, b pair) int { return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Value, b.Value)) })
	var joined strings.Builder
	for i, p := range encoded {
		if i > 0 {
			joined.WriteByte('&')
		}
		joined.WriteString(p.Key + "=" + p.Value)
	}
	return strings.ToUpper(r.Method) + "&" + percentEncoded(baseStringURI(r)) + "&" + percentEncoded(joined.String())
}

// baseStringURI gives the address that is signed (section 3.4.1.2): the path as it stands in the request line, and no port
// that the scheme has anyway.
func baseStringURI(r *http.Request) string {
	scheme, host := strings.ToLower(r.URL.Scheme), strings.ToLower(cmp.Or(r.Host, r.URL.Host))
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	path, _, _ := strings.Cut(r.URL.RequestURI(), "?")
	return scheme + "://" + host + path
}

// maxForm is the size of the largest form that is signed, in bytes: as much as is kept of a body that is sent on.
const maxForm = 1 << 20

// signedForm gives the parameters of a body that is one form (section 3.4.1.3.1); any other body is no part of the
// signature, and goes on as the stream that it is. A form has to be read before the header can be written. One that cannot
// be read twice is refused: without its parameters the signature would be wrong, and the provider's refusal would not say
// why.
func signedForm(r *http.Request) (pairs, error) {
	if r.Body == nil || r.Body == http.NoBody || !isForm(r.Header) {
		return nil, nil
	}
	switch {
	case r.ContentLength < 0 || r.ContentLength > maxForm:
		return nil, broker.ErrBodyTooLarge.Saying("a form that has to be signed needs a Content-Length of at most 1 MiB")
	case r.GetBody == nil:
		return nil, broker.ErrRateLimited.Saying("too many bodies are being kept at the moment").After(time.Second)
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(body, maxForm))
	if err != nil {
		return nil, err
	}
	return formPairs(string(raw))
}

// isForm reports whether the headers say that the body is a form, and nothing that has to be unpacked first.
func isForm(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), formType) && len(h["Content-Encoding"]) == 0
}

// formPairs reads form-encoded text: every parameter, those of the same name too, in their order. Parameters of the protocol
// are refused, since they stand in the header, and may stand in one place alone (section 3.5).
func formPairs(raw string) (pairs, error) {
	var out pairs
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		key, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		switch {
		case err != nil:
			return nil, broker.ErrInvalidRequest.Saying("the request's parameters are not form-encoded, so that they cannot be signed")
		case len(key) >= 6 && strings.EqualFold(key[:6], "oauth_"):
			return nil, broker.ErrReservedParam.On(key)
		}
		out = append(out, pair{key, value})
	}
	return out, nil
}

// percentEncoded encodes as section 3.6 has it: everything but the unreserved characters, byte by byte, in upper case.
func percentEncoded(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}
