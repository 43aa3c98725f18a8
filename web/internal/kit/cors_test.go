package kit_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

const allowOrigin = "Access-Control-Allow-Origin"

func TestCrossOriginAnswers(t *testing.T) {
	doors := kit.Doors{Keeper: keeper{}}
	for name, c := range map[string]struct {
		auth               kit.Auth
		credential, origin string
		want               string
	}{
		"session, allowed":              {doors.Session(), goodToken, "https://app.test", "https://app.test"},
		"session, not its own":          {doors.Session(), goodToken, "https://other.test", ""},
		"session, unknown":              {doors.Session(), goodToken, "https://evil.test", ""},
		"no origin":                     {doors.Session(), goodToken, "", ""},
		"refused token, known origin":   {doors.Session(), oldToken, "https://other.test", "https://other.test"},
		"refused token, unknown origin": {doors.Session(), oldToken, "https://evil.test", ""},
		"either, session":               {doors.Either(), goodToken, "https://app.test", "https://app.test"},
		"either, key":                   {doors.Either(), goodKey, "https://app.test", ""},
		"either, bad key":               {doors.Either(), "1234567890123456", "https://app.test", ""},
		"key":                           {doors.Key(), goodKey, "https://app.test", ""},
		"public":                        {kit.Public, "", "https://app.test", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			if c.credential != "" {
				r.Header.Set("Authorization", "Bearer "+c.credential)
			}
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			got := newStand().do(kit.Surface{}, kit.Route{Auth: c.auth, Handle: echo}, r)
			if o := got.Header.Get(allowOrigin); o != c.want {
				t.Errorf("got %q, want %q", o, c.want)
			}
			if got.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("cookies are never for other origins")
			}
			if c.auth.Pages && got.Header.Get("Vary") != "Origin" {
				t.Error("the answer depends on the origin, and caches must know")
			}
		})
	}
}

func TestEveryOrigin(t *testing.T) {
	s := newStand()
	s.gate.CORS.Allowed = func(*http.Request, broker.Actor, string) (bool, bool, error) { return true, true, nil }
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+goodToken)
	r.Header.Set("Origin", "https://any.test")
	got := s.do(kit.Surface{}, kit.Route{Auth: kit.Doors{Keeper: keeper{}}.Session(), Handle: echo}, r)
	if o := got.Header.Get(allowOrigin); o != "*" {
		t.Errorf("got %q", o)
	}
}

func TestOriginsThatCannotBeRead(t *testing.T) {
	s := newStand()
	s.gate.CORS.Allowed = func(_ *http.Request, who broker.Actor, _ string) (bool, bool, error) {
		if who.Kind == broker.BySession {
			return false, false, broker.ErrStorageBusy
		}
		return false, false, errors.New("not asked")
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+goodToken)
	r.Header.Set("Origin", "https://app.test")
	got := s.do(kit.Surface{}, kit.Route{Auth: kit.Doors{Keeper: keeper{}}.Session(), Handle: echo}, r)
	if got.StatusCode != http.StatusServiceUnavailable || got.Header.Get(allowOrigin) != "" {
		t.Errorf("got %d %q", got.StatusCode, got.Header.Get(allowOrigin))
	}
}

func TestPreflight(t *testing.T) {
	doors := kit.Doors{Keeper: keeper{}}
	rows := []kit.Route{
		{Method: http.MethodGet, Auth: doors.Session()},
		{Method: http.MethodPost, Auth: doors.Key()},
	}
	for name, c := range map[string]struct{ origin, method, want string }{
		"session route":  {"https://app.test", http.MethodGet, "https://app.test"},
		"key route":      {"https://app.test", http.MethodPost, ""},
		"unknown method": {"https://app.test", http.MethodPut, ""},
		"unknown origin": {"https://evil.test", http.MethodGet, ""},
		"no origin":      {"", http.MethodGet, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodOptions, "/", nil)
			r.Header.Set("Origin", c.origin)
			r.Header.Set("Access-Control-Request-Method", c.method)
			w := httptest.NewRecorder()
			newStand().gate.CORS.Preflight(w, r, rows)
			h := w.Header()
			if w.Code != http.StatusNoContent || h.Get(allowOrigin) != c.want {
				t.Errorf("got %d %q, want %q", w.Code, h.Get(allowOrigin), c.want)
			}
			if (h.Get("Access-Control-Allow-Methods") != "") != (c.want != "") || h.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("got %v", h)
			}
			if got := h.Get("Allow"); got != "GET, HEAD, OPTIONS, POST" {
				t.Errorf("got Allow: %s", got)
			}
		})
	}
}
