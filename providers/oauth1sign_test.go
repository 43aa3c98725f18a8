package providers

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// toSign makes a request that would go out.
func toSign(t testing.TB, method, target, form string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if form != "" {
		r.Header.Set("Content-Type", formType+"; charset=utf-8")
	}
	return r
}

// What is signed is what RFC 5849 section 3.4.1.1 says of its own example.
func TestSignatureBaseIsThatOfTheRFC(t *testing.T) {
	r := toSign(t, "POST", "http://EXAMPLE.COM:80/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b", "c2&a3=2+q")
	params, err := formPairs(r.URL.RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	form, err := signedForm(r)
	if err != nil {
		t.Fatal(err)
	}
	params = append(append(params, form...), pairs{
		{"oauth_consumer_key", "9djdj82h48djs9d2"},
		{"oauth_token", "kkk9d7dh3k39sjv7"},
		{"oauth_signature_method", "HMAC-SHA1"},
		{"oauth_timestamp", "137131201"},
		{"oauth_nonce", "7d8f3e4a"},
	}...)
	want := "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D%26c2%3D%26" +
		"oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1%26" +
		"oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
	if got := signatureBase(r, params); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

// The signatures that oauthlib 3.2.2 makes of the same requests, with the same nonce and timestamp.
func TestSignaturesAreThoseOfAnotherImplementation(t *testing.T) {
	for _, tt := range []struct{ method, verb, target, form, want string }{
		{hmacSHA1, "GET", "https://api.example.com/1/things", "", "7vTSIdTwsUpVzKWnlJWOinIZssg="},
		{hmacSHA1, "GET", "https://API.example.com:443/1/things?b=2&a=1&a=0", "", "U9OQ4OqAXzx0eDQfgz+C4sCPRFA="},
		{hmacSHA1, "GET", "http://api.example.com:8080/", "", "o/RMCJ/wsWnqhKsszPqAiZ+rTHk="},
		{hmacSHA1, "DELETE", "http://api.example.com:80/x?", "", "AAbHr7AkOCn7VXuW0Hro4wiSie8="},
		{hmacSHA1, "GET", "https://api.example.com:80/x", "", "polIsKloEJLv6VH5XBuAMGKoEks="},
		{hmacSHA1, "GET", "https://api.example.com/x?a-b=1&a=2&a%3D=3&a=&b", "", "fvhpQPKBR1Y1hquMXSYYXJj0UN8="},
		{hmacSHA1, "GET", "https://api.example.com/a%2Fb/c%20d/~e;f=1/%C3%A9?q=%20+%2B%26%C3%A9~*'()!", "", "IxuoUPTF2RYF7DzcaIJJ1ZrP2tA="},
		{hmacSHA1, "POST", "https://api.example.com/form?b=2", "b=1&status=hello+world%21&empty=&c%40=", "pxPJEAj6xqwe39SCZbkEOYSgLPc="},
		{hmacSHA1, "PUT", "https://api.example.com/form", "a=1&a=1", "xhMHMPktcb2LE+o8grSU2moMusg="},
		{hmacSHA256, "GET", "https://api.example.com/x?a-b=1&a=2&a%3D=3&a=&b", "", "8wWCJH7GoBghQbX28iX55NZhQ74LhSuFuah7rQPQyh4="},
		{hmacSHA256, "POST", "https://api.example.com/form?b=2", "b=1&status=hello+world%21&empty=&c%40=", "EJ6Wss+toXudGzzy8UUxoTOuLy88Is5YJUHRFT+xZK4="},
		{plaintext, "POST", "https://api.example.com/form?b=2", "b=1", "s%20e%26cret&t%3Dsecret%25"},
	} {
		s := &oauth1Signer{
			method: tt.method, clientID: "key/+1", clientKey: broker.NewSecret("s e&cret"), token: "tok~en", tokenKey: broker.NewSecret("t=secret%"),
			now: func() time.Time { return time.Unix(1318622958, 0) }, nonce: func() string { return "a-nonce" },
		}
		r := toSign(t, tt.verb, tt.target, tt.form)
		if err := s.sign(r); err != nil {
			t.Errorf("%s %s: %v", tt.verb, tt.target, err)
			continue
		}
		header := r.Header.Get("Authorization")
		if want := `oauth_signature="` + percentEncoded(tt.want) + `"`; !strings.HasSuffix(header, want) {
			t.Errorf("%s %s %s: %s, want %s", tt.method, tt.verb, tt.target, header, want)
		}
		if body, err := io.ReadAll(r.Body); string(body) != tt.form || err != nil {
			t.Errorf("%s %s: what is left of the body is %q, %v", tt.verb, tt.target, body, err)
		}
	}
}

func TestAuthorizationHeaderOfASignature(t *testing.T) {
	s := &oauth1Signer{
		method: hmacSHA1, realm: "12 34", clientID: "key", now: func() time.Time { return time.Unix(1318622958, 0) }, nonce: func() string { return "n" },
	}
	r := toSign(t, "GET", "https://api.example.com/", "")
	if err := s.sign(r, pair{"oauth_callback", "https://a.example/cb?state=x"}); err != nil {
		t.Fatal(err)
	}
	want := `OAuth realm="12%2034", oauth_consumer_key="key", oauth_nonce="n", oauth_signature_method="HMAC-SHA1", oauth_timestamp="1318622958", ` +
		`oauth_version="1.0", oauth_callback="https%3A%2F%2Fa.example%2Fcb%3Fstate%3Dx", oauth_signature="`
	if got := r.Header.Get("Authorization"); !strings.HasPrefix(got, want) {
		t.Errorf("got %s", got)
	}
}

func TestEachSignatureHasItsOwnNonce(t *testing.T) {
	s := &oauth1Signer{method: hmacSHA1, clientID: "key", now: time.Now}
	seen := map[string]bool{}
	for range 100 {
		r := toSign(t, "GET", "https://api.example.com/", "")
		if err := s.sign(r); err != nil {
			t.Fatal(err)
		}
		seen[r.Header.Get("Authorization")] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d different headers of 100", len(seen))
	}
}

// A signature that would be wrong, or would give a secret away, is not made.
func TestWhatCannotBeSignedIsRefused(t *testing.T) {
	change := func(r *http.Request, do func(*http.Request)) *http.Request { do(r); return r }
	const address = "https://api.example.com/"
	for name, tt := range map[string]struct {
		method string
		r      *http.Request
		want   error // nil: it can
	}{
		"a secret without TLS":          {plaintext, toSign(t, "GET", "http://api.example.com/", ""), broker.ErrProviderURLInvalid},
		"a token in the query":          {hmacSHA1, toSign(t, "GET", address+"?a=1&oauth_token=x", ""), broker.ErrReservedParam},
		"a token in the query, hidden":  {hmacSHA1, toSign(t, "GET", address+"?%4FAuth%5Ftoken", ""), broker.ErrReservedParam},
		"a token beside a secret":       {plaintext, toSign(t, "GET", address+"?oauth_token=x", ""), broker.ErrReservedParam},
		"a token in the form":           {hmacSHA1, toSign(t, "POST", address, "oauth_verifier=x"), broker.ErrReservedParam},
		"a form that is none":           {hmacSHA1, toSign(t, "POST", address, "a=100%"), broker.ErrInvalidRequest},
		"a form without an end":         {hmacSHA1, change(toSign(t, "POST", address, "a=1"), func(r *http.Request) { r.ContentLength = -1 }), broker.ErrBodyTooLarge},
		"a form that is too long":       {hmacSHA1, toSign(t, "POST", address, strings.Repeat("a", maxForm+1)), broker.ErrBodyTooLarge},
		"a form that is not kept":       {hmacSHA1, change(toSign(t, "POST", address, "a=1"), func(r *http.Request) { r.GetBody = nil }), broker.ErrRateLimited},
		"the longest form":              {hmacSHA1, toSign(t, "POST", address, strings.Repeat("a", maxForm)), nil},
		"a form of any length, unseen":  {plaintext, change(toSign(t, "POST", address, "a=1"), func(r *http.Request) { r.ContentLength = -1 }), nil},
		"a packed form":                 {hmacSHA1, change(toSign(t, "POST", address, "%"), func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }), nil},
		"a stream that is no form":      {hmacSHA1, change(toSign(t, "POST", address, "%"), func(r *http.Request) { r.Header.Set("Content-Type", "text/plain"); r.GetBody = nil }), nil},
		"a parameter of a similar name": {hmacSHA1, toSign(t, "GET", address+"?oauth=1&xoauth_token=2", ""), nil},
	} {
		s := &oauth1Signer{method: tt.method, clientID: "key", now: time.Now}
		err := s.sign(tt.r)
		if tt.want == nil && err != nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if signed := tt.r.Header.Get("Authorization") != ""; signed != (tt.want == nil) {
			t.Errorf("%s: signed is %t", name, signed)
		}
	}
}
