package proxy_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
	"github.com/coatcheck/coatcheck/web/proxy"
)

func TestErrandIsAuthorizedLikeAnyCall(t *testing.T) {
	f := newFacade(t, echo)
	for _, test := range []struct {
		integration, url string
		want             []string
	}{
		{"keyed", "/files?pageSize=10", []string{"GET /files?pageSize=10\n", "X-Api-Key: " + apiKey + "\r\n"}},
		{"oauth", "/files", []string{"GET /files\n", "Authorization: Bearer access-"}},
		{"asked", "/files?b=1", []string{"GET /files?b=1&api_key=the-provider%27s-own-api-key\n"}},
		{"below", "files", []string{"GET /v1/files\n", "X-Version: 7\r\n", "Accept: application/vnd.test+json\r\n"}},
	} {
		a := f.call(test.integration, "", test.url)
		for _, want := range test.want {
			if a.StatusCode != http.StatusOK || !strings.Contains(a.body, want) {
				t.Errorf("%s: %d, no %q in\n%s", test.integration, a.StatusCode, want, a.body)
			}
		}
		for _, never := range []string{secretKey, "envelope", "a=b", "Accept-Language", "Range", "Content-Type"} {
			if strings.Contains(a.body, never) {
				t.Errorf("%s: %q of the surface's own request went upstream:\n%s", test.integration, never, a.body)
			}
		}
	}
}

// What a URL is to be sent as, to the byte.
func TestErrandURLs(t *testing.T) {
	var asked string
	f := newFacade(t, echo, func(r *rig) {
		r.transport = transport(func(q *http.Request) (*http.Response, error) {
			asked = q.URL.Scheme + "://" + q.URL.Host + q.URL.RequestURI()
			return reply(q, http.StatusOK, ""), nil
		})
	})
	base := f.upstream.URL
	for _, test := range []struct{ integration, url, want string }{
		{"oauth", "/files?pageSize=10", base + "/files?pageSize=10"},
		{"oauth", "files", base + "/files"},
		{"oauth", "", base + "/"},
		{"oauth", "?a=b", base + "/?a=b"},
		{"oauth", "files?", base + "/files?"},
		{"oauth", "?b=2&a=1&a=%20+x&=&&c=/?:@", base + "/?b=2&a=1&a=%20+x&=&&c=/?:@"},
		{"oauth", "?u=https://evil.example/x", base + "/?u=https://evil.example/x"},
		{"below", "files", base + "/v1/files"},
		{"below", "/files/", base + "/v1/files/"},
		{"below", "v1/files", base + "/v1/v1/files"},
		{"oauth", "a%2Fb/c%20d%25", base + "/a%2Fb/c%20d%25"},
		{"oauth", "caf\u00e9", base + "/caf\u00e9"},
		{"oauth", "fetch/https://example.com/x", base + "/fetch/https://example.com/x"},
		{"oauth", "v1/documents:batch", base + "/v1/documents:batch"},
		{"oauth", "/documents:batch", base + "/documents:batch"},
		{"oauth", "users/@me", base + "/users/@me"},
		{"oauth", base, base + "/"},
		{"oauth", base + "?a", base + "/?a"},
		{"oauth", base + "/files?a=b", base + "/files?a=b"},
		{"oauth", strings.ToUpper(base) + "/files", base + "/files"},
		{"below", base + "/v1/files?a=b", base + "/v1/files?a=b"},
		{"below", base + "/v1", base + "/v1/"},
		{"below", "https://files.example.com/up/x?a", "https://files.example.com/up/x?a"},
		{"below", "https://files.example.com?a", "https://files.example.com/?a"},
		{"below", "HTTPS://FILES.example.com:443/x", "https://files.example.com/x"},
	} {
		asked = ""
		if a := f.call(test.integration, "", test.url); asked != test.want || a.StatusCode != http.StatusOK {
			t.Errorf("%s: %q: sent to %q, want %q; %d %s", test.integration, test.url, asked, test.want, a.StatusCode, a.body)
		}
	}
}

