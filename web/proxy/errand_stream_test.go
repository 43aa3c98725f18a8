package proxy_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

func TestErrandEventsAreFlushedAtOnce(t *testing.T) {
	next := make(chan struct{})
	f := newFacade(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 2 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			must(t, http.NewResponseController(w).Flush())
			<-next
		}
	})
	res, err := f.client.Do(f.post("oauth", "POST", "/events", `{}`))
	must(t, err)
	events := bufio.NewReader(res.Body)
	for i := range 2 {
		line, err := events.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
			t.Fatalf("got %q, %v", line, err)
		}
		_, err = events.Discard(1)
		must(t, err)
		next <- struct{}{}
	}
	must(t, res.Body.Close())
}

// deadlines notes what limits of time a connection has last.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = t; return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

// A surface's request has to be read and answered within a time; what comes through may take as long as it moves. When a
// failure is handed back, there is a time for its answer again.
func TestErrandHasItsOwnTime(t *testing.T) {
	f := newFacade(t, echo)
	for _, test := range []struct {
		integration string
		lifted      bool
	}{{"keyed", true}, {"gone", false}} {
		soon := time.Now().Add(time.Minute)
		w := &deadlines{httptest.NewRecorder(), soon, soon}
		out, err := f.broker.Outbound(t.Context(), f.who, test.integration, "c")
		must(t, err)
		err = f.proxy.Carry(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil), kit.Errand{Who: f.who, Out: out, URL: "x"})
		if !w.read.IsZero() || w.write.IsZero() != test.lifted || w.write.Equal(soon) || (err == nil) != test.lifted {
			t.Errorf("%s: %v; to be read by %v, answered by %v", test.integration, err, w.read, w.write)
		}
	}
}

func TestErrandThatIsIdle(t *testing.T) {
	for _, data := range []string{"", `{"a":"b"}`} {
		left := make(chan struct{}, 1)
		f := newFacade(t, func(_ http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			<-q.Context().Done()
			left <- struct{}{}
		}, idle)
		a := f.do(f.post("oauth", "POST", "/x", data))
		a.handedBack(t, "idle", "provider_timeout")
		<-left
		if !a.Close {
			t.Error("the connection, whose context has ended, is kept")
		}
	}
}

// It ends even where nobody looks after the caller's connection.
func TestErrandThatIsIdleWithoutAConnection(t *testing.T) {
	f := newFacade(t, echo, idle, func(r *rig) {
		r.transport = transport(func(q *http.Request) (*http.Response, error) {
			<-q.Context().Done()
			return nil, q.Context().Err()
		})
	})
	out, err := f.broker.Outbound(t.Context(), f.who, "oauth", "c")
	must(t, err)
	w := httptest.NewRecorder()
	err = f.proxy.Carry(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), kit.Errand{Who: f.who, Out: out, URL: "x"})
	if !errors.Is(err, broker.ErrProviderTimeout) || w.Body.Len() > 0 {
		t.Errorf("got %v, and %q was written", err, w.Body)
	}
}

func TestErrandThatStopsHalfway(t *testing.T) {
	f := newFacade(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.WriteString(w, "begin")
		must(t, http.NewResponseController(w).Flush())
		<-q.Context().Done()
	}, idle)
	res, err := f.client.Do(f.post("oauth", "POST", "/x", `{}`))
	must(t, err)
	if body, err := io.ReadAll(res.Body); err == nil || string(body) != "begin" {
		t.Errorf("got %q, %v", body, err)
	}
	must(t, res.Body.Close())
}

// When the caller hangs up, the call to the provider ends, and nobody is handed anything.
func TestErrandOfACallerThatLeaves(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan struct{})
	f := newFacade(t, func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		close(arrived)
		<-q.Context().Done()
		close(left)
	})
	ctx, leave := context.WithCancel(t.Context())
	req := f.post("oauth", "POST", "/x", `{}`).WithContext(ctx)
	go func() {
		<-arrived
		leave()
	}()
	if res, err := f.client.Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", res, err)
	}
	<-left
	f.access.await(`"code":"client_gone"`)
}

