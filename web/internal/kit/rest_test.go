package kit

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestRestIsAsItWasSent(t *testing.T) {
	for sent, want := range map[string]string{
		"/a/b/files":                     "/files",
		"/a/b/x%2Fy//z/?q=%20&q=/a/b?":   "/x%2Fy//z/?q=%20&q=/a/b?",
		"/A/b//files":                    "//files",
		"/a/b/../c":                      "/../c",
		"/a/b/{x}|\"y":                   "/{x}|\"y",
		"/a/b/":                          "/",
		"/a/b":                           "/",
		"/a/b?x=/c/d":                    "/",
		"/a/b/c?":                        "/c?",
		"http://h.test/a/b/x%2fy?q=1":    "/x%2fy?q=1",
		"http://h.test/a/b/x%2fy/?q=%41": "/x%2fy/?q=%41",
	} {
		r := httptest.NewRequest(http.MethodGet, "/a/b", nil)
		if u, err := r.URL.Parse(sent); err == nil {
			r.URL = u
		}
		r.RequestURI = sent
		if got := Rest(r, 2); got != want {
			t.Errorf("%s: got %q, want %q", sent, got, want)
		}
	}
}