func TestErrandURLsThatAreRefused(t *testing.T) {
	f := newFacade(t, func(_ http.ResponseWriter, q *http.Request) { t.Errorf("%s went upstream", q.RequestURI) })
	base := f.upstream.URL
	host := strings.TrimPrefix(base, "http://")
	for code, urls := range map[string][]string{
		"base_url_not_allowed": {
			"https://evil.example", "https://evil.example/v1/x", "http://evil.example/", "https://evil.example?x", "ftp://" + host + "/v1/x",
			"https://" + host + "/v1/x", base + "/v2/x", base + "/v10", base + "/x", base + "/%761/x", base + "/v1%2Fx", base + "1/v1/x", base + ".evil.example/v1/x",
			base + ":80/v1/x", base + "@evil.example/v1/x", base + "\\@evil.example/v1/x", base + "#@evil.example/v1/x", base + ".", base + "%2e/v1/x",
			"http://u:p@" + host + "/v1/x", "http://@" + host + "/v1/x", "http:///" + host + "/v1/x", "http://", "http:///v1/x", "https:///x",
			"http://files.example.com/x", "https://files.example.com:8443/x", "https://files.example.com.evil.example/x", "https://sub.files.example.com/",
			"https://files.example.com@evil.example/x", "https://evil.example@files.example.com/x", "https://@files.example.com/x", "https://:@files.example.com/x",
			"https://files.example.com\\@evil.example/x", "https://files.example.com\\x", "https://files.example.com#@evil.example/x", "https://files.example.com./x",
			"https://files.example.com:/x", "https://files.example.com:443:443/x", "https://files.example.com%2eevil.example/x", "https://files%2eexample.com/x",
			"https://files.example.com\t/x", "https://files.example.com\x00/x", "https:// files.example.com/x", "https://file\u017f.example.com/x",
			"https://files\u3002example.com/x", "https://xn--files.example.com/x", "https://[::1]/x", "https://127.0.0.1/x", "https://169.254.169.254/x", "wss://files.example.com/x",
			"x-y.z+1://files.example.com/x", "https://\\files.example.com/x", "https://;files.example.com/x", "https://files.example.com,evil.example/x",
		},
		"invalid_path": {
			"//evil.example", "//evil.example/x", "///evil.example/x", "/\\evil.example", "\\\\evil.example", "\\/evil.example", "/\t/evil.example", "\t//evil.example", "/%2Fevil.example",
			"%2F%2Fevil.example", "%5c%5cevil.example", "//" + host + "/v1/x", " " + base + "/v1/x", base + "/v1/x ", "\n/x", "/x\r\nHost: evil.example", "/x\x00", "/x\x7f", "/x y",
			"https:evil.example", "https:/evil.example/x", "https:\\\\evil.example\\x", "http:" + host, "javascript:alert(1)", "data:,x", "evil.example:443/x", "documents:batch", "https:",
			"https:?x", "mailto:x@y", "/https://evil.example/x", "/http://evil.example", "..", "../x", "/..", ".", "./x", "a/../b", "a/..", "%2e%2e/x", "%252e%252e/x", "a/%2e%2e%2fb", "..%2fx",
			"..;/x", "a\\..\\b", "%5c..%5c", "/@evil.example", "@evil.example", "u:p@evil.example/x", "/u:p@evil.example/x", "%40evil.example", "#", "#x", "/x#y", "/x%", "/%zz", "%c0%ae%c0%ae/x",
			base + "/v1//x", base + "/v1/../x", base + "/v1/%2e%2e/x", base + "/v1/..%2fx", base + "/v1/x\\..", base + "/v1/x#y", base + "/v1/%00",
			"https://files.example.com//x", "https://files.example.com/..", "https://files.example.com/%2e%2e/x", "https://files.example.com/%252e%252e/x", "https://files.example.com/a/.%2e/x",
			"https://files.example.com/\\evil.example", "https://files.example.com/@evil.example", "https://files.example.com/x#y", "https://files.example.com/%2f%2fevil.example",
		},
		"invalid_query":     {"/x?a=b;c=d", "/x?a=%zz", "/x?a=b#c", "/x?a b", "/x?a\r\nb", "/x?a\x00", "/x?" + strings.Repeat("a&", 500), "https://files.example.com/x?a;b"},
		"invalid_request":   {"/" + strings.Repeat("a", 33<<10), "/?" + strings.Repeat("a", 33<<10)},
		"credential_in_url": {"/" + secretKey, "/x?key=" + secretKey, "https://files.example.com/" + secretKey},
	} {
		for _, url := range urls {
			f.call("below", "", url).handedBack(t, fmt.Sprintf("%.99q", url), code)
		}
	}
	f.call("asked", "", "/x?a=b&API%5Fkey=x").handedBack(t, "reserved parameter", "reserved_param")
	f.call("asked", "", base+"/x?api_key=x").handedBack(t, "reserved parameter", "reserved_param")
	f.call("baseless", "", "/x").handedBack(t, "no base URL", "not_supported")
	f.call("keyed", "", "https://files.example.com/x").handedBack(t, "another integration's host", "base_url_not_allowed")
}

