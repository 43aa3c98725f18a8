package lab_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest/lab"
)

// mutant is a wrong entry: the broker has it, while the provider is as the right one says.
type mutant struct {
	name, entry string
	path        string // of the field that is wrong
	value       any    // nil: it is not there
	noticed     string // what the failure says
}

var mutants = []mutant{
	{"client proves itself in the body", "adobe", "token_auth_method", "client_secret_post", "connect: the client does not prove itself in the header"},
	{"client proves itself in the header", "google", "token_auth_method", "client_secret_basic", "connect: the client does not prove itself in the body"},
	{"client keeps its secret back", "google", "token_auth_method", "none", "connect: the client does not prove itself in the body"},
	{"end user's client proves itself in the body", "onelogin", "token_auth_method", "client_secret_post", "does not prove itself in the header"},
	{"another separator", "strava", "scope_separator", " ", "scope is not as it should be"},
	{"other scopes", "google-drive", "default_scopes", []any{"openid"}, "scope is not as it should be"},
	{"no scopes", "google", "default_scopes", nil, "scope is missing"},
	{"no verifier", "google", "disable_pkce", true, "code_challenge is missing"},
	{"a verifier that is not wanted", "slack", "pkce", "S256", "code_challenge should not be there"},
	{"parameter of the page missing", "google", "authorization_params", map[string]any{"prompt": "consent"}, "access_type is missing"},
	{"another page", "dropbox", "authorization_url", "https://www.dropbox.com/oauth/authorize", "which is not the authorization page"},
	{"page's name for the client forgotten", "tiktok", "authorization_url_replacements", nil, "client_key is missing"},
	{"fragment forgotten", "apollo-oauth", "authorization_url_fragment", nil, "not sent to the fragment"},
	{"code under another name", "amazon-selling-partner", "authorization_code_param_in_callback", nil, "callback_invalid"},
	{"callback's parameter forgotten", "quickbooks", "redirect_uri_metadata", nil, "realmId"},
	{"issuer that is not the one", "google", "issuer", "https://issuer.example.com", "issuer_mismatch"},
	{"another token endpoint", "box", "token_url", "https://api.box.com/token", "the entry does not name the request POST https://api.box.com/token"},
	{"form for JSON", "notion", "body_format", "form", "connect: the body is not a JSON object"},
	{"JSON for a form", "google", "body_format", "json", "connect: the body is not a form"},
	{"parameter of the exchange missing", "bamboohr", "token_params", nil, "request is missing"},
	{"parameter's name forgotten", "tiktok-ads", "token_param_names", nil, "is called code, and not auth_code"},
	{"token looked for at the root", "tiktok-ads", "alternate_access_token_response_path", nil, "exchange_failed"},
	{"token answer's value forgotten", "stripe", "token_response_metadata", nil, "stripe_user_id"},
	{"long-lived token forgotten", "facebook", "long_lived_token", nil, `not ["exchange" "trade" "ask"]`},
	{"renewed where tokens are exchanged", "figma", "refresh_url", nil, "renew: "},
	{"parameter of the renewal missing", "microsoft-ads", "refresh_params", nil, "renewal: scope is missing"},
	{"words of a refusal not known", "hubspot", "permanent_errors", nil, "does not need its user"},
	{"refusal with status 200 not recognised", "tiktok-business", "error_predicates", nil, "does not need its user"},
	{"header not sent", "shopify", "proxy.headers", nil, "x-shopify-access-token is missing"},
	{"key not sent", "anthropic", "proxy.headers.x-api-key", nil, "x-api-key is missing"},
	{"key in another header", "brevo", "proxy.headers", map[string]any{"x-api-key": "${apiKey}"}, "the header x-api-key holds a secret"},
	{"key under another word", "klaviyo", "proxy.headers.authorization", "Bearer ${apiKey}", "authorization is not as it should be"},
	{"key in the query forgotten", "google-maps", "proxy.query", nil, "key is missing"},
	{"password left to the mode", "zendesk-api-token", "proxy.headers", nil, "authorization is not as it should be"},
	{"API elsewhere", "asana", "proxy.base_url", "https://api.asana.com", "call: proxied call: it goes to api.asana.com"},
	{"credential verified elsewhere", "shortcut", "proxy.verification.endpoints", []any{"/api/v3/me"}, "refuse: "},
	{"credential not verified", "apollo", "proxy.verification", nil, "refuse: "},
	{"refused key accepted", "apollo", "error_predicates", nil, "refuse: "},
	{"account not asked for", "asana", "identity_endpoint", nil, `the provider got the requests ["exchange"]`},
	{"account elsewhere in the answer", "asana", "identity_path", "data.id", "the account is"},
	{"account's call with another body", "linear", "identity_endpoint", `POST https://api.linear.app/graphql {"query":"{ viewer { name } }"}`, "the body is not the entry's"},
	{"what only the API knows not asked for", "xero", "post_connection", nil, "connect: "},
	{"revoked elsewhere", "box", "revocation_url", "https://api.box.com/revoke", "does not name the request POST https://api.box.com/revoke"},
	{"not revoked", "box", "revocation_url", nil, `the receipt says "unsupported", not "revoked"`},
	{"revoked by another method", "github", "revocation.method", nil, "does not name the request POST"},
	{"revoked with another proof", "todoist", "revocation.auth", "none", "revoke: revocation: "},
	{"revoked with another parameter", "onelogin", "revocation.token_param", nil, "access_token is missing"},
	{"revoked in another form", "quickbooks", "revocation.body_format", nil, "the body is not a JSON object"},
	{"revoked without a header", "notion", "revocation.headers", nil, "notion-version is missing"},
	{"another token revoked", "linkedin", "revocation.tokens", []any{"refresh"}, "revocation: "},
	{"one token too many revoked", "asana", "revocation.tokens", nil, "it comes once too often"},
	{"revoked by the standard", "square", "revocation.style", nil, "token_type_hint should not be there"},
	{"scopes of OAuth 1.0 in another form", "trello", "scope_separator", nil, "scope is not as it should be"},
	{"assertion of another algorithm", "salesforce-jwt", "token.header.alg", "PS256", "assertion: its header: alg is not as it should be"},
	{"assertion of another key's kind", "netsuite-client-credentials", "token.header.alg", "RS256", "client_assertion: its header: alg is not as it should be"},
	{"assertion's key not named", "netsuite-client-credentials", "token.header.kid", nil, "client_assertion: its header: kid is missing"},
	{"assertion for somebody else", "google-service-account", "token.payload.aud", "https://accounts.google.com", "assertion: its claims: aud is not as it should be"},
	{"assertion in nobody's name", "salesforce-jwt", "token.payload.sub", nil, "assertion: its claims: sub is missing"},
	{"assertion that lasts too long", "salesforce-jwt", "token.expires_in_ms", 600000, "assertion: it does not last as long as it should"},
	{"assertion forgotten", "google-service-account", "token_params.assertion", nil, "sign-in: assertion is missing"},
	{"sign-in in another form", "looker", "body_format", "json", "content-type is not as it should be"},
	{"sign-in with a flat name", "tableau", "token_params.credentials.site", "${credentials.contentUrl}", "sign-in: credentials.site is not as it should be"},
	{"sign-in's header forgotten", "tableau", "token_headers.accept", "text/xml", "sign-in: headers: accept is not as it should be"},
	{"sign-in elsewhere", "looker", "token_url", "https://${connectionConfig.hostname}/api/3.1/login", "does not name the request POST"},
	{"sign-in's token elsewhere", "tableau", "token_response.token", "token", "connect: connection_test_failed"},
	{"sign-in's value forgotten", "salesforce-jwt", "token_response_metadata", nil, `the provider got the requests ["exchange"], not ["exchange" "ask" "ask"]`},
	{"session's token as a bearer", "tableau", "proxy.headers", nil, "x-tableau-auth is missing, authorization should not be there"},
	{"session not ended", "tableau", "revocation_url", nil, `the receipt says "unsupported"`},
	{"session ended by another method", "looker", "revocation.method", "POST", "does not name the request POST"},
	{"session ended without its key", "bill", "proxy.headers.devkey", nil, "devkey is missing"},
	{"session begun elsewhere", "bill", "token_url", "https://gateway.prod.bill.com/connect/v2/login", "does not name the request POST"},
	{"session's calls with the password", "bill", "proxy.headers.sessionid", "${credentials.password}", "sessionid is not as it should be"},
	{"token under another word", "ghost-admin", "proxy.headers.authorization", nil, "authorization is not as it should be"},
	{"token for somebody else", "ghost-admin", "token.payload.aud", "/content/", "its claims: aud is not as it should be"},
	{"token's key not named", "ghost-admin", "token.header.kid", nil, "its header: kid is missing"},
	{"token's secret as text", "ghost-admin", "signature.hmac_secret_encoding", "utf8", "its signature is not of that key and algorithm"},
	{"token that lasts too long", "ghost-admin", "token.expires_in_ms", 3600000, "it does not last as long as it should"},
	{"token's issuer without the key", "snowflake-jwt", "token.payload.iss", "${credentials.accountIdentifier}.${credentials.userName}", "its claims: iss is not as it should be"},
	{"token's kind not said", "snowflake-jwt", "proxy.headers", nil, "x-snowflake-authorization-token-type is missing"},
	{"verified with another request", "snowflake-jwt", "proxy.verification.data", map[string]any{"statement": "SELECT 1"}, "statement is not as it should be"},
	{"client's assertion for the endpoint", "revolut-business", "client_assertion", nil, "the client's assertion: its claims: aud is not as it should be, iss is not as it should be"},
	{"client's assertion in another's name", "revolut-business", "client_assertion.sub", "somebody", "the client's assertion: its claims: sub is not as it should be"},
	{"client's scopes forgotten", "okta-client-credentials", "connection_config.oauth_scopes", nil, "this field is not asked for"},
	{"client's grant not named", "okta-cc", "token_params", map[string]any{"grant_type": "jwt"}, "grant_type is not as it should be"},
	{"client's tokens ended by anybody", "okta-client-credentials", "revocation", map[string]any{"auth": "none"}, "revocation: the client's assertion: its type is not the standard's"},
	{"account's calls signed by an older method", "netsuite-tba", "signature_method", "HMAC-SHA1", "call: proxied call: the signature is of another method"},
	{"account's calls for another realm", "netsuite-tba", "realm", "production", "call: proxied call: the realm is not the account"},
	{"account's calls elsewhere", "netsuite-tba", "proxy.base_url", "https://${connectionConfig.accountId}.suitetalk.api.netsuite.com/services/rest/record/v2", "call: proxied call: it goes to"},
	{"app installed elsewhere", "github-app", "authorization_url", "${connectionConfig.appPublicLink}/installations/select_target", "which is not the authorization page"},
	{"installation's token asked for elsewhere", "github-app", "token_url", "https://api.github.com/installations/${connectionConfig.installation_id}/access_tokens", "does not name the request GET https://api.github.com/installations/"},
	{"installation's calls without a version", "github-app", "proxy.headers", nil, "accept is missing"},
	{"installation's calls elsewhere", "github-app", "proxy.base_url", "https://uploads.github.com", "it goes to uploads.github.com"},
	{"installation's token not ended", "github-app", "revocation_url", nil, `the receipt says "unsupported", not "revoked"`},
	{"installation's token ended with a POST", "github-app", "revocation.method", "POST", "does not name the request POST"},
	{"installed and signed in elsewhere", "github-app-oauth", "authorization_url", "${connectionConfig.appPublicLink}/installations/select_target", "which is not the authorization page"},
	{"installation's user signed in elsewhere", "github-app-oauth", "token_url.OAUTH2", "https://github.com/login/oauth/token", "does not name the request POST https://github.com/login/oauth/token"},
	{"installations looked for elsewhere", "github-app-oauth", "token_url.APP", "https://api.github.com/v3/app/installations/${connectionConfig.installation_id}/access_tokens", "does not name the request GET https://api.github.com/v3/user/installations"},
	{"installation's client proves itself in the header", "github-app-oauth", "token_auth_method", "client_secret_basic", "connect: the client does not prove itself in the body"},
	{"installation's calls of a user elsewhere", "github-app-oauth", "proxy.base_url", "https://uploads.github.com", "call: proxied call: it goes to uploads.github.com"},
	{"installation's user not ended", "github-app-oauth", "revocation_url", nil, `revoke: the tokens that were revoked are ["installation"], not ["installation" "access"]`},
	{"installation's user ended without a proof", "github-app-oauth", "revocation.auth", "none", "revoke: revocation: headers: authorization is missing"},
	{"role assumed elsewhere", "aws-sigv4", "token_url", "https://sts.amazonaws.com/", "does not name the request POST https://sts.amazonaws.com/"},
	{"role's calls elsewhere", "aws-sigv4", "proxy.base_url", "https://${connectionConfig.service}.amazonaws.com", "call: proxied call: it goes to s3.amazonaws.com"},
	{"role's calls signed over", "aws-sigv4", "proxy.headers", map[string]any{"x-amz-lab": "${accessToken}"}, "the header x-amz-lab holds a secret"},
	{"certificate not shown", "adp", "require_client_certificate", nil, "no certificate is shown"},
	{"certificate in place of the secret", "adp", "token_auth_method", "none", "does not prove itself in the header"},
	{"certificate shown to others", "onelogin", "require_client_certificate", true, "this field must be filled in"},
	{"digest in another header", "lab-wsse", "proxy.headers", map[string]any{"authorization": "${accessToken}"}, "x-wsse is missing"},
	{"digest thought to last", "lab-wsse", "token.expires_in_ms", 600000, "renew: "},
	{"plugin's calls without their tier", "lab-plugin", "proxy.headers", nil, "x-tier is missing"},
	{"plugin's calls for nobody", "lab-plugin", "proxy.base_url", "https://api.plugin.example/v1", "does not name the request GET https://api.plugin.example/v1/"},
	{"plugin's website forgotten", "lab-plugin", "redirect_uri_metadata", nil, "connect: exchange_failed"},
	{"server's client not registered", "linear-mcp", "client_registration", "static", "connect: not_supported"},
	{"registered elsewhere", "attio-mcp", "registration_url", "https://app.attio.com/register", "does not name the request POST https://app.attio.com/register"},
	{"registered for too much", "canva-mcp", "registration_params", map[string]any{"grant_types": []any{"authorization_code"}}, "registration: grant_types is not as it should be"},
	{"registered with a secret", "notion-mcp", "token_auth_method", "client_secret_basic", "registration: token_endpoint_auth_method is not as it should be"},
	{"another resource", "asana-mcp", "authorization_params.resource", "https://mcp.asana.com", "resource is not as it should be"},
	{"resource of the API", "attio-mcp", "authorization_params", nil, "resource is not as it should be"},
	{"resource besides", "hubspot-mcp", "resource", "https://mcp.hubspot.com/sse", "resource is not as it should be"},
	{"resource only in the browser", "asana-mcp", "auth_mode", "OAUTH2", "exchange: resource is missing"},
	{"server's client not authenticated", "supabase-mcp-oauth", "token_auth_method", "none", "the client does not prove itself in the header"},
	{"server's public client with its secret", "vercel-mcp", "token_auth_method", "client_secret_post", "a public client gives its id, and nothing else"},
	{"server's token elsewhere in the answer", "slack-mcp", "alternate_access_token_response_path", nil, "exchange_failed"},
	{"server called elsewhere", "linear-mcp", "proxy.base_url", "https://mcp.linear.app", "resource is not as it should be"},
	{"server's query forgotten", "supabase-mcp-oauth", "proxy.query", nil, "query: project_ref is missing"},
	{"server's tokens not revoked", "asana-mcp", "revocation_url", nil, `the receipt says "unsupported", not "revoked"`},
	{"found server's token under another word", "mcp-generic", "proxy.headers", map[string]any{"authorization": "Token ${accessToken}"}, "authorization is not as it should be"},
	{"signed in another way", "twitter", "signature_method", "HMAC-SHA256", "the signature is of another method"},
}

