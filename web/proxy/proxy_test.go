package proxy_test

import (
	"net/http"
	"testing"
)

func TestCallCarriesTheCredential(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Method + " " + r.RequestURI + " " + r.Header.Get("Authorization")))
	})
	a := r.get("oauth", "/user?a=b")
	t.Log(a.StatusCode, a.body, a.Header)
	a = r.get("below", "/user?a=b")
	t.Log(a.StatusCode, a.body, a.Header)
	a = r.get("gone", "/user?a=b")
	t.Log(a.StatusCode, a.body, a.Header)
	a = r.get("blocked", "/user?a=b")
	t.Log(a.StatusCode, a.body, a.Header)
	t.Log(r.lines())
	t.Log(r.log.String())
}
