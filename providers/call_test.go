package providers

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
)

// apiServer answers with what a test says and keeps what it was asked.
type apiServer struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []string
	status int
	body   string
}

func newAPI(t *testing.T, status int, body string) *apiServer {
	t.Helper()
	s := &apiServer{status: status, body: body}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		line := r.Method + " " + r.URL.RequestURI()
		for _, name := range []string{"Authorization", "X-Key", "Content-Type"} {
			if v := r.Header.Get(name); v != "" {
				line += " " + v
			}
		}
		s.asked = append(s.asked, strings.TrimSpace(line+" "+string(raw)))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, s.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *apiServer) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// entryAt is an entry of a mode whose API is at a server.
func entryAt(url, mode, lines string) string {
	return "x:\n  display_name: X\n  auth_mode: " + mode + "\n  authorization_url: https://x.example/a\n  token_url: https://x.example/t\n  " +
		strings.ReplaceAll(strings.ReplaceAll(lines, "SERVER", url), "\n", "\n  ") + "\n"
}

func TestIdentity(t *testing.T) {
	for _, tt := range []struct {
		name, mode, lines, body, want, asked string
	}{
		{"the first usual name", modeOAuth2, "identity_endpoint: GET SERVER/me?x=1", `{"login":"ann","id":12345678901234567890}`, "12345678901234567890", "GET /me?x=1 Bearer the/key+"},
		{"a path", modeOAuth2, "identity_endpoint: GET SERVER/me\nidentity_path: data.user.gid", `{"id":1,"data":{"user":{"gid":"g"}}}`, "g", "GET /me Bearer the/key+"},
		{"a list", modeOAuth2, "identity_endpoint: GET SERVER/me\nidentity_path: 0.id", `[{"id":"t"}]`, "t", "GET /me Bearer the/key+"},
		{"a body", modeOAuth2, `identity_endpoint: 'POST SERVER/graphql {"query":"{ viewer { id } }"}'` + "\nidentity_path: data.viewer.id", `{"data":{"viewer":{"id":"v"}}}`, "v", `POST /graphql Bearer the/key+ application/json {"query":"{ viewer { id } }"}`},
		{"a key", modeAPIKey, "identity_endpoint: GET SERVER/me\nproxy: {base_url: SERVER, headers: {x-key: '${apiKey}'}, query: {k: '${apiKey}'}}", `{"id":"k"}`, "k", "GET /me?k=the%2Fkey%2B the/key+"},
		{"a user in the path", modeBasic, "identity_endpoint: GET SERVER/${credentials.username}.json", `{"sub":"s"}`, "s", "GET /ann.json Basic YW5uOnA6dw=="},
		{"no such member", modeOAuth2, "identity_endpoint: GET SERVER/me\nidentity_path: nothing", `{"id":1}`, "", "GET /me Bearer the/key+"},
		{"an object is no id", modeOAuth2, "identity_endpoint: GET SERVER/me", `{"account":{"id":1}}`, "", "GET /me Bearer the/key+"},
		{"connection config", modeOAuth2, "identity_path: ${connectionConfig.realmId}", "", "r1", ""},
		{"a credential", modeBasic, "identity_path: ${credentials.username}", "", "ann", ""},
		{"connection config that is missing", modeOAuth2, "identity_path: ${connectionConfig.other}", "", "", ""},
		{"an address that is missing", modeOAuth2, "identity_endpoint: GET ${connectionConfig.userinfo}", "", "", ""},
		{"the right side", modeOAuth2, "identity_endpoint: GET https://${connectionConfig.other}.x.example/me || SERVER/me", `{"id":"r"}`, "r", "GET /me Bearer the/key+"},
		{"none", modeOAuth2, "docs: https://x.example", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newAPI(t, 200, tt.body)
			p := provider[broker.Identifier](t, load(t, entryAt(s.URL, tt.mode, tt.lines)), "x")
			got, err := p.Identify(t.Context(), &broker.Holding{Client: client, Config: map[string]string{"realmId": "r1"}, Material: material(tt.mode)})
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v", got, err)
			}
			if asked := strings.Join(s.requests(), "\n"); asked != tt.asked {
				t.Errorf("asked %q", asked)
			}
		})
	}
}

