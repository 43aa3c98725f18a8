package nango_test

import (
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
	o.Declare = func(_, other *broker.DeclaredEnvironment) {
		other.Webhook.Key = broker.NewSecret("a-signing-key-that-is-configured")
	}
	return &site{apitest.New(t, o)}
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
