package providers

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/coatcheck/coatcheck/broker"
)

// The modes that are built. The others are listed in unbuilt.
const (
	modeOAuth2            = "OAUTH2"
	modeOAuth1            = "OAUTH1"
	modeClientCredentials = "OAUTH2_CC"
	modeAPIKey            = "API_KEY"
	modeBasic             = "BASIC"
	modeNone              = "NONE"
	modeTwoStep           = "TWO_STEP"
	modeJWT               = "JWT"
	modeSignature         = "SIGNATURE"
	modeBill              = "BILL"
	modePlugin            = "INSTALL_PLUGIN"
	modeMCP               = "MCP_OAUTH2"
	modeMCPGeneric        = "MCP_OAUTH2_GENERIC"
	modeTBA               = "TBA"
	modeAWS               = "AWS_SIGV4"
	modeApp               = "APP"
	modeCustom            = "CUSTOM"
)

// spec is an entry made ready for use: templates parsed, words turned into rules.
type spec struct {
	name     string
	entry    *entry
	mode     string
	facts    *broker.Facts
	fields   []*field          // of the form, in its order
	config   map[string]*field // connection config that the entry knows, asked for or not
	defaults map[string]string // of connection config
	settings []*field          // of the integration; none: it may have any
	urls     []*urlTemplate    // all of them: each can have connection config in its host

	authorize, token, refresh, api *urlTemplate

	oauth1        *oauth1Spec   // nil: another mode
	twoStep       *twoStepSpec  // nil: another mode
	signed        *signedToken  // of JWT; nil: another mode
	tokenLife     time.Duration // of SIGNATURE
	mcp           *mcpSpec      // nil: another mode
	installs      *installSpec  // of CUSTOM; nil: another mode
	authParams    []namedTemplate
	tokenParams   []namedTemplate
	refreshParams []namedTemplate
	tokenAuth     tokenAuth
	assertion     []namedTemplate // what a client's assertion claims otherwise than usual
	sendsPKCE     bool

	lengthen, relengthen *trade // nil: refresh tokens, if anything

	rules *answerRules

	headers []namedTemplate
	query   []namedTemplate
	body    *tree // laid over each request's; nil: nothing is
	retry   broker.RetryRules

	revoke     *revokeSpec
	identity   *callSpec
	account    *template // the account's id where it is connection config or a credential
	after      *callSpec
	verify     *verifySpec
	unusedPart []string // what has no effect
}

// namedTemplate is a parameter or a header.
type namedTemplate struct {
	name string
	*template
}

// WithoutEffect begins what [Options.Warn] is told; the parts follow, with commas between them.
const WithoutEffect = "without effect here: "

// ignored says, in one line, what in the entry has no effect; "" if all has.
func (s *spec) ignored() string {
	if len(s.unusedPart) == 0 {
		return ""
	}
	return WithoutEffect + strings.Join(s.unusedPart, ", ")
}

// compiler turns an entry into a spec and gathers what is wrong.
type compiler struct {
	*spec
	node     *yaml.Node
	deps     *deps
	builtin  bool
	problems yaml.LoadErrors
	reasons  []string // why it cannot be used
}

// compile makes an entry ready. In our own catalogue everything has to be right; in an overlay, which can be another
// program's catalogue, a template that cannot work here makes its entry unusable and leaves the others alone.
func compile(name string, e *entry, n *yaml.Node, d *deps, builtin bool) (*spec, error) {
	c := &compiler{
		spec: &spec{name: name, entry: e, mode: e.AuthMode, config: map[string]*field{}, defaults: map[string]string{}},
		node: n, deps: d, builtin: builtin,
	}
	c.general()
	c.declareServer()
	c.compileAllFields()
	c.scripts()
	if reason := unbuiltReason(name, e, builtin); reason != "" {
		if len(c.reasons) == 0 { // the entry's own says it better
			c.reasons = append(c.reasons, reason)
		}
	} else {
		c.compileProxy()
		c.compileToken()
		c.compileAuthorization()
		c.compileOAuth1()
		c.compileTBA()
		c.compileAWS()
		c.compileApp()
		c.compileCustom()
		c.compileTwoStep()
		c.compileJWT()
		c.compileWSSE()
		c.compileBill()
		c.compileMCP()
		c.compileIdentity()
		c.compileRevocation()
		c.compileHosts()
	}
	c.facts = c.makeFacts()
	if len(c.problems.Errors) > 0 {
		return nil, &c.problems
	}
	return c.spec, nil
}

