package nango_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/api/nango"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// samples has one for every row of the surface.
var samples = map[string]apitest.Sample{
	"POST /connect/sessions":           {Target: "/connect/sessions", Body: `{"tags":{},"allowed_integrations":["ours"]}`, Status: 201},
	"POST /connect/sessions/reconnect": {Target: "/connect/sessions/reconnect", Body: `{"connection_id":"theirs","integration_id":"ours"}`, Status: 201},
	"GET /connect/session":             {Target: "/connect/session", Status: 200},
	"DELETE /connect/session":          {Target: "/connect/session", Status: 204},

	"GET /connections": {Target: "/connections", Status: 200, Own: true},
	"POST /connections": {
		Target: "/connections", Status: 201,
		Body: `{"provider_config_key":"ours","connection_id":"new","credentials":{"type":"API_KEY","apiKey":"k"}}`,
	},
	"GET /connections/{connectionId}":    {Target: "/connections/theirs?provider_config_key=ours", Status: 200},
	"PATCH /connections/{connectionId}":  {Target: "/connections/theirs?provider_config_key=ours", Body: `{}`, Status: 200},
	"DELETE /connections/{connectionId}": {Target: "/connections/theirs?provider_config_key=ours", Status: 200},
	"POST /connections/metadata":         {Target: "/connections/metadata", Body: metadataBody, Status: 201},
	"PATCH /connections/metadata":        {Target: "/connections/metadata", Body: metadataBody, Status: 200},
	"GET /connection":                    {Target: "/connection", Status: 200, Own: true},
	"GET /connection/{connectionId}":     {Target: "/connection/theirs?provider_config_key=ours", Status: 200},
	"DELETE /connection/{connectionId}":  {Target: "/connection/theirs?provider_config_key=ours", Status: 200},
	"POST /connection/metadata":          {Target: "/connection/metadata", Body: metadataBody, Status: 201},
	"PATCH /connection/metadata":         {Target: "/connection/metadata", Body: metadataBody, Status: 200},

	"GET /integrations":                {Target: "/integrations", Status: 200, Own: true},
	"POST /integrations":               {Target: "/integrations", Body: `{"provider":"mail","unique_key":"another"}`, Status: 200, Own: true},
	"POST /integrations/quickstart":    {Target: "/integrations/quickstart", Body: `{"provider":"mail","unique_key":"x"}`, Status: 400},
	"GET /integrations/{uniqueKey}":    {Target: "/integrations/ours", Status: 200},
	"PATCH /integrations/{uniqueKey}":  {Target: "/integrations/ours", Body: `{}`, Status: 200},
	"DELETE /integrations/{uniqueKey}": {Target: "/integrations/ours", Status: 200},

	"POST /environment/webhook-signing-key/rotate": {Target: "/environment/webhook-signing-key/rotate", Status: 200},

	"GET /providers":                            {Target: "/providers", Status: 200, Global: true},
	"GET /providers/{provider}":                 {Target: "/providers/mail", Status: 200, Global: true},
	"GET /providers/{provider}/templates":       {Target: "/providers/mail/templates", Status: 200, Global: true},
	"GET /providers.json":                       {Target: "/providers.json", Status: 200, Global: true},
	"GET /images/template-logos/{provider}.svg": {Target: "/images/template-logos/mail.svg", Status: 200, Global: true},

	// Which names there are is nobody's to guess; package mcp reads one.
	"GET /oauth/client-metadata/{name}": {Target: "/oauth/client-metadata/nothing", Status: 404, Global: true},

	"POST /connect/telemetry": {
		Target: "/connect/telemetry", Status: 204,
		Body: `{"token":"{token}","event":"open","timestamp":"2026-03-01T12:00:00.000Z"}`,
	},

	"POST /connection":                          {Target: "/connection", Body: `{"provider_config_key":"ours","connection_id":"new","api_key":"k"}`, Status: 201},
	"POST /connection/{connectionId}/metadata":  {Target: "/connection/theirs/metadata?provider_config_key=ours", Body: `{"a":1}`, Status: 201},
	"PATCH /connection/{connectionId}/metadata": {Target: "/connection/theirs/metadata?provider_config_key=ours", Body: `{"a":1}`, Status: 200},
	"GET /config/{providerConfigKey}":           {Target: "/config/ours?include_creds=true", Status: 200},

	"POST /environments":                   {Target: "/environments", Body: `{"name":"new"}`, Status: 200},
	"DELETE /environments/{environmentId}": {Target: "/environments/{environment}", Status: 204},
	"POST /environment/api-keys":           {Target: "/environment/api-keys", Body: `{"environment_id":"{environment}","display_name":"new"}`, Status: 200},
	"DELETE /environment/api-keys":         {Target: "/environment/api-keys", Body: `{"environment_id":"{environment}","key_id":"{key}"}`, Status: 200},
	"GET /environment-variables":           {Target: "/environment-variables", Status: 200, Global: true},

	"GET /integrations/{uniqueKey}/functions":             {Target: "/integrations/ours/functions", Status: 200},
	"GET /integrations/{uniqueKey}/functions/{name}":      {Target: "/integrations/ours/functions/x", Status: 404},
	"GET /integrations/{uniqueKey}/functions/{name}/code": {Target: "/integrations/ours/functions/x/code", Status: 404},
	"DELETE /integrations/{uniqueKey}/functions/{name}":   {Target: "/integrations/ours/functions/x", Status: 404},
	"GET /scripts/config":                                 {Target: "/scripts/config", Status: 200, Global: true},
	"GET /records":                                        {Target: "/records", Status: 400},
	"PATCH /records/prune":                                {Target: "/records/prune", Body: `{}`, Status: 200, Global: true},
	"POST /sync/trigger":                                  {Target: "/sync/trigger", Body: `{"connection_id":"theirs"}`, Status: 200, Global: true},
	"POST /sync/start":                                    {Target: "/sync/start", Body: `{"connection_id":"theirs"}`, Status: 200, Global: true},
	"POST /sync/pause":                                    {Target: "/sync/pause", Body: `{"connection_id":"theirs"}`, Status: 200, Global: true},
	"GET /sync/status":                                    {Target: "/sync/status", Status: 200, Global: true},
	"PUT /sync/update-connection-frequency":               {Target: "/sync/update-connection-frequency", Body: `{}`, Status: 400},
	"POST /sync/{name}/variant/{variant}":                 {Target: "/sync/x/variant/y", Body: `{}`, Status: 400},
	"DELETE /sync/{name}/variant/{variant}":               {Target: "/sync/x/variant/y", Status: 404},
	"POST /action/trigger":                                {Target: "/action/trigger", Body: `{}`, Status: 400},
	"GET /action/{id}":                                    {Target: "/action/x", Status: 404},
	"POST /cli/telemetry":                                 {Target: "/cli/telemetry", Body: `{}`, Status: 204, Global: true},
}

