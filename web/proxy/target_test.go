package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Paths that go upstream as they are, to the byte.
var goodPaths = []string{
	"", "/", "/user", "/user/", "/a//b", "/a%2Fb", "/a%2fb/c", "/sites/https%3A%2F%2Fwww.example.com%2F/query", "/users/@me", "/a/b@c.d",
	"/me@example.com", "/a:b", "/...", "/.well-known/x", "/a/..b", "/a/b..", "/%E2%82%AC", "/caf%C3%A9", "/a+b", "/a%20b", "/a%2Bb", "/100%25",
	"/a/!$&'()*+,;=:@-._~", "/[x]", "/a|b^c`d{e}f\"g<h>", "/caf\xc3\xa9", "/a%3Fb%23c", "/a;b=c/d", "/v1/x:batch", "/%7Euser", "/a.%2e.b", "/a/%2525",
}

// Paths that a server on the way could take for others.
var badPaths = []string{
	"//evil.example", "//", "/..", "/../x", "/a/../b", "/a/..", "/.", "/a/./b", "/%2e%2e/x", "/%2E./x", "/.%2e/x", "/%252e%252e/x", "/%25252e%25252e/x",
	"/%2525252525252525252e", "/a/%2e", "/..%2Fx", "/a%2F..%2Fb", "/a%2f%2e%2e%2fb", "/a%252F..%252Fb", "/..;/x", "/a/..;x=y/b", "/..%3B/x",
	"/a\\b", "/..\\x", "/a%5Cb", "/a%255Cb", "/%00", "/a%00b", "/a%2500b", "/a%0d%0aHost:x", "/a%7F", "/a%250A", "/a#b", "/%2Fevil.example", "/%2f%2Fevil.example",
	"/%252Fevil.example", "/https://evil.example/x", "/http://evil.example", "/HTTPS://evil.example/", "/ftp://x", "/@evil.example", "/@evil.example/x",
	"/u:p@evil.example/x", "/%40evil.example", "/%c0%ae%c0%ae/x", "/%C0%AE", "/%e0%80%ae%e0%80%ae/x", "/a%c0%afb", "/a%c1%9cb",
}

func TestPaths(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.RequestURI)) })
	for _, integration := range []struct{ name, base string }{{"oauth", ""}, {"below", "/v1"}} {
		for _, path := range goodPaths {
			want := integration.base + path
			if path == "" {
				want += "/"
			}
			for _, query := range []string{"", "?", "?b=2&a=1&a=%20+x&=&&c"} {
				out := r.raw(head("GET", path+query, integration.name))
				if !strings.HasSuffix(out, "\r\n\r\n"+want+query) {
					t.Errorf("%s%s: want %s, got %s", path, query, want, out)
				}
			}
		}
	}
}

func TestBadPaths(t *testing.T) {
	r := newRig(t, func(_ http.ResponseWriter, q *http.Request) { t.Errorf("%s went upstream", q.RequestURI) })
	for _, integration := range []string{"oauth", "below"} {
		for _, path := range badPaths {
			out := r.raw(head("GET", path, integration))
			if !strings.HasPrefix(out, "HTTP/1.1 400 ") || !strings.Contains(out, "X-Error-Code: invalid_path") {
				t.Errorf("%s: got %s", path, out)
			}
		}
	}
	// net/http refuses these itself.
	for _, path := range []string{"/a\x00b", "/a b", "/%zz", "/%", "/a\x7f"} {
		if out := r.raw(head("GET", path, "oauth")); !strings.HasPrefix(out, "HTTP/1.1 400 ") {
			t.Errorf("%q: got %s", path, out)
		}
	}
}

