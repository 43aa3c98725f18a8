package web

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// shown answers with what the handler sees.
func shown(names ...string) func(http.ResponseWriter, *http.Request, broker.Actor) error {
	return func(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
		var out strings.Builder
		for _, n := range names {
			out.WriteString(n + "=" + r.PathValue(n) + " ")
		}
		kit.WriteBody(w, http.StatusOK, "text/plain", []byte(out.String()+r.URL.RawQuery))
		return nil
	}
}

func stranger(*http.Request) (broker.Actor, error) { return broker.Actor{}, broker.ErrUnauthorized }

// site is a router without a broker, with an observer and a proxy around it, as New builds them.
func site(log io.Writer) http.Handler {
	gate := &kit.Gate{
		Limiter: kit.NewLimiter(0, 0, time.Now),
		CORS:    &kit.CORS{Allowed: func(*http.Request, broker.Actor, string) (bool, bool, error) { return true, false, nil }},
	}
	surface := kit.Surface{Name: "test", JSON: true, Routes: []kit.Route{
		{Method: http.MethodGet, Path: "/things", Auth: kit.Public, Handle: shown()},
		{Method: http.MethodGet, Path: "/things/{id}", Auth: kit.Public, Handle: shown("id")},
		{Method: http.MethodPatch, Path: "/things/{id}", Auth: kit.Public, MaxBody: 10, Handle: shown("id")},
		{Method: http.MethodPatch, Path: "/things/special", Auth: kit.Public, MaxBody: 10, Handle: shown()},
		{Method: http.MethodPost, Path: "/things/special", Auth: kit.Public, MaxBody: 10, Handle: shown()},
		{Method: http.MethodDelete, Path: "/things/{id}", Auth: kit.Auth{Name: "key", Check: stranger}, Handle: shown("id")},
		{Method: http.MethodGet, Path: "/pages/", Auth: kit.Auth{Name: "session", Check: stranger, Pages: true}, Handle: shown()},
	}}
	observer := &kit.Observer{Logger: slog.New(slog.NewJSONHandler(log, nil))}
	proxy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, "proxied "+r.Method+" "+r.RequestURI+string(body))
	})
	return &dispatcher{proxy: proxy, rest: observer.Wrap(newRouter(gate, []kit.Surface{surface}))}
}

func TestRouting(t *testing.T) {
	h := site(io.Discard)
	for _, c := range []struct {
		method, target string
		status         int
		want           string // the body, or the code of a refusal
	}{
		{"GET", "/things?a=1", 200, "a=1"},
		{"GET", "/THINGS/", 200, ""},
		{"GET", "/things/Ab%2Fc%20d", 200, "id=Ab/c d "},
		{"GET", "/things/%25", 200, "id=% "},
		{"GET", "/things/special", 200, "id=special "},
		{"HEAD", "/things/a", 200, "id=a "},
		{"POST", "/Things/Special/", 200, ""},
		{"PATCH", "/things/Special", 200, ""}, // though the row with an id comes first
		{"PATCH", "/things/specials", 200, "id=specials "},
		{"POST", "/things", 405, "method_not_allowed"},
		{"TRACE", "/things", 405, "method_not_allowed"},
		{"QUERY", "/things", 405, "method_not_allowed"},
		{"DELETE", "/things/a", 401, "unauthorized"},
		{"GET", "/nothing", 404, "not_found"},
		{"GET", "/things//", 404, "not_found"},
		{"GET", "//things", 404, "not_found"},
		{"GET", "/things/../things", 404, "not_found"},
		{"GET", "/pages", 401, "unauthorized"},
		{"GET", "/proxyx", 404, "not_found"},
		{"GET", "/proxy%2Fx", 404, "not_found"},
		{"TRACE", "/proxy/x", 404, "not_found"},
		{"GET", "/proxy", 200, "proxied GET /proxy"},
		{"GET", "/proxy?x=1", 200, "proxied GET /proxy?x=1"},
		{"POST", "/PROXY/a//b/../%2e?x=%2f", 200, "proxied POST /PROXY/a//b/../%2e?x=%2f"},
		{"OPTIONS", "/proxy/x", 200, "proxied OPTIONS /proxy/x"},
	} {
		r := httptest.NewRequest(c.method, c.target, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		got := w.Body.String()
		if c.status != http.StatusOK {
			var body struct{ Error struct{ Code string } }
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Errorf("%s %s: not JSON: %s", c.method, c.target, got)
			}
			got = body.Error.Code
			if w.Header().Get(kit.HeaderErrorCode) != got {
				t.Errorf("%s %s: X-Error-Code is %q", c.method, c.target, w.Header().Get(kit.HeaderErrorCode))
			}
		}
		if w.Code != c.status || got != c.want {
			t.Errorf("%s %s: got %d %q, want %d %q", c.method, c.target, w.Code, got, c.status, c.want)
		}
		if allow := w.Header().Get("Allow"); (c.status == http.StatusMethodNotAllowed) != (allow != "") {
			t.Errorf("%s %s: Allow is %q", c.method, c.target, allow)
		}
	}
}

