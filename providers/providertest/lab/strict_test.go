package lab_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/providers/providertest/lab"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

const callback = "https://connect.example.com/oauth/callback"

// strictly plays the provider of an entry by itself.
func strictly(t *testing.T, name string) (*lab.Provider, *lab.Entry) {
	t.Helper()
	entries, err := lab.Read(coatcheck.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	e := entries[name]
	return lab.New(e, e.Client(), callback, func() time.Time { return apitest.Start }), e
}

// sends hands a request to a provider and gives what it found wrong.
func sends(t *testing.T, p *lab.Provider, method, target, body string, headers ...string) (*httptest.ResponseRecorder, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	p.Serve(w, r)
	if err := p.Faults(); err != nil {
		return w, err.Error()
	}
	return w, ""
}

// A server that nobody knows more of than its address is asked as the MCP specification has it, and in no other way. No
// entry says anything of it that could be wrong, so it is asked wrongly here.
func TestAnMCPServerIsStrict(t *testing.T) {
	const registration = `{"redirect_uris":["https://connect.example.com/oauth/callback/a"],"grant_types":["authorization_code","refresh_token"],` +
		`"response_types":["code"],"token_endpoint_auth_method":"client_secret_basic","application_type":"web","client_name":"n","client_uri":"https://a.example"}`
	const server, issuer = "https://mcp.example.com/custom-mcp/0", "https://auth.example.com/custom-mcp/0"
	for _, tt := range []struct{ name, method, target, body, fault string }{
		{"asked for something else", "POST", server, `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, "not asked for something harmless"},
		{"asked with a token", "GET", "https://mcp.example.com/.well-known/oauth-protected-resource?token=1", "", "metadata: it is public"},
		{"redirected elsewhere", "POST", issuer + "/register", strings.ReplaceAll(registration, "connect.", "other."), "not the broker's"},
		{"registered as public", "POST", issuer + "/register", strings.ReplaceAll(registration, "client_secret_basic", "none"), "token_endpoint_auth_method is not as it should be"},
		{"registered for two addresses", "POST", issuer + "/register", strings.ReplaceAll(registration, `/a"]`, `/a","https://b.example"]`), "redirect_uris is not as it should be"},
		{"registered for less", "POST", issuer + "/register", strings.ReplaceAll(registration, `,"refresh_token"`, ""), "grant_types is not as it should be"},
		{"registered", "POST", issuer + "/register", registration, ""},
		{"another server", "POST", "https://mcp.example.com/custom-mcp/9", "", "the entry does not name the request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := strictly(t, "custom-mcp")
			_, fault := sends(t, p, tt.method, tt.target, tt.body, "Content-Type", "application/json", "Accept", "application/json, text/event-stream")
			if (fault == "") != (tt.fault == "") || !strings.Contains(fault, tt.fault) {
				t.Errorf("fault %q", fault)
			}
		})
	}
}

// Nobody signs in at such a server without a challenge, without naming the server, or as a client that it does not know.
func TestAnMCPServersPageIsStrict(t *testing.T) {
	const id = "https://connect.example.com/oauth/client-metadata/a"
	right := url.Values{
		"client_id": {id}, "redirect_uri": {callback + "/a"}, "response_type": {"code"}, "state": {strings.Repeat("s", 20)},
		"code_challenge": {strings.Repeat("c", 43)}, "code_challenge_method": {"S256"}, "resource": {"https://mcp.example.com"}, "scope": {"lab.one lab.two"},
	}
	for name, value := range map[string]string{
		"": "", "code_challenge": "", "code_challenge_method": "plain", "resource": "https://mcp.example.com/custom-mcp/1",
		"client_id": "https://elsewhere.example/a", "redirect_uri": callback + "/b", "scope": "lab.one",
	} {
		t.Run("with another "+name, func(t *testing.T) {
			p, e := strictly(t, "custom-mcp")
			p.Fetches(func(string) []byte {
				return []byte(`{"client_id":"` + id + `","redirect_uris":["` + callback + `/a"],"token_endpoint_auth_method":"none"}`)
			})
			q := url.Values{}
			for n, v := range right {
				q[n] = v
			}
			if q.Set(name, value); value == "" {
				q.Del(name)
			}
			_, err := p.Authorize("https://login-custom-mcp-1.example.com/authorize?"+q.Encode(), e.User(1))
			if (err == nil) != (name == "") {
				t.Errorf("%v", err)
			}
		})
	}
}

// Its challenge is what tells a client where to go.
func TestAnMCPServerChallenges(t *testing.T) {
	p, _ := strictly(t, "custom-mcp")
	w, fault := sends(t, p, http.MethodPost, "https://mcp.example.com/custom-mcp/0", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "Accept", "application/json, text/event-stream")
	if c := w.Header().Get("WWW-Authenticate"); fault != "" || w.Code != http.StatusUnauthorized || !strings.Contains(c, "resource_metadata=") {
		t.Errorf("%q: %d %q", fault, w.Code, c)
	}
}
