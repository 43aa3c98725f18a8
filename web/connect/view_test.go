package connect

import (
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

func TestInitials(t *testing.T) {
	for name, want := range map[string]string{
		"GitHub": "GH", "Google Drive": "GD", "slack": "S", "Zoho CRM (EU)": "ZC", "1Password": "1P", "éclair": "É", "": "?", "— …": "?",
		"HUBSPOT": "H", "日本語": "日",
	} {
		if got := initials(name); got != want {
			t.Errorf("initials(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestWebAddress(t *testing.T) {
	tests := []struct {
		in    string
		local bool
		ok    bool
	}{
		{"https://docs.example/a?b=c#d", false, true},
		{"http://docs.example/", true, false},
		{"http://localhost:8080/done", true, true},
		{"http://localhost:8080/done", false, false},
		{"http://[::1]:8080/done", true, true},
		{"javascript:alert(1)", true, false},
		{"JavaScript:alert(1)", true, false},
		{"data:text/html,x", true, false},
		{"//evil.example/", true, false},
		{"/relative", true, false},
		{"https://user@evil.example/", true, false},
		{"https:///path", true, false},
		{"", true, false},
		{"https://a\nb.example", true, false},
	}
	for _, tt := range tests {
		want := ""
		if tt.ok {
			want = tt.in
		}
		if got := webAddress(tt.in, tt.local); got != want {
			t.Errorf("webAddress(%q, %t) = %q", tt.in, tt.local, got)
		}
	}
}

func TestPlainOrigin(t *testing.T) {
	for in, ok := range map[string]bool{
		"https://a.example": true, "http://127.0.0.1:9000": true, "https://a.example/": false, "https://a.example; script-src *": false,
		"https://a.example x": false, "https://*.example": false, "javascript:alert(1)": false, "https://": false,
	} {
		if got := plainOrigin(in); got != "" && !ok || got != in && ok {
			t.Errorf("plainOrigin(%q) = %q", in, got)
		}
	}
}

func TestAccount(t *testing.T) {
	tests := []struct {
		user       *broker.EndUser
		name, also string
	}{
		{nil, english().WhoUnknown, ""},
		{&broker.EndUser{}, english().WhoUnknown, ""},
		{&broker.EndUser{ID: "u1"}, "u1", ""},
		{&broker.EndUser{ID: "u1", Email: "a@b.example"}, "a@b.example", ""},
		{&broker.EndUser{ID: "u1", DisplayName: " ", Email: "a@b.example", OrganizationName: "Acme"}, "a@b.example", "Acme"},
		{&broker.EndUser{DisplayName: "Ann", Email: "a@b.example", OrganizationName: "Acme"}, "Ann", "a@b.example · Acme"},
	}
	for _, tt := range tests {
		if name, also := account(english(), tt.user); name != tt.name || also != tt.also {
			t.Errorf("account(%+v) = %q, %q", tt.user, name, also)
		}
	}
}

// TestEveryFailureHasWords checks that no page of a failure lacks a part, whatever the code.
func TestEveryFailureHasWords(t *testing.T) {
	for _, e := range broker.DeclaredErrors() {
		if f := english().failure(e.Code); f.Title == "" || f.Text == "" || f.Next == "" {
			t.Errorf("%s: %+v", e.Code, f)
		}
	}
	known := make(map[string]bool)
	for _, e := range broker.DeclaredErrors() {
		known[e.Code] = true
	}
	for code := range english().Failures {
		if code != "" && !known[code] {
			t.Errorf("words for %q, which is no code", code)
		}
	}
}

func TestNamesKeepTheirLetters(t *testing.T) {
	words := english()
	if got := words.sayer("myApp", "eBay")(english().DoneTitle); got != "eBay is connected" {
		t.Errorf("got %q", got)
	}
	if got := words.sayer("", "")(english().DoneTitle); got != "The provider is connected" {
		t.Errorf("got %q", got)
	}
}
