package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// endpointLatency is how long the token endpoint takes.
const endpointLatency = 50 * time.Millisecond

// tokenEndpoint renews tokens as a provider that rotates does: a refresh token is good once, and using it again is
// invalid_grant. A refresh token is the name of its grant and a number that rises.
type tokenEndpoint struct {
	calls    atomic.Int64
	reused   atomic.Int64
	tolerant bool // every refresh token is good, and none changes: for rows whose copies all hold the same one
	mu       sync.Mutex
	current  map[string]int
}

func newTokenEndpoint() *tokenEndpoint { return &tokenEndpoint{current: make(map[string]int)} }

// ServeHTTP answers a token request (RFC 6749 section 6).
func (e *tokenEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.calls.Add(1)
	refresh, ok := e.rotate(r.PostFormValue("refresh_token"))
	if pause(r.Context(), endpointLatency) != nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if !ok {
		e.reused.Add(1)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
		return
	}
	answer := map[string]any{"access_token": patterned(64), "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600}
	_ = json.NewEncoder(w).Encode(answer) // a caller that has gone needs no answer
}

// rotate spends a refresh token and gives the next.
func (e *tokenEndpoint) rotate(token string) (next string, ok bool) {
	if e.tolerant {
		return token, true
	}
	grant, text, _ := strings.Cut(token, ".")
	number, err := strconv.Atoi(text)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil || e.current[grant] != number {
		return "", false
	}
	e.current[grant]++
	return grant + "." + strconv.Itoa(number+1), true
}

// latency is what a call of the endpoint takes by itself, in milliseconds.
func (e *tokenEndpoint) latency(ctx context.Context, origin string) (float64, error) {
	var millis []float64
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	for i := range 6 {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"alone." + strconv.Itoa(i)}}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, origin+"/token", strings.NewReader(form.Encode()))
		if err != nil {
			return 0, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		start := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("the token endpoint answered %s", resp.Status)
		}
		if i > 0 { // the first one dials
			millis = append(millis, float64(time.Since(start).Microseconds())/1e3)
		}
	}
	return median(millis), nil
}

// herd is how many callers want the same expired token.
const herd = 1000

// herds measures row 17: many callers find the same token expired, all at the same moment or within a tenth of a second.
func (l *lab) herds(ctx context.Context) (err error) {
	endpoint := newTokenEndpoint()
	server := httptest.NewServer(endpoint)
	defer server.Close()
	dir, err := l.scratch("herd")
	if err != nil {
		return err
	}
	n, err := l.open(ctx, nodeOptions{dir: dir, origin: server.URL})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	alone, err := endpoint.latency(ctx, server.URL)
	if err != nil {
		return err
	}
	for _, x := range []struct {
		name  string
		apart time.Duration
	}{{"together", 0}, {"over 100 ms", 100 * time.Millisecond / herd}} {
		if err := l.herd(ctx, n, endpoint, alone, x.name, x.apart); err != nil {
			return err
		}
	}
	l.table.add(17, "spent refresh tokens that were used again", float64(endpoint.reused.Load()), exactly(0), "invalid_grant in all herds")
	return nil
}

// herd lets one kind of herd go several times, each at a new connection.
func (l *lab) herd(ctx context.Context, n *node, endpoint *tokenEndpoint, alone float64, name string, apart time.Duration) error {
	var p50, p99, most []float64
	for i := range l.rounds(7) {
		key := fmt.Sprintf("%d-%s", i, strings.ReplaceAll(name, " ", "-"))
		_, err := n.bring(ctx, key, &broker.Material{
			Access: broker.NewSecret(patterned(64)), Refresh: broker.NewSecret(key + ".0"), ExpiresAt: time.Now().Add(-time.Minute),
		})
		if err != nil {
			return err
		}
		before := endpoint.calls.Load()
		latencies, err := stampede(ctx, n, key, apart)
		if err != nil {
			return fmt.Errorf("%d callers %s: %w", herd, name, err)
		}
		most = append(most, float64(endpoint.calls.Load()-before))
		p50 = append(p50, float64(quantile(latencies, 0.5).Microseconds())/1e3)
		p99 = append(p99, float64(quantile(latencies, 0.99).Microseconds())/1e3)
	}
	l.table.add(17, "upstream calls for 1,000 callers "+name, slices.Max(most), exactly(1), "the most of %d herds", len(most))
	l.table.add(17, "p99 ÷ endpoint latency, "+name, median(p99)/alone, atMost(1.3), "%.1f ms ÷ %.1f ms; p50 %.1f ms", median(p99), alone, median(p50))
	return nil
}

