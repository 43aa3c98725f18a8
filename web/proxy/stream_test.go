package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/web/proxy"
)

func TestBodiesGoThroughUntouched(t *testing.T) {
	r := newRig(t, echo)
	for _, test := range []struct {
		name, method, contentType, override, body, want string
	}{
		{"JSON", "POST", "application/json", "", `{"n": 12345678901234567890}`, "application/json"},
		{"form", "POST", "application/x-www-form-urlencoded", "", "a=b&c=%20", "application/x-www-form-urlencoded"},
		{"binary", "PUT", "application/pdf", "", "\x00\xff\r\n", "application/pdf"},
		{"another type", "PATCH", "application/json", "application/vnd.x+json", "{}", "application/vnd.x+json"},
		{"untyped", "POST", "", "", "text", ""},
		{"a body of DELETE", "DELETE", "application/json", "", "{}", "application/json"},
		{"a body of GET", "GET", "application/json", "", "{}", "application/json"},
		{"multipart", "POST", "multipart/form-data; boundary=x", "", "--x\r\n\r\na\r\n--x--\r\n", "multipart/form-data; boundary=x"},
	} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = strings.NewReader(test.body)
			if chunked {
				body = io.MultiReader(body) // of no known length
			}
			req := r.request(test.method, "oauth", "/x", body, "Content-Type", test.contentType)
			if test.contentType == "" {
				req.Header.Del("Content-Type")
			}
			if test.override != "" {
				req.Header.Set("Nango-Proxy-Content-Type", test.override)
			}
			a := r.do(req)
			if !strings.HasPrefix(a.body, test.method+" /x\n") || !strings.HasSuffix(a.body, "\n"+test.body) ||
				test.want != "" && !strings.Contains(a.body, "Content-Type: "+test.want+"\r\n") || test.want == "" && strings.Contains(a.body, "Content-Type") {
				t.Errorf("%s, chunked %t: got %d %q", test.name, chunked, a.StatusCode, a.body)
			}
		}
	}
}

// Clients send a POST, PUT or PATCH without data as a form of length zero.
func TestEmptyForms(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		_, _ = fmt.Fprintf(w, "%s %d %q %s", q.Method, q.ContentLength, q.Header["Content-Type"], body)
	})
	const form = "application/x-www-form-urlencoded"
	for _, test := range []struct {
		method  string
		headers []string
		want    string
	}{
		{"POST", []string{"Content-Type", form}, `POST 2 ["application/json"] {}`},
		{"PUT", []string{"Content-Type", form + "; charset=utf-8"}, `PUT 2 ["application/json"] {}`},
		{"PATCH", []string{"Content-Type", form}, `PATCH 2 ["application/json"] {}`},
		{"POST", []string{"Content-Type", form, "Nango-Proxy-Content-Type", "application/json"}, `POST 2 ["application/json"] {}`},
		{"POST", []string{"Content-Type", form, "Nango-Proxy-Content-Type", form}, `POST 0 ["` + form + `"] `},
		{"POST", []string{"Content-Type", "text/plain"}, `POST 0 ["text/plain"] `},
		{"POST", nil, `POST 0 [] `},
		{"DELETE", []string{"Content-Type", form}, `DELETE 0 ["` + form + `"] `},
		{"GET", []string{"Content-Type", form}, `GET 0 ["` + form + `"] `},
	} {
		if a := r.do(r.request(test.method, "oauth", "/x", http.NoBody, test.headers...)); a.body != test.want {
			t.Errorf("%s %v: got %s, want %s", test.method, test.headers, a.body, test.want)
		}
	}
}

