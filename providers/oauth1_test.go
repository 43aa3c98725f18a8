package providers

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
)

func signing(t testing.TB, s *providertest.OAuth1, more ...string) *oauth1Provider {
	t.Helper()
	return provider[*oauth1Provider](t, load(t, string(s.Entry("test", more...))), "test")
}

const callbackAddress = "https://connect.example.com/oauth/callback"

func authorizing(params map[string]string) *broker.AuthorizeRequest {
	asked := *client
	asked.Scopes = []string{"read", "write"}
	return &broker.AuthorizeRequest{Client: &asked, RedirectURI: callbackAddress, State: "st=ate", Params: params}
}

// prepareOAuth1 goes as far as the callback.
func prepareOAuth1(t testing.TB, s *providertest.OAuth1, p *oauth1Provider) *broker.ExchangeRequest {
	t.Helper()
	got, err := p.Prepare(t.Context(), authorizing(nil))
	if err != nil {
		t.Fatal(err)
	}
	answer := s.Approve(t, got.URL)
	if answer.Get("state") != "st=ate" || answer.Get("oauth_token") != got.Token {
		t.Fatalf("the callback is %v", answer)
	}
	return &broker.ExchangeRequest{Client: client, RedirectURI: callbackAddress, Code: answer.Get("oauth_verifier"), Callback: answer, Temporary: got}
}

// grantOAuth1 makes a grant.
func grantOAuth1(t testing.TB, s *providertest.OAuth1, p *oauth1Provider) *broker.Holding {
	t.Helper()
	got, err := p.Exchange(t.Context(), prepareOAuth1(t, s, p))
	if err != nil {
		t.Fatal(err)
	}
	return &broker.Holding{Client: client, Config: got.Config, Material: got.Material}
}

