package connect_test

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/storage/sqlite"
	"github.com/coatcheck/coatcheck/web/connect"
	"github.com/coatcheck/coatcheck/web/internal/kit"
	"github.com/coatcheck/coatcheck/web/static"
)

// site is the Connect UI on a real broker and a real database, with providers that do as they are told.
type site struct {
	broker    *broker.Broker
	handler   http.Handler
	server    *httptest.Server
	catalogue catalogue
	log       *journal
	clock     *clock
	admin     broker.Actor
}

// options are what tests vary.
type options struct {
	publicURL string // empty: the server's own, on this machine
	env       broker.Environment
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is the broker's, and moves when a test says so.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newSite starts a site. Its integrations are those that integrate makes.
func newSite(t testing.TB, o options) *site {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	if o.publicURL == "" {
		o.publicURL = "http://" + listener.Addr().String()
	}
	s := &site{catalogue: catalogue{}, log: new(journal), clock: &clock{now: start}}
	s.broker = newBroker(t, o.publicURL, s.catalogue, s.clock.Now)
	o.env.Name, o.env.Start = "dev", cmp.Or(o.env.Start, broker.StartAuto)
	must(t, s.broker.Declare(t.Context(), []broker.DeclaredEnvironment{{Environment: o.env}}))
	env, err := s.broker.EnvironmentNamed("dev")
	must(t, err)
	s.admin = broker.System(env.ID)

	assets := static.New()
	ui, err := connect.New(connect.Deps{Broker: s.broker, Assets: assets, FormKey: key(1), CookieKeys: []connect.CookieKeys{cookieKeys(2)}})
	must(t, err)
	s.handler = mount(o.publicURL, s.log, ui.Surface(), assets.Surface(), elsewhere(ui, s.broker))
	s.server = httptest.NewUnstartedServer(s.handler)
	must(t, s.server.Listener.Close())
	s.server.Listener = listener
	s.server.Start()
	t.Cleanup(s.server.Close)
	return s
}

func newBroker(t testing.TB, publicURL string, c broker.Catalogue, now func() time.Time) *broker.Broker {
	t.Helper()
	store, err := sqlite.Open(t.Context(), sqlite.Options{Dir: t.TempDir(), Now: now})
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	var identity bytes.Buffer
	_, err = crypto.GenerateIdentity(&identity, start)
	must(t, err)
	ids, err := crypto.ParseIdentities(&identity)
	must(t, err)
	dataKey, err := crypto.NewKey(1, ids, start)
	must(t, err)
	ring, err := crypto.OpenKeyring([]crypto.WrappedKey{dataKey}, ids)
	must(t, err)
	b, err := broker.New(t.Context(), broker.Config{
		Store: store, Sealer: sealer{ring}, Catalogue: c, Now: now, Logger: slog.New(slog.DiscardHandler), PublicURL: publicURL,
	})
	must(t, err)
	return b
}

// sealer is what the broker asks of package crypto.
type sealer struct{ *crypto.Keyring }

func (sealer) NewAPIKey(environment string) (key, id string) { return crypto.NewAPIKey(environment) }

// mount does what package web does, as far as these surfaces need it.
func mount(publicURL string, log io.Writer, surfaces ...kit.Surface) http.Handler {
	gate := &kit.Gate{Limiter: kit.NewLimiter(0, 0, time.Now)}
	mux := http.NewServeMux()
	for _, s := range surfaces {
		for _, row := range s.Routes {
			mux.Handle(row.Method+" "+row.Path, gate.Handler(&s, row))
			if !strings.HasSuffix(row.Path, "}") {
				mux.Handle(row.Method+" "+row.Path+"/{$}", gate.Handler(&s, row))
			}
		}
	}
	observer := &kit.Observer{Logger: slog.New(slog.NewJSONHandler(log, nil)), Secure: strings.HasPrefix(publicURL, "https://")}
	return observer.Wrap(mux)
}

// integrate adds a provider to the catalogue and an integration of the same key.
func (s *site) integrate(t testing.TB, p *provider) {
	t.Helper()
	s.catalogue[p.facts.Name] = p
	_, err := s.broker.CreateIntegration(t.Context(), s.admin, broker.IntegrationInput{
		Key: p.facts.Name, Provider: p.facts.Name, ClientID: "client", ClientSecret: broker.NewSecret("client-secret"),
	})
	must(t, err)
}

func (s *site) session(t testing.TB, in broker.SessionInput) (*broker.Session, string) {
	t.Helper()
	session, token, err := s.broker.CreateSession(t.Context(), s.admin, in)
	must(t, err)
	return session, token.Reveal()
}

func (s *site) connections(t testing.TB) []*broker.Connection {
	t.Helper()
	list, err := s.broker.Connections(t.Context(), s.admin, broker.ConnectionFilter{})
	must(t, err)
	return list
}

// answer is a page as a browser gets it.
type answer struct {
	*http.Response
	body string
}

// visitor is a client with cookies that stops at every redirect.
type visitor struct {
	t      testing.TB
	client *http.Client
	base   string
}

func (s *site) visitor(t testing.TB) *visitor {
	t.Helper()
	cookies, err := cookiejar.New(nil)
	must(t, err)
	client := s.server.Client()
	return &visitor{t: t, base: s.server.URL, client: &http.Client{
		Transport: client.Transport, Jar: cookies,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (v *visitor) get(path string) answer { return v.do(http.MethodGet, path, nil, nil) }

// post sends a form as a browser does from our own page.
func (v *visitor) post(path string, form url.Values) answer {
	return v.do(http.MethodPost, path, form, http.Header{"Sec-Fetch-Site": {"same-origin"}, "Sec-Fetch-Mode": {"navigate"}})
}

func (v *visitor) do(method, path string, form url.Values, header http.Header) answer {
	v.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = v.base + path
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(v.t.Context(), method, path, body)
	must(v.t, err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	maps.Copy(r.Header, header)
	resp, err := v.client.Do(r)
	must(v.t, err)
	raw, err := io.ReadAll(resp.Body)
	must(v.t, err)
	must(v.t, resp.Body.Close())
	return answer{resp, string(raw)}
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// fill reads the hidden fields of a form page and adds what is typed.
func (v *visitor) fill(page answer, token string, typed map[string]string) url.Values {
	v.t.Helper()
	found := csrfField.FindStringSubmatch(page.body)
	if found == nil {
		v.t.Fatalf("no form in a page of status %d:\n%s", page.StatusCode, page.body)
	}
	form := url.Values{"session_token": {token}, "csrf": {found[1]}}
	for k, text := range typed {
		form.Set(k, text)
	}
	return form
}

// begin starts a sign-in as a client that is no browser, and gives the state that the provider would send back.
func (v *visitor) begin(key, token string) string {
	v.t.Helper()
	page := v.get(link("/connect/to/"+key, token))
	r := v.do(http.MethodPost, "/connect/to/"+key, v.fill(page, token, nil), nil)
	if r.StatusCode != http.StatusSeeOther {
		v.t.Fatalf("starting answers %s:\n%s", r.Status, r.body)
	}
	target, err := url.Parse(r.Header.Get("Location"))
	must(v.t, err)
	return target.Query().Get("state")
}

func callback(state string, more ...string) string {
	q := url.Values{"state": {state}}
	for i := 0; i+1 < len(more); i += 2 {
		q.Add(more[i], more[i+1])
	}
	return "/oauth/callback?" + q.Encode()
}

func link(path, token string) string { return path + "?session_token=" + url.QueryEscape(token) }

// catalogue holds providers by name.
type catalogue map[string]*provider

func (c catalogue) Provider(name string) (broker.Provider, bool) {
	p, ok := c[name]
	switch {
	case !ok:
		return nil, false
	case p.facts.Interactive:
		return signIn{p}, true
	}
	return typedIn{p}, true
}

func (c catalogue) Names() []string { return slices.Sorted(maps.Keys(c)) }

// provider is a catalogue entry whose answers a test chooses.
type provider struct {
	facts     broker.Facts
	authorize string        // where a sign-in goes
	refuse    error         // what every question is answered with; nil: it is granted
	asked     atomic.Int32  // how often it was asked something
	wait      chan struct{} // closed when it may answer; nil: at once
	granted   []string      // the scopes that its answer names
}

// signInProvider is one that needs the browser.
func signInProvider(name, display, authorize string, fields ...broker.Field) *provider {
	return &provider{authorize: authorize, facts: broker.Facts{
		Name: name, DisplayName: display, Mode: "OAUTH2", CredentialType: "OAUTH2", Interactive: true, NeedsClient: true, Usable: true,
		AuthorizationURL: authorize, TokenOrigin: "https://token.example", Fields: fields, DocsConnect: "https://docs.example/" + name,
	}}
}

// keyProvider is one whose credential is typed in.
func keyProvider(name, display string, fields ...broker.Field) *provider {
	return &provider{facts: broker.Facts{
		Name: name, DisplayName: display, Mode: "API_KEY", CredentialType: "API_KEY", Usable: true, Fields: fields,
		DocsConnect: "https://docs.example/" + name,
	}}
}

var (
	keyField = broker.Field{
		Name: "apiKey", Section: broker.CredentialField, Title: "API key", Secret: true, DocSection: "#key",
		Description: "A personal key with read access is enough.",
	}
	subdomainField = broker.Field{
		Name: "subdomain", Section: broker.ConfigField, Title: "Workspace", Example: "acme", Prefix: "https://", Suffix: ".mail.example",
		Description: "The first part of your workspace’s address.",
	}
	regionField = broker.Field{
		Name: "region", Section: broker.ConfigField, Title: "Region", Options: []string{"Europe", "United States"}, Optional: true,
	}
)

func (p *provider) Facts() *broker.Facts { return &p.facts }

func (p *provider) CheckConfig(in map[string]string, _ *broker.Client, _ bool) (map[string]string, error) {
	if sub, ok := in["subdomain"]; ok && strings.Trim(sub, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return nil, broker.ErrVariableInvalid.On("subdomain")
	}
	return maps.Clone(in), nil
}

func (p *provider) CheckMaterial(*broker.Material) error { return nil }

func (p *provider) Present(*broker.Holding) (*broker.Presentation, error) {
	return &broker.Presentation{}, nil
}

type signIn struct{ *provider }

func (p signIn) AuthorizeURL(r *broker.AuthorizeRequest) (string, error) {
	q := url.Values{"state": {r.State}, "redirect_uri": {r.RedirectURI}}
	return p.authorize + "?" + q.Encode(), nil
}

func (p signIn) Exchange(context.Context, *broker.ExchangeRequest) (*broker.Obtained, error) {
	p.asked.Add(1)
	if p.wait != nil {
		<-p.wait
	}
	if p.refuse != nil {
		return nil, p.refuse
	}
	return &broker.Obtained{Material: &broker.Material{Type: "OAUTH2", Access: broker.NewSecret("canary-access-token"), Scopes: p.granted}}, nil
}

type typedIn struct{ *provider }

func (p typedIn) Submit(_ context.Context, _ *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	p.asked.Add(1)
	if p.wait != nil {
		<-p.wait
	}
	if p.refuse != nil {
		return nil, p.refuse
	}
	return &broker.Obtained{Material: &broker.Material{Type: "API_KEY", Access: fields["apiKey"]}}, nil
}

func key(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func cookieKeys(n byte) connect.CookieKeys {
	return connect.CookieKeys{Hash: key(n), Block: key(n + 100)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
