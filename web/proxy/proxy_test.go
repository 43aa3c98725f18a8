package proxy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
	"github.com/coatcheck/coatcheck/web/proxy"
)

// echo answers with the request line and the headers that matter.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = io.WriteString(w, r.Method+" "+r.RequestURI+"\n")
	_ = r.Header.Write(w)
	_, _ = io.WriteString(w, "\n"+string(body))
}

func TestCredentialGoesIn(t *testing.T) {
	r := newRig(t, echo)
	access := r.grant("oauth", "d", time.Hour)
	for _, test := range []struct {
		integration, connection string
		want                    []string
	}{
		{"oauth", "d", []string{"GET /user?a=b&c\n", "Authorization: Bearer " + access + "\r\n"}},
		{"keyed", "c", []string{"GET /user?a=b&c\n", "X-Api-Key: " + apiKey + "\r\n"}},
		{"asked", "c", []string{"GET /user?a=b&c&api_key=the-provider%27s-own-api-key\n"}},
		{"below", "c", []string{"GET /v1/user?a=b&c\n", "X-Version: 7\r\n", "User-Agent: the-entry\r\n"}},
		{"pathed", "c", []string{"GET /botthe-provider%27s-own-api-key/user?a=b&c\n"}},
	} {
		a := r.get(test.integration, "/user?a=b&c", "Connection-Id", test.connection)
		for _, want := range test.want {
			if a.StatusCode != http.StatusOK || !strings.Contains(a.body, want) {
				t.Errorf("%s: status %d, no %q in\n%s", test.integration, a.StatusCode, want, a.body)
			}
		}
		if strings.Contains(a.body, secretKey) {
			t.Errorf("%s: the caller's key went upstream:\n%s", test.integration, a.body)
		}
	}
}

func TestCallersAreRefused(t *testing.T) {
	r := newRig(t, func(http.ResponseWriter, *http.Request) { t.Error("a refused call went upstream") })
	other, err := r.broker.Authenticate(otherKey)
	must(t, err)
	e, err := r.broker.Environment(other)
	must(t, err)
	narrow, _, err := r.broker.CreateAPIKey(t.Context(), broker.System(e.ID), e, broker.KeyInput{
		Name: "narrow", Scopes: broker.Scopes{broker.ScopeConnectionsRead},
	})
	must(t, err)
	for _, test := range []struct {
		name, path   string
		headers      []string
		status       int
		ours, theirs string
	}{
		{"no key", "/x", []string{"Authorization", "-"}, 401, "unauthorized", "missing_auth_header"},
		{"empty key", "/x", []string{"Authorization", "Bearer "}, 401, "unauthorized", "malformed_auth_header"},
		{"short key", "/x", []string{"Authorization", "Bearer abc"}, 401, "unauthorized", "invalid_secret_key_format"},
		{"wrong key", "/x", []string{"Authorization", "Bearer 22222222-2222-4333-8444-555555555555"}, 401, "unauthorized", "unknown_account"},
		{"under-scoped key", "/x", []string{"Authorization", "Bearer " + narrow.Reveal()}, 403, "insufficient_scope", "forbidden"},
		{"another environment", "/x", []string{"Authorization", "Bearer " + otherKey}, 404, "not_found", "unknown_provider_config"},
		{"key in the query", "/x?q=" + secretKey, nil, 400, "credential_in_url", "credential_in_url"},
		{"key in the path", "/x/" + secretKey, nil, 400, "credential_in_url", "credential_in_url"},
		{"unknown integration", "/x", []string{"Provider-Config-Key", "nope"}, 404, "not_found", "unknown_provider_config"},
		{"unknown connection", "/x", []string{"Connection-Id", "nope"}, 400, "not_found", "server_error"},
		{"no base URL", "/x", []string{"Provider-Config-Key", "baseless"}, 400, "not_supported", "unsupported_provider"},
		{"headers on redirect", "/x", []string{"Forward-Headers-On-Redirect", "true"}, 400, "not_supported", "not_supported"},
		{"another host", "/x", []string{"Base-Url-Override", "https://evil.example"}, 400, "base_url_not_allowed", "base_url_override_not_allowed"},
		{"blocked address", "/x", []string{"Provider-Config-Key", "blocked"}, 400, "egress_blocked", "base_url_override_not_allowed"},
		{"closed port", "/x", []string{"Provider-Config-Key", "gone"}, 500, "provider_unreachable", "ECONNREFUSED"},
		{"reserved parameter", "/x?a=b&API%5Fkey=x", []string{"Provider-Config-Key", "asked"}, 400, "reserved_param", "reserved_param"},
		{"semicolon in the query", "/x?a=b;c=d", nil, 400, "invalid_query", "invalid_query"},
		{"broken escape in the query", "/x?a=%zz", nil, 400, "invalid_query", "invalid_query"},
		{"many parameters", "/x?" + strings.Repeat("a&", 500) + "a", nil, 400, "invalid_query", "invalid_query"},
		{"path upwards", "/../x", nil, 400, "invalid_path", "invalid_path"},
		{"upgrade", "/x", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, 400, "upgrade_not_supported", "upgrade_not_supported"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.get("oauth", test.path, test.headers...).refused(t, test.status, test.ours, test.theirs)
		})
	}
}