func TestOAuth1GrantsAreMadeAndUsed(t *testing.T) {
	for name, entry := range map[string][]string{
		"as most": nil,
		"by GET":  {"request_http_method: GET", "token_http_method: GET", `request_params: {name: "a b&c"}`, `token_params: {x: "1"}`},
		"by POST": {`request_params: {name: "a b&c"}`, `token_params: {x: "1"}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{})
			p := signing(t, s, append(entry, "token_response_metadata: [user_id]")...)
			h := grantOAuth1(t, s, p)
			m := h.Material
			if m.Type != "OAUTH1" || !s.Good(m.Access.Reveal()) || m.Details[tokenSecret].IsZero() || !m.ExpiresAt.IsZero() || h.Config["user_id"] != "account-1" {
				t.Errorf("got %+v, config %v", m, h.Config)
			}
			if raw := m.Answer.Reveal(); !strings.Contains(raw, `"user_id":"account-1"`) || !strings.Contains(raw, m.Access.Reveal()) {
				t.Errorf("the answer is kept as %s", raw)
			}
			if err := p.CheckMaterial(m); err != nil {
				t.Error(err)
			}
			if account, err := p.Identify(t.Context(), h); account != "account-1" || err != nil {
				t.Errorf("the account is %q, %v", account, err)
			}
			if supported, err := p.Revoke(t.Context(), h); !supported || err != nil || s.Good(m.Access.Reveal()) {
				t.Errorf("revoked: %t, %v", supported, err)
			}
			if supported, err := p.Revoke(t.Context(), h); !supported || err != nil {
				t.Errorf("revoked once more: %t, %v", supported, err)
			}
			want := providertest.OAuth1Counts{Temporary: 1, Exchanges: 1, Identities: 1, Revocations: 2, Refused: 1}
			if got := s.Counts(); got != want {
				t.Errorf("asked %+v", got)
			}
		})
	}
}

func TestOAuth1SignatureMethods(t *testing.T) {
	for _, method := range []string{hmacSHA256, plaintext} {
		s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{Method: method, TLS: true})
		o := options(t, string(s.Entry("test", "signature_method: "+method)))
		o.Client = &http.Client{Transport: s.Transport()}
		c, err := Load(o)
		if err != nil {
			t.Fatal(err)
		}
		p := provider[*oauth1Provider](t, c, "test")
		if account, err := p.Identify(t.Context(), grantOAuth1(t, s, p)); account != "account-1" || err != nil {
			t.Errorf("%s: %q, %v", method, account, err)
		}
	}
	s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{Method: plaintext})
	_, err := signing(t, s, "signature_method: PLAINTEXT").Prepare(t.Context(), authorizing(nil))
	if err == nil || s.Counts().Temporary != 0 {
		t.Errorf("a secret went out without TLS: %v", err)
	}
}

func TestOAuth1BrowserURL(t *testing.T) {
	s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{})
	p := signing(t, s, "scope_separator: ','", "authorization_params: {expiration: never, name: App}")
	params := map[string]string{"name": "Other app", "oauth_token": "x", "oauth_callback": "https://evil.example", "state": "x"}
	got, err := p.Prepare(t.Context(), authorizing(params))
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{"oauth_token": {got.Token}, "scope": {"read,write"}, "expiration": {"never"}, "name": {"Other app"}}.Encode()
	if _, query, _ := strings.Cut(got.URL, "?"); query != want {
		t.Errorf("the browser goes to %s, want %s", got.URL, want)
	}
	dry, err := p.AuthorizeURL(authorizing(nil))
	if err != nil || strings.Contains(dry, "oauth_token") || s.Counts().Temporary != 1 {
		t.Errorf("to see whether it can be asked, it was asked: %s, %v", dry, err)
	}
}

func TestOAuth1RequestsThatCannotBeMade(t *testing.T) {
	s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{})
	field := "connection_config: {team: {title: Team, description: A team}}"
	for name, entry := range map[string]string{
		"temporary parameter": `request_params: {team: "${connectionConfig.team}"}`,
		"token parameter":     `token_params: {team: "${connectionConfig.team}"}`,
		"browser parameter":   `authorization_params: {team: "${connectionConfig.team}"}`,
	} {
		_, err := signing(t, s, field, entry).AuthorizeURL(authorizing(nil))
		if !errors.Is(err, broker.ErrVariableInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is not the answer that was asked for ends the sign-in, and the provider was asked once.
func TestOAuth1AnswersThatAreRefused(t *testing.T) {
	const good = "oauth_token=a&oauth_token_secret=b"
	for name, tt := range map[string]struct {
		knobs providertest.OAuth1Knobs
		code  string
		class broker.FailureClass
	}{
		"a problem":               {providertest.OAuth1Knobs{Status: 401, Body: "oauth_problem=consumer_key_unknown&oauth_problem_advice=no+such+key"}, "consumer_key_unknown", broker.ClientRefused},
		"a problem with 200":      {providertest.OAuth1Knobs{Body: "oauth_problem=timestamp_refused"}, "timestamp_refused", broker.Transient},
		"JSON":                    {providertest.OAuth1Knobs{Status: 403, Body: `{"error":"no_access","message":"x"}`}, "no_access", broker.ClientRefused},
		"a page":                  {providertest.OAuth1Knobs{Status: 401, Body: "<html>no</html>"}, "http_401", broker.ClientRefused},
		"an outage":               {providertest.OAuth1Knobs{Status: 503, Body: good}, "http_503", broker.Transient},
		"a redirect":              {providertest.OAuth1Knobs{Redirect: 307}, codeRedirect, broker.Transient},
		"no answer":               {providertest.OAuth1Knobs{HangUp: true}, "provider_unreachable", broker.Transient},
		"nothing":                 {providertest.OAuth1Knobs{Status: 200}, codeBadAnswer, broker.Transient},
		"no secret":               {providertest.OAuth1Knobs{Body: "oauth_token=a"}, codeNoToken, broker.Transient},
		"an empty token":          {providertest.OAuth1Knobs{Body: "oauth_token=&oauth_token_secret=b"}, codeNoToken, broker.Transient},
		"two tokens":              {providertest.OAuth1Knobs{Body: good + "&oauth_token=c"}, codeBadAnswer, broker.Transient},
		"two of another name":     {providertest.OAuth1Knobs{Body: good + "&x=1&x=2"}, codeBadAnswer, broker.Transient},
		"a space":                 {providertest.OAuth1Knobs{Body: "oauth_token=a+b&oauth_token_secret=c"}, codeNoToken, broker.Transient},
		"a control character":     {providertest.OAuth1Knobs{Body: "oauth_token=a&oauth_token_secret=c%0d"}, codeNoToken, broker.Transient},
		"not ASCII":               {providertest.OAuth1Knobs{Body: "oauth_token=%C3%A9&oauth_token_secret=c"}, codeNoToken, broker.Transient},
		"too long":                {providertest.OAuth1Knobs{Body: "oauth_token=a&oauth_token_secret=" + strings.Repeat("c", maxToken+1)}, codeNoToken, broker.Transient},
		"far too long":            {providertest.OAuth1Knobs{Body: good + "&x=" + strings.Repeat("c", maxAnswer)}, codeTooLarge, broker.Transient},
		"bad escapes":             {providertest.OAuth1Knobs{Body: good + "&x=%zz"}, codeBadAnswer, broker.Transient},
		"a JSON answer":           {providertest.OAuth1Knobs{Body: `{"oauth_token":"a","oauth_token_secret":"b"}`}, codeNoToken, broker.Transient},
		"an unconfirmed callback": {providertest.OAuth1Knobs{Unconfirmed: true}, "callback_not_confirmed", broker.ClientRefused},
	} {
		t.Run(name, func(t *testing.T) {
			s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{})
			p := signing(t, s)
			r := prepareOAuth1(t, s, p)
			s.Set(func(k *providertest.OAuth1Knobs) { *k = tt.knobs })
			_, err := p.Prepare(t.Context(), authorizing(nil))
			if e := failed(t, err); e.Code != tt.code || e.Class != tt.class {
				t.Errorf("preparing: %+v", e)
			}
			if !tt.knobs.Unconfirmed { // which only the first answer says
				_, err = p.Exchange(t.Context(), r)
				if e := failed(t, err); e.Code != tt.code || e.Class != tt.class {
					t.Errorf("exchanging: %+v", e)
				}
				if n := s.Counts().Exchanges; n != 1 {
					t.Errorf("%d exchanges", n)
				}
			}
			if n := s.Counts(); n.Temporary != 2 || n.API != 0 {
				t.Errorf("asked %+v", n)
			}
		})
	}
}

func TestOAuth1ErrorsHoldNoSecrets(t *testing.T) {
	s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{})
	p := signing(t, s)
	r := prepareOAuth1(t, s, p)
	for _, secret := range []string{providertest.ClientSecret, r.Temporary.Secret.Reveal(), r.Code} {
		s.Set(func(k *providertest.OAuth1Knobs) {
			k.Status, k.Body = 401, url.Values{"oauth_problem": {"signature_invalid"}, "oauth_problem_advice": {"you sent " + secret}}.Encode()
		})
		_, err := p.Exchange(t.Context(), r)
		if e := failed(t, err); e.Code != "signature_invalid" || e.Text != "" {
			t.Errorf("%+v", e)
		}
	}
}

// The provider's double is a strict one: these are refused although all else is right.
func TestOAuth1ExchangeNeedsItsOwnVerifierAndSecret(t *testing.T) {
	s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{})
	p := signing(t, s)
	for name, change := range map[string]func(*broker.ExchangeRequest){
		"verifier": func(r *broker.ExchangeRequest) { r.Code = "guessed" },
		"secret":   func(r *broker.ExchangeRequest) { r.Temporary.Secret = broker.NewSecret("guessed") },
		"token":    func(r *broker.ExchangeRequest) { r.Temporary.Token = "guessed" },
		"nothing":  func(r *broker.ExchangeRequest) { r.Temporary = nil },
	} {
		r := prepareOAuth1(t, s, p)
		change(r)
		if _, err := p.Exchange(t.Context(), r); err == nil {
			t.Errorf("another %s: a token was given", name)
		}
	}
}

func TestOAuth1CredentialsEndWhenTheProviderSaysSo(t *testing.T) {
	for text, want := range map[string]time.Duration{"3600": time.Hour, "0": 0, "never": 0, "": 0} {
		s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{ExpiresIn: text})
		h := grantOAuth1(t, s, signing(t, s))
		left := time.Until(h.Material.ExpiresAt)
		if want == 0 && !h.Material.ExpiresAt.IsZero() || want != 0 && (left > want || left < want-time.Minute) {
			t.Errorf("oauth_expires_in=%s: ends at %s", text, h.Material.ExpiresAt)
		}
	}
}

func TestOAuth1MaterialThatNoProviderGives(t *testing.T) {
	s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{})
	p := signing(t, s)
	for name, pair := range map[string][2]string{
		"no token": {"", "b"}, "no secret": {"a", ""}, "a line break": {"a\nb", "b"}, "a long secret": {"a", strings.Repeat("b", maxToken+1)},
	} {
		m := &broker.Material{Access: broker.NewSecret(pair[0]), Details: secrets(tokenSecret, pair[1])}
		if p.CheckMaterial(m) == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestOAuth1RequestsAreSignedWithTheRightClient(t *testing.T) {
	s := providertest.NewOAuth1(t, providertest.OAuth1Knobs{})
	p := signing(t, s)
	token, secret := s.Grant()
	m := &broker.Material{Access: broker.NewSecret(token), Details: secrets(tokenSecret, secret)}
	own := &broker.Material{Access: m.Access, Details: secrets(tokenSecret, secret, "client_id", providertest.ClientID, "client_secret", providertest.ClientSecret)}
	other := &broker.Client{ID: "other", Secret: broker.NewSecret("other")}
	for name, tt := range map[string]struct {
		h  *broker.Holding
		ok bool
	}{
		"the integration's":     {&broker.Holding{Client: client, Material: m}, true},
		"another integration's": {&broker.Holding{Client: other, Material: m}, false},
		"the end user's own":    {&broker.Holding{Client: other, Material: own}, true},
		"none":                  {&broker.Holding{Client: &broker.Client{}, Material: m}, false},
		"none at all":           {&broker.Holding{Material: m}, false},
	} {
		if account, err := p.Identify(t.Context(), tt.h); (account == "account-1" && err == nil) != tt.ok {
			t.Errorf("%s: %q, %v", name, account, err)
		}
	}
}

func TestOAuth1EntriesThatCannotWork(t *testing.T) {
	const whole = `one:
  display_name: One
  categories: [x]
  auth_mode: OAUTH1
  docs: https://one.example/docs
  request_url: https://one.example/request
  authorization_url: https://one.example/authorize
  token_url: https://one.example/access
`
	for name, tt := range map[string]struct{ entry, reason string }{
		"no request_url":       {strings.Replace(whole, "  request_url: https://one.example/request\n", "", 1), "needs request_url"},
		"no authorization_url": {strings.Replace(whole, "  authorization_url: https://one.example/authorize\n", "", 1), "needs request_url"},
		"no token_url":         {strings.Replace(whole, "  token_url: https://one.example/access\n", "", 1), "needs request_url"},
		"RSA-SHA1":             {whole + "  signature_method: RSA-SHA1\n", "RSA-SHA1 is not supported"},
		"revocation with the secret": {
			whole + "  revocation_url: https://one.example/revoke\n", "style recipe and auth bearer",
		},
		"nothing": {whole, ""},
	} {
		p, _ := load(t, tt.entry).Provider("one")
		if f := p.Facts(); f.Usable != (tt.reason == "") || !strings.Contains(f.UnusableReason, tt.reason) {
			t.Errorf("%s: usable %t, %q", name, f.Usable, f.UnusableReason)
		}
	}
	if _, err := Load(options(t, whole+"  token_http_method: PUT\n")); err == nil || !strings.Contains(err.Error(), "overlay.yaml:9:22") {
		t.Errorf("a method that is none: %v", err)
	}
	p, _ := load(t, whole).Provider("one")
	f := p.Facts()
	if !f.Interactive || !f.NeedsClient || f.CredentialType != "OAUTH1" || f.TokenOrigin != "https://one.example" || f.AuthorizationURL != "https://one.example/authorize" {
		t.Errorf("facts %+v", f)
	}
	if _, renews := p.(broker.Renewer); renews {
		t.Error("it renews")
	}
}
