package integrations_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

// Everybody's way in, and what each may do with what ann has: of her own integration and of a shared one.
func TestWhoMayReadUseAndEndWhat(t *testing.T) {
	const own, shared = "mail", "team-mail"
	s := newSite(t)
	for _, c := range []struct {
		name               string
		headers            func() []string
		integration        string
		read, use, end     int
		code               string // of reading and using, if they are refused
		endCode            string
		listed, listedHers int
	}{
		{"ann, hers", func() []string { return as("ann") }, own, 200, 200, 204, "", "", 2, 2},
		{"ann herself, hers", func() []string { return bearer(s.user(t, "ann")) }, own, 200, 200, 204, "", "", 2, 2},
		{"bob, hers", func() []string { return as("bob") }, own, 404, 404, 404, "not_found", "not_found", 1, 1},
		{"bob himself, hers", func() []string { return bearer(s.user(t, "bob")) }, own, 404, 404, 404, "not_found", "not_found", 1, 1},
		{"the superuser, hers", func() []string { return nil }, own, 400, 400, 400, "invalid_request", "invalid_request", 2, 2},
		{"ann, the shared one", func() []string { return as("ann") }, shared, 200, 200, 204, "", "", 2, 2},
		{"bob, the shared one", func() []string { return as("bob") }, shared, 200, 200, 403, "", "user_mismatch", 1, 1},
		{"bob himself, the shared one", func() []string { return bearer(s.user(t, "bob")) }, shared, 200, 200, 403, "", "user_mismatch", 1, 1},
		{"the superuser, the shared one", func() []string { return nil }, shared, 200, 200, 204, "", "", 2, 2},
		{"ann in a narrow session", func() []string { return bearer(s.user(t, "ann", "ledger")) }, own, 403, 403, 403, "integration_not_allowed", "integration_not_allowed", 0, 0},
		{"a session of nobody", func() []string { return bearer(s.Session(t, broker.SessionInput{})) }, own, 403, 403, 403, "user_mismatch", "user_mismatch", -1, -1},
		{"another environment", func() []string { return bearer(apitest.OtherKey) }, own, 404, 404, 404, "not_found", "not_found", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, i := range []string{own, shared} {
				w := s.Send(t, http.MethodPost, "/api/integrations/"+i+"/connect", `{"credentials":{"apiKey":"anns"}}`, as("ann")...)
				read(t, w, http.StatusCreated)
			}
			headers, at := c.headers(), "/api/integrations/"+c.integration
			check := func(what, method, target, body string, status int, code string) {
				t.Helper()
				w := s.Send(t, method, at+target, body, headers...)
				if code != "" {
					refused(t, what, w, status, code)
				} else if w.Code != status {
					t.Errorf("%s: got %d %s, want %d", what, w.Code, w.Body, status)
				}
			}
			check("reading", http.MethodGet, "/connection", "", c.read, c.code)
			check("a call", http.MethodPost, "/request", `{"url":"/a"}`, c.use, c.code)
			check("a call by its path", http.MethodGet, "/request/a", "", c.use, c.code)
			if c.listed >= 0 {
				w := s.Send(t, http.MethodGet, "/api/integration-connections", "", headers...)
				if n := strings.Count(w.Body.String(), `"id":"conn-`); n != c.listed || strings.Count(w.Body.String(), `"ownerId":"ann"`) != c.listedHers {
					t.Errorf("listed: %s", w.Body)
				}
			}
			check("ending", http.MethodDelete, "/connection", "", c.end, c.endCode)
		})
	}
}

func TestEachUserHasAConnectionAndConnectingAgainKeepsIt(t *testing.T) {
	s := newSite(t)
	connect := func(body string, headers []string) connection {
		t.Helper()
		return read(t, s.Send(t, http.MethodPost, connectPath, body, headers...), http.StatusCreated)
	}
	anns, bobs := connect(`{"code":"c"}`, as("ann")), connect(`{"code":"c"}`, bearer(s.user(t, "bob")))
	if anns.ID == bobs.ID || *anns.OwnerID != "ann" || *bobs.OwnerID != "bob" {
		t.Fatalf("%+v and %+v", anns, bobs)
	}
	for what, again := range map[string]connection{
		"a code":              connect(`{"code":"c"}`, as("ann")),
		"her own session":     connect(`{"code":"c"}`, bearer(s.user(t, "ann"))),
		"a refresh token":     connect(`{"refreshToken":"r"}`, as("ann")),
		"the id, not the key": read(t, s.Send(t, http.MethodPost, "/api/integrations/"+anns.IntegrationID+"/connect", `{"accessToken":"a"}`, as("ann")...), http.StatusCreated),
	} {
		if again.ID != anns.ID {
			t.Errorf("%s: the connection is %s, and was %s", what, again.ID, anns.ID)
		}
	}
	read(t, s.Send(t, http.MethodDelete, "/api/integrations/mail/connection", "", as("ann")...), http.StatusNotFound)
	if c := read(t, s.Send(t, http.MethodGet, "/api/integrations/my-integration/connection", "", as("bob")...), http.StatusOK); c.ID != bobs.ID {
		t.Errorf("bob has %+v", c)
	}
}

