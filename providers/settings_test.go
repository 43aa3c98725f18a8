package providers_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers"
)

const withSettings = `
acme:
  display_name: Acme
  categories: [other]
  auth_mode: API_KEY
  docs: https://acme.example/docs
  integration_config:
    baseUrl: {type: string, title: Base URL, description: Where the API is, pattern: '^https://[a-z.]+$'}
    placement: {type: string, title: Placement, description: Where the key goes, enum: [header, query], default_value: header}
    note: {type: string, title: Note, description: Anything, optional: true}
  credentials:
    apiKey: {type: string, title: API key, description: The key, secret: true}
  proxy:
    base_url: https://acme.example
    headers: {x-api-key: "${apiKey}"}
`

// An integration's settings are those that the entry declares, in the form that it asks for.
func TestCheckSettings(t *testing.T) {
	c, err := providers.Load(providers.Options{Overlays: []providers.File{{Name: "test.yaml", Data: []byte(withSettings)}}})
	if err != nil {
		t.Fatal(err)
	}
	p, ok := c.Provider("acme")
	if !ok {
		t.Fatal("no entry")
	}
	checker, ok := p.(broker.SettingsChecker)
	if !ok {
		t.Fatal("it checks no settings")
	}
	got, err := checker.CheckSettings(map[string]string{"baseUrl": "https://a.example"})
	if err != nil || !maps.Equal(got, map[string]string{"baseUrl": "https://a.example", "placement": "header"}) {
		t.Fatalf("%v, %v", got, err)
	}
	for field, in := range map[string]map[string]string{
		"baseUrl":   {"placement": "query"},
		"placement": {"baseUrl": "https://a.example", "placement": "body"},
		"bogus":     {"baseUrl": "https://a.example", "bogus": "x"},
	} {
		if _, err := checker.CheckSettings(in); !errors.Is(err, broker.ErrVariableInvalid) || broker.AsError(err).Field != field {
			t.Errorf("%v: %v", in, err)
		}
	}
	if _, err := checker.CheckSettings(map[string]string{"baseUrl": "nonsense"}); !errors.Is(err, broker.ErrVariableInvalid) {
		t.Errorf("a URL that is none: %v", err)
	}
}
