package nango_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/nango"
)

// sample is a request of a route that succeeds with a good key of dev.
type sample struct {
	target, body string
	status       int
	// global is set where the answer is the same for every environment.
	global bool
	// own is set where another environment's key gets that environment's own, which must hold nothing of ours.
	own bool
}

// samples has one for every row of the surface.
var samples = map[string]sample{
	"POST /connect/sessions":           {target: "/connect/sessions", body: `{"tags":{},"allowed_integrations":["ours"]}`, status: 201},
	"POST /connect/sessions/reconnect": {target: "/connect/sessions/reconnect", body: `{"connection_id":"theirs","integration_id":"ours"}`, status: 201},
	"GET /connect/session":             {target: "/connect/session", status: 200},
	"DELETE /connect/session":          {target: "/connect/session", status: 204},

	"GET /connections": {target: "/connections", status: 200, own: true},
	"POST /connections": {
		target: "/connections", status: 201,
		body: `{"provider_config_key":"ours","connection_id":"new","credentials":{"type":"API_KEY","apiKey":"k"}}`,
	},
	"GET /connections/{connectionId}":    {target: "/connections/theirs?provider_config_key=ours", status: 200},
	"PATCH /connections/{connectionId}":  {target: "/connections/theirs?provider_config_key=ours", body: `{}`, status: 200},
	"DELETE /connections/{connectionId}": {target: "/connections/theirs?provider_config_key=ours", status: 200},
	"POST /connections/metadata":         {target: "/connections/metadata", body: metadataBody, status: 201},
	"PATCH /connections/metadata":        {target: "/connections/metadata", body: metadataBody, status: 200},
	"GET /connection":                    {target: "/connection", status: 200, own: true},
	"GET /connection/{connectionId}":     {target: "/connection/theirs?provider_config_key=ours", status: 200},
	"DELETE /connection/{connectionId}":  {target: "/connection/theirs?provider_config_key=ours", status: 200},
	"POST /connection/metadata":          {target: "/connection/metadata", body: metadataBody, status: 201},
	"PATCH /connection/metadata":         {target: "/connection/metadata", body: metadataBody, status: 200},

	"GET /integrations":                {target: "/integrations", status: 200, own: true},
	"POST /integrations":               {target: "/integrations", body: `{"provider":"mail","unique_key":"another"}`, status: 200, own: true},
	"POST /integrations/quickstart":    {target: "/integrations/quickstart", body: `{"provider":"mail","unique_key":"x"}`, status: 400},
	"GET /integrations/{uniqueKey}":    {target: "/integrations/ours", status: 200},
	"PATCH /integrations/{uniqueKey}":  {target: "/integrations/ours", body: `{}`, status: 200},
	"DELETE /integrations/{uniqueKey}": {target: "/integrations/ours", status: 200},

	"POST /environment/webhook-signing-key/rotate": {target: "/environment/webhook-signing-key/rotate", status: 200},

	"GET /providers":                            {target: "/providers", status: 200, global: true},
	"GET /providers/{provider}":                 {target: "/providers/mail", status: 200, global: true},
	"GET /providers/{provider}/templates":       {target: "/providers/mail/templates", status: 200, global: true},
	"GET /providers.json":                       {target: "/providers.json", status: 200, global: true},
	"GET /images/template-logos/{provider}.svg": {target: "/images/template-logos/mail.svg", status: 200, global: true},
}

const metadataBody = `{"connection_id":"theirs","provider_config_key":"ours","metadata":{"a":1}}`

// everyScope is what a key can hold, each by itself.
var everyScope = []broker.Scope{
	broker.ScopeSessionsWrite, broker.ScopeConnectionsList, broker.ScopeConnectionsListC, broker.ScopeConnectionsRead, broker.ScopeCredentialsRead,
	broker.ScopeRefreshTokensRead, broker.ScopeConnectionsCreate, broker.ScopeConnectionsUpdate, broker.ScopeConnectionsDelete,
	broker.ScopeIntegrationsList, broker.ScopeIntegrationsListC, broker.ScopeIntegrationsRead, broker.ScopeIntegrationSecrets,
	broker.ScopeIntegrationsCreate, broker.ScopeIntegrationsUpdate, broker.ScopeIntegrationsDelete, broker.ScopeProxy, broker.ScopeSigningKeyRotate,
}

