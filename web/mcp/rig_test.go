package mcp_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/providers"
	"github.com/coatcheck/coatcheck/providers/egress"
	"github.com/coatcheck/coatcheck/storage/sqlite"
	"github.com/coatcheck/coatcheck/web"
	"github.com/coatcheck/coatcheck/web/connect"
	"github.com/coatcheck/coatcheck/web/proxy"
	"github.com/coatcheck/coatcheck/web/static"
)

const apiKey = "11111111-2222-4333-8444-555555555555"

// rig is a broker as it is shipped, in this process, that reaches this machine alone.
type rig struct {
	t       *testing.T
	url     string // its public URL
	broker  *broker.Broker
	store   broker.Store
	who     broker.Actor
	handler http.Handler
	log     *journal
	moved   atomic.Int64 // how far the clock is ahead
}

// journal is a log that can be read while it is written.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

var start = time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)

func (r *rig) now() time.Time          { return start.Add(time.Duration(r.moved.Load())) }
func (r *rig) advance(d time.Duration) { r.moved.Add(int64(d)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newRig makes a broker with an integration of the generic entry under the key "mcp". publicURL empty: it is on this
// machine, and served there.
func newRig(t *testing.T, publicURL string, in broker.IntegrationInput, overlays ...string) *rig {
	t.Helper()
	r := &rig{t: t, url: publicURL, log: new(journal)}
	var listener net.Listener
	if publicURL == "" {
		var err error
		listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		must(t, err)
		_, port, err := net.SplitHostPort(listener.Addr().String())
		must(t, err)
		r.url = "http://localhost:" + port
	}
	policy, err := egress.New(egress.Options{Allow: []string{"127.0.0.0/8"}, ProxyHeaderTimeout: time.Minute})
	must(t, err)
	r.store, err = sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir(), Now: r.now})
	must(t, err)
	t.Cleanup(func() { must(t, r.store.Close()) })
	logger := slog.New(slog.NewJSONHandler(r.log, nil))
	r.broker, err = broker.New(t.Context(), broker.Config{
		Store: r.store, Sealer: newSealer(t), Catalogue: r.catalogue(policy, overlays), Now: r.now, Logger: logger, PublicURL: r.url,
	})
	must(t, err)
	must(t, r.broker.Declare(t.Context(), []broker.DeclaredEnvironment{{
		Environment: broker.Environment{Name: "dev", DisplayName: "My App", Start: broker.StartAuto}, SecretKey: broker.NewSecret(apiKey),
	}}))
	env, err := r.broker.EnvironmentNamed("dev")
	must(t, err)
	r.who = broker.System(env.ID)
	in.Key, in.Provider = cmp.Or(in.Key, "mcp"), cmp.Or(in.Provider, "custom-mcp")
	_, err = r.broker.CreateIntegration(t.Context(), r.who, in)
	must(t, err)
	r.mount(policy, logger)
	r.run()
	if listener != nil {
		server := httptest.NewUnstartedServer(r.handler)
		must(t, server.Listener.Close())
		server.Listener = listener
		server.Start()
		t.Cleanup(server.Close)
	}
	return r
}

func (r *rig) catalogue(policy *egress.Policy, overlays []string) broker.Catalogue {
	r.t.Helper()
	builtin, err := os.ReadFile("../../providers.yaml")
	must(r.t, err)
	o := providers.Options{
		Builtin: builtin, Client: policy.TokenClient(), Metadata: policy.MetadataClient(), Now: r.now,
		CheckURL: func(raw string, literal bool) (*url.URL, error) {
			return policy.CheckURL(raw, egress.URLOptions{Literal: literal})
		},
		Reach: reach,
	}
	for _, text := range overlays {
		o.Overlays = append(o.Overlays, providers.File{Name: "overlay.yaml", Data: []byte(text)})
	}
	c, err := providers.Load(o)
	must(r.t, err)
	return c
}

