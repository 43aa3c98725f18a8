package discovery

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/egress"
)

func TestServerIsFoundByItsChallenge(t *testing.T) {
	p := newPair(t)
	p.auth.says("GET "+oauthSuffix, object(about(p.auth.URL, fields{
		"revocation_endpoint": p.auth.URL + "/revoke", "authorization_response_iss_parameter_supported": true,
		"client_id_metadata_document_supported": true, "token_endpoint_auth_methods_supported": []string{"private_key_jwt", "none"},
		"scopes_supported": []string{"files:read", "offline_access"},
	})))
	s := p.found(t)
	want := broker.Server{
		API: p.url(), Resource: p.url(), Issuer: p.auth.URL, NamesIssuer: true, Scopes: []string{"files:read", "offline_access"},
		Authorization: p.auth.URL + "/authorize", Token: p.auth.URL + "/token", Registration: p.auth.URL + "/register",
		Revocation: p.auth.URL + "/revoke", TokenAuth: []string{"none"}, Documents: true, FoundAt: s.FoundAt,
	}
	if fmt.Sprint(*s) != fmt.Sprint(want) || s.FoundAt.IsZero() {
		t.Errorf("found\n%+v\nwant\n%+v", *s, want)
	}
}

func TestResourceMetadataIsLookedForInOrder(t *testing.T) {
	for name, c := range map[string]struct {
		challenge string
		at        string
		want      []string
	}{
		"as the challenge says": {`Bearer resource_metadata="%s/meta"`, "/meta", []string{"POST /mcp", "GET /meta"}},
		"below the path":        {`Bearer`, resourceSuffix + "/mcp", []string{"POST /mcp", "GET " + resourceSuffix + "/mcp"}},
		"at the root": {
			`Bearer realm="x"`, resourceSuffix,
			[]string{"POST /mcp", "GET " + resourceSuffix + "/mcp", "GET " + resourceSuffix},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			challenge := c.challenge
			if strings.Contains(challenge, "%s") {
				challenge = fmt.Sprintf(challenge, p.mcp.URL)
			}
			p.mcp.says("POST /mcp", status(http.StatusUnauthorized, "WWW-Authenticate", challenge))
			doc := p.mcp.pages["GET /meta"]
			delete(p.mcp.pages, "GET /meta")
			p.mcp.says("GET "+c.at, doc)
			s := p.found(t)
			if !slices.Equal(p.mcp.requests(), c.want) {
				t.Errorf("asked %q, want %q", p.mcp.requests(), c.want)
			}
			if !slices.Equal(s.Scopes, []string{"all"}) {
				t.Errorf("without scopes in the challenge, %q are asked for", s.Scopes)
			}
		})
	}
}

func TestAuthorizationServerMetadataIsLookedForInOrder(t *testing.T) {
	for issuer, want := range map[string][]string{
		"": {oauthSuffix, openidSuffix}, "/": {oauthSuffix, openidSuffix},
		"/tenant/one": {oauthSuffix + "/tenant/one", openidSuffix + "/tenant/one", "/tenant/one" + openidSuffix},
	} {
		p := newPair(t)
		p.mcp.says("GET /meta", object(fields{"resource": p.url(), "authorization_servers": []string{p.auth.URL + issuer}}))
		delete(p.auth.pages, "GET "+oauthSuffix)
		p.auth.says("GET "+want[len(want)-1], object(about(p.auth.URL+issuer)))
		if s := p.found(t); s.Issuer != p.auth.URL+issuer {
			t.Errorf("the issuer is %q", s.Issuer)
		}
		for i := range want {
			want[i] = "GET " + want[i]
		}
		if !slices.Equal(p.auth.requests(), want) {
			t.Errorf("asked %q, want %q", p.auth.requests(), want)
		}
	}
}

func TestServerWithoutMetadataIsItsOwnAuthorizationServer(t *testing.T) {
	for _, end := range []string{"", "/"} {
		p := newPair(t)
		delete(p.mcp.pages, "GET /meta")
		p.mcp.says("POST /mcp", status(http.StatusUnauthorized))
		doc := about(p.mcp.URL)
		doc["issuer"] = p.mcp.URL + end
		p.mcp.says("GET "+oauthSuffix, object(doc))
		if s := p.found(t); s.Issuer != p.mcp.URL+end || s.Resource != "" {
			t.Errorf("issuer %q, resource %q", s.Issuer, s.Resource)
		}
	}
}

