package providers

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

func TestUsernameTokens(t *testing.T) {
	// As sha1sum and base64 give it.
	if got := wsseDigest("00112233445566778899aabbccddeeff", "2026-03-01T12:00:00Z", "customer"); got != "OGI4MmQwYmM1YmRhOTA1NzA2N2QwNDMyNTdhYWRlZDdlMzFhM2FkYg==" {
		t.Errorf("digest %s", got)
	}
	p := provider[*wsse](t, load(t, `
x:
  display_name: X
  auth_mode: SIGNATURE
  signature: {protocol: WSSE}
  token: {expires_in_ms: 300000}
  proxy: {base_url: https://x.example, headers: {x-wsse: "${accessToken}"}}
`), "x")
	got, err := p.Submit(t.Context(), &broker.Holding{}, secrets("username", "acme001", "password", "p"))
	if err != nil {
		t.Fatal(err)
	}
	m := got.Material
	form := regexp.MustCompile(`^UsernameToken Username="acme001", PasswordDigest="([A-Za-z0-9+/=]+)", Nonce="([0-9a-f]{32})", Created="([0-9TZ:-]{20})"$`)
	parts := form.FindStringSubmatch(m.Access.Reveal())
	if parts == nil || parts[1] != wsseDigest(parts[2], parts[3], "p") || m.Type != "SIGNATURE" || time.Until(m.ExpiresAt) > 5*time.Minute {
		t.Fatalf("token %s", m.Access.Reveal())
	}
	h := &broker.Holding{Material: m}
	shown, err := p.Present(h)
	if err != nil || len(shown.Headers) != 1 || shown.Headers[0].Key != "X-Wsse" || shown.Headers[0].Values[0] != m.Access.Reveal() {
		t.Errorf("presented %d %v", len(shown.Headers), err)
	}
	if err := p.CheckMaterial(m); err != nil {
		t.Error(err)
	}
	renewed, err := p.Renew(t.Context(), h)
	if err != nil || renewed.Material.Access.Reveal() == m.Access.Reveal() || renewed.Material.Details["password"].Reveal() != "p" {
		t.Error(err)
	}
	_, err = p.Submit(t.Context(), h, secrets("username", `a", Nonce="x`, "password", "p"))
	wantInvalid(t, "a quote", err, "username")
	_, err = p.Renew(t.Context(), &broker.Holding{Material: &broker.Material{}})
	if e := failed(t, err); e.Class != broker.GrantLost {
		t.Errorf("%+v", e)
	}
	if p.CheckMaterial(&broker.Material{Details: secrets("username", "a")}) == nil {
		t.Error("half a pair is taken in")
	}
}

