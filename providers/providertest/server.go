package providertest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The client that the provider knows.
const (
	ClientID     = "test-client"
	ClientSecret = "test-client-secret-0123456789"
)

// Server is a provider. Its methods may be called while it answers.
type Server struct {
	// URL is where it is; it is the issuer too.
	URL string
	// Collector is another server, to which Redirect leads.
	Collector string

	mu       sync.Mutex
	knobs    Knobs
	counts   Counts
	codes    map[string]*code
	refresh  map[string]*refreshToken
	access   map[string]*family
	families []*family
	requests []TokenRequest
	serial   int
	release  chan struct{} // closed by Release
	stalled  chan struct{} // gets a value for each request that stalls
}

// New starts a provider that ends with the test.
func New(t testing.TB, k Knobs) *Server {
	t.Helper()
	s := &Server{
		knobs: k, codes: map[string]*code{}, refresh: map[string]*refreshToken{}, access: map[string]*family{},
		release: make(chan struct{}), stalled: make(chan struct{}, 1024),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/authorize", s.authorize)
	mux.HandleFunc("/token", s.token)
	mux.HandleFunc("/revoke", s.revoke)
	mux.HandleFunc("/userinfo", s.userinfo)
	mux.HandleFunc("/api/", s.api)
	provider := httptest.NewServer(mux)
	collector := httptest.NewServer(http.HandlerFunc(s.collect))
	s.URL, s.Collector = provider.URL, collector.URL
	t.Cleanup(func() {
		s.Release()
		provider.CloseClientConnections()
		provider.Close()
		collector.Close()
	})
	return s
}

// Set changes the knobs.
func (s *Server) Set(change func(*Knobs)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.knobs)
}

// Counts gives the counts so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// TokenRequests lists the token requests so far.
func (s *Server) TokenRequests() []TokenRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Stalled gets a value for each token request that waits for Release.
func (s *Server) Stalled() <-chan struct{} { return s.stalled }

// Release lets the stalled requests go on, and ends stalling.
func (s *Server) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.knobs.Stall = false
	close(s.release)
	s.release = make(chan struct{})
}

// Entry gives the provider's entry for a catalogue, under a key; more are further lines of it, such as
// "refresh_rotation: \"yes\"".
func (s *Server) Entry(key string, more ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `%s:
  display_name: Test provider
  categories: [test]
  auth_mode: OAUTH2
  docs: %[2]s/docs
  authorization_url: %[2]s/authorize
  token_url: %[2]s/token
  token_auth_method: client_secret_post
  pkce: S256
  revocation_url: %[2]s/revoke
  identity_endpoint: GET %[2]s/userinfo
  proxy:
    base_url: %[2]s/api
`, key, s.URL)
	for _, line := range more {
		b.WriteString("  " + strings.ReplaceAll(line, "\n", "\n  ") + "\n")
	}
	return []byte(b.String())
}

// Approve opens an authorization URL as a browser would whose user agrees, and gives the query of the callback.
func (s *Server) Approve(t testing.TB, authorizeURL string) url.Values {
	t.Helper()
	return follow(t, nil, authorizeURL).Query()
}

// follow opens an address and gives where it redirects to.
func follow(t testing.TB, transport http.RoundTripper, address string) *url.URL {
	t.Helper()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	target, err := resp.Location()
	if err != nil {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("authorization: %d %s", resp.StatusCode, body)
	}
	return target
}

// ExpireAccess makes every access token invalid that was given so far; refresh tokens stay good.
func (s *Server) ExpireAccess() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.access)
}

// RevokeAll ends every family, as users do who remove the application from their account.
func (s *Server) RevokeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.families {
		f.revoked = true
	}
	clear(s.access)
}

// Grant makes a grant without a browser and gives its tokens.
func (s *Server) Grant() (access, refresh string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.newFamily("")
	return s.newAccess(f), s.newRefresh(f)
}

// Good reports whether an access token is.
func (s *Server) Good(access string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.good(access) != nil
}

func (s *Server) good(access string) *family {
	f := s.access[access]
	if f == nil || f.revoked || !f.ends[access].After(s.now()) {
		return nil
	}
	return f
}

func (s *Server) now() time.Time {
	if s.knobs.Now != nil {
		return s.knobs.Now()
	}
	return time.Now()
}

// snapshot gives the knobs as they are now.
func (s *Server) snapshot() Knobs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.knobs
}

func (s *Server) count(change func(*Counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.counts)
}

// collect is where redirects lead. It keeps nothing but the count: whoever gets here has lost a secret.
func (s *Server) collect(w http.ResponseWriter, _ *http.Request) {
	s.count(func(c *Counts) { c.Collected++ })
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"access_token":"collected","token_type":"bearer"}`)
}

// redirected answers with a redirect to the collector if that is asked for.
func (s *Server) redirected(w http.ResponseWriter, r *http.Request, k *Knobs) bool {
	if k.Redirect == 0 {
		return false
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Location", s.Collector+r.URL.Path)
	w.WriteHeader(k.Redirect)
	return true
}

// bearer finds the family of a request's token.
func (s *Server) bearer(r *http.Request) *family {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok {
		return nil
	}
	return s.good(token)
}

// Echo is what the API answers: the request as it came, without the credential.
type Echo struct {
	Method  string
	Path    string
	Query   string
	Headers map[string][]string
	Body    string
	Account string // whose token it was
}

func (s *Server) api(w http.ResponseWriter, r *http.Request) {
	s.count(func(c *Counts) { c.API++ })
	k := s.snapshot()
	if s.redirected(w, r, &k) {
		return
	}
	f := s.bearer(r)
	if k.API != 0 || f == nil {
		status := k.API
		if status == 0 {
			status = http.StatusUnauthorized
		}
		writeJSON(w, status, map[string]any{"error": "invalid_token"})
		return
	}
	body, _ := io.ReadAll(r.Body)
	headers := maps.Clone(map[string][]string(r.Header))
	delete(headers, "Authorization")
	writeJSON(w, http.StatusOK, Echo{
		Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Headers: headers, Body: string(body), Account: f.account,
	})
}

func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) {
	s.count(func(c *Counts) { c.Identities++ })
	k := s.snapshot()
	if s.redirected(w, r, &k) {
		return
	}
	f := s.bearer(r)
	if f == nil {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"sub": f.account})
}

// revoke ends the family of a token (RFC 7009); of an unknown one it says nothing.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	s.count(func(c *Counts) { c.Revocations++ })
	k := s.snapshot()
	if s.redirected(w, r, &k) {
		return
	}
	_ = r.ParseForm()
	if !knownClient(r, r.PostForm) {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	token := r.PostForm.Get("token")
	if f := s.access[token]; f != nil {
		f.revoked = true
	}
	if t := s.refresh[token]; t != nil {
		t.family.revoked = true
	}
	w.WriteHeader(http.StatusOK)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