func TestNetworkFailuresAreFlat(t *testing.T) {
	r := newRig(t, echo)
	a := r.do(r.request(http.MethodPost, "gone", "/x", strings.NewReader("{}")))
	want := `{"code":"ECONNREFUSED","message":"the provider could not be reached","method":"post"}`
	if a.body != want {
		t.Errorf("got %s, want %s", a.body, want)
	}
	if !strings.Contains(r.log.String(), "connection refused") {
		t.Errorf("the operator cannot see why: %s", r.log)
	}
}

func TestControlHeadersAreChecked(t *testing.T) {
	r := newRig(t, echo)
	for _, test := range []struct{ header, value, code, path string }{
		{"Provider-Config-Key", "-", "invalid_type", "provider-config-key"},
		{"Provider-Config-Key", "a/b", "invalid_format", "provider-config-key"},
		{"Provider-Config-Key", strings.Repeat("a", 256), "too_big", "provider-config-key"},
		{"Connection-Id", "-", "invalid_type", "connection-id"},
		{"Connection-Id", "", "invalid_format", "connection-id"},
		{"Connection-Id", "<c>", "invalid_format", "connection-id"},
		{"Retries", "many", "invalid_type", "retries"},
		{"Retries", "-1", "too_small", "retries"},
		{"Retry-On", "404,", "invalid_format", "retry-on"},
		{"Retry-On", ",404", "invalid_format", "retry-on"},
		{"Base-Url-Override", "not a url", "invalid_format", "base-url-override"},
		{"Decompress", "yes", "invalid_value", "decompress"},
		{"Nango-Is-Sync", "1", "invalid_value", "nango-is-sync"},
		{"Nango-Activity-Log-Id", strings.Repeat("a", 256), "too_big", "nango-activity-log-id"},
	} {
		a := r.get("oauth", "/x", test.header, test.value)
		a.refused(t, http.StatusBadRequest, "invalid_request", "invalid_headers")
		if !strings.Contains(a.body, `"code":"`+test.code+`"`) || !strings.Contains(a.body, `"path":["`+test.path+`"]`) {
			t.Errorf("%s: %s: got %s", test.header, test.value, a.body)
		}
	}
	// All at once, in the order in which they are read; a header that is sent twice is not one or the other.
	req := r.request(http.MethodGet, "oauth", "/x", nil, "Provider-Config-Key", "-", "Retry-On", "x")
	req.Header.Add("Connection-Id", "d")
	want := `"path":["provider-config-key"]},{"code":"invalid_format","message":"Invalid string: the header is sent more than once","path":["connection-id"]},{"code":"invalid_format"`
	if a := r.do(req); !strings.Contains(a.body, want) {
		t.Errorf("got %s", a.body)
	}
}

// What the npm client always sends, and what callers are used to.
func TestUsualCallersAreServed(t *testing.T) {
	r := newRig(t, echo)
	for _, headers := range [][]string{
		{"Base-Url-Override", "", "Nango-Activity-Log-Id", "", "Decompress", "false", "Retries", ""},
		{"Nango-Is-Sync", "true", "Nango-Is-Dry-Run", "true", "Nango-Is-Script", "true", "Retries", "99", "Retry-On", "404,409"},
		{"Authorization", secretKey},
		{"Authorization", "Basic x Bearer " + secretKey},
		{"Forward-Headers-On-Redirect", "false", "Decompress", "true"},
		{"Base-Url-Override", r.upstream.URL},
		{"Content-Type", "application/json"},
	} {
		if a := r.get("oauth", "/x", headers...); a.StatusCode != http.StatusOK || !strings.HasPrefix(a.body, "GET /x\n") {
			t.Errorf("%v: got %d %s", headers, a.StatusCode, a.body)
		}
	}
}

