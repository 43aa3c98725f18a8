package popup_test

import (
	"os"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

func newSite(t *testing.T) *apitest.Site {
	t.Helper()
	return newSiteWith(t, apitest.Options{})
}

// newSiteWith makes a site with the Connect UI, and the providers and integrations of every test.
func newSiteWith(t *testing.T, o apitest.Options) *apitest.Site {
	t.Helper()
	catalogue, err := os.ReadFile("testdata/providers.yaml")
	must(t, err)
	o.Catalogue, o.Connect = catalogue, true
	o.Integrations, o.Others = integrations(), integrations()[:1]
	return apitest.New(t, o)
}

// integrations are those of every test. custom_mcp and notion are not set up, and email has no client yet.
func integrations() []broker.IntegrationInput {
	secret := broker.NewSecret("client-secret-1")
	return []broker.IntegrationInput{
		{Key: "slack", Provider: "slack", ClientID: "client-1", ClientSecret: secret},
		{Key: "google-drive", Provider: "google-drive", ClientID: "client-1", ClientSecret: secret},
		{Key: "twilio", Provider: "twilio"},
		{Key: "calcom", Provider: "calcom"},
		{Key: "email", Provider: "slack"},
		{Key: "crm-prod", Provider: "calcom"},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
