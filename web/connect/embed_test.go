package connect_test

import (
	"context"
	"encoding/json"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/coatcheck/coatcheck/broker"
)

// hostPage is an app's page that embeds the Connect UI as the Nango client's openConnectUI does: a frame without a token,
// which asks for it by a message. It writes down what it is told.
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
  addEventListener("message", (e) => {
    if (e.origin !== at.origin || !e.data.type) return;
    const li = document.createElement("li");
    li.textContent = JSON.stringify(e.data);
    li.dataset.type = e.data.type;
    document.getElementById("told").append(li);
    if (e.data.type === "ready") frame.contentWindow.postMessage({type: "session_token", sessionToken: {{.Token}}}, "*");
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

// open clicks the app's button and gives the app's page and the frame in it.
func (c *embedCase) open(t *testing.T, browser context.Context) (app, frame context.Context) {
	t.Helper()
	app = tab(t, browser)
	must(t, chromedp.Do(app, chromedp.Navigate(byName(c.app)), chromedp.Click(chromedp.CSS("#open"))))
	return app, attach(t, app, "iframe", c.site.server.URL)
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

func TestBrowserEmbedProbe(t *testing.T) {
	c := newEmbedCase(t, named)
	app, frame := c.open(t, startChromium(t))
	said := complaints(t, frame)
	_, err := chromedp.Run(frame, waitTitle("Connect to Fieldnotes"))
	t.Log(err, said())
	shoot(t, app, "probe")
	t.Log(toldTo(t, app))
	_ = json.Marshal
	_ = url.Parse
	_ = strings.Count
}
