package connect_test

import (
	"net/http"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// Whoever unticks something at the provider is told on the page that says that it worked, in a few words.
func TestWhatWasNotGrantedIsSaid(t *testing.T) {
	for name, tt := range map[string]struct {
		asked    string
		granted  []string
		language string
		want     string
	}{
		"one":     {"read,write", []string{"read"}, "en", "Not granted: write"},
		"German":  {"read,write", []string{"read"}, "de", "Nicht erteilt: write"},
		"Spanish": {"read,write", []string{"read"}, "es", "No concedido: write"},
		"French":  {"read,write", []string{"read"}, "fr", "Non accordé : write"},
		"many":    {"a,b,c,d,e,f,g", []string{}, "en", "Not granted: a, b, c, d, e, ..."},
		"nothing": {"read", []string{"read"}, "en", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := githubSite(t, options{})
			p.granted = tt.granted
			_, token := s.session(t, broker.SessionInput{Defaults: map[string]broker.Defaults{"github": {Scopes: tt.asked}}})
			v := s.visitor(t)
			state := v.begin("github", token)
			done := v.do(http.MethodGet, callback(state, "code", "c-1"), nil, http.Header{"Accept-Language": {tt.language}})
			answered(t, done, http.StatusOK, "")
			if tt.want == "" {
				lacks(t, done, "Not granted")
				return
			}
			contains(t, done, tt.want)
		})
	}
}