func reach(err error) *broker.Error {
	switch egress.Classify(err) {
	case egress.Blocked:
		return broker.ErrEgressBlocked
	case egress.Timeout:
		return broker.ErrProviderTimeout
	case egress.Unreachable:
	}
	return broker.ErrUnreachable
}

// sealer is what the broker asks of package crypto.
type sealer struct{ *crypto.Keyring }

func (sealer) NewAPIKey(environment string) (key, id string) { return crypto.NewAPIKey(environment) }

func newSealer(t *testing.T) broker.Sealer {
	t.Helper()
	var identity bytes.Buffer
	_, err := crypto.GenerateIdentity(&identity, start)
	must(t, err)
	ids, err := crypto.ParseIdentities(&identity)
	must(t, err)
	dataKey, err := crypto.NewKey(1, ids, start)
	must(t, err)
	ring, err := crypto.OpenKeyring([]crypto.WrappedKey{dataKey}, ids)
	must(t, err)
	return sealer{ring}
}

func (r *rig) mount(policy *egress.Policy, logger *slog.Logger) {
	r.t.Helper()
	out := proxy.New(proxy.Options{Broker: r.broker, Transport: policy.ProxyTransport(), Now: r.now, Logger: logger, Reach: reach})
	r.t.Cleanup(func() { must(r.t, out.Close()) })
	assets := static.New()
	ui, err := connect.New(connect.Deps{
		Broker: r.broker, Assets: assets, FormKey: bytes.Repeat([]byte{1}, 32),
		CookieKeys: []connect.CookieKeys{{Hash: bytes.Repeat([]byte{2}, 32), Block: bytes.Repeat([]byte{3}, 32)}},
	})
	must(r.t, err)
	r.handler = web.New(web.Deps{
		Broker: r.broker, Proxy: out, Carrier: out, Logger: logger, Connect: ui, Pages: []web.Surface{assets.Surface()},
	})
}

// run lets the broker do its work in the background, revocations among it.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.broker.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		must(r.t, <-ended)
	})
}

// browser is an end user's browser, or any client that keeps cookies. Requests to the broker's public URL get there
// whatever address it has; all others go out.
type browser struct {
	*http.Client
	rig *rig
}

func (r *rig) browser() *browser {
	jar, err := cookiejar.New(nil)
	must(r.t, err)
	b := &browser{rig: r}
	b.Client = &http.Client{Transport: b, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return b
}

// RoundTrip implements http.RoundTripper.
func (b *browser) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme+"://"+req.URL.Host != b.rig.url {
		return http.DefaultTransport.RoundTrip(req)
	}
	in := req.Clone(req.Context())
	in.RequestURI, in.RemoteAddr, in.Host = req.URL.RequestURI(), "192.0.2.1:1234", req.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	b.rig.handler.ServeHTTP(w, in)
	return w.Result(), nil
}

// answer is what came in the end.
type answer struct {
	status int
	header http.Header
	body   string
	url    string
}

// wanted is the page that shows what a server wants, with the way on.
var wanted = regexp.MustCompile(`<h2 id="scopes">(?s:.*)<a class="button" href="([^"]+)" rel="noreferrer">`)

// get follows redirects, and the page that shows what a server wants, until something else comes. stop may end it at an
// address, which is not asked.
func (b *browser) get(address string, stop func(*url.URL) bool) answer {
	b.rig.t.Helper()
	for range 12 {
		u, err := url.Parse(address)
		must(b.rig.t, err)
		if stop != nil && stop(u) {
			return answer{url: address}
		}
		req, err := http.NewRequestWithContext(b.rig.t.Context(), http.MethodGet, address, http.NoBody)
		must(b.rig.t, err)
		a := b.do(req)
		to := a.header.Get("Location")
		if onward := wanted.FindStringSubmatch(a.body); onward != nil {
			to = html.UnescapeString(onward[1])
		}
		if to == "" {
			return a
		}
		next, err := u.Parse(to)
		must(b.rig.t, err)
		address = next.String()
	}
	b.rig.t.Fatal("the redirects do not end")
	return answer{}
}

