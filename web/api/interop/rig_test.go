package interop_test

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
	"github.com/coatcheck/coatcheck/providers/providertest/npm"
	"github.com/coatcheck/coatcheck/providers/providertest/oidcprovider"
)

//go:embed package.json package-lock.json
var packageFiles embed.FS

//go:embed node.mjs verify.mjs app.html app.mjs
var scripts embed.FS

// modules gives the folder of the installed npm packages.
var modules = sync.OnceValues(func() (string, error) { return npm.Modules("interop", packageFiles) })

// built is the folder of the broker's binary, once there is one.
var built string

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// binary builds the broker.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "coatcheck-interop-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "coatcheck")
	cmd := exec.Command("go", "build", "-o", path, "github.com/coatcheck/coatcheck/cmd/coatcheck")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the broker: %w\n%s", err, out)
	}
	return path, nil
})

const (
	secretKey    = "11111111-2222-4333-8444-555555555555" // as it stands in an app that comes from Nango
	signingKey   = "99999999-2222-4333-8444-555555555555"
	clientID     = "an-app"
	clientSecret = "the-secret-of-the-app"
	goodKey      = "a-key-that-the-api-takes"
)

// rig is an app's world: the broker's process, an authorization server, an API, and the app's own origin.
type rig struct {
	t      *testing.T
	broker string // its public URL, on localhost
	idp    *oidcprovider.Server
	api    *httptest.Server
	app    *httptest.Server // on 127.0.0.1: another site than the broker to a browser
	log    *logBuffer

	mu    sync.Mutex
	hooks []hook // what the app was told, in the order of arrival
}

// hook is a webhook as it arrived.
type hook struct {
	Body    string            `json:"body"`
	Headers map[string]string `json:"headers"` // by lower-case name, as Node has them
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRig(t *testing.T, options ...func(*oidcprovider.Options)) *rig {
	t.Helper()
	r := &rig{t: t, log: new(logBuffer)}
	addr := providertest.FreeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	must(t, err)
	r.broker = "http://localhost:" + port
	idp := oidcprovider.Options{
		ClientID: clientID, ClientSecret: clientSecret, RedirectURIs: []string{r.broker + broker.CallbackPath, r.broker + broker.SecondCallbackPath}, AccessTokenTTL: time.Hour,
	}
	for _, o := range options {
		o(&idp)
	}
	r.idp = oidcprovider.Start(t, idp)
	r.api = httptest.NewServer(http.HandlerFunc(serveAPI))
	t.Cleanup(r.api.Close)
	r.app = httptest.NewServer(r.pages())
	t.Cleanup(r.app.Close)
	r.start(addr)
	return r
}

// serveAPI is the API behind the integrations that need no browser. It says what it got.
func serveAPI(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if r.Header.Get("X-Api-Key") != goodKey && (user != "ada" || password != "secret") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if status := r.URL.Query().Get("status"); status != "" {
		var code int
		if _, err := fmt.Sscan(status, &code); err == nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"method": r.Method, "path": r.URL.Path, "query": r.URL.RawQuery, "body": string(body), "type": r.Header.Get("Content-Type"),
		"custom": r.Header.Get("X-Custom"),
	})
}

const entries = `
key-api:
  display_name: Key API
  auth_mode: API_KEY
  docs: https://docs.example.com
  proxy:
    base_url: API
    headers:
      x-api-key: ${apiKey}
    verification:
      method: GET
      endpoints: [/me]
basic-api:
  display_name: Basic API
  auth_mode: BASIC
  docs: https://docs.example.com
  proxy:
    base_url: API
    verification:
      method: GET
      endpoints: [/me]
machine:
  display_name: Machine
  auth_mode: OAUTH2_CC
  docs: https://docs.example.com
  token_url: IDP/token
  token_params:
    grant_type: client_credentials
  token_request_auth_method: basic
  proxy:
    base_url: API
open-api:
  display_name: Open API
  auth_mode: NONE
  docs: https://docs.example.com
  proxy:
    base_url: API
`

