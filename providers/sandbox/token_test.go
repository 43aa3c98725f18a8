package sandbox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

func basic(id, secret string) []string {
	req := http.Request{Header: http.Header{}}
	req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	return []string{"Authorization", req.Header.Get("Authorization")}
}

func TestCodeFlow(t *testing.T) {
	w := start(t)
	a := w.post("/token", codeForm(w.code()))
	got := w.tokens(a)
	want := fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer","expires_in":120,"refresh_token":%q,"scope":"profile coats"}`+"\n",
		got.AccessToken, got.RefreshToken)
	if a.body != want {
		t.Errorf("got  %swant %s", a.body, want)
	}
	for header, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache",
	} {
		if got := a.header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	if me := w.api(got.AccessToken); me.status != http.StatusOK || me.body != `{"id":"ada","name":"Ada","email":"ada@sandbox.test"}`+"\n" {
		t.Errorf("me: %d %s", me.status, me.body)
	}
	w.wantStats(Stats{TokenRequests: 1})
}

func TestCodeIsBound(t *testing.T) {
	for name, change := range map[string][]string{
		"wrong verifier":        {"code_verifier", strings.Repeat("w", 43)},
		"no verifier":           {"code_verifier", ""},
		"other redirect URI":    {"redirect_uri", strings.TrimSuffix(appURI, "?from=sandbox")},
		"no redirect URI":       {"redirect_uri", ""},
		"challenge as verifier": {"code_verifier", authorizeQuery().Get("code_challenge")},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			code := w.code()
			w.wantError(w.post("/token", codeForm(code, change...)), http.StatusBadRequest, "invalid_grant")
			w.wantError(w.post("/token", codeForm(code)), http.StatusBadRequest, "invalid_grant") // it had its one try
		})
	}
	t.Run("other client", func(t *testing.T) {
		w := start(t)
		code := w.code()
		a := w.post("/token", codeForm(code, "client_id", otherID, "client_secret", otherSecret))
		w.wantError(a, http.StatusBadRequest, "invalid_grant")
		w.tokens(w.post("/token", codeForm(code))) // a stranger cannot spend it
	})
}

func TestShortVerifierIsRefused(t *testing.T) {
	w := start(t)
	q := authorizeQuery("code_challenge", "LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564") // S256 of "foo"
	code := w.decide("allow", q).location(t).Query().Get("code")
	w.wantError(w.post("/token", codeForm(code, "code_verifier", "foo")), http.StatusBadRequest, "invalid_grant")
}

func TestReusedCodeEndsItsFamily(t *testing.T) {
	w := start(t)
	code := w.code()
	got := w.tokens(w.post("/token", codeForm(code)))
	w.advance(codeLifetime + time.Second) // past its life, within its memory
	w.wantError(w.post("/token", codeForm(code)), http.StatusBadRequest, "invalid_grant")
	w.wantError(w.api(got.AccessToken), http.StatusUnauthorized, "invalid_token")
	w.wantError(w.post("/token", refreshForm(got.RefreshToken)), http.StatusBadRequest, "invalid_grant")
	w.wantStats(Stats{TokenRequests: 3, Reuses: 1, FamiliesRevoked: 1})
}

func TestRotation(t *testing.T) {
	w := start(t)
	last := w.tokens(w.post("/token", codeForm(w.code())))
	seen := map[string]bool{last.RefreshToken: true, last.AccessToken: true}
	for range 5 {
		w.advance(time.Minute)
		next := w.tokens(w.post("/token", refreshForm(last.RefreshToken)))
		if seen[next.AccessToken] || seen[next.RefreshToken] || next.ExpiresIn != 120 || next.Scope != "profile coats" {
			t.Errorf("renewal gave old tokens or expires_in %d, scope %q", next.ExpiresIn, next.Scope)
		}
		seen[next.AccessToken], seen[next.RefreshToken] = true, true
		if a := w.api(next.AccessToken); a.status != http.StatusOK {
			t.Errorf("new access token: %d", a.status)
		}
		if a := w.api(last.AccessToken); a.status != http.StatusOK {
			t.Errorf("an access token ended before its time: %d", a.status)
		}
		last = next
	}
	w.wantStats(Stats{TokenRequests: 6, Refreshes: 5})
}

func TestReuseEndsTheFamily(t *testing.T) {
	for name, age := range map[string]int{"the one before, late": 1, "the one before that, at once": 2} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			_, bystander, _ := w.Grant(appID, "ada", nil)
			chain := []tokenAnswer{w.tokens(w.post("/token", codeForm(w.code())))}
			for i := range age {
				chain = append(chain, w.tokens(w.post("/token", refreshForm(chain[i].RefreshToken))))
			}
			if age == 1 {
				w.advance(repeatGrace + time.Millisecond)
			}
			w.wantError(w.post("/token", refreshForm(chain[0].RefreshToken)), http.StatusBadRequest, "invalid_grant")
			for _, dead := range chain {
				w.wantError(w.post("/token", refreshForm(dead.RefreshToken)), http.StatusBadRequest, "invalid_grant")
				w.wantError(w.api(dead.AccessToken), http.StatusUnauthorized, "invalid_token")
			}
			w.tokens(w.post("/token", refreshForm(bystander)))
			w.wantStats(Stats{TokenRequests: 4 + 2*age, Refreshes: age + 1, Reuses: 1, FamiliesRevoked: 1})
		})
	}
}

