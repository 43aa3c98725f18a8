package connect

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func testJar(t testing.TB) *jar {
	t.Helper()
	c, err := codecs([]CookieKeys{{Hash: bytes.Repeat([]byte{1}, 32), Block: bytes.Repeat([]byte{2}, 32)}}, flowCookieAge)
	if err != nil {
		t.Fatal(err)
	}
	return &jar{codecs: c, secure: true, now: time.Now}
}

// FuzzFlowCookie brings any cookie: it is ours, or it is nothing.
func FuzzFlowCookie(f *testing.F) {
	j := testJar(f)
	const name = "flow-0123abcd"
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	want := flowCookie{Browser: "secret", Token: "token", Integration: "key"}
	if err := j.put(w, r, name, want); err != nil {
		f.Fatal(err)
	}
	good := w.Result().Cookies()[0].Value
	f.Add(good)
	f.Add("")
	f.Add(good[:len(good)-1])
	f.Add("MTc5NTMxNDQ3Nnx8")
	f.Fuzz(func(t *testing.T, value string) {
		got := j.open(&http.Cookie{Name: j.name(name), Value: value})
		ours := want
		ours.SetAt = got.SetAt
		if got != (flowCookie{}) && got != ours {
			t.Errorf("%q opens to %+v", value, got)
		}
		if value == good && got != ours {
			t.Errorf("our own cookie opens to %+v", got)
		}
	})
}

// TestCookieIsBoundToItsFlow renames a cookie.
func TestCookieIsBoundToItsFlow(t *testing.T) {
	j := testJar(t)
	w := httptest.NewRecorder()
	if err := j.put(w, httptest.NewRequest(http.MethodPost, "/", nil), "flow-aaaaaaaa", flowCookie{Browser: "secret"}); err != nil {
		t.Fatal(err)
	}
	c := w.Result().Cookies()[0]
	c.Name = j.name("flow-bbbbbbbb")
	if got := j.open(c); got != (flowCookie{}) {
		t.Errorf("it opens as another flow's: %+v", got)
	}
}
