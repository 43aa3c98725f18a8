package connect_test

import (
	"context"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/coatcheck/coatcheck/broker"
)

// appPage is an app's page: it opens the Connect UI and writes down what it is told, and when the window is gone.
var appPage = template.Must(template.New("app").Parse(`<!doctype html><title>App</title>
<button id="open">Connect</button><ol id="told"></ol><p id="closed"></p>
<script>
addEventListener("message", (e) => {
  const li = document.createElement("li");
  li.textContent = e.origin + " " + JSON.stringify(e.data);
  document.getElementById("told").append(li);
});
document.getElementById("open").addEventListener("click", () => {
  const popup = window.popup = open({{.}}, "connect", "popup,width=500,height=600");
  const timer = setInterval(() => {
    if (popup.closed) {
      clearInterval(timer);
      document.getElementById("closed").textContent = "closed";
    }
  }, 20);
});
</script>`))

// byName gives a server's address by a host name, so that it is another site than 127.0.0.1 to a browser.
func byName(s *httptest.Server) string { return strings.Replace(s.URL, "127.0.0.1", "localhost", 1) }

// newApp starts an app whose button opens *address.
func newApp(t *testing.T, address *string) *httptest.Server {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = appPage.Execute(w, *address)
	}))
	t.Cleanup(app.Close)
	return app
}

// idp is a provider's sign-in, in the ways that trouble a Connect UI.
type idp struct {
	// login is first met, consent is where it redirects: another origin, as many providers have.
	login, consent *httptest.Server
	coop           bool // cuts the popup from its opener
	post           bool // answers by POST
}

var (
	consentPage = template.Must(template.New("consent").Parse(`<!doctype html><title>Provider</title><a id="allow" href="{{.}}">Allow</a>`))
	postPage    = template.Must(template.New("post").Parse(`<!doctype html><title>Provider</title><form method="post" action="{{.To}}">
<input type="hidden" name="state" value="{{.State}}"><input type="hidden" name="code" value="c"><button id="allow">Allow</button></form>`))
)

func newIDP(t *testing.T) *idp {
	p := new(idp)
	p.consent = httptest.NewServer(http.HandlerFunc(p.serveConsent))
	t.Cleanup(p.consent.Close)
	p.login = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, byName(p.consent)+"/consent?"+r.URL.RawQuery, http.StatusFound)
	}))
	t.Cleanup(p.login.Close)
	return p
}

func (p *idp) serveConsent(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if p.coop {
		w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	to, state := r.URL.Query().Get("redirect_uri"), r.URL.Query().Get("state")
	if p.post {
		_ = postPage.Execute(w, struct{ To, State string }{to, state})
		return
	}
	_ = consentPage.Execute(w, to+"?"+url.Values{"state": {state}, "code": {"c"}}.Encode())
}

// popupCase is a site, an app and a provider, each on an origin of its own.
type popupCase struct {
	site    *site
	idp     *idp
	app     *httptest.Server
	address string // what the app opens
}

// newPopupCase lets the app's origin be allowed by the environment if named is set; otherwise no origin is configured.
func newPopupCase(t *testing.T, allowed func(app string) []string) *popupCase {
	t.Helper()
	c := &popupCase{idp: newIDP(t)}
	c.app = newApp(t, &c.address)
	c.site = newSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes", AllowedOrigins: allowed(byName(c.app))}})
	c.site.integrate(t, signInProvider("github", "GitHub", byName(c.idp.login)+"/login"))
	_, token := c.site.session(t, broker.SessionInput{EndUser: jane})
	c.address = c.site.server.URL + link("/connect/", token)
	return c
}

// open clicks the app's button and gives the popup.
func (c *popupCase) open(t *testing.T, browser context.Context) (app, popup context.Context) {
	t.Helper()
	app = tab(t, browser)
	must(t, chromedp.Do(app, chromedp.Navigate(byName(c.app))))
	// Other tests open windows in the same browser.
	opened := chromedp.WaitNewTarget(app, func(i *target.Info) bool { return strings.HasPrefix(i.URL, c.site.server.URL) })
	must(t, chromedp.Do(app, chromedp.Click(chromedp.CSS("#open"))))
	popup, cancel := chromedp.NewContext(app, chromedp.WithTargetID(<-opened))
	t.Cleanup(cancel)
	must(t, chromedp.Do(popup))
	return app, popup
}

// signIn goes through the form and the provider.
func signInBy(t *testing.T, popup context.Context) {
	t.Helper()
	must(t, chromedp.Do(popup,
		chromedp.Click(chromedp.CSS("form button[type=submit]")),
		chromedp.Click(chromedp.CSS("#allow"))))
}

func toldTo(t *testing.T, app context.Context) string {
	t.Helper()
	text, err := chromedp.Run(app, chromedp.TextContent(chromedp.CSS("#told")))
	must(t, err)
	return text
}

func TestBrowserPopupTellsItsApp(t *testing.T) {
	t.Parallel()
	browser := startChromium(t)
	for name, allowed := range map[string]func(string) []string{
		"allowed by name":      func(app string) []string { return []string{app} },
		"on the same computer": func(string) []string { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := newPopupCase(t, allowed)
			app, popup := c.open(t, browser)
			said := complaints(t, popup)
			signInBy(t, popup)
			must(t, chromedp.Do(app, chromedp.WaitVisible(chromedp.CSS("#told li")), chromedp.WaitVisible(chromedp.Search("//p[text()='closed']"))))
			made := c.site.connections(t)
			if len(made) != 1 {
				t.Fatalf("%d connections", len(made))
			}
			got := toldTo(t, app)
			if strings.Count(got, "coatcheck:connect") != 1 || !strings.HasPrefix(got, c.site.server.URL+" ") ||
				strings.Count(got, "nango_oauth_callback_success") != 1 || !strings.Contains(got, made[0].Key) || !strings.Contains(got, `"status":"success"`) {
				t.Errorf("the app was told %q", got)
			}
			if list := said(); len(list) > 0 {
				t.Errorf("the browser complains: %q", list)
			}
		})
	}
}