// stampede lets the callers go, and gives how long each waited, sorted.
func stampede(ctx context.Context, n *node, key string, apart time.Duration) ([]time.Duration, error) {
	latencies, errs := make([]time.Duration, herd), make([]error, herd)
	var ready, done sync.WaitGroup
	gun := make(chan struct{})
	var start time.Time
	for i := range herd {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-gun
			at := start.Add(time.Duration(i) * apart)
			if errs[i] = pause(ctx, time.Until(at)); errs[i] != nil {
				return
			}
			if apart > 0 {
				at = time.Now() // a late timer is not the broker's
			}
			_, errs[i] = n.broker.Outbound(ctx, n.who, integration, key)
			latencies[i] = time.Since(at)
		})
	}
	ready.Wait()
	start = time.Now()
	close(gun)
	done.Wait()
	slices.Sort(latencies)
	return latencies, errors.Join(errs...)
}

// inFlight is how many renewals may be under way at a time.
const inFlight = 64

// scheduled measures row 18: how many due tokens a second the scheduler renews and stores durably.
func (l *lab) scheduled(ctx context.Context) (err error) {
	endpoint := newTokenEndpoint()
	endpoint.tolerant = true
	server := httptest.NewServer(endpoint)
	defer server.Close()
	dir, err := l.scratch("scheduler")
	if err != nil {
		return err
	}
	// More than can be renewed while we watch.
	windows, window := l.rounds(5), l.window(3*time.Second)
	limit := float64(inFlight) / endpointLatency.Seconds()
	due := int(limit*window.Seconds()*float64(windows+1)) + 1000
	m := &broker.Material{Access: broker.NewSecret(patterned(64)), Refresh: broker.NewSecret(patterned(64)), ExpiresAt: time.Now().Add(time.Second)}
	if err := l.fill(ctx, nodeOptions{dir: dir, origin: server.URL}, due, m); err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil { // until all are due
		return err
	}
	var stored atomic.Int64
	n, err := l.open(ctx, nodeOptions{dir: dir, origin: server.URL, perHost: inFlight, wrap: func(s broker.Store) broker.Store {
		return &countingStore{s, &stored}
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- n.broker.Run(running) }()
	rates, watchErr := watchRates(ctx, &stored, window, windows)
	stop()
	if err := errors.Join(watchErr, <-ended); err != nil {
		return err
	}
	l.table.add(18, "scheduled refreshes/s ÷ Little's law, 64 in flight", median(rates)/limit, atLeast(0.85), "%.0f/s ÷ %.0f/s; %d calls, %d stored",
		median(rates), limit, endpoint.calls.Load(), stored.Load())
	return nil
}

// watchRates lets a count rise for a moment and then gives how fast it rises in each window.
func watchRates(ctx context.Context, count *atomic.Int64, window time.Duration, windows int) ([]float64, error) {
	if err := pause(ctx, window/3); err != nil {
		return nil, err
	}
	var rates []float64
	for range windows {
		before, start := count.Load(), time.Now()
		if err := pause(ctx, window); err != nil {
			return nil, err
		}
		rates = append(rates, float64(count.Load()-before)/time.Since(start).Seconds())
	}
	return rates, nil
}

// countingStore counts renewed credentials that were committed.
type countingStore struct {
	broker.Store
	stored *atomic.Int64
}

// SwapCredential stores and counts.
func (s *countingStore) SwapCredential(ctx context.Context, swap *broker.Swap) error {
	err := s.Store.SwapCredential(ctx, swap)
	if err == nil {
		s.stored.Add(1)
	}
	return err
}