// An informational answer stays here, and takes nothing along of what the surface has set.
func TestErrandBesideAnInformationalAnswer(t *testing.T) {
	f := newFacade(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		must(t, err)
		_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Early: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		must(t, conn.Close())
	})
	a := f.call("oauth", "GET", "/x")
	if a.body != "ok" || a.Header.Get("X-Early") != "" || len(a.Header.Get("X-Request-Id")) != 36 || a.Header.Get("Cache-Control") != "no-store" ||
		a.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("got %q %v", a.body, a.Header)
	}
}

func TestErrandAnswerHeaders(t *testing.T) {
	const access = "a-token-long-enough-to-be-looked-for"
	f := newFacade(t, func(w http.ResponseWriter, q *http.Request) {
		for name, value := range map[string]string{
			"Set-Cookie": "a=b", "Access-Control-Allow-Origin": "*", "X-Error-Code": "theirs", "Content-Security-Policy": "default-src *", "Alt-Svc": "h3",
			"Etag": `"e"`, "X-Echo": q.Header.Get("Authorization"), "Cache-Control": "private",
		} {
			w.Header().Set(name, value)
		}
		w.WriteHeader(http.StatusTeapot)
	})
	f.put("oauth", "c", &broker.Material{Type: "OAUTH2", Access: broker.NewSecret(access), ExpiresAt: time.Now().Add(time.Hour)})
	a := f.call("oauth", "GET", "/x")
	for name, want := range map[string]string{
		"Set-Cookie": "", "Access-Control-Allow-Origin": "", "X-Error-Code": "", "Alt-Svc": "", "X-Echo": "", "Etag": `"e"`, "Cache-Control": "private",
		"Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff", "X-Error-Source": "upstream",
	} {
		if got := a.Header.Get(name); got != want || a.StatusCode != http.StatusTeapot {
			t.Errorf("%d, %s: %q, want %q", a.StatusCode, name, got, want)
		}
	}
}

func TestErrandsAreLogged(t *testing.T) {
	f := newFacade(t, echo)
	a := f.do(f.post("below", "POST", "/a%2Fb?query=secret", `"secret body"`, "X-Header", "secret"))
	for _, url := range []string{
		"https://u:secret@evil.example/x?secret", "//u:secret@evil.example/y", "u:secret@evil.example/z", "https:/u:secret@evil.example/", "/../x?secret", "x#secret", "x?a#secret", "/" + secretKey,
		"coat_dev_secret/x", "https://evil.example", "https://files.example.com.evil.example//u:secret@x",
	} {
		f.call("below", "GET", url)
	}
	f.call("gone", "GET", "/x")
	f.change = func(e *kit.Errand) {
		e.Who = broker.Actor{Kind: broker.BySession, Environment: f.who.Environment, Session: "the-session"}
	}
	f.call("keyed", "GET", "x")
	f.server.Close()
	lines := f.lines()
	c, err := f.broker.Connection(t.Context(), f.who, ref("below", "c"))
	must(t, err)
	for name, value := range map[string]any{
		"method": "POST", "path": "/a%2Fb", "status": 200.0, "bytes_in": 13.0, "bytes_out": float64(len(a.body)), "integration": "below", "connection": string(c.ID),
		"key": string(f.who.Key), "environment": string(f.who.Environment), "request_id": a.Header.Get("X-Request-Id"), "host": strings.TrimPrefix(f.upstream.URL, "http://"),
		"session": nil, "code": nil,
	} {
		if lines[0][name] != value {
			t.Errorf("%s: %v, want %v", name, lines[0][name], value)
		}
	}
	for i, want := range []struct{ path, status, code any }{
		{"/a%2Fb", 200.0, nil},
		{"/x", 400.0, "base_url_not_allowed"},
		{"/y", 400.0, "invalid_path"},
		{"[masked]", 400.0, "invalid_path"},
		{"[masked]", 400.0, "invalid_path"},
		{"/../x", 400.0, "invalid_path"},
		{"/x", 400.0, "invalid_path"},
		{"/x", 400.0, "invalid_query"},
		{"[masked]", 400.0, "credential_in_url"},
		{"/coat_[masked]/x", 200.0, nil},
		{"/", 400.0, "base_url_not_allowed"},
		{"[masked]", 400.0, "base_url_not_allowed"},
		{"/x", 502.0, "provider_unreachable"},
		{"/x", 200.0, nil},
	} {
		if l := lines[i]; l["path"] != want.path || l["status"] != want.status || l["code"] != want.code {
			t.Errorf("line %d: %v, want %v", i, l, want)
		}
	}
	if last := lines[len(lines)-1]; last["session"] != "the-session" || last["key"] != nil {
		t.Errorf("a session: %v", last)
	}
	if all := f.access.String() + f.log.String(); strings.Contains(all, "secret") {
		t.Errorf("the logs hold a secret:\n%s", all)
	}
}

