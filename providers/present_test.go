package providers

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// shown writes a presentation out, a line a header.
func shown(p *broker.Presentation) string {
	var b strings.Builder
	if p.BaseURL != nil {
		fmt.Fprintln(&b, p.BaseURL)
	}
	for _, h := range p.Headers {
		weak := ""
		if h.Weak {
			weak = " (weak)"
		}
		fmt.Fprintf(&b, "%s: %s%s\n", h.Key, strings.Join(h.Values, "|"), weak)
	}
	for _, q := range p.Query {
		fmt.Fprintf(&b, "?%s=%s\n", q.Key, q.Value)
	}
	return strings.TrimSpace(b.String())
}

func material(mode string) *broker.Material {
	switch mode {
	case modeBasic:
		return &broker.Material{Type: mode, Details: map[string]broker.Secret{"username": broker.NewSecret("ann"), "password": broker.NewSecret("p:w")}}
	case modeNone:
		return &broker.Material{Type: mode}
	}
	return &broker.Material{Type: mode, Access: broker.NewSecret("the/key+")}
}

func TestPresentations(t *testing.T) {
	for _, tt := range []struct{ name, mode, proxy, want string }{
		{"bearer", modeOAuth2, "base_url: https://api.x.example/v1/", "https://api.x.example/v1\nAuthorization: Bearer the/key+"},
		{"bearer of client credentials", modeClientCredentials, "base_url: https://api.x.example", "https://api.x.example\nAuthorization: Bearer the/key+"},
		{"basic", modeBasic, "base_url: https://api.x.example", "https://api.x.example\nAuthorization: Basic YW5uOnA6dw=="},
		{"a key has no header of its own", modeAPIKey, "base_url: https://api.x.example", "https://api.x.example"},
		{"nothing", modeNone, "base_url: https://api.x.example", "https://api.x.example"},
		{
			"headers", modeOAuth2,
			"base_url: https://api.x.example\nheaders:\n  accept: application/vnd.x+json\n  user-agent: us\n  x-access-token: ${accessToken}\n  x-client: ${clientId}\n  x-tenant: ${connectionConfig.tenant}\n  x-missing: ${connectionConfig.missing}\n  x-never: ${apiKey}",
			"https://api.x.example\nAuthorization: Bearer the/key+\nAccept: application/vnd.x+json (weak)\nUser-Agent: us\nX-Access-Token: the/key+\nX-Client: test-client\nX-Tenant: t1 (weak)",
		},
		{
			"the mode's own header is replaced", modeOAuth2, "base_url: https://api.x.example\nheaders:\n  Authorization: OAuth ${accessToken}",
			"https://api.x.example\nAuthorization: OAuth the/key+",
		},
		{
			"the key in query and header", modeAPIKey, "base_url: https://api.x.example\nheaders:\n  x-api-key: ${apiKey}\nquery:\n  key: ${credentials.apiKey}\n  v: '2'\n  none: ${connectionConfig.missing}",
			"https://api.x.example\nX-Api-Key: the/key+\n?key=the%2Fkey%2B\n?v=2",
		},
		{"the key in the path", modeAPIKey, "base_url: https://api.x.example/bot${apiKey}", "https://api.x.example/botthe%2Fkey+"},
		{
			"a default in a header", modeBasic, "base_url: https://api.x.example\nheaders:\n  x-version: ${connectionConfig.missing} || 7",
			"https://api.x.example\nAuthorization: Basic YW5uOnA6dw==\nX-Version: 7 (weak)",
		},
		{
			"a header of both", modeBasic, "base_url: https://api.x.example\nheaders:\n  authorization: Basic ${base64(${credentials.username}/token:${password})}",
			"https://api.x.example\nAuthorization: Basic YW5uL3Rva2VuOnA6dw==",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, "x:\n  display_name: X\n  auth_mode: "+tt.mode+"\n  authorization_url: https://x.example/a\n  token_url: https://x.example/t\n  proxy:\n    "+
				strings.ReplaceAll(tt.proxy, "\n", "\n    ")+"\n")
			p, _ := c.Provider("x")
			got, err := p.Present(&broker.Holding{Client: client, Config: map[string]string{"tenant": "t1"}, Material: material(tt.mode)})
			if err != nil {
				t.Fatal(err)
			}
			if shown(got) != tt.want {
				t.Errorf("got\n%s\nwant\n%s", shown(got), tt.want)
			}
		})
	}
}

func TestBaseURLIsKnownWithoutASecretWhereItNeedsNone(t *testing.T) {
	for _, tt := range []struct{ name, mode, base, want string }{
		{"a fixed one", modeOAuth2, "https://api.x.example/v1/", "https://api.x.example/v1"},
		{"of the config", modeOAuth2, "https://${connectionConfig.tenant}.x.example", "https://t1.x.example"},
		{"of config that is missing", modeOAuth2, "https://${connectionConfig.missing}.x.example", ""},
		{"of the key", modeAPIKey, "https://api.x.example/bot${apiKey}", ""},
		{"of the token", modeOAuth2, "https://api.x.example/${accessToken}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, "x:\n  display_name: X\n  auth_mode: "+tt.mode+
				"\n  authorization_url: https://x.example/a\n  token_url: https://x.example/t\n  proxy:\n    base_url: "+tt.base+"\n")
			u, err := provider[broker.Locator](t, c, "x").
				BaseURL(&broker.Holding{Client: client, Config: map[string]string{"tenant": "t1"}, Material: &broker.Material{Type: tt.mode}})
			if tt.want == "" && err == nil || tt.want != "" && (err != nil || u.String() != tt.want) {
				t.Errorf("got %v, %v, want %q", u, err, tt.want)
			}
		})
	}
}

