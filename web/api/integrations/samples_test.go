package integrations_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/api/integrations"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// samples are what the superuser may ask, of each row.
var samples = map[string]apitest.Sample{
	"GET /api/integrations/{id}/connect":           {Target: "/api/integrations/ours/connect", Status: 302},
	"POST /api/integrations/{id}/connect":          {Target: "/api/integrations/ours/connect", Body: `{"credentials":{"apiKey":"our-secret"}}`, Status: 201},
	"GET /api/integrations/{id}/connection":        {Target: "/api/integrations/ours/connection", Status: 200},
	"DELETE /api/integrations/{id}/connection":     {Target: "/api/integrations/ours/connection", Status: 204},
	"GET /api/integration-connections":             {Target: "/api/integration-connections", Status: 200, Own: true},
	"POST /api/integrations/{id}/request":          {Target: "/api/integrations/ours/request", Body: `{"url":"/a"}`, Status: 200},
	"GET /api/integrations/{id}/request/{path:.*}": {Target: "/api/integrations/ours/request/a", Status: 200},
}

// rows are those of both surfaces.
func rows(s *site) []kit.Route {
	return slices.Concat(integrations.Surface(s.Broker, nil).Routes, integrations.SignIn(s.Broker, nil).Routes)
}

func newMatrix(t *testing.T) *apitest.Matrix {
	t.Helper()
	s := newSite(t)
	s.Integrate(t, s.Env, broker.IntegrationInput{Key: "ours", Provider: "mail", Shared: true})
	system := broker.System(s.Env.ID)
	i, _, err := s.Broker.Integration(t.Context(), system, "ours")
	must(t, err)
	return &apitest.Matrix{
		Site: s.Site, Rows: rows(s), Samples: samples, Ours: []string{i.PublicName()}, Secrets: []string{"our-secret"},
		Restore: func(t *testing.T) map[string]string {
			t.Helper()
			_, _, err := s.Broker.Import(t.Context(), system, broker.ImportInput{
				Integration: "ours", Key: "theirs", Material: &broker.Material{Type: "API_KEY", Access: broker.NewSecret("our-secret")},
			})
			must(t, err)
			return nil
		},
	}
}

func TestMatrix(t *testing.T) { newMatrix(t).Run(t) }

// scopeTable is the contract: any one of these opens the row.
var scopeTable = map[string][]broker.Scope{
	"GET /api/integrations/{id}/connect":           {"environment:connect_sessions:write"},
	"POST /api/integrations/{id}/connect":          {"environment:connections:create"},
	"GET /api/integrations/{id}/connection":        {"environment:connections:read", "environment:connections:read_credentials"},
	"DELETE /api/integrations/{id}/connection":     {"environment:connections:delete"},
	"GET /api/integration-connections":             {"environment:connections:list", "environment:connections:list_credentials"},
	"POST /api/integrations/{id}/request":          {"environment:proxy"},
	"GET /api/integrations/{id}/request/{path:.*}": {"environment:proxy"},
}

func TestEachRowTakesItsScopesAndNoOther(t *testing.T) {
	m := newMatrix(t)
	for name, scopes := range scopeTable {
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
			method, _, _ := strings.Cut(name, " ")
			c := samples[name]
			for _, scope := range scopes {
				m.Fresh(t)
				if got := m.Send(t, method, c, apitest.Bearer, m.Site.Key(t, string(scope))); got.Code != c.Status {
					t.Errorf("with %s: got %d %s", scope, got.Code, got.Body)
				}
			}
			var rest []string
			for _, s := range broker.KnownScopes() {
				if !strings.HasSuffix(string(s), "*") && !strings.HasPrefix(string(s), "account:") && !slices.Contains(scopes, s) {
					rest = append(rest, string(s))
				}
			}
			refused(t, "without", m.Send(t, method, c, apitest.Bearer, m.Site.Key(t, rest...)), http.StatusForbidden, "insufficient_scope")
		})
	}
	if len(scopeTable) != len(m.Rows) {
		t.Errorf("%d rows, and scopes for %d", len(m.Rows), len(scopeTable))
	}
}
