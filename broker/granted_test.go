package broker_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

func TestMissingScopesAreThoseThatNothingGrantedCovers(t *testing.T) {
	for _, tt := range []struct{ asked, granted, want string }{
		{"read write", "read", "write"},
		{"read write", "read write", ""},
		{"read write", "", "read write"},
		{"write write", "read", "write"},
		{"Mail.Read", "mail.read", ""},
		{"Mail.Read Files.Read", "https://graph.microsoft.com/Mail.Read", "Files.Read"},
		{"https://graph.microsoft.com/Mail.Read", "Mail.Read", ""},
		{"openid offline_access email", "https://www.googleapis.com/auth/userinfo.email", ""},
		{"user:email repo", "user", "repo"},
		{"user", "user:email", "user"},
		{"https://api.example.com/", "https://api.example.com", ""},
		{"", "read", ""},
	} {
		c := &broker.Connection{AskedScopes: strings.Fields(tt.asked), Scopes: append([]string{}, strings.Fields(tt.granted)...)}
		if got := c.MissingScopes(); !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("asked %q, granted %q: missing %q", tt.asked, tt.granted, got)
		}
	}
	unknown := &broker.Connection{AskedScopes: []string{"read"}}
	if got := unknown.MissingScopes(); got != nil {
		t.Errorf("where nothing is known, %q is missing", got)
	}
}

// What was granted is what the answer says, and what was asked for where it does not say; a renewal changes it only if its
// answer says so.
func TestGrantedScopesAreTheProvidersWord(t *testing.T) {
	for _, tt := range []struct {
		name                    string
		answer, renewal         []string
		granted, missing, after []string
		missingAfterTheRenewal  []string
	}{
		{"less than asked", []string{"read"}, nil, []string{"read"}, []string{"write"}, []string{"read"}, []string{"write"}},
		{"no word", nil, nil, []string{"read", "write"}, nil, []string{"read", "write"}, nil},
		{"less later", nil, []string{"write"}, []string{"read", "write"}, nil, []string{"write"}, []string{"read"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.provider.set(func(p *fakeProvider) { p.scopes, p.facts.KeepsRefresh = tt.answer, true })
			who, _ := r.session(broker.SessionInput{Defaults: map[string]broker.Defaults{"one": {Scopes: "read,write"}}})
			_, cb := r.started(who)
			o, err := r.broker.FinishFlow(t.Context(), cb)
			if err != nil {
				t.Fatal(err)
			}
			ref := broker.ConnectionRef{Integration: "one", Key: o.Key}
			c := r.reveal(ref).Connection
			if !slices.Equal(c.AskedScopes, []string{"read", "write"}) || !slices.Equal(c.Scopes, tt.granted) {
				t.Errorf("asked %q, granted %q", c.AskedScopes, c.Scopes)
			}
			if !slices.Equal(o.Missing, tt.missing) || !slices.Equal(c.MissingScopes(), tt.missing) {
				t.Errorf("missing: the outcome says %q, the connection %q", o.Missing, c.MissingScopes())
			}
			r.provider.set(func(p *fakeProvider) { p.scopes = tt.renewal })
			if _, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true}); err != nil {
				t.Fatal(err)
			}
			c, err = r.broker.Connection(t.Context(), r.who, ref)
			if err != nil || !slices.Equal(c.Scopes, tt.after) || !slices.Equal(c.MissingScopes(), tt.missingAfterTheRenewal) {
				t.Errorf("after a renewal: granted %q, missing %q, %v", c.Scopes, c.MissingScopes(), err)
			}
		})
	}
}

// Nobody was asked for what was imported, so nothing of it is missing.
func TestAnImportLacksNoScopes(t *testing.T) {
	r := newRig(t)
	c := r.importToken("c", broker.Material{Access: broker.NewSecret("token"), Scopes: []string{"other"}})
	if len(c.AskedScopes) > 0 || !slices.Equal(c.Scopes, []string{"other"}) || c.MissingScopes() != nil {
		t.Errorf("asked %q, granted %q, missing %q", c.AskedScopes, c.Scopes, c.MissingScopes())
	}
}
