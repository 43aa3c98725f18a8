package providertest

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// OAuth1Knobs is how an OAuth 1.0 provider behaves. The zero value is one without oddities.
type OAuth1Knobs struct {
	// Method is the only signature method that is taken; empty: HMAC-SHA1.
	Method string
	// TLS is looked at by NewOAuth1 alone.
	TLS bool
	// Now is the provider's clock; nil: time.Now.
	Now func() time.Time

	Status      int    // requests for credentials are answered with this status, and with Body
	Body        string // in place of the answer to requests for credentials
	HangUp      bool   // they get no answer
	Redirect    int    // they are redirected to the API
	Unconfirmed bool   // the answer says that the callback is not confirmed
	Deny        string // the consent is refused, in a parameter of this name: denied or oauth_problem
	OtherToken  bool   // the callback names another temporary credential
	ExpiresIn   string // oauth_expires_in of a credential
	API         int    // the API answers with this status, whoever asks
}

// OAuth1Counts is what an OAuth 1.0 provider was asked.
type OAuth1Counts struct {
	Temporary   int // requests for temporary credentials, whatever came of them
	Exchanges   int // requests for credentials
	API         int
	Identities  int
	Revocations int
	Refused     int // requests that were not signed as they have to be
	Replays     int // of these, those whose nonce had been used
}

// OAuth1 is an OAuth 1.0 provider (RFC 5849) of the client that [Server] knows. It reads requests as they came over the wire,
// and shares no code with what it tests. Its methods may be called while it answers.
type OAuth1 struct {
	URL string

	server    *httptest.Server
	mu        sync.Mutex
	knobs     OAuth1Knobs
	counts    OAuth1Counts
	temporary map[string]*temporaryToken
	tokens    map[string]string // secrets of good tokens
	nonces    map[string]bool
	serial    int
}

type temporaryToken struct {
	secret, callback, verifier string
}

// NewOAuth1 starts a provider that ends with the test.
func NewOAuth1(t testing.TB, k OAuth1Knobs) *OAuth1 {
	t.Helper()
	s := &OAuth1{knobs: k, temporary: map[string]*temporaryToken{}, tokens: map[string]string{}, nonces: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/request", s.request)
	mux.HandleFunc("/authorize", s.authorize)
	mux.HandleFunc("/access", s.access)
	mux.HandleFunc("/me", s.me)
	mux.HandleFunc("/revoke", s.revoke)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Past ServeMux, which would clean the path: what is signed is what was sent.
		if strings.HasPrefix(r.RequestURI, "/api/") {
			s.api(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
	if k.TLS {
		s.server = httptest.NewTLSServer(handler)
	} else {
		s.server = httptest.NewServer(handler)
	}
	s.URL = s.server.URL
	t.Cleanup(func() {
		s.server.CloseClientConnections()
		s.server.Close()
	})
	return s
}

// Transport trusts the provider's certificate.
func (s *OAuth1) Transport() http.RoundTripper { return s.server.Client().Transport }

// Set changes the knobs.
func (s *OAuth1) Set(change func(*OAuth1Knobs)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.knobs)
}

// Counts gives the counts so far.
func (s *OAuth1) Counts() OAuth1Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Entry gives the provider's entry for a catalogue, under a key; more are further lines of it.
func (s *OAuth1) Entry(key string, more ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `%s:
  display_name: Signing provider
  categories: [test]
  auth_mode: OAUTH1
  docs: %[2]s/docs
  request_url: %[2]s/request
  authorization_url: %[2]s/authorize
  token_url: %[2]s/access
  revocation_url: %[2]s/revoke
  revocation: {style: recipe, method: DELETE, auth: bearer, body_format: none, tokens: []}
  identity_endpoint: GET %[2]s/me
  proxy:
    base_url: %[2]s/api
`, key, s.URL)
	for _, line := range more {
		b.WriteString("  " + strings.ReplaceAll(line, "\n", "\n  ") + "\n")
	}
	return []byte(b.String())
}

// Approve opens an authorization URL as a browser would whose user agrees, and gives the query of the callback.
func (s *OAuth1) Approve(t testing.TB, authorizeURL string) url.Values {
	t.Helper()
	return follow(t, s.Transport(), authorizeURL).Query()
}

// Grant makes a grant without a browser and gives its token and secret.
func (s *OAuth1) Grant() (token, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issue()
}

// issue makes a token; s.mu is held.
func (s *OAuth1) issue() (token, secret string) {
	token, secret = s.name("token"), s.name("secret/+~&=") // with characters that have to be encoded
	s.tokens[token] = secret
	return token, secret
}

// name makes up a value; s.mu is held.
func (s *OAuth1) name(kind string) string {
	s.serial++
	return fmt.Sprintf("%s-%06d", kind, s.serial)
}

// Good reports whether a token is.
func (s *OAuth1) Good(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.tokens[token]
	return ok
}

// misbehaved answers a request for a credential in one of the ways that the knobs have.
func (s *OAuth1) misbehaved(w http.ResponseWriter, k *OAuth1Knobs) bool {
	switch {
	case k.HangUp:
		panic(http.ErrAbortHandler)
	case k.Redirect != 0:
		w.Header().Set("Location", s.URL+"/api/stolen")
		w.WriteHeader(k.Redirect)
	case k.Status != 0 || k.Body != "":
		w.WriteHeader(max(k.Status, http.StatusOK))
		_, _ = io.WriteString(w, k.Body)
	default:
		return false
	}
	return true
}

// request gives a temporary credential (section 2.1).
func (s *OAuth1) request(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Temporary++
	k := s.knobs
	if s.misbehaved(w, &k) {
		return
	}
	problem := s.check(r, readAll(r), "")
	callback, err := url.Parse(headerParams(r)["oauth_callback"])
	if problem == "" && (err != nil || callback.Host == "") {
		problem = "parameter_absent"
	}
	if problem != "" {
		refuseOAuth1(w, problem)
		return
	}
	temporary := &temporaryToken{secret: s.name("temporary-secret"), callback: callback.String()}
	token := s.name("temporary")
	s.temporary[token] = temporary
	// As many do, it calls a form a page.
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, url.Values{
		"oauth_token": {token}, "oauth_token_secret": {temporary.secret}, "oauth_callback_confirmed": {fmt.Sprint(!k.Unconfirmed)},
	}.Encode())
}

