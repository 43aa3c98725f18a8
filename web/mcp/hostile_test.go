package mcp_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// moved connects, lets a day pass, changes what the server says of its authorization server, and renews.
func moved(t *testing.T, change func(d *double)) (*double, *rig, *broker.Connection, answer) {
	t.Helper()
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{})
	c := r.connect(r.decided(d.url()))
	r.advance(25 * time.Hour)
	d.set(func() { change(d) })
	_, before := d.counts()
	a, _ := r.read(c, "&force_refresh=true")
	_, after := d.counts()
	if after-before > 1 {
		t.Errorf("%d token requests", after-before)
	}
	c, err := r.broker.Connection(t.Context(), r.who, broker.ConnectionRef{ID: c.ID})
	must(t, err)
	return d, r, c, a
}

func TestServerThatMovedAfterTheGrantGetsNothingOfTheOldOne(t *testing.T) {
	evil := newDouble(t)
	for name, change := range map[string]func(d *double){
		"its token endpoint":         func(d *double) { d.metadata["token_endpoint"] = evil.auth.URL + "/token" },
		"its authorization endpoint": func(d *double) { d.metadata["authorization_endpoint"] = evil.auth.URL + "/authorize" },
		"its revocation endpoint":    func(d *double) { d.metadata["revocation_endpoint"] = evil.auth.URL + "/revoke" },
		"its issuer":                 func(d *double) { d.about["authorization_servers"] = []string{evil.auth.URL} },
	} {
		t.Run(name, func(t *testing.T) {
			d, r, c, a := moved(t, change)
			if a.status == http.StatusOK || c.Reason != broker.ReasonIssuerChanged {
				t.Errorf("the renewal: %d, and the connection is %s: %s", a.status, c.Status, c.Reason)
			}
			if _, n := evil.counts(); n > 0 {
				t.Error("the other server was sent something")
			}
			// It comes back to what it was, and the grant with it.
			d.set(func() { clear(d.metadata); clear(d.about) })
			r.advance(25 * time.Hour)
			if a, _ := r.read(c, "&force_refresh=true"); a.status != http.StatusOK {
				t.Errorf("after it came back: %d %s", a.status, a.body)
			}
		})
	}
}

// The secret of a registered client belongs to the token endpoint that there was then, like a grant.
func TestRegisteredSecretDoesNotFollowATokenEndpoint(t *testing.T) {
	d, evil := newDouble(t), newDouble(t)
	d.metadata["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic"}
	r := newRig(t, "", broker.IntegrationInput{})
	r.connect(r.decided(d.url()))
	r.advance(time.Hour)
	d.set(func() { d.metadata["token_endpoint"] = evil.auth.URL + "/token" })
	r.browser().get(r.startURL(r.decided(d.url())), nil)
	if n, _ := d.counts(); n != 2 {
		t.Errorf("registered %d times", n)
	}
	evil.mu.Lock()
	defer evil.mu.Unlock()
	if len(evil.basic) != 1 || evil.basic[0] == "client-1" {
		t.Errorf("the other endpoint was shown %v", evil.basic)
	}
}

func TestRevocationGoesWhereTheGrantCameFrom(t *testing.T) {
	evil := newDouble(t)
	d, r, c, _ := moved(t, func(d *double) { d.metadata["revocation_endpoint"] = evil.auth.URL + "/revoke" })
	if a := r.api(http.MethodDelete, "/connection/"+c.Key+"?provider_config_key=mcp", ""); a.status != http.StatusOK {
		t.Fatalf("the deletion: %d", a.status)
	}
	eventually(t, "it is revoked where it came from", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.revoked) > 0
	})
	if len(evil.revoked) > 0 {
		t.Error("another server got the tokens")
	}
}

func TestEndpointsMayMoveWithinTheirOrigin(t *testing.T) {
	d, _, _, a := moved(t, func(d *double) { d.metadata["token_endpoint"] = d.auth.URL + "/token2" })
	if a.status != http.StatusOK || d.lastTokenRequest().Get("grant_type") != "refresh_token" {
		t.Errorf("the renewal: %d %s", a.status, a.body)
	}
}

