package oidcprovider

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

const (
	clientID     = "app one" // id and secret need escaping in a Basic header
	clientSecret = "s3cret +%/=:&~"
	redirectURI  = "http://127.0.0.1:3003/oauth/callback?from=oidc"
)

// app is a client written with golang.org/x/oauth2.
type app struct {
	*Server
	oauth2.Config
	t   *testing.T
	ctx context.Context
}

func start(t *testing.T, change ...func(*Options)) *app {
	t.Helper()
	o := Options{ClientID: clientID, ClientSecret: clientSecret, RedirectURIs: []string{redirectURI, "http://127.0.0.1:3003/other"}}
	for _, f := range change {
		f(&o)
	}
	s := Start(t, o)
	return &app{
		Server: s, t: t, ctx: context.WithValue(t.Context(), oauth2.HTTPClient, s.client),
		Config: oauth2.Config{
			ClientID: clientID, ClientSecret: clientSecret, RedirectURL: redirectURI,
			Scopes: []string{"openid", "offline_access"},
			Endpoint: oauth2.Endpoint{
				AuthURL: s.authorizationURL(), TokenURL: s.tokenURL(), AuthStyle: oauth2.AuthStyleInHeader,
			},
		},
	}
}

var consent = oauth2.SetAuthURLParam("prompt", "consent")

// approve gives the answer to an authorization request.
func (a *app) approve(options ...oauth2.AuthCodeOption) url.Values {
	a.t.Helper()
	callback, err := a.Approve(a.ctx, a.AuthCodeURL("a state", append(options, consent)...))
	if err != nil {
		a.t.Fatal(err)
	}
	if got := callback.Scheme + "://" + callback.Host + callback.Path; got != "http://127.0.0.1:3003/oauth/callback" {
		a.t.Fatalf("the browser comes back to %s", got)
	}
	return callback.Query()
}

// connect goes the whole way.
func (a *app) connect() *oauth2.Token {
	a.t.Helper()
	verifier := oauth2.GenerateVerifier()
	answer := a.approve(oauth2.S256ChallengeOption(verifier))
	token, err := a.Exchange(a.ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		a.t.Fatal(err)
	}
	if token.AccessToken == "" || token.RefreshToken == "" {
		a.t.Fatal("the answer lacks a token")
	}
	return token
}

// refresh uses a refresh token once.
func (a *app) refresh(refreshToken string) (*oauth2.Token, error) {
	return a.TokenSource(a.ctx, &oauth2.Token{RefreshToken: refreshToken}).Token()
}

func (a *app) mustRefresh(refreshToken string) *oauth2.Token {
	a.t.Helper()
	token, err := a.refresh(refreshToken)
	if err != nil {
		a.t.Fatal(err)
	}
	return token
}

// post sends a form with the client's authentication, and gives status and body.
func (a *app) post(target string, form url.Values) (int, string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(clientID), url.QueryEscape(clientSecret))
	return a.do(req)
}

// userinfo asks who an access token is for.
func (a *app) userinfo(accessToken string) (int, string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.ctx, http.MethodGet, a.userinfoURL(), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	return a.do(req)
}

func (a *app) do(req *http.Request) (int, string) {
	a.t.Helper()
	res, err := a.client.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// wantRefused checks that the token endpoint refused with a code.
func wantRefused(t *testing.T, err error, code string) {
	t.Helper()
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) || refused.ErrorCode != code {
		t.Fatalf("error %v, want %s", err, code)
	}
}

func (a *app) wantCounts(want Counts) {
	a.t.Helper()
	got := a.Counts()
	same := maps.Equal(got.TokenRequests, want.TokenRequests) && maps.Equal(got.TokensIssued, want.TokensIssued) &&
		got.Rotations == want.Rotations && got.Reuses == want.Reuses && got.GrantsRevoked == want.GrantsRevoked
	if !same {
		a.t.Fatalf("counts %+v, want %+v", got, want)
	}
}

