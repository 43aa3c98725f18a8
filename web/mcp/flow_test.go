package mcp_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

func TestServerOfWhichOnlyTheAddressIsKnown(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{})
	c := r.connect(r.decided(d.url()))

	asked := d.lastAuthorization()
	for name, want := range map[string]string{"resource": d.url(), "scope": "files:read", "client_id": "client-1", "code_challenge_method": "S256"} {
		if asked.Get(name) != want {
			t.Errorf("the authorization request has %s=%q, want %q", name, asked.Get(name), want)
		}
	}
	if back := asked.Get("redirect_uri"); !strings.HasPrefix(back, r.url+"/oauth/callback/") {
		t.Errorf("the redirect URI is %s", back)
	}
	if got := d.lastTokenRequest(); got.Get("resource") != d.url() || got.Get("client_id") != "client-1" || got.Has("client_secret") {
		t.Errorf("the token request was %v", got)
	}
	a, read := r.read(c, "")
	credentials, _ := read["credentials"].(map[string]any)
	if credentials["type"] != "OAUTH2" || credentials["config_override"] != nil || !strings.HasPrefix(credentials["access_token"].(string), "access-") {
		t.Errorf("the connection reads %s", a.body)
	}
	if strings.Contains(a.body, "mcp.") || strings.Contains(a.body, d.auth.URL) {
		t.Errorf("the connection tells of its server: %s", a.body)
	}
	if a := r.call(c, http.MethodPost, ""); a.status != http.StatusOK || !strings.Contains(a.body, `"path":"/mcp"`) {
		t.Errorf("a call: %d %s", a.status, a.body)
	}

	r.advance(2 * time.Hour)
	if a := r.call(c, http.MethodPost, ""); a.status != http.StatusOK {
		t.Errorf("a call after the token's end: %d %s", a.status, a.body)
	}
	if got := d.lastTokenRequest(); got.Get("grant_type") != "refresh_token" || got.Get("resource") != d.url() || got.Get("client_id") != "client-1" {
		t.Errorf("the renewal was %v", got)
	}

	if a := r.api(http.MethodDelete, "/connection/"+c.Key+"?provider_config_key=mcp", ""); a.status != http.StatusOK {
		t.Fatalf("the deletion: %d %s", a.status, a.body)
	}
	eventually(t, "both tokens are revoked", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.revoked) == 2 && strings.HasPrefix(d.revoked[0], "refresh-") && strings.HasPrefix(d.revoked[1], "access-")
	})
}

func TestEndUsersNameServersOnlyWhereTheIntegrationLetsThem(t *testing.T) {
	d := newDouble(t)
	u, err := url.Parse(d.url())
	must(t, err)
	const entry = "custom-mcp:\n  alias: custom-mcp\n  connection_config:\n    mcp_server_url: {title: Server, format: uri}\n"
	for name, c := range map[string]struct {
		in     broker.IntegrationInput
		status int
	}{
		"by default nobody does": {broker.IntegrationInput{}, http.StatusUnprocessableEntity},
		"one of another host":    {broker.IntegrationInput{Hosts: []string{"mcp.example.com"}}, http.StatusUnprocessableEntity},
		"one of the list":        {broker.IntegrationInput{Hosts: []string{u.Host}}, http.StatusOK},
		"any":                    {broker.IntegrationInput{Settings: map[string]string{"servers": "any"}}, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "", c.in, entry)
			a := r.browser().get(r.startURL(r.session(broker.SessionInput{}), "mcp_server_url", d.url()), nil)
			if a.status != c.status {
				t.Errorf("got %d %s", a.status, a.header.Get("X-Error-Code"))
			}
		})
	}
}

func TestAddressesThatAnEndUserMustNotName(t *testing.T) {
	r := newRig(t, "", broker.IntegrationInput{Settings: map[string]string{"servers": "any"}})
	for _, address := range []string{
		"http://mcp.example.com/mcp", "https://127.0.0.1/mcp", "https://169.254.169.254/", "https://[::1]/mcp", "https://user@mcp.example.com/",
		"https://mcp.example.com/#x", "https://mcp.example.com/?x=1", "https://mcp.example.com./", "https://evil.com#.example.com/",
		"https://mcp.example.com\\@evil.com/", "https://mcp.example.com:22/", "https://mcp。example.com/", "https://mcp%2eexample.com/",
		"javascript:alert(1)", "https://2130706433/", "https://0x7f.1/mcp", "https://mcp.exa\nmple.com/", "https://mcp.example.com/a/../b",
	} {
		a := r.browser().get(r.startURL(r.session(broker.SessionInput{}), "mcp_server_url", address), nil)
		if a.status != http.StatusUnprocessableEntity || a.header.Get("X-Error-Code") != "variable_invalid" {
			t.Errorf("%q: %d %s", address, a.status, a.header.Get("X-Error-Code"))
		}
	}
}