// start runs the broker on a configuration such as an app that comes from Nango would have.
func (r *rig) start(addr string) {
	t := r.t
	bin, err := binary()
	must(t, err)
	dir := t.TempDir()
	catalogue := r.idp.Entry("acme") + strings.NewReplacer("API\n", r.api.URL+"\n", "IDP", r.idp.Issuer()).Replace(entries)
	must(t, os.WriteFile(filepath.Join(dir, "providers.yaml"), []byte(catalogue), 0o600))
	config := fmt.Sprintf(`
listen: %s
public_url: %s
providers: [providers.yaml]
egress: {allow: [127.0.0.1]}
environments:
  dev:
    secret_key: %s
    name: The app
    allowed_origins: [%s]
    return_urls: [%s/done]
    webhook: {url: %s/hooks, secret: %s}
    integrations:
      acme: {provider: acme, client_id: %s, client_secret: %s, scopes: [openid, offline_access]}
      slack: {provider: acme, client_id: %s, client_secret: %s, scopes: [openid, offline_access]}
      wrong: {provider: acme, client_id: %s, client_secret: another-secret, scopes: [openid]}
      key-api: {provider: key-api}
      basic-api: {provider: basic-api}
      machine: {provider: machine}
      open-api: {provider: open-api}
`, addr, r.broker, secretKey, r.app.URL, r.app.URL, r.app.URL, signingKey, clientID, clientSecret, clientID, clientSecret, clientID)
	must(t, os.WriteFile(filepath.Join(dir, "coatcheck.yaml"), []byte(config), 0o600))
	cmd := exec.Command(bin, "serve", "--config", filepath.Join(dir, "coatcheck.yaml"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, r.log, r.log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the broker ends with %v; its log:\n%s", err, r.log)
		}
		if t.Failed() {
			t.Logf("the broker's log:\n%s", r.log)
		}
	})
	r.until(func() bool {
		resp, err := r.get("/health")
		return err == nil && resp == http.StatusOK
	})
}

func (r *rig) get(path string) (int, error) {
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.broker+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := new(http.Client).Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// until waits for a condition, for a while.
func (r *rig) until(condition func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.t.Fatalf("the condition did not come true; the broker's log:\n%s", r.log)
		}
	}
}

// call asks the API as the app's backend does.
func (r *rig) call(method, path, body string, out any) int {
	r.t.Helper()
	return r.callAs("Authorization", "Bearer "+secretKey, method, path, body, out)
}

// callAs is call with the credential in a header.
func (r *rig) callAs(header, credential, method, path, body string, out any) int {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.broker+path, strings.NewReader(body))
	must(r.t, err)
	req.Header.Set(header, credential)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return r.send(req, out)
}

// send sends a request and reads the answer into out, if that is not nil.
func (r *rig) send(req *http.Request, out any) int {
	r.t.Helper()
	resp, err := new(http.Client).Do(req)
	must(r.t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	must(r.t, err)
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			r.t.Fatalf("%s %s: %v in %s", req.Method, req.URL, err, raw)
		}
	}
	return resp.StatusCode
}

// session makes a connect session.
func (r *rig) session(integrations ...string) string {
	r.t.Helper()
	allowed, err := json.Marshal(append([]string{}, integrations...))
	must(r.t, err)
	return r.sessionOf("/connect/sessions", `{"end_user":{"id":"u-1","email":"ann@example.com"},"allowed_integrations":`+string(allowed)+`}`)
}

func (r *rig) sessionOf(path, body string) string {
	r.t.Helper()
	var s struct {
		Data struct {
			Token string `json:"token"`
		} `json:"data"`
	}
	if status := r.call(http.MethodPost, path, body, &s); status != http.StatusCreated {
		r.t.Fatalf("%s: %d", path, status)
	}
	return s.Data.Token
}

// connection reads a connection's credentials.
func (r *rig) connection(integration, id string) map[string]any {
	r.t.Helper()
	var c struct {
		Credentials map[string]any `json:"credentials"`
	}
	path := "/connections/" + url.PathEscape(id) + "?provider_config_key=" + integration
	if status := r.call(http.MethodGet, path, "", &c); status != http.StatusOK {
		r.t.Fatalf("%s: %d", path, status)
	}
	return c.Credentials
}

// pages serves the app's page and the browser client, as an app's own server would.
func (r *rig) pages() http.Handler {
	dir, err := modules()
	must(r.t, err)
	mux := http.NewServeMux()
	mux.Handle("/node_modules/", http.StripPrefix("/node_modules/", http.FileServer(http.Dir(dir))))
	mux.Handle("/app.mjs", http.FileServerFS(scripts))
	mux.HandleFunc("POST /hooks", r.told)
	mux.HandleFunc("/done", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<title>back in the app</title>")
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, q *http.Request) { http.ServeFileFS(w, q, scripts, "app.html") })
	return mux
}

// told takes a webhook.
func (r *rig) told(_ http.ResponseWriter, q *http.Request) {
	h := hook{Headers: make(map[string]string)}
	for name := range q.Header {
		h.Headers[strings.ToLower(name)] = q.Header.Get(name)
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	h.Body = string(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hooks = append(r.hooks, h)
}

// heard waits for so many webhooks.
func (r *rig) heard(n int) []hook {
	r.t.Helper()
	var list []hook
	r.until(func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		list = append([]hook(nil), r.hooks...)
		return len(list) >= n
	})
	return list
}