func TestAbsoluteEndpoints(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.RequestURI)) })
	base := r.upstream.URL
	for _, test := range []struct{ integration, path, want string }{
		{"oauth", "/" + base, "/"},
		{"oauth", "/" + base + "/", "/"},
		{"oauth", "/" + base + "/user?a=b", "/user?a=b"},
		{"oauth", "/" + strings.ToUpper(base) + "/user", "/user"},
		{"below", "/" + base + "/v1/user", "/v1/user"},
		{"below", "/" + base + "/v1", "/v1/"},
		{"oauth", "/fetch/https://example.com/x", "/fetch/https://example.com/x"},
	} {
		if a := r.get(test.integration, test.path); a.body != test.want {
			t.Errorf("%s %s: got %d %s, want %s", test.integration, test.path, a.StatusCode, a.body, test.want)
		}
	}
	for _, test := range []struct{ integration, path string }{
		{"below", base + "/v2/user"},
		{"below", base + "/v10"},
		{"below", base + "/user"},
		{"below", base + "/v1/../x"},
		{"oauth", base + "//x"},
		{"oauth", base + "@evil.example/x"},
		{"oauth", base + ".evil.example/x"},
		{"oauth", base + "1/x"},
		{"oauth", strings.Replace(base, "http:", "https:", 1) + "/x"},
	} {
		r.get(test.integration, "/"+test.path).refused(t, http.StatusBadRequest, "invalid_path", "invalid_path")
	}
}

func TestBaseURLOverride(t *testing.T) {
	var asked string
	r := newRig(t, echo, func(r *rig) {
		r.transport = transport(func(q *http.Request) (*http.Response, error) {
			asked = q.URL.String()
			return reply(q, http.StatusOK, ""), nil
		})
	})
	for _, test := range []struct{ base, path, want string }{
		{r.upstream.URL, "/x", r.upstream.URL + "/x"},
		{r.upstream.URL + "/v9/", "/x", r.upstream.URL + "/v9/x"},
		{"https://files.example.com", "/x", "https://files.example.com/x"},
		{"https://FILES.example.com:443/up", "/x?y", "https://files.example.com:443/up/x?y"},
		{"https://files.example.com/up", "/https://files.example.com/up/x", "https://files.example.com/up/x"},
	} {
		if a := r.get("below", test.path, "Base-Url-Override", test.base); a.StatusCode != http.StatusOK || asked != test.want {
			t.Errorf("%s: got %d, %s, want %s", test.base, a.StatusCode, asked, test.want)
		}
	}
	asked = ""
	for _, base := range []string{
		"https://evil.example", "http://files.example.com", "https://files.example.com:8443", "https://files.example.com.evil.example",
		"https://evil.example@files.example.com", "https://files.example.com@evil.example", "https://files.example.com?x", "https://files.example.com/#x",
		"https://files.example.com/../x", "https://files.example.com/%2e%2e/", "https://files.example.com\\@evil.example", "https://files.example.com.",
		"https://sub.files.example.com", "ftp://files.example.com", "https://[::1]", "https://127.0.0.1",
	} {
		a := r.get("below", "/x", "Base-Url-Override", base)
		if a.StatusCode != http.StatusBadRequest || asked != "" || a.Header.Get("X-Error-Code") == "base_url_not_allowed" != strings.Contains(a.body, "base_url_override_not_allowed") {
			t.Errorf("%s: got %d %s, asked %q", base, a.StatusCode, a.body, asked)
		}
	}
}

// What a request line says in absolute form is the same request.
func TestAbsoluteForm(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Host + r.RequestURI)) })
	text := strings.Replace(head("GET", "/a%2Fb?c", "oauth"), "GET /", "GET http://elsewhere.example/", 1)
	want := strings.TrimPrefix(r.upstream.URL, "http://") + "/a%2Fb?c"
	if out := r.raw(text); !strings.HasSuffix(out, want) {
		t.Errorf("got %s, want %s", out, want)
	}
}

func TestOutsideOfThePrefix(t *testing.T) {
	r := newRig(t, echo)
	for _, path := range []string{"/", "/prox", "/other/x"} {
		req := httptest.NewRequest(http.MethodGet, path, nil)
		req.Header = r.request(http.MethodGet, "oauth", "", nil).Header
		w := httptest.NewRecorder()
		r.proxy.ServeHTTP(w, req)
		answer{w.Result(), w.Body.String()}.refused(t, http.StatusBadRequest, "invalid_path", "invalid_path")
	}
}