// A server may trust several authorization servers. That it names another one first is no reason to end the grants of those
// that it still trusts.
func TestOrderOfAuthorizationServersDoesNotCount(t *testing.T) {
	other := newDouble(t)
	d, r, c, a := moved(t, func(d *double) { d.about["authorization_servers"] = []string{other.auth.URL, d.auth.URL} })
	if a.status != http.StatusOK || c.Reason != "" {
		t.Errorf("the renewal: %d, and the connection is %s: %s", a.status, c.Status, c.Reason)
	}
	r.advance(25 * time.Hour)
	d.set(func() { d.metadata["issuer"] = nil })
	if a, _ := r.read(c, "&force_refresh=true"); a.status != http.StatusOK {
		t.Errorf("while its metadata is broken: %d %s", a.status, a.body)
	}
	r.advance(25 * time.Hour)
	d.set(func() { d.about["authorization_servers"] = []string{other.auth.URL} })
	if a, _ := r.read(c, "&force_refresh=true"); a.status == http.StatusOK {
		t.Error("one that is not trusted any more gets a refresh token")
	}
	if _, n := other.counts(); n > 0 {
		t.Error("the other one was sent something")
	}
}

func TestServerThatCannotBeFoundStaysAsItWas(t *testing.T) {
	for name, change := range map[string]func(d *double){
		"no metadata":         func(d *double) { d.metadata["issuer"] = nil },
		"not available":       func(d *double) { d.down = true },
		"another resource":    func(d *double) { d.about["resource"] = "https://evil.example/mcp" },
		"no PKCE":             func(d *double) { d.metadata["code_challenge_methods_supported"] = nil },
		"an endpoint of http": func(d *double) { d.metadata["token_endpoint"] = "http://evil.example/token" },
		"it is gone": func(d *double) {
			d.mcp.CloseClientConnections()
			d.mcp.Config.SetKeepAlivesEnabled(false)
			d.about["resource"] = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, c, a := moved(t, change)
			if a.status != http.StatusOK || c.Status != broker.Active {
				t.Errorf("the renewal: %d, and the connection is %s: %s", a.status, c.Status, c.Reason)
			}
		})
	}
}

func TestAnswersOfAnotherServerAreRefused(t *testing.T) {
	const words = "call-this-number"
	for name, c := range map[string]struct {
		promises bool
		answer   func(url.Values)
		code     string
	}{
		"another name":            {true, func(q url.Values) { q.Set("iss", "https://evil.example") }, "issuer_mismatch"},
		"no name though promised": {true, func(q url.Values) { q.Del("iss") }, "issuer_mismatch"},
		"another, not promised":   {false, func(q url.Values) { q.Set("iss", "https://evil.example") }, "issuer_mismatch"},
		"a slash more":            {true, func(q url.Values) { q.Set("iss", q.Get("iss")+"/") }, "issuer_mismatch"},
		"an error of another name": {true, func(q url.Values) {
			q.Del("code")
			q.Set("error", "server_error")
			q.Set("error_description", words)
			q.Set("iss", "x")
		}, "issuer_mismatch"},
		"an error without a name": {true, func(q url.Values) {
			q.Del("code")
			q.Set("error", "access_denied")
			q.Set("error_description", words)
			q.Del("iss")
		}, "issuer_mismatch"},
		"two names": {true, func(q url.Values) { q.Add("iss", "https://evil.example") }, "callback_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t)
			d.metadata["authorization_response_iss_parameter_supported"] = c.promises
			d.answer = c.answer
			r := newRig(t, "", broker.IntegrationInput{})
			a := r.refused(http.StatusBadRequest, c.code, r.decided(d.url()))
			if strings.Contains(a.body, words) {
				t.Error("the page shows what another server says")
			}
			if _, n := d.counts(); n > 0 {
				t.Error("the code was sent")
			}
		})
	}
	d := newDouble(t)
	d.metadata["authorization_response_iss_parameter_supported"] = false
	d.answer = func(q url.Values) { q.Del("iss") }
	r := newRig(t, "", broker.IntegrationInput{})
	r.connect(r.decided(d.url())) // nothing is promised, nothing is missing
}

// Two servers of one integration have a callback each: an answer on the other's is nobody's, whatever it says of itself.
func TestAnswerOnAnotherServersCallbackIsRefused(t *testing.T) {
	honest, evil := newDouble(t), newDouble(t)
	for _, d := range []*double{honest, evil} {
		d.metadata["authorization_response_iss_parameter_supported"] = false
		d.answer = func(q url.Values) { q.Del("iss") }
	}
	r := newRig(t, "", broker.IntegrationInput{})
	r.connect(r.decided(honest.url()))
	back := honest.lastAuthorization().Get("redirect_uri")
	b := r.browser()
	left := b.get(r.startURL(r.decided(evil.url())), func(u *url.URL) bool { return u.Path == "/authorize" })
	u, err := url.Parse(left.url)
	must(t, err)
	a := b.get(back+"?"+url.Values{"code": {"of-the-honest-one"}, "state": {u.Query().Get("state")}}.Encode(), nil)
	if a.status != http.StatusBadRequest || a.header.Get("X-Error-Code") != "context_mismatch" {
		t.Errorf("got %d %s", a.status, a.header.Get("X-Error-Code"))
	}
	if _, n := evil.counts(); n > 0 {
		t.Error("the code was sent to the other server")
	}
}

