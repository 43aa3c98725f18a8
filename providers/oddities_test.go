package providers

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// wire answers the requests of entries in the catalogue and keeps what was sent.
type wire struct {
	answers map[string]string // by method, host and path
	status  int
	sent    []string // method, host, path and query
	bodies  []string
}

// builtinOn loads the catalogue that comes with the program with a wire in place of the network.
func builtinOn(t *testing.T, w *wire) *Catalogue {
	t.Helper()
	c, err := Load(Options{Builtin: builtin(t), Client: &http.Client{Transport: roundTripper(w.answer)}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *wire) answer(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(raw)
	}
	w.sent, w.bodies = append(w.sent, r.Method+" "+r.URL.Host+r.URL.RequestURI()), append(w.bodies, body)
	status, text := http.StatusOK, w.answers[r.Method+" "+r.URL.Host+r.URL.Path]
	switch {
	case text == "":
		status = http.StatusNotFound
	case w.status != 0:
		status = w.status
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text)), Request: r,
	}, nil
}

func code(value string) *broker.ExchangeRequest {
	return &broker.ExchangeRequest{Client: client, RedirectURI: callback, Code: value, Verifier: verifier}
}

// A provider without refresh tokens: the short-lived token is traded at once, and the long-lived one in place of a refresh.
func TestTokensAreTradedForLongerOnes(t *testing.T) {
	w := &wire{answers: map[string]string{
		"POST api.instagram.com/oauth/access_token":       `{"access_token":"short","user_id":17}`,
		"GET graph.instagram.com/access_token":            `{"access_token":"long","expires_in":5184000}`,
		"GET graph.instagram.com/refresh_access_token":    `{"access_token":"longer","expires_in":5184000}`,
		"GET graph.instagram.com/me":                      `{"user_id":"17"}`,
		"GET graph.facebook.com/v22.0/oauth/access_token": `{"access_token":"next","expires_in":5184000}`,
	}}
	c := builtinOn(t, w)
	p := oauth(t, c, "instagram")
	got, err := p.Exchange(t.Context(), code("c0de"))
	if err != nil {
		t.Fatal(err)
	}
	m := got.Material
	if m.Access.Reveal() != "long" || !m.Refresh.IsZero() || m.ExpiresAt.IsZero() || len(w.sent) != 2 {
		t.Fatalf("material %+v after %q", m, w.sent)
	}
	if want := "GET graph.instagram.com/access_token?access_token=short&client_secret=" + client.Secret.Reveal() + "&grant_type=ig_exchange_token"; w.sent[1] != want {
		t.Errorf("traded by %s", w.sent[1])
	}
	h := &broker.Holding{Client: client, Material: m}
	if !p.Renewable(m) || p.Endpoint(h) != "graph.instagram.com" {
		t.Errorf("renewable %v at %s", p.Renewable(m), p.Endpoint(h))
	}
	renewed, err := p.Renew(t.Context(), h)
	if err != nil || renewed.Material.Access.Reveal() != "longer" {
		t.Fatalf("renewed %+v %v", renewed, err)
	}
	if want := "GET graph.instagram.com/refresh_access_token?access_token=long&grant_type=ig_refresh_token"; w.sent[2] != want {
		t.Errorf("renewed by %s", w.sent[2])
	}
	facebook := oauth(t, c, "facebook") // one trade is both
	if renewed, err = facebook.Renew(t.Context(), h); err != nil || renewed.Material.Access.Reveal() != "next" {
		t.Errorf("renewed %+v %v", renewed, err)
	}

	w.status = http.StatusBadRequest
	w.answers["GET graph.instagram.com/refresh_access_token"] = `{"error":{"message":"expired","type":"OAuthException","code":190}}`
	if _, err := p.Renew(t.Context(), h); failed(t, err).Class != broker.GrantLost || failed(t, err).InDoubt {
		t.Errorf("a token that has run out: %+v", failed(t, err))
	}
	w.answers["GET graph.instagram.com/refresh_access_token"] = ""
	if _, err := p.Renew(t.Context(), h); failed(t, err).Class != broker.Transient {
		t.Errorf("an answer that is none: %+v", failed(t, err))
	}
	if p.Renewable(&broker.Material{}) {
		t.Error("nothing can be traded for nothing")
	}
}

