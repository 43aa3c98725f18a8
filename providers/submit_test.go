package providers

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
)

func secrets(kv ...string) map[string]broker.Secret {
	out := map[string]broker.Secret{}
	for i := 0; i+1 < len(kv); i += 2 {
		out[kv[i]] = broker.NewSecret(kv[i+1])
	}
	return out
}

func TestSubmittedKeys(t *testing.T) {
	c := load(t, `
x:
  display_name: X
  auth_mode: API_KEY
  credentials:
    apiKey: {title: Key, description: d, pattern: "^sk_[a-z]+$"}
plain:
  display_name: P
  auth_mode: API_KEY
`)
	for _, tt := range []struct {
		provider, key, want string
	}{
		{"x", "sk_abc", "sk_abc"},
		{"x", " sk_abc\n", "sk_abc"},
		{"x", "pk_abc", ""},
		{"x", "", ""},
		{"x", " ", ""},
		{"plain", "anything/at+all=", "anything/at+all="},
		{"plain", "a b", ""},
		{"plain", "a\r\nb", ""},
		{"plain", strings.Repeat("x", 16<<10+1), ""},
	} {
		got, err := provider[*apiKey](t, c, tt.provider).Submit(t.Context(), &broker.Holding{Client: client}, secrets("apiKey", tt.key, "other", "x"))
		if tt.want == "" {
			wantInvalid(t, tt.key, err, "apiKey")
			continue
		}
		if err != nil || got.Material.Access.Reveal() != tt.want || got.Material.Type != "API_KEY" || len(got.Material.Details) != 0 {
			t.Errorf("%q: %+v %v", tt.key, got, err)
		}
	}
}

func TestSubmittedUsers(t *testing.T) {
	c := load(t, `
x:
  display_name: X
  auth_mode: BASIC
key:
  display_name: Key as user
  auth_mode: BASIC
  credentials:
    password: {title: P, description: d, default_value: "X", hidden: true}
`)
	for _, tt := range []struct {
		provider, user, password, field, want string
	}{
		{"x", "ann", "p:w", "", "ann:p:w"},
		{"x", "ann", "", "", "ann:"}, // on purpose, as many APIs want it
		{"x", "", "p", "", ":p"},
		{"x", "", "", "username", ""},
		{"x", "a:b", "p", "username", ""},
		{"x", "ann", "a\nb", "password", ""},
		{"x", "a\x00", "b", "username", ""},
		{"x", "änn", "ü", "", "änn:ü"},
	} {
		got, err := provider[*basic](t, c, tt.provider).Submit(t.Context(), &broker.Holding{}, secrets("username", tt.user, "password", tt.password))
		if tt.field != "" {
			wantInvalid(t, tt.user, err, tt.field)
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.user, err)
			continue
		}
		if d := got.Material.Details; d["username"].Reveal()+":"+d["password"].Reveal() != tt.want {
			t.Errorf("%q: details differ", tt.user)
		}
	}
	_, err := provider[*basic](t, c, "x").Submit(t.Context(), &broker.Holding{}, secrets("username", "ann"))
	wantInvalid(t, "only a user", err, "password")
	got, err := provider[*basic](t, c, "key").Submit(t.Context(), &broker.Holding{}, secrets("username", "k"))
	if err != nil || got.Material.Details["password"].Reveal() != "X" {
		t.Errorf("default: %v", err)
	}
	got, err = provider[*none](t, load(t, "x:\n  display_name: X\n  auth_mode: NONE\n"), "x").Submit(t.Context(), nil, nil)
	if err != nil || got.Material.Type != "NONE" {
		t.Errorf("none: %+v %v", got, err)
	}
}

func ccProvider(t *testing.T, s *providertest.Server, lines ...string) *clientCredentials {
	t.Helper()
	text := strings.Replace(string(s.Entry("test", append(lines, "connection_config: {tenant: {title: T, description: d}}")...)), "OAUTH2", "OAUTH2_CC", 1)
	return provider[*clientCredentials](t, load(t, text), "test")
}

func TestClientCredentials(t *testing.T) {
	s := providertest.New(t, providertest.Knobs{})
	p := ccProvider(t, s, "token_params: {grant_type: client_credentials}")
	own := secrets("client_id", providertest.ClientID, "client_secret", providertest.ClientSecret)
	got, err := p.Submit(t.Context(), &broker.Holding{Client: &broker.Client{}}, own)
	if err != nil {
		t.Fatal(err)
	}
	m := got.Material
	if m.Type != "OAUTH2_CC" || !s.Good(m.Access.Reveal()) || m.Details["client_secret"].Reveal() != providertest.ClientSecret || m.ExpiresAt.IsZero() {
		t.Errorf("material: %+v", m)
	}
	h := &broker.Holding{Client: &broker.Client{}, Material: m}
	if !p.Renewable(m) || p.Endpoint(h) == "" {
		t.Error("not renewable")
	}
	renewed, err := p.Renew(t.Context(), h)
	if err != nil || renewed.Material.Access.Reveal() == m.Access.Reveal() || renewed.Material.Details["client_id"].IsZero() {
		t.Errorf("renewed: %v", err)
	}
	if c := s.Counts(); c.ClientCredentials != 2 || c.Tokens != 2 {
		t.Errorf("counts: %+v", c)
	}
}

