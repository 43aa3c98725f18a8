package providers

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
)

// tbaAt is an entry whose provider is a double that checks signatures over what came over the wire.
func tbaAt(t *testing.T, s *providertest.OAuth1) *tba {
	t.Helper()
	return provider[*tba](t, load(t, strings.ReplaceAll(`
x:
  display_name: X
  auth_mode: TBA
  connection_config:
    accountId: {title: Account, description: d, pattern: "^[a-z0-9-]+$"}
  revocation_url: SERVER/revoke
  revocation: {style: recipe, method: DELETE, auth: bearer, body_format: none, tokens: [access]}
  proxy: {base_url: SERVER/api, verification: {method: GET, endpoints: [/me]}}
`, "SERVER", s.URL)), "x")
}

func TestTokensOfAnAccountSignRequests(t *testing.T) {
	s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{Method: hmacSHA256})
	p := tbaAt(t, s)
	if f := p.Facts(); !f.Usable || f.NeedsClient || f.Interactive || f.CredentialType != "TBA" {
		t.Fatalf("facts %+v", f)
	}
	token, secret := s.Grant()
	config := map[string]string{"accountId": "1234567-sb1"}
	got, err := p.Submit(t.Context(), &broker.Holding{Client: client, Config: config}, secrets("token_id", token+"\n", "token_secret", " "+secret))
	if err != nil {
		t.Fatal(err)
	}
	m := got.Material
	if m.Type != "TBA" || m.Access.Reveal() != token || len(m.Details) != 1 || m.Details["token_secret"].Reveal() != secret || !m.ExpiresAt.IsZero() {
		t.Errorf("material %v %d", m.Type, len(m.Details))
	}
	h := &broker.Holding{Client: client, Config: config, Material: m}
	if checked, err := p.Verify(t.Context(), h); !checked || err != nil {
		t.Fatal(checked, err)
	}
	shown, err := p.Present(h)
	if err != nil || shown.Sign == nil || len(shown.Headers) != 0 {
		t.Fatal(err)
	}
	r := toSign(t, "POST", s.URL+"/api/record?b=2&a=1", "q=a+b&q=")
	if err := shown.Sign(r); err != nil {
		t.Fatal(err)
	}
	header := r.Header.Get("Authorization")
	if !strings.HasPrefix(header, `OAuth realm="1234567_SB1", oauth_consumer_key="`+client.ID+`", `) || !strings.Contains(header, `oauth_signature_method="HMAC-SHA256"`) {
		t.Errorf("signed %s", header)
	}
	res, err := p.deps.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		t.Errorf("the API answers %d %s", res.StatusCode, body)
	}
	if supported, err := p.Revoke(t.Context(), h); !supported || err != nil || s.Good(token) {
		t.Error(supported, err)
	}
	_, err = p.Verify(t.Context(), h)
	if e := failed(t, err); e.Class != broker.GrantLost {
		t.Errorf("%+v", e)
	}
}

// The consumer that comes with a token is used for it alone, and whole.
func TestConsumersOfAnEndUser(t *testing.T) {
	s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{Method: hmacSHA256})
	p := tbaAt(t, s)
	token, secret := s.Grant()
	other := &broker.Client{ID: "another", Secret: broker.NewSecret("another-secret")}
	h := &broker.Holding{Client: other, Config: map[string]string{"accountId": "1"}}
	typed := secrets("token_id", token, "token_secret", secret, "oauth_client_id_override", client.ID, "oauth_client_secret_override", client.Secret.Reveal())
	got, err := p.Submit(t.Context(), h, typed)
	if err != nil {
		t.Fatal(err)
	}
	h.Material = got.Material
	if _, err := p.Verify(t.Context(), h); err != nil {
		t.Error(err)
	}
	if d := got.Material.Details; d["client_id"].Reveal() != client.ID || !d["oauth_client_id_override"].IsZero() || p.CheckMaterial(got.Material) != nil {
		t.Errorf("details %d", len(d))
	}
	if h.Material.Details = secrets("token_secret", secret); true {
		if _, err := p.Verify(t.Context(), h); failed(t, err).Class != broker.GrantLost {
			t.Error("another consumer's token works")
		}
	}
}

func TestTokensThatCannotSign(t *testing.T) {
	s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{Method: hmacSHA256})
	p := tbaAt(t, s)
	config := map[string]string{"accountId": "1"}
	whole := &broker.Holding{Client: client, Config: config}
	for _, tt := range []struct {
		what   string
		h      *broker.Holding
		fields []string
		field  string
	}{
		{"no secret", whole, []string{"token_id", "t"}, "token_secret"},
		{"no token", whole, []string{"token_secret", "s"}, "token_id"},
		{"a space in the token", whole, []string{"token_id", "t t", "token_secret", "s"}, "token_id"},
		{"half a consumer", whole, []string{"token_id", "t", "token_secret", "s", "oauth_client_id_override", "c"}, "oauth_client_secret_override"},
		{"the other half", whole, []string{"token_id", "t", "token_secret", "s", "oauth_client_secret_override", "c"}, "oauth_client_id_override"},
		{"no consumer at all", &broker.Holding{Client: &broker.Client{}, Config: config}, []string{"token_id", "t", "token_secret", "s"}, "oauth_client_id_override"},
		{"no account", &broker.Holding{Client: client}, []string{"token_id", "t", "token_secret", "s"}, "connection_config.accountId"},
	} {
		_, err := p.Submit(t.Context(), tt.h, secrets(tt.fields...))
		wantInvalid(t, tt.what, err, tt.field)
	}
	m := &broker.Material{Type: "TBA", Access: broker.NewSecret("t"), Details: secrets("token_secret", "s")}
	_, err := p.Present(&broker.Holding{Client: client, Material: m})
	wantInvalid(t, "presented without an account", err, "connection_config.accountId")
	if _, err := p.Present(&broker.Holding{Client: &broker.Client{}, Config: config, Material: m}); !errors.Is(err, broker.ErrMisconfigured) {
		t.Errorf("presented without a consumer: %v", err)
	}
	if n := s.Counts(); n.API+n.Refused != 0 {
		t.Errorf("the provider was asked: %+v", n)
	}
}

// Realms as NetSuite's own documentation writes them, and what an entry may say in their place.
func TestRealmsOfAccounts(t *testing.T) {
	for id, want := range map[string]string{"1234567": "1234567", "1234567-sb1": "1234567_SB1", "1234567_SB1": "1234567_SB1", "tstdrv-1-2": "TSTDRV_1-2"} {
		if got := accountRealm(id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	o := options(t, "x:\n  display_name: X\n  auth_mode: TBA\n  signature_method: RSA-SHA1\n")
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := c.Provider("x"); p.Facts().Usable {
		t.Error("a method that is not built is usable")
	}
	p := provider[*tba](t, load(t, "x:\n  display_name: X\n  auth_mode: TBA\n  realm: 'fixed-realm'\n  signature_method: HMAC-SHA1\n"), "x")
	shown, err := p.Present(&broker.Holding{Client: client, Material: &broker.Material{Access: broker.NewSecret("t"), Details: secrets("token_secret", "s")}})
	if err != nil {
		t.Fatal(err)
	}
	r := &http.Request{Method: "GET", URL: &url.URL{Scheme: "https", Host: "x.example", Path: "/"}, Header: http.Header{}}
	if err := shown.Sign(r); err != nil || !strings.Contains(r.Header.Get("Authorization"), `realm="FIXED_REALM"`) {
		t.Error(r.Header, err)
	}
}
