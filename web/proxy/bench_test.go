package proxy_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bare is what the proxy is measured against: ReverseProxy with the same transport and upstream, and nothing else.
func bare(t testing.TB, upstream string, transport http.RoundTripper) http.Handler {
	target, err := url.Parse(upstream)
	must(t, err)
	return &httputil.ReverseProxy{
		Rewrite:    func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport:  transport,
		BufferPool: &pool{},
		ErrorLog:   log.New(io.Discard, "", 0),
	}
}

type pool struct{ sync.Pool }

func (p *pool) Get() []byte {
	if b, ok := p.Pool.Get().(*[32 << 10]byte); ok {
		return b[:]
	}
	return make([]byte, 32<<10)
}

func (p *pool) Put(b []byte) { p.Pool.Put((*[32 << 10]byte)(b)) }

// canned is a transport without a network.
func canned(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{
			"Content-Type": {"application/json"}, "Content-Length": {"200"}, "Date": {"Sun, 22 Nov 2026 02:48:46 GMT"},
		},
		ContentLength: 200, Body: http.NoBody,
	}, nil
}

// benchRequest is the request of the benchmarks.
func (r *rig) benchRequest() *http.Request {
	req := httptest.NewRequestWithContext(r.t.Context(), http.MethodGet, "/proxy/users/octocat?per_page=100", nil)
	req.Header = http.Header{
		"Authorization": {"Bearer " + secretKey}, "Provider-Config-Key": {"oauth"}, "Connection-Id": {"c"},
		"Accept": {"application/json"}, "User-Agent": {"bench/1.0"},
	}
	return req
}

func quiet(r *rig) { r.logOutput = io.Discard }

// BenchmarkHandler shows what the proxy adds to ReverseProxy, without a network.
func BenchmarkHandler(b *testing.B) {
	r := newRig(b, echo, quiet, func(r *rig) { r.transport = transport(canned) })
	req := r.benchRequest()
	for _, v := range []struct {
		name    string
		handler http.Handler
	}{{"bare", bare(b, r.upstream.URL, r.transport)}, {"full", r.proxy}} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			w := discard{make(http.Header)}
			for b.Loop() {
				clear(w.header)
				v.handler.ServeHTTP(w, req)
			}
		})
	}
}

// BenchmarkSideBySide measures ReverseProxy alone and the proxy in turns, with 64 clients over loopback. The clients and
// the API are another process, so processor time and allocations are those of the proxies.
func BenchmarkSideBySide(b *testing.B) {
	d := startDriver(b)
	r := newRig(b, echo, quiet, func(r *rig) { r.apiURL = d.upstream })
	alone := httptest.NewServer(bare(b, d.upstream, r.transport))
	b.Cleanup(alone.Close)
	var head bytes.Buffer
	must(b, r.benchRequest().Write(&head))
	origins := [2]string{alone.Listener.Addr().String(), r.server.Listener.Addr().String()}
	var total [2]cost
	for _, origin := range origins {
		d.spend(b, origin, head.String(), 3000) // warm up
	}
	for round := 0; b.Loop(); round++ {
		for i := range origins {
			i = (i + round) % len(origins)
			total[i].add(d.spend(b, origins[i], head.String(), 20_000))
		}
	}
	without, with := &total[0], &total[1]
	b.ReportMetric(float64(without.took)/float64(with.took), "req/s-ratio")
	b.ReportMetric(float64(with.cpu)/float64(without.cpu), "cpu-ratio")
	b.ReportMetric(float64(without.cpu.Microseconds())/float64(without.n), "bare-cpu-us")
	b.ReportMetric(float64(with.cpu.Microseconds())/float64(with.n), "full-cpu-us")
	b.ReportMetric(float64(without.mallocs)/float64(without.n), "bare-allocs")
	b.ReportMetric(float64(with.mallocs)/float64(with.n), "full-allocs")
	b.ReportMetric(float64(without.n)/without.took.Seconds(), "bare-req/s")
}

// cost is what a number of requests took.
type cost struct {
	took, cpu time.Duration
	mallocs   uint64
	n         int
}

func (c *cost) add(d cost) {
	c.took, c.cpu, c.mallocs, c.n = c.took+d.took, c.cpu+d.cpu, c.mallocs+d.mallocs, c.n+d.n
}

// driver is the process that sends the requests and answers for the API.
type driver struct {
	in       *json.Encoder
	out      *bufio.Reader
	upstream string
}

// order is what the driver is told.
type order struct {
	Origin, Request string
	N               int
}

func startDriver(b *testing.B) *driver {
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-driver", "-test.run=^TestDriver$")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(b, err)
	out, err := cmd.StdoutPipe()
	must(b, err)
	must(b, cmd.Start())
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	d := &driver{in: json.NewEncoder(in), out: bufio.NewReader(out)}
	d.upstream, err = d.out.ReadString('\n')
	must(b, err)
	d.upstream = strings.TrimSpace(d.upstream)
	return d
}

func (d *driver) spend(b *testing.B, origin, request string, n int) cost {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cpu, begin := processTime(), time.Now()
	must(b, d.in.Encode(order{origin, request, n}))
	line, err := d.out.ReadString('\n')
	if err != nil || line != "ok\n" {
		b.Fatalf("driver: %q, %v", line, err)
	}
	out := cost{took: time.Since(begin), cpu: processTime() - cpu, n: n}
	runtime.ReadMemStats(&after)
	out.mallocs = after.Mallocs - before.Mallocs
	return out
}

// processTime is the processor time that this process has taken.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var isDriver = flag.Bool("driver", false, "be the driver of a benchmark")

// TestDriver is the driver's side. Its standard output belongs to the benchmark.
func TestDriver(t *testing.T) {
	if !*isDriver {
		t.Skip("a part of the benchmarks")
	}
	body := strings.Repeat("x", 200)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}))
	defer api.Close()
	say := func(s string) { _, _ = os.Stdout.WriteString(s + "\n") }
	say(api.URL)
	for in := json.NewDecoder(os.Stdin); ; {
		var o order
		if in.Decode(&o) != nil {
			return
		}
		if err := o.carryOut(); err != nil {
			say(err.Error())
			return
		}
		say("ok")
	}
}

// carryOut sends the requests with as little work as possible: it must not be what is measured.
func (o order) carryOut() error {
	const clients = 64
	errs := make(chan error, clients)
	for i := range clients {
		go func() { errs <- o.client((o.N + i) / clients) }()
	}
	for range clients {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func (o order) client(n int) error {
	conn, err := net.Dial("tcp", o.Origin)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	request, in := []byte(o.Request), bufio.NewReader(conn)
	for range n {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		if err := discardAnswer(in); err != nil {
			return err
		}
	}
	return nil
}

func discardAnswer(in *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch {
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			return fmt.Errorf("the answer begins with %q", line)
		case len(line) == 2:
			_, err := in.Discard(length)
			return err
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len("Content-Length: "):]))); err != nil {
				return err
			}
		}
	}
}
