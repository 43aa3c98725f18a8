package mcp_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// entry is a provider whose endpoints are known, in the form of the common catalogue.
func (d *double) entry(more ...string) string {
	text := fmt.Sprintf(`known-mcp:
  display_name: Known MCP
  categories: [mcp]
  auth_mode: MCP_OAUTH2
  docs: https://docs.example.com
  authorization_url: %[1]s/authorize
  token_url: %[1]s/token
  revocation_url: %[1]s/revoke
  default_scopes: [files:read]
  proxy:
    base_url: %[2]s/mcp
`, d.auth.URL, d.mcp.URL)
	for _, line := range more {
		text += "  " + line + "\n"
	}
	return text
}

func TestEntriesThatKnowTheirEndpoints(t *testing.T) {
	for name, c := range map[string]struct {
		lines  func(d *double) []string
		in     broker.IntegrationInput
		public string
		client string
	}{
		"a client is registered": {
			lines: func(d *double) []string {
				return []string{"client_registration: dynamic", "registration_url: " + d.auth.URL + "/register"}
			},
			client: "client-1",
		},
		"with what the entry says": {
			lines: func(d *double) []string {
				return []string{
					"client_registration: dynamic", "registration_url: " + d.auth.URL + "/register",
					"registration_params: {grant_types: [authorization_code], response_types: [code]}", "issuer: " + d.auth.URL,
				}
			},
			client: "client-1",
		},
		"a client is configured": {
			lines: func(*double) []string {
				return []string{"client_registration: static", "token_auth_method: client_secret_basic"}
			},
			in: broker.IntegrationInput{ClientID: "ours", ClientSecret: broker.NewSecret("our-secret")}, client: "ours",
		},
		"a document names it": {
			lines:  func(*double) []string { return []string{"client_registration: cimd"} },
			public: "https://connect.example.com", client: "https://connect.example.com/oauth/client-metadata/",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t)
			c.in.Provider = "known-mcp"
			r := newRig(t, c.public, c.in, d.entry(c.lines(d)...))
			i, _, err := r.broker.Integration(t.Context(), r.who, "mcp")
			must(t, err)
			redirect := r.url + broker.CallbackPath + "/" + i.PublicID
			d.clients["ours"] = &client{secret: "our-secret", redirect: redirect, auth: "client_secret_basic"}
			d.document = func(id string) []byte { return []byte(r.browser().get(id, nil).body) }
			conn := r.connect(r.session(broker.SessionInput{}))
			asked := d.lastAuthorization()
			if !strings.HasPrefix(asked.Get("client_id"), c.client) || asked.Get("redirect_uri") != redirect || asked.Get("resource") != d.url() || asked.Get("scope") != "files:read" {
				t.Errorf("asked with %v", asked)
			}
			if a := r.call(conn, http.MethodPost, ""); a.status != http.StatusOK {
				t.Errorf("a call: %d %s", a.status, a.body)
			}
			if a, _ := r.read(conn, "&force_refresh=true"); a.status != http.StatusOK {
				t.Errorf("a renewal: %d %s", a.status, a.body)
			}
			if a := r.api(http.MethodDelete, "/connection/"+conn.Key+"?provider_config_key=mcp", ""); a.status != http.StatusOK {
				t.Fatalf("the deletion: %d", a.status)
			}
			eventually(t, "it is revoked", func() bool {
				d.mu.Lock()
				defer d.mu.Unlock()
				return len(d.revoked) > 0
			})
		})
	}
}

func TestScopesThatACallLacksAtAKnownServer(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{Provider: "known-mcp"}, d.entry("client_registration: dynamic", "registration_url: "+d.auth.URL+"/register"))
	c := r.connect(r.session(broker.SessionInput{}))
	d.set(func() { d.needs = "files:write" })
	r.call(c, http.MethodPost, "")
	eventually(t, "the scope is noted", func() bool {
		_, read := r.read(c, "")
		config, _ := read["connection_config"].(map[string]any)
		return config["wanted_scopes"] == "files:write"
	})
	r.connect(r.session(broker.SessionInput{Reconnect: &broker.ConnectionRef{ID: c.ID}}))
	if got := d.lastAuthorization().Get("scope"); got != "files:read files:write" {
		t.Errorf("asked for %q", got)
	}
}

func TestConnectionIsVerifiedAtItsServer(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{})
	c := r.connect(r.decided(d.url()))
	got, err := r.broker.VerifyConnection(t.Context(), r.who, broker.ConnectionRef{ID: c.ID})
	if err != nil || got.Failure != nil || got.Connection.VerifiedAt.IsZero() {
		t.Errorf("got %+v, %v", got, err)
	}
	d.set(func() { clear(d.tokens) })
	got, err = r.broker.VerifyConnection(t.Context(), r.who, broker.ConnectionRef{ID: c.ID})
	if err != nil || got.Failure == nil {
		t.Errorf("a token that the server does not know: %+v, %v", got, err)
	}
}

func TestEntryWithoutAClientSaysSo(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{Provider: "known-mcp"}, d.entry("client_registration: static"))
	r.refused(http.StatusBadRequest, "not_supported", r.session(broker.SessionInput{}))
}

func TestSignInsOfMCPAreNotImported(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{})
	for _, kind := range []string{"MCP_OAUTH2", "MCP_OAUTH2_GENERIC", "OAUTH2"} {
		a := r.api(http.MethodPost, "/connections", `{"provider_config_key":"mcp","credentials":{"type":"`+kind+`","access_token":"t"},"connection_config":{"mcp_server_url":"`+d.url()+`"}}`)
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, "invalid_body") {
			t.Errorf("%s: %d %s", kind, a.status, a.body)
		}
	}
}

// The page asks for the address and nothing else, and says what is wrong with one.
func TestPageAsksForTheServer(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{Settings: map[string]string{"servers": "any"}})
	b := r.browser()
	token := r.session(broker.SessionInput{})
	a := b.get(r.url+"/connect/to/mcp?session_token="+token, nil)
	if a.status != http.StatusOK || !strings.Contains(a.body, "mcp_server_url") || !strings.Contains(a.body, "Custom MCP server") {
		t.Fatalf("the page: %d %s", a.status, a.body)
	}
	if len(d.requests()) > 0 {
		t.Error("the page asked the server")
	}
	a = b.get(r.url+"/connect/to/mcp?session_token="+r.decided(d.url()), nil)
	if strings.Contains(a.body, `name="connection_config.mcp_server_url"`) {
		t.Error("the page asks for what the backend has decided")
	}
}

// requests are those that came for tokens, registrations and authorization.
func (d *double) requests() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return make([]string, len(d.registrations)+len(d.authorized)+len(d.tokenRequests)+len(d.calls))
}

func TestNothingSecretIsLoggedOrStoredInTheClear(t *testing.T) {
	d := newDouble(t)
	d.metadata["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic"}
	r := newRig(t, "", broker.IntegrationInput{})
	c := r.connect(r.decided(d.url()))
	r.call(c, http.MethodPost, "")
	if a, _ := r.read(c, "&force_refresh=true"); a.status != http.StatusOK {
		t.Fatal(a.body)
	}
	conn, err := r.broker.Connection(t.Context(), r.who, broker.ConnectionRef{ID: c.ID})
	must(t, err)
	rows := fmt.Sprintf("%s %s", conn.Config, conn.Metadata)
	for _, secret := range []string{"client-1-secret", "access-", "refresh-", "code-2"} {
		if strings.Contains(r.log.String(), secret) || strings.Contains(rows, secret) {
			t.Errorf("%s stands in the log or in a row", secret)
		}
	}
}