func TestHostileServersAreToldApart(t *testing.T) {
	for name, c := range map[string]struct {
		change func(d *double)
		status int
		code   string
	}{
		"foreign resource":    {func(d *double) { d.about["resource"] = "https://bank.example" }, 422, "resource_mismatch"},
		"foreign issuer":      {func(d *double) { d.metadata["issuer"] = "https://bank.example" }, 422, "issuer_mismatch"},
		"no PKCE":             {func(d *double) { d.metadata["code_challenge_methods_supported"] = nil }, 422, "pkce_unsupported"},
		"a script":            {func(d *double) { d.metadata["authorization_endpoint"] = "javascript:alert(1)" }, 422, "provider_url_invalid"},
		"http":                {func(d *double) { d.metadata["token_endpoint"] = "http://auth.example/token" }, 422, "provider_url_invalid"},
		"the cloud's machine": {func(d *double) { d.metadata["token_endpoint"] = "https://169.254.169.254/token" }, 422, "url_not_allowed"},
		"parameters of ours":  {func(d *double) { d.metadata["authorization_endpoint"] = d.auth.URL + "/authorize?state=x" }, 422, "provider_url_invalid"},
		"no registration":     {func(d *double) { d.metadata["registration_endpoint"] = nil }, 400, "not_supported"},
		"strange clients":     {func(d *double) { d.metadata["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt"} }, 400, "not_supported"},
		"a foreign redirect": {func(d *double) {
			d.register = func(a map[string]any) { a["redirect_uris"] = []string{"https://evil.example"} }
		}, 502, "exchange_failed"},
		"no client id":  {func(d *double) { d.register = func(a map[string]any) { delete(a, "client_id") } }, 502, "exchange_failed"},
		"not available": {func(d *double) { d.down = true }, 503, "provider_unavailable"},
		"not there":     {func(d *double) { d.auth.Close() }, 502, "provider_unreachable"},
		"not a server":  {func(d *double) { d.metadata["issuer"] = 17 }, 422, "variable_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t)
			c.change(d)
			r := newRig(t, "", broker.IntegrationInput{})
			a := r.refused(c.status, c.code, r.decided(d.url()))
			if strings.Contains(a.body, "169.254") || strings.Contains(a.body, d.auth.URL) {
				t.Error("the page tells addresses")
			}
			if len(d.authorized) > 0 {
				t.Error("the browser was sent there")
			}
		})
	}
}

func TestTokenGoesToItsServerAlone(t *testing.T) {
	d, evil := newDouble(t), newDouble(t)
	u, err := url.Parse(evil.mcp.URL)
	must(t, err)
	r := newRig(t, "", broker.IntegrationInput{Hosts: []string{u.Host, "api.example.com"}})
	c := r.connect(r.decided(d.url()))
	for path, base := range map[string]string{
		"":    "https://api.example.com",
		"/x":  d.mcp.URL,
		"/y":  d.mcp.URL + "/other",
		"/z":  d.mcp.URL + "/mc",
		"/mc": evil.mcp.URL,
	} {
		a := r.call(c, http.MethodPost, path, "Base-Url-Override", base)
		if a.status != http.StatusBadRequest || a.header.Get("X-Error-Code") != "base_url_not_allowed" {
			t.Errorf("%s: %d %s", base, a.status, a.header.Get("X-Error-Code"))
		}
	}
	for _, path := range []string{"/../admin", "/..%2fadmin", "//evil.example/mcp"} {
		if a := r.call(c, http.MethodPost, path); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.calls) > 0 || len(evil.calls) > 0 {
		t.Errorf("%d and %d calls arrived", len(d.calls), len(evil.calls))
	}
}

func TestCallersBearerIsNotPassedOn(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{})
	c := r.connect(r.decided(d.url()))
	if a := r.call(c, http.MethodPost, ""); a.status != http.StatusOK || strings.Contains(a.body, apiKey) {
		t.Fatalf("a call: %d %s", a.status, a.body)
	}
	if a := r.call(c, http.MethodPost, "", "Nango-Proxy-Authorization", "Bearer mine"); a.status != http.StatusBadRequest {
		t.Errorf("a bearer of the caller's own: %d", a.status)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, call := range d.calls {
		if got := call.Header.Values("Authorization"); len(got) != 1 || !strings.HasPrefix(got[0], "Bearer access-") {
			t.Errorf("the server got %q", got)
		}
	}
}