// inQuery are the endpoints whose session stands in the query.
var inQuery = map[string]apitest.Sample{
	"POST /api-auth/api-key/{providerConfigKey}":     {Target: "/api-auth/api-key/ours", Body: `{"apiKey":"k"}`, Status: 200},
	"POST /api-auth/basic/{providerConfigKey}":       {Target: "/api-auth/basic/ledger-prod", Body: `{"username":"u","password":""}`, Status: 200},
	"POST /oauth2/auth/{providerConfigKey}":          {Target: "/oauth2/auth/robots-prod", Body: `{"client_id":"i","client_secret":"s"}`, Status: 200},
	"POST /auth/unauthenticated/{providerConfigKey}": {Target: "/auth/unauthenticated/open-prod", Status: 200},
	"POST /auth/jwt/{providerConfigKey}":             {Target: "/auth/jwt/press-prod", Body: `{"type":"JWT","privateKey":"` + pressKey + `"}`, Status: 200},
	"POST /auth/two-step/{providerConfigKey}":        {Target: "/auth/two-step/tower-prod", Body: `{"type":"TWO_STEP","username":"ann","password":"p","assertionOption":{"privateKey":"` + towerKey + `"}}`, Status: 200},
	"POST /auth/signature/{providerConfigKey}":       {Target: "/auth/signature/letters-prod", Body: `{"type":"SIGNATURE","username":"ann","password":"p"}`, Status: 200},
	"POST /auth/bill/{providerConfigKey}":            {Target: "/auth/bill/invoices-prod", Body: `{"username":"ann","password":"p","organization_id":"o","dev_key":"d"}`, Status: 200},
	"POST /auth/tba/{providerConfigKey}": {
		Target: "/auth/tba/books-prod?params[accountId]=1", Body: `{"token_id":"t","token_secret":"s","oauth_client_id_override":"i","oauth_client_secret_override":"o"}`, Status: 200,
	},
	"POST /auth/aws-sigv4/{providerConfigKey}": {
		Target: "/auth/aws-sigv4/cloud-prod", Body: `{"role_arn":"arn:aws:iam::123456789012:role/reader","region":"eu-central-1"}`, Status: 200,
	},
}