func TestRepeatWithinGraceGetsTheSameSuccessor(t *testing.T) {
	w := start(t)
	_, refresh, _ := w.Grant(appID, "ada", nil)
	first := w.tokens(w.post("/token", refreshForm(refresh)))
	w.advance(repeatGrace)
	again := w.tokens(w.post("/token", refreshForm(refresh)))
	if again.AccessToken != first.AccessToken || again.RefreshToken != first.RefreshToken || again.ExpiresIn != 110 {
		t.Errorf("the repeat differs, or expires_in %d is not what is left", again.ExpiresIn)
	}
	w.tokens(w.post("/token", refreshForm(first.RefreshToken)))
	w.wantStats(Stats{TokenRequests: 3, Refreshes: 3})
}

func TestParallelRefreshesAgree(t *testing.T) {
	w := start(t)
	_, refresh, _ := w.Grant(appID, "ada", nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	successors := map[string]bool{}
	for range 16 {
		wg.Go(func() {
			a := w.post("/token", refreshForm(refresh))
			mu.Lock()
			defer mu.Unlock()
			successors[a.body] = true
		})
	}
	wg.Wait()
	if len(successors) != 1 {
		t.Errorf("%d different answers", len(successors))
	}
	w.wantStats(Stats{TokenRequests: 16, Refreshes: 16})
}

func TestRefreshIsBound(t *testing.T) {
	w := start(t)
	access, refresh, _ := w.Grant(appID, "ada", []string{"profile"})
	form := func(change ...string) url.Values {
		f := refreshForm(refresh)
		for pair := range slices.Chunk(change, 2) {
			f.Set(pair[0], pair[1])
		}
		return f
	}
	for name, f := range map[string]url.Values{
		"unknown token":      form("refresh_token", "nothing"),
		"no token":           form("refresh_token", ""),
		"access token":       form("refresh_token", access),
		"tampered end":       form("refresh_token", refresh+"x"),
		"another generation": form("refresh_token", strings.Replace(refresh, ".1.", ".2.", 1)),
		"another client":     form("client_id", otherID, "client_secret", otherSecret),
	} {
		t.Run(name, func(t *testing.T) {
			w.in(t)
			w.wantError(w.post("/token", f), http.StatusBadRequest, "invalid_grant")
		})
	}
	w.wantError(w.post("/token", form("scope", "profile coats")), http.StatusBadRequest, "invalid_scope")
	if next := w.tokens(w.post("/token", form("scope", "profile"))); next.Scope != "profile" {
		t.Errorf("scope %q", next.Scope)
	}
	w.wantStats(Stats{TokenRequests: 8, Refreshes: 1})
}

func TestRefreshTokenExpires(t *testing.T) {
	w := start(t)
	_, refresh, _ := w.Grant(appID, "ada", nil)
	w.advance(refreshLifetime - time.Second)
	next := w.tokens(w.post("/token", refreshForm(refresh)))
	w.advance(refreshLifetime)
	w.wantError(w.post("/token", refreshForm(next.RefreshToken)), http.StatusBadRequest, "invalid_grant")
}

func TestClientAuthentication(t *testing.T) {
	w := start(t)
	form := func() url.Values {
		_, refresh, _ := w.Grant(otherID, "ada", nil)
		return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	}
	with := func(f url.Values, pairs ...string) url.Values {
		for pair := range slices.Chunk(pairs, 2) {
			f.Add(pair[0], pair[1])
		}
		return f
	}
	w.tokens(w.post("/token", form(), basic(otherID, otherSecret)...))
	w.tokens(w.post("/token", with(form(), "client_id", otherID, "client_secret", otherSecret)))
	_, refresh, _ := w.Grant(appID, "ada", nil)
	special := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	w.tokens(w.post("/token", special, basic(appID, appSecret)...)) // the secret has a space, a plus and a percent sign

	for name, a := range map[string]answer{
		"wrong secret, header":   w.post("/token", form(), basic(otherID, "wrong")...),
		"wrong secret, body":     w.post("/token", with(form(), "client_id", otherID, "client_secret", "wrong")),
		"unknown client":         w.post("/token", form(), basic("nobody", otherSecret)...),
		"another's secret":       w.post("/token", form(), basic(otherID, appSecret)...),
		"no secret":              w.post("/token", with(form(), "client_id", otherID)),
		"client without secret":  w.post("/token", with(form(), "client_id", "open", "client_secret", "")),
		"nothing":                w.post("/token", form()),
		"bad escape":             w.post("/token", form(), "Authorization", "Basic JXp6Ong="), // %zz:x
		"bearer":                 w.post("/token", form(), "Authorization", "Bearer x"),
		"in the query":           w.post("/token?client_id=coat-app&client_secret=app+secret%2B%25", form()),
		"at the revocation, too": w.post("/revoke", url.Values{"token": {refresh}}, basic(appID, "wrong")...),
	} {
		t.Run(name, func(t *testing.T) {
			w.in(t)
			w.wantError(a, http.StatusUnauthorized, "invalid_client")
			if got := a.header.Get("WWW-Authenticate"); got != `Basic realm="sandbox"` {
				t.Errorf("WWW-Authenticate %q", got)
			}
		})
	}
	twoWays := w.post("/token", with(form(), "client_id", otherID, "client_secret", otherSecret), basic(otherID, otherSecret)...)
	w.wantError(twoWays, http.StatusBadRequest, "invalid_request")
}

func TestMalformedTokenRequests(t *testing.T) {
	w := start(t)
	auth := basic(appID, appSecret)
	twice := url.Values{"grant_type": {"refresh_token", "refresh_token"}}
	w.wantError(w.post("/token", url.Values{}, auth...), http.StatusBadRequest, "invalid_request")
	w.wantError(w.post("/token", url.Values{"grant_type": {"password"}}, auth...), http.StatusBadRequest, "unsupported_grant_type")
	w.wantError(w.post("/token", twice, auth...), http.StatusBadRequest, "invalid_request")
	w.wantError(w.post("/token", url.Values{"code": {strings.Repeat("x", maxForm)}}, auth...), http.StatusBadRequest, "invalid_request")
	w.wantError(w.post("/revoke", url.Values{}, auth...), http.StatusBadRequest, "invalid_request")
	if a := w.get("/token"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("GET /token: %d", a.status)
	}
}

func TestRevoke(t *testing.T) {
	auth := basic(appID, appSecret)
	for _, kind := range []string{"access", "refresh", "spent refresh"} {
		t.Run(kind, func(t *testing.T) {
			w := start(t)
			access, refresh, _ := w.Grant(appID, "ada", nil)
			next := w.tokens(w.post("/token", refreshForm(refresh)))
			token := map[string]string{"access": access, "refresh": next.RefreshToken, "spent refresh": refresh}[kind]
			for range 2 { // the second time there is nothing left to end
				if a := w.post("/revoke", url.Values{"token": {token}, "token_type_hint": {"access_token"}}, auth...); a.status != http.StatusOK || a.body != "" {
					t.Fatalf("revoke: %d %q", a.status, a.body)
				}
			}
			w.wantError(w.api(access), http.StatusUnauthorized, "invalid_token")
			w.wantError(w.api(next.AccessToken), http.StatusUnauthorized, "invalid_token")
			w.wantError(w.post("/token", refreshForm(next.RefreshToken)), http.StatusBadRequest, "invalid_grant")
			w.wantStats(Stats{TokenRequests: 2, Refreshes: 1, Revocations: 1})
		})
	}
	w := start(t)
	if a := w.post("/revoke", url.Values{"token": {"unheard-of"}}, auth...); a.status != http.StatusOK {
		t.Errorf("unknown token: %d", a.status)
	}
	access, _, _ := w.Grant(otherID, "ada", nil)
	w.wantError(w.post("/revoke", url.Values{"token": {access}}, auth...), http.StatusBadRequest, "invalid_grant")
	if a := w.api(access); a.status != http.StatusOK {
		t.Errorf("another client's token was revoked: %d", a.status)
	}
	w.wantStats(Stats{})
}

// TestIndependentClient lets golang.org/x/oauth2 drive the flow.
func TestIndependentClient(t *testing.T) {
	for name, style := range map[string]oauth2.AuthStyle{"header": oauth2.AuthStyleInHeader, "body": oauth2.AuthStyleInParams} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			cfg := oauth2.Config{
				ClientID: appID, ClientSecret: appSecret, RedirectURL: appURI, Scopes: []string{"profile"},
				Endpoint: oauth2.Endpoint{AuthURL: w.origin + "/authorize", TokenURL: w.origin + "/token", AuthStyle: style},
			}
			secret := oauth2.GenerateVerifier()
			start := cfg.AuthCodeURL("state", oauth2.S256ChallengeOption(secret))
			login := w.page(w.get(strings.TrimPrefix(start, w.origin)))
			consent := w.page(w.submit(login, "user", "ada"))
			back := w.submit(consent, "decision", "allow").location(t).Query()

			ctx := context.WithValue(t.Context(), oauth2.HTTPClient, w.client)
			token, err := cfg.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(secret))
			if err != nil {
				t.Fatal(err)
			}
			token.Expiry = time.Unix(1, 0) // so that the client renews it
			renewed, err := cfg.TokenSource(ctx, token).Token()
			if err != nil {
				t.Fatal(err)
			}
			if renewed.RefreshToken == token.RefreshToken || w.api(renewed.AccessToken).status != http.StatusOK {
				t.Error("the renewed token is no new one, or does not open the API")
			}
			w.wantStats(Stats{TokenRequests: 2, Refreshes: 1})
		})
	}
}
