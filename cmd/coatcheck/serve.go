package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web"
	"github.com/coatcheck/coatcheck/web/connect"
	"github.com/coatcheck/coatcheck/web/proxy"
	"github.com/coatcheck/coatcheck/web/static"
)

type serveCommand struct {
	overrides
}

// Run starts the broker and ends when the process is told to.
func (c *serveCommand) Run(p *program) error {
	cfg, err := loadConfig(p.env, c.overrides)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(p.stderr, nil))
	n, err := openNode(p.ctx, cfg, p.env, log, true)
	if err != nil {
		return err
	}
	defer func() { _ = n.store.Close() }() // Close was called before, and its error seen, unless the start failed
	if n.fresh {
		p.say("Made an encryption identity: %s. Keep a copy of it in a safe place: without it the tokens cannot be read.", cfg.Encryption.IdentityFile)
	}
	if err := n.declare(p); err != nil {
		return err
	}
	listener, err := listen(p.ctx, cfg.Listen)
	if err != nil {
		return err
	}
	p.say("coatcheck %s listens on %s, public URL %s", version, listener.Addr(), cfg.PublicURL)
	if why := pauseInWords(n.broker); why != "" {
		p.say("Nothing is renewed: %s. If this broker alone is to use it from now on, run \"coatcheck adopt\".", why)
	}
	return n.serve(p, listener)
}

// listen opens a TCP port.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// declare writes what the file says, and sees to it that there is an environment and a key to begin with.
func (n *node) declare(p *program) error {
	declared, err := n.config.declared()
	if err != nil {
		return err
	}
	if err := n.broker.Declare(p.ctx, declared); err != nil {
		return err
	}
	n.declared = declared
	if len(n.broker.Environments()) > 0 {
		return nil
	}
	e, err := n.broker.CreateEnvironment(p.ctx, broker.System(""), "dev")
	if err != nil {
		return err
	}
	key, _, err := n.broker.CreateAPIKey(p.ctx, broker.System(e.ID), e, broker.KeyInput{Name: "first", Scopes: broker.Scopes{broker.ScopeAll}})
	if err != nil {
		return err
	}
	p.say("Made the environment dev. Its API key, shown this once:\n\n    %s\n", key.Reveal())
	return nil
}

// drainFor is how long requests may go on after the process was told to end.
const drainFor = 30 * time.Second

// serve answers on the listener until the process is told to end, and then lets everything finish.
func (n *node) serve(p *program, listener net.Listener) error {
	stopping := make(chan struct{})
	handler, closeProxy, err := n.handler(p, stopping)
	if err != nil {
		return err
	}
	server := web.Server(handler, n.log)
	background, stopBackground := context.WithCancel(context.WithoutCancel(p.ctx))
	defer stopBackground()
	var work sync.WaitGroup
	var backgroundErr error
	work.Go(func() { backgroundErr = n.broker.Run(background) })
	if len(n.config.Providers) > 0 {
		work.Go(func() { newOverlayWatch(n).run(background) })
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(n.limited(listener)) }()
	var serveErr error
	select {
	case <-p.ctx.Done():
	case serveErr = <-failed:
	}
	close(stopping)
	n.broker.Stop()
	drain, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), drainFor)
	defer cancel()
	shutdownErr := server.Shutdown(drain)
	if errors.Is(shutdownErr, context.DeadlineExceeded) {
		shutdownErr = server.Close() // streams that never end
	}
	stopBackground()
	work.Wait()
	return errors.Join(serveErr, shutdownErr, backgroundErr, closeProxy(), n.store.Close())
}

// handler mounts everything that the broker serves. closeProxy writes the rest of the access log.
func (n *node) handler(p *program, stopping <-chan struct{}) (h http.Handler, closeProxy func() error, err error) {
	l := n.config.Limits
	perKey := web.KeyLimit(l.RequestsPerKey, l.RequestsPerKeyBurst)
	assets := static.New()
	pages, err := connect.New(connect.Deps{
		Broker: n.broker, Assets: assets, FormKey: n.keys.Derive("form token", 32),
		CookieKeys: []connect.CookieKeys{{Hash: n.keys.Derive("flow cookie: authentication", 64), Block: n.keys.Derive("flow cookie: encryption", 32)}},
	})
	if err != nil {
		return nil, nil, err
	}
	out := proxy.New(proxy.Options{
		Broker: n.broker, Transport: n.egress.ProxyTransport(), Certified: n.egress.CertifiedProxy, Reach: reach, LogOutput: p.stderr, Logger: n.log,
		Limits: proxy.Limits{MaxBody: l.ProxyBody, Global: l.ProxyConcurrent, PerConnection: l.ProxyPerConnection}, KeyLimit: perKey,
	})
	return web.New(web.Deps{
		Broker: n.broker, Proxy: out, Carrier: out, Connect: pages, Pages: []web.Surface{assets.Surface()}, Logger: n.log, TrustedProxies: n.config.proxies,
		PublicRate: l.PublicRate, PublicBurst: l.PublicBurst, KeyLimit: perKey, Stopping: stopping,
	}), out.Close, nil
}

// maxConnections bounds the open sockets unless the configuration says otherwise.
const maxConnections = 20_000

// limited bounds the open sockets, in all and of each address. One that its address may not have does not count for long.
func (n *node) limited(l net.Listener) net.Listener {
	limit := n.config.Limits.Connections
	if limit == 0 {
		limit = maxConnections
	}
	return web.LimitAddresses(netutil.LimitListener(l, limit), n.config.Limits.ConnectionsPerAddress, n.config.proxies)
}