// A wrong method is told in the words of the API whose path it is; where pages or several surfaces have it, in the router's.
func TestAWrongMethodIsToldAsItsAPIDoes(t *testing.T) {
	said := func(word string) func(http.ResponseWriter, *http.Request, error) {
		return func(w http.ResponseWriter, _ *http.Request, err error) {
			kit.WriteBody(w, kit.Status(broker.AsError(err).Kind), "text/plain", []byte(word))
		}
	}
	row := func(method, path string) kit.Route {
		return kit.Route{Method: method, Path: path, Auth: kit.Public, Handle: shown()}
	}
	h := newRouter(&kit.Gate{Limiter: kit.NewLimiter(0, 0, time.Now)}, []kit.Surface{
		{Name: "one", JSON: true, Fail: said("one"), Routes: []kit.Route{row("GET", "/one"), row("POST", "/one/"), row("GET", "/both")}},
		{Name: "two", JSON: true, Fail: said("two"), Routes: []kit.Route{row("POST", "/both")}},
		{Name: "pages", Fail: said("pages"), Routes: []kit.Route{row("GET", "/page")}},
	})
	for path, want := range map[string]string{"/one": "one", "/both": `"code":"method_not_allowed"`, "/page": `"code":"method_not_allowed"`} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodDelete, path, strings.NewReader("a=b")))
		if w.Code != http.StatusMethodNotAllowed || !strings.Contains(w.Body.String(), want) || w.Header().Get("Allow") == "" {
			t.Errorf("%s: got %d %s", path, w.Code, w.Body)
		}
	}
}

// What is logged is the path as it was sent.
func TestLogHasThePathAsSent(t *testing.T) {
	var log bytes.Buffer
	site(&log).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/Things/A?token=x", nil))
	if !strings.Contains(log.String(), `"path":"/Things/A"`) || strings.Contains(log.String(), "token") {
		t.Errorf("got %s", log.String())
	}
}

func TestOptions(t *testing.T) {
	h := site(io.Discard)
	for target, want := range map[string]struct {
		status        int
		allow, origin string
	}{
		"/things/special": {204, "DELETE, GET, HEAD, OPTIONS, PATCH, POST", ""},
		"/pages/":         {204, "GET, HEAD, OPTIONS", "https://app.test"},
		"/nothing":        {404, "", ""},
	} {
		r := httptest.NewRequest(http.MethodOptions, target, nil)
		r.Header.Set("Origin", "https://app.test")
		r.Header.Set("Access-Control-Request-Method", http.MethodGet)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want.status || w.Header().Get("Allow") != want.allow || w.Header().Get("Access-Control-Allow-Origin") != want.origin {
			t.Errorf("%s: got %d %v", target, w.Code, w.Header())
		}
	}
}

func TestStopping(t *testing.T) {
	c := make(chan struct{})
	if stopping(nil) || stopping(c) {
		t.Error("stopping before the end")
	}
	close(c)
	if !stopping(c) {
		t.Error("not stopping at the end")
	}
}