// types counts requests for codes and for refresh tokens.
func types(codes, refreshes int) map[string]int {
	out := map[string]int{}
	if codes > 0 {
		out["authorization_code"] = codes
	}
	if refreshes > 0 {
		out["refresh_token"] = refreshes
	}
	return out
}

func TestFlow(t *testing.T) {
	t.Parallel()
	a := start(t, func(o *Options) { o.AccessTokenTTL = 7 * time.Second })
	verifier := oauth2.GenerateVerifier()
	answer := a.approve(oauth2.S256ChallengeOption(verifier))
	if answer.Get("state") != "a state" || answer.Get("iss") != a.Issuer() || answer.Get("from") != "oidc" {
		t.Errorf("state %q, iss %q, from %q", answer.Get("state"), answer.Get("iss"), answer.Get("from"))
	}
	token, err := a.Exchange(a.ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if token.ExpiresIn != 7 {
		t.Errorf("the token lasts %d s, want 7", token.ExpiresIn)
	}
	if status, body := a.userinfo(token.AccessToken); status != http.StatusOK || body != `{"sub":"ada"}` {
		t.Errorf("userinfo answers %d %s", status, body)
	}
	a.wantCounts(Counts{TokenRequests: types(1, 0), TokensIssued: types(1, 0)})

	_, err = a.Exchange(a.ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	wantRefused(t, err, "invalid_grant")
	a.wantCounts(Counts{TokenRequests: types(2, 0), TokensIssued: types(1, 0), GrantsRevoked: 1})
}

func TestPKCEIsRequired(t *testing.T) {
	t.Parallel()
	a := start(t)
	for name, options := range map[string][]oauth2.AuthCodeOption{
		"none": nil,
		"plain": {
			oauth2.SetAuthURLParam("code_challenge", oauth2.GenerateVerifier()),
			oauth2.SetAuthURLParam("code_challenge_method", "plain"),
		},
	} {
		if answer := a.approve(options...); answer.Get("error") != "invalid_request" || answer.Has("code") {
			t.Errorf("%s: error %q, code: %t", name, answer.Get("error"), answer.Has("code"))
		}
	}
	for name, options := range map[string][]oauth2.AuthCodeOption{
		"none":  nil,
		"wrong": {oauth2.VerifierOption(oauth2.GenerateVerifier())},
	} {
		answer := a.approve(oauth2.S256ChallengeOption(oauth2.GenerateVerifier()))
		if !answer.Has("code") {
			t.Fatalf("%s: no code", name)
		}
		_, err := a.Exchange(a.ctx, answer.Get("code"), options...)
		wantRefused(t, err, "invalid_grant")
	}
}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	a := start(t)
	token := a.connect()
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		a.Endpoint.AuthStyle = style
		token = a.mustRefresh(token.RefreshToken)
		a.ClientSecret = "another"
		_, err := a.refresh(token.RefreshToken)
		wantRefused(t, err, "invalid_client")
		a.ClientSecret = clientSecret
	}
	status, body := a.post(a.tokenURL(), url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {token.RefreshToken},
		"client_id": {clientID}, "client_secret": {clientSecret},
	})
	if status != http.StatusBadRequest || !strings.Contains(body, `"invalid_request"`) {
		t.Errorf("both ways at once: %d %s", status, body)
	}
	a.wantCounts(Counts{TokenRequests: types(1, 5), TokensIssued: types(1, 2), Rotations: 2})
}

func TestRefreshRotates(t *testing.T) {
	t.Parallel()
	a := start(t)
	first := a.connect()
	second := a.mustRefresh(first.RefreshToken)
	third := a.mustRefresh(second.RefreshToken)
	if second.RefreshToken == first.RefreshToken || third.RefreshToken == second.RefreshToken {
		t.Error("the refresh token stayed the same")
	}
	if status, _ := a.userinfo(third.AccessToken); status != http.StatusOK {
		t.Errorf("the new access token: status %d", status)
	}
	a.wantCounts(Counts{TokenRequests: types(1, 2), TokensIssued: types(1, 2), Rotations: 2})
}