// authorize is the consent, given at once (section 2.2).
func (s *OAuth1) authorize(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := r.URL.Query().Get("oauth_token")
	temporary := s.temporary[token]
	if temporary == nil {
		http.Error(w, "no such sign-in", http.StatusBadRequest)
		return
	}
	target, _ := url.Parse(temporary.callback)
	q := target.Query()
	switch {
	case s.knobs.Deny == "denied":
		q.Set("denied", token)
	case s.knobs.Deny != "":
		q.Set(s.knobs.Deny, "user_refused")
		q.Set("oauth_token", token)
	default:
		temporary.verifier = s.name("verifier")
		if s.knobs.OtherToken {
			token = s.name("temporary")
		}
		q.Set("oauth_token", token)
		q.Set("oauth_verifier", temporary.verifier)
	}
	target.RawQuery = q.Encode()
	http.Redirect(w, r, target.String(), http.StatusFound)
}

// access trades a temporary credential for a lasting one, once (section 2.3).
func (s *OAuth1) access(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Exchanges++
	k := s.knobs
	if s.misbehaved(w, &k) {
		return
	}
	protocol := headerParams(r)
	temporary := s.temporary[protocol["oauth_token"]]
	if temporary == nil {
		refuseOAuth1(w, "token_rejected")
		return
	}
	problem := s.check(r, readAll(r), temporary.secret)
	if problem == "" && (temporary.verifier == "" || protocol["oauth_verifier"] != temporary.verifier) {
		problem = "verifier_invalid"
	}
	if problem != "" {
		refuseOAuth1(w, problem)
		return
	}
	delete(s.temporary, protocol["oauth_token"])
	token, secret := s.issue()
	form := url.Values{"oauth_token": {token}, "oauth_token_secret": {secret}, "user_id": {"account-1"}}
	if k.ExpiresIn != "" {
		form.Set("oauth_expires_in", k.ExpiresIn)
	}
	w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
	_, _ = io.WriteString(w, form.Encode())
}

func (s *OAuth1) api(w http.ResponseWriter, r *http.Request) {
	body := readAll(r)
	problem := s.Check(r, body)
	s.mu.Lock()
	s.counts.API++
	status := s.knobs.API
	s.mu.Unlock()
	switch {
	case problem != "":
		refuseOAuth1(w, problem)
	case status != 0:
		w.WriteHeader(status)
	default:
		headers := maps.Clone(map[string][]string(r.Header))
		delete(headers, "Authorization")
		path, query, _ := strings.Cut(r.RequestURI, "?")
		writeJSON(w, http.StatusOK, Echo{Method: r.Method, Path: path, Query: query, Headers: headers, Body: string(body), Account: "account-1"})
	}
}

func (s *OAuth1) me(w http.ResponseWriter, r *http.Request) {
	problem := s.Check(r, readAll(r))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Identities++
	if problem != "" {
		refuseOAuth1(w, problem)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"id": "account-1"})
}

func (s *OAuth1) revoke(w http.ResponseWriter, r *http.Request) {
	problem := s.Check(r, readAll(r))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Revocations++
	if problem != "" || r.Method != http.MethodDelete {
		refuseOAuth1(w, problem)
		return
	}
	delete(s.tokens, headerParams(r)["oauth_token"])
}

func readAll(r *http.Request) []byte {
	body, _ := io.ReadAll(r.Body)
	return body
}

// refuseOAuth1 answers as the problem reporting extension has it.
func refuseOAuth1(w http.ResponseWriter, problem string) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = io.WriteString(w, url.Values{"oauth_problem": {problem}, "oauth_problem_advice": {"sign it well"}}.Encode())
}
