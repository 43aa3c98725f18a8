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
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// sample is a request of a route that succeeds with a good credential. {environment} and {key} stand for an environment
// that may be deleted and a key of it, {token} for a connect session's token.
type sample struct {
	target, body string
	status       int
	// global is set where the answer is the same for every environment.
	global bool
	// inBody is set where the credential is in the body.
	inBody bool
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

	"POST /connect/telemetry": {
		target: "/connect/telemetry", status: 204, inBody: true,
		body: `{"token":"{token}","event":"open","timestamp":"2026-03-01T12:00:00.000Z"}`,
	},

	"POST /connection":                          {target: "/connection", body: `{"provider_config_key":"ours","connection_id":"new","api_key":"k"}`, status: 201},
	"POST /connection/{connectionId}/metadata":  {target: "/connection/theirs/metadata?provider_config_key=ours", body: `{"a":1}`, status: 201},
	"PATCH /connection/{connectionId}/metadata": {target: "/connection/theirs/metadata?provider_config_key=ours", body: `{"a":1}`, status: 200},
	"GET /config/{providerConfigKey}":           {target: "/config/ours?include_creds=true", status: 200},

	"POST /environments":                   {target: "/environments", body: `{"name":"new"}`, status: 200},
	"DELETE /environments/{environmentId}": {target: "/environments/{environment}", status: 204},
	"POST /environment/api-keys":           {target: "/environment/api-keys", body: `{"environment_id":"{environment}","display_name":"new"}`, status: 200},
	"DELETE /environment/api-keys":         {target: "/environment/api-keys", body: `{"environment_id":"{environment}","key_id":"{key}"}`, status: 200},
	"GET /environment-variables":           {target: "/environment-variables", status: 200, global: true},

	"GET /integrations/{uniqueKey}/functions":             {target: "/integrations/ours/functions", status: 200},
	"GET /integrations/{uniqueKey}/functions/{name}":      {target: "/integrations/ours/functions/x", status: 404},
	"GET /integrations/{uniqueKey}/functions/{name}/code": {target: "/integrations/ours/functions/x/code", status: 404},
	"DELETE /integrations/{uniqueKey}/functions/{name}":   {target: "/integrations/ours/functions/x", status: 404},
	"GET /scripts/config":                                 {target: "/scripts/config", status: 200, global: true},
	"GET /records":                                        {target: "/records", status: 400},
	"PATCH /records/prune":                                {target: "/records/prune", body: `{}`, status: 200, global: true},
	"POST /sync/trigger":                                  {target: "/sync/trigger", body: `{"connection_id":"theirs"}`, status: 200, global: true},
	"POST /sync/start":                                    {target: "/sync/start", body: `{"connection_id":"theirs"}`, status: 200, global: true},
	"POST /sync/pause":                                    {target: "/sync/pause", body: `{"connection_id":"theirs"}`, status: 200, global: true},
	"GET /sync/status":                                    {target: "/sync/status", status: 200, global: true},
	"PUT /sync/update-connection-frequency":               {target: "/sync/update-connection-frequency", body: `{}`, status: 400},
	"POST /sync/{name}/variant/{variant}":                 {target: "/sync/x/variant/y", body: `{}`, status: 400},
	"DELETE /sync/{name}/variant/{variant}":               {target: "/sync/x/variant/y", status: 404},
	"POST /action/trigger":                                {target: "/action/trigger", body: `{}`, status: 400},
	"GET /action/{id}":                                    {target: "/action/x", status: 404},
	"POST /cli/telemetry":                                 {target: "/cli/telemetry", body: `{}`, status: 204, global: true},
}