// An entry without trades is renewed with a refresh token, or not at all.
func TestWithoutATradeThereIsNothingToRenew(t *testing.T) {
	p := oauth(t, builtinOn(t, &wire{}), "github")
	if m := (&broker.Material{Access: broker.NewSecret("t")}); p.Renewable(m) {
		t.Error("renewable without a refresh token")
	}
}

// A provider with names of its own for the parameters, with its tokens one level down, and with 200 for errors.
func TestParametersUnderOtherNames(t *testing.T) {
	const endpoint = "POST business-api.tiktok.com/open_api/v1.3/oauth2/access_token/"
	w := &wire{answers: map[string]string{endpoint: `{"code":0,"message":"OK","data":{"access_token":"t0ken","advertiser_ids":["1"]}}`}}
	p := oauth(t, builtinOn(t, w), "tiktok-ads")
	raw, err := p.AuthorizeURL(request(nil))
	if err != nil {
		t.Fatal(err)
	}
	if q := mustQuery(t, raw); q.Get("app_id") != "the-client" || q.Has("client_id") {
		t.Errorf("asked by %v", q)
	}
	got, err := p.Exchange(t.Context(), code("c0de"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Material.Access.Reveal() != "t0ken" {
		t.Errorf("got %+v", got.Material)
	}
	want := `{"app_id":"test-client","auth_code":"c0de","code_verifier":"` + verifier + `","grant_type":"authorization_code","redirect_uri":"` +
		callback + `","secret":"` + client.Secret.Reveal() + `"}`
	if w.bodies[0] != want {
		t.Errorf("sent %s", w.bodies[0])
	}
	for _, tt := range []struct {
		answer string
		class  broker.FailureClass
		code   string
	}{
		{`{"code":40105,"message":"Access token is invalid"}`, broker.GrantLost, "40105"},
		{`{"message":"nothing said"}`, broker.Transient, codeNoToken},
	} {
		w.answers[endpoint] = tt.answer
		if _, err := p.Exchange(t.Context(), code("c0de")); failed(t, err).Class != tt.class || failed(t, err).Code != tt.code {
			t.Errorf("%s: %+v", tt.answer, failed(t, err))
		}
	}
}

// What the operator knows of the provider stands in the integration's settings: eBay's name for our address, Google's
// developer token.
func TestSettingsGoIntoTemplates(t *testing.T) {
	w := &wire{answers: map[string]string{"POST api.ebay.com/identity/v1/oauth2/token": `{"access_token":"t0ken","expires_in":7200}`}}
	c := builtinOn(t, w)
	own := *client
	own.Settings = map[string]string{"ruName": "Acme_Inc-Acme", "developer_token": "d3veloper-token"}
	p := oauth(t, c, "ebay")
	r := &broker.AuthorizeRequest{Client: &own, RedirectURI: callback, State: "s", Params: map[string]string{"redirect_uri": "https://evil.example"}}
	raw, err := p.AuthorizeURL(r)
	if err != nil {
		t.Fatal(err)
	}
	if q := mustQuery(t, raw); len(q["redirect_uri"]) != 1 || q.Get("redirect_uri") != "Acme_Inc-Acme" {
		t.Errorf("asked by %v", q)
	}
	in := code("c0de")
	in.Client = &own
	if _, err := p.Exchange(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if form, err := url.ParseQuery(w.bodies[0]); err != nil || form.Get("redirect_uri") != "Acme_Inc-Acme" {
		t.Errorf("exchanged with %s", w.bodies[0])
	}
	r.Client = client // without the setting
	if _, err := p.AuthorizeURL(r); broker.AsError(err).Code != broker.ErrVariableInvalid.Code {
		t.Errorf("without the setting: %v", err)
	}

	h := &broker.Holding{Client: &own, Material: &broker.Material{Access: broker.NewSecret("t")}}
	for _, tt := range []struct {
		client *broker.Client
		want   string
	}{{&own, "d3veloper-token"}, {client, ""}} {
		h.Client = tt.client
		shown, err := oauth(t, c, "google-ads").Present(h)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, x := range shown.Headers {
			if x.Key == "Developer-Token" {
				got = x.Values[0]
			}
		}
		if got != tt.want {
			t.Errorf("presented %q, want %q", got, tt.want)
		}
	}
}

// A page that insists on a nonce gets the one that the answer is checked against, and not a random one of the entry's.
func TestAPageThatWantsANonceGetsOurs(t *testing.T) {
	raw, err := oauth(t, builtinOn(t, &wire{}), "hubstaff").AuthorizeURL(request(nil, "hubstaff:read"))
	if err != nil {
		t.Fatal(err)
	}
	if q := mustQuery(t, raw); len(q["nonce"]) != 1 || q.Get("nonce") != "n0nce" {
		t.Errorf("asked by %v", q)
	}
}

// Only a setting may stand in place of our address, and only one that the entry declares.
func TestTheAddressIsOurs(t *testing.T) {
	entry := func(value string) string {
		return "x:\n  display_name: X\n  auth_mode: OAUTH2\n  authorization_url: https://x.example/a\n  token_url: https://x.example/t\n" +
			"  authorization_params: {redirect_uri: \"" + value + "\"}\n  integration_config:\n    name: {title: N, description: d}\n" +
			"  connection_config:\n    mine: {title: M, description: d}\n"
	}
	for _, value := range []string{"https://evil.example", "${connectionConfig.mine}", "${integrationConfig.name}${connectionConfig.mine}"} {
		r := request(map[string]string{"mine": "https://evil.example"})
		r.Client.Settings = map[string]string{"name": "ours"}
		raw, err := oauth(t, load(t, entry(value)), "x").AuthorizeURL(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := mustQuery(t, raw).Get("redirect_uri"); got != callback {
			t.Errorf("%s: sent to %s", value, got)
		}
	}
	p, _ := load(t, entry("${integrationConfig.other}")).Provider("x")
	if f := p.Facts(); f.Usable || !strings.Contains(f.UnusableReason, "integrationConfig.other") {
		t.Errorf("a setting that is not declared: %+v", f)
	}
}

func TestPredicates(t *testing.T) {
	for _, tt := range []struct {
		predicate, answer string
		holds             bool
	}{
		{"{path: code, differs: 0}", `{"code":0}`, false},
		{"{path: code, differs: 0}", `{"code":1}`, true},
		{"{path: code, differs: 0}", `{"code":"0"}`, true},
		{"{path: code, differs: 0}", `{}`, false},
		{"{path: error.code, differs: ok}", `{"error":{"code":"ok"}}`, false},
		{"{path: error.code, differs: ok}", `{"error":{"code":"scope_not_authorized"}}`, true},
		{"{path: ok, equals: false}", `{"ok":false}`, true},
		{"{path: ok, equals: false}", `{"ok":true}`, false},
	} {
		c := load(t, "x:\n  display_name: X\n  auth_mode: NONE\n  error_predicates: ["+tt.predicate+"]\n")
		p, _ := c.Provider("x")
		if rule := baseOf(p).spec.rules.predicates[0]; rule.holds([]byte(tt.answer)) != tt.holds {
			t.Errorf("%s of %s: %v", tt.predicate, tt.answer, !tt.holds)
		}
	}
	for _, wrong := range []string{"{path: a}", "{path: a, equals: 1, differs: 2}", "{path: a, differs: 1, present: true}", "{differs: 1}"} {
		if _, err := Load(options(t, "x:\n  display_name: X\n  auth_mode: NONE\n  error_predicates: ["+wrong+"]\n")); err == nil {
			t.Errorf("%s: loaded", wrong)
		}
	}
}

func mustQuery(t *testing.T, raw string) url.Values {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}
