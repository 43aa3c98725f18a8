package kit_test

import (
	"bytes"
	"encoding/json"
	"errors"
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

// stand is a gate with an observer around it, as package web builds them.
type stand struct {
	gate     *kit.Gate
	observer *kit.Observer
	log      bytes.Buffer
}

func newStand() *stand {
	s := &stand{}
	s.gate = &kit.Gate{
		Limiter: kit.NewLimiter(0, 0, time.Now),
		CORS: &kit.CORS{Allowed: func(_ *http.Request, who broker.Actor, origin string) (bool, bool, error) {
			return origin == "https://app.test" || who.Kind == broker.Anonymous && origin == "https://other.test", false, nil
		}},
	}
	s.observer = &kit.Observer{Logger: slog.New(slog.NewJSONHandler(&s.log, nil))}
	return s
}

func (s *stand) do(surface kit.Surface, row kit.Route, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	s.observer.Wrap(s.gate.Handler(&surface, row)).ServeHTTP(w, r)
	return w.Result()
}

// line gives the last line of the log.
func (s *stand) line(t *testing.T) map[string]any {
	t.Helper()
	var out map[string]any
	lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &out); err != nil {
		t.Fatalf("the log is not JSON: %q", s.log.String())
	}
	return out
}

func echo(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return broker.ErrBodyTooLarge
	}
	kit.WriteBody(w, http.StatusOK, "text/plain", body)
	return nil
}

func TestBodies(t *testing.T) {
	jsons, forms := kit.Surface{JSON: true}, kit.Surface{}
	takes := kit.Route{Auth: kit.Public, MaxBody: 10, Handle: echo}
	none := kit.Route{Auth: kit.Public, Handle: echo}
	for name, c := range map[string]struct {
		surface kit.Surface
		row     kit.Route
		body    string
		header  [2]string
		chunked bool
		want    string // code; "": accepted
	}{
		"JSON":                        {jsons, takes, `{}`, [2]string{"Content-Type", "application/json; charset=utf-8"}, false, ""},
		"JSON, other case":            {jsons, takes, `{}`, [2]string{"Content-Type", "Application/JSON"}, false, ""},
		"as long as allowed":          {forms, takes, "0123456789", [2]string{}, false, ""},
		"too long":                    {forms, takes, "0123456789x", [2]string{}, false, "body_too_large"},
		"too long, length unknown":    {forms, takes, "0123456789x", [2]string{}, true, "body_too_large"},
		"none, JSON type":             {jsons, none, "", [2]string{"Content-Type", "application/json"}, false, ""},
		"none, other type":            {jsons, none, "", [2]string{"Content-Type", "text/plain"}, false, "unsupported_media_type"},
		"without a type":              {jsons, takes, `{}`, [2]string{}, false, "unsupported_media_type"},
		"form where JSON belongs":     {jsons, takes, `a=b`, [2]string{"Content-Type", "application/x-www-form-urlencoded"}, false, "unsupported_media_type"},
		"almost JSON":                 {jsons, takes, `{}`, [2]string{"Content-Type", "application/json-patch"}, false, "unsupported_media_type"},
		"form where it belongs":       {forms, takes, `a=b`, [2]string{"Content-Type", "application/x-www-form-urlencoded"}, false, ""},
		"where none belongs":          {forms, none, `a`, [2]string{}, false, "body_too_large"},
		"where none belongs, chunked": {forms, none, `a`, [2]string{}, true, "body_too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body))
			if c.header[0] != "" {
				r.Header.Set(c.header[0], c.header[1])
			}
			if c.chunked {
				r.ContentLength = -1
			}
			got := newStand().do(c.surface, c.row, r)
			if code := got.Header.Get(kit.HeaderErrorCode); code != c.want || (c.want == "") != (got.StatusCode == http.StatusOK) {
				t.Errorf("got %d %q, want %q", got.StatusCode, code, c.want)
			}
		})
	}
}

func TestEncodedBodiesAreRefused(t *testing.T) {
	for coding, want := range map[string]int{"gzip": http.StatusUnsupportedMediaType, "identity": http.StatusOK} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Content-Encoding", coding)
		if got := newStand().do(kit.Surface{JSON: true}, kit.Route{Auth: kit.Public, MaxBody: 10, Handle: echo}, r); got.StatusCode != want {
			t.Errorf("%s: got %d", coding, got.StatusCode)
		}
	}
}

func TestTooManyCookies(t *testing.T) {
	for n, want := range map[int]int{100: http.StatusOK, 101: http.StatusBadRequest} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", strings.TrimSuffix(strings.Repeat("a=b; ", n), "; "))
		if got := newStand().do(kit.Surface{}, kit.Route{Auth: kit.Public, Handle: echo}, r); got.StatusCode != want {
			t.Errorf("%d cookies: got %d", n, got.StatusCode)
		}
	}
}

func TestPublicRoutesAreLimited(t *testing.T) {
	s := newStand()
	now := time.Now()
	s.gate.Limiter = kit.NewLimiter(0.4, 1, func() time.Time { return now })
	row := kit.Route{Auth: kit.Public, Handle: echo}
	if got := s.do(kit.Surface{}, row, httptest.NewRequest(http.MethodGet, "/", nil)); got.StatusCode != http.StatusOK {
		t.Fatalf("got %d", got.StatusCode)
	}
	got := s.do(kit.Surface{}, row, httptest.NewRequest(http.MethodGet, "/", nil))
	if got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") != "3" || got.Header.Get(kit.HeaderErrorCode) != "rate_limited" {
		t.Errorf("got %d, come back after %q", got.StatusCode, got.Header.Get("Retry-After"))
	}
}

