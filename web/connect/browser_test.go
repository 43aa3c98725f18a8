package connect_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// shots is for people who want to see the pages: go test ./web/connect -run Browser -shots DIR
var shots = flag.String("shots", "", "directory for screenshots")

// patience is how long a browser test may take. It is a bound, not a wait.
const patience = 3 * time.Minute

// chromium is one browser for all tests. Each has a tab with cookies of its own.
var chromium = struct {
	once sync.Once
	ctx  context.Context
	stop []context.CancelFunc
	err  error
}{}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	for _, stop := range slices.Backward(chromium.stop) {
		stop()
	}
	os.Exit(code)
}

// startChromium gives the context in which [tab] opens tabs. A test without a browser is skipped, unless it runs where one
// must be.
func startChromium(t *testing.T) context.Context {
	t.Helper()
	path := findChromium()
	if path == "" {
		if _, ci := os.LookupEnv("CI"); ci {
			t.Fatal("no Chromium to test with")
		}
		t.Skip("no Chromium to test with")
	}
	chromium.once.Do(func() {
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true),
			chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-popup-blocking", false),
			// Frames of other sites keep no cookies.
			chromedp.Flag("test-third-party-cookie-phaseout", true))
		// Not of the test: the browser outlives it.
		allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, stop := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
		chromium.stop = []context.CancelFunc{stopAllocator, stop}
		chromium.ctx, chromium.err = ctx, chromedp.Do(ctx)
	})
	must(t, chromium.err)
	return chromium.ctx
}

func findChromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome", "headless-shell"} {
		if found, err := exec.LookPath(name); err == nil {
			return found
		}
	}
	return ""
}

// tab opens an empty tab of its own, with its own cookies.
func tab(t *testing.T, browser context.Context) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(browser, patience)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	must(t, chromedp.Do(ctx))
	return ctx
}

// complaints collects what the browser has to say about the pages of a tab: blocked by a policy, failed in a script. That
// a page has an error status is none of these.
func complaints(t *testing.T, ctx context.Context) func() []string {
	t.Helper()
	var mu sync.Mutex
	var list []string
	must(t, chromedp.Listen(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch ev := ev.(type) {
		case *log.EventEntryAdded:
			if ev.Entry.Source != "network" {
				list = append(list, ev.Entry.Text)
			}
		case *runtime.EventExceptionThrown:
			list = append(list, ev.ExceptionDetails.Text)
		}
	}))
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

// screen sets the size of the window and the colours that the user prefers.
func screen(width, height int64, scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(
		chromedp.EmulateViewport(width, height),
		chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			return err
		}),
	)
}

// shoot keeps a picture of the whole page, if somebody wants one.
func shoot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	if *shots == "" {
		return
	}
	keep(t, ctx, name, chromedp.FullScreenshot(100))
}

// shootWindow keeps a picture of what the window shows.
func shootWindow(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	if *shots != "" {
		keep(t, ctx, name, chromedp.CaptureScreenshot())
	}
}

func keep(t *testing.T, ctx context.Context, name string, take chromedp.Action[[]byte]) {
	t.Helper()
	picture, err := chromedp.Run(ctx, take)
	must(t, err)
	must(t, os.MkdirAll(*shots, 0o755))
	must(t, os.WriteFile(filepath.Join(*shots, name+".png"), picture, 0o644))
}