// What /proxy takes as a path means the same in an errand, and what it refuses is refused.
func TestErrandPathsAreThoseOfTheProxy(t *testing.T) {
	f := newFacade(t, func(w http.ResponseWriter, q *http.Request) { _, _ = w.Write([]byte(q.RequestURI)) })
	for _, path := range goodPaths {
		f.change = func(e *kit.Errand) { e.URL = path } // as it is: JSON has no text for some
		want := path
		if want == "" {
			want = "/"
		}
		if a := f.call("oauth", "", ""); a.body != want {
			t.Errorf("%q: got %d %q", path, a.StatusCode, a.body)
		}
	}
	for _, path := range badPaths {
		f.change = func(e *kit.Errand) { e.URL = path }
		f.call("oauth", "", "").handedBack(t, path, "invalid_path")
	}
}

func TestErrandHeaders(t *testing.T) {
	var got seen
	f := newFacade(t, got.ServeHTTP)
	dropped := []string{
		"Connection", "host", "COOKIE", "Proxy-Authorization", "Forwarded", "X-Forwarded-For", "x_forwarded_host", "X-Real-Ip", "Via", "Upgrade", "Http2-Settings",
		"Expect", "Origin", "Referer", "Sec-Fetch-Site", "Te", "trailer", "transfer-encoding", "Content-Length", "content_length", "Keep-Alive", "Proxy-Connection",
		"Provider-Config-Key", "Connection-Id", "Retries", "Retry-On", "Base-Url-Override", "Decompress", "Nango-Proxy-X-Api-Key", "nango-proxy-x-custom", "Nango-Is-Sync",
	}
	sent := []string{"x-custom", "a", "ACCEPT", "text/csv", "Content-Type", "text/plain", "user-agent", "me", "X-Token", "Bearer " + secretKey, "connection", "X-Custom"}
	for _, name := range dropped {
		sent = append(sent, name, "evil")
	}
	a := f.call("below", "", "/x", sent...)
	want := http.Header{"X-Custom": {"a"}, "Accept": {"text/csv"}, "Content-Type": {"text/plain"}, "User-Agent": {"the-entry"}, "X-Version": {"7"}}
	if h := got.header(); a.StatusCode != http.StatusOK || fmt.Sprint(h) != fmt.Sprint(want) {
		t.Errorf("got %d, upstream %v, want %v", a.StatusCode, h, want)
	}
	if host := "http://" + got.last.Load().Host; host != f.upstream.URL {
		t.Errorf("Host: %s", host)
	}
	got.last.Store(nil)
	for _, test := range []struct{ integration, name, value, code string }{
		{"oauth", "Authorization", "Bearer mine", "reserved_header"},
		{"oauth", "authorization", "Bearer mine", "reserved_header"},
		{"keyed", "x-api-key", "mine", "reserved_header"},
		{"keyed", "X_API_KEY", "mine", "reserved_header"},
		{"keyed", "", "x", "invalid_request"},
		{"keyed", "X Api-Key", "x", "invalid_request"},
		{"keyed", "X-A:", "x", "invalid_request"},
		{"keyed", "X-A\r\nX-Api-Key", "x", "invalid_request"},
		{"keyed", "X-Ap\u0131-Key", "x", "invalid_request"},
		{"keyed", "X-A", "x\r\nX-Api-Key: mine", "invalid_request"},
		{"keyed", "X-A", "x\x00", "invalid_request"},
		{"keyed", "X-A", strings.Repeat("x", 33<<10), "invalid_request"},
	} {
		f.call(test.integration, "", "/x", test.name, test.value).handedBack(t, test.name, test.code)
	}
	if q := got.last.Load(); q != nil {
		t.Errorf("a refused errand went upstream: %v", q.Header)
	}
	if a := f.call("keyed", "", "/x", "Authorization", "Basic mine"); a.StatusCode != http.StatusOK || got.last.Load().Header.Get("Authorization") != "" {
		t.Errorf("got %d, upstream %v", a.StatusCode, got.last.Load().Header)
	}
}

