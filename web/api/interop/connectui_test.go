package interop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// openUI opens the Connect UI by the client, and gives its frame once the token has come.
func (p *page) openUI(token, more string) context.Context {
	p.t.Helper()
	p.click(fmt.Sprintf(`const nango = new window.Nango();
		nango.openConnectUI({baseURL: %q, apiURL: %q, sessionToken: %q, onEvent: (e) => { window.events.push(e); } %s});`,
		p.broker+"/connect", p.broker, token, more))
	var id target.ID
	p.until(func() bool {
		list, err := chromedp.Targets(p.ctx)
		must(p.t, err)
		for _, i := range list {
			if i.Type == "iframe" && strings.Contains(i.URL, "session_token=") {
				id = i.TargetID
			}
		}
		return id != ""
	})
	frame, cancel := chromedp.NewContext(p.ctx, chromedp.WithTargetID(id))
	p.t.Cleanup(cancel)
	must(p.t, chromedp.Do(frame))
	return frame
}

// event is what the client hands to onEvent.
type event struct {
	Type    string `json:"type"`
	Payload struct {
		Key        string `json:"providerConfigKey"`
		Connection string `json:"connectionId"`
		Type       string `json:"errorType"`
		Message    string `json:"errorMessage"`
	} `json:"payload"`
}

// event waits for the first event of a type.
func (p *page) event(kind string) event {
	p.t.Helper()
	var found event
	p.until(func() bool {
		var list []event
		must(p.t, json.Unmarshal([]byte(p.eval(`JSON.stringify(window.events)`)), &list))
		for _, e := range list {
			if e.Type == kind {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// finish presses Done, and waits for the client to take the frame away.
func (p *page) finish(frame context.Context) {
	p.t.Helper()
	must(p.t, chromedp.Do(frame, chromedp.WaitVisible(chromedp.CSS("button.button[data-dismiss]"))))
	// The frame may be gone before the browser has told us that it was clicked.
	_ = chromedp.Do(frame, chromedp.Click(chromedp.CSS("button.button[data-dismiss]")))
	p.event("close")
	p.until(func() bool { return p.eval(`String(!document.getElementById("connect-ui"))`) == "true" })
}

func TestOpenConnectUIByOAuth2(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	frame := p.openUI(p.session("acme"), `, lang: "fr-CA", themeOverride: "dark", detectClosedAuthWindow: true`)
	if got := evaluate(t, frame, `document.documentElement.lang + " " + document.documentElement.dataset.theme`); got != "fr dark" {
		t.Errorf("the frame is %s", got)
	}
	opened := chromedp.WaitNewTarget(frame, func(i *target.Info) bool { return i.Type == "page" })
	must(t, chromedp.Do(frame, chromedp.Click(chromedp.CSS("form button[type=submit]"))))
	popup, cancel := chromedp.NewContext(p.ctx, chromedp.WithTargetID(<-opened))
	t.Cleanup(cancel)
	must(t, chromedp.Do(popup))
	p.signIn(popup)
	got := p.event("connect").Payload
	if got.Key != "acme" || got.Connection == "" || p.connection("acme", got.Connection)["access_token"] == "" {
		t.Errorf("it came to %+v", got)
	}
	p.finish(frame)
}

func TestOpenConnectUIByCredentials(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	frame := p.openUI(p.session("key-api", "basic-api"), "")
	send := func(key string) {
		must(t, chromedp.Do(frame, chromedp.SendKeys(chromedp.CSS("input[type=password]"), key), chromedp.Click(chromedp.CSS("form button[type=submit]"))))
	}
	must(t, chromedp.Do(frame, chromedp.Click(chromedp.CSS("a.choice[href^='/connect/to/key-api?']"))))
	send("a-wrong-key")
	if got := p.event("error").Payload; got.Type != "connection_test_failed" || !strings.Contains(got.Message, " refused these details. ") {
		t.Errorf("a wrong key is told as %+v", got)
	}
	send(goodKey)
	got := p.event("connect").Payload
	if got.Key != "key-api" || p.connection("key-api", got.Connection)["apiKey"] != goodKey {
		t.Errorf("it came to %+v", got)
	}
	p.finish(frame)
}

// Somebody who thinks better of it.
func TestOpenConnectUIIsClosed(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	frame := p.openUI(p.session("acme"), "")
	must(t, chromedp.Do(frame, chromedp.WaitVisible(chromedp.CSS("form button[type=submit]"))))
	// The frame may be gone before the browser has told us that the key was pressed.
	_ = chromedp.Do(frame, chromedp.KeyEvent(kb.Escape))
	p.event("close")
	p.until(func() bool { return p.eval(`String(!document.getElementById("connect-ui"))`) == "true" })
}
