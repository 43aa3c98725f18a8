package sandbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"
)

const (
	appID    = "coat-app"
	appURI   = "http://127.0.0.1:3003/oauth/callback?from=sandbox"
	otherID  = "other app" // needs escaping in a Basic header
	otherURI = "https://other.example/cb"
	verifier = "a-verifier-of-forty-three-characters-at-least"

	appSecret   = "app secret+%"
	otherSecret = "other-secret"
)

// world is a sandbox on a loopback listener, with a clock that only the test moves.
type world struct {
	*Server
	t      *testing.T
	client *http.Client
	logs   *bytes.Buffer

	clockMu sync.Mutex
	clock   time.Time
}

func start(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, logs: &bytes.Buffer{}, clock: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	server := httptest.NewUnstartedServer(nil)
	opts := Options{
		Origin: "http://" + server.Listener.Addr().String(),
		Clients: map[string]Client{
			appID:   {Name: "Coat app", Secret: appSecret, RedirectURIs: []string{appURI}},
			otherID: {Secret: otherSecret, RedirectURIs: []string{otherURI, "coats:/cb"}},
			"open":  {Name: "No secret", RedirectURIs: []string{otherURI}},
		},
		Now: func() time.Time {
			w.clockMu.Lock()
			defer w.clockMu.Unlock()
			return w.clock
		},
		Logger: slog.New(slog.NewTextHandler(w.logs, nil)),
	}
	for _, f := range change {
		f(&opts)
	}
	w.Server = New(opts)
	server.Config.Handler = w.Server
	server.Start()
	t.Cleanup(server.Close)
	w.client = server.Client()
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return w
}

// in lets the helpers report to a subtest while it runs.
func (w *world) in(t *testing.T) {
	outer := w.t
	w.t = t
	t.Cleanup(func() { w.t = outer })
}

func (w *world) advance(d time.Duration) {
	w.clockMu.Lock()
	defer w.clockMu.Unlock()
	w.clock = w.clock.Add(d)
}

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) location(t *testing.T) *url.URL {
	t.Helper()
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.status != http.StatusSeeOther {
		t.Fatalf("status %d, Location %q (%v), want a 303", a.status, a.header.Get("Location"), err)
	}
	return u
}

func (w *world) do(method, path, body string, header ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.origin+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	res, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(data)}
}

func (w *world) get(path string, header ...string) answer {
	w.t.Helper()
	return w.do(http.MethodGet, path, "", header...)
}

func (w *world) post(path string, form url.Values, header ...string) answer {
	w.t.Helper()
	return w.do(http.MethodPost, path, form.Encode(), append(header, "Content-Type", "application/x-www-form-urlencoded")...)
}

func (w *world) api(access string) answer {
	w.t.Helper()
	return w.get("/api/me", "Authorization", "Bearer "+access)
}

// authorizeQuery is a good authorization request, with parameters changed: names and values by turns,
// an empty value for none.
func authorizeQuery(change ...string) url.Values {
	hash := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"client_id":             {appID},
		"redirect_uri":          {appURI},
		"response_type":         {"code"},
		"scope":                 {"profile coats"},
		"state":                 {"st ate&=1"},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(hash[:])},
		"code_challenge_method": {"S256"},
	}
	for pair := range slices.Chunk(change, 2) {
		if q.Set(pair[0], pair[1]); pair[1] == "" {
			q.Del(pair[0])
		}
	}
	return q
}

// page is what a browser makes of an HTML answer.
type page struct {
	text     string
	elements map[string]int
	fields   url.Values // hidden fields, and the values of the buttons
	action   string
}

func (w *world) page(a answer) page {
	w.t.Helper()
	if got := a.header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		w.t.Fatalf("Content-Type %q, status %d, body %q", got, a.status, a.body)
	}
	root, err := html.Parse(strings.NewReader(a.body))
	if err != nil {
		w.t.Fatal(err)
	}
	p := page{elements: map[string]int{}, fields: url.Values{}}
	for n := range root.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "style" {
			p.text += " " + strings.TrimSpace(n.Data)
		}
		if n.Type != html.ElementNode {
			continue
		}
		p.elements[n.Data]++
		attr := map[string]string{}
		for _, at := range n.Attr {
			attr[at.Key] = at.Val
		}
		if name, ok := attr["name"]; ok && n.Data != "meta" {
			p.fields.Add(name, attr["value"])
		}
		if n.Data == "form" {
			p.action = attr["action"]
		}
	}
	return p
}

// submit sends the page's form, pressing the button name=value.
func (w *world) submit(p page, name, value string) answer {
	w.t.Helper()
	return w.post(p.action, url.Values{"transaction": p.fields["transaction"], name: {value}})
}

// decide goes through both pages as ada and returns the answer to the decision.
func (w *world) decide(decision string, q url.Values) answer {
	w.t.Helper()
	login := w.page(w.get("/authorize?" + q.Encode()))
	consent := w.page(w.submit(login, "user", "ada"))
	return w.submit(consent, "decision", decision)
}

// code goes through both pages and returns the code of the answer.
func (w *world) code() string {
	w.t.Helper()
	code := w.decide("allow", authorizeQuery()).location(w.t).Query().Get("code")
	if code == "" {
		w.t.Fatal("no code in the answer")
	}
	return code
}