// Each wrong entry is noticed, at the step that it breaks.
func TestWrongEntriesAreNoticed(t *testing.T) {
	entries, err := lab.Read(append([]byte(ours), coatcheck.Catalogue...))
	if err != nil {
		t.Fatal(err)
	}
	wrong := make([]*lab.Entry, len(mutants))
	for i, m := range mutants {
		wrong[i] = entries[m.entry].Changed(m.entry+"-"+strconv.Itoa(i), m.path, m.value)
		if m.path == "pkce" {
			wrong[i] = wrong[i].Changed(wrong[i].Name, "disable_pkce", nil)
		}
	}
	catalogue, err := lab.Write(wrong...)
	if err != nil {
		t.Fatal(err)
	}
	pool := newPool(t, catalogue)
	for i, m := range mutants {
		t.Run(m.name+" at "+m.entry, func(t *testing.T) {
			t.Parallel()
			b := <-pool.benches
			err := b.drive(t, wrong[i].Name, entries[m.entry])
			ended := err == nil || !strings.HasPrefix(err.Error(), "revoke") && !strings.HasPrefix(err.Error(), "delete")
			pool.back(b, ended)
			if err == nil || !strings.Contains(err.Error(), m.noticed) {
				t.Errorf("noticed: %v", err)
			}
		})
	}
}

// An entry whose mode nobody plays is a failure, and so is a list of unusable entries that is not true any more.
func TestWhatIsNotPlayedIsNoticed(t *testing.T) {
	entries, err := lab.Read([]byte("acme: {auth_mode: TELEPATHY}"))
	if err != nil {
		t.Fatal(err)
	}
	err = (&bench{}).drive(t, "acme", entries["acme"])
	if err == nil || !strings.Contains(err.Error(), "TELEPATHY") {
		t.Errorf("noticed: %v", err)
	}
	usable, not := &broker.Facts{Usable: true}, &broker.Facts{UnusableReason: "no TELEPATHY"}
	for _, tt := range []struct {
		facts *broker.Facts
		why   string
		fine  bool
	}{{usable, "TELEPATHY", false}, {not, "", false}, {not, "ESP", false}, {not, "TELEPATHY", true}} {
		if err := checkUnusable(tt.facts, tt.why); (err == nil) != tt.fine {
			t.Errorf("%+v, listed for %q: %v", tt.facts, tt.why, err)
		}
	}
}
