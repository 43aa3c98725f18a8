package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// process is a broker in a process of its own, which can be killed and started again on the same data.
type process struct {
	t        *testing.T
	dir      string
	addr     string
	key      string
	provider *providertest.Server
	client   *http.Client
	args     []string
	env      []string

	mu  sync.Mutex
	cmd *exec.Cmd
	log lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// newProcess writes a configuration with one integration, acme, of the provider. It does not start anything yet.
func newProcess(t *testing.T, provider *providertest.Server) *process {
	t.Helper()
	p := emptyProcess(t)
	p.provider = provider
	p.configure(string(provider.Entry("acme")), providertest.ClientID, providertest.ClientSecret, "[read]")
	return p
}

// emptyProcess has an address and a folder, and no configuration yet.
func emptyProcess(t *testing.T) *process {
	t.Helper()
	return &process{
		t: t, dir: t.TempDir(), addr: providertest.FreeAddr(t), key: "a-preset-key-of-the-process-tests",
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
}

// origin is the broker's public URL.
func (p *process) origin() string {
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	return "http://localhost:" + port
}

// configure writes the configuration, with an entry of the catalogue for acme.
func (p *process) configure(entry, clientID, clientSecret, scopes string) {
	p.t.Helper()
	p.write("providers.yaml", entry)
	p.write("coatcheck.yaml", fmt.Sprintf(`
listen: %s
public_url: %s
data: data
providers: [providers.yaml]
egress: {allow: [127.0.0.1]}
environments:
  dev:
    secret_key: %s
    name: The app
    integrations:
      acme: {provider: acme, client_id: %s, client_secret: %s, scopes: %s}
`, p.addr, p.origin(), p.key, clientID, clientSecret, scopes))
}

func (p *process) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) url() string { return "http://" + p.addr }

// start starts the process and waits until it answers.
func (p *process) start() {
	p.t.Helper()
	p.launch()
	p.await()
}

// launch starts the process.
func (p *process) launch() {
	p.t.Helper()
	bin, err := exec.LookPath("coatcheck")
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(bin, append([]string{"serve", "--config", filepath.Join(p.dir, "coatcheck.yaml")}, p.args...)...)
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	cmd.Env = append(os.Environ(), p.env...)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.cmd = cmd
	p.mu.Unlock()
	p.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// await waits until the process answers.
func (p *process) await() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	for {
		if resp, err := p.do(ctx, http.MethodGet, "/health", ""); err == nil && resp.status == http.StatusOK {
			return
		}
		select {
		case <-ctx.Done():
			p.t.Fatalf("the broker does not answer; its log:\n%s", p.log.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	p.mu.Lock()
	cmd := p.cmd
	p.mu.Unlock()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	p.client.CloseIdleConnections()
}

// stop ends the process as an operator would, and gives its exit error.
func (p *process) stop() error {
	p.mu.Lock()
	cmd := p.cmd
	p.mu.Unlock()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return cmd.Wait()
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do calls the API with the key.
func (p *process) do(ctx context.Context, method, path, body string, headers ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.url()+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return &answer{resp.StatusCode, resp.Header, string(raw)}, err
}

// importToken imports a fresh grant of the provider.
func (p *process) importToken(ctx context.Context, id string, expires time.Time) (*answer, error) {
	access, refresh := p.provider.Grant()
	body, err := json.Marshal(map[string]any{
		"provider_config_key": "acme", "connection_id": id,
		"credentials": map[string]any{
			"type": "OAUTH2", "access_token": access, "refresh_token": refresh, "expires_at": expires.UTC().Format(time.RFC3339),
		},
	})
	if err != nil {
		return nil, err
	}
	return p.do(ctx, http.MethodPost, "/connections", string(body))
}

// token reads a connection's access token.
func (p *process) token(ctx context.Context, id string, force bool) (string, *answer, error) {
	a, err := p.do(ctx, http.MethodGet, fmt.Sprintf("/connections/%s?provider_config_key=acme&force_refresh=%t", id, force), "")
	if err != nil {
		return "", nil, err
	}
	var c struct {
		Credentials struct {
			AccessToken string `json:"access_token"`
		} `json:"credentials"`
	}
	if a.status == http.StatusOK {
		err = json.Unmarshal([]byte(a.body), &c)
	}
	return c.Credentials.AccessToken, a, err
}

var (
	formAction = regexp.MustCompile(`<form[^>]*action="([^"]+)"`)
	hidden     = regexp.MustCompile(`<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"`)
)

// connect goes through the popup as a browser without JavaScript would, and gives the connection's id. It returns early
// with an error when the broker dies on the way.
func (p *process) connect(ctx context.Context) (string, error) {
	_, link, err := p.session(ctx)
	if err != nil {
		return "", err
	}
	if err := throughPopup(ctx, link); err != nil {
		return "", err
	}
	a, err := p.do(ctx, http.MethodGet, "/connections", "")
	if err != nil {
		return "", err
	}
	var list struct {
		Connections []struct {
			ID string `json:"connection_id"`
		} `json:"connections"`
	}
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || len(list.Connections) == 0 {
		return "", fmt.Errorf("list: %w", err)
	}
	return list.Connections[0].ID, nil
}

// session makes a connect session, and gives its token and its link.
func (p *process) session(ctx context.Context) (token, link string, err error) {
	a, err := p.do(ctx, http.MethodPost, "/connect/sessions", `{"tags":{"end_user_id":"u"},"allowed_integrations":["acme"]}`)
	if err != nil || a.status != http.StatusCreated {
		return "", "", fmt.Errorf("session: %v %w", a, err)
	}
	var s struct {
		Data struct {
			Token       string `json:"token"`
			ConnectLink string `json:"connect_link"`
		} `json:"data"`
	}
	err = json.Unmarshal([]byte(a.body), &s)
	return s.Data.Token, s.Data.ConnectLink, err
}

// throughPopup goes through the popup that begins at a link.
func throughPopup(ctx context.Context, link string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second}
	page, final, err := fetch(ctx, browser, http.MethodGet, link, nil)
	if err != nil || strings.HasSuffix(final.Path, "/oauth/callback") { // the link led on by itself
		return err
	}
	action := formAction.FindStringSubmatch(page)
	if action == nil {
		return fmt.Errorf("no form on %s", final.Path)
	}
	form := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(page, -1) {
		form.Set(m[1], m[2])
	}
	target, err := final.Parse(strings.ReplaceAll(action[1], "&amp;", "&"))
	if err != nil {
		return err
	}
	page, final, err = fetch(ctx, browser, http.MethodPost, target.String(), form)
	if err == nil && !strings.Contains(page, "onnected") {
		err = fmt.Errorf("the sign-in ended on %s", final.Path)
	}
	return err
}

// fetch loads a page, with the redirects on the way, as a browser that came from the page itself.
func fetch(ctx context.Context, c *http.Client, method, target string, form url.Values) (string, *url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		return "", nil, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		req.Header.Set("Origin", req.URL.Scheme+"://"+req.URL.Host)
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return string(raw), resp.Request.URL, err
}