func TestStatusesWithoutABody(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		status, _ := strconv.Atoi(q.URL.Path[1:])
		w.Header().Set("Etag", `"e"`)
		if status == http.StatusOK {
			w.Header().Set("Content-Length", "12345")
		}
		w.WriteHeader(status)
	})
	for _, test := range []struct {
		method, path string
		status       int
		length       int64
	}{
		{http.MethodGet, "/204", 204, 0},
		{http.MethodGet, "/304", 304, 0},
		{http.MethodHead, "/200", 200, 12345},
		{http.MethodHead, "/404", 404, -1},
		{http.MethodDelete, "/204", 204, 0},
	} {
		a := r.do(r.request(test.method, "oauth", test.path, nil))
		if a.StatusCode != test.status || a.body != "" || a.Header.Get("Etag") != `"e"` || a.ContentLength != test.length {
			t.Errorf("%s %s: got %d, length %d, %v", test.method, test.path, a.StatusCode, a.ContentLength, a.Header)
		}
	}
}

// An event is there before the next one has happened.
func TestEventsAreFlushedAtOnce(t *testing.T) {
	next := make(chan struct{})
	for _, length := range []string{"", "20"} {
		r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			for i := range 2 {
				_, _ = fmt.Fprintf(w, "data: %d\n\n\n", i)
				must(t, http.NewResponseController(w).Flush())
				<-next
			}
		})
		res, err := r.client.Do(r.request(http.MethodGet, "oauth", "/events", nil))
		must(t, err)
		events := bufio.NewReader(res.Body)
		for i := range 2 {
			line, err := events.ReadString('\n')
			if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
				t.Fatalf("got %q, %v", line, err)
			}
			_, err = events.Discard(2)
			must(t, err)
			next <- struct{}{}
		}
		must(t, res.Body.Close())
	}
}

// Both directions stream at the same time.
func TestBothWaysAtOnce(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		rc := http.NewResponseController(w)
		must(t, rc.EnableFullDuplex())
		must(t, rc.Flush())
		lines := bufio.NewReader(q.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(w, "got "+line)
			must(t, rc.Flush())
		}
	})
	in, out := io.Pipe()
	res, err := r.client.Do(r.request(http.MethodPost, "oauth", "/talk", in))
	must(t, err)
	answers := bufio.NewReader(res.Body)
	for _, line := range []string{"one\n", "two\n"} {
		_, err := io.WriteString(out, line)
		must(t, err)
		if got, err := answers.ReadString('\n'); err != nil || got != "got "+line {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	must(t, out.Close())
	_, err = io.Copy(io.Discard, answers)
	must(t, err)
	must(t, res.Body.Close())
}

// block repeats in a pattern; its length divides no buffer's.
var block = func() []byte {
	b := make([]byte, 65_537)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}()

// pattern is n bytes in which a part that is missing or doubled shows.
type pattern struct{ at, n int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.n {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.n-p.at)]
	n := copy(b, block[p.at%int64(len(block)):])
	p.at += int64(n)
	return n, nil
}

// sum tells what is read from what should be.
func sum(r io.Reader) (uint32, error) {
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, err := io.Copy(h, r)
	return h.Sum32(), err
}

// 100 MiB each way cost less memory in all than a tenth of them.
func TestLargeBodiesStream(t *testing.T) {
	const size = 100 << 20
	want, err := sum(&pattern{n: size})
	must(t, err)
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		got, err := sum(q.Body)
		if err != nil || q.ContentLength != 0 && got != want {
			t.Errorf("upload: %x, %v", got, err)
		}
		if q.URL.RawQuery == "length" {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		if q.Method == http.MethodGet {
			_, err = io.Copy(w, &pattern{n: size})
		}
		if err != nil {
			t.Error(err)
		}
	})
	r.get("oauth", "/warm", "Range", "bytes=0-0")
	for _, test := range []struct {
		name, method, path string
		length             int64
	}{
		{"down", "GET", "/x?length", 0}, {"down, chunked", "GET", "/x", 0}, {"up", "POST", "/x", size}, {"up, chunked", "POST", "/x", -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var body io.Reader
			if test.length != 0 {
				body = io.MultiReader(&pattern{n: size})
			}
			req := r.request(test.method, "oauth", test.path, body)
			req.ContentLength = test.length
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			res, err := r.client.Do(req)
			must(t, err)
			got, err := sum(res.Body)
			must(t, err)
			must(t, res.Body.Close())
			runtime.ReadMemStats(&after)
			if test.method == http.MethodGet && got != want || res.StatusCode != http.StatusOK {
				t.Errorf("got %d, %x", res.StatusCode, got)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > size/10 {
				t.Errorf("%d bytes were allocated", grown)
			}
		})
	}
}

