package connections_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

// samples has one for every row.
var samples = map[string]apitest.Sample{
	"GET " + base:                          {Target: base, Status: 200, Own: true},
	"POST " + base:                         {Target: base, Body: `{"name":"new","provider":"stripe"}`, Status: 201, Own: true},
	"GET " + base + "/{id}":                {Target: base + "/{ours}", Status: 200},
	"DELETE " + base + "/{id}":             {Target: base + "/{ours}", Status: 200},
	"POST " + base + "/{id}/refresh":       {Target: base + "/{ours}/refresh", Status: 200},
	"POST " + base + "/{id}/verify":        {Target: base + "/{ours}/verify", Status: 200},
	"GET " + base + "/{provider}/auth-url": {Target: base + "/hubspot/auth-url", Status: 200},
	"GET " + base + "/{provider}/callback": {Target: base + "/hubspot/callback", Status: 400},
}

// newMatrix has a connection of dev's, {ours}, that can be renewed and verified.
func newMatrix(t *testing.T) *apitest.Matrix {
	t.Helper()
	s := newSite(t)
	return &apitest.Matrix{
		Site: s.Site, Rows: s.rows, Samples: samples, Keys: []apitest.Way{apitest.Header("X-Api-Key"), apitest.Header("x-api-key")},
		Restore: func(t *testing.T) map[string]string {
			return map[string]string{"{ours}": s.imported(t, "refresh-token")}
		},
		Ours: []string{`"ours"`}, Secrets: []string{"our-secret", "refresh-token"},
	}
}

// imported stores a token of dev's and gives its connection's id.
func (s *site) imported(t testing.TB, refresh string) string {
	t.Helper()
	got, _, err := s.Broker.Import(t.Context(), broker.System(s.Env.ID), broker.ImportInput{
		Integration: "stripe", Name: "ours",
		Material: &broker.Material{Type: "OAUTH2", Access: broker.NewSecret("our-secret"), Refresh: broker.NewSecret(refresh)},
	})
	must(t, err)
	return "conn_" + string(got.Connection.ID)
}

func TestMatrix(t *testing.T) { newMatrix(t).Run(t) }

// scopes are what each row asks for: any of them.
var scopes = map[string][]broker.Scope{
	"GET " + base:                          {broker.ScopeConnectionsList, broker.ScopeConnectionsListC},
	"POST " + base:                         {broker.ScopeSessionsWrite},
	"GET " + base + "/{id}":                {broker.ScopeConnectionsRead, broker.ScopeCredentialsRead},
	"DELETE " + base + "/{id}":             {broker.ScopeConnectionsDelete},
	"POST " + base + "/{id}/refresh":       {broker.ScopeConnectionsUpdate},
	"POST " + base + "/{id}/verify":        {broker.ScopeConnectionsUpdate},
	"GET " + base + "/{provider}/auth-url": {broker.ScopeSessionsWrite},
}

func TestEachRowTakesItsScopesAndNoOther(t *testing.T) {
	m := newMatrix(t)
	for _, row := range m.Rows {
		name := row.Method + " " + row.Path
		wanted, ok := scopes[name]
		if !ok {
			if row.Auth.Name != "public" {
				t.Errorf("no scopes are known of %s", name)
			}
			continue
		}
		for _, scope := range broker.KnownScopes() {
			if strings.HasPrefix(string(scope), "account:") || strings.HasSuffix(string(scope), "*") || !strings.Contains(string(scope), "conn") {
				continue // another matter, or so far from it that the matrix will do
			}
			m.Fresh(t)
			got := m.Send(t, row.Method, samples[name], apitest.Header("X-Api-Key"), m.Site.Key(t, string(scope)))
			want := http.StatusForbidden
			if slices.Contains(wanted, scope) {
				want = samples[name].Status
			}
			if got.Code != want {
				t.Errorf("%s with %s: got %d %s, want %d", name, scope, got.Code, got.Body, want)
			}
		}
	}
}

// Session tokens and keys in other headers open nothing.
func TestCredentialsInOtherPlaces(t *testing.T) {
	s := newSite(t)
	token := s.Session(t, broker.SessionInput{})
	for name, put := range map[string]func(r *http.Request){
		"a key in Authorization":     func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+apitest.Key) },
		"a session in Authorization": func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) },
		"a session as the key":       func(r *http.Request) { r.Header.Set("X-Api-Key", token) },
		"two keys":                   func(r *http.Request) { r.Header["X-Api-Key"] = []string{apitest.Key, apitest.Key} },
		"an empty key":               func(r *http.Request) { r.Header.Set("X-Api-Key", "") },
		"a key in a cookie":          func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "x-api-key", Value: apitest.Key}) },
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, base, nil)
		put(r)
		s.Handler.ServeHTTP(w, r)
		if code, got := read(t, w); code != http.StatusUnauthorized || got.Error.Code != "UNAUTHORIZED" {
			t.Errorf("%s: %d %s", name, code, got.text)
		}
	}
}
