package nango_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/nango"
)

// What surprises somebody who reads this API for the first time, and what callers count on all the same. The numbers are
// those of the list that the compatibility was agreed on; what may be better stands in improvements_test.go.
// 16 to 19, about webhooks, stand in surprises_hooks_test.go.

// reply is an answer, read.
type reply struct {
	status int
	header http.Header
	body   string
}

// send sends a request with dev's key. Headers are name, value, name, value.
func (s *site) send(t *testing.T, method, target, body string, headers ...string) reply {
	t.Helper()
	w := s.Send(t, method, target, body, headers...)
	return reply{w.Code, w.Header(), w.Body.String()}
}

// call sends a request through the proxy.
func (s *site) call(t *testing.T, method, target, integration, connection, body string, headers ...string) reply {
	t.Helper()
	return s.send(t, method, "/proxy"+target, body, append([]string{"Provider-Config-Key", integration, "Connection-Id", connection}, headers...)...)
}

// oauth imports a token that renews as refresh says, and ends at that time.
func (s *site) oauth(t *testing.T, id, refresh, expires string) {
	t.Helper()
	in := map[string]any{"type": "OAUTH2", "access_token": "token-of-" + id, "refresh_token": refresh, "expires_at": expires}
	if refresh == "" {
		delete(in, "refresh_token")
	}
	s.put(t, "code-prod", id, in)
}

func (s *site) put(t *testing.T, integration, id string, credentials map[string]any) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"provider_config_key": integration, "connection_id": id, "credentials": credentials})
	must(t, err)
	s.send(t, http.MethodPost, "/connections", string(body)).is(t, http.StatusCreated, "")
}

// keyed imports an API key.
func (s *site) keyed(t *testing.T, id string) {
	t.Helper()
	s.put(t, "mail-prod", id, map[string]any{"type": "API_KEY", "apiKey": "k"})
}

// is checks the status and the error's code.
func (r reply) is(t *testing.T, status int, code string) reply {
	t.Helper()
	var failed struct{ Error struct{ Code string } }
	if strings.HasPrefix(r.body, "{") {
		must(t, json.Unmarshal([]byte(r.body), &failed))
	}
	if r.status != status || failed.Error.Code != code {
		t.Errorf("got %d %s, want %d %q", r.status, r.body, status, code)
	}
	return r
}

// has checks that the body holds a text, and lacks checks that it does not.
func (r reply) has(t *testing.T, texts ...string) reply {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.body, text) {
			t.Errorf("there is no %s in %s", text, r.body)
		}
	}
	return r
}

func (r reply) lacks(t *testing.T, texts ...string) reply {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(r.body, text) {
			t.Errorf("there is %s in %s", text, r.body)
		}
	}
	return r
}

const (
	past  = "2026-03-01T11:00:00Z"
	later = "2026-03-01T20:00:00Z"
)

func TestSurprise01TrailingSlash(t *testing.T) {
	s := newSite(t)
	s.keyed(t, "Ann")
	in := []string{"Provider-Config-Key", "mail-prod", "Connection-Id", "Ann"}
	s.send(t, http.MethodGet, "/records/?model=Contact", "", in...).is(t, http.StatusOK, "").has(t, `"records":[]`)
	for _, path := range []string{"/connections/", "/Connections", "/CONNECTION/", "/Integrations/", "/Providers/mail/", "/PROVIDERS"} {
		s.send(t, http.MethodGet, path, "").is(t, http.StatusOK, "")
	}
	s.send(t, http.MethodGet, "/CONNECTIONS/Ann/?provider_config_key=mail-prod", "").is(t, http.StatusOK, "")
	s.send(t, http.MethodGet, "/connections/ann?provider_config_key=mail-prod", "").is(t, http.StatusNotFound, "not_found") // an id has its case
	s.send(t, http.MethodGet, "/Proxy/a/", "", in...).is(t, http.StatusOK, "").has(t, `"uri":"/a/"`)                        // and so has what goes on
}