// An answer that breaks off breaks off for the caller too.
func TestUpstreamThatBreaksOff(t *testing.T) {
	for _, header := range []string{"Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"} {
		r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			must(t, err)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+header+"\r\n5\r\nbegin\r\n")
			must(t, conn.Close())
		})
		res, err := r.client.Do(r.request(http.MethodGet, "oauth", "/x", nil))
		if err == nil { // otherwise it broke off before anything was on its way
			if body, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("a part was taken for the whole: %q", body)
			}
			must(t, res.Body.Close())
		}
		if lines := r.lines(); lines[0]["aborted"] != true || lines[0]["status"] != float64(200) {
			t.Errorf("log %v", lines)
		}
	}
}

func TestNothingBesideTheAnswer(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		must(t, err)
		_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Early: 1\r\n\r\nHTTP/1.1 200 OK\r\nTrailer: X-Late\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"2\r\nok\r\n0\r\nX-Late: 1\r\nX-Unannounced: 1\r\n\r\n")
		must(t, conn.Close())
	})
	out := r.raw(head("GET", "/x", "oauth", "Te: trailers"))
	if !strings.HasPrefix(out, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(out, "\r\n\r\n2\r\nok\r\n0\r\n\r\n") {
		t.Errorf("got %q", out)
	}
	for _, never := range []string{"Early", "Late", "Unannounced", "Trailer"} {
		if strings.Contains(out, never) {
			t.Errorf("%s in %q", never, out)
		}
	}
}

// Trailers of a request are headers that nobody has checked.
func TestTrailersOfARequestAreDropped(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		_, _ = fmt.Fprintf(w, "%s %v %v", body, q.Trailer, q.Header["Trailer"])
	})
	out := r.raw(head("POST", "/x", "oauth", "Transfer-Encoding: chunked", "Trailer: Authorization") + "2\r\nok\r\n0\r\nAuthorization: Bearer mine\r\n\r\n")
	if !strings.HasSuffix(out, "ok map[] []") {
		t.Errorf("got %q", out)
	}
}

func TestExpectContinue(t *testing.T) {
	r := newRig(t, echo)
	var d net.Dialer
	for _, test := range []struct{ integration, first string }{{"oauth", "HTTP/1.1 100 Continue\r\n"}, {"nope", "HTTP/1.1 404 Not Found\r\n"}} {
		conn, err := d.DialContext(t.Context(), "tcp", r.server.Listener.Addr().String())
		must(t, err)
		_, err = io.WriteString(conn, head("POST", "/x", test.integration, "Expect: 100-continue", "Content-Length: 4"))
		must(t, err)
		in := bufio.NewReader(conn)
		line, err := in.ReadString('\n')
		if err != nil || line != test.first {
			t.Fatalf("%s: got %q, %v", test.integration, line, err)
		}
		if strings.Contains(line, "100") {
			_, err = io.WriteString(conn, "body")
			must(t, err)
			rest, err := io.ReadAll(in)
			if must(t, err); !strings.Contains(string(rest), "HTTP/1.1 200 OK") || !strings.HasSuffix(string(rest), "body\r\n0\r\n\r\n") && !strings.HasSuffix(string(rest), "body") {
				t.Errorf("got %q", rest)
			}
		}
		must(t, conn.Close())
	}
}