// fail records a problem at a path of keys.
func (c *compiler) fail(path []string, format string, args ...any) {
	at := locate(c.node, path)
	c.problems.Errors = append(c.problems.Errors, &yaml.LoadError{
		Message: strings.Join(path, ".") + ": " + fmt.Sprintf(format, args...),
		Mark:    yaml.Mark{Line: at.Line, Column: at.Column},
	})
}

// broken records a part that cannot work here: a problem in our catalogue, a reason not to use the entry in another.
func (c *compiler) broken(path []string, format string, args ...any) {
	if c.builtin {
		c.fail(path, format, args...)
		return
	}
	c.reasons = append(c.reasons, strings.Join(path, ".")+": "+fmt.Sprintf(format, args...))
}

// ignore records a part without effect.
func (c *compiler) ignore(what string) { c.unusedPart = append(c.unusedPart, what) }

// oneOf checks the word at a dotted path of keys.
func (c *compiler) oneOf(key, value string, words ...string) {
	if value != "" && !slices.Contains(words, value) {
		c.fail(strings.Split(key, "."), "%s is not one of %s", value, strings.Join(words, ", "))
	}
}

func (c *compiler) general() {
	e := c.entry
	if e.DisplayName == "" {
		c.fail([]string{"display_name"}, "is missing")
	}
	if !slices.Contains(allModes, e.AuthMode) {
		c.fail([]string{"auth_mode"}, "%q is not one of %s", e.AuthMode, strings.Join(allModes, ", "))
	}
	if c.builtin && (e.Docs == "" || len(e.Categories) == 0) {
		c.fail([]string{"docs"}, "docs or categories are missing")
	}
	c.oneOf("body_format", e.BodyFormat, "form", "json", "query", "xml")
	c.oneOf("authorization_method", e.AuthorizationMethod, "header", "body")
	c.oneOf("token_request_auth_method", e.TokenRequestAuthMethod, "basic", "custom", "private_key_jwt")
	c.oneOf("token_auth_method", e.TokenAuthMethod, "client_secret_post", "client_secret_basic", "private_key_jwt", "none")
	c.oneOf("pkce", e.PKCE, "S256", "none", "unknown", "forbidden")
	c.oneOf("refresh_rotation", e.RefreshRotation, "yes", "no", "configurable", "unknown")
	c.oneOf("expires_in_unit", e.ExpiresInUnit, "milliseconds", "seconds")
	if e.PKCE == "forbidden" && e.PKCEReason == "" {
		c.fail([]string{"pkce"}, "forbidden needs a pkce_reason")
	}
	c.lacking()
	c.notices()
	if !lifetimeWord().MatchString(e.AccessTokenLifetime) {
		c.fail([]string{"access_token_lifetime"}, "is neither seconds nor one of never, configurable, unknown")
	}
	if e.Usable != nil && !*e.Usable {
		if e.UnusableReason == "" {
			c.fail([]string{"usable"}, "false needs an unusable_reason")
		}
		c.reasons = append(c.reasons, e.UnusableReason)
	}
}

// lackable is what an entry may say that it lacks.
var lackable = []string{"scopes", "revocation", "identity", "verification", "host_pattern", "base_url", "rate_limit"}

// lacking checks what the entry says that cannot be had, each with a reason.
func (c *compiler) lacking() {
	for _, x := range c.entry.Lacking {
		c.oneOf("lacking", x.Key, lackable...)
		if strings.TrimSpace(x.Value) == "" {
			c.fail([]string{"lacking", x.Key}, "needs a reason")
		}
	}
}

// notices checks what is for people alone: dated warnings and the form of a client id.
func (c *compiler) notices() {
	for _, w := range c.entry.Warnings {
		if _, err := time.Parse(time.DateOnly, w.Date); err != nil || strings.TrimSpace(w.Text) == "" {
			c.fail([]string{"warnings"}, "a warning needs a date such as 2027-01-31, and a text")
		}
	}
	if p := c.entry.ClientIDPattern; p != "" {
		if _, err := anchored(p); err != nil {
			c.fail([]string{"client_id_pattern"}, "is not a regular expression of RE2")
		}
	}
}

var lifetimeWord = expression(`^(?:[1-9][0-9]*|never|configurable|unknown|)$`)

// scripts notes the code of another program that an entry names. Ours is named by nobody.
func (c *compiler) scripts() {
	for _, s := range []struct{ key, name string }{
		{"post_connection_script", c.entry.PostConnectionScript},
		{"credentials_verification_script", c.entry.VerificationScript},
		{"pre_connection_deletion_script", c.entry.PreDeletionScript},
		{"pre_connection_creation_script", c.entry.PreCreationScript},
		{"webhook_routing_script", c.entry.WebhookScript},
	} {
		if s.name != "" {
			c.ignore(s.key)
		}
	}
}

