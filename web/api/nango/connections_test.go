package nango

import (
	"encoding/json"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// A connection says which of its scopes were not granted, and nothing where that is not known.
func TestAConnectionTellsItsScopes(t *testing.T) {
	for name, tt := range map[string]struct {
		asked, granted []string
		want           string
	}{
		"less":     {[]string{"read", "write"}, []string{"read"}, `{"asked":["read","write"],"granted":["read"],"missing":["write"]}`},
		"all":      {[]string{"read"}, []string{"read"}, `{"asked":["read"],"granted":["read"],"missing":[]}`},
		"imported": {nil, []string{"read"}, `{"asked":[],"granted":["read"],"missing":[]}`},
		"none":     {[]string{"read"}, []string{}, `{"asked":["read"],"granted":[],"missing":["read"]}`},
		"unknown":  {[]string{"read"}, nil, "null"},
		"without":  {nil, []string{}, "null"},
	} {
		got, err := json.Marshal(scopesOf(&broker.Connection{AskedScopes: tt.asked, Scopes: tt.granted}))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}
