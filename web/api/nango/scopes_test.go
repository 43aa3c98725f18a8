package nango_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/api/nango"
)

// scopeTable is the contract: any one of these opens the endpoint. It is written out rather than read from the routes, so
// that a route which asks for another scope fails here.
var scopeTable = map[string][]broker.Scope{
	"POST /connect/sessions":                              {"environment:connect_sessions:write"},
	"POST /connect/sessions/reconnect":                    {"environment:connect_sessions:write"},
	"GET /connections":                                    {"environment:connections:list", "environment:connections:list_credentials"},
	"GET /connection":                                     {"environment:connections:list", "environment:connections:list_credentials"},
	"GET /connections/{connectionId}":                     {"environment:connections:read", "environment:connections:read_credentials"},
	"GET /connection/{connectionId}":                      {"environment:connections:read", "environment:connections:read_credentials"},
	"POST /connections":                                   {"environment:connections:create"},
	"POST /connection":                                    {"environment:connections:create"},
	"PATCH /connections/{connectionId}":                   {"environment:connections:update"},
	"POST /connections/metadata":                          {"environment:connections:update"},
	"PATCH /connections/metadata":                         {"environment:connections:update"},
	"POST /connection/metadata":                           {"environment:connections:update"},
	"PATCH /connection/metadata":                          {"environment:connections:update"},
	"POST /connection/{connectionId}/metadata":            {"environment:connections:update"},
	"PATCH /connection/{connectionId}/metadata":           {"environment:connections:update"},
	"DELETE /connections/{connectionId}":                  {"environment:connections:delete"},
	"DELETE /connection/{connectionId}":                   {"environment:connections:delete"},
	"GET /integrations":                                   {"environment:integrations:list", "environment:integrations:list_credentials"},
	"GET /integrations/{uniqueKey}":                       {"environment:integrations:read", "environment:integrations:read_credentials"},
	"GET /config/{providerConfigKey}":                     {"environment:integrations:read", "environment:integrations:read_credentials"},
	"POST /integrations":                                  {"environment:integrations:create"},
	"POST /integrations/quickstart":                       {"environment:integrations:create"},
	"PATCH /integrations/{uniqueKey}":                     {"environment:integrations:update"},
	"DELETE /integrations/{uniqueKey}":                    {"environment:integrations:delete"},
	"GET /proxy":                                          {"environment:proxy"},
	"POST /proxy/{path}":                                  {"environment:proxy"},
	"GET /environment-variables":                          {"environment:variables:read"},
	"POST /environment/webhook-signing-key/rotate":        {"environment:webhook_signing_key:rotate"},
	"POST /environments":                                  {"account:environments:create"},
	"DELETE /environments/{environmentId}":                {"account:environments:delete"},
	"POST /environment/api-keys":                          {"account:environments:api_keys:create"},
	"DELETE /environment/api-keys":                        {"account:environments:api_keys:delete"},
	"GET /integrations/{uniqueKey}/functions":             {"environment:functions:list"},
	"GET /integrations/{uniqueKey}/functions/{name}":      {"environment:functions:read"},
	"GET /integrations/{uniqueKey}/functions/{name}/code": {"environment:functions:read"},
	"DELETE /integrations/{uniqueKey}/functions/{name}":   {"environment:functions:delete"},
	"GET /scripts/config":                                 {"environment:integrations:list_functions"},
	"GET /records":                                        {"environment:records:read"},
	"PATCH /records/prune":                                {"environment:records:write"},
	"POST /sync/trigger":                                  {"environment:syncs:execute"},
	"POST /sync/start":                                    {"environment:syncs:execute"},
	"POST /sync/pause":                                    {"environment:syncs:execute"},
	"GET /sync/status":                                    {"environment:syncs:read"},
	"PUT /sync/update-connection-frequency":               {"environment:syncs:update"},
	"POST /sync/{name}/variant/{variant}":                 {"environment:syncs:variant:create"},
	"DELETE /sync/{name}/variant/{variant}":               {"environment:syncs:variant:delete"},
	"POST /action/trigger":                                {"environment:actions:execute"},
	"GET /action/{id}":                                    {"environment:actions:execute"},
}

// otherwise are samples of calls that are no rows of the surface, or ask for more than their row.
var otherwise = map[string]apitest.Sample{
	"GET /proxy":                      {Target: "/proxy"}, // without its headers: they are looked at once the door is open
	"POST /proxy/{path}":              {Target: "/proxy/a/b"},
	"GET /config/{providerConfigKey}": {Target: "/config/ours"},
}

func TestEachEndpointTakesItsScopesAndNoOther(t *testing.T) {
	m := newMatrix(t)
	rows := make(map[string]bool)
	for _, row := range nango.Surface(m.Broker).Routes {
		name := row.Method + " " + row.Path
		rows[name] = true
		if _, ok := scopeTable[name]; !ok && strings.Contains(row.Auth.Name, "environment:") || !ok && strings.Contains(row.Auth.Name, "account:") {
			t.Errorf("the table has no row for %s, which asks for %s", name, row.Auth.Name)
		}
	}
	for name, scopes := range scopeTable {
		c, ok := otherwise[name]
		if !ok {
			c, ok = samples[name]
		}
		if !ok {
			if rows[name] {
				t.Errorf("there is no sample of %s", name)
			}
			continue // of another surface, or not served yet
		}
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
			method, _, _ := strings.Cut(name, " ")
			m.Fresh(t)
			for _, granted := range append(covering(scopes), scopes...) {
				if got := m.send(t, method, c, m.keyWith(t, granted)); got.Code == http.StatusForbidden {
					t.Errorf("%s does not open it: %s", granted, got.Body)
				}
			}
			shut := m.send(t, method, c, m.keyWithout(t, scopes))
			if shut.Code != http.StatusForbidden || !strings.Contains(shut.Body.String(), `"code":"forbidden","message":"`+insufficient(scopes)+`"`) {
				t.Errorf("every other scope opens it: %d %s", shut.Code, shut.Body)
			}
		})
	}
}

