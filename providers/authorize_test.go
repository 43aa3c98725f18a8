package providers

import (
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// verifier and challenge are the example of RFC 7636 appendix B.
const (
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

func request(config map[string]string, scopes ...string) *broker.AuthorizeRequest {
	return &broker.AuthorizeRequest{
		Client: &broker.Client{ID: "the-client", Secret: broker.NewSecret("s3cret"), Scopes: scopes}, Config: config,
		RedirectURI: "https://us.example/oauth/callback", State: "st.a-te", Verifier: verifier, Nonce: "n0nce",
	}
}

const (
	redirectPart  = "redirect_uri=https%3A%2F%2Fus.example%2Foauth%2Fcallback"
	challengePart = "code_challenge=" + challenge + "&code_challenge_method=S256"
)

func TestAuthorizationURLs(t *testing.T) {
	c := loadBuiltin(t)
	for _, tt := range []struct {
		provider string
		request  *broker.AuthorizeRequest
		want     string
	}{
		{
			"github", request(nil, "repo", "read:user"),
			"https://github.com/login/oauth/authorize?client_id=the-client&" + challengePart + "&" + redirectPart +
				"&response_type=code&scope=repo+read%3Auser&state=st.a-te",
		},
		{ // PKCE is forbidden there, and scopes are separated by commas
			"slack", withUserScopes(request(nil, "chat:write", "users:read"), "search:read"),
			"https://slack.com/oauth/v2/authorize?client_id=the-client&" + redirectPart +
				"&response_type=code&scope=chat%3Awrite%2Cusers%3Aread&state=st.a-te&user_scope=search%3Aread",
		},
		{
			"shopify", request(map[string]string{"subdomain": "acme-store"}, "read_products"),
			"https://acme-store.myshopify.com/admin/oauth/authorize?client_id=the-client&" + challengePart + "&" + redirectPart +
				"&response_type=code&scope=read_products&state=st.a-te",
		},
		{ // no scopes
			"notion", request(nil),
			"https://api.notion.com/v1/oauth/authorize?client_id=the-client&" + challengePart + "&owner=user&" + redirectPart +
				"&response_type=code&state=st.a-te",
		},
		{ // the nonce goes along because openid is asked for
			"google", request(nil, "openid", "email"),
			"https://accounts.google.com/o/oauth2/v2/auth?access_type=offline&client_id=the-client&" + challengePart +
				"&nonce=n0nce&prompt=consent&" + redirectPart + "&response_type=code&scope=openid+email&state=st.a-te",
		},
		{ // without the region the other side of the template
			"intercom", request(nil),
			"https://app.intercom.com/oauth?client_id=the-client&" + challengePart + "&" + redirectPart + "&response_type=code&state=st.a-te",
		},
		{
			"intercom", request(map[string]string{"region": "eu"}),
			"https://app.eu.intercom.com/oauth?client_id=the-client&" + challengePart + "&" + redirectPart + "&response_type=code&state=st.a-te",
		},
	} {
		got, err := oauth(t, c, tt.provider).AuthorizeURL(tt.request)
		if err != nil || got != tt.want {
			t.Errorf("%s: %v\n got %s\nwant %s", tt.provider, err, got, tt.want)
		}
	}
}

func withUserScopes(r *broker.AuthorizeRequest, scopes string) *broker.AuthorizeRequest {
	r.UserScopes = scopes
	return r
}

func TestAuthorizationURLOptions(t *testing.T) {
	entry := func(lines string) string {
		return "x:\n  display_name: X\n  auth_mode: OAUTH2\n  pkce: forbidden\n  pkce_reason: for the test\n" +
			"  authorization_url: https://x.example/auth\n  token_url: https://x.example/token\n" + lines
	}
	for _, tt := range []struct{ name, lines, want string }{
		{"raw scopes", "  scope_separator: '+'\n  authorization_url_skip_encode: [scopes]\n", "https://x.example/auth?client_id=the-client&RED&response_type=code&state=st.a-te&scope=a:b+c"},
		{"encoded plus", "  scope_separator: '+'\n", "https://x.example/auth?client_id=the-client&RED&response_type=code&scope=a%3Ab%2Bc&state=st.a-te"},
		{"fragment", "  authorization_url_fragment: /login\n", "https://x.example/auth#/login?client_id=the-client&RED&response_type=code&scope=a%3Ab+c&state=st.a-te"},
		{"renamed parameters", "  authorization_url_replacements: {client_id: client_key, 'redirect_uri=': 'redirect_url=', state: custom}\n", "https://x.example/auth?client_key=the-client&redirect_url=https%3A%2F%2Fus.example%2Foauth%2Fcallback&response_type=code&scope=a%3Ab+c&custom=st.a-te"},
		{"replaced text", "  authorization_url_replacements: {x.example/auth: y.example/auth}\n", "https://y.example/auth?client_id=the-client&RED&response_type=code&scope=a%3Ab+c&state=st.a-te"},
		{"empty parameters dropped", "  authorization_url_skip_empty: true\n  authorization_params: {a: '', b: 1}\n", "https://x.example/auth?b=1&client_id=the-client&RED&response_type=code&scope=a%3Ab+c&state=st.a-te"},
		{"empty parameters kept", "  authorization_params: {a: '', b: true}\n", "https://x.example/auth?a=&b=true&client_id=the-client&RED&response_type=code&scope=a%3Ab+c&state=st.a-te"},
		{"scope of the entry", "  authorization_params: {scope: all, state: ours, redirect_uri: https://evil.example}\n", "https://x.example/auth?client_id=the-client&RED&response_type=code&scope=all&state=st.a-te"},
		{"query in the URL", "  authorization_params: {}\n", "https://x.example/auth?client_id=the-client&RED&response_type=code&scope=a%3Ab+c&state=st.a-te"},
	} {
		p := oauth(t, load(t, entry(tt.lines)), "x")
		got, err := p.AuthorizeURL(request(nil, "a:b", "c"))
		if want := strings.Replace(tt.want, "RED", redirectPart, 1); err != nil || got != want {
			t.Errorf("%s: %v\n got %s\nwant %s", tt.name, err, got, want)
		}
	}
}

func TestCallerCannotUntieTheAuthorizationAnswer(t *testing.T) {
	r := request(nil, "openid")
	r.Params = map[string]string{
		"client_id": "x", "redirect_uri": "https://evil.example", "state": "x", "code_challenge": "x", "code_challenge_method": "plain",
		"nonce": "x", "response_type": "token", "prompt": "none", "login_hint": "ann",
	}
	raw, err := oauth(t, loadBuiltin(t), "google").AuthorizeURL(r)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"client_id": {"the-client"}, "redirect_uri": {"https://us.example/oauth/callback"}, "state": {"st.a-te"}, "code_challenge": {challenge},
		"code_challenge_method": {"S256"}, "nonce": {"n0nce"}, "response_type": {"code"}, "prompt": {"none"}, "login_hint": {"ann"},
		"scope": {"openid"}, "access_type": {"offline"},
	}
	if got := u.Query(); got.Encode() != want.Encode() {
		t.Errorf("got %v", got)
	}
}

func TestAuthorizationURLHasToBeHTTPS(t *testing.T) {
	c := load(t, "x:\n  display_name: X\n  auth_mode: OAUTH2\n  authorization_url: http://x.example/auth\n  token_url: https://x.example/token\n")
	p, _ := c.Provider("x")
	if f := p.Facts(); f.Usable || !strings.Contains(f.UnusableReason, "authorization_url") {
		t.Errorf("facts: %v %q", f.Usable, f.UnusableReason)
	}
}