func TestSurprise02EmptyControlHeaders(t *testing.T) {
	s := newSite(t)
	s.keyed(t, "c")
	s.call(t, http.MethodGet, "/a", "mail-prod", "c", "", "Base-Url-Override", "", "Nango-Activity-Log-Id", "").is(t, http.StatusOK, "").has(t, `"uri":"/a"`)
}

func TestSurprise03FlagsOnEveryRead(t *testing.T) {
	s := newSite(t)
	s.keyed(t, "c")
	const read = "/connections/c?provider_config_key=mail-prod&force_refresh=false&refresh_token=false&refresh_github_app_jwt_token=false"
	s.send(t, http.MethodGet, read, "").is(t, http.StatusOK, "")
	s.send(t, http.MethodGet, strings.ReplaceAll(read, "false", "true"), "").is(t, http.StatusOK, "")
	s.send(t, http.MethodGet, read+"&another=false", "").is(t, http.StatusBadRequest, "invalid_query_params")
	s.send(t, http.MethodGet, read, "", "Authorization", "Bearer "+s.Key(t, "connections:read")).is(t, http.StatusOK, "")
}

func TestSurprise04EmptyFormsAreEmptyObjects(t *testing.T) {
	s := newSite(t)
	s.keyed(t, "c")
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch} {
		got := s.call(t, method, "/a", "mail-prod", "c", "", "Content-Type", "application/x-www-form-urlencoded", "Content-Length", "0")
		got.is(t, http.StatusOK, "").has(t, `"body":"{}"`, `"content_type":"application/json"`)
	}
}

func TestSurprise05ContentTypeWithoutABody(t *testing.T) {
	s := newSite(t)
	s.keyed(t, "c")
	json := []string{"Content-Type", "application/json"}
	s.send(t, http.MethodGet, "/connections", "", json...).is(t, http.StatusOK, "")
	s.send(t, http.MethodGet, "/integrations/mail-prod", "", json...).is(t, http.StatusOK, "")
	s.send(t, http.MethodDelete, "/connections/c?provider_config_key=mail-prod", "", json...).is(t, http.StatusOK, "")
	s.send(t, http.MethodDelete, "/integrations/mail-prod", "", json...).is(t, http.StatusOK, "")
	s.send(t, http.MethodGet, "/connections", "", "Content-Type", "text/plain").is(t, http.StatusUnsupportedMediaType, "invalid_content_type")
}

func TestSurprise06NestedTags(t *testing.T) {
	s := newSite(t)
	for id, tags := range map[string]string{"one": `{"Plan":"Gold","team":"a"}`, "two": `{"plan":"gold"}`} {
		s.send(t, http.MethodPost, "/connections", `{"provider_config_key":"mail-prod","connection_id":"`+id+`","tags":`+tags+`,"credentials":{"type":"API_KEY","apiKey":"k"}}`).is(t, http.StatusCreated, "")
	}
	s.send(t, http.MethodGet, "/connections?tags%5BPLAN%5D=Gold", "").is(t, http.StatusOK, "").has(t, `"one"`).lacks(t, `"two"`)
	s.send(t, http.MethodGet, "/connections?tags[plan]=gold", "").is(t, http.StatusOK, "").has(t, `"two"`).lacks(t, `"one"`)
	s.send(t, http.MethodGet, "/connections?tags[plan]=Gold&tags[team]=b", "").is(t, http.StatusOK, "").has(t, `"connections":[]`)
}

func TestSurprise07PagesBeginAtZeroAndTheFirstIsLarge(t *testing.T) {
	s := newSite(t)
	const n = 130 // more than any page that one would guess
	for i := range n {
		s.keyed(t, fmt.Sprint("c", i))
	}
	count := func(query string) int {
		return strings.Count(s.send(t, http.MethodGet, "/connections"+query, "").is(t, http.StatusOK, "").body, `"connection_id"`)
	}
	for query, want := range map[string]int{"": n, "?limit=100": 100, "?limit=100&page=0": 100, "?limit=100&page=1": 30, "?limit=100&page=2": 0, "?page=1": 0} {
		if got := count(query); got != want {
			t.Errorf("%q gives %d connections, want %d", query, got, want)
		}
	}
}

