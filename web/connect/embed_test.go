package connect_test

import (
	"context"
	"encoding/json"
	"html/template"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/coatcheck/coatcheck/broker"
)

// hostPage is an app's page that embeds the Connect UI as the Nango client's openConnectUI does: a frame without a token,
// which asks for it by a message, and gets it when the test says so. It writes down what it is told.
var hostPage = template.Must(template.New("host").Parse(`<!doctype html><html lang="en"><title>App</title>
<h1>My notes</h1><p>What the app itself shows.</p><button id="open">Connect</button><ol id="told"></ol>
<script>
document.getElementById("open").addEventListener("click", () => {
  const at = new URL({{.UI}});
  at.searchParams.set("apiURL", at.origin);
  for (const [k, v] of Object.entries({{.Query}})) at.searchParams.set(k, v);
  const frame = document.createElement("iframe");
  frame.src = at.href;
  frame.id = "connect-ui";
  frame.allow = "clipboard-write";
  frame.style = "position:fixed;z-index:9999;inset:0;width:100vw;height:100vh;border:0;background:transparent";
  frame.addEventListener("load", () => { frame.dataset.loaded = "yes"; });
  window.hand = () => frame.contentWindow.postMessage({type: "session_token", sessionToken: {{.Token}}}, "*");
  addEventListener("message", (e) => {
    if (e.origin !== at.origin || !e.data.type) return;
    const li = document.createElement("li");
    li.textContent = JSON.stringify(e.data);
    li.dataset.type = e.data.type;
    document.getElementById("told").append(li);
    if (e.data.type === "close") frame.remove();
  });
  document.body.append(frame);
});
</script>`))

// embedCase is a site inside an app's page, and a provider. Each is on an origin of its own.
type embedCase struct {
	site  *site
	idp   *idp
	app   *httptest.Server
	token string
	query map[string]string
}

func newEmbedCase(t *testing.T, allowed func(app string) []string) *embedCase {
	t.Helper()
	c := &embedCase{idp: newIDP(t), query: map[string]string{}}
	c.app = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = hostPage.Execute(w, map[string]any{"UI": c.site.server.URL + "/connect/", "Query": c.query, "Token": c.token})
	}))
	t.Cleanup(c.app.Close)
	c.site = newSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes", AllowedOrigins: allowed(byName(c.app))}})
	c.site.integrate(t, signInProvider("github", "GitHub", byName(c.idp.login)+"/login"))
	c.site.integrate(t, keyProvider("mailer", "Mailer", subdomainField, keyField))
	_, c.token = c.site.session(t, broker.SessionInput{EndUser: jane})
	return c
}

// named allows the app's own origin.
func named(app string) []string { return []string{app} }

// open goes to the app's page, clicks its button, and gives the page and the frame in it.
func (c *embedCase) open(t *testing.T, browser context.Context) (app, frame context.Context) {
	t.Helper()
	app = tab(t, browser)
	return app, c.embed(t, app)
}

// embed does so in a tab that there is. The frame gets its token after the debugger has joined it: chromedp reads a
// document that changes at that moment without its lock.
func (c *embedCase) embed(t *testing.T, app context.Context) (frame context.Context) {
	t.Helper()
	must(t, chromedp.Do(app, chromedp.Navigate(byName(c.app)), chromedp.Click(chromedp.CSS("#open")),
		chromedp.WaitReady(chromedp.CSS("#told li[data-type=ready]")), chromedp.WaitReady(chromedp.CSS("#connect-ui[data-loaded]"))))
	frame = attach(t, app, "iframe", c.site.server.URL)
	must(t, chromedp.Do(app, chromedp.Evaluate[chromedp.Void]("hand()")))
	return frame
}

// attach gives the target of that type whose address begins so, once there is one.
func attach(t *testing.T, ctx context.Context, kind, address string) context.Context {
	t.Helper()
	var id target.ID
	until(t, func() bool {
		list, err := chromedp.Targets(ctx)
		must(t, err)
		for _, i := range list {
			if i.Type == kind && strings.HasPrefix(i.URL, address) {
				id = i.TargetID
			}
		}
		return id != ""
	})
	ctx, cancel := chromedp.NewContext(ctx, chromedp.WithTargetID(id))
	t.Cleanup(cancel)
	must(t, chromedp.Do(ctx))
	return ctx
}