func TestMethods(t *testing.T) {
	r := newRig(t, echo)
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"} {
		if a := r.do(r.request(method, "oauth", "/x", nil)); a.StatusCode != http.StatusOK || !strings.HasPrefix(a.body, method+" /x\n") {
			t.Errorf("%s: got %d %s", method, a.StatusCode, a.body)
		}
	}
	for _, method := range []string{http.MethodTrace, http.MethodConnect} {
		w := httptest.NewRecorder()
		r.proxy.ServeHTTP(w, httptest.NewRequest(method, "/proxy/x", nil))
		answer{w.Result(), w.Body.String()}.refused(t, http.StatusMethodNotAllowed, "method_not_allowed", "method_not_allowed")
	}
	a := r.do(r.request(http.MethodOptions, "oauth", "/x", nil, "Authorization", "-", "Origin", "https://app.example.com"))
	if a.StatusCode != http.StatusNoContent || a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("OPTIONS: got %d %v", a.StatusCode, a.Header)
	}
}

func TestRefreshFailures(t *testing.T) {
	r := newRig(t, echo)
	for _, key := range []string{"dead", "down"} {
		r.grant("oauth", key, -time.Minute)
	}
	get := func(key string) answer { return r.get("oauth", "/x", "Connection-Id", key) }

	r.idp.Set(func(k *providertest.Knobs) { k.Error = "invalid_grant" })
	get("dead").refused(t, http.StatusBadRequest, "needs_reauth", "server_error")       // tried
	get("dead").refused(t, http.StatusFailedDependency, "needs_reauth", "server_error") // known

	r.idp.Set(func(k *providertest.Knobs) { k.Error, k.Status, k.RetryAfter = "", http.StatusServiceUnavailable, "60" })
	get("down").refused(t, http.StatusBadRequest, "provider_unavailable", "server_error")
	a := get("down")
	a.refused(t, http.StatusFailedDependency, "provider_unavailable", "connection_refresh_backoff")
	if a.Header.Get("Retry-After") == "" {
		t.Error("a back-off that does not say how long")
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	r := newRig(t, echo, func(r *rig) {
		r.transport = transport(func(*http.Request) (*http.Response, error) { panic("secret text") })
	})
	a := r.get("oauth", "/x")
	a.refused(t, http.StatusInternalServerError, "internal", "generic_error_support")
	if log := r.log.String(); !strings.Contains(log, "panicked") || strings.Contains(log+a.body, "secret text") {
		t.Errorf("answer %s, log %s", a.body, log)
	}
	r.get("gone", "/x").refused(t, http.StatusInternalServerError, "internal", "generic_error_support") // still there
}

// transport is a transport that a test answers for.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// reply makes an answer for a transport. Headers are name, value, name, value.
func reply(r *http.Request, status int, body string, headers ...string) *http.Response {
	w := httptest.NewRecorder()
	for i := 0; i+1 < len(headers); i += 2 {
		w.Header().Set(headers[i], headers[i+1])
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
	res := w.Result()
	res.Request = r
	return res
}

func TestOddAnswersAreRefused(t *testing.T) {
	for _, status := range []int{0, 99, 101} {
		r := newRig(t, echo, func(r *rig) {
			r.transport = transport(func(q *http.Request) (*http.Response, error) {
				res := reply(q, http.StatusOK, "", "Upgrade", "h2c", "Connection", "Upgrade")
				res.StatusCode = status
				return res, nil
			})
		})
		r.get("oauth", "/x").refused(t, http.StatusInternalServerError, "provider_unreachable", "ECONNREFUSED")
	}
}

func TestCloseTwice(t *testing.T) {
	h := proxy.New(proxy.Options{LogOutput: io.Discard})
	must(t, h.Close())
	must(t, h.Close())
}

// The connection of a caller that leaves is cut, not answered: an empty answer would read as one.
func TestCallerThatLeaves(t *testing.T) {
	r := newRig(t, echo, func(r *rig) {
		r.transport = transport(func(q *http.Request) (*http.Response, error) {
			<-q.Context().Done()
			return nil, q.Context().Err()
		})
	})
	ctx, leave := context.WithCancel(t.Context())
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/proxy/x", nil)
	req.Header = r.request(http.MethodGet, "oauth", "/x", nil).Header
	leave()
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("panic %v, want http.ErrAbortHandler", err)
		}
		if lines := r.lines(); lines[0]["status"] != float64(499) || lines[0]["code"] != "client_gone" {
			t.Errorf("log %v", lines)
		}
	}()
	r.proxy.ServeHTTP(httptest.NewRecorder(), req)
}