// Keys are limited where a limit is set, and nobody else by that limit.
func TestKeysAreLimited(t *testing.T) {
	now := time.Now()
	key := kit.Route{Auth: kit.Doors{Keeper: keeper{}}.Either(), Handle: echo}
	with := func(credential string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+credential)
		return r
	}
	s := newStand()
	for range 5 {
		if got := s.do(kit.Surface{}, key, with(goodKey)); got.StatusCode != http.StatusOK {
			t.Fatalf("without a limit: got %d", got.StatusCode)
		}
	}
	s.gate.KeyLimit = kit.NewKeyLimiter(0.4, 2, func() time.Time { return now }).Take
	for i, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests, http.StatusTooManyRequests} {
		got := s.do(kit.Surface{}, key, with(goodKey))
		if got.StatusCode != want {
			t.Fatalf("request %d: got %d", i, got.StatusCode)
		}
		if want != http.StatusOK && (got.Header.Get("Retry-After") != "3" || got.Header.Get(kit.HeaderErrorCode) != "rate_limited") {
			t.Errorf("got %v", got.Header)
		}
	}
	if line := s.line(t); line["code"] != "rate_limited" || line["key"] != "key-1" {
		t.Errorf("the log has %v", line)
	}
	for range 3 {
		if got := s.do(kit.Surface{}, key, with(goodToken)); got.StatusCode != http.StatusOK {
			t.Errorf("a session: got %d", got.StatusCode)
		}
		if got := s.do(kit.Surface{}, kit.Route{Auth: kit.Public, Handle: echo}, httptest.NewRequest(http.MethodGet, "/", nil)); got.StatusCode != http.StatusOK {
			t.Errorf("nobody: got %d", got.StatusCode)
		}
	}
}

// The actor that a handler gets carries what the audit trail needs.
func TestActorIsComplete(t *testing.T) {
	var seen broker.Actor
	row := kit.Route{Auth: kit.Doors{Keeper: keeper{}}.Key(), Handle: func(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
		seen = who
		return echo(w, r, who)
	}}
	s := newStand()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", goodKey)
	got := s.do(kit.Surface{}, row, r)
	if seen.Key != "key-1" || seen.IP != "192.0.2.1" || seen.RequestID == "" || seen.RequestID != got.Header.Get("X-Request-Id") {
		t.Errorf("got %+v", seen)
	}
	if line := s.line(t); line["key"] != "key-1" || line["environment"] != "env" {
		t.Errorf("the log has %v", line)
	}
}

// Every failure goes out in the surface's own words, with the broker's code beside it, and no cause.
func TestFailures(t *testing.T) {
	own := kit.Surface{Fail: func(w http.ResponseWriter, _ *http.Request, err error) {
		kit.WriteBody(w, http.StatusTeapot, "text/plain", []byte(broker.AsError(err).Code))
	}}
	row := kit.Route{Auth: kit.Public, Handle: func(http.ResponseWriter, *http.Request, broker.Actor) error {
		return broker.ErrStorageBusy.Because(errors.New("host db-7 is down"))
	}}
	s := newStand()
	got := s.do(own, row, httptest.NewRequest(http.MethodGet, "/", nil))
	if body, _ := io.ReadAll(got.Body); got.StatusCode != http.StatusTeapot || string(body) != "storage_busy" ||
		got.Header.Get(kit.HeaderErrorCode) != "storage_busy" || got.Header.Get("Retry-After") != "1" {
		t.Errorf("got %d %s %v", got.StatusCode, body, got.Header)
	}
	if line := s.line(t); line["error"] != "host db-7 is down" || line["level"] != "WARN" {
		t.Errorf("the log has %v", line)
	}

	got = s.do(kit.Surface{}, row, httptest.NewRequest(http.MethodGet, "/", nil))
	var body struct {
		Error struct {
			Code, Message string
			RequestID     string `json:"request_id"`
		}
	}
	if err := json.NewDecoder(got.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	if got.StatusCode != http.StatusServiceUnavailable || body.Error.Code != "storage_busy" || body.Error.Message != broker.ErrStorageBusy.Msg ||
		body.Error.RequestID != got.Header.Get("X-Request-Id") {
		t.Errorf("got %d %+v", got.StatusCode, body)
	}
}

func TestStatusOfEveryDeclaredError(t *testing.T) {
	for _, e := range broker.DeclaredErrors() {
		w := httptest.NewRecorder()
		kit.Fail(w, httptest.NewRequest(http.MethodGet, "/", nil), e.Because(errors.New("cause-of-it")))
		body := w.Body.String()
		if (w.Code == http.StatusInternalServerError) != (e.Kind == broker.Internal) || w.Code < 400 ||
			!strings.Contains(body, `"code":"`+e.Code+`"`) || strings.Contains(body, "cause-of-it") {
			t.Errorf("%s: %d %s", e.Code, w.Code, body)
		}
	}
}
