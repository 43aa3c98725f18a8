package connect_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/coatcheck/coatcheck/broker"
)

// newLandingCase is a site, with providers of both kinds, whose sign-ins end in another surface. That sends the browser back
// to the app.
func newLandingCase(t *testing.T) (*popupCase, broker.SessionInput) {
	t.Helper()
	c := &popupCase{idp: newIDP(t)}
	c.app = newApp(t, &c.address)
	c.site = newSite(t, options{env: broker.Environment{DisplayName: "Fieldnotes", ReturnURLs: []string{byName(c.app) + "/back"}}})
	c.site.integrate(t, signInProvider("github", "GitHub", byName(c.idp.login)+"/login"))
	c.site.integrate(t, keyProvider("mailer", "Mailer", keyField))
	return c, broker.SessionInput{Landing: "/landed", ReturnURL: byName(c.app) + "/back"}
}

// flowIn reads the flow out of a landing's address.
func flowIn(t *testing.T, location string) broker.FlowID {
	t.Helper()
	id, ok := strings.CutPrefix(location, "/landed?flow=")
	if !ok {
		t.Fatalf("the landing is %q", location)
	}
	return broker.FlowID(id)
}

func TestATypedCredentialEndsAtTheLandingToo(t *testing.T) {
	c, in := newLandingCase(t)
	_, token := c.site.session(t, in)
	v := c.site.visitor(t)
	typed := map[string]string{"credentials.apiKey": "k-1"}
	form := v.fill(v.get(link("/connect/to/mailer", token)), token, typed)

	c.site.catalogue["mailer"].refuse = &broker.ProviderError{Class: broker.GrantLost, Code: "unauthorized"}
	again := v.do(http.MethodPost, "/connect/to/mailer", form, nil)
	answered(t, again, http.StatusBadRequest, "connection_test_failed") // which can be put right
	c.site.catalogue["mailer"].refuse = nil

	done := v.do(http.MethodPost, "/connect/to/mailer", form, nil)
	if done.StatusCode != http.StatusSeeOther {
		t.Fatalf("a client that is no browser gets %s", done.Status)
	}
	f, err := c.site.broker.EndedFlow(t.Context(), flowIn(t, done.Header.Get("Location")))
	if err != nil || f.Status != broker.FlowSucceeded || f.Landing != "/landed" || f.ReturnURL != in.ReturnURL {
		t.Errorf("%+v, %v", f, err)
	}
}

// Chromium would stop at the second redirect after a form (see the package comment), so there is a page between.
func TestBrowsersGoOnToTheLandingByAPage(t *testing.T) {
	c, in := newLandingCase(t)
	_, token := c.site.session(t, in)
	v := c.site.visitor(t)
	done := v.post("/connect/to/mailer", v.fill(v.get(link("/connect/to/mailer", token)), token, map[string]string{"credentials.apiKey": "k-1"}))
	answered(t, done, http.StatusOK, "")
	contains(t, done, `<meta http-equiv="refresh" content="0;url=`+c.site.server.URL+`/landed?flow=`, "On to Fieldnotes")
	lacks(t, done, token, "k-1")

	_, token = c.site.session(t, in)
	state := v.begin("github", token)
	own := http.Header{"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Mode": {"navigate"}}
	denied := v.do(http.MethodGet, callback(state, "error", "access_denied"), nil, own)
	answered(t, denied, http.StatusOK, "")
	contains(t, denied, "/landed?flow=", "On to Fieldnotes")

	_, token = c.site.session(t, in)
	state = v.begin("github", token)
	from := http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}}
	if back := v.do(http.MethodGet, callback(state, "code", "c-1"), nil, from); back.StatusCode != http.StatusFound {
		t.Errorf("from the provider: %s", back.Status)
	}
}

func TestBrowserReachesItsAppByALanding(t *testing.T) {
	t.Parallel()
	browser := startChromium(t)
	for name, try := range map[string]func(t *testing.T, c *popupCase, token string){
		"from a form": func(t *testing.T, c *popupCase, token string) {
			ctx := tab(t, browser)
			must(t, chromedp.Do(ctx, chromedp.Navigate(c.site.server.URL+link("/connect/to/mailer", token)),
				chromedp.SendKeys(chromedp.CSS("#field-1"), "k-1"), chromedp.Click(chromedp.CSS("form button[type=submit]")),
				chromedp.WaitVisible(chromedp.CSS("#open"))))
		},
		"from a provider": func(t *testing.T, c *popupCase, token string) {
			ctx := tab(t, browser)
			must(t, chromedp.Do(ctx, chromedp.Navigate(c.site.server.URL+link("/connect/to/github", token))))
			signInBy(t, ctx)
			must(t, chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS("#open"))))
		},
		"from a provider that posts": func(t *testing.T, c *popupCase, token string) {
			c.idp.post = true
			ctx := tab(t, browser)
			must(t, chromedp.Do(ctx, chromedp.Navigate(c.site.server.URL+link("/connect/to/github", token))))
			signInBy(t, ctx)
			must(t, chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS("#open"))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, in := newLandingCase(t)
			arrived := make(chan *url.URL, 1)
			c.app.Config.Handler = watching(c.app.Config.Handler, arrived)
			_, token := c.site.session(t, in)
			try(t, c, token)
			if at := <-arrived; at.RequestURI() != "/back?succeeded" {
				t.Errorf("the app is reached at %s", at)
			}
		})
	}
}

// watching tells of the first page that the app is asked for.
func watching(next http.Handler, arrived chan<- *url.URL) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case arrived <- r.URL:
		default:
		}
		next.ServeHTTP(w, r)
	})
}
