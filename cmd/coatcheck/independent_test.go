package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest/oidcprovider"
)

// An authorization server that is not ours, which requires PKCE, rotates refresh tokens and ends the grant when a spent
// one comes back; a real browser; and the broker as it is shipped: connect, read, renew, call the API, delete.
func TestAnIndependentAuthorizationServer(t *testing.T) {
	p := emptyProcess(t)
	server := oidcprovider.Start(t, oidcprovider.Options{
		ClientID: "coatcheck", ClientSecret: "the-secret-of-the-client", RedirectURIs: []string{p.origin() + broker.CallbackPath},
		AccessTokenTTL: time.Hour,
	})
	p.configure(server.Entry("acme"), "coatcheck", "the-secret-of-the-client", "[openid, offline_access]")
	p.start()
	ctx := t.Context()

	a, err := p.do(ctx, http.MethodPost, "/connect/sessions", `{"end_user":{"id":"u"},"allowed_integrations":["acme"]}`)
	if err != nil || a.status != http.StatusCreated {
		t.Fatal(a, err)
	}
	var s struct {
		Data struct {
			ConnectLink string `json:"connect_link"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		t.Fatal(err)
	}
	tab := openBrowser(t)
	do(t, tab, chromedp.Navigate(s.Data.ConnectLink))
	press(t, tab, "Connect")
	waitUntil(t, func() bool { return strings.HasPrefix(read(t, tab, "location.href"), server.Issuer()) })
	signIn(t, tab)
	waitUntil(t, func() bool { return strings.HasPrefix(read(t, tab, "location.href"), p.origin()) })
	waitUntil(t, func() bool { return strings.Contains(read(t, tab, "document.body.innerText"), "onnected") })

	id := onlyConnection(t, p)
	first, a, err := p.token(ctx, id, false)
	if err != nil || first == "" {
		t.Fatal(a, err)
	}
	for range 3 {
		next, a, err := p.token(ctx, id, true)
		if err != nil || next == "" || next == first {
			t.Fatalf("renewal: %v %v", a, err)
		}
		first = next
	}
	proxied := []string{"Provider-Config-Key", "acme", "Connection-Id", id}
	a, err = p.do(ctx, http.MethodGet, "/proxy/me", "", proxied...)
	if err != nil || a.status != http.StatusOK || !strings.Contains(a.body, `"sub"`) {
		t.Fatalf("the API through the proxy: %v %v", a, err)
	}
	if counts := server.Counts(); counts.Rotations != 3 || counts.Reuses != 0 || counts.GrantsRevoked != 0 {
		t.Fatalf("counts %+v", counts)
	}

	if a, err = p.do(ctx, http.MethodDelete, "/connections/"+id+"?provider_config_key=acme", ""); err != nil || a.status != http.StatusOK {
		t.Fatal(a, err)
	}
	if a, err = p.do(ctx, http.MethodGet, "/proxy/me", "", proxied...); err != nil || a.status < 400 {
		t.Fatalf("a deleted connection still answers: %v %v", a, err)
	}
	waitUntil(t, func() bool { return server.Counts().GrantsRevoked == 1 })
	if strings.Contains(p.log.String(), first) {
		t.Fatal("a token stands in the log")
	}
}

// onlyConnection gives the id of the one connection there is.
func onlyConnection(t *testing.T, p *process) string {
	t.Helper()
	a, err := p.do(t.Context(), http.MethodGet, "/connections", "")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Connections []struct {
			ID string `json:"connection_id"`
		} `json:"connections"`
	}
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || len(list.Connections) != 1 {
		t.Fatalf("%d connections, %v: %s", len(list.Connections), err, a.body)
	}
	return list.Connections[0].ID
}
