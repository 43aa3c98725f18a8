package discovery

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/egress"
)

// site is a machine that answers what a test says, and remembers what it was asked.
type site struct {
	*httptest.Server
	t     *testing.T
	mu    sync.Mutex
	pages map[string]http.HandlerFunc // by method and path
	asked []string
	sent  []string // bodies of POST requests
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, pages: map[string]http.HandlerFunc{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	// By its name: an address as such is not believed of strangers.
	s.URL = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	key := r.Method + " " + r.URL.EscapedPath()
	s.mu.Lock()
	s.asked = append(s.asked, key)
	if r.Method == http.MethodPost {
		s.sent = append(s.sent, string(raw))
	}
	page := s.pages[key]
	s.mu.Unlock()
	if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
		s.t.Error("a credential was sent")
	}
	if page == nil {
		http.NotFound(w, r)
		return
	}
	page(w, r)
}

// requests gives what was asked for, in order.
func (s *site) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func (s *site) says(path string, h http.HandlerFunc) { s.pages[path] = h }

// page answers a text.
func page(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, text)
	}
}

// object answers JSON.
func object(v any) http.HandlerFunc {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return page(string(raw))
}

// status answers a status with a header.
func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

type fields = map[string]any

// about is good metadata of an authorization server.
func about(issuer string, more ...fields) fields {
	out := fields{
		"issuer": issuer, "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token",
		"registration_endpoint": issuer + "/register", "code_challenge_methods_supported": []string{"plain", "S256"},
		"response_types_supported": []string{"code"},
	}
	for _, m := range more {
		for k, v := range m {
			if v == nil {
				delete(out, k)
				continue
			}
			out[k] = v
		}
	}
	return out
}

const (
	oauthSuffix    = "/.well-known/oauth-authorization-server"
	openidSuffix   = "/.well-known/openid-configuration"
	resourceSuffix = "/.well-known/oauth-protected-resource"
)

// pair is an MCP server and its authorization server, on two machines, as they should be.
type pair struct {
	mcp, auth *site
	finder    *Finder
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{mcp: newSite(t), auth: newSite(t), finder: newFinder(t)}
	p.mcp.says("POST /mcp", status(http.StatusUnauthorized, "WWW-Authenticate", `Bearer resource_metadata="`+p.mcp.URL+`/meta", scope="files:read"`))
	p.mcp.says("GET /meta", object(fields{"resource": p.url(), "authorization_servers": []string{p.auth.URL}, "scopes_supported": []string{"all"}}))
	p.auth.says("GET "+oauthSuffix, object(about(p.auth.URL)))
	return p
}

func (p *pair) url() string { return p.mcp.URL + "/mcp" }

// find finds, as an end user's sign-in does.
func (p *pair) find(t *testing.T) (*broker.Server, error) {
	t.Helper()
	u, err := url.Parse(p.url())
	if err != nil {
		t.Fatal(err)
	}
	return p.finder.Find(t.Context(), u, "")
}

// found is find where it has to succeed.
func (p *pair) found(t *testing.T) *broker.Server {
	t.Helper()
	s, err := p.find(t)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newFinder(t *testing.T) *Finder {
	t.Helper()
	policy, err := egress.New(egress.Options{Allow: []string{"127.0.0.0/8"}})
	if err != nil {
		t.Fatal(err)
	}
	return finderOf(policy)
}

func finderOf(policy *egress.Policy) *Finder {
	return &Finder{
		Calls: policy.TokenClient(), Metadata: policy.MetadataClient(), Now: time.Now,
		CheckURL: func(raw string, literal bool) (*url.URL, error) {
			return policy.CheckURL(raw, egress.URLOptions{Literal: literal})
		},
		Reach: func(err error) *broker.Error {
			switch egress.Classify(err) {
			case egress.Blocked:
				return broker.ErrEgressBlocked
			case egress.Timeout:
				return broker.ErrProviderTimeout
			case egress.Unreachable:
			}
			return broker.ErrUnreachable
		},
	}
}
