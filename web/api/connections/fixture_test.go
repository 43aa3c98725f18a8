package connections_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/api/connections"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

const (
	base     = "/api/v1/connections"
	settings = "https://app.example.com/settings/connections" // which dev's end users may be sent back to
)

// site is what the tests of every API share, and what these ones do with it.
type site struct {
	*apitest.Site
	rows []kit.Route
}

func newSite(t testing.TB) *site {
	t.Helper()
	catalogue, err := os.ReadFile("testdata/providers.yaml")
	must(t, err)
	s := &site{}
	o := apitest.Options{
		Catalogue: catalogue, Provider: provider, Connect: true,
		Declare: func(dev, other *broker.DeclaredEnvironment) {
			dev.Environment.ReturnURLs, other.Environment.ReturnURLs = []string{settings}, []string{"https://other.example.com/"}
		},
		Mount: func(d *web.Deps) { s.rows = connections.Surface(d.Broker, d.Connect).Routes },
	}
	for _, name := range []string{"stripe", "hubspot", "salesforce", "quickbooks", "netsuite", "slack", "pandadoc"} {
		o.Integrations = append(o.Integrations, client(name, name))
	}
	o.Integrations = append(o.Integrations, client("stripe eu: @work~1", "stripe"), broker.IntegrationInput{Key: "unfinished", Provider: "slack"})
	o.Others = []broker.IntegrationInput{client("stripe", "stripe")}
	s.Site = apitest.New(t, o)
	return s
}

func client(key, provider string) broker.IntegrationInput {
	return broker.IntegrationInput{Key: key, Provider: provider, ClientID: "client-id", ClientSecret: broker.NewSecret("client-secret")}
}

// tokens are what a code is exchanged for.
var tokens = map[string]string{
	"stripe.test":     `{"access_token":"granted-token","refresh_token":"refresh-token","expires_in":3600}`,
	"hubspot.test":    `{"access_token":"granted-token","refresh_token":"revoked","expires_in":3600}`,
	"salesforce.test": `{"access_token":"granted-token","refresh_token":"down","expires_in":3600}`,
	"quickbooks.test": `{"access_token":"granted-token","expires_in":3600}`,
	"netsuite.test":   `{"access_token":"dead-token","refresh_token":"","expires_in":0}`,
	"slack.test":      `{"access_token":"granted-token"}`,
}

// accounts are whose the tokens are.
var accounts = map[string]string{"api.stripe.test": "acct_xxx", "api.hubspot.test": "123456"}

// provider answers for the token endpoints, and for the question whose a token is.
func provider(w http.ResponseWriter, r *http.Request) bool {
	account, known := accounts[r.URL.Host]
	code := r.PostForm.Get("grant_type") == "authorization_code"
	if known || code || strings.HasPrefix(r.URL.Host, "api.netsuite") {
		w.Header().Set("Content-Type", "application/json")
	}
	switch {
	case strings.HasPrefix(r.URL.Host, "api.") && r.Header.Get("Authorization") == "Bearer dead-token":
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"invalid_token","error_description":"the words of the provider"}`)
	case known:
		_, _ = io.WriteString(w, `{"id":"`+account+`"}`)
	case code:
		_, _ = io.WriteString(w, tokens[r.URL.Host])
	default:
		return false
	}
	return true
}

// call sends a request with dev's key and reads what comes back.
func (s *site) call(t testing.TB, method, path, body string) (int, reply) {
	t.Helper()
	return read(t, s.Send(t, method, base+path, body, "X-Api-Key", apitest.Key))
}

// reply is an answer, whatever it is to.
type reply struct {
	Success bool
	Data    data
	Error   struct{ Code, Message string }
	// of the answer itself
	header http.Header
	text   string
}

// data has the members of every answer.
type data struct {
	ID, ConnectionID, Name, Provider, Status, AuthURL, OAuthURL, ErrorMessage string

	IsNew, Healthy    bool
	ExternalAccountID *string
	Error             *string
}

func read(t testing.TB, w *httptest.ResponseRecorder) (int, reply) {
	t.Helper()
	out := reply{header: w.Header(), text: w.Body.String()}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && !strings.Contains(out.text, `"data":[`) {
		must(t, json.Unmarshal(w.Body.Bytes(), &out))
	}
	return w.Code, out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
