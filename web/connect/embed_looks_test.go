package connect_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/coatcheck/coatcheck/broker"
)

// embedScreens are the windows of apps that an embedded page must fit into.
var embedScreens = []struct {
	name          string
	width, height int64
}{{"narrow", 320, 568}, {"phone", 375, 667}, {"desktop", 1280, 800}}

// fits looks at the frame in every window: nothing may stick out sideways, and the dialog stays on the screen.
func fits(t *testing.T, app, frame context.Context, name string) {
	t.Helper()
	for _, s := range embedScreens {
		must(t, chromedp.Do(app, screen(s.width, s.height, "light")))
		var got string
		until(t, func() bool {
			var err error
			got, err = chromedp.Run(frame, chromedp.Evaluate[string](`(() => {
				const box = document.querySelector(".dialog").getBoundingClientRect();
				const main = document.querySelector("main");
				return [innerWidth, box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight,
					main.scrollWidth <= main.clientWidth].join(" ");
			})()`))
			must(t, err)
			return got == strconv.FormatInt(s.width, 10)+" true true"
		})
		drawn(t, frame)
		shootWindow(t, app, "embed-"+name+"-"+s.name)
	}
}

// drawn waits until the frame has been drawn in its size.
func drawn(t *testing.T, frame context.Context) {
	t.Helper()
	_, err := chromedp.Run(frame, chromedp.Poll[bool](`new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))`))
	must(t, err)
}

// TestBrowserEmbeddedPages goes through the pages, in each theme and in two languages.
func TestBrowserEmbeddedPages(t *testing.T) {
	t.Parallel()
	browser := startChromium(t)
	for theme, lang := range map[string]string{"light": "en", "dark": "de"} {
		t.Run(theme, func(t *testing.T) {
			c := newEmbedCase(t, named)
			c.query["theme"], c.query["lang"], c.query["detectClosedAuthWindow"] = theme, lang, "true"
			github := c.site.catalogue["github"]
			github.facts.DefaultScopes = []string{"repo", "read:user", "read:org"}
			github.refuse = &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Text: "The code was used before."}
			app, frame := c.open(t, browser)
			must(t, chromedp.Do(frame, chromedp.WaitVisible(chromedp.CSS(".choices"))))
			fits(t, app, frame, "list-"+theme)

			choose(t, frame, "mailer")
			must(t, chromedp.Do(frame, chromedp.SendKeys(chromedp.CSS("#field-1"), "acme")))
			fits(t, app, frame, "key-"+theme)
			must(t, chromedp.Do(frame, chromedp.Click(chromedp.CSS(".cross")), chromedp.WaitVisible(chromedp.CSS("[data-leave]"))))
			fits(t, app, frame, "leave-"+theme)
			must(t, chromedp.Do(frame, chromedp.Click(chromedp.CSS("[data-stay]")), chromedp.Click(chromedp.CSS("a.back"))))

			choose(t, frame, "github")
			fits(t, app, frame, "sign-in-"+theme)
			must(t, chromedp.Do(frame, chromedp.Evaluate[chromedp.Void]("document.querySelector('[data-was-blocked]').hidden = false")))
			fits(t, app, frame, "blocked-"+theme)
			must(t, chromedp.Do(frame, chromedp.Evaluate[chromedp.Void]("document.querySelector('[data-was-blocked]').hidden = true")))
			popup := c.leave(t, app, frame)
			fits(t, app, frame, "away-"+theme)
			must(t, chromedp.Do(popup, chromedp.Evaluate[chromedp.Void]("setTimeout(close)")))
			must(t, chromedp.Do(frame, chromedp.WaitVisible(chromedp.CSS("[data-was-closed]"))))
			fits(t, app, frame, "closed-"+theme)
			must(t, chromedp.Do(frame, chromedp.Click(chromedp.CSS("[data-again]"))))
			popup = attach(t, app, "page", byName(c.idp.consent))
			must(t, chromedp.Do(popup, chromedp.Click(chromedp.CSS("#allow"))))
			must(t, chromedp.Do(frame, chromedp.WaitVisible(chromedp.CSS(".mark.bad"))))
			fits(t, app, frame, "failure-"+theme)

			github.refuse = nil
			must(t, chromedp.Do(popup, chromedp.Evaluate[chromedp.Void]("setTimeout(close)")))
			must(t, chromedp.Do(frame, chromedp.Click(chromedp.CSS("a.button"))))
			popup = c.leave(t, app, frame)
			must(t, chromedp.Do(popup, chromedp.Click(chromedp.CSS("#allow"))))
			must(t, chromedp.Do(frame, chromedp.WaitVisible(chromedp.CSS(".mark:not(.bad)"))))
			fits(t, app, frame, "done-"+theme)
			for _, want := range []string{
				"document.documentElement.lang === '" + lang + "'", "document.documentElement.dataset.theme === '" + theme + "'",
				// Another scheme than the app's page has would hide that page behind an opaque background.
				"getComputedStyle(document.documentElement).colorScheme === 'normal'",
				"getComputedStyle(document.querySelector('.dialog')).colorScheme === '" + theme + "'",
			} {
				if ok, err := chromedp.Run(frame, chromedp.Evaluate[bool](want)); err != nil || !ok {
					t.Errorf("not %s: %v", want, err)
				}
			}
		})
	}
}
