package mcp_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// double is an MCP server and its authorization server, which is strict and does wrong where a test wants it to.
type double struct {
	t    *testing.T
	mcp  *httptest.Server
	auth *httptest.Server

	mu       sync.Mutex
	metadata map[string]any       // laid over the authorization server's; nil values take away
	about    map[string]any       // the same for the protected resource's
	issuer   string               // empty: the authorization server's address
	answer   func(url.Values)     // changes the authorization answer
	register func(map[string]any) // changes the answer to a registration
	token    func(url.Values) int // may refuse a token request with a status
	document func(string) []byte  // gets the document at a client id
	needs    string               // scope that a call needs
	scope    string               // of the challenge
	down     bool                 // the authorization server's metadata is away
	clients  map[string]*client   // by id
	codes    map[string]*pending  // by code
	tokens   map[string]*pending  // by access and refresh token
	serial   int

	registrations []map[string]any
	authorized    []url.Values
	tokenRequests []url.Values
	basic         []string // user names of token requests
	revoked       []string
	calls         []*http.Request
}

type client struct {
	secret, redirect, auth string
}

// pending is a grant on its way.
type pending struct {
	client, redirect, challenge, resource, scope string
}

func newDouble(t *testing.T) *double {
	t.Helper()
	d := &double{
		t: t, clients: map[string]*client{}, codes: map[string]*pending{}, tokens: map[string]*pending{}, scope: "files:read",
		metadata: map[string]any{}, about: map[string]any{},
	}
	d.mcp, d.auth = d.serve(http.HandlerFunc(d.serveMCP)), d.serve(http.HandlerFunc(d.serveAuth))
	return d
}

// serve serves on this machine, under its name.
func (d *double) serve(h http.Handler) *httptest.Server {
	s := httptest.NewServer(h)
	d.t.Cleanup(s.Close)
	s.URL = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	return s
}

func (d *double) url() string { return d.mcp.URL + "/mcp" }

// set changes the double while it runs.
func (d *double) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// over lays values over others.
func over(base, more map[string]any) map[string]any {
	for k, v := range more {
		if base[k] = v; v == nil {
			delete(base, k)
		}
	}
	return base
}

func (d *double) serveMCP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource"):
		write(w, http.StatusOK, over(map[string]any{
			"resource": d.url(), "authorization_servers": []string{d.auth.URL}, "scopes_supported": []string{"files:read", "files:write"},
		}, d.about))
	case r.URL.Path != "/mcp":
		http.NotFound(w, r)
	default:
		d.call(w, r)
	}
}

// call answers a call of the protocol.
func (d *double) call(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	g := d.tokens[token]
	if token != "" {
		d.calls = append(d.calls, r.Clone(r.Context()))
	}
	about := fmt.Sprintf(`resource_metadata="%s/.well-known/oauth-protected-resource/mcp"`, d.mcp.URL)
	switch {
	case g == nil:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer %s, scope="%s"`, about, d.scope))
		w.WriteHeader(http.StatusUnauthorized)
	case d.needs != "" && !slices.Contains(strings.Fields(g.scope), d.needs):
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", %s, scope="%s"`, about, d.needs))
		write(w, http.StatusForbidden, map[string]any{"error": "insufficient_scope"})
	default:
		write(w, http.StatusOK, map[string]any{"jsonrpc": "2.0", "id": 1, "result": map[string]any{"token": token, "path": r.URL.Path, "method": r.Method}})
	}
}

func (d *double) serveAuth(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		d.t.Error(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	form, _ := url.ParseQuery(string(raw))
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		d.serveMetadata(w)
	case "/register":
		d.serveRegistration(w, raw)
	case "/authorize":
		d.authorize(w, r)
	case "/token", "/token2":
		d.serveToken(w, r, form)
	case "/revoke":
		d.serveRevocation(w, r, form)
	default:
		http.NotFound(w, r)
	}
}

func (d *double) serveMetadata(w http.ResponseWriter) {
	if d.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	at := d.auth.URL
	write(w, http.StatusOK, over(map[string]any{
		"issuer": at, "authorization_endpoint": at + "/authorize", "token_endpoint": at + "/token", "registration_endpoint": at + "/register",
		"revocation_endpoint": at + "/revoke", "code_challenge_methods_supported": []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{"none", "client_secret_basic"},
		"authorization_response_iss_parameter_supported": true,
	}, d.metadata))
}

