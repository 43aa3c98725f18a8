package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

func TestMedianAndRatio(t *testing.T) {
	if got := median([]float64{9, 1, 5}); got != 5 {
		t.Errorf("median of three: %v", got)
	}
	if got := median([]float64{4, 1, 2, 9}); got != 3 {
		t.Errorf("median of four: %v", got)
	}
	// The ratio of the medians would be 1.
	if got := ratio([]float64{1, 2, 6}, []float64{2, 1, 2}); got != 2 {
		t.Errorf("ratio: %v", got)
	}
}

func TestQuantile(t *testing.T) {
	sorted := make([]time.Duration, 100)
	for i := range sorted {
		sorted[i] = time.Duration(i)
	}
	for q, want := range map[float64]time.Duration{0: 0, 0.5: 50, 0.99: 99, 1: 99} {
		if got := quantile(sorted, q); got != want {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
}

func TestTurnsAlternate(t *testing.T) {
	var order strings.Builder
	note := func(name string) func(context.Context) error {
		return func(context.Context) error { order.WriteString(name); return nil }
	}
	if err := takeTurns(t.Context(), 3, note("a"), note("b")); err != nil || order.String() != "abbaab" {
		t.Errorf("%s, %v", order.String(), err)
	}
}

func TestTableTellsMissedGoals(t *testing.T) {
	var found table
	found.add(7, "slow", 0.899, atLeast(0.9), "9 ÷ 10")
	found.add(1, "fast", 2, atLeast(0.9), "")
	found.add(7, "exact", 1, exactly(1), "")
	found.add(3, "heavy", 1.2, atMost(1.15), "")
	var out bytes.Buffer
	if err := found.print(&out); err != nil {
		t.Fatal(err)
	}
	var verdicts []string
	for text := range strings.Lines(out.String()) {
		if fields := strings.Fields(text); len(fields) > 4 && fields[0] != "#" {
			verdicts = append(verdicts, strings.Join(fields[:6], " "))
		}
	}
	want := []string{"1 fast 2 ≥ 0.9 pass", "3 heavy 1.2 ≤ 1.15 MISS", "7 slow 0.899 ≥ 0.9 MISS", "7 exact 1 = 1 pass"}
	if !slices.Equal(verdicts, want) || !strings.Contains(out.String(), "4 figures, 2 missed") {
		t.Errorf("got\n%s", out.String())
	}
}

func TestParseRows(t *testing.T) {
	if all, err := parseRows(""); err != nil || !all[1] || !all[22] {
		t.Errorf("all rows: %v, %v", all, err)
	}
	if some, err := parseRows("3, 9"); err != nil || len(some) != 2 || !some[3] || !some[9] {
		t.Errorf("two rows: %v, %v", some, err)
	}
	for _, bad := range []string{"2", "x", "1,,3"} {
		if _, err := parseRows(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestProcessFigures(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for spent := before; spent < before+2*tick; {
		if spent, err = cpuTime(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if rss, err := residentMemory(os.Getpid()); err != nil || rss < 1<<20 {
		t.Errorf("memory: %v, %v", rss, err)
	}
}

// proxies gives the bare proxy in front of the upstream.
func proxies(t *testing.T) (l *lab, addr string) {
	t.Helper()
	l, err := newLab(io.Discard, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	upstream := httptest.NewServer(upstreamHandler(l.shortToken))
	t.Cleanup(upstream.Close)
	bare := httptest.NewServer(bareProxy(upstream.Listener.Addr().String()))
	t.Cleanup(bare.Close)
	return l, bare.Listener.Addr().String()
}

func TestClientReadsAnswers(t *testing.T) {
	l, addr := proxies(t)
	c, err := dial(t.Context(), addr, smallBuffer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for range 3 {
		if err := c.do(l.throughBare("GET", smallPath, -1, keyOf(0))); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.do(request("GET", smallPath, -1)); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without a token: %v", err)
	}
}

func TestClosedLoop(t *testing.T) {
	l, addr := proxies(t)
	x := target{"bare", addr, os.Getpid(), same(l.throughBare("GET", smallPath, -1, keyOf(0)))}
	if s, err := closedLoop(t.Context(), x, 4, 20*time.Millisecond, 100*time.Millisecond); err != nil || s.rate <= 0 {
		t.Errorf("%v, %v", s, err)
	}
	x.requests = same(request("GET", smallPath, -1))
	if _, err := closedLoop(t.Context(), x, 4, 0, time.Minute); err == nil {
		t.Error("refusals were counted as answers")
	}
}

// TestOpenLoopCountsTheWait lets the server be slower than the rate: what piles up has waited, and that counts.
func TestOpenLoopCountsTheWait(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = pause(r.Context(), 10*time.Millisecond)
		w.Header().Set("Content-Length", "0")
	}))
	defer server.Close()
	x := target{"slow", server.Listener.Addr().String(), os.Getpid(), same(request("GET", "/", -1))}
	latencies, err := openLoop(t.Context(), x, 1, 1000, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	// A hundred requests of ten milliseconds, one after the other, all due within a tenth of a second.
	if longest := latencies[len(latencies)-1]; longest < 800*time.Millisecond {
		t.Errorf("the last one waited %v", longest)
	}
	if !slices.IsSorted(latencies) {
		t.Error("not sorted")
	}
}

// TestStockOpens makes a small database and calls through its first and its last connection, a copy.
func TestStockOpens(t *testing.T) {
	l, _ := proxies(t)
	o := nodeOptions{dir: t.TempDir(), origin: "http://127.0.0.1:9"}
	const connections = 20
	m := &broker.Material{
		Access: broker.NewSecret(l.longToken), Refresh: broker.NewSecret("refresh"), Answer: broker.NewSecret("{}"), ExpiresAt: time.Now().AddDate(1, 0, 0),
	}
	if err := l.fill(t.Context(), o, connections, m); err != nil {
		t.Fatal(err)
	}
	n, err := l.open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.close() }()
	for _, i := range []int{0, 1, connections - 1} {
		out, err := n.broker.Outbound(t.Context(), n.who, integration, keyOf(i))
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if !out.Carries(l.longToken) {
			t.Errorf("connection %d has another token", i)
		}
	}
	if err := n.outbound(t.Context(), 0, keyOf(connections)); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("one more than was made: %v", err)
	}
	s := newStock(o.dir, connections)
	err = l.raw(t.Context(), s, func(r *rawReader) error {
		rate, err := s.throughput(t.Context(), readers, time.Millisecond, r.read)
		if rate <= 0 {
			t.Errorf("the raw reader reads %v rows a second", rate)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTokenEndpointRotates(t *testing.T) {
	e := newTokenEndpoint()
	next, ok := e.rotate("a.0")
	if !ok || next != "a.1" {
		t.Errorf("first use: %q, %v", next, ok)
	}
	if _, ok := e.rotate("a.0"); ok {
		t.Error("a spent token was taken")
	}
	if next, ok := e.rotate("a.1"); !ok || next != "a.2" {
		t.Errorf("second use: %q, %v", next, ok)
	}
}

func TestZipfShare(t *testing.T) {
	// With an exponent near 1 the busiest tenth gets most calls; all of them get all.
	if got := zipfShare(1000, 10_000); got < 0.7 || got > 0.9 {
		t.Errorf("a tenth: %v", got)
	}
	if got := zipfShare(10, 10); got != 1 {
		t.Errorf("all: %v", got)
	}
}