func TestSurprise08EachListHasAnotherEnvelope(t *testing.T) {
	s := newSite(t)
	s.keyed(t, "c")
	for path, begins := range map[string]string{
		"/connections": `{"connections":[{"id":`, "/integrations": `{"data":[{"unique_key":`, "/integrations/mail-prod": `{"data":{"unique_key":`,
		"/providers": `{"data":[{"name":`, "/providers/mail": `{"data":{"name":`,
		"/connections/c?provider_config_key=mail-prod": `{"id":`, "/environment-variables": `[]`,
	} {
		if got := s.send(t, http.MethodGet, path, "").is(t, http.StatusOK, ""); !strings.HasPrefix(got.body, begins) {
			t.Errorf("%s begins %.40s, want %s", path, got.body, begins)
		}
	}
}

func TestSurprise09StatusesOfSuccess(t *testing.T) {
	s := newSite(t)
	s.keyed(t, "c") // 201
	const metadata = `{"connection_id":"c","provider_config_key":"mail-prod","metadata":{}}`
	s.send(t, http.MethodPost, "/connections/metadata", metadata).is(t, http.StatusCreated, "")
	s.send(t, http.MethodPatch, "/connections/metadata", metadata).is(t, http.StatusOK, "")
	s.send(t, http.MethodPost, "/connection", `{"provider_config_key":"mail-prod","api_key":"k"}`).is(t, http.StatusCreated, "")
	s.send(t, http.MethodPost, "/connect/sessions", `{"tags":{}}`).is(t, http.StatusCreated, "")
	s.send(t, http.MethodPost, "/connect/sessions/reconnect", `{"connection_id":"c","integration_id":"mail-prod"}`).is(t, http.StatusCreated, "")
	s.send(t, http.MethodPost, "/integrations", `{"provider":"mail","unique_key":"another"}`).is(t, http.StatusOK, "")
	token := s.Session(t, broker.SessionInput{})
	s.send(t, http.MethodDelete, "/connect/session", "", "Authorization", "Bearer "+token).is(t, http.StatusNoContent, "")
}

func TestSurprise10TheUnknownHasManyNames(t *testing.T) {
	s := newSite(t)
	const metadata = `{"connection_id":"no","provider_config_key":"mail-prod","metadata":{}}`
	s.send(t, http.MethodGet, "/connections/no?provider_config_key=mail-prod", "").is(t, http.StatusNotFound, "not_found")
	s.send(t, http.MethodPatch, "/connections/no?provider_config_key=mail-prod", `{}`).is(t, http.StatusNotFound, "not_found")
	s.send(t, http.MethodDelete, "/connections/no?provider_config_key=mail-prod", "").is(t, http.StatusBadRequest, "unknown_connection")
	s.send(t, http.MethodPost, "/connections/metadata", metadata).is(t, http.StatusNotFound, "unknown_connection")
	s.call(t, http.MethodGet, "/a", "mail-prod", "no", "").is(t, http.StatusBadRequest, "server_error")

	s.send(t, http.MethodGet, "/connections/c?provider_config_key=no", "").is(t, http.StatusBadRequest, "unknown_provider_config")
	s.send(t, http.MethodPatch, "/connections/c?provider_config_key=no", `{}`).is(t, http.StatusBadRequest, "unknown_provider_config")
	s.send(t, http.MethodPost, "/connection", `{"provider_config_key":"no"}`).is(t, http.StatusBadRequest, "unknown_provider_config")
	s.send(t, http.MethodGet, "/config/no", "").is(t, http.StatusBadRequest, "unknown_provider_config")
	s.send(t, http.MethodPost, "/connections", `{"provider_config_key":"no","credentials":{"type":"NONE"}}`).is(t, http.StatusNotFound, "not_found")
	s.send(t, http.MethodGet, "/integrations/no", "").is(t, http.StatusNotFound, "not_found")
	s.call(t, http.MethodGet, "/a", "no", "c", "").is(t, http.StatusNotFound, "unknown_provider_config")
}

