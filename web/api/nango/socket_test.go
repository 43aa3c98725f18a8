package nango_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/api/nango"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// served is a site that listens.
type served struct {
	*site
	*httptest.Server
	stopping chan struct{}
	dialled  atomic.Int64
}

func serve(t *testing.T) *served {
	t.Helper()
	s := &served{stopping: make(chan struct{})}
	s.site = newSiteWith(t, apitest.Options{Connect: true, Mount: func(d *web.Deps) {
		d.Stopping, d.TrustedProxies = s.stopping, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}})
	s.Server = httptest.NewServer(s.Handler)
	t.Cleanup(s.Close)
	return s
}

// dial opens a socket as the client of an address.
func (s *served) dial(t *testing.T, address, origin string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	h := http.Header{"X-Forwarded-For": {address}}
	if origin != "" {
		h.Set("Origin", origin)
	}
	c, resp, err := websocket.Dial(t.Context(), s.URL, &websocket.DialOptions{HTTPHeader: h})
	if err == nil {
		t.Cleanup(func() { _ = c.CloseNow() })
	}
	return c, resp, err
}

// heard reads a message.
func heard(t *testing.T, c *websocket.Conn) map[string]any {
	t.Helper()
	_, raw, err := c.Read(t.Context())
	must(t, err)
	var m map[string]any
	must(t, json.Unmarshal(raw, &m))
	return m
}

// waiting opens a socket and gives its id.
func (s *served) waiting(t *testing.T, address string) (*websocket.Conn, string) {
	t.Helper()
	c, _, err := s.dial(t, address, "")
	must(t, err)
	m := heard(t, c)
	id, ok := m["ws_client_id"].(string)
	if !ok || m["message_type"] != "connection_ack" || len(m) != 2 {
		t.Fatalf("the first message is %v", m)
	}
	return c, id
}

// begin starts a sign-in whose end goes to the socket, and gives what the provider would answer.
func (s *served) begin(t *testing.T, id string) broker.Callback {
	t.Helper()
	token := s.Session(t, broker.SessionInput{})
	who, err := s.Broker.AuthenticateSession(t.Context(), token)
	must(t, err)
	started, err := s.Broker.StartFlow(t.Context(), who, "code-prod", broker.ConnectInput{
		Fields: map[string]string{"connection_config.org": "acme"}, Channel: id,
	})
	must(t, err)
	return broker.Callback{Query: url.Values{"state": {started.State}, "code": {"c"}}, Browser: started.Browser}
}

func TestSocketHearsOfTheEnd(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c, id := s.waiting(t, "192.0.2.1")
	o, err := s.Broker.FinishFlow(t.Context(), s.begin(t, id))
	must(t, err)
	m := heard(t, c)
	if m["message_type"] != "success" || m["provider_config_key"] != "code-prod" || m["connection_id"] != o.Key || m["is_pending"] != false || len(m) != 4 {
		t.Errorf("told %v", m)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("afterwards: %v", err)
	}

	c, id = s.waiting(t, "192.0.2.1")
	cb := s.begin(t, id)
	cb.Query = url.Values{"state": cb.Query["state"], "error": {"access_denied"}, "error_description": {"canary"}}
	if _, err := s.Broker.FinishFlow(t.Context(), cb); !errors.Is(err, broker.ErrProviderDenied) {
		t.Fatal(err)
	}
	m = heard(t, c)
	if m["message_type"] != "error" || m["provider_config_key"] != "code-prod" || m["error_type"] != "callback_err" || m["error_desc"] == "canary" || m["error_desc"] == nil {
		t.Errorf("told %v", m)
	}
}

func TestSocketOrigins(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for origin, status := range map[string]int{
		"": 101, "https://app.example.com": 101, // no environment names origins: any
	} {
		if _, resp, err := s.dial(t, "192.0.2.1", origin); err != nil || resp.StatusCode != status {
			t.Errorf("%q: %v", origin, err)
		}
	}
	must(t, s.Broker.Declare(t.Context(), []broker.DeclaredEnvironment{
		{Environment: broker.Environment{Name: "dev", Start: broker.StartAuto, AllowedOrigins: []string{"https://app.example.com"}}},
		{Environment: broker.Environment{Name: "other", Start: broker.StartAuto, AllowedOrigins: []string{"https://other.example.com"}}},
	}))
	for origin, status := range map[string]int{
		"": 101, "https://app.example.com": 101, "https://other.example.com": 101,
		"https://evil.example": 403, "https://app.example.com.evil.example": 403, "null": 403, "http://app.example.com": 403,
	} {
		_, resp, err := s.dial(t, "192.0.2.1", origin)
		if resp == nil || resp.StatusCode != status {
			t.Errorf("%q: got %v, %v, want %d", origin, resp, err, status)
		}
		if status == 403 && resp.Header.Get(kit.HeaderErrorCode) != "origin_not_allowed" {
			t.Errorf("%q: code %q", origin, resp.Header.Get(kit.HeaderErrorCode))
		}
	}
}

func TestSocketIsNoPage(t *testing.T) {
	t.Parallel()
	s := serve(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/", nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	must(t, resp.Body.Close())
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("without an upgrade: %d", resp.StatusCode)
	}
}