func TestACodeIsExchangedAsItWasObtained(t *testing.T) {
	for _, c := range []struct{ name, body, verifier, redirect string }{
		{"with a verifier", `{"code":"c","codeVerifier":"the-verifier"}`, "the-verifier", apitest.PublicURL + "/oauth2/callback"},
		{"as the standard calls it", `{"code":"c","code_verifier":"the-verifier"}`, "the-verifier", apitest.PublicURL + "/oauth2/callback"},
		{"without one", `{"code":"c"}`, "", apitest.PublicURL + "/oauth2/callback"},
		{
			"with our other redirect URI", `{"code":"c","redirectUri":"` + apitest.PublicURL + `/oauth/callback"}`, "",
			apitest.PublicURL + "/oauth/callback",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			read(t, s.Send(t, http.MethodPost, connectPath, c.body, as("ann")...), http.StatusCreated)
			forms := s.asked.at("/token")
			if len(forms) != 1 || forms[0].Get("code_verifier") != c.verifier || forms[0].Has("code_verifier") != (c.verifier != "") ||
				forms[0].Get("redirect_uri") != c.redirect {
				t.Errorf("the provider got %v", forms)
			}
		})
	}
	s := newSite(t)
	refused(t, "a foreign redirect URI", s.Send(t, http.MethodPost, connectPath, `{"code":"c","redirectUri":"https://evil.example/oauth2/callback"}`, as("ann")...),
		http.StatusBadRequest, "invalid_request")
	if forms := s.asked.at("/token"); len(forms) != 0 {
		t.Errorf("the provider got %v", forms)
	}
}

// What the provider refuses leaves no trace, and what is there as it is.
func TestARefusedCredentialReplacesNothing(t *testing.T) {
	s := newSite(t)
	mail := "/api/integrations/mail"
	send := func(body string) (int, string) {
		w := s.Send(t, http.MethodPost, mail+"/connect", body, as("ann")...)
		return w.Code, w.Header().Get("X-Error-Code")
	}
	if status, code := send(`{"credentials":{"apiKey":"refused"}}`); status != http.StatusBadRequest || code != "connection_test_failed" {
		t.Errorf("got %d %s", status, code)
	}
	refused(t, "afterwards", s.Send(t, http.MethodGet, mail+"/connection", "", as("ann")...), http.StatusNotFound, "not_found")
	if status, _ := send(`{"credentials":{"apiKey":"good"}}`); status != http.StatusCreated {
		t.Fatalf("got %d", status)
	}
	send(`{"credentials":{"apiKey":"refused"}}`)
	if w := s.Send(t, http.MethodGet, mail+"/request/a", "", as("ann")...); !strings.Contains(w.Body.String(), `"x_api_key":"good"`) {
		t.Errorf("what was there: %d %s", w.Code, w.Body)
	}
}

func TestDisconnectingEndsTheGrantWithTheProvider(t *testing.T) {
	s := newSite(t)
	read(t, s.Send(t, http.MethodPost, connectPath, `{"code":"c"}`, as("ann")...), http.StatusCreated)
	if w := s.Send(t, http.MethodDelete, "/api/integrations/my-integration/connection", "", as("ann")...); w.Code != http.StatusNoContent || w.Body.Len() != 0 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	must(t, s.Broker.RevokeDue(t.Context()))
	var tokens []string
	for _, form := range s.asked.at("/revoke") {
		tokens = append(tokens, form.Get("token"))
	}
	if got := strings.Join(tokens, " "); !strings.Contains(got, "first") {
		t.Errorf("the provider was told to end %q", got)
	}
}

// An id has as many characters here as in the API that makes sessions, whatever they take in bytes.
func TestTheLongestOwner(t *testing.T) {
	s := newSite(t)
	id := strings.Repeat("ü", 255)
	read(t, s.Send(t, http.MethodPost, "/api/integrations/mail/connect", `{"credentials":{"apiKey":"k"}}`, as(id)...), http.StatusCreated)
	w := s.Send(t, http.MethodGet, "/api/integrations/mail/connection", "", bearer(s.user(t, id))...)
	read(t, w, http.StatusOK)
	refused(t, "a longer one", s.Send(t, http.MethodGet, "/api/integration-connections", "", as(id+"x")...), http.StatusBadRequest, "invalid_request")
}