func TestClientCredentialsRequests(t *testing.T) {
	const basic = "Basic aWQ6YS9iKw==" // id:a/b+
	for _, tt := range []struct{ name, lines, body, query, authorization, contentType string }{
		{"body", "token_params: {grant_type: client_credentials, audience: 'x-${connectionConfig.tenant}'}", "audience=x-t&client_id=id&client_secret=a%2Fb%2B&grant_type=client_credentials&scope=read+write", "", "", "form"},
		{"only what the entry names", "{}", "client_id=id&client_secret=a%2Fb%2B&scope=read+write", "", "", "form"},
		{"raw header alone", "token_request_auth_method: basic\ntoken_auth_method: ''", "scope=read+write", "", basic, "form"},
		{"encoded header", "token_auth_method: client_secret_basic", "scope=read+write", "", "Basic aWQ6YSUyRmIlMkI=", "form"},
		{"user and password", "token_request_auth_method: custom\ntoken_auth_method: ''\nbody_format: json", `{"password":"a/b+","scope":"read write","username":"id"}`, "", "", "json"},
		{"query", "body_format: query\ntoken_url: SERVER/token?v=1\nscope_separator: ','", "", "client_id=id&client_secret=a%2Fb%2B&scope=read%2Cwrite&v=1", "", ""},
		{"another grant", "token_params: {grant_type: account_credentials}", "client_id=id&client_secret=a%2Fb%2B&grant_type=account_credentials&scope=read+write", "", "", "form"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := providertest.New(t, providertest.Knobs{Error: "stop"})
			lines := strings.ReplaceAll(tt.lines, "SERVER", s.URL)
			text := strings.Replace(string(s.Entry("base", "connection_config: {tenant: {title: T, description: d}}")), "OAUTH2", "OAUTH2_CC", 1) + "test:\n  alias: base\n"
			if lines != "{}" {
				text += "  " + strings.ReplaceAll(lines, "\n", "\n  ") + "\n"
			}
			p := provider[*clientCredentials](t, load(t, text), "test")
			_, err := p.Submit(t.Context(), &broker.Holding{
				Client: &broker.Client{Scopes: []string{"read", "write"}}, Config: map[string]string{"tenant": "t"},
			}, secrets("client_id", "id", "client_secret", "a/b+"))
			if e := failed(t, err); e.Code != "stop" {
				t.Errorf("got %+v", e)
			}
			got := s.TokenRequests()[0]
			kind := map[string]string{"form": "application/x-www-form-urlencoded", "json": "application/json"}[tt.contentType]
			if got.Body != tt.body || got.Query != tt.query || got.Authorization != tt.authorization || got.ContentType != kind {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestClientCredentialsOfTheIntegration(t *testing.T) {
	s := providertest.New(t, providertest.Knobs{})
	p := ccProvider(t, s, "token_params: {grant_type: client_credentials}")
	got, err := p.Submit(t.Context(), &broker.Holding{Client: client}, nil)
	if err != nil || len(got.Material.Details) != 0 {
		t.Errorf("%+v %v", got, err)
	}
	_, err = p.Submit(t.Context(), &broker.Holding{Client: &broker.Client{}}, nil)
	wantInvalid(t, "no client", err, "client_id")
}

// A refused client is the connection's matter where it is the end user's, and the integration's where it is ours.
func TestWhoseClientIsRefused(t *testing.T) {
	s := providertest.New(t, providertest.Knobs{Error: "invalid_client"})
	p := ccProvider(t, s, "token_params: {grant_type: client_credentials}")
	_, err := p.Submit(t.Context(), &broker.Holding{Client: &broker.Client{}}, secrets("client_id", "a", "client_secret", "b"))
	if e := failed(t, err); e.Class != broker.GrantLost {
		t.Errorf("own: %+v", e)
	}
	_, err = p.Renew(t.Context(), &broker.Holding{Client: client, Material: &broker.Material{}})
	if e := failed(t, err); e.Class != broker.ClientRefused {
		t.Errorf("ours: %+v", e)
	}
	_, err = p.Renew(t.Context(), &broker.Holding{Client: &broker.Client{}, Material: &broker.Material{}})
	var b *broker.Error
	if e := failed(t, err); e.Code != "variable_invalid" || errors.As(err, &b) {
		t.Errorf("none: %v", err)
	}
}

func TestHowLongATokenLastsThatDoesNotSay(t *testing.T) {
	for life, want := range map[string]time.Duration{"": 55 * time.Minute, "unknown": 55 * time.Minute, "600": 10 * time.Minute, "never": 0} {
		s := providertest.New(t, providertest.Knobs{NoExpiresIn: true})
		p := ccProvider(t, s, "token_params: {grant_type: client_credentials}", "access_token_lifetime: '"+life+"'")
		got, err := p.Submit(t.Context(), &broker.Holding{Client: client}, nil)
		if err != nil {
			t.Fatal(err)
		}
		left := time.Until(got.Material.ExpiresAt)
		if want == 0 && !got.Material.ExpiresAt.IsZero() || want > 0 && (left > want || left < want-time.Minute) {
			t.Errorf("%q: %v", life, left)
		}
	}
}