// A surface may let callers in by other ways than the Authorization header.
func TestErrandWithoutAnAuthorizationHeader(t *testing.T) {
	var got seen
	f := newFacade(t, got.ServeHTTP)
	out, err := f.broker.Outbound(t.Context(), f.who, "oauth", "c")
	must(t, err)
	for _, header := range []http.Header{nil, {"Authorization": {"Bearer "}}, {"Authorization": {"Basic x"}}} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		req.Header = header
		must(t, f.proxy.Carry(httptest.NewRecorder(), req, kit.Errand{Who: f.who, Out: out, URL: "x", Header: http.Header{"X-Custom": {"Basic x"}}}))
		if h := got.header(); h.Get("X-Custom") != "Basic x" {
			t.Errorf("upstream %v", h)
		}
	}
}

// The GET form stands for the request upstream: of its headers those go there that do in a call to /proxy.
func TestErrandWithTheCallersOwnHeaders(t *testing.T) {
	var got seen
	f := newFacade(t, got.ServeHTTP)
	for _, integration := range []string{"oauth", "below", "keyed"} {
		headers := []string{
			"Accept", "*/*", "Accept-Language", "de", "User-Agent", "me", "Range", "bytes=0-1", "If-None-Match", `"a"`, "Mcp-Session-Id", "m", "Last-Event-Id", "7",
			"X-Custom", "a", "Cookie", "a=b", "X-Forwarded-For", "1.2.3.4", "Origin", "https://a", "Connection", "If-Match", "If-Match", `"b"`, "Accept-Charset", secretKey,
			"Accept-Encoding", "br",
		}
		if a := f.get(integration, "/files?b&a", headers...); a.StatusCode != http.StatusOK {
			t.Fatalf("/proxy: %d %s", a.StatusCode, a.body)
		}
		want := got.last.Load()
		req := f.request(http.MethodGet, integration, "", nil, append(headers, "Nango-Proxy-X-Other", "a", "X-Api-Key", "the-caller's", "Base-Url-Override", "https://evil.example")...)
		errand, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.server.URL+"/"+integration+"/files?b&a", nil)
		must(t, err)
		errand.Header = req.Header
		if a := f.do(errand); a.StatusCode != http.StatusOK {
			t.Fatalf("errand: %d %s", a.StatusCode, a.body)
		}
		last := got.last.Load()
		if fmt.Sprint(last.Header) != fmt.Sprint(want.Header) || last.RequestURI != want.RequestURI || last.Host != want.Host {
			t.Errorf("%s: got %s %v, want %s %v", integration, last.RequestURI, last.Header, want.RequestURI, want.Header)
		}
	}
}

func TestErrandMethods(t *testing.T) {
	f := newFacade(t, echo)
	for method, want := range map[string]string{
		"": "GET", "GET": "GET", "get": "GET", "POST": "POST", "Put": "PUT", "PATCH": "PATCH", "DELETE": "DELETE", "PROPFIND": "PROPFIND",
	} {
		if a := f.call("oauth", method, "/x"); a.StatusCode != http.StatusOK || !strings.HasPrefix(a.body, want+" /x\n") {
			t.Errorf("%q: got %d %s", method, a.StatusCode, a.body)
		}
	}
	for _, method := range []string{"TRACE", "trace", "CONNECT", "OPTIONS", " GET", "GET /y HTTP/1.1\r\nHost:", "G\u00c9T", "(x)", strings.Repeat("A", 33)} {
		f.call("oauth", method, "/x").handedBack(t, method, "method_not_allowed")
	}
}

// The answer to a POST has the length of what is sent, though a HEAD was asked for.
func TestErrandWithHead(t *testing.T) {
	f := newFacade(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "12345")
		w.Header().Set("Etag", `"e"`)
	})
	a := f.call("oauth", http.MethodHead, "/x")
	if a.StatusCode != http.StatusOK || a.body != "" || a.ContentLength > 0 || a.Header.Get("Etag") != `"e"` || a.Close {
		t.Errorf("got %d %q, length %d, %v", a.StatusCode, a.body, a.ContentLength, a.Header)
	}
}

