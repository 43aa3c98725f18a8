package apitest

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/egress"
	"github.com/coatcheck/coatcheck/web/api/nango"
	"github.com/coatcheck/coatcheck/web/hooks"
)

// transport answers what a client sends.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := f(r)
	if err == nil {
		res.Request = r
	}
	return res, err
}

// certified gives a transport to a double that shows a client certificate, as its server sees it after the handshake. A
// certificate without its key shows nothing.
func certified(to transport) func(*tls.Certificate) http.RoundTripper {
	return func(cert *tls.Certificate) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			chain := make([]*x509.Certificate, len(cert.Certificate))
			for i, der := range cert.Certificate {
				var err error
				if chain[i], err = x509.ParseCertificate(der); err != nil {
					return nil, err
				}
			}
			out := r.Clone(r.Context())
			out.TLS = &tls.ConnectionState{PeerCertificates: chain}
			if key, ok := cert.PrivateKey.(crypto.Signer); !ok || !sameKey(key.Public(), chain[0].PublicKey) {
				out.TLS = nil
			}
			return to(out)
		})
	}
}

func sameKey(a, b crypto.PublicKey) bool {
	known, ok := a.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && known.Equal(b)
}

// sent is a request as a double reads it: the form in PostForm, and the body, which can be read once more.
func sent(r *http.Request) (out *http.Request, body []byte, err error) {
	out = r.Clone(r.Context())
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, nil, err
		}
	}
	out.Body = io.NopCloser(bytes.NewReader(body))
	_ = out.ParseForm() // calls of an API may hold anything
	out.Body = io.NopCloser(bytes.NewReader(body))
	return out, body, nil
}

// provider answers for every provider's token endpoint and verification.
func (s *Site) provider(r *http.Request) (*http.Response, error) {
	s.Asked.Add(1)
	r, _, err := sent(r)
	if err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	if s.options.Provider == nil || !s.options.Provider(w, r) {
		answer(w, r)
	}
	return w.Result(), nil
}

// answer says what a token request gets by the refresh token that comes with it, and what a verification gets by the key.
func answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	key, refresh := r.Header.Get("X-Api-Key"), r.PostForm.Get("refresh_token")
	switch {
	case key == "refused":
		w.WriteHeader(http.StatusUnauthorized)
	case key != "":
		_, _ = io.WriteString(w, `{}`)
	case refresh == "revoked":
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"gone"}`)
	case refresh == "down":
		w.WriteHeader(http.StatusInternalServerError)
	case refresh == "garbled":
		_, _ = io.WriteString(w, `<html>`)
	case r.PostForm.Get("grant_type") == "refresh_token":
		_, _ = io.WriteString(w, `{"access_token":"renewed","refresh_token":"rotated","token_type":"bearer","expires_in":3600,"id":12345678901234567890,"nested":[{"Refresh-Token":"also"}]}`)
	default:
		_, _ = io.WriteString(w, `{"access_token":"from-client","token_type":"bearer","expires_in":3600}`)
	}
}

// authorization answers for a provider's authorization page, as an end user decides (RFC 6749 section 4.1.2).
func (s *Site) authorization(t testing.TB, r *http.Request, deny bool) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	if s.options.Provider != nil && s.options.Provider(w, r) {
		return w.Result()
	}
	asked := r.URL.Query()
	back, err := url.Parse(asked.Get("redirect_uri"))
	must(t, err)
	q := back.Query()
	q.Set("state", asked.Get("state"))
	if deny {
		q.Set("error", "access_denied")
	} else {
		q.Set("code", "a-code")
	}
	back.RawQuery = q.Encode()
	w.Header().Set("Location", back.String())
	w.WriteHeader(http.StatusFound)
	return w.Result()
}

// seen is what a provider's API tells of a call.
type seen struct {
	Method        string `json:"method"`
	URI           string `json:"uri"`
	Authorization string `json:"authorization,omitempty"`
	APIKey        string `json:"x_api_key,omitempty"`
	ContentType   string `json:"content_type,omitempty"`
	Body          string `json:"body"`
}

// upstream answers for every provider's API.
func (s *Site) upstream(r *http.Request) (*http.Response, error) {
	s.Called.Add(1)
	if r.URL.Path == "/unreachable" {
		return nil, errors.New("no route")
	}
	w := httptest.NewRecorder()
	r, body, err := sent(r)
	if err != nil {
		return nil, err
	}
	if s.options.Upstream == nil || !s.options.Upstream(w, r) {
		echo(w, r, body)
	}
	return w.Result(), nil
}

// echo answers with what it was sent, or as [Site] says of the path.
func echo(w http.ResponseWriter, r *http.Request, body []byte) {
	switch path := r.URL.Path; {
	case path == "/guarded" && r.Header.Get("Authorization") != "Bearer renewed":
		w.WriteHeader(http.StatusUnauthorized)
	case path == "/created":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Link", `</created?page=2>; rel="next"`)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"created":true}`)
	default:
		w.Header().Set("Content-Type", "application/json")
		h := r.Header
		//nolint:gosec // the key is the test's own, which looks whether it arrived
		_ = json.NewEncoder(w).Encode(seen{r.Method, r.URL.RequestURI(), h.Get("Authorization"), h.Get("X-Api-Key"), h.Get("Content-Type"), string(body)})
	}
}

// courier judges addresses as the product does. What it delivers goes to s.Told.
func (s *Site) courier(t testing.TB) broker.Courier {
	t.Helper()
	policy, err := egress.New(egress.Options{})
	must(t, err)
	encode := s.options.Encode
	if encode == nil {
		encode = nango.Hook
	}
	return hooks.New(hooks.Options{
		Client: &http.Client{Transport: transport(s.receive)}, Encode: encode, UserAgent: "test",
		CheckURL: func(raw string) error {
			_, err := policy.CheckURL(raw, egress.URLOptions{Literal: true})
			return err
		},
	})
}

// Hook is a webhook as an app gets it.
type Hook struct {
	URL, Body string
	Header    http.Header
}

func (s *Site) receive(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.Told <- Hook{r.URL.String(), string(body), r.Header}
	return httptest.NewRecorder().Result(), nil
}
