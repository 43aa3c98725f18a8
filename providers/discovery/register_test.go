package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/egress"
)

const callback = "https://connect.example.com/oauth/callback/0123"

// register asks a server for a client that proves itself in some way.
func register(t *testing.T, s *site, auth string) (*broker.Registered, error) {
	t.Helper()
	at := &broker.Server{API: s.URL + "/mcp", Registration: s.URL + "/register"}
	return newFinder(t).Register(t.Context(), at, Registration{
		Name: "My App", PublicURL: "https://connect.example.com", RedirectURI: callback, Auth: auth,
	})
}

func TestRegistrationAsksForWhatIsNeeded(t *testing.T) {
	s := newSite(t)
	s.says("POST /register", object(fields{"client_id": "c-1"}))
	got, err := register(t, s, AuthNone)
	if err != nil || got.ID != "c-1" || got.Auth != AuthNone || !got.Secret.IsZero() {
		t.Fatalf("got %+v, %v", got, err)
	}
	var sent map[string]any
	if err := json.Unmarshal([]byte(s.sent[0]), &sent); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"redirect_uris": []any{callback}, "client_name": "My App", "client_uri": "https://connect.example.com",
		"grant_types": []any{"authorization_code", "refresh_token"}, "response_types": []any{"code"},
		"token_endpoint_auth_method": "none", "application_type": "web",
	}
	if !reflect.DeepEqual(sent, want) {
		t.Errorf("sent %v", sent)
	}
}

func TestServerHasTheLastWordOnHowAClientProvesItself(t *testing.T) {
	for name, c := range map[string]struct {
		asked  string
		answer fields
		auth   string
		secret string
	}{
		"as asked":                  {AuthBasic, fields{"client_id": "c", "client_secret": "s", "client_secret_expires_at": 0}, AuthBasic, "s"},
		"otherwise":                 {AuthBasic, fields{"client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "client_secret_post"}, AuthPost, "s"},
		"without a secret":          {AuthBasic, fields{"client_id": "c"}, AuthNone, ""},
		"with one that is not used": {AuthNone, fields{"client_id": "c", "client_secret": "s"}, AuthNone, ""},
		"redirect URI as asked":     {AuthNone, fields{"client_id": "c", "redirect_uris": []string{callback}}, AuthNone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.says("POST /register", func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusCreated)
				object(c.answer)(w, r)
			})
			got, err := register(t, s, c.asked)
			if err != nil || got.Auth != c.auth || got.Secret.Reveal() != c.secret {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestSecretEnds(t *testing.T) {
	s := newSite(t)
	for end, want := range map[string]time.Time{
		"1900000000": time.Unix(1900000000, 0).UTC(), "1.9e9": time.Unix(1900000000, 0).UTC(), "0": {}, "null": {}, "1e300": {},
	} {
		s.says("POST /register", page(`{"client_id":"c","client_secret":"s","client_secret_expires_at":`+end+`}`))
		got, err := register(t, s, AuthBasic)
		if err != nil || !got.ExpiresAt.Equal(want) {
			t.Errorf("%s: %+v, %v", end, got, err)
		}
	}
}

func TestRegistrationsThatCannotBeUsedAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		code   string
	}{
		"no client id":              {`{"client_name":"x"}`, codeNoClient},
		"an empty client id":        {`{"client_id":""}`, codeNoClient},
		"a client id with a line":   {`{"client_id":"a\nb"}`, codeNoClient},
		"an endless client id":      {`{"client_id":"` + strings.Repeat("x", maxClientID+1) + `"}`, codeNoClient},
		"a foreign redirect URI":    {`{"client_id":"c","redirect_uris":["https://evil.example/cb"]}`, codeOtherRedirect},
		"one redirect URI too many": {`{"client_id":"c","redirect_uris":["` + callback + `","https://evil.example/cb"]}`, codeOtherRedirect},
		"no redirect URI":           {`{"client_id":"c","redirect_uris":[]}`, codeOtherRedirect},
		"a client id twice":         {`{"client_id":"c","client_id":"d"}`, codeBadAnswer},
		"a page":                    {`<html>`, codeBadAnswer},
		"too much":                  {`{"client_id":"c","x":"` + strings.Repeat("x", egress.MaxBody) + `"}`, codeBadAnswer},
		"a secret with a line":      {`{"client_id":"c","client_secret":"a\r\nb"}`, codeBadAnswer},
		"an end that is none":       {`{"client_id":"c","client_secret":"s","client_secret_expires_at":"soon"}`, codeBadAnswer},
		"keys for a client":         {`{"client_id":"c","client_secret":"s","token_endpoint_auth_method":"private_key_jwt"}`, codeOtherAuth},
		"a secret that is missing":  {`{"client_id":"c","token_endpoint_auth_method":"client_secret_basic"}`, codeOtherAuth},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.says("POST /register", page(c.answer))
			refusedFor(t, s, broker.ClientRefused, c.code)
		})
	}
}

