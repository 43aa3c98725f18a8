package popup_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/api/popup"
)

// Where the rows are.
const (
	all = "/v1/integrations/connections"
	one = all + "/{connection_id}"
)

// samples has one for every row of the surface.
var samples = map[string]apitest.Sample{
	"POST " + all:   {Target: all, Body: `{"integration_key":"slack","nickname":"Theirs"}`, Status: http.StatusCreated, Own: true},
	"GET " + all:    {Target: all, Status: http.StatusOK, Own: true},
	"GET " + one:    {Target: one, Status: http.StatusOK},
	"DELETE " + one: {Target: one, Status: http.StatusNoContent},
}

func newMatrix(t *testing.T) *apitest.Matrix {
	t.Helper()
	s := newSite(t)
	m := &apitest.Matrix{
		Site: s, Rows: popup.Surface(s.Broker).Routes, Samples: samples, Ours: []string{`"Ours"`}, Secrets: []string{"our-secret"},
		// A session's token is put where a key belongs, too.
		Keys: []apitest.Way{apitest.Header("X-Api-Key")}, Sessions: []apitest.Way{apitest.Bearer, apitest.Header("X-Api-Key")},
	}
	m.Restore = func(t *testing.T) map[string]string {
		t.Helper()
		r, _, err := s.Broker.Import(t.Context(), broker.System(s.Env.ID), broker.ImportInput{
			Integration: "calcom", Key: "ours", Name: "Ours", Material: &broker.Material{Type: "API_KEY", Access: broker.NewSecret("our-secret")},
		})
		must(t, err)
		return map[string]string{"{connection_id}": string(r.Connection.ID)}
	}
	return m
}

func TestMatrix(t *testing.T) { newMatrix(t).Run(t) }

// scopeTable is the contract: any one of these opens the row. It is written out rather than read from the rows, so that one
// which asks for another scope fails here.
var scopeTable = map[string][]broker.Scope{
	"POST " + all:   {"environment:connect_sessions:write"},
	"GET " + all:    {"environment:connections:list", "environment:connections:list_credentials"},
	"GET " + one:    {"environment:connections:read", "environment:connections:read_credentials"},
	"DELETE " + one: {"environment:connections:delete"},
}

func TestEachRowTakesItsScopesAndNoOther(t *testing.T) {
	m := newMatrix(t)
	put := apitest.Header("X-Api-Key")
	for _, row := range m.Rows {
		name := row.Method + " " + row.Path
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
			scopes := scopeTable[name]
			if len(scopes) == 0 {
				t.Fatal("the table does not have it")
			}
			for _, scope := range scopes {
				m.Fresh(t)
				if got := m.Send(t, row.Method, samples[name], put, m.Site.Key(t, string(scope))); got.Code != samples[name].Status {
					t.Errorf("%s does not open it: %d %s", scope, got.Code, got.Body)
				}
			}
			m.Fresh(t)
			shut := m.Send(t, row.Method, samples[name], put, m.Site.Key(t, allBut(scopes)...))
			if shut.Code != http.StatusForbidden || !strings.Contains(shut.Body.String(), `"error":"insufficient_scope"`) {
				t.Errorf("every other scope opens it: %d %s", shut.Code, shut.Body)
			}
		})
	}
}

// allBut names the environment's scopes, wildcards too, that cover none of some.
func allBut(without []broker.Scope) (out []string) {
	for _, s := range broker.KnownScopes() {
		if strings.HasPrefix(string(s), "environment:") && !slices.ContainsFunc(without, broker.Scopes{s}.Has) {
			out = append(out, string(s))
		}
	}
	return out
}
