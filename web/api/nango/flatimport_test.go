package nango

import (
	"errors"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// The older import in modes of which there may be no integration: what each lacks has a name of its own.
func TestFlatImportsInOtherModes(t *testing.T) {
	for name, c := range map[string]struct {
		mode, body string
		status     int
		code       string
	}{
		"no token of OAuth 1":    {typeOAuth1, `{"oauth_token_secret":"s"}`, 500, "unhandled_missing_oauth_token"},
		"no secret of OAuth 1":   {typeOAuth1, `{"oauth_token":"t"}`, 500, "unhandled_missing_oauth_token_secret"},
		"no app":                 {typeApp, `{"installation_id":"2"}`, 400, "missing_app_id"},
		"no installation":        {typeApp, `{"app_id":"1"}`, 400, "missing_installation_id"},
		"no account":             {typeTBA, `{"token_id":"t","token_secret":"s"}`, 400, "missing_account_id"},
		"an empty account":       {typeTBA, `{"token_id":"t","token_secret":"s","connection_config":{"accountId":""}}`, 400, "missing_account_id"},
		"a mode without imports": {"TWO_STEP", `{"token":"t"}`, 500, "unhandled_unknown_oauth_type"},
		"a mode of MCP":          {"MCP_OAUTH2", `{"access_token":"t"}`, 500, "unhandled_unknown_oauth_type"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newObject(&check{}, jsontext.Value(c.body))
			in := broker.ImportInput{Config: o.flatConfig()}
			_, err := o.flatCredentials(c.mode, time.Now(), &in)
			var refused *refusal
			if !errors.As(err, &refused) || refused.status != c.status || refused.code != c.code || in.Material != nil {
				t.Errorf("got %v, %+v", err, refused)
			}
		})
	}
}

// The app's ids go where renewals look for them.
func TestFlatImportKeepsTheInstallation(t *testing.T) {
	o := newObject(&check{}, jsontext.Value(`{"app_id":"1","installation_id":2,"connection_config":{"a":1}}`))
	in := broker.ImportInput{Config: o.flatConfig()}
	if _, err := o.flatCredentials(typeApp, time.Now(), &in); err != nil {
		t.Fatal(err)
	}
	if in.Config["app_id"] != "1" || in.Config["installation_id"] != "2" || in.Config["a"] == nil {
		t.Errorf("got %v", in.Config)
	}
}

// A life is a number of seconds that some token could have.
func TestFlatLives(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for life, want := range map[string]time.Time{
		`3600`: now.Add(time.Hour), `"3600"`: now.Add(time.Hour), `0.5`: now.Add(500 * time.Millisecond), `-1`: {}, `"x"`: {}, `[]`: {}, `{}`: {},
		`1e300`: {}, `"NaN"`: {}, `"Inf"`: {}, `true`: {},
	} {
		o := newObject(&check{}, jsontext.Value(`{"access_token":"t","expires_in":`+life+`}`))
		var in broker.ImportInput
		_, err := o.flatCredentials(typeOAuth2, now, &in)
		switch {
		case want.IsZero() && err == nil:
			t.Errorf("%s is taken for a life", life)
		case !want.IsZero() && (err != nil || !in.Material.ExpiresAt.Equal(want)):
			t.Errorf("%s: %v, %+v", life, err, in.Material)
		}
	}
}
