package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// isMCP reports whether users sign in to MCP servers.
func (e *Entry) isMCP() bool { return e.Mode() == modeMCP || e.Mode() == modeMCPGeneric }

// generic reports whether all that is known of a server is its address.
func (e *Entry) generic() bool { return e.Mode() == modeMCPGeneric }

// Registers reports whether a server makes its own client of whoever signs a user in. One of the entry's own has one for
// all; of the generic ones, that of an even user makes one, and that of an odd user reads a document.
func (e *Entry) Registers(u *User) bool {
	return e.text("client_registration") == "dynamic" || e.generic() && u.N%2 == 0
}

// playable gives an entry as it is played. The servers of generic ones have a name, and their endpoints are below it.
func (e *Entry) playable() *Entry {
	if !e.generic() {
		return e
	}
	for field, path := range map[string]string{
		"issuer": "", "authorization_url": "/authorize", "token_url": "/token", "registration_url": "/register", "revocation_url": "/revoke",
	} {
		e = e.Changed(e.Name, field, "${lab.issuer}"+path)
	}
	return e
}

// serverAddress is where a user's server is, and issuerOf what its authorization server calls itself.
func (e *Entry) serverAddress(n int) string {
	return "https://mcp.example.com/" + e.Name + "/" + strconv.Itoa(n)
}

func (e *Entry) issuerOf(n int) string {
	if n%2 == 1 {
		return "https://login-" + e.Name + "-" + strconv.Itoa(n) + ".example.com"
	}
	return "https://auth.example.com/" + e.Name + "/" + strconv.Itoa(n)
}

// resource is what requests for tokens have to name (RFC 8707): what the entry says, or the server's metadata.
func (p *Provider) resource(u *User) string {
	e := p.entry
	v := e.typed(p.client, u)
	switch {
	case e.generic() && u.N%2 == 1:
		return "https://mcp.example.com" // it speaks for all of the host
	case e.has("resource"):
		out, _ := v.text(e.text("resource"))
		return out
	case e.has("authorization_params", "resource"):
		out, _ := v.text(e.text("authorization_params", "resource"))
		return out
	}
	out, _ := v.text(e.text("proxy", "base_url"))
	return strings.TrimSuffix(out, "/")
}

// registered is a client that a server made, or whose document it read.
type registered struct {
	Client
	auth     string // how it proves itself
	redirect string
}

// register answers a request for a client (RFC 7591 section 3); nil: it is none.
func (p *Provider) register(q *request) *reply {
	e := p.entry
	if !e.isMCP() || !e.has("registration_url") {
		return nil
	}
	for _, u := range p.visitors() {
		if _, ok := leadsTo(q.url, p.values(&grant{user: u}).address(e.text("registration_url"))); ok && e.Registers(u) {
			return p.registers(q, u)
		}
	}
	return nil
}

// visitors are those who may come: nobody has a grant when a server is asked for the first time.
func (p *Provider) visitors() []*User { return []*User{p.entry.User(0), p.entry.User(1)} }

func (p *Provider) registers(q *request, u *User) *reply {
	p.note(Register)
	c := &registered{auth: "none"}
	if p.entry.generic() {
		c.auth = "client_secret_basic"
	}
	got := decoded(q.body)
	want := map[string]any{
		"redirect_uris": []any{anything}, "grant_types": []any{"authorization_code", "refresh_token"}, "response_types": []any{"code"},
		"token_endpoint_auth_method": c.auth, "application_type": "web", "client_name": anything, "client_uri": anything,
	}
	if q.method != http.MethodPost || !strings.HasPrefix(q.header.Get("Content-Type"), "application/json") || q.header.Get("Authorization") != "" {
		p.fault("registration: it is not a POST of JSON, by anybody")
	}
	if problem := unlike(want, got); problem != "" {
		p.fault("registration: %s", problem)
		return &reply{status: http.StatusBadRequest, body: map[string]any{"error": "invalid_client_metadata"}}
	}
	c.redirect = got.(map[string]any)["redirect_uris"].([]any)[0].(string) // as was looked
	p.bind(c.redirect, u)
	p.serial++
	c.ID = fmt.Sprintf("registered/%d of %s", p.serial, p.entry.Name)
	body := map[string]any{"client_id": c.ID, "client_id_issued_at": p.now().Unix(), "redirect_uris": []string{c.redirect}}
	if c.auth != "none" {
		c.Secret = fmt.Sprintf("s3cret+%d/%%41=", p.serial)
		body["client_secret"], body["client_secret_expires_at"] = c.Secret, 0
		body["token_endpoint_auth_method"] = c.auth
	}
	p.clients[c.ID] = c
	return &reply{status: http.StatusCreated, body: body}
}

// bind makes sure that an address to come back to is the broker's, and the same for no two servers.
func (p *Provider) bind(redirect string, u *User) {
	issuer, _ := p.values(&grant{user: u}).text(p.entry.text("issuer"))
	switch other, known := p.redirects[redirect]; {
	case redirect != p.callback && !strings.HasPrefix(redirect, p.callback+"/"):
		p.fault("registration: the address to come back to is not the broker's")
	case known && other != issuer:
		p.fault("registration: another server sends browsers back to the same address")
	}
	p.redirects[redirect] = issuer
}

