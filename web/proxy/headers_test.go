package proxy_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// seen keeps the request that reaches the API last.
type seen struct{ last atomic.Pointer[http.Request] }

func (s *seen) ServeHTTP(_ http.ResponseWriter, r *http.Request) { s.last.Store(r) }

// header gives the headers that arrived, without those of every request.
func (s *seen) header() http.Header {
	h := s.last.Load().Header.Clone()
	h.Del("Authorization")
	return h
}

func TestHeadersOut(t *testing.T) {
	var got seen
	r := newRig(t, got.ServeHTTP)
	for _, test := range []struct {
		name string
		sent []string
		want map[string]string
	}{
		{"nothing of its own", nil, nil},
		{"the allow list", []string{
			"Accept", "application/json", "Accept-Encoding", "br", "Accept-Language", "de", "Content-Type", "text/plain", "Content-Md5", "x",
			"User-Agent", "me/1", "Range", "bytes=0-1", "If-None-Match", `"a"`, "Mcp-Session-Id", "m", "Last-Event-Id", "7",
		}, map[string]string{
			"Accept": "application/json", "Accept-Encoding": "br", "Accept-Language": "de", "Content-Type": "text/plain", "Content-Md5": "x",
			"User-Agent": "me/1", "Range": "bytes=0-1", "If-None-Match": `"a"`, "Mcp-Session-Id": "m", "Last-Event-Id": "7",
		}},
		{"not on it", []string{"X-Custom", "a", "Cookie", "a=b", "Origin", "https://a", "Referer", "https://a", "Via", "1.1 a", "Priority", "u=1"}, nil},
		{"meant for upstream", []string{"Nango-Proxy-X-Custom", "a", "Nango-Proxy-X_snake", "b", "Nango-Proxy-", "c"}, map[string]string{"X-Custom": "a", "X_snake": "b"}},
		{"meant for upstream wins", []string{"Content-Type", "text/plain", "Nango-Proxy-Content-Type", "application/pdf"}, map[string]string{"Content-Type": "application/pdf"}},
		{"of the hop or of ours, even if meant for upstream", []string{
			"Nango-Proxy-Host", "evil", "Nango-Proxy-Cookie", "a=b", "Nango-Proxy-Proxy-Authorization", "a", "Nango-Proxy-Forwarded", "for=a",
			"Nango-Proxy-X-Forwarded-For", "1.2.3.4", "Nango-Proxy-X_forwarded_host", "a", "Nango-Proxy-X-Real-Ip", "1.2.3.4", "Nango-Proxy-Via", "a",
			"Nango-Proxy-Upgrade", "h2c", "Nango-Proxy-Http2-Settings", "a", "Nango-Proxy-Expect", "100-continue", "Nango-Proxy-Origin", "a",
			"Nango-Proxy-Referer", "a", "Nango-Proxy-Sec-Fetch-Site", "a", "Nango-Proxy-Connection", "close", "Nango-Proxy-Te", "trailers",
			"Nango-Proxy-Transfer-Encoding", "chunked", "Nango-Proxy-Content-Length", "7", "Nango-Proxy-Content_length", "7",
			"Nango-Proxy-Retries", "3", "Nango-Proxy-Nango-Proxy-A", "a", "Nango-Proxy-Connection-Id", "a", "Nango-Proxy-Keep-Alive", "a",
		}, nil},
		{"our key", []string{"Nango-Proxy-X-Token", "Bearer " + secretKey, "User-Agent", secretKey}, nil},
		{"a name that upgrades nothing", []string{"Upgrade", "h2c", "Http2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.get("oauth", "/x", append([]string{"User-Agent", ""}, test.sent...)...)
			want := http.Header{}
			for k, v := range test.want {
				want[k] = []string{v}
			}
			if h := got.header(); !maps.EqualFunc(h, want, slices.Equal) {
				t.Errorf("got  %v\nwant %v", h, want)
			}
			if a := got.last.Load().Header.Get("Authorization"); !strings.HasPrefix(a, "Bearer access-") {
				t.Errorf("credential %q", a)
			}
			if host := "http://" + got.last.Load().Host; host != r.upstream.URL {
				t.Errorf("Host: %s", host)
			}
		})
	}
}

