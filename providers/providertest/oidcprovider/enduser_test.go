package oidcprovider

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/oauth2"
)

func TestDeny(t *testing.T) {
	t.Parallel()
	a := start(t)
	callback, err := a.Deny(a.ctx, a.AuthCodeURL("a state", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()), consent))
	if err != nil {
		t.Fatal(err)
	}
	answer := callback.Query()
	if answer.Get("error") != "access_denied" || answer.Get("state") != "a state" || answer.Has("code") {
		t.Errorf("error %q, state %q, code: %t", answer.Get("error"), answer.Get("state"), answer.Has("code"))
	}
}

func TestApproveAs(t *testing.T) {
	t.Parallel()
	a := start(t)
	a.Scopes = []string{"openid", "email"}
	verifier := oauth2.GenerateVerifier()
	callback, err := a.ApproveAs(a.ctx, a.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)), "grace")
	if err != nil {
		t.Fatal(err)
	}
	token, err := a.Exchange(a.ctx, callback.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if token.RefreshToken != "" {
		t.Error("a refresh token without the scope offline_access")
	}
	_, body := a.userinfo(token.AccessToken)
	if body != `{"sub":"grace","email":"grace@example.com","email_verified":true}` {
		t.Errorf("userinfo answers %s", body)
	}
}

// Where no redirect to the client comes, the error says why, and nothing of the request's query.
func TestApproveFails(t *testing.T) {
	t.Parallel()
	a := start(t)
	away := httptest.NewServer(http.RedirectHandler("https://elsewhere.example/?state=sealed", http.StatusFound))
	t.Cleanup(away.Close)
	unknown, unregistered := a.Config, a.Config
	unknown.ClientID = "somebody"
	unregistered.RedirectURL = "http://127.0.0.1:3003/oauth/callback"
	for name, c := range map[string]struct{ target, want string }{
		"client":       {unknown.AuthCodeURL("sealed"), "invalid_client"},
		"redirect URI": {unregistered.AuthCodeURL("sealed"), "invalid_redirect_uri"},
		"page":         {a.Issuer() + "/jwks?state=sealed", "without a form"},
		"place":        {a.Issuer() + "/nowhere?state=sealed", "404"},
		"interaction":  {a.Issuer() + "/interaction/none?state=sealed", "interaction_failed"},
		"server":       {away.URL + "/?state=sealed", "neither the server nor"},
		"syntax":       {"http://127.0.0.1:x/?state=sealed", "not a URL"},
	} {
		callback, err := a.Approve(a.ctx, c.target)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "sealed") || callback != nil {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
