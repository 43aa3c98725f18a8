package connect_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestBrowserKeepsNoForeignCookies makes sure that the tests of embedded pages run as most people's browsers do: with the
// cookies of a frame blocked where the page around is of another site. The frame of the same site shows that the cookie
// itself is sound.
func TestBrowserKeepsNoForeignCookies(t *testing.T) {
	t.Parallel()
	browser := startChromium(t)
	sent := make(chan bool, 1)
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/set":
			http.SetCookie(w, &http.Cookie{Name: "probe", Value: "1", Path: "/", Secure: true, SameSite: http.SameSiteNoneMode})
			_, _ = w.Write([]byte(`<!doctype html><meta http-equiv="refresh" content="0;url=/read">`))
		case "/read":
			_, err := r.Cookie("probe")
			sent <- err == nil
		}
	}))
	t.Cleanup(inner.Close)
	outer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><iframe src="` + inner.URL + `/set"></iframe>`))
	}))
	t.Cleanup(outer.Close)
	for address, want := range map[string]bool{outer.URL: true, byName(outer): false} {
		must(t, chromedp.Do(tab(t, browser), chromedp.Navigate(address)))
		if got := <-sent; got != want {
			t.Errorf("inside %s, the cookie of %s is sent: %t", address, inner.URL, got)
		}
	}
}