// visitor finds the client of a sign-in: the integration's, one that was registered, or one with a document (OAuth Client ID
// Metadata Document section 4). nil: nobody knows it.
func (p *Provider) visitor(u *User, id string) *registered {
	e := p.entry
	switch {
	case !e.isMCP() || p.client.ID != "":
		return &registered{Client: *p.client}
	case e.Registers(u):
		return p.clients[id]
	}
	address, err := url.Parse(id)
	home, _ := url.Parse(p.callback)
	if err != nil || address.Scheme != "https" || address.Host != home.Host || address.RawQuery != "" || p.fetch == nil {
		return nil
	}
	var said struct {
		ID       string   `json:"client_id"`
		Redirect []string `json:"redirect_uris"`
		Auth     string   `json:"token_endpoint_auth_method"`
	}
	if json.Unmarshal(p.fetch(address.EscapedPath()), &said) != nil || said.ID != id || len(said.Redirect) != 1 || said.Auth != "none" {
		return nil
	}
	p.bind(said.Redirect[0], u)
	return &registered{Client: Client{ID: id}, auth: "none", redirect: said.Redirect[0]}
}

// Fetches says how documents at the broker's address are read.
func (p *Provider) Fetches(get func(path string) []byte) { p.fetch = get }

// Finding lists the requests by which a user's server is found.
func (e *Entry) Finding(u *User) []string {
	switch {
	case !e.generic():
		return nil
	case u.N%2 == 1:
		return []string{Challenge, Metadata, Metadata, Metadata, Metadata}
	}
	return []string{Challenge, Metadata, Metadata}
}

// discovery answers what is asked of generic servers before anybody signs in; nil: the request is none of that.
func (p *Provider) discovery(q *request) *reply {
	if !p.entry.generic() {
		return nil
	}
	for _, u := range p.visitors() {
		server, _ := url.Parse(p.entry.serverAddress(u.N))
		if *q.url == *server {
			return p.server(q, u)
		}
	}
	if !strings.Contains(q.url.Path, "/.well-known/") {
		return nil
	}
	p.note(Metadata)
	if q.method != http.MethodGet || q.header.Get("Authorization") != "" || q.url.RawQuery != "" {
		p.fault("metadata: it is public, and read with GET")
	}
	if body := p.documents()[hostOf(q.url)+q.url.EscapedPath()]; body != nil {
		return &reply{status: http.StatusOK, body: body}
	}
	return &reply{status: http.StatusNotFound}
}

// server is the MCP server itself. Without a token it says where to get one (RFC 9728 section 5.1), or only that.
func (p *Provider) server(q *request, u *User) *reply {
	ping := map[string]any{"jsonrpc": "2.0", "id": json.Number("1"), "method": "ping"}
	accept := q.header.Get("Accept")
	if q.method != http.MethodPost || unlike(ping, decoded(q.body)) != "" || !strings.Contains(accept, "application/json") || !strings.Contains(accept, "text/event-stream") {
		p.fault("MCP server: it is not asked for something harmless, in the way of the protocol")
	}
	if q.header.Get("Authorization") != "" {
		p.note(Ask)
		answer := map[string]any{"jsonrpc": "2.0", "id": 1, "result": map[string]any{}}
		return p.answerCall(q, "ping", nil, answer, func(*grant) *url.URL { return q.url })
	}
	p.note(Challenge)
	challenge := "Bearer"
	if u.N%2 == 0 {
		challenge = `Basic realm="a, b", Bearer error="invalid_token", resource_metadata="https://mcp.example.com/.well-known/lab/` +
			p.entry.Name + `", scope="` + strings.Join(p.entry.challengeScopes(), " ") + `"`
	}
	return &reply{status: http.StatusUnauthorized, header: map[string]string{"WWW-Authenticate": challenge}}
}

func (e *Entry) challengeScopes() []string { return []string{"mcp.read", "mcp.write"} }

// documents are the metadata of both servers (RFC 9728 section 2, RFC 8414 section 2), by address.
func (p *Provider) documents() map[string]map[string]any {
	even, odd := p.visitors()[0], p.visitors()[1]
	authorization := func(u *User, more map[string]any) map[string]any {
		issuer := p.entry.issuerOf(u.N)
		body := map[string]any{
			"issuer": issuer, "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token",
			"code_challenge_methods_supported": []string{"plain", "S256"}, "response_types_supported": []string{"code"}, "lab_extra": 1,
		}
		for name, v := range more {
			body[name] = v
		}
		return body
	}
	return map[string]map[string]any{
		"https://mcp.example.com/.well-known/lab/" + p.entry.Name: {
			"resource": p.resource(even), "authorization_servers": []string{p.entry.issuerOf(even.N), "https://elsewhere.example.com"},
		},
		"https://auth.example.com/.well-known/oauth-authorization-server/" + p.entry.Name + "/0": authorization(even, map[string]any{
			"registration_endpoint": p.entry.issuerOf(even.N) + "/register", "revocation_endpoint": p.entry.issuerOf(even.N) + "/revoke",
			"token_endpoint_auth_methods_supported":          []string{"private_key_jwt", "client_secret_basic"},
			"authorization_response_iss_parameter_supported": true, "scopes_supported": []string{"offline_access", "mcp.read"},
		}),
		"https://mcp.example.com/.well-known/oauth-protected-resource": {
			"resource": p.resource(odd), "authorization_servers": []string{p.entry.issuerOf(odd.N)}, "scopes_supported": []string{"not.asked"},
		},
		p.entry.issuerOf(odd.N) + "/.well-known/openid-configuration": authorization(odd, map[string]any{
			"token_endpoint_auth_methods_supported": []string{"none"}, "client_id_metadata_document_supported": true,
		}),
	}
}

// demands are the parameters that sign-ins to MCP servers have besides those of all.
func (p *Provider) demands(u *User) map[string]string {
	if !p.entry.isMCP() {
		return nil
	}
	out := map[string]string{"resource": p.resource(u)}
	if slices.Contains(u.Scopes, "offline_access") {
		out["prompt"] = "consent" // OpenID Connect Core section 11
	}
	return out
}