// TestMatrix sends every request with every credential that must not do, and none may succeed. Then it sends it with the
// right one, so that it is the credential alone that made the others fail.
func TestMatrix(t *testing.T) {
	m := &matrix{site: newSite(t)}
	m.revoked = m.revokedKey(t)
	for _, row := range nango.Surface(m.broker).Routes {
		name := row.Method + " " + row.Path
		c, ok := samples[name]
		if !ok {
			t.Errorf("there is no sample of %s", name)
			continue
		}
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
			m.restore(t)
			kind, scopes, takesKeys := strings.Cut(row.Auth.Name, "key")
			if kind == "public" {
				return
			}
			takesSessions := strings.HasPrefix(kind, "session")
			m.refused(t, "no credential", row.Method, c, "")
			m.refused(t, "an unknown key", row.Method, c, "00000000-2222-4333-8444-555555555555")
			m.refused(t, "a revoked key", row.Method, c, m.revoked)
			good := secretKey
			if takesKeys {
				m.foreign(t, row.Method, c)
				m.underScoped(t, row.Method, c, strings.TrimSpace(scopes))
			} else {
				good = m.token
				m.refused(t, "a key instead of a session", row.Method, c, secretKey)
			}
			if !takesSessions {
				m.refused(t, "a session instead of a key", row.Method, c, m.token)
			}
			if got := m.send(t, row.Method, c, good); got.Code != c.status {
				t.Errorf("with the right credential: got %d %s", got.Code, got.Body)
			}
		})
	}
}

// matrix is a site with something of ours in dev.
type matrix struct {
	*site
	token, revoked string
}

// restore brings back what an earlier request deleted.
func (m *matrix) restore(t *testing.T) {
	t.Helper()
	system := broker.System(m.env.ID)
	if _, _, err := m.broker.Integration(t.Context(), system, "ours"); errors.Is(err, broker.ErrNotFound) {
		m.integrate(t, m.env, broker.IntegrationInput{Key: "ours", Provider: "mail", ClientSecret: broker.NewSecret("our-secret")})
	}
	_, _, err := m.broker.Import(t.Context(), system, broker.ImportInput{
		Integration: "ours", Key: "theirs", Material: &broker.Material{Type: "API_KEY", Access: broker.NewSecret("our-secret")},
	})
	must(t, err)
	m.token = m.session(t, broker.SessionInput{})
}

func (m *matrix) revokedKey(t *testing.T) string {
	t.Helper()
	system := broker.System(m.env.ID)
	key, k, err := m.broker.CreateAPIKey(t.Context(), system, m.env, broker.KeyInput{Name: "old", Scopes: broker.Scopes{broker.ScopeAll}})
	must(t, err)
	must(t, m.broker.RevokeAPIKey(t.Context(), system, k.ID))
	return key.Reveal()
}

func (m *matrix) send(t *testing.T, method string, c sample, credential string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, c.target, strings.NewReader(c.body))
	if c.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, r)
	return w
}

func (m *matrix) refused(t *testing.T, what, method string, c sample, credential string) {
	t.Helper()
	if got := m.send(t, method, c, credential); got.Code < 400 || got.Code >= 500 {
		t.Errorf("%s: got %d %s", what, got.Code, got.Body)
	}
}

// foreign sends another environment's key.
func (m *matrix) foreign(t *testing.T, method string, c sample) {
	t.Helper()
	got := m.send(t, method, c, otherKey)
	if !c.own && !c.global && got.Code < 400 {
		t.Errorf("another environment's key: got %d %s", got.Code, got.Body)
	}
	for _, ours := range []string{`"ours"`, `"theirs"`, "our-secret"} {
		if strings.Contains(got.Body.String(), ours) {
			t.Errorf("another environment's key sees %s: %s", ours, got.Body)
		}
	}
}

// underScoped sends a key that holds every scope but those that the row wants.
func (m *matrix) underScoped(t *testing.T, method string, c sample, wanted string) {
	t.Helper()
	if wanted == "" {
		return
	}
	var names []string
	for _, s := range everyScope {
		if !slices.Contains(strings.Split(wanted, "|"), string(s)) {
			names = append(names, string(s))
		}
	}
	if got := m.send(t, method, c, m.key(t, names...)); got.Code != http.StatusForbidden {
		t.Errorf("a key without %s: got %d %s", wanted, got.Code, got.Body)
	}
}