// inQuery are the endpoints whose session stands in the query.
var inQuery = map[string]sample{
	"POST /api-auth/api-key/{providerConfigKey}":     {target: "/api-auth/api-key/ours", body: `{"apiKey":"k"}`, status: 200},
	"POST /api-auth/basic/{providerConfigKey}":       {target: "/api-auth/basic/ledger-prod", body: `{"username":"u","password":""}`, status: 200},
	"POST /oauth2/auth/{providerConfigKey}":          {target: "/oauth2/auth/robots-prod", body: `{"client_id":"i","client_secret":"s"}`, status: 200},
	"POST /auth/unauthenticated/{providerConfigKey}": {target: "/auth/unauthenticated/open-prod", status: 200},
	// Their modes are not there yet.
	"POST /auth/tba/{providerConfigKey}":       {target: "/auth/tba/ours", body: `{}`, status: 400},
	"POST /auth/jwt/{providerConfigKey}":       {target: "/auth/jwt/ours", body: `{}`, status: 400},
	"POST /auth/two-step/{providerConfigKey}":  {target: "/auth/two-step/ours", body: `{}`, status: 400},
	"POST /auth/signature/{providerConfigKey}": {target: "/auth/signature/ours", body: `{}`, status: 400},
	"POST /auth/bill/{providerConfigKey}":      {target: "/auth/bill/ours", body: `{}`, status: 400},
	"POST /auth/aws-sigv4/{providerConfigKey}": {target: "/auth/aws-sigv4/ours", body: `{}`, status: 400},
}

// query sends the request with something in the place of the session's token, and a credential in the header.
func (m *matrix) query(t *testing.T, method string, c sample, query, credential string) *httptest.ResponseRecorder {
	t.Helper()
	c.target += "?" + query
	return m.send(t, method, c, credential)
}

// TestMatrixOfQueries does the same for sessions in the query.
func TestMatrixOfQueries(t *testing.T) {
	m := &matrix{site: newSite(t)}
	rows := 0
	for _, row := range nango.Surface(m.broker).Routes {
		if row.Auth.Name != "session in query" {
			continue
		}
		rows++
		name := row.Method + " " + row.Path
		c, ok := inQuery[name]
		if !ok {
			t.Errorf("there is no sample of %s", name)
			continue
		}
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
			m.restore(t)
			unknown := kit.ParamSession + "=nango_connect_session_" + strings.Repeat("0", 64)
			good := kit.ParamSession + "=" + m.token
			for what, try := range map[string]struct {
				query, header string
				status        int
			}{
				"no credential":            {"", "", 401},
				"a key instead":            {"", secretKey, 401},
				"a session in the header":  {"", m.token, 401},
				"an unknown session":       {unknown, "", 401},
				"a malformed session":      {kit.ParamSession + "=x", "", 401},
				"a key in its place":       {kit.ParamSession + "=" + secretKey, "", 401},
				"a key of ours there":      {kit.ParamSession + "=coat_dev_x", "", 400},
				"two sessions":             {good + "&" + good, "", 401},
				"a public key":             {"public_key=" + secretKey, "", 401},
				"a client in the query":    {good + "&credentials[oauth_client_id_override]=x", "", 400},
				"an id in the query":       {good + "&connection_id=x", "", 400},
				"an unknown parameter":     {good + "&nope=x", "", 400},
				"another session's choice": {kit.ParamSession + "=" + m.session(t, broker.SessionInput{Integrations: []string{"code-prod"}}), "", 400},
			} {
				if got := m.query(t, row.Method, c, try.query, try.header); got.Code != try.status {
					t.Errorf("%s: got %d %s, want %d", what, got.Code, got.Body, try.status)
				}
			}
			if got := m.query(t, row.Method, c, good, ""); got.Code != c.status {
				t.Errorf("with the right credential: got %d %s", got.Code, got.Body)
			}
		})
	}
	if rows != len(inQuery) {
		t.Errorf("%d rows, %d samples", rows, len(inQuery))
	}
}

const metadataBody = `{"connection_id":"theirs","provider_config_key":"ours","metadata":{"a":1}}`

// everyScope is what a key can hold, each by itself: those of environments or those of the account.
func everyScope(account bool) []broker.Scope {
	return slices.DeleteFunc(broker.KnownScopes(), func(s broker.Scope) bool {
		return strings.HasSuffix(string(s), ":*") || strings.HasPrefix(string(s), "account:") != account
	})
}

