package interop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/coatcheck/coatcheck/providers/providertest/oidcprovider"
)

// page is the app's page in a browser.
type page struct {
	*rig
	ctx context.Context
}

// open opens the app's page in a browser of its own.
func (r *rig) open() *page {
	r.t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		r.t.Fatal("this test needs Chromium; on Debian and Ubuntu `make test` installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-popup-blocking", false),
		chromedp.Flag("test-third-party-cookie-phaseout", true)) // as browsers with privacy settings are
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), 3*time.Minute)
	r.t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	r.t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {}))
	r.t.Cleanup(cancel)
	p := &page{rig: r, ctx: ctx}
	must(r.t, chromedp.Do(ctx, chromedp.Navigate(r.app.URL+"/")))
	r.until(func() bool { return p.eval(`String(window.ready)`) == "true" })
	return p
}

// eval evaluates a script that gives a text.
func (p *page) eval(script string) string {
	p.t.Helper()
	return evaluate(p.t, p.ctx, script)
}

func evaluate(t *testing.T, ctx context.Context, script string) string {
	t.Helper()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](script))
	must(t, err)
	return text
}

// click sets what the button does, and clicks it.
func (p *page) click(action string) {
	p.t.Helper()
	p.eval(`window.action = async () => {` + action + `}; "";`)
	must(p.t, chromedp.Do(p.ctx, chromedp.Click(chromedp.CSS("#go"))))
}

// popup clicks, and gives the window that opens.
func (p *page) popup(action string) context.Context {
	p.t.Helper()
	opened := chromedp.WaitNewTarget(p.ctx, func(i *target.Info) bool { return i.Type == "page" })
	p.click(action)
	popup, cancel := chromedp.NewContext(p.ctx, chromedp.WithTargetID(<-opened))
	p.t.Cleanup(cancel)
	must(p.t, chromedp.Do(popup))
	return popup
}

// result is what an action came to.
type result struct {
	Value struct {
		Key        string `json:"providerConfigKey"`
		Connection string `json:"connectionId"`
		Pending    bool   `json:"isPending"`
	} `json:"value"`
	Error string `json:"error"`
	Type  string `json:"type"`
}

// result waits for the end of the action.
func (p *page) result() result {
	p.t.Helper()
	p.until(func() bool { return p.eval(`window.result`) != "" })
	var r result
	must(p.t, json.Unmarshal([]byte(p.eval(`window.result`)), &r))
	return r
}

// client makes a client as an app does.
func (p *page) client(token string) string {
	return fmt.Sprintf(`const nango = new window.Nango({host: %q, connectSessionToken: %q});`, p.broker, token)
}

// signIn signs in at the authorization server, and agrees.
func (p *page) signIn(popup context.Context) {
	p.t.Helper()
	p.until(func() bool {
		return strings.HasPrefix(evaluate(p.t, popup, "location.href"), p.idp.Issuer()) && evaluate(p.t, popup, "document.readyState") == "complete"
	})
	for _, field := range []string{"account", "password"} {
		selector := "input[name=" + field + "]"
		must(p.t, chromedp.Do(popup, chromedp.WaitReady(chromedp.CSS(selector)), chromedp.SendKeys(chromedp.CSS(selector), "ada")))
	}
	const decide = "document.querySelector('button[name=decision][value=continue]')"
	must(p.t, chromedp.Do(popup, chromedp.Evaluate[chromedp.Void](decide+".click()")))
	p.until(func() bool {
		return evaluate(p.t, popup, "String(!document.querySelector('input[name=password]') && !!"+decide+")") == "true"
	})
	lastClick(p.t, popup, decide)
}

// lastClick clicks what may take the window away before the browser has told us that it was clicked.
func lastClick(t *testing.T, popup context.Context, element string) {
	t.Helper()
	err := chromedp.Do(popup, chromedp.Evaluate[chromedp.Void](element+".click()"))
	if err != nil && !strings.Contains(err.Error(), "detached") {
		t.Fatal(err)
	}
}

