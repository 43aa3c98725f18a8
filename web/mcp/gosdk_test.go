package mcp_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/coatcheck/coatcheck/broker"
)

// seen are the requests that a server got, by method.
type seen struct {
	mu  sync.Mutex
	all map[string][]http.Header
}

func (s *seen) note(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[string][]http.Header)
	}
	s.all[r.Method] = append(s.all[r.Method], r.Header.Clone())
}

func (s *seen) of(method string) []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[method]
}

// goServer is a server of the Go SDK, which takes tokens of the double's authorization server.
func goServer(d *double) (address string, got *seen) {
	got = new(seen)
	server := mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1"}, nil)
	type input struct {
		Text string `json:"text"`
	}
	type output struct {
		Said string `json:"said"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "say"}, func(ctx context.Context, req *mcp.CallToolRequest, in input) (*mcp.CallToolResult, output, error) {
		for n := range 3 {
			err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(n + 1), Total: 3})
			if err != nil {
				return nil, output{}, err
			}
		}
		return nil, output{in.Text}, nil
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
	mux := http.NewServeMux()
	s := d.serve(mux)
	about := s.URL + "/.well-known/oauth-protected-resource/notes/mcp"
	verify := func(_ context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		g := d.tokens[token]
		if g == nil || g.resource != s.URL+"/notes/mcp" {
			return nil, auth.ErrInvalidToken
		}
		return &auth.TokenInfo{Scopes: strings.Fields(g.scope), Expiration: time.Now().Add(time.Hour), UserID: "ada"}, nil
	}
	guard := auth.RequireBearerToken(verify, &auth.RequireBearerTokenOptions{ResourceMetadataURL: about, Scopes: []string{"notes"}})
	mux.Handle("/notes/mcp", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.note(r)
		guard(handler).ServeHTTP(w, r)
	}))
	mux.Handle("/.well-known/oauth-protected-resource/notes/mcp", auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
		Resource: s.URL + "/notes/mcp", AuthorizationServers: []string{d.auth.URL}, ScopesSupported: []string{"notes"},
	}))
	return s.URL + "/notes/mcp", got
}

// throughProxy puts what the proxy wants to know into an MCP client's requests.
type throughProxy struct{ headers map[string]string }

// RoundTrip implements http.RoundTripper.
func (p throughProxy) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	for name, value := range p.headers {
		out.Header.Set(name, value)
	}
	return http.DefaultTransport.RoundTrip(out)
}

func (r *rig) proxied(c *broker.Connection) *http.Client {
	return &http.Client{Transport: throughProxy{map[string]string{
		"Authorization": "Bearer " + apiKey, "Provider-Config-Key": "mcp", "Connection-Id": c.Key,
	}}}
}

func TestGoClientTalksToAGoServerThroughTheProxy(t *testing.T) {
	d := newDouble(t)
	address, got := goServer(d)
	r := newRig(t, "", broker.IntegrationInput{})
	c := r.connect(r.decided(address))
	if asked := d.lastAuthorization(); asked.Get("scope") != "notes" || asked.Get("resource") != address {
		t.Errorf("asked for %v", asked)
	}
	progress := make(chan float64, 10)
	client := mcp.NewClient(&mcp.Implementation{Name: "app", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) { progress <- req.Params.Progress },
	})
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: r.url + "/proxy", HTTPClient: r.proxied(c), MaxRetries: -1}, nil)
	must(t, err)
	tools, err := session.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) != 1 || tools.Tools[0].Name != "say" {
		t.Fatalf("the tools: %v, %v", tools, err)
	}
	params := &mcp.CallToolParams{Name: "say", Arguments: map[string]any{"text": "hello"}}
	params.SetProgressToken("p")
	result, err := session.CallTool(t.Context(), params)
	must(t, err)
	if said, _ := result.StructuredContent.(map[string]any); said["said"] != "hello" {
		t.Errorf("it said %v", result.StructuredContent)
	}
	for want := range 3 {
		if n := <-progress; n != float64(want+1) {
			t.Errorf("progress %v, want %d", n, want+1)
		}
	}
	must(t, session.Close())
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		if len(got.of(method)) == 0 {
			t.Errorf("the server got no %s", method)
		}
		for _, h := range got.of(method) {
			if h.Get("Authorization") == "Bearer "+apiKey || h.Get("Connection-Id") != "" {
				t.Errorf("%s: our own headers arrived: %v", method, h)
			}
		}
	}
	if h := got.of(http.MethodDelete)[0]; h.Get("Mcp-Session-Id") == "" || h.Get("Mcp-Protocol-Version") == "" {
		t.Errorf("the session's headers did not arrive: %v", h)
	}
}