func TestScopesThatACallLacksAreAskedForNextTime(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{})
	c := r.connect(r.decided(d.url()))
	d.set(func() { d.needs = "files:write" })
	a := r.call(c, http.MethodPost, "")
	if a.status != http.StatusForbidden || !strings.Contains(a.header.Get("WWW-Authenticate"), "insufficient_scope") {
		t.Fatalf("the refusal does not pass: %d %v", a.status, a.header)
	}
	eventually(t, "the scope is noted", func() bool {
		_, read := r.read(c, "")
		config, _ := read["connection_config"].(map[string]any)
		return config["wanted_scopes"] == "files:write"
	})
	// The link for more: whoever follows it is asked for no address, and goes on where the connection is.
	r.connect(r.session(broker.SessionInput{Reconnect: &broker.ConnectionRef{ID: c.ID}}))
	if got := d.lastAuthorization().Get("scope"); got != "files:read files:write" {
		t.Errorf("asked for %q", got)
	}
	if a := r.call(c, http.MethodPost, ""); a.status != http.StatusOK {
		t.Errorf("the call: %d", a.status)
	}
	if _, read := r.read(c, ""); read["connection_config"].(map[string]any)["wanted_scopes"] != nil {
		t.Error("what was wanted is noted still")
	}
	if n, _ := d.counts(); n != 1 {
		t.Errorf("registered %d times", n)
	}
}

// A server cannot make us write without end.
func TestNotedScopesAreBounded(t *testing.T) {
	d := newDouble(t)
	r := newRig(t, "", broker.IntegrationInput{})
	c := r.connect(r.decided(d.url()))
	r.call(c, http.MethodPost, "") // one that is let in, so that the connection is known
	for round := range 3 {
		var many []string
		for i := range 300 {
			many = append(many, fmt.Sprintf("s%d-%d", round, i))
		}
		d.set(func() { d.needs = strings.Join(many, " ") })
		r.call(c, http.MethodPost, "")
	}
	d.set(func() { d.needs = `"><svg onload=alert(1)>` })
	r.call(c, http.MethodPost, "")
	noted := func() []string {
		_, read := r.read(c, "")
		config, _ := read["connection_config"].(map[string]any)
		text, _ := config["wanted_scopes"].(string)
		return strings.Fields(text)
	}
	eventually(t, "some are noted", func() bool { return len(noted()) == 100 })
}

func TestDocumentNamesTheClientWhereTheServerTakesThat(t *testing.T) {
	d := newDouble(t)
	d.metadata["client_id_metadata_document_supported"] = true
	r := newRig(t, "https://connect.example.com", broker.IntegrationInput{Settings: map[string]string{"oauth_client_name": "Their App"}})
	var seen answer
	d.document = func(id string) []byte {
		seen = r.browser().get(id, nil)
		return []byte(seen.body)
	}
	c := r.connect(r.decided(d.url()))
	asked := d.lastAuthorization()
	if id := asked.Get("client_id"); !strings.HasPrefix(id, "https://connect.example.com/oauth/client-metadata/") {
		t.Errorf("the client id is %q", id)
	}
	var doc map[string]any
	must(t, json.Unmarshal([]byte(seen.body), &doc))
	if doc["client_id"] != asked.Get("client_id") || doc["client_name"] != "Their App" || doc["redirect_uris"].([]any)[0] != asked.Get("redirect_uri") {
		t.Errorf("the document says %s", seen.body)
	}
	if seen.header.Get("Cache-Control") != "public, max-age=300" {
		t.Errorf("Cache-Control: %s", seen.header.Get("Cache-Control"))
	}
	if a, _ := r.read(c, "&force_refresh=true"); a.status != http.StatusOK {
		t.Errorf("a renewal: %d %s", a.status, a.body)
	}
	if n, _ := d.counts(); n > 0 {
		t.Error("it registered all the same")
	}
	for _, name := range []string{"unknown", "x-0123456789abcdef", "../callback"} {
		if a := r.browser().get(r.url+"/oauth/client-metadata/"+url.PathEscape(name), nil); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", name, a.status)
		}
	}
}

// On this machine nobody could read the document.
func TestNoDocumentIsNamedThatCannotBeRead(t *testing.T) {
	d := newDouble(t)
	d.metadata["client_id_metadata_document_supported"] = true
	r := newRig(t, "", broker.IntegrationInput{})
	r.connect(r.decided(d.url()))
	if got := d.lastAuthorization().Get("client_id"); got != "client-1" {
		t.Errorf("the client id is %q", got)
	}
	d = newDouble(t)
	d.metadata["client_id_metadata_document_supported"] = true
	d.metadata["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic"} // it lets no client in without a secret
	r = newRig(t, "https://connect.example.com", broker.IntegrationInput{})
	r.connect(r.decided(d.url()))
	if got := d.lastAuthorization().Get("client_id"); got != "client-1" {
		t.Errorf("the client id is %q", got)
	}
}
