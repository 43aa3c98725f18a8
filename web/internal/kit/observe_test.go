package kit_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

func handling(f func(w http.ResponseWriter)) kit.Route {
	return kit.Route{Auth: kit.Public, Handle: func(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
		f(w)
		return nil
	}}
}

func TestLogLine(t *testing.T) {
	s := newStand()
	row := handling(func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "12345")
	})
	r := httptest.NewRequest(http.MethodGet, "/connect/"+kit.SessionPrefix+"0123/x?api_secret=hush", nil)
	r.Header.Set("X-Request-Id", "chosen-by-a-stranger")
	r.Header.Set("Authorization", "Bearer hush-hush")
	got := s.do(kit.Surface{}, row, r)
	line := s.line(t)
	if line["msg"] != "request" || line["method"] != "GET" || line["status"] != 201.0 || line["bytes"] != 5.0 ||
		line["path"] != "/connect/nango_connect_session_[masked]/x" {
		t.Errorf("got %v", line)
	}
	if id := got.Header.Get("X-Request-Id"); id == "" || id == "chosen-by-a-stranger" || line["request_id"] != id {
		t.Errorf("the id %q was given out, the log has %v", id, line["request_id"])
	}
	if strings.Contains(s.log.String(), "hush") || strings.Contains(s.log.String(), "0123") {
		t.Errorf("the log tells a secret: %s", s.log.String())
	}
	if n := strings.Count(s.log.String(), "\n"); n != 1 {
		t.Errorf("%d lines for one request", n)
	}
}

func TestLogPath(t *testing.T) {
	for in, want := range map[string]string{
		"/connections/coat_dev_id_secret_sum": "/connections/coat_[masked]",
		"/a\nb":                               "/a\nb", // the log is JSON: it cannot break the line
		"/" + strings.Repeat("a", 1000):       "/" + strings.Repeat("a", 511),
	} {
		if got := kit.LogPath(in); got != want {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

func TestSafeHeaders(t *testing.T) {
	s := newStand()
	row := handling(func(w http.ResponseWriter) { w.Header().Set("Cache-Control", "public") })
	h := s.do(kit.Surface{}, row, httptest.NewRequest(http.MethodGet, "/", nil)).Header
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
		"Strict-Transport-Security": "", "Cache-Control": "public", "Access-Control-Allow-Origin": "",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	s.observer.Secure = true
	h = s.do(kit.Surface{}, handling(func(http.ResponseWriter) {}), httptest.NewRequest(http.MethodGet, "/", nil)).Header
	if h.Get("Strict-Transport-Security") == "" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("got %v", h)
	}
}

// A failure does not keep what the handler prepared for success.
func TestFailuresAreNotCached(t *testing.T) {
	row := kit.Route{Auth: kit.Public, Handle: func(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
		w.Header().Set("Cache-Control", "public")
		return broker.ErrNotFound
	}}
	got := newStand().do(kit.Surface{}, row, httptest.NewRequest(http.MethodGet, "/", nil))
	if got.StatusCode != http.StatusNotFound || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %v", got.StatusCode, got.Header)
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	s := newStand()
	got := s.do(kit.Surface{}, handling(func(http.ResponseWriter) { panic("token-1234") }), httptest.NewRequest(http.MethodGet, "/", nil))
	body, _ := io.ReadAll(got.Body)
	if got.StatusCode != http.StatusInternalServerError || got.Header.Get(kit.HeaderErrorCode) != "internal" || !strings.Contains(string(body), `"internal"`) {
		t.Errorf("got %d %s", got.StatusCode, body)
	}
	line := s.line(t)
	if line["level"] != "ERROR" || !strings.Contains(line["stack"].(string), "observe_test.go") {
		t.Errorf("the log has %v", line)
	}
	if strings.Contains(s.log.String()+string(body), "token-1234") {
		t.Error("what panicked is told")
	}
}

// A panic outside of any row must be an answer too.
func TestPanicOutsideOfRows(t *testing.T) {
	w := httptest.NewRecorder()
	newStand().observer.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("x") })).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), `"internal"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// A part of an answer must not be taken for the whole: the connection is cut, and the line is logged all the same.
func TestPanicAmidAnAnswerCutsTheConnection(t *testing.T) {
	for name, p := range map[string]any{"ours": "x", "the handler's own wish": http.ErrAbortHandler} {
		t.Run(name, func(t *testing.T) {
			s := newStand()
			row := handling(func(w http.ResponseWriter) {
				w.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(w, "part")
				panic(p)
			})
			defer func() {
				if got := recover(); !errors.Is(got.(error), http.ErrAbortHandler) {
					t.Errorf("got the panic %v", got)
				}
				if line := s.line(t); line["bytes"] != 4.0 {
					t.Errorf("the log has %v", line)
				}
			}()
			s.do(kit.Surface{}, row, httptest.NewRequest(http.MethodGet, "/", nil))
			t.Error("the panic was swallowed")
		})
	}
}
