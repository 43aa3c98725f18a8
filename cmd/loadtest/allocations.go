package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web"
	"github.com/coatcheck/coatcheck/web/proxy"
)

// allocations measures row 4. Upstream, proxies and client are in this process, on real sockets: what upstream and client
// allocate is the same on both sides and goes out with the difference.
func (l *lab) allocations(ctx context.Context) (err error) {
	upstream := httptest.NewServer(upstreamHandler(l.shortToken))
	defer upstream.Close()
	dir, err := l.scratch("allocations")
	if err != nil {
		return err
	}
	n, err := l.open(ctx, nodeOptions{dir: dir, origin: upstream.URL})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if _, err := n.bring(ctx, keyOf(0), &broker.Material{Access: broker.NewSecret(l.shortToken), ExpiresAt: time.Now().AddDate(1, 0, 0)}); err != nil {
		return err
	}
	fullHandler, closeFull, err := n.handler(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeFull()) }()
	full, bare := httptest.NewServer(fullHandler), httptest.NewServer(bareProxy(strings.TrimPrefix(upstream.URL, "http://")))
	defer full.Close()
	defer bare.Close()
	var costs [2][]cost
	for i, x := range []struct {
		addr    string
		request []byte
	}{
		{full.Listener.Addr().String(), l.throughFull("GET", smallPath, -1, keyOf(0))},
		{bare.Listener.Addr().String(), l.throughBare("GET", smallPath, -1, keyOf(0))},
	} {
		c, err := dial(ctx, x.addr, smallBuffer)
		if err != nil {
			return err
		}
		defer c.close()
		for range l.rounds(5) {
			one, err := costOf(l.window(500*time.Millisecond), func(int) error { return c.do(x.request) })
			if err != nil {
				return err
			}
			costs[i] = append(costs[i], one)
		}
	}
	allocs := func(c []cost) float64 { return medianOf(c, func(c cost) float64 { return c.allocs }) }
	bytes := func(c []cost) float64 { return medianOf(c, func(c cost) float64 { return c.bytes }) }
	l.table.add(4, "allocations per proxied request, full - bare", allocs(costs[0])-allocs(costs[1]), atMost(6),
		"%.1f - %.1f, with client and upstream; %.0f bytes - %.0f bytes", allocs(costs[0]), allocs(costs[1]), bytes(costs[0]), bytes(costs[1]))
	return nil
}

// handler is everything that the real broker serves but its pages, with the access log in a file.
func (n *node) handler(dir string) (http.Handler, func() error, error) {
	logFile, err := os.Create(filepath.Join(dir, "access.jsonl"))
	if err != nil {
		return nil, nil, err
	}
	log := slog.New(slog.DiscardHandler)
	out := proxy.New(proxy.Options{Broker: n.broker, Transport: n.egress.ProxyTransport(), LogOutput: logFile, Logger: log})
	h := web.New(web.Deps{Broker: n.broker, Proxy: out, Logger: log})
	return h, func() error { return errors.Join(out.Close(), logFile.Close()) }, nil
}

// medianOf gives the median of one part of the costs.
func medianOf(costs []cost, part func(cost) float64) float64 {
	values := make([]float64, len(costs))
	for i, c := range costs {
		values[i] = part(c)
	}
	return median(values)
}