// TestBrowserPopupSpeaksNango fails, and waits to be told that its app has heard.
func TestBrowserPopupSpeaksNango(t *testing.T) {
	t.Parallel()
	c := newPopupCase(t, func(app string) []string { return []string{app} })
	c.site.catalogue["github"].refuse = &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant"}
	app, popup := c.open(t, startChromium(t))
	signInBy(t, popup)
	must(t, chromedp.Do(app, chromedp.WaitVisible(chromedp.Search("//li[contains(., 'nango_oauth_callback_error')]"))))
	if got := toldTo(t, app); !strings.Contains(got, `"errorType":"connection_validation_failed"`) {
		t.Errorf("the app was told %q", got)
	}
	must(t, chromedp.Do(app, chromedp.Evaluate[chromedp.Void](`popup.postMessage({type: "nango_oauth_callback_ack"}, "*")`),
		chromedp.WaitVisible(chromedp.Search("//p[text()='closed']"))))
}

// TestBrowserTellsNoOtherApp opens the popup from an origin that the environment does not allow.
func TestBrowserTellsNoOtherApp(t *testing.T) {
	t.Parallel()
	c := newPopupCase(t, func(string) []string { return []string{"https://app.example"} })
	app, popup := c.open(t, startChromium(t))
	signInBy(t, popup)
	must(t, chromedp.Do(app, chromedp.WaitVisible(chromedp.Search("//p[text()='closed']"))))
	if got := toldTo(t, app); got != "" {
		t.Errorf("the app was told %q", got)
	}
	if len(c.site.connections(t)) != 1 {
		t.Error("there is no connection")
	}
}

// TestBrowserSurvivesCutOpener signs in at a provider that cuts the popup from the app.
func TestBrowserSurvivesCutOpener(t *testing.T) {
	t.Parallel()
	c := newPopupCase(t, func(app string) []string { return []string{app} })
	c.idp.coop = true
	_, popup := c.open(t, startChromium(t))
	signInBy(t, popup)
	title, err := chromedp.Run(popup, waitTitle("GitHub is connected"))
	must(t, err)
	if title != "GitHub is connected" || len(c.site.connections(t)) != 1 {
		t.Errorf("the popup ends at %q", title)
	}
}

// TestBrowserFormPost signs in at a provider that answers by POST, from another site: the browser sends no cookie with
// that, and does with our own form.
func TestBrowserFormPost(t *testing.T) {
	t.Parallel()
	browser := startChromium(t)
	for name, scripts := range map[string]bool{"with scripts": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			c := newPopupCase(t, func(app string) []string { return []string{app} })
			c.idp.post = true
			ctx := tab(t, browser)
			must(t, chromedp.Do(ctx, scripting(scripts), chromedp.Navigate(c.address)))
			signInBy(t, ctx)
			if !scripts {
				must(t, chromedp.Do(ctx, chromedp.Click(chromedp.CSS("form[data-auto] button"))))
			}
			_, err := chromedp.Run(ctx, waitTitle("GitHub is connected"))
			must(t, err)
			if len(c.site.connections(t)) != 1 {
				t.Error("there is no connection")
			}
		})
	}
}

// TestBrowserWithoutScripts goes through everything that a sign-in needs with scripts switched off.
func TestBrowserWithoutScripts(t *testing.T) {
	t.Parallel()
	c := newPopupCase(t, func(app string) []string { return []string{app} })
	ctx := tab(t, startChromium(t))
	must(t, chromedp.Do(ctx, scripting(false), chromedp.Navigate(c.address)))
	signInBy(t, ctx)
	_, err := chromedp.Run(ctx, waitTitle("GitHub is connected"))
	must(t, err)
}