func TestRegistrationIsUsedAgain(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{})
	for range 3 {
		r.connect(r.decided(d.url()))
	}
	if n, _ := d.counts(); n != 1 {
		t.Errorf("registered %d times", n)
	}
	other := newDouble(t)
	other.set(func() { other.about["authorization_servers"] = []string{d.auth.URL}; other.serial = 100 })
	r.browser().get(r.startURL(r.decided(other.url())), nil)
	if n, _ := d.counts(); n != 2 {
		t.Errorf("another server of the same issuer, with its own redirect URI, makes %d registrations", n)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.registrations[0]["client_name"] != "My App" || d.registrations[0]["application_type"] != "native" {
		t.Errorf("it registered as %v", d.registrations[0])
	}
	if a, b := d.registrations[0]["redirect_uris"], d.registrations[1]["redirect_uris"]; a.([]any)[0] == b.([]any)[0] {
		t.Errorf("two servers share the redirect URI %v", a)
	}
}

func TestRegistrationIsRenewedBeforeItsSecretEnds(t *testing.T) {
	d := newDouble(t)
	d.metadata["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic"}
	d.register = func(answer map[string]any) { answer["client_secret_expires_at"] = start.Add(8 * 24 * time.Hour).Unix() }
	r := newRig(t, "", broker.IntegrationInput{})
	r.connect(r.decided(d.url()))
	r.advance(6 * 24 * time.Hour)
	c := r.connect(r.decided(d.url()))
	if n, _ := d.counts(); n != 1 {
		t.Errorf("registered %d times while the secret was good", n)
	}
	r.advance(25 * time.Hour)
	d.set(func() { d.register = nil })
	r.connect(r.decided(d.url()))
	if n, _ := d.counts(); n != 2 {
		t.Errorf("registered %d times when the secret was about to end", n)
	}
	// What was granted to the first client is renewed by it.
	if a, _ := r.read(c, "&force_refresh=true"); a.status != http.StatusOK {
		t.Errorf("a renewal with the older client: %d %s", a.status, a.body)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.basic[len(d.basic)-1] != "client-1" {
		t.Errorf("it was renewed by %v", d.basic)
	}
}

// A server that has forgotten a client says so on a page that the end user alone sees.
func TestSecondTryRegistersAnew(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{})
	r.connect(r.decided(d.url()))
	d.set(func() { clear(d.clients) })
	r.advance(time.Minute)
	token := r.decided(d.url())
	if a := r.browser().get(r.startURL(token), nil); a.status != http.StatusBadRequest {
		t.Fatalf("the server still knows the client: %d", a.status)
	}
	r.connect(token)
	if n, _ := d.counts(); n != 2 {
		t.Errorf("registered %d times", n)
	}
}

func TestClientThatItsServerRefusesIsForgotten(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{})
	c := r.connect(r.decided(d.url()))
	d.set(func() { clear(d.clients) })
	if a, _ := r.read(c, "&force_refresh=true"); a.status == http.StatusOK {
		t.Fatal("it was renewed")
	}
	got, err := r.broker.Connection(t.Context(), r.who, broker.ConnectionRef{ID: c.ID})
	must(t, err)
	if got.Reason != broker.ReasonNeedsReauth {
		t.Errorf("the connection is %s: %s", got.Status, got.Reason)
	}
	r.connect(r.decided(d.url())) // in its first try
	if i, _, err := r.broker.Integration(t.Context(), r.who, "mcp"); err != nil || i.Fault != "" {
		t.Errorf("the integration is at fault: %q, %v", i.Fault, err)
	}
}

func TestBackendsOwnClientIsHeldToItsIssuer(t *testing.T) {
	d := newDouble(t)
	d.clients["ours"] = &client{secret: "our-secret", auth: "client_secret_basic"}
	in := broker.IntegrationInput{ClientID: "ours", ClientSecret: broker.NewSecret("our-secret")}
	r := newRig(t, "", in)
	r.refused(http.StatusBadRequest, "not_supported", r.decided(d.url()))

	in.Settings = map[string]string{"issuer": "https://auth.example.com"}
	r = newRig(t, "", in)
	r.refused(http.StatusUnprocessableEntity, "issuer_mismatch", r.decided(d.url()))
	if _, n := d.counts(); n > 0 {
		t.Error("the secret was sent")
	}

	in.Settings = map[string]string{"issuer": d.auth.URL}
	r = newRig(t, "", in, "custom-mcp:\n  alias: custom-mcp\n  integration_config:\n    issuer: {title: Issuer}\n")
	i, _, err := r.broker.Integration(t.Context(), r.who, "mcp")
	must(t, err)
	d.set(func() { d.clients["ours"].redirect = r.url + broker.CallbackPath + "/" + i.PublicID })
	c := r.connect(r.decided(d.url()))
	if a, _ := r.read(c, "&force_refresh=true"); a.status != http.StatusOK || d.basic[len(d.basic)-1] != "ours" {
		t.Errorf("the renewal: %d, by %v", a.status, d.basic)
	}
	if n, _ := d.counts(); n > 0 {
		t.Error("it registered all the same")
	}

	// Another issuer takes the secret away until it is entered again.
	other := map[string]string{"issuer": "https://auth.example.com"}
	_, err = r.broker.UpdateIntegration(t.Context(), r.who, "mcp", broker.IntegrationPatch{Settings: other})
	must(t, err)
	r.refused(http.StatusUnprocessableEntity, "secret_required", r.decided(d.url()))
}