// until waits for a condition that nothing tells of.
func until(t *testing.T, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(time.Minute); !holds(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("waited for a minute")
		}
	}
}

// tells waits until the app's page is told a message of that type, and gives all that it was told of it.
func tells(t *testing.T, app context.Context, kind string) []string {
	t.Helper()
	must(t, chromedp.Do(app, chromedp.WaitReady(chromedp.CSS("#told li[data-type="+kind+"]"))))
	return heard(t, app, kind)
}

// heard gives what the app's page was told of a type.
func heard(t *testing.T, app context.Context, kind string) []string {
	t.Helper()
	raw, err := chromedp.Run(app, chromedp.Evaluate[string](
		`JSON.stringify([...document.querySelectorAll("#told li[data-type=`+kind+`]")].map((e) => e.textContent))`))
	must(t, err)
	var list []string
	must(t, json.Unmarshal([]byte(raw), &list))
	return list
}

// choose clicks one of the choices.
func choose(t *testing.T, frame context.Context, key string) {
	t.Helper()
	must(t, chromedp.Do(frame, chromedp.Click(chromedp.CSS("a.choice[href^='/connect/to/"+key+"?']")), chromedp.WaitVisible(chromedp.CSS("form[method=post] button[type=submit]"))))
}

// leave clicks Connect, and gives the window that opens once the provider's page is in it.
func (c *embedCase) leave(t *testing.T, app, frame context.Context) context.Context {
	t.Helper()
	must(t, chromedp.Do(frame, chromedp.Click(chromedp.CSS("form button[type=submit]"))))
	return attach(t, app, "page", byName(c.idp.consent))
}

// connected checks that the one connection that there is was told of, and that Done closes the frame.
func (c *embedCase) connected(t *testing.T, app, frame context.Context, key, heading string) {
	t.Helper()
	_, err := chromedp.Run(frame, waitTitle(heading))
	must(t, err)
	got := tells(t, app, "connect")
	made := c.site.connections(t)
	if len(made) != 1 {
		t.Fatalf("%d connections", len(made))
	}
	want := `{"type":"connect","payload":{"providerConfigKey":"` + key + `","connectionId":"` + made[0].Key + `"}}`
	if len(got) != 1 || got[0] != want {
		t.Errorf("the app was told %q", got)
	}
	closing(t, frame, chromedp.Click(chromedp.CSS("button.button[data-dismiss]")))
	tells(t, app, "close")
	must(t, chromedp.Do(app, chromedp.WaitNotPresent(chromedp.CSS("#connect-ui"))))
}

// closing does what may take the frame away before the browser has told us that it is done.
func closing(t *testing.T, frame context.Context, act chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(frame, act); err != nil && !strings.Contains(err.Error(), "detached") {
		t.Fatal(err)
	}
}

func TestBrowserEmbeddedSignIn(t *testing.T) {
	t.Parallel()
	browser := startChromium(t)
	for name, allowed := range map[string]func(string) []string{
		"allowed by name":      named,
		"on the same computer": func(string) []string { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := newEmbedCase(t, allowed)
			app, frame := c.open(t, browser)
			said := complaints(t, frame)
			choose(t, frame, "github")
			popup := c.leave(t, app, frame)
			must(t, chromedp.Do(popup, chromedp.Click(chromedp.CSS("#allow"))))
			c.connected(t, app, frame, "github", "GitHub is connected")
			if n := len(heard(t, app, "ready")); n != 1 {
				t.Errorf("the frame was ready %d times", n)
			}
			if errors := heard(t, app, "error"); len(errors) > 0 {
				t.Errorf("the app was told %q", errors)
			}
			if list := said(); len(list) > 0 {
				t.Errorf("the browser complains: %q", list)
			}
		})
	}
}