func TestVerification(t *testing.T) {
	const verify = "proxy:\n  base_url: SERVER/v1\n  headers: {x-key: '${apiKey}'}\n  verification:\n    method: POST\n    endpoints: [/me, 'users/${connectionConfig.user}?a=b']\n    headers: {content-type: text/x}\n    data: {q: '${apiKey}', n: [1, true]}"
	h := &broker.Holding{Client: client, Config: map[string]string{"user": "a/b"}, Material: material(modeAPIKey)}
	for _, tt := range []struct {
		name, lines string
		status      int
		body        string
		checked     bool
		class       broker.FailureClass
		ok          bool
		asked       int
	}{
		{"any body will do", verify, 200, "not JSON", true, 0, true, 1},
		{"refused", verify, 401, "", true, broker.GrantLost, false, 2},
		{"forbidden", verify, 403, "{}", true, broker.GrantLost, false, 2},
		{"down", verify, 500, "", true, broker.Transient, false, 2},
		{"slow down", verify, 429, "", true, broker.Transient, false, 2},
		{"odd", verify, 404, "", true, broker.Transient, false, 2},
		{"redirected", verify, 302, "", true, broker.Transient, false, 2},
		{"by identity", "identity_endpoint: GET SERVER/me", 200, `{"id":1}`, true, 0, true, 1},
		{"by identity, refused", "identity_endpoint: GET SERVER/me", 401, ``, true, broker.GrantLost, false, 1},
		{"by identity, without the scope", "identity_endpoint: GET SERVER/me", 403, ``, true, broker.Transient, false, 1},
		{"by identity, an error in a 200", "identity_endpoint: GET SERVER/me\nerror_predicates: [{path: ok, equals: false, code_path: error}]", 200, `{"ok":false,"error":"invalid_auth"}`, true, broker.GrantLost, false, 1},
		{"an error in a 200", verify + "\nerror_predicates: [{path: ok, equals: false, code_path: error}]", 200, `{"ok":false,"error":"invalid_auth"}`, true, broker.GrantLost, false, 2},
		{"not at all", "docs: https://x.example", 200, "", false, 0, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newAPI(t, tt.status, tt.body)
			p := provider[broker.Verifier](t, load(t, entryAt(s.URL, modeAPIKey, tt.lines)), "x")
			checked, err := p.Verify(t.Context(), h)
			if checked != tt.checked || (err == nil) != tt.ok {
				t.Fatalf("checked %v: %v", checked, err)
			}
			if err != nil && failed(t, err).Class != tt.class {
				t.Errorf("got %+v", failed(t, err))
			}
			asked := s.requests()
			if len(asked) != tt.asked {
				t.Errorf("asked %q", asked)
			}
			if tt.asked == 2 && asked[1] != `POST /v1/users/a%2Fb?a=b the/key+ text/x {"q":"the/key+","n":[1,true]}` {
				t.Errorf("asked %q", asked[1])
			}
		})
	}
}

func TestCompletion(t *testing.T) {
	const lines = "post_connection:\n  request: GET SERVER/meta\n  headers: {authorization: 'OAuth ${accessToken}'}\n  capture: {dc: 0.dc, big: 0.big, bad: 0.bad, none: 0.none}\n" +
		"connection_config:\n  bad: {title: B, description: d, automated: true, pattern: '^[a-z]+$'}\n  dc: {title: D, description: d, automated: true, pattern: '^[a-z]+[0-9]+$'}"
	s := newAPI(t, 200, `[{"dc":"us6","big":12345678901234567890,"bad":"B!"}]`)
	p := provider[broker.Completer](t, load(t, entryAt(s.URL, modeOAuth2, lines)), "x")
	h := &broker.Holding{Client: client, Material: material(modeOAuth2)}
	got, err := p.Complete(t.Context(), h)
	if err != nil || fmt.Sprint(got) != "map[big:12345678901234567890 dc:us6]" {
		t.Errorf("got %v %v", got, err)
	}
	if asked := s.requests(); len(asked) != 1 || asked[0] != "GET /meta OAuth the/key+" {
		t.Errorf("asked %q", asked)
	}
	s.mu.Lock()
	s.status = 500
	s.mu.Unlock()
	if _, err := p.Complete(t.Context(), h); failed(t, err).Status != 500 {
		t.Error(err)
	}
}