func TestErrandBodies(t *testing.T) {
	f := newFacade(t, func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		_, _ = fmt.Fprintf(w, "%s %d %v %q %s", q.Method, q.ContentLength, q.TransferEncoding, q.Header["Content-Type"], body)
	})
	for _, test := range []struct{ method, data, kind, want string }{
		{"POST", `{"n":12345678901234567890}`, "application/json", `POST 26 [] ["application/json"] {"n":12345678901234567890}`},
		{"PUT", `"x"`, "application/vnd.x+json", `PUT 3 [] ["application/vnd.x+json"] "x"`},
		{"PATCH", `[]`, "", `PATCH 2 [] [] []`},
		{"DELETE", `{}`, "application/json", `DELETE 2 [] ["application/json"] {}`},
		{"POST", "", "", `POST 0 [] [] `},
		{"POST", "", "application/x-www-form-urlencoded", `POST 0 [] ["application/x-www-form-urlencoded"] `},
		{"GET", "", "", `GET 0 [] [] `},
	} {
		var headers []string
		if test.kind != "" {
			headers = []string{"content-type", test.kind}
		}
		a := f.do(f.post("oauth", test.method, "/x", test.data, headers...))
		if a.body != test.want || a.Close {
			t.Errorf("%s %s: got %d %s, want %s; closed: %t", test.method, test.data, a.StatusCode, a.body, test.want, a.Close)
		}
	}
}

func TestErrandBodyLimit(t *testing.T) {
	f := newFacade(t, echo, func(r *rig) { r.limits = proxy.Limits{MaxBody: 10} })
	if a := f.do(f.post("oauth", "POST", "/x", `"01234567"`)); a.StatusCode != http.StatusOK {
		t.Errorf("got %d %s", a.StatusCode, a.body)
	}
	f.do(f.post("oauth", "POST", "/x", `"012345678"`)).handedBack(t, "too long", "body_too_large")
}

// An API may answer before it has read what it was sent. The caller's connection has nothing more to come.
func TestErrandThatIsAnsweredEarly(t *testing.T) {
	f := newFacade(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})
	data := `"` + strings.Repeat("a", 3<<20) + `"`
	a := f.do(f.post("oauth", "POST", "/x", data))
	if a.StatusCode != http.StatusRequestEntityTooLarge || a.Close {
		t.Errorf("got %d, closed: %t", a.StatusCode, a.Close)
	}
}

func TestErrandIsSentAgainAfterARenewal(t *testing.T) {
	rejected := func() (*facade, *guarded) {
		g := &guarded{}
		f := newFacade(t, g.ServeHTTP)
		g.idp.Store(f.idp)
		f.idp.ExpireAccess()
		return f, g
	}
	for _, early := range []bool{false, true} {
		for _, data := range []string{"", `{"a":"b"}`, `"` + strings.Repeat("a", 100_000) + `"`} {
			f, g := rejected()
			g.early.Store(early)
			sum, err := sum(strings.NewReader(data))
			must(t, err)
			want := fmt.Sprintf("/x%%2Fy?z %d %x <nil>", len(data), sum)
			if a := f.do(f.post("oauth", "POST", f.upstream.URL+"/x%2Fy?z", data)); a.StatusCode != http.StatusOK || a.body != want {
				t.Errorf("%d bytes: got %d %s, want %s", len(data), a.StatusCode, a.body, want)
			}
			if n := f.idp.Counts().Refreshes; n != 1 || g.calls.Load() != 2 {
				t.Errorf("%d bytes: %d renewals and %d calls", len(data), n, g.calls.Load())
			}
		}
	}
	// What is not kept is not sent again, and the caller's own repetition is served.
	f, _ := rejected()
	for _, want := range []int{http.StatusUnauthorized, http.StatusOK} {
		a := f.do(f.post("oauth", "POST", "/x", `"`+strings.Repeat("a", 1<<20)+`"`))
		if a.StatusCode != want {
			t.Errorf("got %d %s, want %d", a.StatusCode, a.body, want)
		}
		if want == http.StatusUnauthorized && a.Header.Get("X-Error-Source") != "upstream" {
			t.Errorf("got %v", a.Header)
		}
	}
}