func TestServerThatSaysNothingIsNone(t *testing.T) {
	p := newPair(t)
	p.mcp.pages = map[string]http.HandlerFunc{}
	if _, err := p.find(t); !errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
	p.mcp.says("POST /mcp", page(`{}`))
	p.mcp.says("GET "+resourceSuffix, page(`<html>welcome</html>`))
	p.mcp.says("GET "+oauthSuffix, page(`<html>welcome</html>`))
	if _, err := p.find(t); !errors.Is(err, ErrNone) {
		t.Errorf("a site that answers everything with a page: %v", err)
	}
}

func TestForeignResourceIsRefused(t *testing.T) {
	for name, resource := range map[string]string{
		"another host":      "https://evil.example/mcp",
		"another port":      "http://localhost:1/mcp",
		"another path":      "{mcp}/other",
		"half a segment":    "{mcp}/mc",
		"a longer path":     "{mcp}/mcp/admin",
		"another scheme":    "ftp://localhost/mcp",
		"nothing":           "",
		"with a query":      "{mcp}/mcp?x=1",
		"with a fragment":   "{mcp}/mcp#x",
		"with a user":       "http://a@localhost/mcp",
		"a path that turns": "{mcp}/x/../mcp",
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			resource := strings.ReplaceAll(resource, "{mcp}", p.mcp.URL)
			p.mcp.says("GET /meta", object(fields{"resource": resource, "authorization_servers": []string{p.auth.URL}}))
			wantError(t, p, broker.ErrResourceMismatch)
			if len(p.auth.requests()) > 0 {
				t.Error("the authorization server was asked all the same")
			}
		})
	}
}

func TestResourceMayBeAboveTheServer(t *testing.T) {
	p := newPair(t)
	for _, resource := range []string{p.mcp.URL, p.mcp.URL + "/", p.url(), p.url() + "/", strings.Replace(p.url(), "localhost", "LOCALHOST", 1)} {
		p.mcp.says("GET /meta", object(fields{"resource": resource, "authorization_servers": []string{p.auth.URL}}))
		if s := p.found(t); s.Resource != resource {
			t.Errorf("the resource %q became %q", resource, s.Resource)
		}
	}
}

