package nango_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

// The keys that exist in every test.
const (
	secretKey = apitest.Key
	otherKey  = apitest.OtherKey
)

// What people sign in with. The first is the key of RFC 8032 section 7.1, test 2.
const (
	towerKey = "MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7"
	pressKey = "k1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// site is what the tests of every API share, and what these ones do with it.
type site struct{ *apitest.Site }

func newSite(t testing.TB) *site {
	t.Helper()
	return newSiteWith(t, apitest.Options{})
}

// newSiteWith makes a site with the providers and integrations of every test.
func newSiteWith(t testing.TB, o apitest.Options) *site {
	t.Helper()
	var err error
	o.Catalogue, err = os.ReadFile("testdata/providers.yaml")
	must(t, err)
	o.Integrations, o.Others = integrations(), integrations()[:1]
	if o.Provider == nil {
		o.Provider = func(w http.ResponseWriter, r *http.Request) bool { return cloud(w, r) || letIn(w, r) }
	}
	o.Declare = func(_, other *broker.DeclaredEnvironment) {
		other.Webhook.Key = broker.NewSecret("a-signing-key-that-is-configured")
	}
	return &site{apitest.New(t, o)}
}

// letIn answers the sign-ins of tower and invoices, whose answers have no common form. A password that is wrong is refused.
func letIn(w http.ResponseWriter, r *http.Request) bool {
	answers := map[string]string{
		"tower.test":            `{"data":{"token":"let-in","ttl":"1h","again":"once-more"},"region":"eu","refresh_token":"also"}`,
		"gateway.invoices.test": `{"sessionId":"session-1","organizationId":"o-1","userId":"u-1","apiEndPoint":"https://x.test"}`,
	}
	answer, ours := answers[r.URL.Host]
	if !ours {
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	body, _ := io.ReadAll(r.Body)
	switch {
	case bytes.Contains(body, []byte(`"password":"wrong"`)):
		w.WriteHeader(http.StatusUnauthorized)
	case bytes.Contains(body, []byte(`"password":"mute"`)):
		_, _ = io.WriteString(w, `{}`)
	default:
		_, _ = io.WriteString(w, answer)
	}
	return true
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// integrations are those of every test, one of each kind of credential.
func integrations() []broker.IntegrationInput {
	return []broker.IntegrationInput{
		{
			Key: "code-prod", Provider: "code", ClientID: "client-1", ClientSecret: broker.NewSecret("client-secret-1"),
			Scopes: []string{"read", "write"}, WebhookSecret: broker.NewSecret("webhook-secret-1"), ForwardWebhooks: true,
		},
		{Key: "mail-prod", Provider: "mail", DisplayName: "Team Mail"},
		{Key: "ledger-prod", Provider: "ledger"},
		{Key: "robots-prod", Provider: "robots"},
		{Key: "open-prod", Provider: "open"},
		{Key: "hosted-prod", Provider: "hosted"},
	}
}
