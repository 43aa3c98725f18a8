package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// A provider of OAuth 1.0, which checks every signature, and the broker as it is shipped: connect, read, call the API,
// delete, and none of the secrets in the log.
func TestAnOAuth1ConnectionFromEndToEnd(t *testing.T) {
	provider := providertest.NewOAuth1(t, providertest.OAuth1Knobs{})
	p := emptyProcess(t)
	p.configure(string(provider.Entry("acme", "authorization_params: {expiration: never}")), providertest.ClientID, providertest.ClientSecret, "[read, write]")
	p.start()
	ctx := t.Context()
	id, err := p.connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	a, err := p.do(ctx, http.MethodGet, "/connections/"+id+"?provider_config_key=acme&force_refresh=true", "")
	if err != nil || a.status != http.StatusOK {
		t.Fatal(a, err)
	}
	var c struct {
		Credentials struct {
			Type   string            `json:"type"`
			Token  string            `json:"oauth_token"`
			Secret string            `json:"oauth_token_secret"`
			Raw    map[string]string `json:"raw"`
		} `json:"credentials"`
	}
	if err := json.Unmarshal([]byte(a.body), &c); err != nil {
		t.Fatal(err)
	}
	if c.Credentials.Type != "OAUTH1" || !provider.Good(c.Credentials.Token) || c.Credentials.Raw["oauth_token_secret"] != c.Credentials.Secret {
		t.Fatalf("read %s", a.body)
	}

	proxied := []string{"Provider-Config-Key", "acme", "Connection-Id", id}
	for _, call := range []struct{ method, path, kind, body string }{
		{http.MethodGet, "/a%2Fb/c?x=1&x=0&y=%20+%C3%A9&z", "", ""},
		{http.MethodPost, "/form?b=2", "application/x-www-form-urlencoded", "status=hello+world%21&b=1&empty="},
		{http.MethodPost, "/json", "application/json", `{"a":"b=c&d"}`},
	} {
		a, err := p.do(ctx, call.method, "/proxy"+call.path, call.body, append(proxied, "Content-Type", call.kind)...)
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("%s %s: %v %v", call.method, call.path, a, err)
		}
		var echo providertest.Echo
		if err := json.Unmarshal([]byte(a.body), &echo); err != nil || echo.Body != call.body || "/api"+call.path != strings.TrimSuffix(echo.Path+"?"+echo.Query, "?") {
			t.Errorf("%s %s came as %+v, %v", call.method, call.path, echo, err)
		}
	}

	if a, err = p.do(ctx, http.MethodDelete, "/connections/"+id+"?provider_config_key=acme", ""); err != nil || a.status != http.StatusOK {
		t.Fatal(a, err)
	}
	waitUntil(t, func() bool { return !provider.Good(c.Credentials.Token) })
	want := providertest.OAuth1Counts{Temporary: 1, Exchanges: 1, API: 3, Identities: 1, Revocations: 1}
	if got := provider.Counts(); got != want {
		t.Errorf("the provider was asked %+v, want %+v", got, want)
	}
	for _, secret := range []string{c.Credentials.Token, c.Credentials.Secret, providertest.ClientSecret, "verifier-", "oauth_"} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log holds %s:\n%s", secret, p.log.String())
		}
	}
}