// Metadata of another origin may be about the server, but what decides is what it says, not where it is.
func TestCrossOriginMetadataIsHeldToTheSameRules(t *testing.T) {
	p := newPair(t)
	evil := newSite(t)
	p.mcp.says("POST /mcp", status(http.StatusUnauthorized, "WWW-Authenticate", `Bearer resource_metadata="`+evil.URL+`/meta"`))
	evil.says("GET /meta", object(fields{"resource": evil.URL, "authorization_servers": []string{evil.URL}}))
	wantError(t, p, broker.ErrResourceMismatch)
	for _, address := range []string{
		"http://169.254.169.254/latest", "https://10.0.0.1/meta", "https://[::1]/meta", "file:///etc/passwd", "javascript:alert(1)",
		"https://a@evil.example/", "https://evil.example/#x", "https://0x7f.1/", "http://evil.example/meta", "https://evil.example:22/",
		"https://evil.example./meta", "https://ｅvil.example/meta", "https://127.0.0.1:1/meta",
	} {
		p.mcp.says("POST /mcp", status(http.StatusUnauthorized, "WWW-Authenticate", `Bearer resource_metadata="`+address+`"`))
		if _, err := p.find(t); !errors.Is(err, broker.ErrURLNotAllowed) && !errors.Is(err, broker.ErrProviderURLInvalid) && !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestOtherIssuerIsRefused(t *testing.T) {
	p := newPair(t)
	for _, issuer := range []string{
		"https://evil.example", p.auth.URL + "/", strings.ToUpper(p.auth.URL), p.auth.URL + "/tenant", "",
	} {
		p.auth.says("GET "+oauthSuffix, object(about(p.auth.URL, fields{"issuer": issuer})))
		wantError(t, p, broker.ErrIssuerUnexpected)
		if _, err := p.find(t); broker.AsError(err).Kind != broker.Unprocessable {
			t.Errorf("the kind is %v", broker.AsError(err).Kind)
		}
	}
}

func TestNamesAreReadInTheirExactCaseAndOnce(t *testing.T) {
	good := func(p *pair) string {
		return `"authorization_endpoint":"` + p.auth.URL + `/a","token_endpoint":"` + p.auth.URL + `/t","code_challenge_methods_supported":["S256"]`
	}
	p := newPair(t)
	p.auth.says("GET "+oauthSuffix, page(`{"Issuer":"`+p.auth.URL+`",`+good(p)+`}`))
	wantError(t, p, broker.ErrIssuerUnexpected)
	for _, twice := range []string{
		`{"issuer":"` + p.auth.URL + `","issuer":"` + p.auth.URL + `",` + good(p) + `}`,
		`{"issuer":"` + p.auth.URL + `",` + good(p) + `,"token_endpoint":"https://evil.example"}`,
		`{"issuer":"` + p.auth.URL + `",` + good(p) + `,"x":{"y":1,"y":2}}`,
		`{"issuer":"` + p.auth.URL + `",` + good(p) + `} {}`,
		`{"issuer":["` + p.auth.URL + `"],` + good(p) + `}`,
	} {
		p.auth.says("GET "+oauthSuffix, page(twice))
		if _, err := p.find(t); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", twice, err)
		}
	}
}

func TestEndpointsThatMustNotBeContactedAreRefused(t *testing.T) {
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint"} {
		for address, want := range map[string]*broker.Error{
			"javascript:alert(1)": broker.ErrProviderURLInvalid, "data:text/html,x": broker.ErrProviderURLInvalid,
			"http://auth.example/x": broker.ErrProviderURLInvalid, "/relative": broker.ErrProviderURLInvalid,
			"myapp://x/y": broker.ErrProviderURLInvalid, "https://user@auth.example/": broker.ErrURLNotAllowed,
			"https://169.254.169.254/": broker.ErrURLNotAllowed, "https://auth.example/#x": broker.ErrURLNotAllowed,
			"https://auth.example:8443/": broker.ErrURLNotAllowed, "https://2130706433/": broker.ErrURLNotAllowed,
			"https://auth.example/" + strings.Repeat("x", maxURL): broker.ErrProviderURLInvalid,
			"https://127.0.0.1/token":                             broker.ErrURLNotAllowed,
		} {
			p := newPair(t)
			p.auth.says("GET "+oauthSuffix, object(about(p.auth.URL, fields{name: address})))
			wantError(t, p, want)
		}
	}
	p := newPair(t)
	p.auth.says("GET "+oauthSuffix, object(about(p.auth.URL, fields{"token_endpoint": nil})))
	wantError(t, p, broker.ErrProviderURLInvalid)
}

func TestServerWithoutPKCEIsRefused(t *testing.T) {
	for _, methods := range []any{nil, []string{}, []string{"plain"}, []string{"s256"}} {
		p := newPair(t)
		p.auth.says("GET "+oauthSuffix, object(about(p.auth.URL, fields{"code_challenge_methods_supported": methods})))
		wantError(t, p, broker.ErrPKCEUnsupported)
	}
}

func TestHugeDocumentsAreNotRead(t *testing.T) {
	p := newPair(t)
	huge := about(p.auth.URL, fields{"scopes_supported": []string{strings.Repeat("x", egress.MaxBody)}})
	p.auth.says("GET "+oauthSuffix, object(huge))
	if _, err := p.find(t); !errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
	p = newPair(t)
	p.mcp.says("POST /mcp", status(http.StatusUnauthorized, "WWW-Authenticate", `Bearer scope="`+strings.Repeat("x ", maxChallenge)+`"`))
	p.mcp.says("GET "+resourceSuffix, p.mcp.pages["GET /meta"])
	if s := p.found(t); !slices.Equal(s.Scopes, []string{"all"}) {
		t.Errorf("a challenge that is too long was read: %d scopes", len(s.Scopes))
	}
}