// A thousand clients that wait, say too much or never read, and an address that wants more than its share, keep nobody
// from connecting.
func TestHostileSockets(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for i := range 900 {
		s.waiting(t, "192.0.2."+strconv.Itoa(i/90))
	}
	for range 100 {
		s.silent(t)
	}
	var refused *http.Response
	for range 101 {
		_, resp, err := s.dial(t, "198.51.100.7", "")
		if err != nil {
			refused = resp
		}
	}
	if refused == nil || refused.StatusCode != http.StatusTooManyRequests || refused.Header.Get("Retry-After") == "" {
		t.Fatalf("one address opened as many as it liked: %v", refused)
	}
	chatty, _ := s.waiting(t, "203.0.113.1")
	_ = chatty.Write(t.Context(), websocket.MessageText, bytes.Repeat([]byte("x"), 1<<20))
	if _, _, err := chatty.Read(t.Context()); err == nil {
		t.Error("a client that talks is listened to")
	}

	c, id := s.waiting(t, "203.0.113.2")
	_, err := s.Broker.FinishFlow(t.Context(), s.begin(t, id))
	must(t, err)
	if m := heard(t, c); m["message_type"] != "success" {
		t.Errorf("told %v", m)
	}
	close(s.stopping)
	c, _, err = s.dial(t, "203.0.113.3", "")
	if err == nil {
		_, _, err = c.Read(t.Context())
		for err == nil {
			_, _, err = c.Read(t.Context())
		}
	}
	if err == nil {
		t.Error("a socket outlives the process's end")
	}
}

// silent opens a socket and never reads from it.
func (s *served) silent(t *testing.T) {
	t.Helper()
	address := "192.0.2." + strconv.FormatInt(100+s.dialled.Add(1)%50, 10)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: "+address+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	must(t, err)
}

// A client that waits too long is told so, and one that goes is forgotten.
func TestSocketPatience(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	surface := nango.SignIn(nango.SignInDeps{
		Broker: s.Broker, Origins: func(string) bool { return true }, Patience: time.Millisecond,
	})
	gate := &kit.Gate{Limiter: kit.NewLimiter(0, 0, time.Now), CORS: &kit.CORS{}}
	for _, row := range surface.Routes {
		if row.Path != "/" {
			continue
		}
		server := httptest.NewServer(gate.Handler(&surface, row))
		defer server.Close()
		c, _, err := websocket.Dial(t.Context(), server.URL, nil)
		must(t, err)
		heard(t, c)
		if m := heard(t, c); m["message_type"] != "error" || m["error_type"] != "state_expired" {
			t.Errorf("told %v", m)
		}
		return
	}
	t.Fatal("there is no socket")
}

// What a failure before the provider's page looks like, and that the socket hears of it too.
func TestSignInRefused(t *testing.T) {
	t.Parallel()
	s := serve(t)
	token := s.Session(t, broker.SessionInput{Integrations: []string{"code-prod", "mail-prod"}})
	for name, test := range map[string]struct {
		path, query string
		status      int
		code, told  string
	}{
		"no session":             {"code-prod", "", 401, "unauthorized", "unauthorized"},
		"a malformed session":    {"code-prod", "connect_session_token=x", 401, "session_invalid", "invalid_connect_session_token_format"},
		"an unknown session":     {"code-prod", "connect_session_token=nango_connect_session_" + strings.Repeat("0", 64), 401, "session_invalid", "unknown_connect_session_token"},
		"a public key":           {"code-prod", "public_key=x", 401, "deprecated_authentication", "deprecated_authentication"},
		"an unknown integration": {"nope", "connect_session_token=" + token, 404, "not_found", "provider_config_err"},
		"another integration":    {"ledger-prod", "connect_session_token=" + token, 403, "integration_not_allowed", "integration_not_allowed"},
		"no browser needed":      {"mail-prod", "connect_session_token=" + token, 400, "not_supported", "auth_mode_err"},
		"an id of its own":       {"code-prod", "connection_id=x&connect_session_token=" + token, 400, "invalid_request", "invalid_query_params"},
		"a secret in the query":  {"code-prod", "credentials[oauth_client_secret_override]=x&connect_session_token=" + token, 400, "credential_in_url", "credential_in_url"},
		"a scope of its own":     {"code-prod", "params[org]=acme&authorization_params[scope]=admin&connect_session_token=" + token, 400, "invalid_request", "invalid_query_params"},
		"a missing field":        {"code-prod", "connect_session_token=" + token, 422, "variable_invalid", "url_param_err"},
	} {
		t.Run(name, func(t *testing.T) {
			c, id := s.waiting(t, "192.0.2.1")
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/oauth/connect/"+test.path+"?ws_client_id="+id+"&"+test.query, nil)
			must(t, err)
			resp, err := http.DefaultClient.Do(req)
			must(t, err)
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode != test.status || resp.Header.Get(kit.HeaderErrorCode) != test.code || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
				body, _ := bufio.NewReader(resp.Body).ReadString('\n')
				t.Errorf("got %d %s %s", resp.StatusCode, resp.Header.Get(kit.HeaderErrorCode), body)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, raw, err := c.Read(ctx)
			must(t, err)
			var m map[string]any
			must(t, json.Unmarshal(raw, &m))
			if m["message_type"] != "error" || m["error_type"] != test.told {
				t.Errorf("told %v, want %s", m, test.told)
			}
		})
	}
}