// The client that an integration gets in place of another belongs to another issuer: the one that grants came from before
// does not learn its secret, neither by a renewal nor by a revocation.
func TestNewClientIsNotShownToTheIssuerOfTheOldOne(t *testing.T) {
	d := newDouble(t)
	d.clients["ours"] = &client{secret: "our-secret", auth: "client_secret_basic"}
	r := newRig(t, "", broker.IntegrationInput{
		ClientID: "ours", ClientSecret: broker.NewSecret("our-secret"), Settings: map[string]string{"issuer": d.auth.URL},
	}, "custom-mcp:\n  alias: custom-mcp\n  integration_config:\n    issuer: {title: Issuer}\n")
	i, _, err := r.broker.Integration(t.Context(), r.who, "mcp")
	must(t, err)
	d.set(func() { d.clients["ours"].redirect = r.url + broker.CallbackPath + "/" + i.PublicID })
	c := r.connect(r.decided(d.url()))

	id, secret := "another", broker.NewSecret("another-secret")
	_, err = r.broker.UpdateIntegration(t.Context(), r.who, "mcp", broker.IntegrationPatch{
		ClientID: &id, ClientSecret: &secret, Settings: map[string]string{"issuer": "https://auth.example.com"},
	})
	must(t, err)
	a, _ := r.read(c, "&force_refresh=true")
	got, err := r.broker.Connection(t.Context(), r.who, broker.ConnectionRef{ID: c.ID})
	must(t, err)
	if a.status == http.StatusOK || got.Reason != broker.ReasonIssuerChanged {
		t.Errorf("the renewal: %d, and the connection is %s: %s", a.status, got.Status, got.Reason)
	}
	if a := r.api(http.MethodDelete, "/connection/"+c.Key+"?provider_config_key=mcp", ""); a.status != http.StatusOK {
		t.Fatalf("the deletion: %d", a.status)
	}
	eventually(t, "the revocation is done", func() bool {
		lines, err := r.store.Audit(t.Context(), r.who.Environment, 0, 1000)
		must(t, err)
		return slices.ContainsFunc(lines, func(l broker.AuditEntry) bool { return l.Action == "grant.revoke" })
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Contains(d.basic, "another") {
		t.Errorf("the issuer of before was shown %v", d.basic)
	}
}

func TestResourceIndicatorCanBeLeftOut(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{Settings: map[string]string{"resource_indicator": "omit"}})
	c := r.connect(r.decided(d.url()))
	if d.lastAuthorization().Has("resource") || d.lastTokenRequest().Has("resource") {
		t.Error("the resource was named")
	}
	if a, _ := r.read(c, "&force_refresh=true"); a.status != http.StatusOK || d.lastTokenRequest().Has("resource") {
		t.Errorf("the renewal: %d, %v", a.status, d.lastTokenRequest())
	}
}

func TestScopesComeFromWhoDecides(t *testing.T) {
	d := newDouble(t)
	for name, c := range map[string]struct {
		scopes    []string
		challenge string
		server    []string
		want      string
	}{
		"the integration":    {[]string{"custom"}, "files:read", nil, "custom"},
		"the challenge":      {nil, "files:read", nil, "files:read"},
		"the metadata":       {nil, "", nil, "files:read files:write"},
		"and refresh tokens": {nil, "files:read", []string{"offline_access"}, "files:read offline_access"},
	} {
		t.Run(name, func(t *testing.T) {
			d.set(func() { d.scope, d.metadata["scopes_supported"] = c.challenge, c.server })
			r := newRig(t, "", broker.IntegrationInput{Scopes: c.scopes})
			conn := r.connect(r.decided(d.url()))
			asked := d.lastAuthorization()
			if asked.Get("scope") != c.want || !slices.Equal(conn.AskedScopes, strings.Fields(c.want)) {
				t.Errorf("asked for %q, noted %q", asked.Get("scope"), conn.AskedScopes)
			}
			if (asked.Get("prompt") == "consent") != (c.server != nil) {
				t.Errorf("prompt=%q", asked.Get("prompt"))
			}
		})
	}
}

// What a server asks for is shown before the browser goes there, as text; what the form has shown is not shown again.
func TestScopesOfAServerAreShownBeforeItsConsent(t *testing.T) {
	d := newDouble(t)
	d.set(func() { d.scope = "files:read <b>all</b>" })
	first := func(r *rig) answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.startURL(r.decided(d.url())), http.NoBody)
		must(t, err)
		return r.browser().do(req)
	}
	a := first(newRig(t, "", broker.IntegrationInput{}))
	if a.status != http.StatusOK || !strings.Contains(a.body, "files:read") || !strings.Contains(a.body, "&lt;b&gt;all&lt;/b&gt;") ||
		strings.Contains(a.body, "http-equiv") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if len(d.authorized) > 0 {
		t.Error("the browser was sent on at once")
	}
	if a = first(newRig(t, "", broker.IntegrationInput{Scopes: []string{"files:read"}})); a.header.Get("Location") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
}