func TestScopesAreBounded(t *testing.T) {
	var many []string
	for i := range 10_000 {
		many = append(many, fmt.Sprint("scope-", i))
	}
	odd := []string{`<svg onload=alert(1)>`, "two words", "quote\"", strings.Repeat("s", maxScope+1), "", "ok", "ok", "umläut"}
	p := newPair(t)
	p.mcp.says("POST /mcp", status(http.StatusUnauthorized, "WWW-Authenticate", `Bearer resource_metadata="`+p.mcp.URL+`/meta"`))
	p.mcp.says("GET /meta", object(fields{"resource": p.url(), "authorization_servers": []string{p.auth.URL}, "scopes_supported": append(odd, many...)}))
	s := p.found(t)
	if len(s.Scopes) != maxScopes || s.Scopes[0] != "ok" || s.Scopes[1] != "scope-0" {
		t.Errorf("%d scopes, beginning with %q", len(s.Scopes), s.Scopes[:2])
	}
}

func TestRedirectsStayWithinTheOrigin(t *testing.T) {
	p := newPair(t)
	doc := p.auth.pages["GET "+oauthSuffix]
	p.auth.says("GET "+oauthSuffix, status(http.StatusFound, "Location", "/moved"))
	p.auth.says("GET /moved", doc)
	p.found(t)
	evil := newSite(t)
	evil.says("GET /moved", doc)
	p.auth.says("GET "+oauthSuffix, status(http.StatusFound, "Location", evil.URL+"/moved"))
	if _, err := p.find(t); !errors.Is(err, ErrNone) || len(evil.requests()) > 0 {
		t.Errorf("another origin was asked %q: %v", evil.requests(), err)
	}
	p.mcp.says("POST /mcp", status(http.StatusTemporaryRedirect, "Location", evil.URL+"/mcp"))
	_, _ = p.find(t)
	if len(evil.requests()) > 0 {
		t.Errorf("a POST was repeated elsewhere: %q", evil.requests())
	}
}

func TestServersThatCannotAnswerAreUnavailable(t *testing.T) {
	p := newPair(t)
	p.auth.says("GET "+oauthSuffix, status(http.StatusBadGateway))
	var said *broker.ProviderError
	if _, err := p.find(t); !errors.As(err, &said) || said.Class != broker.Transient {
		t.Errorf("got %v", err)
	}
	p.auth.Close()
	if _, err := p.find(t); !errors.As(err, &said) || said.Reach == nil || said.Reach.Code != broker.ErrUnreachable.Code {
		t.Errorf("got %v", err)
	}
	if said != nil && strings.Contains(fmt.Sprintf("%+v %v", said, said), p.auth.URL) {
		t.Error("the error names the address")
	}
}

func TestBlockedAddressesAreNotAsked(t *testing.T) {
	p := newPair(t)
	policy, err := egress.New(egress.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.finder = finderOf(policy)
	var said *broker.ProviderError
	if _, err := p.find(t); !errors.As(err, &said) || said.Reach == nil || said.Reach.Code != broker.ErrEgressBlocked.Code {
		t.Errorf("got %v", err)
	}
	if len(p.mcp.requests()) > 0 {
		t.Error("this machine was asked")
	}
}

func TestWantedIssuerIsChosenAmongThoseThatAreTrusted(t *testing.T) {
	p := newPair(t)
	other := newSite(t)
	p.mcp.says("GET /meta", object(fields{"resource": p.url(), "authorization_servers": []string{other.URL, p.auth.URL}}))
	u, err := url.Parse(p.url())
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.finder.Find(t.Context(), u, p.auth.URL)
	if err != nil || s.Issuer != p.auth.URL || len(other.requests()) > 0 {
		t.Errorf("got %v, %v", s, err)
	}
	if _, err = p.finder.Find(t.Context(), u, "https://elsewhere.example"); !errors.Is(err, broker.ErrIssuerMismatch) {
		t.Errorf("got %v", err)
	}
}

func wantError(t *testing.T, p *pair, want *broker.Error) {
	t.Helper()
	if s, err := p.find(t); !errors.Is(err, want) {
		t.Errorf("found %+v, %v; want %s", s, err, want.Code)
	}
}
