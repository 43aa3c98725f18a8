package providers

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// hostile are values that try to lead a request to another host.
var hostile = []string{
	"evil.com/", "evil.com#", "evil.com?", "a@evil.com", `x.evil.com\`, "evil.com:443/?", "evil.com:443", "evil.com/path", "evil.com\n",
	"evil.com\r\nHost: x", "evil。com", "evil.com%2f", "%2e%2e", "evil.com%23", "a:b@evil.com", "//evil.com", "https://evil.com", " evil.com",
	"evil.com;", "evil..com", ".evil.com", "evil.com.", "-evil", "evil-", "e_vil", "\x00", "évil", "xn--", "[::1]", "127.0.0.1/", "a b",
	strings.Repeat("a", 64), "${clientSecret}", "evil.com/..", "evil.com/%2e%2e/", "\u202eevil", "evil.com／",
}

func TestHostileValuesDoNotReachAnotherHost(t *testing.T) {
	for name, entry := range map[string]string{
		"no pattern":         "",
		"catalogue pattern":  "      pattern: ^[a-z0-9-]+$\n",
		"unanchored pattern": "      pattern: e\n",
	} {
		c := load(t, `
x:
  display_name: X
  auth_mode: OAUTH2
  authorization_url: https://${connectionConfig.sub}.example.com/authorize
  token_url: https://${connectionConfig.sub}.example.com/token
  connection_config:
    sub:
      title: Sub
      description: d
`+entry)
		p := oauth(t, c, "x")
		for _, v := range hostile {
			for _, trusted := range []bool{false, true} {
				_, err := p.CheckConfig(map[string]string{"sub": v}, client, trusted)
				wantInvalid(t, name+" "+v, err, "sub")
			}
			// Not even a value that got in without the check leads out.
			_, err := p.AuthorizeURL(&broker.AuthorizeRequest{Client: client, Config: map[string]string{"sub": v}, RedirectURI: "https://us.example/cb"})
			wantInvalid(t, name+" "+v, err, "sub")
			_, err = p.Exchange(t.Context(), &broker.ExchangeRequest{Client: client, Config: map[string]string{"sub": v}, Code: "c"})
			var failure *broker.ProviderError
			if !errors.As(err, &failure) || failure.InDoubt || failure.Status != 0 {
				t.Errorf("%s %q: exchange gave %v", name, v, err)
			}
		}
	}
}

func wantInvalid(t *testing.T, what string, err error, field string) {
	t.Helper()
	var e *broker.Error
	if !errors.As(err, &e) || e.Code != "variable_invalid" || e.Field != field {
		t.Errorf("%q: got %v", what, err)
		return
	}
	if strings.Contains(e.Error(), "evil") {
		t.Errorf("%q: the message repeats the value: %v", what, e)
	}
}

func TestValuesThatLeadToTheProvider(t *testing.T) {
	c := load(t, `
x:
  display_name: X
  auth_mode: OAUTH2
  authorization_url: https://${connectionConfig.sub}.example.com/${connectionConfig.tenant}/authorize
  token_url: https://${connectionConfig.sub}.example.com/token
  proxy:
    base_url: https://${connectionConfig.sub}.example.com/${connectionConfig.tenant}?t=${connectionConfig.tenant}
  connection_config:
    sub: {title: Sub, description: d}
    tenant: {title: Tenant, description: d}
`)
	p := oauth(t, c, "x")
	for v, want := range map[string]string{"acme": "acme.example.com", "Acme-1": "acme-1.example.com", "a.b": "a.b.example.com", "0": "0.example.com"} {
		config, err := p.CheckConfig(map[string]string{"sub": v, "tenant": "a/b ?#é", "unknown": "x", "empty": ""}, client, false)
		if err != nil || len(config) != 2 {
			t.Errorf("%q: %v %v", v, config, err)
			continue
		}
		raw, err := p.AuthorizeURL(&broker.AuthorizeRequest{Client: client, Config: config})
		if err != nil || !strings.HasPrefix(raw, "https://"+want+"/a%2Fb%20%3F%23%C3%A9/authorize?") {
			t.Errorf("%q: %s %v", v, raw, err)
		}
		pres, err := p.Present(&broker.Holding{Client: client, Config: config, Material: &broker.Material{Access: broker.NewSecret("t")}})
		if err != nil || pres.BaseURL.String() != "https://"+want+"/a/b%20%3F%23%C3%A9?t=a%2Fb+%3F%23%C3%A9" {
			t.Errorf("%q: %v %v", v, pres, err)
		}
	}
	for _, tenant := range []string{"..", ".", "a/../b", "%2e%2e/x"} {
		_, err := p.Present(&broker.Holding{
			Client: client, Config: map[string]string{"sub": "a", "tenant": tenant}, Material: &broker.Material{Access: broker.NewSecret("t")},
		})
		if tenant == "%2e%2e/x" { // its percent sign is encoded: a segment of that name, and no way up
			if err != nil {
				t.Errorf("%q: %v", tenant, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%q leads out of the path", tenant)
		}
	}
}

func TestMissingConnectionConfigIsNamed(t *testing.T) {
	c := load(t, `
x:
  display_name: X
  auth_mode: OAUTH2
  authorization_url: https://example.com/${connectionConfig.one}
  authorization_params: {tenant: "${connectionConfig.two}"}
  token_url: https://example.com/${connectionConfig.late}
  token_params: {tenant: "${connectionConfig.three}"}
  redirect_uri_metadata: [late]
`)
	p := oauth(t, c, "x")
	config := map[string]string{}
	for _, name := range []string{"one", "three", "two"} {
		_, err := p.AuthorizeURL(&broker.AuthorizeRequest{Client: client, Config: config})
		wantInvalid(t, name, err, name)
		config[name] = "v"
	}
	if _, err := p.AuthorizeURL(&broker.AuthorizeRequest{Client: client, Config: config}); err != nil {
		t.Error(err) // the token URL may wait for what the callback brings
	}
}

func TestHostPattern(t *testing.T) {
	c := load(t, `
x:
  display_name: X
  auth_mode: OAUTH2
  host_pattern: ^accounts\.example\.(?:com|eu)$
  authorization_url: https://accounts.example.${connectionConfig.tld}/authorize
  token_url: ${connectionConfig.server}/token || https://accounts.example.com/token
  redirect_uri_metadata: [server]
  connection_config:
    tld: {title: Domain, description: d}
    server: {title: Server, description: d, automated: true}
`)
	p := oauth(t, c, "x")
	if p.Facts().FreeHost {
		t.Error("a host that a pattern pins is taken for free")
	}
	for v, ok := range map[string]bool{"com": true, "eu": true, "evil.com": false, "com.evil": false, "net": false} {
		if _, err := p.CheckConfig(map[string]string{"tld": v}, client, true); (err == nil) != ok {
			t.Errorf("%s: %v", v, err)
		}
	}
	for v, ok := range map[string]bool{
		"https://accounts.example.eu": true, "https://accounts.example.eu/": true, "https://evil.com": false, "http://accounts.example.eu": false,
		"https://accounts.example.eu@evil.com": false, "https://accounts.example.eu#": false, "javascript:alert(1)": false, "accounts.example.eu": false,
	} {
		_, err := p.fromCallback(url.Values{"server": {v}}, client)
		if (err == nil) != ok {
			t.Errorf("%s: %v", v, err)
		}
	}
}

// freeHosts is an entry whose whole host end users give.
const freeHosts = `
free:
  display_name: Free
  auth_mode: MODE
  authorization_url: https://${connectionConfig.host}/authorize
  token_url: https://${connectionConfig.host}/token
  token_params: {grant_type: client_credentials}
  proxy: {base_url: "${connectionConfig.base}"}
  connection_config:
    host: {title: Host, description: d}
    base: {title: Base, description: d, optional: true}
`

func TestFreeHostsHaveToBeListed(t *testing.T) {
	p := oauth(t, load(t, strings.Replace(freeHosts, "MODE", "OAUTH2", 1)), "free")
	if !p.Facts().FreeHost {
		t.Error("a free host is not told")
	}
	listed := &broker.Client{ID: "c", Hosts: []string{"idp.example.com", "api.example.com"}}
	for _, tt := range []struct {
		name    string
		in      map[string]string
		client  *broker.Client
		trusted bool
		field   string
	}{
		{"listed", map[string]string{"host": "idp.example.com", "base": "https://API.example.com/v1"}, listed, false, ""},
		{"listed, with the usual port", map[string]string{"host": "idp.example.com:443"}, listed, false, ""},
		{"not listed", map[string]string{"host": "evil.com"}, listed, false, "host"},
		{"below a listed one", map[string]string{"host": "x.idp.example.com"}, listed, false, "host"},
		{"nothing is listed", map[string]string{"host": "idp.example.com"}, client, false, "host"},
		{"base not listed", map[string]string{"base": "https://evil.com"}, listed, false, "base"},
		{"another port", map[string]string{"host": "idp.example.com:8443"}, listed, false, "host"},
		{"an address", map[string]string{"host": "10.0.0.1"}, listed, false, "host"},
		{"from the backend", map[string]string{"host": "other.example.com"}, client, true, ""},
		{"from the backend, hostile", map[string]string{"host": "evil.com#"}, client, true, "host"},
		{"from the backend, an address that may be reached", map[string]string{"host": "127.0.0.1:8443"}, client, true, ""},
		{"from the backend, an address that may not", map[string]string{"host": "169.254.169.254"}, client, true, "host"},
		{"from the backend, a path", map[string]string{"host": "other.example.com/realms/x"}, client, true, ""},
	} {
		_, err := p.CheckConfig(tt.in, tt.client, tt.trusted)
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.field != "":
			wantInvalid(t, tt.name, err, tt.field)
		}
	}
}

// What an end user gives may go to a host that they name, unless a secret of the integration goes along.
func TestFreeHostsOfEndUsersOwnClients(t *testing.T) {
	p := provider[*clientCredentials](t, load(t, strings.Replace(freeHosts, "MODE", "OAUTH2_CC", 1)), "free")
	in := map[string]string{"host": "idp.customer.example"}
	if _, err := p.CheckConfig(in, &broker.Client{}, false); err != nil {
		t.Error(err)
	}
	_, err := p.CheckConfig(in, client, false)
	wantInvalid(t, "with a secret of ours", err, "host")
}

func TestWhichHostsAreFree(t *testing.T) {
	closed := func(name string) bool { return name == "closed" }
	for raw, want := range map[string]bool{
		"https://example.com/${connectionConfig.x}":                        false,
		"https://${connectionConfig.x}.example.com":                        false,
		"https://${connectionConfig.x}-api.example.com:8443/":              false,
		"https://${connectionConfig.x}.com":                                true,
		"https://${connectionConfig.x}example.com":                         true,
		"https://${connectionConfig.x}":                                    true,
		"${connectionConfig.x}/path":                                       true,
		"${connectionConfig.closed}/path":                                  false,
		"https://accounts.example.${connectionConfig.x}":                   true,
		"https://accounts.example.${connectionConfig.closed}":              false,
		"https://${connectionConfig.x}.example.${connectionConfig.closed}": false,
		"https://${connectionConfig.closed}.${connectionConfig.x}":         true,
	} {
		u, err := parseURLTemplate(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if got := u.hosts[0].free(closed); got != want {
			t.Errorf("%s: free is %v", raw, got)
		}
	}
	for pattern, want := range map[string]bool{
		"^(com|eu|in)$": true, "^(?:datadoghq\\.com|us3\\.datadoghq\\.com)$": true, "^[ab]c?$": true, "^[a-z]+$": false, "^[a-z]{2}$": false,
		"com|eu": false, "^a*$": false, "^(a|b": false, "^$": true,
	} {
		if closedPattern(pattern) != want {
			t.Errorf("%s: closed is %v", pattern, !want)
		}
	}
}

func TestURLTemplatesThatAreRefused(t *testing.T) {
	for _, raw := range []string{"", "example.com/x", "https:///x", "https://a@b/x", "https://${base64(x)}.example.com/", "https://x/#f", "${random}/x", `https://x\y`} {
		if _, err := parseURLTemplate(raw); err == nil {
			t.Errorf("%q: accepted", raw)
		}
	}
}

func FuzzURLTemplate(f *testing.F) {
	for _, v := range hostile {
		f.Add(v, v)
	}
	f.Add("acme", "tenant")
	tpl, err := parseURLTemplate("https://${connectionConfig.sub}.example.com/v1/${connectionConfig.tenant}/token?t=${connectionConfig.tenant}")
	if err != nil {
		f.Fatal(err)
	}
	check := options(f).CheckURL
	f.Fuzz(func(t *testing.T, sub, tenant string) {
		u, err := tpl.expand(&scope{config: map[string]string{"sub": sub, "tenant": tenant}}, check)
		if err != nil {
			return
		}
		if !strings.HasSuffix(u.Host, ".example.com") || u.Scheme != "https" || u.User != nil || u.Fragment != "" {
			t.Errorf("%q %q: %s", sub, tenant, u)
		}
		if p := u.EscapedPath(); !strings.HasPrefix(p, "/v1/") || !strings.HasSuffix(p, "/token") || strings.Count(p, "/") != 3 {
			t.Errorf("%q: path %s", tenant, p)
		}
		if q := u.Query(); len(q) != 1 || q.Get("t") != tenant {
			t.Errorf("%q: query %v", tenant, q)
		}
	})
}