func codeForm(code string, change ...string) url.Values {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {appURI},
		"code_verifier": {verifier}, "client_id": {appID}, "client_secret": {appSecret},
	}
	for pair := range slices.Chunk(change, 2) {
		form.Set(pair[0], pair[1])
	}
	return form
}

func refreshForm(token string) url.Values {
	return url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {token},
		"client_id": {appID}, "client_secret": {appSecret},
	}
}

func (w *world) tokens(a answer) tokenAnswer {
	w.t.Helper()
	var t tokenAnswer
	if err := json.Unmarshal([]byte(a.body), &t); err != nil || a.status != http.StatusOK {
		w.t.Fatalf("status %d, body %q, want tokens", a.status, a.body)
	}
	return t
}

func (w *world) wantError(a answer, status int, code string) {
	w.t.Helper()
	var e oauthError
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != status || e.Code != code {
		w.t.Fatalf("status %d, body %q, want %d %s", a.status, a.body, status, code)
	}
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		w.t.Errorf("Cache-Control %q, want no-store", got)
	}
}

func (w *world) wantStats(want Stats) {
	w.t.Helper()
	if got := w.Stats(); got != want {
		w.t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestGrantWithoutBrowser(t *testing.T) {
	w := start(t, func(o *Options) { o.AccessTokenLifetime = time.Minute })
	access, refresh, expiresIn := w.Grant(appID, "grace", []string{"profile"})
	if expiresIn != time.Minute {
		t.Errorf("expires in %s, want 1m", expiresIn)
	}
	if a := w.api(access); a.body != `{"id":"grace","name":"Grace","email":"grace@sandbox.test"}`+"\n" {
		t.Errorf("me: %d %s", a.status, a.body)
	}
	if got := w.tokens(w.post("/token", refreshForm(refresh))); got.Scope != "profile" || got.ExpiresIn != 60 {
		t.Errorf("renewal of the grant: scope %q, expires_in %d", got.Scope, got.ExpiresIn)
	}
	for _, unknown := range [][2]string{{"nobody", "ada"}, {appID, "nobody"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Grant(%q, %q) did not panic", unknown[0], unknown[1])
				}
			}()
			w.Grant(unknown[0], unknown[1], nil)
		}()
	}
}

func TestDefaults(t *testing.T) {
	s := New(Options{Origin: "http://127.0.0.1:1/", Clients: map[string]Client{"c": {Secret: "s"}}})
	if s.origin != "http://127.0.0.1:1" {
		t.Errorf("origin %q keeps its slash", s.origin)
	}
	if _, _, expiresIn := s.Grant("c", "ada", nil); expiresIn > 2*time.Minute || expiresIn < time.Minute {
		t.Errorf("expires in %s, want about 2m", expiresIn)
	}
}

func TestShelfIsBoundedAndSwept(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newShelf[int](3)
	s.put("old", 1, now, now.Add(time.Second))
	s.put("soon", 2, now, now.Add(time.Minute))
	s.put("later", 3, now.Add(time.Second), now.Add(time.Hour))
	if len(s.items) != 2 {
		t.Fatalf("%d items, want the expired one swept", len(s.items))
	}
	s.put("latest", 5, now, now.Add(2*time.Hour))
	s.put("later", 4, now, now.Add(time.Hour))
	if _, ok := s.get("soon", now); !ok {
		t.Error("replacing a value pushed another out")
	}
	s.put("last", 6, now, now.Add(3*time.Hour))
	if _, ok := s.get("soon", now); ok || len(s.items) != 3 {
		t.Errorf("the value that ends first is still there, or %d items are not three", len(s.items))
	}
	if _, ok := s.get("later", now.Add(time.Hour)); ok {
		t.Error("an expired value was found")
	}
	if v, ok := s.take("later", now); v != 4 || !ok {
		t.Errorf("take: %d %t", v, ok)
	}
	if _, ok := s.take("later", now); ok {
		t.Error("a value was taken twice")
	}
}

func TestPause(t *testing.T) {
	if err := pause(t.Context(), time.Nanosecond); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pause(ctx, time.Hour); err == nil {
		t.Error("a cancelled pause returned no error")
	}
}

func TestLogsHoldNoSecrets(t *testing.T) {
	w := start(t)
	code := w.code()
	first := w.tokens(w.post("/token", codeForm(code)))
	second := w.tokens(w.post("/token", refreshForm(first.RefreshToken)))
	w.post("/token", codeForm(code, "code_verifier", "wrong"))
	w.post("/revoke", url.Values{"token": {second.RefreshToken}, "client_id": {appID}, "client_secret": {appSecret}})
	w.post("/token", url.Values{"client_id": {"log\ninjection"}, "grant_type": {"canary-grant"}})
	logs := w.logs.String()
	if strings.Count(logs, "\n") != 5 {
		t.Errorf("want five lines, got:\n%s", logs)
	}
	for _, secret := range []string{
		code, verifier, appSecret, first.AccessToken, first.RefreshToken,
		second.AccessToken, second.RefreshToken, "injection", "canary-grant",
	} {
		if strings.Contains(logs, secret) {
			t.Errorf("the log holds %q:\n%s", secret, logs)
		}
	}
}
