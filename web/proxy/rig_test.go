package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/providers"
	"github.com/coatcheck/coatcheck/providers/egress"
	"github.com/coatcheck/coatcheck/providers/providertest"
	"github.com/coatcheck/coatcheck/storage/sqlite"
	"github.com/coatcheck/coatcheck/web/proxy"
)

// The keys and credentials of every test.
const (
	secretKey = "11111111-2222-4333-8444-555555555555"
	otherKey  = "99999999-2222-4333-8444-555555555555"
	apiKey    = "the-provider's-own-api-key"
)

// rig is the proxy over a real broker, between a client and an API that the test answers for.
type rig struct {
	t         testing.TB
	broker    *broker.Broker
	who       broker.Actor
	idp       *providertest.Server
	policy    *egress.Policy
	proxy     *proxy.Handler
	server    *httptest.Server // the proxy
	upstream  *httptest.Server // the API
	log       *logBuffer       // of failures
	access    *logBuffer
	logOutput io.Writer // in place of access
	client    *http.Client
	limits    proxy.Limits
	keyLimit  func(broker.APIKeyID) error
	transport http.RoundTripper // in place of the policy's
	apiURL    string            // in place of upstream
}

// logBuffer may be written while it is read.
type logBuffer struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	written chan struct{} // closed by the next write; nil: nobody waits
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written != nil {
		close(l.written)
		l.written = nil
	}
	return l.buf.Write(p)
}