// compileAllFields reads what is asked for, and notes what connection config can hold besides.
func (c *compiler) compileAllFields() {
	e := c.entry
	config := c.compileFields(broker.ConfigField, "connection_config", e.ConnectionConfig)
	credentials := c.compileFields(broker.CredentialField, "credentials", e.Credentials)
	c.settings = c.compileFields(broker.ConfigField, "integration_config", e.IntegrationConfig)
	credentials = append(credentials, c.furtherCredentials(credentials)...)
	c.fields = formOrder(c.baseFields(), config, credentials)
	for _, f := range config {
		c.config[f.Name] = f
		if f.HasDefault && f.Default != "" {
			c.defaults[f.Name] = f.Default
		}
	}
	for _, names := range [][]string{e.TokenMetadata, e.RedirectMetadata} {
		for _, name := range names {
			c.known(name, true)
		}
	}
	for _, p := range e.PostConnection.Capture {
		c.known(p.Key, true)
	}
	if c.mode == modeClientCredentials {
		c.known("oauth_scopes", true) // in place of the integration's, decided by the app's backend
	}
}

// assertionOption stands before the names of what is asked for to sign assertions with, in templates as in credentials.
const assertionOption = "assertionOption."

// furtherCredentials are what a sign-in asks for besides the entry's credentials: what its assertions are signed with, and
// what its integration leaves open. The former is kept like a password, because renewals need it too.
func (c *compiler) furtherCredentials(credentials []*field) []*field {
	if c.mode != modeTwoStep {
		return nil
	}
	var out []*field
	for _, f := range c.settings {
		if !slices.ContainsFunc(credentials, func(x *field) bool { return x.Name == f.Name }) {
			typed := *f
			typed.Section = broker.CredentialField
			out = append(out, &typed)
		}
	}
	for _, f := range c.compileFields(broker.CredentialField, "assertion_option", c.entry.AssertionOption) {
		f.Name = assertionOption + f.Name
		out = append(out, f)
	}
	return out
}

// known lets connection config have a value that no field declares.
func (c *compiler) known(name string, automated bool) {
	if c.config[name] == nil {
		c.config[name] = &field{Field: broker.Field{Name: name, Section: broker.ConfigField, Automated: automated}}
	}
}

// template parses a template; nil if it is empty or cannot work here.
func (c *compiler) template(path []string, s string) *template {
	if s == "" {
		return nil
	}
	t, err := parseTemplate(s)
	if err != nil {
		c.broken(path, "%v", err)
		return nil
	}
	c.checkPlaceholders(path, t)
	return t
}

// checkPlaceholders finds placeholders that nothing here gives a value.
func (c *compiler) checkPlaceholders(path []string, t *template) {
	if name := t.unsupported(); name != "" {
		c.broken(path, "${%s} is not supported", name)
	}
	for _, ref := range t.refs() {
		if name, ok := strings.CutPrefix(ref, "connectionConfig."); ok {
			c.known(name, false)
		} else if name, ok := strings.CutPrefix(ref, settingPrefix); ok && !c.hasSetting(name) {
			c.broken(path, "${%s} is no field of integration_config", ref)
		} else if slices.Contains(requestWords, ref) {
			c.broken(path, "${%s} is not supported: it takes the request that is being made", ref)
		}
	}
}

// settingPrefix begins the placeholders for settings of the integration.
const settingPrefix = "integrationConfig."

func (c *compiler) hasSetting(name string) bool {
	return slices.ContainsFunc(c.entry.IntegrationConfig, func(f namedField) bool { return f.Name == name })
}

// requestWords are placeholders for parts of the request that is being made.
var requestWords = []string{
	"method", "endpoint", "host", "path", "params", "urlCanonicalParams", "bodyCanonicalParams", "contentType",
}

func (c *compiler) named(path []string, ps pairs) []namedTemplate {
	var out []namedTemplate
	for _, p := range ps {
		t := c.template(append(slices.Clone(path), p.Key), p.Value)
		if t == nil {
			t = &template{alts: []sequence{nil}} // an empty value is one
		}
		out = append(out, namedTemplate{p.Key, t})
	}
	return out
}