func TestFrontendAuthByOAuth2(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	popup := p.popup(p.client(p.session("acme")) + `return nango.auth("acme");`)
	p.signIn(popup)
	got := p.result()
	if got.Error != "" || got.Value.Key != "acme" || got.Value.Connection == "" || got.Value.Pending {
		t.Fatalf("auth came to %+v", got)
	}
	first := p.connection("acme", got.Value.Connection)["access_token"]
	if first == "" {
		t.Error("there is no token")
	}

	// The same connection once more.
	token := p.sessionOf("/connect/sessions/reconnect", `{"connection_id":`+strconv.Quote(got.Value.Connection)+`,"integration_id":"acme"}`)
	popup = p.popup(p.client(token) + `return nango.reconnect("acme");`)
	p.until(func() bool { return strings.HasPrefix(evaluate(t, popup, "location.href"), p.idp.Issuer()) })
	p.agree(popup)
	again := p.result()
	if again.Error != "" || again.Value.Connection != got.Value.Connection {
		t.Fatalf("reconnect came to %+v", again)
	}
	if p.connection("acme", got.Value.Connection)["access_token"] == first {
		t.Error("the token is the old one")
	}
}

// agree presses the button of a page that only asks for consent: the browser is signed in already.
func (p *page) agree(popup context.Context) {
	p.t.Helper()
	const decide = "document.querySelector('button[name=decision][value=continue]')"
	p.until(func() bool { return evaluate(p.t, popup, "String(!!"+decide+")") == "true" })
	lastClick(p.t, popup, decide)
}

func TestFrontendAuthByCredentials(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	for _, test := range []struct {
		key, act string
		want     map[string]any
	}{
		{"key-api", `return nango.auth("key-api", {credentials: {apiKey: "` + goodKey + `"}});`, map[string]any{"type": "API_KEY", "apiKey": goodKey}},
		{"basic-api", `return nango.auth("basic-api", {credentials: {username: "ada", password: "secret"}});`, map[string]any{"type": "BASIC", "username": "ada", "password": "secret"}},
		{"machine", `return nango.auth("machine", {credentials: {client_id: "` + clientID + `", client_secret: "` + clientSecret + `"}});`, map[string]any{"type": "OAUTH2_CC", "client_id": clientID}},
		{"open-api", `return nango.create("open-api");`, map[string]any{}},
	} {
		p.click(p.client(p.session(test.key)) + test.act)
		got := p.result()
		if got.Error != "" || got.Value.Key != test.key || got.Value.Connection == "" {
			t.Errorf("%s came to %+v", test.key, got)
			continue
		}
		if have := p.connection(test.key, got.Value.Connection); !holds(have, test.want) {
			t.Errorf("%s: the connection holds %v, want %v", test.key, have, test.want)
		}
	}
}

func TestFrontendFailures(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	for _, test := range []struct{ name, token, act, want string }{
		{"a refused key", p.session("key-api"), `return nango.auth("key-api", {credentials: {apiKey: "nope"}});`, "connection_test_failed"},
		{"a refused client", p.session("machine"), `return nango.auth("machine", {credentials: {client_id: "an-app", client_secret: "nope"}});`, "client_credentials_fetch_error"},
		{"an unknown session", "nango_connect_session_" + strings.Repeat("0", 64), `return nango.auth("key-api", {credentials: {apiKey: "x"}});`, "unknown_connect_session_token"},
		{"another integration", p.session("machine"), `return nango.auth("key-api", {credentials: {apiKey: "x"}});`, "integration_not_allowed"},
		{"another kind", p.session("key-api"), `return nango.auth("key-api", {credentials: {username: "x", password: "y"}});`, "invalid_auth_mode"},
		{"an unknown integration", p.session(), `return nango.auth("nope", {credentials: {apiKey: "x"}});`, "unknown_provider_config"},
	} {
		p.click(p.client(test.token) + test.act)
		if got := p.result(); got.Type != test.want {
			t.Errorf("%s came to %+v, want %s", test.name, got, test.want)
		}
	}
	// In a popup, whose end the socket tells.
	for _, test := range []struct{ name, token, act, want string }{
		{"an unknown session", "nango_connect_session_" + strings.Repeat("0", 64), `return nango.auth("acme");`, "unknown_connect_session_token"},
		{"an unknown integration", p.session(), `return nango.auth("nope");`, "provider_config_err"},
		{"an integration without a browser", p.session(), `return nango.auth("key-api");`, "auth_mode_err"},
		{"another integration", p.session("machine"), `return nango.auth("acme");`, "integration_not_allowed"},
		{"an id of its own", p.session("acme"), `return nango.auth("acme", "mine");`, "invalid_query_params"},
	} {
		p.click(p.client(test.token) + test.act) // the client closes its window at once
		if got := p.result(); got.Type != test.want {
			t.Errorf("%s came to %+v, want %s", test.name, got, test.want)
		}
	}
	// At the provider, in another browser: in this one windows from before are still closing.
	p = p.rig.open()
	popup := p.popup(p.client(p.session("wrong")) + `return nango.auth("wrong");`)
	p.signIn(popup)
	if got := p.result(); got.Type != "unknown_err" {
		t.Errorf("a client with a wrong secret came to %+v", got)
	}
}