func TestEntryHeaders(t *testing.T) {
	var got seen
	r := newRig(t, got.ServeHTTP)
	for _, test := range []struct {
		sent []string
		want map[string]string
	}{
		// HTTP clients send an Accept that nobody wrote.
		{[]string{"Accept", "*/*", "User-Agent", "me"}, map[string]string{"Accept": "application/vnd.test+json", "X-Version": "7", "User-Agent": "the-entry"}},
		{[]string{"Nango-Proxy-Accept", "text/csv", "Nango-Proxy-X-Version", "8"}, map[string]string{"Accept": "text/csv", "X-Version": "8", "User-Agent": "the-entry"}},
		{[]string{"Nango-Proxy-User-Agent", "me"}, map[string]string{"Accept": "application/vnd.test+json", "X-Version": "7", "User-Agent": "the-entry"}},
	} {
		if a := r.get("below", "/x", append([]string{"Accept-Encoding", "-"}, test.sent...)...); a.StatusCode != http.StatusOK {
			t.Fatalf("%v: %d %s", test.sent, a.StatusCode, a.body)
		}
		for k, v := range test.want {
			if h := got.header()[k]; !slices.Equal(h, []string{v}) {
				t.Errorf("%v: %s: %q, want %q", test.sent, k, h, v)
			}
		}
	}
}

func TestReservedHeaders(t *testing.T) {
	r := newRig(t, func(http.ResponseWriter, *http.Request) { t.Error("a refused call went upstream") })
	for _, test := range []struct{ integration, header string }{
		{"oauth", "Nango-Proxy-Authorization"},
		{"oauth", "Nango-Proxy-authorization"},
		{"keyed", "Nango-Proxy-X-Api-Key"},
		{"keyed", "Nango-Proxy-X_api-Key"},
		{"keyed", "X-Api-Key"},
		{"keyed", "X_API_KEY"},
	} {
		r.get(test.integration, "/x", test.header, "mine").refused(t, http.StatusBadRequest, "reserved_header", "reserved_header")
	}
}

// Where the provider's authentication leaves Authorization alone, the caller's is still ours.
func TestAuthorizationIsNeverTheCallers(t *testing.T) {
	var got seen
	r := newRig(t, got.ServeHTTP)
	a := r.get("keyed", "/x", "Nango-Proxy-Authorization", "Basic mine")
	if h := got.last.Load().Header; a.StatusCode != http.StatusOK || h.Get("Authorization") != "" || h.Get("X-Api-Key") != apiKey {
		t.Errorf("got %d, upstream %v", a.StatusCode, h)
	}
}

// A Connection header takes what it names out of the request. It must not take out what is put in.
func TestConnectionHeaderCannotTakeTheCredentialOut(t *testing.T) {
	var got seen
	r := newRig(t, got.ServeHTTP)
	out := r.raw(head("GET", "/x", "keyed", "Connection: X-Api-Key, Authorization, Connection-Id, x_api_key", "Connection: X-Taken",
		"Nango-Proxy-X-Taken: a", "Nango-Proxy-X_Taken: b", "Nango-Proxy-X-Left: c", "Te: trailers", "User-Agent: me"))
	if !strings.HasPrefix(out, "HTTP/1.1 200 ") {
		t.Fatalf("got %s", out)
	}
	want := http.Header{"X-Api-Key": {apiKey}, "X-Left": {"c"}, "User-Agent": {"me"}}
	if h := got.last.Load().Header; !maps.EqualFunc(h, want, slices.Equal) {
		t.Errorf("got %v, want %v", h, want)
	}
}

func TestUpgradesAreRefused(t *testing.T) {
	r := newRig(t, func(http.ResponseWriter, *http.Request) { t.Error("a refused call went upstream") })
	for _, headers := range [][]string{
		{"Connection: keep-alive, Upgrade", "Upgrade: h2c"},
		{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"},
		{"Connection: uPgRaDe", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
	} {
		if out := r.raw(head("GET", "/x", "oauth", headers...)); !strings.HasPrefix(out, "HTTP/1.1 400 ") || !strings.Contains(out, "upgrade_not_supported") {
			t.Errorf("%v: got %s", headers, out)
		}
	}
}

func TestAnswerHeaders(t *testing.T) {
	const access = "a-token-long-enough-to-be-looked-for"
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		h := w.Header()
		for _, name := range []string{
			"Set-Cookie", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "Access-Control-Allow-Origin", "Access-Control-Anything",
			"Refresh", "Nel", "Report-To", "Service-Worker-Allowed", "X-Error-Code", "X-Error-Source", "X-Error-Whatever", "Keep-Alive",
			"Content-Security-Policy-Report-Only",
		} {
			h.Set(name, "theirs")
		}
		h.Set("Content-Security-Policy", "default-src *")
		h.Set("X-Content-Type-Options", "no")
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "theirs")
		h.Set("Location", "https://elsewhere.example/a b?c#d")
		h.Set("Link", `<https://api.example/2>; rel="next"`)
		h.Set("Etag", `"e"`)
		h.Set("X-Ratelimit-Remaining", "7")
		h.Set("Content-Type", "text/html")
		h.Set("X-Echo", q.Header.Get("Authorization"))
		h.Add("X-Mixed", "good")
		h.Add("X-Mixed", "token="+access)
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte("<script>"))
	})
	r.put("oauth", "d", &broker.Material{Type: "OAUTH2", Access: broker.NewSecret(access), ExpiresAt: time.Now().Add(time.Hour)})
	a := r.get("oauth", "/x", "Connection-Id", "d")
	id := a.Header.Get("X-Request-Id")
	want := http.Header{
		"Location": {"https://elsewhere.example/a b?c#d"}, "Link": {`<https://api.example/2>; rel="next"`}, "Etag": {`"e"`},
		"X-Ratelimit-Remaining": {"7"}, "Content-Type": {"text/html"}, "X-Mixed": {"good"}, "Content-Length": {"8"}, "Date": a.Header["Date"],
		"Content-Security-Policy": {"sandbox; default-src 'none'"}, "X-Content-Type-Options": {"nosniff"}, "X-Request-Id": {id},
	}
	if a.StatusCode != http.StatusCreated || a.body != "<script>" || !maps.EqualFunc(a.Header, want, slices.Equal) {
		t.Errorf("got  %d %v %q\nwant %v", a.StatusCode, a.Header, a.body, want)
	}
	if len(id) != 36 || id[14] != '4' {
		t.Errorf("request id %q is no UUID of version 4", id)
	}
}