// query sends the request with something in the place of the session's token, and a credential in the header.
func (m *matrix) query(t *testing.T, method string, c apitest.Sample, query, credential string) *httptest.ResponseRecorder {
	t.Helper()
	join := "?"
	if strings.Contains(c.Target, join) {
		join = "&"
	}
	c.Target += join + query
	return m.send(t, method, c, credential)
}

// TestMatrixOfQueries does the same for sessions in the query.
func TestMatrixOfQueries(t *testing.T) {
	m := newMatrix(t)
	m.Integrate(t, m.Env, broker.IntegrationInput{Key: "books-prod", Provider: "books"})
	m.Integrate(t, m.Env, broker.IntegrationInput{Key: "cloud-prod", Provider: "cloud", Settings: map[string]string{
		"service": "s3", "awsAccessKeyId": "AKIDOURS0000", "awsSecretAccessKey": "our-secret",
	}})
	rows := 0
	for _, row := range m.Rows {
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
			m.Fresh(t)
			unknown := kit.ParamSession + "=nango_connect_session_" + strings.Repeat("0", 64)
			good := kit.ParamSession + "=" + m.Token
			for what, try := range map[string]struct {
				query, header string
				status        int
			}{
				"no credential":            {"", "", 401},
				"a key instead":            {"", secretKey, 401},
				"a session in the header":  {"", m.Token, 401},
				"an unknown session":       {unknown, "", 401},
				"a malformed session":      {kit.ParamSession + "=x", "", 401},
				"a key in its place":       {kit.ParamSession + "=" + secretKey, "", 401},
				"a key of ours there":      {kit.ParamSession + "=coat_dev_x", "", 400},
				"two sessions":             {good + "&" + good, "", 401},
				"a public key":             {"public_key=" + secretKey, "", 401},
				"a client in the query":    {good + "&credentials[oauth_client_id_override]=x", "", 400},
				"an id in the query":       {good + "&connection_id=x", "", 400},
				"an unknown parameter":     {good + "&nope=x", "", 400},
				"another session's choice": {kit.ParamSession + "=" + m.Session(t, broker.SessionInput{Integrations: []string{"code-prod"}}), "", 400},
			} {
				if got := m.query(t, row.Method, c, try.query, try.header); got.Code != try.status {
					t.Errorf("%s: got %d %s, want %d", what, got.Code, got.Body, try.status)
				}
			}
			if got := m.query(t, row.Method, c, good, ""); got.Code != c.Status {
				t.Errorf("with the right credential: got %d %s", got.Code, got.Body)
			}
		})
	}
	if rows != len(inQuery) {
		t.Errorf("%d rows, %d samples", rows, len(inQuery))
	}
}