func TestRedirects(t *testing.T) {
	hops := 0
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		switch path := q.URL.Path; {
		case strings.HasPrefix(path, "/loop"):
			hops++
			w.Header().Set("Location", path+"x")
		case path == "/v1/away":
			w.Header().Set("Location", q.URL.Query().Get("to"))
		default:
			_, _ = w.Write([]byte(q.RequestURI + " " + q.Header.Get("Authorization") + q.Header.Get("X-Version")))
			return
		}
		w.WriteHeader(http.StatusFound)
	})
	base := r.upstream.URL
	for _, test := range []struct{ to, want string }{
		{"/v1/b", "/v1/b"},
		{"/v1/b%2Fc?d=e", "/v1/b%2Fc?d=e"},
		{base + "/v1/b", "/v1/b"},
		{strings.TrimPrefix(base, "http:") + "/v1/b", "/v1/b"},
		{"b", "/v1/b"},
		{"?d=e", ""}, // itself, whose query names no target: an empty Location
		{"/v1/b#f", "/v1/b"},
		{"/v1/..", ""},
		{"../x", ""},
		{"/v2/b", ""},
		{"/v1/%2e%2e/x", ""},
		{"https://evil.example/v1/b", ""},
		{"//evil.example/v1/b", ""},
		{base + "@evil.example/v1/b", ""},
		{base + "1/v1/b", ""},
		{strings.Replace(base, "http:", "https:", 1) + "/v1/b", ""},
		{"javascript:alert(1)", ""},
		{"/v1/b?c;d", ""},
		{"/\\evil.example", ""},
	} {
		req := r.request(http.MethodGet, "below", "/away", nil)
		q := req.URL.Query()
		q.Set("to", test.to)
		req.URL.RawQuery = q.Encode()
		a := r.do(req)
		followed := a.StatusCode == http.StatusOK && strings.HasPrefix(a.body, test.want+" Bearer access-") && strings.HasSuffix(a.body, "7")
		if test.want == "" && (a.StatusCode != http.StatusFound || a.Header.Get("Location") != test.to && test.to != "?d=e") || test.want != "" && !followed {
			t.Errorf("%s: got %d, Location %q, %s", test.to, a.StatusCode, a.Header.Get("Location"), a.body)
		}
	}
	if a := r.get("oauth", "/loop"); a.StatusCode != http.StatusFound || a.Header.Get("Location") != "/loopxxxx" || hops != 4 {
		t.Errorf("got %d, Location %q after %d requests", a.StatusCode, a.Header.Get("Location"), hops)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		if a := r.do(r.request(method, "oauth", "/loop", strings.NewReader("x"))); a.StatusCode != http.StatusFound || a.Header.Get("Location") != "/loopx" {
			t.Errorf("%s: got %d, Location %q", method, a.StatusCode, a.Header.Get("Location"))
		}
	}
	if a := r.do(r.request(http.MethodHead, "below", "/away?to=b", nil)); a.StatusCode != http.StatusOK {
		t.Errorf("HEAD: got %d", a.StatusCode)
	}
}

// A key in the query goes along to where a redirect leads, once.
func TestRedirectKeepsTheKeyInTheQuery(t *testing.T) {
	to := "/b?c=d"
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/a" {
			http.Redirect(w, q, to, http.StatusMovedPermanently)
			return
		}
		_, _ = w.Write([]byte(q.RequestURI))
	})
	const key = "api_key=the-provider%27s-own-api-key"
	if a := r.get("asked", "/a"); a.body != "/b?c=d&"+key {
		t.Errorf("got %s", a.body)
	}
	to = "/b?" + key + "&e"
	if a := r.get("asked", "/a"); a.body != to {
		t.Errorf("got %s", a.body)
	}
}