func TestRevocationRequests(t *testing.T) {
	both := &broker.Material{Type: "OAUTH2", Access: broker.NewSecret("A"), Refresh: broker.NewSecret("R")}
	onlyAccess := &broker.Material{Type: "OAUTH2", Access: broker.NewSecret("A")}
	const basic, form = "Basic dGVzdC1jbGllbnQ6dGVzdC1jbGllbnQtc2VjcmV0LTAxMjM0NTY3ODk=", "application/x-www-form-urlencoded"
	for _, tt := range []struct {
		name, lines string
		material    *broker.Material
		want        []string
	}{
		{"RFC 7009", "revocation_url: SERVER/r", both, []string{
			"POST /r " + form + " client_id=test-client&client_secret=test-client-secret-0123456789&token=R&token_type_hint=refresh_token",
			"POST /r " + form + " client_id=test-client&client_secret=test-client-secret-0123456789&token=A&token_type_hint=access_token",
		}},
		{"as at the token endpoint", "revocation_url: SERVER/r\ntoken_auth_method: client_secret_basic\nrevocation: {tokens: [refresh]}", both, []string{"POST /r " + basic + " " + form + " token=R&token_type_hint=refresh_token"}},
		{"one ends the grant", "revocation_url: SERVER/r\nrevocation: {auth: none, whole_grant: true}", both, []string{"POST /r " + form + " token=R&token_type_hint=refresh_token"}},
		{"the access token where there is no other", "revocation_url: SERVER/r\nrevocation: {auth: none, whole_grant: true}", onlyAccess, []string{"POST /r " + form + " token=A&token_type_hint=access_token"}},
		{
			"GitHub's recipe", "revocation_url: SERVER/applications/${clientId}/grant\nrevocation: {method: DELETE, style: recipe, auth: basic, token_param: access_token, body_format: json, tokens: [access], whole_grant: true}",
			both,
			[]string{"DELETE /applications/test-client/grant " + basic + ` application/json {"access_token":"A"}`},
		},
		{"Slack's recipe", "revocation_url: SERVER/r\nrevocation: {style: recipe, auth: bearer, body_format: none, tokens: [access]}", both, []string{"POST /r Bearer A"}},
		{
			"Stripe's recipe", "revocation_url: SERVER/r\nrevocation: {style: recipe, auth: none, headers: {authorization: 'Bearer ${clientSecret}'}, params: {client_id: '${clientId}', who: '${connectionConfig.acct}'}, tokens: []}",
			both,
			[]string{"POST /r Bearer test-client-secret-0123456789 " + form + " client_id=test-client&who=acct_1"},
		},
		{"nothing to name", "revocation_url: SERVER/r\nrevocation: {tokens: [refresh]}", onlyAccess, nil},
		{"no address", "revocation_url: ${connectionConfig.none}", both, nil},
		{"none", "docs: https://x.example", both, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newAPI(t, 200, "")
			p := oauth(t, load(t, entryAt(s.URL, modeOAuth2, tt.lines)), "x")
			supported, err := p.Revoke(t.Context(), &broker.Holding{Client: client, Config: map[string]string{"acct": "acct_1"}, Material: tt.material})
			if err != nil || supported != (tt.want != nil) {
				t.Errorf("supported %v: %v", supported, err)
			}
			if got := s.requests(); !slices.Equal(got, tt.want) {
				t.Errorf("asked\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

func TestWhatProvidersSayToARevocation(t *testing.T) {
	const rfc, recipe = "revocation_url: SERVER/r\nrevocation: {whole_grant: true}", "revocation_url: SERVER/r\nrevocation: {style: recipe, auth: bearer, body_format: none, tokens: [access]}"
	for _, tt := range []struct {
		name, lines string
		status      int
		body        string
		ok          bool
		class       broker.FailureClass
	}{
		{"done", rfc, 200, "", true, 0},
		{"done, with words", rfc, 204, "gone", true, 0},
		{"done, an odd body", rfc, 200, "<p>ok", true, 0},
		{"token is dead", rfc, 400, `{"error":"invalid_grant"}`, true, 0},
		{"token is not known", rfc, 400, `{"error":"invalid_token"}`, true, 0},
		{"down", rfc, 503, "", false, broker.Transient},
		{"slow down", rfc, 429, "", false, broker.Transient},
		{"our client is refused", rfc, 401, `{"error":"invalid_client"}`, false, broker.ClientRefused},
		{"unclear", rfc, 400, `{"error":"invalid_request"}`, false, broker.Transient},
		{"not there", rfc, 404, "", false, broker.Transient},
		{"recipe, token is dead", recipe, 401, "", true, 0},
		{"recipe, no such grant", recipe, 404, "", true, 0},
		{"recipe, error in a 200", recipe + "\nerror_predicates: [{path: ok, equals: false, code_path: error}]", 200, `{"ok":false,"error":"token_revoked"}`, true, 0},
		{"recipe, down", recipe, 500, "", false, broker.Transient},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newAPI(t, tt.status, tt.body)
			p := oauth(t, load(t, entryAt(s.URL, modeOAuth2, tt.lines)), "x")
			supported, err := p.Revoke(t.Context(), &broker.Holding{Client: client, Material: material(modeOAuth2)})
			if !supported || (err == nil) != tt.ok {
				t.Fatalf("supported %v: %v", supported, err)
			}
			if err != nil && failed(t, err).Class != tt.class {
				t.Errorf("got %+v", failed(t, err))
			}
		})
	}
}

func TestRevocationByBearerRenewsATokenThatIsOver(t *testing.T) {
	s, p := testProvider(t, providertest.Knobs{Rotate: true}, "revocation: {auth: bearer, tokens: [access]}")
	access, refresh := s.Grant()
	h := &broker.Holding{Client: client, Material: &broker.Material{
		Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh), ExpiresAt: time.Now().Add(-time.Minute),
	}}
	// The endpoint asks for the client, which a bearer does not prove; what counts here is what was asked before.
	_, _ = p.Revoke(t.Context(), h)
	if c := s.Counts(); c.Refreshes != 1 || c.Revocations != 1 {
		t.Errorf("counts: %+v", c)
	}
	s.RevokeAll()
	supported, err := p.Revoke(t.Context(), h)
	if !supported || err != nil {
		t.Errorf("a grant that is gone: %v %v", supported, err)
	}
}

func TestRevocationEndsTheGrant(t *testing.T) {
	s, p := testProvider(t, providertest.Knobs{})
	access, refresh := s.Grant()
	supported, err := p.Revoke(t.Context(), &broker.Holding{Client: client, Material: &broker.Material{
		Type: "OAUTH2", Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh),
	}})
	if !supported || err != nil || s.Good(access) {
		t.Errorf("%v %v, still good: %v", supported, err, s.Good(access))
	}
}