const metadataBody = `{"connection_id":"theirs","provider_config_key":"ours","metadata":{"a":1}}`

// matrix is a site with something of ours in dev, and an environment that may be deleted.
type matrix struct {
	*site
	*apitest.Matrix
}

func newMatrix(t *testing.T) *matrix {
	t.Helper()
	m := &matrix{site: newSite(t)}
	for _, name := range []string{"press", "tower", "letters", "invoices"} {
		m.Integrate(t, m.Env, broker.IntegrationInput{Key: name + "-prod", Provider: name})
	}
	m.Matrix = &apitest.Matrix{
		Site: m.site.Site, Rows: nango.Surface(m.Broker).Routes, Samples: samples, Restore: m.restore,
		Apart: func(row kit.Route) bool { return strings.HasPrefix(row.Auth.Name, "session in ") },
		Ours:  []string{`"ours"`, `"theirs"`}, Secrets: []string{"our-secret"},
		Foreign: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict},
	}
	return m
}

func TestMatrix(t *testing.T) { newMatrix(t).Run(t) }

// TestMatrixOfBodies does the same where the credential is in the body.
func TestMatrixOfBodies(t *testing.T) {
	m := newMatrix(t)
	rows := 0
	for _, row := range m.Rows {
		if row.Auth.Name != "session in body" {
			continue
		}
		rows++
		name := row.Method + " " + row.Path
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
			m.Fresh(t)
			c, good := samples[name], m.Token
			for _, bad := range []string{"", secretKey, good[:len(good)-1] + "g", good[:len(good)-4] + "0000"} {
				m.Token = bad
				for what, credential := range map[string]string{"nothing in the header": "", "a good one in the header": good} {
					if got := m.send(t, row.Method, c, credential); got.Code < 400 || got.Code >= 500 {
						t.Errorf("the credential %q, and %s: got %d %s", bad, what, got.Code, got.Body)
					}
				}
			}
			m.Token = good
			if got := m.send(t, row.Method, c, ""); got.Code != c.Status {
				t.Errorf("with the right credential: got %d %s", got.Code, got.Body)
			}
		})
	}
	if rows != 1 {
		t.Errorf("%d rows take a credential in the body", rows)
	}
}

// restore brings back what an earlier request deleted.
func (m *matrix) restore(t *testing.T) map[string]string {
	t.Helper()
	system := broker.System(m.Env.ID)
	if _, _, err := m.Broker.Integration(t.Context(), system, "ours"); errors.Is(err, broker.ErrNotFound) {
		m.Integrate(t, m.Env, broker.IntegrationInput{Key: "ours", Provider: "mail", ClientSecret: broker.NewSecret("our-secret")})
	}
	_, _, err := m.Broker.Import(t.Context(), system, broker.ImportInput{
		Integration: "ours", Key: "theirs", Material: &broker.Material{Type: "API_KEY", Access: broker.NewSecret("our-secret")},
	})
	must(t, err)
	for _, name := range []string{"new", "old"} {
		if e, err := m.Broker.EnvironmentNamed(name); err == nil {
			must(t, m.Broker.DeleteEnvironment(t.Context(), system, e.ID))
		}
	}
	e, err := m.Broker.CreateEnvironment(t.Context(), system, "old")
	must(t, err)
	_, k, err := m.Broker.CreateAPIKey(t.Context(), system, e, broker.KeyInput{Name: "old", Scopes: broker.Scopes{broker.ScopeAll}})
	must(t, err)
	return map[string]string{"{environment}": string(e.ID), "{key}": string(k.ID)}
}

// send sends a sample with a credential in the header, if there is one.
func (m *matrix) send(t *testing.T, method string, c apitest.Sample, credential string) *httptest.ResponseRecorder {
	t.Helper()
	if credential == "" {
		return m.Matrix.Send(t, method, c, nil, "")
	}
	return m.Matrix.Send(t, method, c, apitest.Bearer, credential)
}