func TestHeadersThatWouldBreakARequestAreRefused(t *testing.T) {
	c := load(t, `
x:
  display_name: X
  auth_mode: OAUTH2
  authorization_url: https://x.example/a
  token_url: https://x.example/t
  proxy:
    base_url: https://api.x.example
    headers: {x-tenant: "${connectionConfig.tenant}"}
`)
	p := oauth(t, c, "x")
	for _, v := range []string{"a\r\nx-evil: 1", "a\nb", "a\x00", "é", " a", "a\u2028"} {
		if _, err := p.Present(&broker.Holding{Client: client, Config: map[string]string{"tenant": v}, Material: material(modeOAuth2)}); err == nil {
			t.Errorf("%q in a header of the entry", v)
		}
		m := &broker.Material{Access: broker.NewSecret("x" + v + "x")}
		if _, err := p.Present(&broker.Holding{Client: client, Material: m}); err == nil && v != " a" {
			t.Errorf("%q in the token", v)
		}
	}
}

func TestHeadersThatDifferWithEachRequestAreSigned(t *testing.T) {
	o := options(t, `
x:
  display_name: X
  auth_mode: API_KEY
  proxy:
    base_url: https://api.x.example
    headers:
      x-key: ${apiKey}
      x-date: ${now:YYYY-MM-DD}
      x-id: ${random}
`)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o.Now = func() time.Time { return now }
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := provider[*apiKey](t, c, "x").Present(&broker.Holding{Client: client, Material: material(modeAPIKey)})
	if err != nil {
		t.Fatal(err)
	}
	if shown(p) != "https://api.x.example\nX-Key: the/key+" || p.Sign == nil {
		t.Fatalf("got %s", shown(p))
	}
	ids := map[string]bool{}
	for range 2 {
		r := &http.Request{Header: http.Header{}}
		if err := p.Sign(r); err != nil {
			t.Fatal(err)
		}
		if want := now.Format("2006-01-02"); r.Header.Get("X-Date") != want {
			t.Errorf("date %s, want %s", r.Header.Get("X-Date"), want)
		}
		ids[r.Header.Get("X-Id")] = true
		now = now.AddDate(0, 0, 1)
	}
	if len(ids) != 2 {
		t.Error("the id is not random")
	}
}

func TestGenericKeyGoesWhereTheIntegrationSays(t *testing.T) {
	c := loadBuiltin(t)
	for _, tt := range []struct {
		settings map[string]string
		want     string
	}{
		{map[string]string{"keyName": "x-api-key"}, "https://api.acme.example/v2\nX-Api-Key: the/key+"},
		{map[string]string{"keyName": "authorization", "valueTemplate": "Token ${apiKey}"}, "https://api.acme.example/v2\nAuthorization: Token the/key+"},
		{map[string]string{"keyName": "key", "keyPlacement": "query"}, "https://api.acme.example/v2\n?key=the%2Fkey%2B"},
		{map[string]string{"keyName": "key", "baseUrl": "https://other.example/"}, "https://other.example\nKey: the/key+"},
	} {
		h := &broker.Holding{
			Client: &broker.Client{Settings: tt.settings}, Config: map[string]string{"base_url": "https://api.acme.example/v2"}, Material: material(modeAPIKey),
		}
		p, err := provider[*apiKey](t, c, "api-key-generic").Present(h)
		if err != nil || shown(p) != tt.want {
			t.Errorf("%v: %v\n%s", tt.settings, err, shown(p))
		}
	}
	_, err := provider[*apiKey](t, c, "api-key-generic").Present(&broker.Holding{
		Client: &broker.Client{Settings: map[string]string{"keyName": "a b"}}, Config: map[string]string{"base_url": "https://api.acme.example"}, Material: material(modeAPIKey),
	})
	if err == nil {
		t.Error("a name that no header can have")
	}
}

func TestRetryRules(t *testing.T) {
	c := load(t, `
x:
  display_name: X
  auth_mode: NONE
  rate_limit: {at: x-other}
  proxy:
    base_url: https://x.example
    retry: {at: [x-a, x-b], after: x-c, remaining: x-d, error_code: ["429", "5xx", "500-502"]}
y:
  display_name: Y
  auth_mode: NONE
  rate_limit: {after: x-other}
  proxy: {base_url: https://x.example}
`)
	p, err := provider[*none](t, c, "x").Present(&broker.Holding{Material: material(modeNone)})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.Retry); got != "{[x-a x-b] [x-c] x-d [{429 429} {500 599} {500 502}]}" {
		t.Errorf("got %s", got)
	}
	p, err = provider[*none](t, c, "y").Present(&broker.Holding{Material: material(modeNone)})
	if err != nil || fmt.Sprint(p.Retry) != "{[] [x-other]  []}" {
		t.Errorf("got %v %v", p, err)
	}
	for _, word := range []string{"600", "xx", "5-6", "429-"} {
		if _, err := Load(options(t, "x:\n  display_name: X\n  auth_mode: NONE\n  proxy: {base_url: https://x.example, retry: {error_code: ['"+word+"']}}\n")); err == nil {
			t.Errorf("%s: accepted", word)
		}
	}
}