func TestReuseEndsTheGrant(t *testing.T) {
	t.Parallel()
	a := start(t)
	first, other := a.connect(), a.connect()
	second := a.mustRefresh(first.RefreshToken)

	_, err := a.refresh(first.RefreshToken)
	wantRefused(t, err, "invalid_grant")
	a.wantCounts(Counts{TokenRequests: types(2, 2), TokensIssued: types(2, 1), Rotations: 1, Reuses: 1, GrantsRevoked: 1})

	_, err = a.refresh(second.RefreshToken)
	wantRefused(t, err, "invalid_grant")
	if status, _ := a.userinfo(second.AccessToken); status != http.StatusUnauthorized {
		t.Errorf("the access token: status %d", status)
	}
	a.mustRefresh(other.RefreshToken) // a grant of its own
}

// Two requests at the same time: one is served, and the other is a reuse, always.
func TestReuseAtTheSameTime(t *testing.T) {
	t.Parallel()
	a := start(t)
	const many = 4
	token := a.connect()
	errs := make(chan error)
	for range many {
		go func() {
			_, err := a.refresh(token.RefreshToken)
			errs <- err
		}()
	}
	var refused []error
	for range many {
		if err := <-errs; err != nil {
			refused = append(refused, err)
		}
	}
	if len(refused) != many-1 {
		t.Fatalf("%d of %d refused", len(refused), many)
	}
	for _, err := range refused {
		wantRefused(t, err, "invalid_grant")
	}
	a.wantCounts(Counts{TokenRequests: types(1, many), TokensIssued: types(1, 1), Rotations: 1, Reuses: 1, GrantsRevoked: 1})
}

func TestReuseGrace(t *testing.T) {
	t.Parallel()
	a := start(t, func(o *Options) { o.ReuseGrace = time.Hour })
	first := a.connect()
	second := a.mustRefresh(first.RefreshToken)
	again := a.mustRefresh(first.RefreshToken)
	if again.RefreshToken == second.RefreshToken {
		t.Error("the repeat brought the same refresh token")
	}
	a.mustRefresh(second.RefreshToken)
	a.mustRefresh(again.RefreshToken)
	a.wantCounts(Counts{TokenRequests: types(1, 4), TokensIssued: types(1, 4), Rotations: 4})
}

func TestReuseGraceEnds(t *testing.T) {
	t.Parallel()
	a := start(t, func(o *Options) { o.ReuseGrace = 200 * time.Millisecond })
	token := a.connect()
	_, err := a.refresh(token.RefreshToken)
	for n := 0; err == nil && n < 10000; n++ { // a repeat must not make the grace longer
		_, err = a.refresh(token.RefreshToken)
	}
	wantRefused(t, err, "invalid_grant")
	if c := a.Counts(); c.Reuses != 1 || c.GrantsRevoked != 1 || c.Rotations < 1 {
		t.Errorf("counts %+v", c)
	}
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	a := start(t)
	token := a.connect()
	introspect := func() string {
		_, body := a.post(a.Issuer()+"/token/introspection", url.Values{"token": {token.AccessToken}})
		active, _, _ := strings.Cut(body, ",")
		return strings.TrimSuffix(active, "}")
	}
	if got := introspect(); got != `{"active":true` {
		t.Errorf("before: %s", got)
	}
	revoke := url.Values{"token": {token.RefreshToken}, "token_type_hint": {"refresh_token"}}
	if status, body := a.post(a.revocationURL(), revoke); status != http.StatusOK || body != "" {
		t.Fatalf("revocation answers %d %q", status, body)
	}
	if got := introspect(); got != `{"active":false` {
		t.Errorf("after: %s", got)
	}
	_, err := a.refresh(token.RefreshToken)
	wantRefused(t, err, "invalid_grant")
	a.wantCounts(Counts{TokenRequests: types(1, 1), TokensIssued: types(1, 0), GrantsRevoked: 1})
	if status, _ := a.post(a.revocationURL(), revoke); status != http.StatusOK { // RFC 7009 section 2.2
		t.Errorf("revoking again: status %d", status)
	}
}