func TestSurprise11RefreshFailures(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		refresh string
		status  int
		pause   string // how the proxy calls it when nothing is tried
	}{{"revoked", http.StatusBadRequest, "server_error"}, {"down", http.StatusBadRequest, "connection_refresh_backoff"}, {"garbled", http.StatusInternalServerError, "connection_refresh_backoff"}} {
		s.oauth(t, "read-"+c.refresh, c.refresh, past)
		s.oauth(t, "called-"+c.refresh, c.refresh, past)
		read := "/connections/read-" + c.refresh + "?provider_config_key=code-prod"
		s.send(t, http.MethodGet, read, "").is(t, c.status, "invalid_credentials").has(t, `"payload":{"connection":{`, `"credentials":{}`, `"errors":[{"type":"auth","log_id":"`)
		asked := s.Asked.Load()
		s.send(t, http.MethodGet, read, "").is(t, http.StatusFailedDependency, "invalid_credentials")
		if got := s.Asked.Load(); got != asked {
			t.Errorf("%s: 424, and the provider was asked", c.refresh)
		}
		s.send(t, http.MethodGet, read+"&force_refresh=true", "").is(t, c.status, "invalid_credentials") // tried, whatever the pause
		if got := s.Asked.Load(); got == asked {
			t.Errorf("%s: forced, and the provider was not asked", c.refresh)
		}
		s.call(t, http.MethodGet, "/a", "code-prod", "called-"+c.refresh, "").is(t, c.status, "server_error")
		s.call(t, http.MethodGet, "/a", "code-prod", "called-"+c.refresh, "").is(t, http.StatusFailedDependency, c.pause)
	}
	if n := s.Called.Load(); n != 0 {
		t.Errorf("%d calls went out without a token", n)
	}
}

func TestSurprise12ExpiredWithoutARefreshToken(t *testing.T) {
	s := newSite(t)
	s.oauth(t, "c", "", past)
	for _, more := range []string{"", "&force_refresh=true", ""} {
		s.send(t, http.MethodGet, "/connections/c?provider_config_key=code-prod"+more, "").is(t, http.StatusOK, "").
			has(t, `"access_token":"token-of-c"`, `"expires_at":"2026-03-01T11:00:00.000Z"`, `"errors":[]`)
	}
	// The proxy has no use for it.
	s.call(t, http.MethodGet, "/a", "code-prod", "c", "").is(t, http.StatusFailedDependency, "server_error")
	if asked, called := s.Asked.Load(), s.Called.Load(); asked+called != 0 {
		t.Errorf("the provider was asked %d times and called %d times", asked, called)
	}
}

func TestSurprise13RefreshTokensAreHiddenButForTheImport(t *testing.T) {
	s := newSite(t)
	const body = `{"provider_config_key":"code-prod","connection_id":"c","connection_config":{"userCredentials":{"refresh_token":"in-config"}},
		"credentials":{"type":"OAUTH2","access_token":"t","refresh_token":"in-body","expires_at":"2026-03-01T20:00:00Z"}}`
	s.send(t, http.MethodPost, "/connections", body).is(t, http.StatusCreated, "").has(t, `"refresh_token":"in-body"`, `"refresh_token":"in-config"`)
	read := "/connections/c?provider_config_key=code-prod"
	s.send(t, http.MethodGet, read, "").is(t, http.StatusOK, "").lacks(t, "in-body", "in-config")
	s.send(t, http.MethodGet, read+"&refresh_token=true", "").is(t, http.StatusOK, "").has(t, "in-body", "in-config")
	// What the provider answers is filtered at any depth, too.
	s.send(t, http.MethodGet, read+"&force_refresh=true", "").is(t, http.StatusOK, "").
		has(t, `"access_token":"renewed"`, `"nested":[{}]`, "12345678901234567890").lacks(t, "rotated", "also")
	s.send(t, http.MethodGet, read+"&refresh_token=true", "").is(t, http.StatusOK, "").has(t, `"refresh_token":"rotated"`, `"Refresh-Token":"also"`)
	s.send(t, http.MethodGet, "/connections", "").lacks(t, "rotated", "in-config")
}

