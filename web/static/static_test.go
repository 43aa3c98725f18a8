package static

import (
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

func serve(t *testing.T, a *Assets, name string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, prefix+name, nil)
	r.SetPathValue("file", name)
	w := httptest.NewRecorder()
	return w, a.Surface().Routes[0].Handle(w, r, broker.Actor{})
}

func TestFilesAreKeptForEver(t *testing.T) {
	a := New()
	for name, kind := range map[string]string{"connect.css": "text/css; charset=utf-8", "connect.js": "text/javascript; charset=utf-8", "embed.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"} {
		address := a.Path(name)
		if !regexp.MustCompile(`^/static/[a-z]+-[0-9a-f]{16}\.[a-z]+$`).MatchString(address) {
			t.Errorf("%s is at %s", name, address)
		}
		w, err := serve(t, a, path.Base(address))
		if err != nil {
			t.Fatal(err)
		}
		h := w.Header()
		if w.Code != http.StatusOK || w.Body.Len() == 0 || h.Get("Content-Type") != kind || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: %d %v", name, w.Code, h)
		}
	}
	if a.Path("connect.css") != New().Path("connect.css") {
		t.Error("the same file has two addresses")
	}
}

func TestOtherFilesDoNotExist(t *testing.T) {
	a := New()
	for _, name := range []string{"connect.css", "connect-0000000000000000.css", "static.go", "..", ""} {
		if _, err := serve(t, a, name); broker.AsError(err).Code != "not_found" {
			t.Errorf("%q: %v", name, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a page may name a file that does not exist")
		}
	}()
	a.Path("missing.css")
}

// TestNothingIsLoadedFromElsewhere reads the files for addresses of other servers.
func TestNothingIsLoadedFromElsewhere(t *testing.T) {
	for name, file := range New().served {
		text := strings.ReplaceAll(string(file.body), "http://www.w3.org/2000/svg", "")
		for _, bad := range []string{"http:", "https:", "url(", "@import", "eval(", "innerHTML", "document.write"} {
			// The script holds one pattern of addresses of this machine.
			if strings.Contains(strings.ReplaceAll(text, `/^https?:`, ""), bad) {
				t.Errorf("%s holds %q", name, bad)
			}
		}
	}
}

var (
	variable = regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`)
	hue      = regexp.MustCompile(`\.hue-\d+ \{ background: (#[0-9a-f]{6}); \}`)
)

// schemes reads the colours of the light and the dark scheme.
func schemes(t *testing.T) map[string]map[string]string {
	t.Helper()
	css, err := files.ReadFile("connect.css")
	if err != nil {
		t.Fatal(err)
	}
	light, dark, ok := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("there is no dark scheme")
	}
	dark, _, _ = strings.Cut(dark, "\n}\n")
	_, chosen, ok := strings.Cut(string(css), `:root[data-theme="dark"]`)
	if !ok {
		t.Fatal("the dark scheme cannot be chosen")
	}
	chosen, _, _ = strings.Cut(chosen, "\n}\n")
	out := map[string]map[string]string{"light": {}, "dark": {}, "chosen dark": {}}
	for name, text := range map[string]string{"light": light, "dark": dark, "chosen dark": chosen} {
		for _, m := range variable.FindAllStringSubmatch(text, -1) {
			out[name][m[1]] = m[2]
		}
	}
	return out
}

func TestDarkIsDarkHoweverItIsChosen(t *testing.T) {
	have := schemes(t)
	if len(have["dark"]) != len(have["light"]) || !maps.Equal(have["dark"], have["chosen dark"]) {
		t.Errorf("the schemes differ: %v", have)
	}
}

// TestColoursCanBeRead checks the contrasts that WCAG 2.2 AA asks for: 4.5 for text, 3 for what shows where a control is.
func TestColoursCanBeRead(t *testing.T) {
	pairs := []struct {
		front, back string
		least       float64
	}{
		{"ink", "card", 4.5},
		{"ink", "fill", 4.5},
		{"ink", "page", 4.5},
		{"soft", "card", 4.5},
		{"soft", "fill", 4.5},
		{"soft", "page", 4.5},
		{"accent", "card", 4.5},
		{"accent", "fill", 4.5},
		{"accent-strong", "card", 4.5},
		{"on-accent", "accent", 4.5},
		{"on-accent", "accent-strong", 4.5},
		{"bad", "card", 4.5},
		{"bad", "bad-fill", 4.5},
		{"good", "good-fill", 4.5},
		{"edge", "card", 3},
		{"focus", "card", 3},
		{"focus", "page", 3},
	}
	for name, colours := range schemes(t) {
		for _, p := range pairs {
			front, back := colours[p.front], colours[p.back]
			if front == "" || back == "" {
				t.Errorf("%s: no colour for %s on %s", name, p.front, p.back)
				continue
			}
			if c := contrast(t, front, back); c < p.least {
				t.Errorf("%s: %s on %s has contrast %.2f, needs %.1f", name, p.front, p.back, c, p.least)
			}
		}
	}
	css, err := files.ReadFile("connect.css")
	if err != nil {
		t.Fatal(err)
	}
	tiles := hue.FindAllStringSubmatch(string(css), -1)
	if len(tiles) != 12 {
		t.Errorf("%d colours of tiles", len(tiles))
	}
	for _, m := range tiles {
		if c := contrast(t, "#ffffff", m[1]); c < 4.5 {
			t.Errorf("white on %s has contrast %.2f", m[1], c)
		}
	}
}

// contrast is that of WCAG 2.2: from 1, the same, to 21, black on white.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	rgb, err := strconv.ParseUint(colour[1:], 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	channel := func(shift int) float64 {
		c := float64(rgb>>shift&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*channel(16) + 0.7152*channel(8) + 0.0722*channel(0)
}