// When the caller hangs up, the call to the provider ends.
func TestCallerThatHangsUp(t *testing.T) {
	for _, test := range []struct{ name, text string }{
		{"waiting", head("GET", "/x", "oauth")},
		{"sending", head("POST", "/x", "oauth", "Content-Length: 100") + "the beginning"},
		{"sending, chunked", head("POST", "/x", "oauth", "Transfer-Encoding: chunked") + "4\r\nsome\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			arrived, left := make(chan struct{}), make(chan struct{})
			r := newRig(t, func(_ http.ResponseWriter, q *http.Request) {
				close(arrived)
				_, _ = io.Copy(io.Discard, q.Body) // until then nobody looks whether the connection is there
				<-q.Context().Done()
				close(left)
			}, func(r *rig) { r.limits = proxy.Limits{IdleTimeout: time.Hour} })
			var d net.Dialer
			conn, err := d.DialContext(t.Context(), "tcp", r.server.Listener.Addr().String())
			must(t, err)
			_, err = io.WriteString(conn, test.text)
			must(t, err)
			<-arrived
			must(t, conn.Close())
			<-left
		})
	}
}

// A provider may refuse a body before it has come. The caller hears of it at once, though it goes on sending.
func TestEarlyAnswer(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "too much")
	})
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", r.server.Listener.Addr().String())
	must(t, err)
	defer func() { _ = conn.Close() }()
	text := strings.Replace(head("POST", "/x", "oauth", "Content-Length: 1000000"), "Connection: close\r\n", "", 1)
	_, err = io.WriteString(conn, text+"the beginning")
	must(t, err)
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	must(t, err)
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge || string(body) != "too much" {
		t.Errorf("got %d %q, %v", res.StatusCode, body, err)
	}
	if !res.Close {
		t.Error("the rest of the body could be taken for the next request")
	}
	must(t, res.Body.Close())
}

// Connections go on being used, whatever becomes of the calls on them.
func TestConnectionsAreKept(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/unread" {
			return
		}
		echo(w, q)
	})
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", r.server.Listener.Addr().String())
	must(t, err)
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for _, test := range []struct {
		method, path, integration string
		headers                   []string
		body                      string
		status                    int
	}{
		{"GET", "/x", "oauth", nil, "", 200},
		{"POST", "/x", "oauth", []string{"Content-Length: 4"}, "body", 200},
		{"POST", "/x", "oauth", []string{"Transfer-Encoding: chunked"}, "4\r\nbody\r\n0\r\n\r\n", 200},
		{"POST", "/x", "nope", []string{"Content-Length: 4"}, "body", 404},
		{"POST", "/x", "nope", []string{"Transfer-Encoding: chunked"}, "4\r\nbody\r\n0\r\n\r\n", 404},
		{"GET", "/../x", "oauth", nil, "", 400},
		{"OPTIONS", "/x", "oauth", []string{"Content-Length: 4"}, "body", 204},
		{"GET", "/x", "gone", nil, "", 500},
		{"HEAD", "/x", "oauth", nil, "", 200},
		{"GET", "/x", "oauth", nil, "", 200},
	} {
		text := strings.Replace(head(test.method, test.path, test.integration, test.headers...), "Connection: close\r\n", "", 1)
		_, err := io.WriteString(conn, text+test.body)
		must(t, err)
		res, err := http.ReadResponse(in, &http.Request{Method: test.method})
		if err != nil || res.StatusCode != test.status || res.Close {
			t.Fatalf("%s %s: got %+v, %v", test.method, test.path, res, err)
		}
		_, err = io.Copy(io.Discard, res.Body)
		must(t, err)
		must(t, res.Body.Close())
	}
}

func TestCompressionIsLeftAlone(t *testing.T) {
	zipped := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Accept-Encoding") == "gzip" {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped)
		}
	})
	a := r.get("oauth", "/x", "Accept-Encoding", "gzip")
	if a.Header.Get("Content-Encoding") != "gzip" || !bytes.Equal([]byte(a.body), zipped) {
		t.Errorf("got %v %q", a.Header, a.body)
	}
	if a := r.get("oauth", "/x"); a.Header.Get("Content-Encoding") != "" || a.body != "" {
		t.Errorf("got %v %q", a.Header, a.body)
	}
}