// insufficient is how a missing scope is told.
func insufficient(scopes []broker.Scope) string {
	if len(scopes) == 1 {
		return "Insufficient scope. Required: " + string(scopes[0])
	}
	return "Insufficient scope. Required one of: " + string(scopes[0]) + " or " + string(scopes[1])
}

// covering are the wildcards that can be granted and cover all of the scopes.
func covering(scopes []broker.Scope) (out []broker.Scope) {
	for _, w := range wildcards {
		if !slices.ContainsFunc(scopes, func(s broker.Scope) bool { return !strings.HasPrefix(string(s), strings.TrimSuffix(string(w), "*")) }) {
			out = append(out, w)
		}
	}
	return out
}

var wildcards = []broker.Scope{
	"environment:*", "environment:integrations:*", "environment:connections:*", "environment:syncs:*", "environment:functions:*",
	"environment:records:*", "environment:actions:*", "account:*",
}

// keyWith gives a key that ends with the test: there can be only so many.
func (s *site) keyWith(t *testing.T, scopes ...broker.Scope) string {
	t.Helper()
	system := broker.System(s.Env.ID)
	in := broker.KeyInput{Name: "key " + t.Name() + " " + string(scopes[0]), Scopes: scopes}
	var secret broker.Secret
	var k *broker.APIKey
	var err error
	if strings.HasPrefix(string(scopes[0]), "account:") {
		secret, k, err = s.Broker.CreateAccountKey(t.Context(), system, in)
	} else {
		secret, k, err = s.Broker.CreateAPIKey(t.Context(), system, s.Env, in)
	}
	must(t, err)
	t.Cleanup(func() { must(t, s.Broker.RevokeAPIKey(context.WithoutCancel(t.Context()), system, k.ID)) })
	return secret.Reveal()
}

// keyWithout gives a key with every scope, and every wildcard, that covers none of these.
func (s *site) keyWithout(t *testing.T, scopes []broker.Scope) string {
	t.Helper()
	account := strings.HasPrefix(string(scopes[0]), "account:")
	rest := slices.DeleteFunc(broker.KnownScopes(), func(k broker.Scope) bool {
		return strings.HasPrefix(string(k), "account:") != account || slices.ContainsFunc(scopes, broker.Scopes{k}.Has)
	})
	return s.keyWith(t, rest...)
}

// What can be granted is what the contract lists, and what we add to it.
func TestScopesThatCanBeGranted(t *testing.T) {
	known := broker.KnownScopes()
	for name, scopes := range scopeTable {
		for _, s := range scopes {
			if !slices.Contains(known, s) {
				t.Errorf("%s of %s cannot be granted", s, name)
			}
		}
	}
	for _, s := range append(wildcards, "account:environments:set_production", "environment:functions:compile", "environment:functions:dryrun",
		"environment:functions:invocations", "environment:deploy", "environment:mcp", "environment:logs:read", broker.ScopeRefreshTokensRead) {
		if !slices.Contains(known, s) {
			t.Errorf("%s cannot be granted", s)
		}
	}
	for _, wrong := range []string{
		"environment:nothing", "environment:connections", "environment:proxy:*", "environment:webhook_signing_key:*", "*", "", "environment:",
		"Environment:*", "account:environments:*", "environment:connections:read,environment:proxy",
	} {
		if got, err := broker.ParseScopes([]string{"proxy", wrong}); err == nil {
			t.Errorf("%q can be granted: %v", wrong, got)
		}
	}
}

// A wildcard covers what begins like it, and only behind a colon.
func TestWildcards(t *testing.T) {
	for _, c := range []struct {
		have, want broker.Scope
		covers     bool
	}{
		{"environment:*", "environment:connections:read", true},
		{"environment:*", "account:environments:create", false},
		{"environment:connections:*", "environment:connections:read_credentials", true},
		{"environment:connections:*", "environment:connect_sessions:write", false},
		{"environment:connections:*", "environment:connections", false},
		{"environment:connections:read", "environment:connections:read_credentials", false},
		{"environment:connections:read_credentials", "environment:connections:read", false},
		{"environment:connections:read*", "environment:connections:read_credentials", false},
		{"*", "environment:proxy", false},
		{"account:*", "account:environments:api_keys:delete", true},
		{"account:*", "environment:proxy", false},
	} {
		if got := (broker.Scopes{c.have}).Has(c.want); got != c.covers {
			t.Errorf("%s covers %s: %v", c.have, c.want, got)
		}
	}
}

// A connect session's token opens what a page needs and nothing that a key opens.
func TestSessionsHoldNoScopes(t *testing.T) {
	m := newMatrix(t)
	m.Fresh(t)
	for _, path := range []string{"/integrations", "/providers", "/providers/mail"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+m.Token)
		if m.Handler.ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