// url parses a URL template; nil if it is empty or cannot work here.
func (c *compiler) url(path []string, s string) *urlTemplate {
	if s == "" {
		return nil
	}
	t, err := parseURLTemplate(s)
	if err != nil {
		c.broken(path, "%v", err)
		return nil
	}
	c.checkPlaceholders(path, t.template)
	for i, alt := range t.alts {
		if t.hosts[i].fixed() && len(alt) == 1 {
			if _, err := c.deps.checkURL(alt[0].text, true); err != nil {
				c.broken(path, "%s is not an address that may be used", alt[0].text)
			}
		} else if first := alt[0].text; first != "" && !strings.HasPrefix(first, "https://") && c.builtin {
			c.fail(path, "the address is not https")
		}
	}
	c.urls = append(c.urls, t)
	return t
}

// compileHosts gives each URL the entry's host pattern and decides which hosts are free.
func (c *compiler) compileHosts() {
	var pattern *regexp.Regexp
	if p := c.entry.HostPattern; p != "" {
		re, err := regexp.Compile(p)
		if err != nil || !strings.HasPrefix(p, "^") || !strings.HasSuffix(p, "$") {
			c.fail([]string{"host_pattern"}, "is not a regular expression from ^ to $")
		}
		pattern = re
	}
	closed := func(name string) bool {
		f := c.config[name]
		return f != nil && f.closed()
	}
	for _, t := range c.urls {
		t.pattern = pattern
		for i := range t.hosts {
			t.hosts[i].isFree = pattern == nil && t.hosts[i].free(closed)
		}
	}
}

// free reports whether a URL's host can be chosen by whoever gives the values.
func (t *urlTemplate) free() bool {
	return t != nil && slices.ContainsFunc(t.hosts, func(f hostForm) bool { return f.isFree })
}

// originOf gives scheme and host of a URL, "" of what is none.
func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}

// makeFacts gathers what pages, APIs and the broker's rules want to know.
func (c *compiler) makeFacts() *broker.Facts {
	e := c.entry
	buffer := time.Duration(e.ExpirationBuffer) * time.Second
	f := &broker.Facts{
		Name: c.name, DisplayName: e.DisplayName, Mode: e.AuthMode, CredentialType: credentialType(e),
		Docs: e.Docs, DocsConnect: e.DocsConnect, Categories: e.Categories, DefaultScopes: e.DefaultScopes,
		Template:    appendJSON(nil, c.node),
		Interactive: slices.Contains(interactiveModes, e.AuthMode), NeedsClient: slices.Contains(clientModes, e.AuthMode),
		Usable: len(c.reasons) == 0, UnusableReason: strings.Join(c.reasons, "; "),
		AuthorizationURL: c.authorize.static(), TokenOrigin: originOf(c.token.static()), FreeHost: c.authorize.free() || c.isMCP(),
		RefreshBuffer: buffer, ServesBuffer: buffer, RefreshIdle: time.Duration(e.RefreshTokenIdle) * time.Second,
		OnDemand: e.AuthMode == modeJWT || e.AuthMode == modeSignature, RevokesGrant: e.Revocation.WholeGrant, HasProxy: e.Proxy != nil, KeepsRefresh: e.AuthMode == modeOAuth2,
		ForwardsWebhooks: e.WebhookScript != "", Issuer: e.Issuer,
	}
	if c.isMCP() {
		f.NeedsClient, f.KeepsRefresh = e.ClientRegistration == "static", true
	}
	if c.mode == modeMCPGeneric {
		f.ServerField, f.HasProxy = serverField, true
	}
	if e.CodeParam != "code" {
		f.CodeParam = e.CodeParam
	}
	if e.AuthMode == modePlugin {
		f.CodeParam = broker.PluginStateParam // all that comes back is what was sent
	}
	if e.AuthMode == modeApp {
		f.CodeParam = broker.InstallationParam
	}
	if c.mode == modeCustom {
		f.InstalledLater, f.RevokesOwn, f.SecretSettings = true, true, []string{settingPrivateKey}
	}
	if e.AuthMode == modeAWS && len(c.reasons) == 0 {
		x := c.config[awsExternalID].Field
		x.Title = cmp.Or(x.Title, "External ID")
		f.Assigned, f.SecretSettings = &x, []string{awsSecret}
	}
	for _, x := range c.settings {
		if (x.Secret || slices.Contains(secretNames, x.Name)) && !slices.Contains(f.SecretSettings, x.Name) {
			f.SecretSettings = append(f.SecretSettings, x.Name)
		}
	}
	for _, x := range c.fields {
		f.Fields = append(f.Fields, x.Field)
	}
	return f
}