func (d *double) serveRegistration(w http.ResponseWriter, raw []byte) {
	var asked map[string]any
	if err := json.Unmarshal(raw, &asked); err != nil {
		write(w, http.StatusBadRequest, map[string]any{"error": "invalid_client_metadata"})
		return
	}
	d.registrations = append(d.registrations, asked)
	d.serial++
	id := fmt.Sprintf("client-%d", d.serial)
	redirect, _ := asked["redirect_uris"].([]any)
	c := &client{redirect: fmt.Sprint(redirect[0]), auth: fmt.Sprint(asked["token_endpoint_auth_method"])}
	answer := map[string]any{"client_id": id, "redirect_uris": redirect, "token_endpoint_auth_method": c.auth}
	if c.auth != "none" {
		c.secret = id + "-secret"
		answer["client_secret"], answer["client_secret_expires_at"] = c.secret, 0
	}
	if d.register != nil {
		d.register(answer)
	}
	d.clients[id] = c
	write(w, http.StatusCreated, answer)
}

// clientOf finds a client, by its registration or by its document.
func (d *double) clientOf(id string) *client {
	if c := d.clients[id]; c != nil || d.document == nil {
		return c
	}
	var doc struct {
		ID        string   `json:"client_id"`
		Redirects []string `json:"redirect_uris"`
		Auth      string   `json:"token_endpoint_auth_method"`
	}
	if json.Unmarshal(d.document(id), &doc) != nil || doc.ID != id || len(doc.Redirects) != 1 {
		return nil
	}
	return &client{redirect: doc.Redirects[0], auth: doc.Auth}
}

// authorize agrees to what is right, at once.
func (d *double) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	d.authorized = append(d.authorized, q)
	c := d.clientOf(q.Get("client_id"))
	if c == nil || c.redirect != q.Get("redirect_uri") || q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" {
		w.WriteHeader(http.StatusBadRequest) // a page that the end user alone sees
		return
	}
	d.serial++
	code := fmt.Sprintf("code-%d", d.serial)
	d.codes[code] = &pending{
		client: q.Get("client_id"), redirect: c.redirect, challenge: q.Get("code_challenge"), resource: q.Get("resource"), scope: q.Get("scope"),
	}
	back := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {d.issuerName()}}
	if d.answer != nil {
		d.answer(back)
	}
	w.Header().Set("Location", c.redirect+"?"+back.Encode())
	w.WriteHeader(http.StatusFound)
}

func (d *double) issuerName() string {
	if d.issuer != "" {
		return d.issuer
	}
	return d.auth.URL
}

// proven reports whether a client has proved itself as it must.
func (d *double) proven(r *http.Request, form url.Values) string {
	id, secret, basic := r.BasicAuth()
	if basic {
		d.basic = append(d.basic, id)
	} else {
		id, secret = form.Get("client_id"), form.Get("client_secret")
	}
	c := d.clientOf(id)
	if c == nil || c.secret != secret || basic != (c.auth == "client_secret_basic") {
		return ""
	}
	return id
}

func (d *double) serveToken(w http.ResponseWriter, r *http.Request, form url.Values) {
	d.tokenRequests = append(d.tokenRequests, form)
	if d.token != nil {
		if status := d.token(form); status != 0 {
			write(w, status, map[string]any{"error": "invalid_request"})
			return
		}
	}
	id := d.proven(r, form)
	if id == "" {
		write(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	g := d.codes[form.Get("code")]
	if form.Get("grant_type") == "refresh_token" {
		g = d.tokens[form.Get("refresh_token")]
		delete(d.tokens, form.Get("refresh_token"))
	} else if g != nil {
		sum := sha256.Sum256([]byte(form.Get("code_verifier")))
		if g.challenge != base64.RawURLEncoding.EncodeToString(sum[:]) || g.redirect != form.Get("redirect_uri") {
			g = nil
		}
		delete(d.codes, form.Get("code"))
	}
	if g == nil || g.client != id || g.resource != form.Get("resource") {
		write(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	d.serial++
	access, refresh := fmt.Sprintf("access-%d-0123456789abcdef", d.serial), fmt.Sprintf("refresh-%d-0123456789abcdef", d.serial)
	d.tokens[access], d.tokens[refresh] = g, g
	write(w, http.StatusOK, map[string]any{"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600})
}

func (d *double) serveRevocation(w http.ResponseWriter, r *http.Request, form url.Values) {
	if d.proven(r, form) == "" {
		write(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	d.revoked = append(d.revoked, form.Get("token"))
	delete(d.tokens, form.Get("token"))
	w.WriteHeader(http.StatusOK)
}

// counts gives how often it was asked to register and for tokens.
func (d *double) counts() (registrations, tokens int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.registrations), len(d.tokenRequests)
}

// lastTokenRequest gives the form of the latest one.
func (d *double) lastTokenRequest() url.Values {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.tokenRequests) == 0 {
		return nil
	}
	return d.tokenRequests[len(d.tokenRequests)-1]
}

// lastAuthorization gives the query of the latest authorization request.
func (d *double) lastAuthorization() url.Values {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.authorized) == 0 {
		return nil
	}
	return d.authorized[len(d.authorized)-1]
}
