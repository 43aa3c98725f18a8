// Package oidcprovider runs an authorization server that this project did not write, for tests: oidc-provider, a
// certified OpenID Connect provider for Node.js, on a loopback port, with everything in memory.
//
// The providers of providertest misbehave on request, but they read the specifications with the same eyes as the code
// that they test. This one does not. It insists on PKCE with S256, on one way of client authentication and its right
// encoding, and on redirect URIs to the letter; it replaces a refresh token with every use, and ends the grant when a
// replaced one comes back (RFC 9700 section 4.14.2).
//
// It needs node, version 18 or later, and npm. The npm packages are those of package-lock.json; they are installed once,
// outside the tree. The version is 8.x because 9.x needs a newer Node.js than Debian 12 has. To take another one, run
// npm install --package-lock-only oidc-provider@VERSION in this folder.
package oidcprovider

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Options is the one client that the server knows, and what can be different about the server. ClientID, ClientSecret
// and RedirectURIs must be given.
type Options struct {
	ClientID     string
	ClientSecret string
	// RedirectURIs are compared as text, and in full.
	RedirectURIs []string
	// TokenAuthMethod is how the client proves itself according to Entry: client_secret_basic, which is the default, or
	// client_secret_post. The server takes either, but not both in one request.
	TokenAuthMethod string
	// AccessTokenTTL is how long access tokens last, in whole seconds; zero: a minute.
	AccessTokenTTL time.Duration
	// ReuseGrace is how long a refresh token that was already replaced may be used again, counted from its first use. By
	// default a second use ends the grant at once.
	ReuseGrace time.Duration
	// CutOpener lets every page cut itself from whoever opened it (Cross-Origin-Opener-Policy: same-origin), as many
	// providers' do.
	CutOpener bool
}

// Server is a running authorization server. Its methods may be called by many goroutines, except Counts.
type Server struct {
	t       testing.TB
	options Options
	issuer  string
	client  *http.Client
}

// Start runs a server until the test ends. The first start on a machine, and the first after a change of the lock file,
// downloads the npm packages.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.TokenAuthMethod == "" {
		o.TokenAuthMethod = "client_secret_basic"
	}
	if o.AccessTokenTTL == 0 {
		o.AccessTokenTTL = time.Minute
	}
	if o.ClientID == "" || o.ClientSecret == "" || len(o.RedirectURIs) == 0 || o.AccessTokenTTL%time.Second != 0 {
		t.Fatal("oidcprovider: a client's id, secret and redirect URIs are needed, and a lifetime in whole seconds")
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &Server{
		t: t, options: o, issuer: fmt.Sprintf("http://127.0.0.1:%d", run(t, o)),
		client: &http.Client{
			Transport:     transport,
			Timeout:       30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Issuer is the server's issuer identifier, an origin without a trailing slash. Discovery is under it.
func (s *Server) Issuer() string { return s.issuer }

// The endpoints.
func (s *Server) authorizationURL() string { return s.issuer + "/auth" }
func (s *Server) tokenURL() string         { return s.issuer + "/token" }
func (s *Server) revocationURL() string    { return s.issuer + "/token/revocation" }
func (s *Server) userinfoURL() string      { return s.issuer + "/me" }

// Entry gives a catalogue in YAML whose only provider has this name and is the server.
func (s *Server) Entry(name string) string {
	return strings.NewReplacer(
		"NAME", name, "ISSUER", s.issuer, "METHOD", s.options.TokenAuthMethod,
		"LIFETIME", fmt.Sprint(int(s.options.AccessTokenTTL/time.Second)),
		"GRACE", fmt.Sprint(int(s.options.ReuseGrace/time.Second)),
		"AUTHORIZE", s.authorizationURL(), "TOKEN", s.tokenURL(), "REVOKE", s.revocationURL(), "USERINFO", s.userinfoURL(),
	).Replace(entry)
}

// OpenID Connect Core section 11 lets a server drop offline_access where the request does not ask for consent, and this
// one does.
const entry = `NAME:
  display_name: oidc-provider
  categories: [identity]
  auth_mode: OAUTH2
  docs: https://github.com/panva/node-oidc-provider/tree/v8.x/docs
  authorization_url: AUTHORIZE
  authorization_params:
    prompt: consent
  token_url: TOKEN
  token_auth_method: METHOD
  default_scopes: [openid, offline_access]
  pkce: S256
  revocation_url: REVOKE
  identity_endpoint: GET USERINFO
  identity_path: sub
  refresh_rotation: "yes"
  refresh_grace: GRACE
  access_token_lifetime: LIFETIME
  proxy:
    base_url: ISSUER
`

// Counts is what the server has done since it started.
type Counts struct {
	// TokenRequests are all requests to the token endpoint, refused ones too, by their grant_type.
	TokenRequests map[string]int `json:"token_requests"`
	// TokensIssued are those of them that brought tokens.
	TokensIssued map[string]int `json:"tokens_issued"`
	// Rotations are refresh tokens replaced; a repeat that the grace allows is one more.
	Rotations int `json:"rotations"`
	// Reuses are refresh tokens that came again after they were replaced.
	Reuses int `json:"reuses"`
	// GrantsRevoked are grants that ended: a refresh token was revoked, or a token or code reused.
	GrantsRevoked int `json:"grants_revoked"`
}

// Counts asks the server what it has done. A request is counted before it is answered. It ends the test if the server
// does not answer, so only the test's own goroutine may call it.
func (s *Server) Counts() Counts {
	s.t.Helper()
	var c Counts
	body, err := s.get(s.t.Context(), "/__counts")
	if err == nil {
		err = json.Unmarshal(body, &c)
	}
	if err != nil {
		s.t.Fatalf("oidcprovider: read the counts: %v", err)
	}
	return c
}

func (s *Server) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.issuer+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	return io.ReadAll(res.Body)
}

// isCallback reports whether a URL is one of the client's redirect URIs, with an answer in its query.
func (s *Server) isCallback(u *url.URL) bool {
	for _, registered := range s.options.RedirectURIs {
		r, err := url.Parse(registered)
		if err == nil && u.Scheme == r.Scheme && u.Host == r.Host && u.Path == r.Path {
			return true
		}
	}
	return false
}