// await waits until the text has been written.
func (l *logBuffer) await(text string) {
	for {
		l.mu.Lock()
		if strings.Contains(l.buf.String(), text) {
			l.mu.Unlock()
			return
		}
		if l.written == nil {
			l.written = make(chan struct{})
		}
		next := l.written
		l.mu.Unlock()
		<-next
	}
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// catalogue has one entry for each way of putting a credential into a request.
const catalogue = `
oauth:
  display_name: OAuth
  categories: [test]
  auth_mode: OAUTH2
  docs: IDP/docs
  authorization_url: IDP/authorize
  token_url: IDP/token
  token_auth_method: client_secret_post
  pkce: S256
  proxy:
    base_url: UPSTREAM
below:
  alias: oauth
  proxy:
    base_url: UPSTREAM/v1/
    headers: {accept: application/vnd.test+json, x-version: "7", user-agent: the-entry}
    retry: {error_code: ["401", "418", "5xx"], at: [x-reset], after: [x-after], remaining: x-left}
keyed:
  display_name: Keyed
  categories: [test]
  auth_mode: API_KEY
  docs: IDP/docs
  proxy:
    base_url: UPSTREAM
    headers: {x-api-key: "${apiKey}"}
  credentials:
    apiKey: {title: Key, description: A key, secret: true}
asked:
  alias: keyed
  proxy:
    base_url: UPSTREAM
    query: {api_key: "${apiKey}"}
pathed:
  alias: keyed
  proxy:
    base_url: UPSTREAM/bot${apiKey}
signed:
  display_name: Signed
  categories: [test]
  auth_mode: OAUTH1
  docs: IDP/docs
  request_url: IDP/request
  authorization_url: IDP/authorize
  token_url: IDP/access
  proxy:
    base_url: UPSTREAM
certified:
  display_name: Certified
  categories: [test]
  auth_mode: OAUTH2_CC
  docs: IDP/docs
  token_url: IDP/token
  require_client_certificate: true
  proxy:
    base_url: UPSTREAM
baseless:
  display_name: Baseless
  categories: [test]
  auth_mode: NONE
  docs: IDP/docs
gone:
  alias: keyed
  proxy:
    base_url: http://127.0.0.1:1
blocked:
  alias: keyed
  proxy:
    base_url: http://127.0.0.2:1
`

func newRig(t testing.TB, upstream http.HandlerFunc, options ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, log: &logBuffer{}, access: &logBuffer{}}
	for _, o := range options {
		o(r)
	}
	r.idp = providertest.New(t, providertest.Knobs{Rotate: true})
	r.upstream = httptest.NewServer(upstream)
	t.Cleanup(r.upstream.Close)
	if r.apiURL == "" {
		r.apiURL = r.upstream.URL
	}
	var err error
	r.policy, err = egress.New(egress.Options{Allow: []string{"127.0.0.1"}})
	must(t, err)
	r.broker = newBroker(t, r.load(), r.log)
	r.who, err = r.broker.Authenticate(secretKey)
	must(t, err)
	r.connect()
	if r.transport == nil {
		r.transport = r.policy.ProxyTransport()
		t.Cleanup(r.policy.ProxyTransport().CloseIdleConnections)
	}
	if r.logOutput == nil {
		r.logOutput = r.access
	}
	r.proxy = proxy.New(proxy.Options{
		Broker: r.broker, Transport: r.transport, Reach: reach, LogOutput: r.logOutput, Limits: r.limits, KeyLimit: r.keyLimit,
		Logger: slog.New(slog.NewJSONHandler(r.log, nil)),
	})
	r.server = httptest.NewServer(r.proxy)
	t.Cleanup(func() {
		r.server.Close()
		must(t, r.proxy.Close())
	})
	r.client = r.server.Client()
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if tr, ok := r.client.Transport.(*http.Transport); ok {
		tr.DisableCompression = true
	}
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reach is how the product wires it.
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

func (r *rig) load() *providers.Catalogue {
	r.t.Helper()
	text := strings.NewReplacer("IDP", r.idp.URL, "UPSTREAM", r.apiURL).Replace(catalogue)
	c, err := providers.Load(providers.Options{
		Overlays: []providers.File{{Name: "test.yaml", Data: []byte(text)}}, Client: r.policy.TokenClient(), Reach: reach,
		CheckURL: func(raw string, _ bool) (*url.URL, error) { return url.Parse(raw) },
	})
	must(r.t, err)
	return c
}

type sealer struct{ *crypto.Keyring }

func (sealer) NewAPIKey(env string) (key, id string) { return crypto.NewAPIKey(env) }

func newBroker(t testing.TB, c broker.Catalogue, log io.Writer) *broker.Broker {
	t.Helper()
	var identity bytes.Buffer
	_, err := crypto.GenerateIdentity(&identity, time.Now())
	must(t, err)
	ids, err := crypto.ParseIdentities(&identity)
	must(t, err)
	key, err := crypto.NewKey(1, ids, time.Now())
	must(t, err)
	keyring, err := crypto.OpenKeyring([]crypto.WrappedKey{key}, ids)
	must(t, err)
	store, err := sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	b, err := broker.New(t.Context(), broker.Config{
		Store: store, Sealer: sealer{keyring}, Catalogue: c, Now: time.Now, Logger: slog.New(slog.NewJSONHandler(log, nil)),
		PublicURL: "https://connect.example.com",
	})
	must(t, err)
	declared := []broker.DeclaredEnvironment{
		{Environment: broker.Environment{Name: "dev"}, SecretKey: broker.NewSecret(secretKey)},
		{Environment: broker.Environment{Name: "other"}, SecretKey: broker.NewSecret(otherKey)},
	}
	for _, name := range []string{"oauth", "below", "signed"} {
		declared[0].Integrations = append(declared[0].Integrations, broker.IntegrationInput{
			Key: name, Provider: name, ClientID: providertest.ClientID, ClientSecret: broker.NewSecret(providertest.ClientSecret),
			Hosts: []string{"files.example.com"},
		})
	}
	for _, name := range []string{"keyed", "asked", "pathed", "baseless", "gone", "blocked", "certified"} {
		declared[0].Integrations = append(declared[0].Integrations, broker.IntegrationInput{Key: name, Provider: name})
	}
	must(t, b.Declare(t.Context(), declared))
	return b
}

// connect makes a connection "c" of each integration.
func (r *rig) connect() {
	r.t.Helper()
	for _, name := range []string{"oauth", "below"} {
		r.grant(name, "c", time.Hour)
	}
	for _, name := range []string{"keyed", "asked", "pathed", "gone", "blocked"} {
		r.put(name, "c", &broker.Material{Type: "API_KEY", Access: broker.NewSecret(apiKey)})
	}
	r.put("baseless", "c", &broker.Material{Type: "NONE"})
}

// grant makes a connection with a token of the identity provider.
func (r *rig) grant(integration, key string, life time.Duration) (access string) {
	r.t.Helper()
	access, refresh := r.idp.Grant()
	r.put(integration, key, &broker.Material{
		Type: "OAUTH2", Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh), ExpiresAt: time.Now().Add(life),
	})
	return access
}