func TestBillSessions(t *testing.T) {
	ended := false
	d := newDoor(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case r.URL.Path == "/v3/logout":
			if r.Header.Get("sessionId") != "s-1" || r.Header.Get("devKey") != "dk" {
				w.WriteHeader(http.StatusUnauthorized)
			}
			ended = true
		case strings.Contains(body, `"password":"wrong"`):
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `[{"code":"BDC_1109","message":"wrong"}]`)
		default:
			_, _ = io.WriteString(w, `{"sessionId":"s-1","organizationId":"o-1","userId":"u-1"}`)
		}
	})
	p := provider[*bill](t, load(t, strings.ReplaceAll(`
x:
  display_name: X
  auth_mode: BILL
  token_url: SERVER/v3/login
  revocation_url: SERVER/v3/logout
  revocation: {style: recipe, auth: bearer, body_format: none, tokens: [access]}
  proxy: {base_url: SERVER}
`, "SERVER", d.URL)), "x")
	typed := secrets("username", "ann", "password", "p", "organization_id", "o-1", "dev_key", "dk")
	got, err := p.Submit(t.Context(), &broker.Holding{}, typed)
	if err != nil {
		t.Fatal(err)
	}
	if want := `POST|/v3/login|application/json|{"username":"ann","password":"p","organizationId":"o-1","devKey":"dk"}`; d.requests()[0] != want {
		t.Errorf("asked %s", d.requests()[0])
	}
	m := got.Material
	if left := time.Until(m.ExpiresAt); m.Type != "BILL" || m.Access.Reveal() != "s-1" || m.Details["user_id"].Reveal() != "u-1" || left > 35*time.Minute || left < 34*time.Minute {
		t.Errorf("material %v %v", m.Type, left)
	}
	h := &broker.Holding{Material: m}
	shown, err := p.Present(h)
	if err != nil || len(shown.Headers) != 2 || !shown.Headers[0].Weak || shown.Headers[0].Values[0] != "s-1" || shown.Headers[1].Values[0] != "dk" {
		t.Errorf("presented %d %v", len(shown.Headers), err)
	}
	if _, err := p.Renew(t.Context(), h); err != nil {
		t.Error(err)
	}
	if supported, err := p.Revoke(t.Context(), h); !supported || err != nil || !ended {
		t.Error(supported, err, ended)
	}
	typed["password"] = broker.NewSecret("wrong")
	_, err = p.Submit(t.Context(), &broker.Holding{}, typed)
	if e := failed(t, err); e.Class != broker.GrantLost {
		t.Errorf("%+v", e)
	}
	delete(typed, "dev_key")
	_, err = p.Submit(t.Context(), &broker.Holding{}, typed)
	wantInvalid(t, "no key", err, "dev_key")
}

func TestPluginsAreInstalled(t *testing.T) {
	status := http.StatusOK
	d := newDoor(t, func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(status) })
	p := provider[*plugin](t, load(t, strings.ReplaceAll(`
x:
  display_name: X
  auth_mode: INSTALL_PLUGIN
  auth_type: BASIC
  redirect_uri_metadata: [website_id]
  proxy: {base_url: SERVER, verification: {method: GET, endpoints: ['/site/${connectionConfig.website_id}']}}
`, "SERVER", d.URL)), "x")
	c := &broker.Client{ID: "plugin", Secret: broker.NewSecret("key"), Settings: map[string]string{"app_link": "https://app.x.example/install?x=1"}}
	goal, err := p.AuthorizeURL(&broker.AuthorizeRequest{Client: c, State: "s t"})
	if err != nil || goal != "https://app.x.example/install?payload=s+t&x=1" {
		t.Fatal(goal, err)
	}
	for what, lacking := range map[string]*broker.Client{"no link": {ID: "plugin"}, "no user": {Settings: c.Settings}, "no address": {ID: "x", Settings: map[string]string{"app_link": "javascript:x"}}} {
		if _, err := p.AuthorizeURL(&broker.AuthorizeRequest{Client: lacking}); err == nil {
			t.Error(what)
		}
	}
	back := &broker.ExchangeRequest{Client: c, Callback: url.Values{"website_id": {"w-1"}, "payload": {"s t"}}}
	got, err := p.Exchange(t.Context(), back)
	if err != nil {
		t.Fatal(err)
	}
	if got.Config["website_id"] != "w-1" || got.Material.Type != "BASIC" || p.Facts().CodeParam != "payload" || !p.Facts().Interactive {
		t.Errorf("config %v", got.Config)
	}
	if asked := d.requests(); len(asked) != 1 || asked[0] != "GET|/site/w-1||" {
		t.Errorf("asked %q", asked)
	}
	shown, err := p.Present(&broker.Holding{Client: c, Config: got.Config, Material: got.Material})
	if err != nil || shown.Headers[0].Values[0] != "Basic cGx1Z2luOmtleQ==" {
		t.Error(err)
	}
	status = http.StatusUnauthorized
	_, err = p.Exchange(t.Context(), back)
	if e := failed(t, err); e.Class != broker.GrantLost {
		t.Errorf("%+v", e)
	}
}
