package proxy_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

const benchBody = `{"id":1,"login":"octocat","name":"The Octocat","company":"GitHub","blog":"https://example.com/blog","location":"San Francisco","email":"octocat@example.com","hireable":false,"bio":"There once was...","public_repos":2}`

func benchUpstream(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, benchBody)
}

type benchBuffers struct{ pool sync.Pool }

func (b *benchBuffers) Get() []byte {
	if p, ok := b.pool.Get().(*[32 << 10]byte); ok {
		return p[:]
	}
	return make([]byte, 32<<10)
}

func (b *benchBuffers) Put(p []byte) { b.pool.Put((*[32 << 10]byte)(p)) }

// bare is what the proxy is measured against: ReverseProxy with the same transport and upstream, and nothing else.
func (r *rig) bare() http.Handler {
	target, err := url.Parse(r.upstream.URL)
	must(r.t, err)
	return &httputil.ReverseProxy{
		Rewrite:    func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport:  r.transport,
		BufferPool: &benchBuffers{},
		ErrorLog:   log.New(io.Discard, "", 0),
	}
}

// canned is a transport without a network.
type canned struct{}

func (canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{
			"Content-Type": {"application/json"}, "Content-Length": {"200"}, "Date": {"Sun, 22 Nov 2026 02:48:46 GMT"},
		},
		ContentLength: 200, Body: http.NoBody,
	}, nil
}

// sink is a ResponseWriter that keeps nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkHandler shows what the proxy adds to ReverseProxy, without a network.
func BenchmarkHandler(b *testing.B) {
	r := newRig(b, benchUpstream, func(r *rig) { r.transport = canned{} })
	req := r.request(http.MethodGet, "oauth", "/users/octocat?per_page=100", nil, "Accept", "application/json", "User-Agent", "bench/1.0")
	in := httptest.NewRequest(http.MethodGet, "/proxy/users/octocat?per_page=100", nil)
	in.Header = req.Header
	ctx := b.Context()
	in = in.WithContext(ctx)
	for _, v := range []struct {
		name    string
		handler http.Handler
	}{{"bare", r.bare()}, {"full", r.proxy}} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			w := &sink{header: make(http.Header)}
			for b.Loop() {
				clear(w.header)
				v.handler.ServeHTTP(w, in)
			}
		})
	}
}

// BenchmarkSideBySide measures bare and full in turns over loopback, with 64 clients, and reports ratios. The CPU is that
// of the whole process: clients and upstream too.
func BenchmarkSideBySide(b *testing.B) {
	r := newRig(b, benchUpstream)
	bare := httptest.NewServer(r.bare())
	b.Cleanup(bare.Close)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}}
	template := r.request(http.MethodGet, "oauth", "/users/octocat?per_page=100", nil, "Accept", "application/json", "User-Agent", "bench/1.0")
	var total [2]cost
	urls := [2]string{bare.URL, r.server.URL}
	for i := range urls {
		spend(b, client, template, urls[i], 2000) // warm up
	}
	for b.Loop() {
		for i := range urls {
			total[i].add(spend(b, client, template, urls[i], 10_000))
		}
	}
	b.ReportMetric(float64(total[0].took)/float64(total[1].took), "req/s-ratio")
	b.ReportMetric(float64(total[1].cpu)/float64(total[0].cpu), "cpu-ratio")
	b.ReportMetric(float64(total[1].cpu-total[0].cpu)/float64(total[1].n), "added-ns/req")
	b.ReportMetric((float64(total[1].mallocs)-float64(total[0].mallocs))/float64(total[1].n), "added-allocs/req")
	b.ReportMetric(float64(total[0].n)/total[0].took.Seconds(), "bare-req/s")
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

func spend(b *testing.B, client *http.Client, template *http.Request, origin string, n int) cost {
	const clients = 64
	target, err := url.Parse(origin)
	must(b, err)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cpu, begin := processTime(), time.Now()
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for range n / clients {
				req := template.Clone(b.Context())
				req.URL.Host, req.Host = target.Host, target.Host
				res, err := client.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusOK {
					b.Errorf("status %d", res.StatusCode)
				}
			}
		})
	}
	group.Wait()
	out := cost{took: time.Since(begin), cpu: processTime() - cpu, n: n / clients * clients}
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