// TestBrowserEmbeddedSignInWithoutOpener signs in at a provider that cuts its window from ours. That looks like a closed
// window, and the success counts all the same.
func TestBrowserEmbeddedSignInWithoutOpener(t *testing.T) {
	t.Parallel()
	browser := startChromium(t)
	c := newEmbedCase(t, named)
	c.idp.coop = true
	c.query["detectClosedAuthWindow"] = "true"
	app, frame := c.open(t, browser)
	choose(t, frame, "github")
	popup := c.leave(t, app, frame)
	got := tells(t, app, "error")
	if len(got) != 1 || !strings.HasPrefix(got[0], `{"type":"error","payload":{"errorType":"window_closed","errorMessage":"The window was closed. `) {
		t.Errorf("the app was told %q", got)
	}
	must(t, chromedp.Do(frame, chromedp.WaitVisible(chromedp.CSS("[data-was-closed]"))))
	must(t, chromedp.Do(popup, chromedp.Click(chromedp.CSS("#allow"))))
	_, err := chromedp.Run(popup, waitTitle("GitHub is connected"))
	must(t, err)
	c.connected(t, app, frame, "github", "GitHub is connected")
	if n := len(heard(t, app, "error")); n != 1 {
		t.Errorf("%d errors were told", n)
	}
}

// TestBrowserEmbeddedWindowIsClosed closes the window, and opens another.
func TestBrowserEmbeddedWindowIsClosed(t *testing.T) {
	t.Parallel()
	c := newEmbedCase(t, named)
	c.query["detectClosedAuthWindow"] = "true"
	app, frame := c.open(t, startChromium(t))
	choose(t, frame, "github")
	popup := c.leave(t, app, frame)
	must(t, chromedp.Do(popup, chromedp.Evaluate[chromedp.Void]("setTimeout(close)")))
	tells(t, app, "error")
	must(t, chromedp.Do(frame, chromedp.WaitVisible(chromedp.CSS("[data-was-closed]")), chromedp.Click(chromedp.CSS("[data-again]"))))
	must(t, chromedp.Do(frame, chromedp.WaitNotVisible(chromedp.CSS("[data-was-closed]"))))
	popup = attach(t, app, "page", byName(c.idp.consent))
	must(t, chromedp.Do(popup, chromedp.Click(chromedp.CSS("#allow"))))
	c.connected(t, app, frame, "github", "GitHub is connected")
	if n := len(heard(t, app, "error")); n != 1 {
		t.Errorf("%d errors were told", n)
	}
}

// TestBrowserEmbeddedWindowIsBlocked stands for a browser that opens no window for us: a tab serves as well.
func TestBrowserEmbeddedWindowIsBlocked(t *testing.T) {
	t.Parallel()
	c := newEmbedCase(t, named)
	app, frame := c.open(t, startChromium(t))
	choose(t, frame, "github")
	must(t, chromedp.Do(frame, chromedp.Evaluate[chromedp.Void]("window.open = () => null; 0"),
		chromedp.Click(chromedp.CSS("form button[type=submit]")), chromedp.WaitVisible(chromedp.CSS("[data-was-blocked]"))))
	got := tells(t, app, "error")
	if len(got) != 1 || !strings.Contains(got[0], `"errorType":"blocked_by_browser"`) {
		t.Errorf("the app was told %q", got)
	}
	popup := c.leave(t, app, frame)
	must(t, chromedp.Do(popup, chromedp.Click(chromedp.CSS("#allow"))))
	c.connected(t, app, frame, "github", "GitHub is connected")
}

// TestBrowserEmbeddedFailure is refused by the provider, tries again and succeeds.
func TestBrowserEmbeddedFailure(t *testing.T) {
	t.Parallel()
	c := newEmbedCase(t, named)
	github := c.site.catalogue["github"]
	github.refuse = &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Text: "The code was used before."}
	app, frame := c.open(t, startChromium(t))
	choose(t, frame, "github")
	popup := c.leave(t, app, frame)
	must(t, chromedp.Do(popup, chromedp.Click(chromedp.CSS("#allow"))))
	_, err := chromedp.Run(frame, waitTitle("GitHub didn’t finish the sign-in"))
	must(t, err)
	got := tells(t, app, "error")
	if len(got) != 1 || !strings.Contains(got[0], `"errorType":"connection_validation_failed"`) || strings.Contains(got[0], "used before") {
		t.Errorf("the app was told %q", got)
	}
	github.refuse = nil
	must(t, chromedp.Do(popup, chromedp.Evaluate[chromedp.Void]("setTimeout(close)")))
	must(t, chromedp.Do(frame, chromedp.Click(chromedp.CSS("a.button"))))
	popup = c.leave(t, app, frame)
	must(t, chromedp.Do(popup, chromedp.Click(chromedp.CSS("#allow"))))
	c.connected(t, app, frame, "github", "GitHub is connected")
}

