package providers

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
)

const callback = "https://us.example/oauth/callback"

// connect sends a browser through the provider and exchanges what comes back.
func connect(t *testing.T, s *providertest.Server, p *oauth2Provider) (*broker.Obtained, error) {
	t.Helper()
	r := &broker.AuthorizeRequest{Client: client, RedirectURI: callback, State: "state", Verifier: verifier, Nonce: "n0nce"}
	raw, err := p.AuthorizeURL(r)
	if err != nil {
		t.Fatal(err)
	}
	q := s.Approve(t, raw)
	return p.Exchange(t.Context(), &broker.ExchangeRequest{
		Client: client, RedirectURI: callback, Code: q.Get("code"), Verifier: verifier, Nonce: "n0nce", Callback: q,
	})
}

func testProvider(t *testing.T, k providertest.Knobs, lines ...string) (*providertest.Server, *oauth2Provider) {
	t.Helper()
	s := providertest.New(t, k)
	return s, oauth(t, load(t, string(s.Entry("test", lines...))), "test")
}

func TestExchangeAndRenewal(t *testing.T) {
	s, p := testProvider(t, providertest.Knobs{Rotate: true})
	before := time.Now()
	got, err := connect(t, s, p)
	if err != nil {
		t.Fatal(err)
	}
	m := got.Material
	if m.Type != "OAUTH2" || !s.Good(m.Access.Reveal()) || m.Refresh.IsZero() || !slices.Equal(m.Scopes, []string{"read", "write"}) {
		t.Errorf("material: %+v", m)
	}
	if life := m.ExpiresAt.Sub(before); life < 59*time.Minute || life > 61*time.Minute {
		t.Errorf("lasts %v", life)
	}
	if !strings.HasPrefix(m.Answer.Reveal(), `{"access_token":"`+m.Access.Reveal()+`"`) {
		t.Errorf("answer is not the provider's")
	}
	h := &broker.Holding{Client: client, Material: m}
	if !p.Renewable(m) || p.Endpoint(h) != strings.TrimPrefix(s.URL, "http://") {
		t.Errorf("renewable %v at %q", p.Renewable(m), p.Endpoint(h))
	}
	m.Details = map[string]broker.Secret{"kept": broker.NewSecret("x")}
	renewed, err := p.Renew(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if n := renewed.Material; n.Refresh.Reveal() == m.Refresh.Reveal() || n.Access.Reveal() == m.Access.Reveal() || n.Details["kept"].IsZero() {
		t.Errorf("renewed: %+v", n)
	}
	if c := s.Counts(); c.Tokens != 2 || c.Exchanges != 1 || c.Refreshes != 1 {
		t.Errorf("counts: %+v", c)
	}
}

func TestRenewalKeepsTheRefreshTokenThatIsNotReplaced(t *testing.T) {
	s, p := testProvider(t, providertest.Knobs{})
	_, refresh := s.Grant()
	m := &broker.Material{Type: "OAUTH2", Refresh: broker.NewSecret(refresh), RefreshExpiresAt: time.Unix(2e9, 0), Scopes: []string{"x"}}
	got, err := p.Renew(t.Context(), &broker.Holding{Client: client, Material: m})
	if err != nil {
		t.Fatal(err)
	}
	if got.Material.Refresh.Reveal() != refresh || !got.Material.RefreshExpiresAt.Equal(m.RefreshExpiresAt) {
		t.Errorf("the refresh token is gone")
	}
}

// What is sent, byte for byte.
func TestTokenRequests(t *testing.T) {
	const (
		code     = "code=C"
		redirect = "redirect_uri=https%3A%2F%2Fus.example%2Foauth%2Fcallback"
		basicEnc = "Basic dGVzdC1jbGllbnQ6YSUyRmIlMkI=" // test-client:a%2Fb%2B
		basicRaw = "Basic dGVzdC1jbGllbnQ6YS9iKw=="     // test-client:a/b+
	)
	odd := &broker.Client{ID: "test-client", Secret: broker.NewSecret("a/b+")}
	for _, tt := range []struct {
		name, lines    string
		exchange       string
		refresh        string
		authorization  string
		contentType    string
		query, atQuery string
	}{
		{
			name: "client in the body", lines: "token_auth_method: client_secret_post",
			exchange: "client_id=test-client&client_secret=a%2Fb%2B&" + code + "&code_verifier=" + verifier + "&grant_type=authorization_code&" + redirect,
			refresh:  "client_id=test-client&client_secret=a%2Fb%2B&grant_type=refresh_token&refresh_token=R",
		},
		{
			name: "client in the header", lines: "token_auth_method: client_secret_basic", authorization: basicEnc,
			exchange: code + "&code_verifier=" + verifier + "&grant_type=authorization_code&" + redirect,
			refresh:  "grant_type=refresh_token&refresh_token=R",
		},
		{
			name: "header, in the common format's words", lines: "authorization_method: header\ntoken_auth_method: ''", authorization: basicEnc,
			exchange: code + "&code_verifier=" + verifier + "&grant_type=authorization_code&" + redirect,
			refresh:  "grant_type=refresh_token&refresh_token=R",
		},
		{
			name: "raw header besides the body", lines: "token_request_auth_method: basic\ntoken_auth_method: ''", authorization: basicRaw,
			exchange: "client_id=test-client&client_secret=a%2Fb%2B&" + code + "&code_verifier=" + verifier + "&grant_type=authorization_code&" + redirect,
			refresh:  "client_id=test-client&client_secret=a%2Fb%2B&grant_type=refresh_token&refresh_token=R",
		},
		{
			name: "public client", lines: "token_auth_method: none",
			exchange: "client_id=test-client&" + code + "&code_verifier=" + verifier + "&grant_type=authorization_code&" + redirect,
			refresh:  "client_id=test-client&grant_type=refresh_token&refresh_token=R",
		},
		{
			name: "JSON", lines: "body_format: json\ntoken_auth_method: client_secret_basic", authorization: basicEnc, contentType: "application/json",
			exchange: `{"code":"C","code_verifier":"` + verifier + `","grant_type":"authorization_code","redirect_uri":"https://us.example/oauth/callback"}`,
			refresh:  `{"grant_type":"refresh_token","refresh_token":"R"}`,
		},
		{
			name: "parameters of the entry", lines: "disable_pkce: true\npkce: none\ntoken_params: {grant_type: authorization_code, expiring: 1, resource: 'x-${connectionConfig.tenant}'}",
			exchange: "client_id=test-client&client_secret=a%2Fb%2B&" + code + "&expiring=1&grant_type=authorization_code&" + redirect + "&resource=x-t",
			// The renewal is one, whatever grant the parameters of the exchange name.
			refresh: "client_id=test-client&client_secret=a%2Fb%2B&expiring=1&grant_type=refresh_token&refresh_token=R&resource=x-t",
		},
		{
			name: "parameters of the renewal", lines: "refresh_params: {grant_type: refresh_token, expires_in: 1800}\ntoken_params: {expiring: 1}\ndisable_pkce: true",
			exchange: "client_id=test-client&client_secret=a%2Fb%2B&" + code + "&expiring=1&grant_type=authorization_code&" + redirect,
			refresh:  "client_id=test-client&client_secret=a%2Fb%2B&expires_in=1800&grant_type=refresh_token&refresh_token=R",
		},
		{
			name: "a query is no place for a code", lines: "body_format: query\ndisable_pkce: true",
			exchange: "client_id=test-client&client_secret=a%2Fb%2B&" + code + "&grant_type=authorization_code&" + redirect,
			refresh:  "client_id=test-client&client_secret=a%2Fb%2B&grant_type=refresh_token&refresh_token=R",
		},
		{
			name: "query and renewal URL are kept", lines: "disable_pkce: true\ntoken_url: SERVER/token?v=1&x=y\nrefresh_url: SERVER/token?renew=1", query: "v=1&x=y", atQuery: "renew=1",
			exchange: "client_id=test-client&client_secret=a%2Fb%2B&" + code + "&grant_type=authorization_code&" + redirect,
			refresh:  "client_id=test-client&client_secret=a%2Fb%2B&grant_type=refresh_token&refresh_token=R",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := providertest.New(t, providertest.Knobs{Error: "stop"})
			p := oauth(t, load(t, withLines(s, tt.lines)), "test")
			config := map[string]string{"tenant": "t"}
			_, err := p.Exchange(t.Context(), &broker.ExchangeRequest{Client: odd, Config: config, RedirectURI: callback, Code: "C", Verifier: verifier})
			if err == nil {
				t.Fatal("exchanged")
			}
			_, err = p.Renew(t.Context(), &broker.Holding{Client: odd, Config: config, Material: &broker.Material{Refresh: broker.NewSecret("R")}})
			if err == nil {
				t.Fatal("renewed")
			}
			if tt.contentType == "" {
				tt.contentType = "application/x-www-form-urlencoded"
			}
			want := []providertest.TokenRequest{
				{Grant: "authorization_code", Authorization: tt.authorization, ContentType: tt.contentType, Query: tt.query, Body: tt.exchange},
				{Grant: "refresh_token", Authorization: tt.authorization, ContentType: tt.contentType, Query: tt.atQuery, Body: tt.refresh},
			}
			if got := s.TokenRequests(); !slices.Equal(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// withLines lays lines over the test provider's entry.
func withLines(s *providertest.Server, lines string) string {
	lines = strings.ReplaceAll(lines, "SERVER", s.URL)
	text := "base" + strings.TrimPrefix(string(s.Entry("base")), "base")
	return text + "test:\n  alias: base\n  connection_config: {tenant: {title: T, description: d}}\n  " + strings.ReplaceAll(lines, "\n", "\n  ") + "\n"
}

func TestRenewalTakesTheEndUsersOwnClient(t *testing.T) {
	s, p := testProvider(t, providertest.Knobs{Error: "stop"})
	m := &broker.Material{Refresh: broker.NewSecret("R"), Details: map[string]broker.Secret{
		"client_id": broker.NewSecret("own"), "client_secret": broker.NewSecret("own-secret"),
	}}
	_, _ = p.Renew(t.Context(), &broker.Holding{Client: client, Material: m})
	if got := s.TokenRequests()[0].Body; got != "client_id=own&client_secret=own-secret&grant_type=refresh_token&refresh_token=R" {
		t.Errorf("sent %s", got)
	}
}

func TestWhatIsTakenFromCallbackAndAnswer(t *testing.T) {
	s := providertest.New(t, providertest.Knobs{})
	c := load(t, string(s.Entry("test", "redirect_uri_metadata: [realmId, server]\ntoken_response_metadata: [token_type, scope, expires_in]\nconnection_config:\n"+
		"  realmId: {title: R, description: d, automated: true, pattern: '^[0-9]+$'}\n  scope: {title: S, description: d, automated: true, pattern: '^nothing$'}")))
	p := oauth(t, c, "test")
	raw, err := p.AuthorizeURL(&broker.AuthorizeRequest{Client: client, RedirectURI: callback, Verifier: verifier})
	if err != nil {
		t.Fatal(err)
	}
	q := s.Approve(t, raw)
	q.Set("realmId", "42")
	q.Set("ignored", "x")
	exchange := &broker.ExchangeRequest{
		Client: client, RedirectURI: callback, Code: q.Get("code"), Verifier: verifier, Callback: q, Config: map[string]string{"token_type": ""},
	}
	got, err := p.Exchange(t.Context(), exchange)
	if err != nil {
		t.Fatal(err)
	}
	// Numbers are not taken, nor what does not have the form of its field.
	if len(got.Config) != 2 || got.Config["realmId"] != "42" || got.Config["token_type"] != "bearer" {
		t.Errorf("config: %v", got.Config)
	}
	q.Set("realmId", "not a number")
	_, err = p.Exchange(t.Context(), exchange)
	var failure *broker.ProviderError
	if !errors.As(err, &failure) || failure.Code != "variable_invalid" || s.Counts().Exchanges != 1 {
		t.Errorf("a callback with a wrong value: %v", err)
	}
}

func TestIDTokenOfSomebodyElseIsRefused(t *testing.T) {
	s, p := testProvider(t, providertest.Knobs{})
	r := &broker.AuthorizeRequest{
		Client: &broker.Client{ID: providertest.ClientID, Secret: client.Secret, Scopes: []string{"openid"}}, RedirectURI: callback, Verifier: verifier, Nonce: "one",
	}
	for nonce, ok := range map[string]bool{"one": true, "two": false} {
		raw, err := p.AuthorizeURL(r)
		if err != nil {
			t.Fatal(err)
		}
		q := s.Approve(t, raw)
		_, err = p.Exchange(t.Context(), &broker.ExchangeRequest{
			Client: r.Client, RedirectURI: callback, Code: q.Get("code"), Verifier: verifier, Nonce: nonce, Callback: q,
		})
		if (err == nil) != ok {
			t.Errorf("nonce %s: %v", nonce, err)
		}
	}
	now := time.Unix(1_700_000_000, 0)
	for claims, ok := range map[string]bool{
		`{"aud":"c","exp":1700000000}`:       true,
		`{"aud":["x","c"],"exp":1700000100}`: true,
		`{}`:                                 true,
		`{"aud":"x"}`:                        false,
		`{"aud":["x"]}`:                      false,
		`{"aud":"c","exp":1699999900}`:       false,
		`{"aud":"c","exp":1699999950.5}`:     true,
		`{"nonce":"other"}`:                  false,
		`not json`:                           false,
	} {
		token := "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "."
		if err := checkIDToken([]byte(`{"id_token":"`+token+`"}`), "c", "n", now); (err == nil) != ok {
			t.Errorf("%s: %v", claims, err)
		}
	}
	for _, answer := range []string{`{}`, `{"id_token":null}`, `{"id_token":"a.b.c.d.e"}`} {
		if err := checkIDToken([]byte(answer), "c", "n", now); err != nil {
			t.Errorf("%s: %v", answer, err)
		}
	}
}

func TestCheckMaterial(t *testing.T) {
	_, p := testProvider(t, providertest.Knobs{})
	for _, tt := range []struct {
		access, refresh string
		ok              bool
	}{
		{"token", "", true},
		{"token", "refresh", true},
		{"", "refresh", false},
		{"a b", "", false},
		{"a\n", "", false},
		{"é", "", false},
		{strings.Repeat("x", 16<<10), "", true},
		{strings.Repeat("x", 16<<10+1), "", false},
		{"token", "a\r\nb", false},
	} {
		err := p.CheckMaterial(&broker.Material{Access: broker.NewSecret(tt.access), Refresh: broker.NewSecret(tt.refresh)})
		if (err == nil) != tt.ok {
			t.Errorf("%q %q: %v", tt.access, tt.refresh, err)
		}
	}
}
