package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// The README's promise, in a real browser: open the demo's page, click Connect, go through the popup and the provider's
// pages, and call the provider's API with a token that the page never sees.
func TestDemoInABrowser(t *testing.T) {
	app := startDemo(t)
	ctx := openBrowser(t)
	do(t, ctx, chromedp.Navigate(app), chromedp.WaitReady(chromedp.CSS("#list li")))
	popup := chromedp.WaitNewTarget(ctx, func(i *target.Info) bool { return i.Type == "page" })
	do(t, ctx, chromedp.Click(chromedp.CSS("#connect")))
	in, cancel := chromedp.NewContext(ctx, chromedp.WithTargetID(<-popup))
	defer cancel()

	do(t, in, chromedp.WaitReady(chromedp.CSS("form button[type=submit]")))
	if text := read(t, in, "document.body.innerText"); !strings.Contains(text, "Sandbox") || !strings.Contains(text, "The demo app") || !strings.Contains(text, "A visitor of the demo") {
		t.Fatalf("the page does not say who asks for what:\n%s", text)
	}
	if styled := read(t, in, "getComputedStyle(document.body).fontFamily"); !strings.Contains(styled, "system-ui") {
		t.Fatalf("the page has no style sheet; its font is %s", styled)
	}
	picture(t, in, "connect-ui.png")
	do(t, in, chromedp.Click(chromedp.CSS("form button[type=submit]")))
	press(t, in, "Grace")
	press(t, in, "Allow")
	waitUntil(t, func() bool {
		return strings.Contains(read(t, ctx, "document.getElementById('status').textContent"), "Connected")
	})
	waitUntil(t, func() bool { return read(t, ctx, "String(document.querySelectorAll('#list li').length)") == "2" })

	do(t, ctx, chromedp.Click(chromedp.CSS("#list li:first-child button")))
	waitUntil(t, func() bool {
		return strings.Contains(read(t, ctx, "document.getElementById('answer').textContent"), "coats")
	})
	picture(t, ctx, "demo.png")
}

var demoAddress = regexp.MustCompile(`Open +(http://localhost:\d+)`)

// A demo that is kept goes on at whatever port is free, although that makes its public URL another one.
func TestADemoThatIsKeptRenewsAtAnotherPort(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for _, addr := range []string{providertest.FreeAddr(t), providertest.FreeAddr(t)} {
		t.Run(addr, func(t *testing.T) {
			runDemo(t, "--data", dir, "--listen", addr)
			ready, _, err := fetch(t.Context(), new(http.Client), http.MethodGet, "http://"+addr+"/ready", nil)
			if err != nil || strings.TrimSpace(ready) != `{"result":"ok"}` {
				t.Errorf("got %s, %v", ready, err)
			}
		})
	}
}

// startDemo runs the demo in a process of its own and gives the address of its page.
func startDemo(t *testing.T) string {
	t.Helper()
	return demoAddress.FindStringSubmatch(runDemo(t, "--listen", "127.0.0.1:0"))[1]
}

// runDemo runs the demo in a process of its own and gives what it says.
func runDemo(t *testing.T, args ...string) string {
	t.Helper()
	bin, err := exec.LookPath("coatcheck")
	if err != nil {
		t.Fatal(err)
	}
	var out lockedBuffer
	cmd := exec.Command(bin, append([]string{"demo"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the demo ended with %v:\n%s", err, out.String())
		}
	})
	waitUntil(t, func() bool { return strings.Contains(out.String(), "The broker is on") })
	return out.String()
}

// openBrowser starts a Chromium that knows nothing of earlier ones.
func openBrowser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test needs Chromium; on Debian and Ubuntu `make test` installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 90*time.Second)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(cancel)
	do(t, ctx)
	return ctx
}

func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// read evaluates a script that gives a text.
func read(t *testing.T, ctx context.Context, script string) string {
	t.Helper()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](script))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// press clicks the button whose text holds a word, once it is there.
func press(t *testing.T, ctx context.Context, word string) {
	t.Helper()
	find := "[...document.querySelectorAll('button')].find((b) => b.textContent.includes('" + word + "'))"
	waitUntil(t, func() bool { return read(t, ctx, "String(!!"+find+")") == "true" })
	do(t, ctx, chromedp.Evaluate[chromedp.Void](find+".click()"))
}

// picture keeps a screenshot where COATCHECK_SHOTS says; the README's were made so.
func picture(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("COATCHECK_SHOTS")
	if dir == "" {
		return
	}
	raw, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// signIn goes through the pages of the independent server: who it is, and what may be done.
func signIn(t *testing.T, ctx context.Context) {
	t.Helper()
	for _, field := range []string{"account", "password"} {
		selector := "input[name=" + field + "]"
		do(t, ctx, chromedp.WaitReady(chromedp.CSS(selector)), chromedp.SendKeys(chromedp.CSS(selector), "ada"))
	}
	const decide = "document.querySelector('button[name=decision][value=continue]')"
	do(t, ctx, chromedp.Evaluate[chromedp.Void](decide+".click()"))
	waitUntil(t, func() bool {
		return read(t, ctx, "String(!document.querySelector('input[name=password]') && !!"+decide+" || !location.pathname.startsWith('/interaction'))") == "true"
	})
	do(t, ctx, chromedp.Evaluate[chromedp.Void]("("+decide+"||{click(){}}).click()"))
}