func TestSurprise14PathsAreTextsAndPayloadsEmpty(t *testing.T) {
	s := newSite(t)
	s.send(t, http.MethodPost, "/connect/sessions", `{"tags":{},"allowed_integrations":["mail-prod","no"]}`).is(t, http.StatusBadRequest, "invalid_body").has(t, `"path":["allowed_integrations","1"]`)
	s.send(t, http.MethodGet, "/connections", "", "Authorization", "Bearer nobody-has-this-key").is(t, http.StatusUnauthorized, "unknown_account").has(t, `"payload":{}`)
	s.call(t, http.MethodGet, "/a", "mail-prod", "c", "", "Authorization", "short").is(t, http.StatusUnauthorized, "invalid_secret_key_format").has(t, `"payload":{}`)
}

func TestSurprise15NetworkFailuresAreFlat(t *testing.T) {
	s := newSite(t)
	s.keyed(t, "c")
	got := s.call(t, http.MethodGet, "/unreachable", "mail-prod", "c", "").is(t, http.StatusInternalServerError, "")
	var flat struct{ Message, Code, Method string }
	d := json.NewDecoder(strings.NewReader(got.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&flat); err != nil || flat.Message == "" || flat.Code != "ECONNREFUSED" || flat.Method != "get" {
		t.Errorf("got %s, %v", got.body, err)
	}
}

// In the original a 401 of the API never renews. Here it does, once; who asked for no retry is served all the same.
func TestSurprise20ARefusedTokenIsRenewed(t *testing.T) {
	s := newSite(t)
	s.oauth(t, "c", "good", later)
	s.call(t, http.MethodPost, "/guarded", "code-prod", "c", `{"a":1}`).is(t, http.StatusOK, "").has(t, `"authorization":"Bearer renewed"`, `"body":"{\"a\":1}"`)
	if asked, called := s.Asked.Load(), s.Called.Load(); asked != 1 || called != 2 {
		t.Errorf("%d renewals and %d calls, want 1 and 2", asked, called)
	}
	s.oauth(t, "dead", "revoked", later)
	s.call(t, http.MethodGet, "/guarded", "code-prod", "dead", "").is(t, http.StatusUnauthorized, "") // and is passed on where that does not help
}

func TestSurprise21ABareKey(t *testing.T) {
	s := newSite(t)
	s.keyed(t, "c")
	for _, header := range []string{secretKey, "Bearer " + secretKey, "Basic x Bearer " + secretKey} {
		s.send(t, http.MethodGet, "/connections", "", "Authorization", header).is(t, http.StatusOK, "")
		s.call(t, http.MethodGet, "/a", "mail-prod", "c", "", "Authorization", header).is(t, http.StatusOK, "")
	}
	s.send(t, http.MethodGet, "/connections", "", "Authorization", "bearer "+secretKey).is(t, http.StatusUnauthorized, "unknown_account")
	s.send(t, http.MethodGet, "/connections", "", "Authorization", "Basic "+url.UserPassword(secretKey, "").String()).is(t, http.StatusUnauthorized, "unknown_account")
}

func TestSurprise22TypesAreNotModes(t *testing.T) {
	s := newSite(t)
	s.put(t, "open-prod", "c", map[string]any{"type": "NONE"})
	s.send(t, http.MethodGet, "/connections/c?provider_config_key=open-prod", "").is(t, http.StatusOK, "").has(t, `"credentials":{}`)
	for kind, want := range map[string]string{"MCP_OAUTH2": "OAUTH2", "MCP_OAUTH2_GENERIC": "OAUTH2", "OAUTH2": "OAUTH2", "BASIC": "BASIC"} {
		got := nango.CredentialsOf(&broker.Material{Type: kind, Access: broker.NewSecret("t")})
		if got["type"] != want || want == "OAUTH2" && got["access_token"] != "t" {
			t.Errorf("%s is written %v", kind, got)
		}
	}
	if plugin, err := s.Broker.Provider("plugin"); err != nil || plugin.CredentialType != "BASIC" {
		t.Errorf("a plugin gives %+v, %v", plugin, err)
	}
}