// Whatever becomes of a call, the credential is in nothing that comes back and in no log.
func TestErrandCanary(t *testing.T) {
	const access = "canary-access-token-of-some-length"
	f := newFacade(t, func(w http.ResponseWriter, q *http.Request) {
		if !strings.Contains(q.Header.Get("Authorization")+q.Header.Get("X-Api-Key")+q.RequestURI, "-") {
			t.Errorf("no credential in %s %v", q.RequestURI, q.Header)
		}
		w.Header().Set("X-Echo", q.Header.Get("Authorization"))
		w.Header().Set("Location", "https://elsewhere.example/?t="+q.Header.Get("Authorization"))
		switch q.URL.Path {
		case "/refuse":
			w.WriteHeader(http.StatusUnauthorized)
		case "/away":
			w.WriteHeader(http.StatusFound)
		case "/hangup":
			conn, _, err := http.NewResponseController(w).Hijack()
			must(t, err)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 "+q.Header.Get("Authorization")+"\r\nbad header "+q.Header.Get("Authorization")+"\r\n\r\n")
			must(t, conn.Close())
		}
	})
	f.put("oauth", "c", &broker.Material{
		Type: "OAUTH2", Access: broker.NewSecret(access), Refresh: broker.NewSecret("canary-refresh-token"), ExpiresAt: time.Now().Add(time.Hour),
	})
	var seen strings.Builder
	for _, integration := range []string{"oauth", "keyed", "asked", "pathed", "gone", "blocked"} {
		own := map[string]string{"oauth": "/" + access, "keyed": "/" + apiKey, "pathed": f.upstream.URL + "/bot" + url.PathEscape(apiKey) + "/x"}[integration]
		for i, u := range []string{"/ok", "refuse", "/away", "/hangup", "/../x", "https://evil.example/x", own, "/x?api_key=mine", "/x;y?;"} {
			a := f.do(f.post(integration, "POST", u, `{}`, "X-Api-Key", "mine"))
			b := f.call(integration, "GET", u)
			for _, a := range []answer{a, b} {
				_, _ = fmt.Fprintf(&seen, "%d: %d %v %s\n", i, a.StatusCode, a.Header, a.body)
			}
		}
	}
	f.server.Close()
	f.lines()
	for _, secret := range []string{access, "canary-refresh-token", apiKey, secretKey} {
		raw := []byte(secret)
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), base64.StdEncoding.EncodeToString(raw), hex.EncodeToString(raw)} {
			for what, text := range map[string]string{"an answer": seen.String(), "the access log": f.access.String(), "the log": f.log.String()} {
				if i := strings.Index(text, form); i >= 0 {
					t.Errorf("%q is in %s: %s", form, what, text[max(0, i-200):min(len(text), i+200)])
				}
			}
		}
	}
}