func TestErrandFollowsRedirectsOfItsOrigin(t *testing.T) {
	f := newFacade(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/v1/away" {
			w.Header().Set("Location", q.URL.Query().Get("to"))
			w.WriteHeader(http.StatusFound)
			return
		}
		_, _ = w.Write([]byte(q.RequestURI))
	})
	if a := f.call("below", "GET", "away?to=b"); a.body != "/v1/b" {
		t.Errorf("got %d %s", a.StatusCode, a.body)
	}
	for _, to := range []string{"https://evil.example/v1/b", "//evil.example/v1/b", "/v2/b"} {
		if a := f.call("below", "GET", "away?to="+to); a.StatusCode != http.StatusFound || a.Header.Get("Location") != to {
			t.Errorf("%s: got %d %v", to, a.StatusCode, a.Header)
		}
	}
}

func TestErrandFailuresComeBack(t *testing.T) {
	f := newFacade(t, echo)
	f.call("gone", "GET", "/x").handedBack(t, "closed port", "provider_unreachable")
	f.do(f.post("gone", "POST", "/x", `{}`)).handedBack(t, "closed port", "provider_unreachable")
	f.call("blocked", "GET", "/x").handedBack(t, "blocked address", "egress_blocked")
	f.change = func(e *kit.Errand) { e.Who = broker.Actor{} }
	f.call("oauth", "GET", "/x").handedBack(t, "nobody", "unauthorized")
	f.change = nil
	upgrade := f.post("oauth", "GET", "/x", "")
	upgrade.Header.Set("Connection", "Upgrade")
	upgrade.Header.Set("Upgrade", "websocket")
	f.do(upgrade).handedBack(t, "upgrade", "upgrade_not_supported")
	if !strings.Contains(f.log.String(), "connection refused") {
		t.Errorf("the operator cannot see why: %s", f.log)
	}
}

func TestErrandThatPanics(t *testing.T) {
	f := newFacade(t, echo, func(r *rig) {
		r.transport = transport(func(*http.Request) (*http.Response, error) { panic("secret text") })
	})
	a := f.call("oauth", "GET", "/x")
	a.handedBack(t, "panic", "internal")
	if log := f.log.String(); !strings.Contains(log, "panicked") || strings.Contains(log+a.body, "secret text") {
		t.Errorf("answer %s, log %s", a.body, log)
	}
}

func TestErrandsAreCounted(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	f := newFacade(t, func(_ http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/wait" {
			arrived <- struct{}{}
			<-release
		}
	}, func(r *rig) { r.limits = proxy.Limits{PerConnection: 1} })
	done := make(chan answer)
	go func() { done <- f.do(f.post("keyed", "POST", "/wait", `{}`)) }()
	<-arrived
	errand := f.do(f.post("keyed", "POST", "/x", `{}`))
	direct := f.get("keyed", "/x")
	close(release)
	if a := <-done; a.StatusCode != http.StatusOK {
		t.Errorf("got %d %s", a.StatusCode, a.body)
	}
	errand.handedBack(t, "one too many", "rate_limited")
	direct.refused(t, http.StatusTooManyRequests, "rate_limited", "too_many_request")
	if errand.Header.Get("Retry-After") != "1" {
		t.Errorf("got %v", errand.Header)
	}
	if a := f.call("keyed", "", "/x"); a.StatusCode != http.StatusOK {
		t.Errorf("afterwards: got %d", a.StatusCode)
	}
}

// The key's limit is asked once for each call: by the gate or by the proxy.
func TestErrandKeyLimit(t *testing.T) {
	var asked int
	var refuse error
	f := newFacade(t, echo, func(r *rig) {
		r.keyLimit = func(broker.APIKeyID) error {
			asked++
			return refuse
		}
	})
	f.call("oauth", "", "/x")
	if asked != 1 {
		t.Errorf("asked %d times about a call that was counted", asked)
	}
	uncounted := func(who broker.Actor) error {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/x", nil)
		out, err := f.broker.Outbound(t.Context(), f.who, "oauth", "c")
		must(t, err)
		return f.proxy.Carry(httptest.NewRecorder(), req, kit.Errand{Who: who, Out: out, URL: "/x"})
	}
	asked, refuse = 0, broker.ErrRateLimited
	if err := uncounted(f.who); !errors.Is(err, broker.ErrRateLimited) || asked != 1 {
		t.Errorf("got %v, asked %d times", err, asked)
	}
	if err := uncounted(broker.Actor{Kind: broker.BySession, Environment: f.who.Environment, Session: "s"}); err != nil || asked != 1 {
		t.Errorf("a session: got %v, asked %d times", err, asked)
	}
}