// TestBrowserTriesAgain is refused by the provider, and follows the page back to the form.
func TestBrowserTriesAgain(t *testing.T) {
	t.Parallel()
	c := newPopupCase(t, func(app string) []string { return []string{app} })
	c.site.catalogue["github"].refuse = &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Text: "The code was used before."}
	ctx := tab(t, startChromium(t))
	must(t, chromedp.Do(ctx, screen(500, 600, "light"), chromedp.Navigate(c.address)))
	signInBy(t, ctx)
	_, err := chromedp.Run(ctx, waitTitle("GitHub didn’t finish the sign-in"))
	must(t, err)
	shoot(t, ctx, "failure-retry-popup-light")
	c.site.catalogue["github"].refuse = nil
	must(t, chromedp.Do(ctx, chromedp.Click(chromedp.CSS("a.button"))))
	signInBy(t, ctx)
	_, err = chromedp.Run(ctx, waitTitle("GitHub is connected"))
	must(t, err)
}

// TestBrowserForm uses what scripts add to the form and the list.
func TestBrowserForm(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{})
	s.integrate(t, keyProvider("mailer", "Mailer", subdomainField, keyField))
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		s.integrate(t, keyProvider(name, "Provider "+name, keyField))
	}
	_, token := s.session(t, broker.SessionInput{})
	ctx := tab(t, startChromium(t))
	said := complaints(t, ctx)
	must(t, chromedp.Do(ctx, screen(500, 600, "light"), chromedp.Navigate(s.server.URL+link("/connect/", token)),
		chromedp.SendKeys(chromedp.CSS("#search"), "mail"), chromedp.WaitNotVisible(chromedp.Search("//span[text()='Provider a']"))))
	shoot(t, ctx, "list-filtered-popup-light")
	must(t, chromedp.Do(ctx, chromedp.Click(chromedp.CSS("li:not([hidden]) a.choice")),
		chromedp.SendKeys(chromedp.CSS("#field-1"), "no such/place"), chromedp.SendKeys(chromedp.CSS("#field-2"), "k-1"),
		chromedp.Click(chromedp.CSS("button.reveal")), chromedp.WaitVisible(chromedp.CSS("#field-2[type=text]")),
		chromedp.Click(chromedp.CSS("form button[type=submit]")), chromedp.WaitVisible(chromedp.CSS("#field-1-problem"))))
	shoot(t, ctx, "form-wrong-popup-light")
	must(t, chromedp.Do(ctx, screen(360, 640, "dark")))
	shoot(t, ctx, "form-wrong-phone-dark")
	focused, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.activeElement.id"))
	must(t, err)
	kept, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.getElementById('field-1').value + document.getElementById('field-2').value"))
	must(t, err)
	if focused != "field-1" || kept != "no such/place" {
		t.Errorf("the focus is on %q, the form holds %q", focused, kept)
	}
	must(t, chromedp.Do(ctx, chromedp.SetValue(chromedp.CSS("#field-1"), "acme"), chromedp.SendKeys(chromedp.CSS("#field-2"), "k-1"),
		chromedp.Click(chromedp.CSS("form button[type=submit]"))))
	_, err = chromedp.Run(ctx, waitTitle("Mailer is connected"))
	must(t, err)
	if list := said(); len(list) > 0 {
		t.Errorf("the browser complains: %q", list)
	}
}

// TestBrowserSendsOnce clicks twice on a form whose answer takes its time.
func TestBrowserSendsOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, options{})
	p := keyProvider("mailer", "Mailer", keyField)
	p.wait = make(chan struct{})
	s.integrate(t, p)
	_, token := s.session(t, broker.SessionInput{})
	ctx := tab(t, startChromium(t))
	must(t, chromedp.Do(ctx, chromedp.Navigate(s.server.URL+link("/connect/", token)), chromedp.SendKeys(chromedp.CSS("#field-1"), "k-1")))
	busy, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`(() => {
		const button = document.querySelector("form button[type=submit]");
		button.click(); button.click();
		return button.getAttribute("aria-disabled") === "true" && button.textContent === "Connecting…";
	})()`))
	must(t, err)
	if !busy {
		t.Error("the button does not say that it is busy")
	}
	close(p.wait)
	_, err = chromedp.Run(ctx, waitTitle("Mailer is connected"))
	must(t, err)
	if n := p.asked.Load(); n != 1 {
		t.Errorf("the form was sent %d times", n)
	}
}

// scripting switches scripts on or off.
func scripting(on bool) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	})
}

// waitTitle waits for the page whose heading that is, across navigations.
func waitTitle(heading string) chromedp.Action[string] {
	return func(ctx context.Context, tab *chromedp.Target) (string, error) {
		find := chromedp.Search("//h1[text()='" + heading + "']")
		if _, err := chromedp.WaitVisible(find)(ctx, tab); err != nil {
			return "", err
		}
		return chromedp.TextContent(find)(ctx, tab)
	}
}