func TestRefusedRegistrationsSayWhy(t *testing.T) {
	s := newSite(t)
	s.says("POST /register", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		page(`{"error":"invalid_redirect_uri","error_description":"call +1 900 555 now"}`)(w, r)
	})
	refusedFor(t, s, broker.ClientRefused, "invalid_redirect_uri")
	s.says("POST /register", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		page(`{"error":"<svg onload=alert(1)>"}`)(w, r)
	})
	refusedFor(t, s, broker.ClientRefused, codeRefused)
	s.says("POST /register", status(http.StatusServiceUnavailable))
	refusedFor(t, s, broker.Transient, codeRefused)
	evil := newSite(t)
	s.says("POST /register", status(http.StatusTemporaryRedirect, "Location", evil.URL+"/register"))
	refusedFor(t, s, broker.ClientRefused, codeRefused)
	if len(evil.requests()) > 0 {
		t.Error("the registration was repeated elsewhere")
	}
}

func refusedFor(t *testing.T, s *site, class broker.FailureClass, code string) {
	t.Helper()
	got, err := register(t, s, AuthBasic)
	var said *broker.ProviderError
	if !errors.As(err, &said) || said.Class != class || said.Code != code || said.Text != "" {
		t.Errorf("got %+v, %v; want the code %s", got, err, code)
	}
}

func TestWayOfClientAuthenticationIsChosen(t *testing.T) {
	for want, methods := range map[string][][]string{
		AuthBasic: {nil, {AuthPost, AuthBasic}}, AuthNone: {{AuthBasic, AuthNone}}, AuthPost: {{AuthPost}}, "": {{"unsupported"}},
	} {
		for _, m := range methods {
			got, err := ChooseAuth(&broker.Server{TokenAuth: m})
			if got != want || (err != nil) != (want == "") {
				t.Errorf("%q: %q, %v", m, got, err)
			}
		}
	}
	if got := known([]string{"tls_client_auth"}); fmt.Sprint(got) != "[unsupported]" {
		t.Errorf("a server that takes nothing that we have: %q", got)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add(`{"issuer":"https://a.example","authorization_endpoint":"https://a.example/a","token_endpoint":"https://a.example/t","code_challenge_methods_supported":["S256"]}`)
	f.Add(`{"issuer":"https://a.example","token_endpoint":"javascript:x"}`)
	server, err := url.Parse("https://mcp.example/mcp")
	if err != nil {
		f.Fatal(err)
	}
	policy, err := egress.New(egress.Options{})
	if err != nil {
		f.Fatal(err)
	}
	s := &search{Finder: finderOf(policy), server: server}
	f.Fuzz(func(t *testing.T, text string) {
		var m serverMetadata
		if json.Unmarshal([]byte(text), &m) != nil {
			return
		}
		got, err := s.checked(&m)
		if err != nil {
			return
		}
		for _, raw := range []string{got.Authorization, got.Token, got.Registration, got.Revocation} {
			if u, err := url.Parse(raw); raw != "" && (err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Host == "") {
				t.Errorf("the endpoint %q was taken", raw)
			}
		}
	})
}