// TestBrowserEmbeddedKey types a key: one that does not fit, one that the provider refuses, and one that is right.
func TestBrowserEmbeddedKey(t *testing.T) {
	t.Parallel()
	c := newEmbedCase(t, named)
	mailer := c.site.catalogue["mailer"]
	app, frame := c.open(t, startChromium(t))
	said := complaints(t, frame)
	choose(t, frame, "mailer")
	send := chromedp.Click(chromedp.CSS("form button[type=submit]"))
	workspace, secret := chromedp.CSS("#field-1"), chromedp.CSS("#field-2")
	must(t, chromedp.Do(frame, chromedp.SendKeys(workspace, "not so"), chromedp.SendKeys(secret, "k-1"), send, chromedp.WaitVisible(chromedp.CSS("#field-1-problem"))))
	mailer.refuse = &broker.ProviderError{Class: broker.GrantLost, Code: "unauthorized"}
	must(t, chromedp.Do(frame, chromedp.SetValue(workspace, "acme"), chromedp.SendKeys(secret, "k-2"), send, chromedp.WaitVisible(chromedp.CSS("form .alert"))))
	got := tells(t, app, "error")
	if len(got) != 1 || !strings.Contains(got[0], `"errorType":"connection_test_failed","errorMessage":"Mailer refused these details. `) {
		t.Errorf("the app was told %q", got)
	}
	mailer.refuse = nil
	must(t, chromedp.Do(frame, chromedp.SendKeys(secret, "k-3"), send))
	c.connected(t, app, frame, "mailer", "Mailer is connected")
	if list := said(); len(list) > 0 && !strings.Contains(strings.Join(list, ""), "autofocus") {
		t.Errorf("the browser complains: %q", list)
	}
}

// TestBrowserEmbeddedClosing closes the frame in each way. What was typed is not thrown away without a question.
func TestBrowserEmbeddedClosing(t *testing.T) {
	t.Parallel()
	browser := startChromium(t)
	escape := chromedp.KeyEvent(kb.Escape)
	for name, act := range map[string]chromedp.Action[chromedp.Void]{
		"cross":    chromedp.Click(chromedp.CSS(".cross")),
		"escape":   escape,
		"backdrop": chromedp.MouseClickXY(3, 3),
	} {
		t.Run(name, func(t *testing.T) {
			c := newEmbedCase(t, named)
			app, frame := c.open(t, browser)
			choose(t, frame, "mailer")
			must(t, chromedp.Do(frame, chromedp.SendKeys(chromedp.CSS("#field-1"), "acme"), act, chromedp.WaitVisible(chromedp.CSS("[data-leave]"))))
			must(t, chromedp.Do(frame, chromedp.Click(chromedp.CSS("[data-stay]")), chromedp.WaitNotVisible(chromedp.CSS("[data-leave]"))))
			must(t, chromedp.Do(frame, act, chromedp.WaitVisible(chromedp.CSS("[data-leave]")), escape, chromedp.WaitNotVisible(chromedp.CSS("[data-leave]"))))
			if got := heard(t, app, "close"); len(got) > 0 {
				t.Fatalf("told %q", got)
			}
			must(t, chromedp.Do(frame, act))
			closing(t, frame, chromedp.Click(chromedp.CSS("[data-go]")))
			tells(t, app, "close")
			must(t, chromedp.Do(app, chromedp.WaitNotPresent(chromedp.CSS("#connect-ui"))))
			frame = c.embed(t, app)
			_, err := chromedp.Run(frame, waitTitle("Connect to Fieldnotes"))
			must(t, err)
			closing(t, frame, act)
			tells(t, app, "close") // nothing was typed, so nothing is asked
		})
	}
}