func (r *rig) put(integration, key string, m *broker.Material) {
	r.t.Helper()
	_, _, err := r.broker.Import(r.t.Context(), r.who, broker.ImportInput{Integration: integration, Key: key, Material: m})
	if err != nil {
		r.t.Fatalf("%s: %v", integration, err)
	}
}

// request makes a request through the proxy. Headers are name, value, name, value.
func (r *rig) request(method, integration, path string, body io.Reader, headers ...string) *http.Request {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.server.URL, body)
	must(r.t, err)
	path, req.URL.RawQuery, _ = strings.Cut(path, "?")
	req.URL.Opaque = "/proxy" + path // as it is
	req.Header.Set("Authorization", "Bearer "+secretKey)
	req.Header.Set("Provider-Config-Key", integration)
	req.Header.Set("Connection-Id", "c")
	for i := 0; i+1 < len(headers); i += 2 {
		if req.Header[headers[i]] = []string{headers[i+1]}; headers[i+1] == "-" {
			delete(req.Header, headers[i])
		}
	}
	return req
}

// answer is an answer, read.
type answer struct {
	*http.Response
	body string
}

func (r *rig) do(req *http.Request) answer {
	r.t.Helper()
	res, err := r.client.Do(req)
	must(r.t, err)
	body, err := io.ReadAll(res.Body)
	must(r.t, err)
	must(r.t, res.Body.Close())
	return answer{res, string(body)}
}

func (r *rig) get(integration, path string, headers ...string) answer {
	r.t.Helper()
	return r.do(r.request(http.MethodGet, integration, path, nil, headers...))
}

// refused checks a refusal of the proxy's own.
func (a answer) refused(t testing.TB, status int, ours, theirs string) {
	t.Helper()
	var envelope struct {
		Error struct {
			Code    string
			Message string
		}
		Code   string
		Method string
	}
	if err := json.Unmarshal([]byte(a.body), &envelope); err != nil {
		t.Errorf("body %q: %v", a.body, err)
	}
	code := envelope.Error.Code + envelope.Code
	if a.StatusCode != status || a.Header.Get("X-Error-Code") != ours || code != theirs {
		t.Errorf("got %d %q %s, want %d %q code %q", a.StatusCode, a.Header.Get("X-Error-Code"), a.body, status, ours, theirs)
	}
	if a.Header.Get("X-Error-Source") != "broker" || a.Header.Get("X-Request-Id") == "" {
		t.Errorf("headers of a refusal: %v", a.Header)
	}
}

// lines gives the access log, line by line, after it has been closed.
func (r *rig) lines() []map[string]any {
	r.t.Helper()
	r.server.Close()
	must(r.t, r.proxy.Close())
	var out []map[string]any
	for line := range strings.Lines(r.access.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			r.t.Fatalf("access log %q: %v", line, err)
		}
		out = append(out, m)
	}
	return out
}

// raw sends bytes to the proxy as they are, and gives what comes back until the connection ends.
func (r *rig) raw(text string) string {
	r.t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(r.t.Context(), "tcp", r.server.Listener.Addr().String())
	must(r.t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, text)
	must(r.t, err)
	out, err := io.ReadAll(conn)
	must(r.t, err)
	return string(out)
}

// head is the beginning of a raw request.
func head(method, path, integration string, headers ...string) string {
	return fmt.Sprintf("%s /proxy%s HTTP/1.1\r\nHost: proxy.example\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"+
		"Provider-Config-Key: %s\r\nConnection-Id: c\r\n%s\r\n", method, path, secretKey, integration, strings.Join(append(headers, ""), "\r\n"))
}