// TestMatrix sends every request with every credential that must not do, and none may succeed. Then it sends it with the
// right one, so that it is the credential alone that made the others fail.
func TestMatrix(t *testing.T) {
	m := &matrix{site: newSite(t)}
	m.revoked = m.revokedKey(t)
	for _, row := range nango.Surface(m.broker).Routes {
		name := row.Method + " " + row.Path
		if row.Auth.Name == "session in query" {
			continue // TestMatrixOfQueries
		}
		c, ok := samples[name]
		if !ok {
			t.Errorf("there is no sample of %s", name)
			continue
		}
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
			m.restore(t)
			kind, scopes, takesKeys := strings.Cut(row.Auth.Name, "key")
			scopes = strings.TrimSpace(scopes)
			if kind == "public" {
				return
			}
			if c.inBody {
				m.inBody(t, row.Method, c)
				return
			}
			takesSessions, takesAccounts := strings.HasPrefix(kind, "session"), strings.HasPrefix(scopes, "account:")
			m.refused(t, "no credential", row.Method, c, "")
			m.refused(t, "an unknown key", row.Method, c, "00000000-2222-4333-8444-555555555555")
			m.refused(t, "a revoked key", row.Method, c, m.revoked)
			good := secretKey
			switch {
			case takesAccounts:
				good = m.accountKey(t)
				m.refused(t, "an environment's key", row.Method, c, secretKey)
				m.underScoped(t, row.Method, c, scopes)
			case takesKeys:
				m.refused(t, "the account's key", row.Method, c, m.accountKey(t))
				m.foreign(t, row.Method, c)
				m.underScoped(t, row.Method, c, scopes)
			default:
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

// matrix is a site with something of ours in dev, and an environment that may be deleted.
type matrix struct {
	*site
	token, revoked     string
	environment, keyID string
}

// inBody sends what must not do where the credential is in the body, and then what must.
func (m *matrix) inBody(t *testing.T, method string, c sample) {
	t.Helper()
	good := m.token
	for _, bad := range []string{"", secretKey, good[:len(good)-1] + "g", good[:len(good)-4] + "0000"} {
		m.token = bad
		m.refused(t, "the credential "+bad, method, c, "")
		m.refused(t, "a good one in the header beside "+bad, method, c, good)
	}
	m.token = good
	if got := m.send(t, method, c, ""); got.Code != c.status {
		t.Errorf("with the right credential: got %d %s", got.Code, got.Body)
	}
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
	for _, name := range []string{"new", "old"} {
		if e, err := m.broker.EnvironmentNamed(name); err == nil {
			must(t, m.broker.DeleteEnvironment(t.Context(), system, e.ID))
		}
	}
	e, err := m.broker.CreateEnvironment(t.Context(), system, "old")
	must(t, err)
	_, k, err := m.broker.CreateAPIKey(t.Context(), system, e, broker.KeyInput{Name: "old", Scopes: broker.Scopes{broker.ScopeAll}})
	must(t, err)
	m.environment, m.keyID = string(e.ID), string(k.ID)
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
	fill := strings.NewReplacer("{environment}", m.environment, "{key}", m.keyID, "{token}", m.token)
	r := httptest.NewRequest(method, fill.Replace(c.target), strings.NewReader(fill.Replace(c.body)))
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
		// A refusal may name what was asked for.
		if (got.Code < 400 || ours == "our-secret") && strings.Contains(got.Body.String(), ours) {
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
	account := strings.HasPrefix(wanted, "account:")
	var names []string
	for _, s := range everyScope(account) {
		if !slices.Contains(strings.Split(wanted, "|"), string(s)) {
			names = append(names, string(s))
		}
	}
	key := m.key
	if account {
		key = m.accountKey
	}
	if got := m.send(t, method, c, key(t, names...)); got.Code != http.StatusForbidden {
		t.Errorf("a key without %s: got %d %s", wanted, got.Code, got.Body)
	}
}
