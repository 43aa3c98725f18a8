package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/providers/sandbox"
	"github.com/coatcheck/coatcheck/web"
)

type demoCommand struct {
	Data    string `help:"Directory to keep; a throwaway one if none is named." placeholder:"DIR"`
	Listen  string `help:"Address of the broker; a free port if 3003 is taken." placeholder:"ADDR"`
	Verbose bool   `help:"Show the broker's log."`
}

// The demo's names.
const (
	demoEnvironment = "demo"
	demoIntegration = "sandbox"
	demoConnection  = "ada"
	demoClient      = "coatcheck-demo"
)

// Run starts broker, sandbox provider and an app with a Connect button, and makes a first connection.
func (c *demoCommand) Run(p *program) (err error) {
	data, cleanUp, err := c.dataDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanUp()) }()
	d, err := listenDemo(p.ctx, c.Listen)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if c.Verbose {
		log = slog.New(slog.NewJSONHandler(p.stderr, nil))
	}
	cfg, secret, err := d.config(data)
	if err != nil {
		return err
	}
	n, err := openNode(p.ctx, cfg, p.env, log, true)
	if err != nil {
		return err
	}
	defer func() { _ = n.store.Close() }()
	if n.broker.Paused() != broker.NotPaused { // a directory that was kept, on another port: nobody else has its tokens
		if _, err := n.broker.Adopt(p.ctx, broker.System("")); err != nil {
			return err
		}
	}
	if err := n.declare(p); err != nil {
		return err
	}
	provider := d.sandbox(cfg.PublicURL, secret, log)
	if err := n.connectDemo(p.ctx, provider); err != nil {
		return err
	}
	app := &demoApp{broker: cfg.PublicURL, key: cfg.Environments[demoEnvironment].SecretKey, client: &http.Client{Timeout: 30 * time.Second}}
	stop := serveBeside(log, map[net.Listener]http.Handler{d.provider: provider, d.app: app.handler()})
	d.introduce(p, cfg)
	quiet := *p
	if !c.Verbose {
		quiet.stderr = discard{}
	}
	return errors.Join(n.serve(&quiet, d.broker), stop())
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// dataDir gives the directory to use and what to do with it afterwards.
func (c *demoCommand) dataDir() (dir string, cleanUp func() error, err error) {
	if c.Data != "" {
		return absolute(c.Data), func() error { return nil }, nil
	}
	dir, err = os.MkdirTemp("", "coatcheck-demo-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// demo is where its three servers listen.
type demo struct{ broker, provider, app net.Listener }

// listenDemo takes the usual port for the broker, or a free one, and free ports for the others.
func listenDemo(ctx context.Context, addr string) (*demo, error) {
	named := addr != ""
	if !named {
		addr = defaultListen
	}
	b, err := listen(ctx, addr)
	if err != nil && !named {
		b, err = listen(ctx, "127.0.0.1:0")
	}
	if err != nil {
		return nil, err
	}
	provider, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	app, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &demo{b, provider, app}, nil
}

func port(l net.Listener) string {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return strconv.Itoa(a.Port)
	}
	return ""
}

func (d *demo) providerURL() string { return "http://" + d.provider.Addr().String() }

// config makes the demo's configuration and the client secret of its integration. The sandbox is an overlay on the
// catalogue, as a user's own provider would be.
func (d *demo) config(data string) (*config, string, error) {
	overlay := filepath.Join(data, "sandbox.yaml")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, "", fmt.Errorf("make the data directory: %w", err)
	}
	if err := os.WriteFile(overlay, fmt.Appendf(nil, sandboxEntry, d.providerURL()), 0o600); err != nil {
		return nil, "", fmt.Errorf("write the sandbox's entry: %w", err)
	}
	key, _ := crypto.NewAPIKey(demoEnvironment)
	secret := crypto.NewToken("")
	c := &config{
		Listen: d.broker.Addr().String(), PublicURL: "http://localhost:" + port(d.broker), Data: data, Providers: []string{overlay},
		Egress: egressConfig{Allow: []string{"127.0.0.1"}},
		Environments: map[string]environmentConfig{demoEnvironment: {
			SecretKey: key, Name: "The demo app",
			Integrations: map[string]integrationConfig{demoIntegration: {Provider: demoIntegration, ClientID: demoClient, ClientSecret: secret}},
		}},
	}
	c.setDefaults()
	return c, secret, c.validate()
}

// sandboxEntry describes the sandbox to the broker.
const sandboxEntry = `# Made by "coatcheck demo": the sandbox provider, described like any other.
sandbox:
  display_name: Sandbox
  categories: [dev-tools]
  auth_mode: OAUTH2
  authorization_url: %[1]s/authorize
  token_url: %[1]s/token
  token_auth_method: client_secret_basic
  revocation_url: %[1]s/revoke
  issuer: %[1]s
  identity_endpoint: GET %[1]s/api/me
  default_scopes: [profile, coats]
  refresh_rotation: "yes"
  docs: https://datatracker.ietf.org/doc/html/rfc6749
  proxy:
    base_url: %[1]s
`

// sandbox makes the provider.
func (d *demo) sandbox(publicURL, secret string, log *slog.Logger) *sandbox.Server {
	return sandbox.New(sandbox.Options{
		Origin: d.providerURL(), Logger: log, Now: time.Now,
		Clients: map[string]sandbox.Client{demoClient: {
			Name: "The demo app", Secret: secret, RedirectURIs: []string{publicURL + broker.CallbackPath},
		}},
	})
}

// connectDemo makes the connection that the printed curl line uses, as a backend that brings its own tokens would.
func (n *node) connectDemo(ctx context.Context, provider *sandbox.Server) error {
	e, err := n.broker.EnvironmentNamed(demoEnvironment)
	if err != nil {
		return err
	}
	access, refresh, life := provider.Grant(demoClient, "ada", []string{"profile", "coats"})
	_, _, err = n.broker.Import(ctx, broker.System(e.ID), broker.ImportInput{
		Integration: demoIntegration, Key: demoConnection, Name: "Ada's coats",
		Material: &broker.Material{
			Type: "OAUTH2", Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh), ExpiresAt: n.broker.Now().Add(life),
		},
		EndUser: &broker.EndUser{ID: "ada", DisplayName: "Ada"},
	})
	return err
}

// introduce says what there is to do.
func (d *demo) introduce(p *program, c *config) {
	p.say(`Coatcheck demo. Everything in it ends with Ctrl-C.

  1. Open    http://localhost:%s    and click Connect.
  2. Or, with the connection that is there already, call the provider with a token you never see:

     curl -s %s/proxy/api/coats \
       -H "Authorization: Bearer %s" \
       -H "Provider-Config-Key: %s" -H "Connection-Id: %s"

The broker is on %s, the sandbox provider on %s.
`, port(d.app), c.PublicURL, c.Environments[demoEnvironment].SecretKey, demoIntegration, demoConnection, c.PublicURL, d.providerURL())
}

// serveBeside serves the demo's other parts until stop is called.
func serveBeside(log *slog.Logger, parts map[net.Listener]http.Handler) (stop func() error) {
	var servers []*http.Server
	var running sync.WaitGroup
	for l, h := range parts {
		s := web.Server(h, log)
		servers = append(servers, s)
		running.Go(func() { _ = s.Serve(l) }) // ends with Close, which says whether that went well
	}
	return func() error {
		var errs []error
		for _, s := range servers {
			errs = append(errs, s.Close())
		}
		running.Wait()
		return errors.Join(errs...)
	}
}