// A provider that cuts its window from the app's keeps the app from seeing it, and from nothing else.
func TestFrontendCutOpener(t *testing.T) {
	t.Parallel()
	p := newRig(t, func(o *oidcprovider.Options) { o.CutOpener = true }).open()
	popup := p.popup(p.client(p.session("acme")) + `return nango.auth("acme");`)
	p.signIn(popup)
	if got := p.result(); got.Error != "" || got.Value.Connection == "" {
		t.Errorf("auth came to %+v", got)
	}
}

// An app that wants to hear of it is told when its window is closed.
func TestFrontendClosedWindow(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	popup := p.popup(p.client(p.session("acme")) + `return nango.auth("acme", {detectClosedAuthWindow: true});`)
	p.until(func() bool { return strings.HasPrefix(evaluate(t, popup, "location.href"), p.idp.Issuer()) })
	must(t, chromedp.Do(popup, chromedp.Evaluate[chromedp.Void]("window.close()")))
	if got := p.result(); got.Type != "window_closed" {
		t.Errorf("it came to %+v", got)
	}
}

// A start that nobody can be shown to have wanted needs a click, and the socket waits for it.
func TestFrontendHiddenReferrer(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	p.eval(`document.head.insertAdjacentHTML("beforeend", '<meta name="referrer" content="no-referrer">'); ""`)
	popup := p.popup(p.client(p.session("acme")) + `return nango.auth("acme");`)
	p.until(func() bool { return strings.HasPrefix(evaluate(t, popup, "location.pathname"), "/connect/start") })
	p.until(func() bool {
		return evaluate(t, popup, "String(!!document.querySelector('form button[type=submit]'))") == "true"
	})
	if address := evaluate(t, popup, "location.href"); strings.Contains(address, "nango_connect_session_") {
		t.Errorf("the address holds the token: %s", address)
	}
	must(t, chromedp.Do(popup, chromedp.Click(chromedp.CSS("form button[type=submit]"))))
	p.signIn(popup)
	if got := p.result(); got.Error != "" || got.Value.Connection == "" {
		t.Errorf("it came to %+v", got)
	}
}

// Looking at a start's address, however often, starts nothing.
func TestFrontendScannersStartNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.session("acme")
	address := r.broker + "/oauth/connect/acme?" + url.Values{"connect_session_token": {token}}.Encode()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for range 30 { // more than a session may start
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		must(t, err)
		req.Header.Set("User-Agent", "Mozilla/5.0 (a scanner)")
		resp, err := client.Do(req)
		must(t, err)
		must(t, resp.Body.Close())
		if to := resp.Header.Get("Location"); !strings.HasPrefix(to, "/connect/start?") || len(resp.Cookies()) > 0 {
			t.Fatalf("a look led to %q with %d cookies", to, len(resp.Cookies()))
		}
	}
	p := r.open()
	popup := p.popup(p.client(token) + `return nango.auth("acme");`)
	p.signIn(popup)
	if got := p.result(); got.Error != "" {
		t.Errorf("it came to %+v", got)
	}
}