func TestErrorsSayWhoseTheyAre(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "theirs")
		w.WriteHeader(http.StatusTeapot)
	})
	a := r.get("oauth", "/x")
	if a.StatusCode != http.StatusTeapot || a.Header.Get("X-Error-Source") != "upstream" || a.Header.Get("X-Error-Code") != "" || a.Header.Get("X-Request-Id") != "theirs" {
		t.Errorf("got %d %v", a.StatusCode, a.Header)
	}
}

// Whatever headers a caller sends, the credential stays what it is and nothing of the hop goes upstream.
func FuzzHeaders(f *testing.F) {
	var got seen
	r := newRig(f, echo, func(r *rig) {
		r.transport = transport(func(q *http.Request) (*http.Response, error) {
			got.last.Store(q)
			return reply(q, http.StatusOK, ""), nil
		})
	})
	for _, name := range []string{
		"Connection", "Nango-Proxy-Authorization", "nango-proxy-x_api_key", "X-Api-Key", "Nango-Proxy-Cookie", "Upgrade", "Expect", "Te",
		"Nango-Proxy-Nango-Proxy-X", "Content-Length", "Trailer", "Nango-Proxy-Transfer-Encoding", "Accept-Encoding", "Nango-Proxy-Host",
	} {
		f.Add(name, "X-Api-Key", "X-Other", "v")
	}
	ctx := f.Context()
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/proxy/x", nil)
		req.Header.Set("Authorization", "Bearer "+secretKey)
		req.Header.Set("Provider-Config-Key", "keyed")
		req.Header.Set("Connection-Id", "c")
		req.Header.Add(name1, value1)
		req.Header.Add(name2, value2)
		got.last.Store(nil)
		r.proxy.ServeHTTP(httptest.NewRecorder(), req)
		checkSent(t, got.last.Load())

		out, err := r.broker.Outbound(ctx, r.who, "keyed", "c")
		must(t, err)
		got.last.Store(nil)
		_ = r.proxy.Carry(httptest.NewRecorder(), req, kit.Errand{
			Who: r.who, Out: out, Header: http.Header{name1: {value1}, name2: {value2}}, Plain: req.Header,
		})
		checkSent(t, got.last.Load())
	})
}

// checkSent checks a request of the integration "keyed" as it goes upstream. nil: it was refused.
func checkSent(t *testing.T, out *http.Request) {
	t.Helper()
	if out == nil {
		return
	}
	if !slices.Equal(out.Header["X-Api-Key"], []string{apiKey}) || out.Host != "" || out.Trailer != nil || out.Close {
		t.Errorf("credential %q, Host %q", out.Header["X-Api-Key"], out.Host)
	}
	for name, values := range out.Header {
		folded := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		for _, never := range []string{
			"authorization", "connection", "content-length", "cookie", "expect", "forwarded", "host", "http2-settings", "keep-alive",
			"origin", "referer", "te", "trailer", "transfer-encoding", "upgrade", "via", "x-real-ip", "connection-id",
			"provider-config-key", "retries", "retry-on", "base-url-override",
		} {
			if folded == never {
				t.Errorf("%s went upstream", name)
			}
		}
		for _, prefix := range []string{"proxy-", "x-forwarded-", "sec-", "nango-"} {
			if strings.HasPrefix(folded, prefix) {
				t.Errorf("%s went upstream", name)
			}
		}
		if folded == "x-api-key" && name != "X-Api-Key" {
			t.Errorf("%s went upstream beside the credential", name)
		}
		for _, v := range values {
			if strings.Contains(v, secretKey) {
				t.Errorf("%s holds the caller's key", name)
			}
		}
	}
}