func (b *browser) do(req *http.Request) answer {
	b.rig.t.Helper()
	resp, err := b.Do(req)
	must(b.rig.t, err)
	body, err := io.ReadAll(resp.Body)
	must(b.rig.t, errors.Join(err, resp.Body.Close()))
	return answer{resp.StatusCode, resp.Header, string(body), req.URL.String()}
}

// session makes a connect session for one of the app's end users.
func (r *rig) session(in broker.SessionInput) string {
	r.t.Helper()
	if in.EndUser == nil {
		in.EndUser = &broker.EndUser{ID: "ada"}
	}
	_, token, err := r.broker.CreateSession(r.t.Context(), r.who, in)
	must(r.t, err)
	return token.Reveal()
}

// decided is a session for which the app's backend has named the server.
func (r *rig) decided(server string) string {
	return r.session(broker.SessionInput{Defaults: map[string]broker.Defaults{"mcp": {Config: map[string]string{"mcp_server_url": server}}}})
}

// startURL begins a sign-in, as the app's page does.
func (r *rig) startURL(token string, params ...string) string {
	q := url.Values{"connect_session_token": {token}}
	for i := 0; i+1 < len(params); i += 2 {
		q.Set("params["+params[i]+"]", params[i+1])
	}
	return r.url + "/oauth/connect/mcp?" + q.Encode()
}

// connect signs in and gives the connection.
func (r *rig) connect(token string, params ...string) *broker.Connection {
	r.t.Helper()
	a := r.browser().get(r.startURL(token, params...), nil)
	if a.status != http.StatusOK {
		r.t.Fatalf("the sign-in ended in %d (%s) at %s", a.status, a.header.Get("X-Error-Code"), a.url)
	}
	return r.newest()
}

// newest is the connection that was made last.
func (r *rig) newest() *broker.Connection {
	r.t.Helper()
	list, err := r.broker.Connections(r.t.Context(), r.who, broker.ConnectionFilter{})
	must(r.t, err)
	if len(list) == 0 {
		r.t.Fatal("there is no connection")
	}
	return list[0]
}

// refused signs in and wants to fail so.
func (r *rig) refused(status int, code, token string, params ...string) answer {
	r.t.Helper()
	a := r.browser().get(r.startURL(token, params...), nil)
	if a.status != status || a.header.Get("X-Error-Code") != code {
		r.t.Errorf("got %d %s, want %d %s, at %s", a.status, a.header.Get("X-Error-Code"), status, code, a.url)
	}
	return a
}

// api asks the Nango-compatible API.
func (r *rig) api(method, path, body string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	must(r.t, err)
	req.Header.Set("Authorization", "Bearer "+apiKey)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return r.browser().do(req)
}

// call calls the server through the proxy.
func (r *rig) call(c *broker.Connection, method, path string, headers ...string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+"/proxy"+path, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	must(r.t, err)
	req.Header.Set("Authorization", "Bearer "+apiKey)
	req.Header.Set("Provider-Config-Key", "mcp")
	req.Header.Set("Connection-Id", c.Key)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return r.browser().do(req)
}

// read reads a connection over the API, perhaps renewing it first.
func (r *rig) read(c *broker.Connection, query string) (answer, map[string]any) {
	r.t.Helper()
	a := r.api(http.MethodGet, "/connection/"+c.Key+"?provider_config_key=mcp"+query, "")
	var out map[string]any
	if a.status == http.StatusOK {
		must(r.t, json.Unmarshal([]byte(a.body), &out))
	}
	return a, out
}

// eventually waits for a condition that the background brings about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	end := time.NewTimer(20 * time.Second)
	defer end.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatal("it did not come about: " + what)
		}
	}
}
