package providers

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/coatcheck/coatcheck/broker"
)

func TestBuiltinCatalogueIsRight(t *testing.T) {
	c := loadBuiltin(t)
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	for _, name := range c.Names() {
		p, ok := c.Provider(name)
		if !ok {
			t.Fatalf("%s is listed and not found", name)
		}
		f := p.Facts()
		if f.Name != name || f.DisplayName == "" || !json.Valid(f.Template) {
			t.Errorf("%s: facts are incomplete: %+v", name, f)
		}
		if !f.Usable && f.UnusableReason == "" {
			t.Errorf("%s: not usable, and nobody knows why", name)
		}
	}
}

// The built-in catalogue is cut at its keys and never parsed whole, so both ways have to agree.
func TestSplitAgreesWithTheParser(t *testing.T) {
	data := builtin(t)
	chunks, ok := split(data)
	if !ok {
		t.Fatal("the built-in catalogue cannot be cut")
	}
	l, ps := readWhole(&layer{entries: map[string]func() (*yaml.Node, error){}}, File{Data: data})
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	if len(chunks) != len(l.entries) {
		t.Fatalf("cut into %d, parsed into %d", len(chunks), len(l.entries))
	}
	for _, ch := range chunks {
		n, err := parse(ch.text, ch.line)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := l.entries[ch.name]()
		if err != nil {
			t.Fatal(err)
		}
		piece := child(n, ch.name)
		if string(appendJSON(nil, piece)) != string(appendJSON(nil, whole)) || piece.Line != whole.Line {
			t.Errorf("%s: the piece differs from the whole", ch.name)
		}
	}
}

func TestEveryFieldOfTheCommonFormatLoads(t *testing.T) {
	data, err := os.ReadFile("testdata/common-format.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, string(data))
	warned := map[string]string{}
	o.Warn = func(name, message string) {
		if warned[name] != "" {
			t.Errorf("%s is warned about twice", name)
		}
		warned[name] = message
	}
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	usable := []string{"acme", "acme-again", "acme-early", "aws", "basic-provider", "bill", "body-provider", "cc-assertion", "cc-certificate", "cc-provider", "jwt", "key-provider", "mcp", "mcp-any", "none", "oauth1", "plugin", "tba", "two-step", "wsse"}
	var got []string
	for _, name := range c.Names() {
		p, _ := c.Provider(name)
		f := p.Facts()
		if f.Usable {
			got = append(got, name)
			continue
		}
		if f.UnusableReason == "" {
			t.Errorf("%s: not usable without a reason", name)
		}
		if _, err := p.Present(&broker.Holding{Client: client, Material: &broker.Material{}}); err == nil {
			t.Errorf("%s: presents although it is not usable", name)
		}
		if p.CheckMaterial(&broker.Material{Access: broker.NewSecret("x")}) == nil {
			t.Errorf("%s: takes a credential although it is not usable", name)
		}
		if _, ok := p.(broker.Authorizer); ok {
			t.Errorf("%s: authorizes although it is not usable", name)
		}
	}
	if !slices.Equal(got, usable) {
		t.Errorf("usable are %v, want %v", got, usable)
	}
	want := "without effect here: the pattern of lookahead, post_connection_script, pre_connection_deletion_script, " +
		"pre_connection_creation_script, webhook_routing_script"
	if warned["acme"] != want {
		t.Errorf("acme: warned %q", warned["acme"])
	}
	if warned["key-provider"] == "" || warned["basic-provider"] != "" {
		t.Errorf("warnings: %v", warned)
	}
}

func TestFactsOfAnEntry(t *testing.T) {
	data, err := os.ReadFile("testdata/common-format.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := oauth(t, load(t, string(data)), "acme").Facts()
	if !f.Interactive || !f.NeedsClient || !f.KeepsRefresh || !f.HasProxy || !f.ForwardsWebhooks || f.CodeParam != "auth_code" {
		t.Errorf("facts: %+v", f)
	}
	if f.RefreshBuffer.Seconds() != 30 || f.ServesBuffer != f.RefreshBuffer {
		t.Errorf("buffers: %v %v", f.RefreshBuffer, f.ServesBuffer)
	}
	if f.AuthorizationURL != "" || f.TokenOrigin != "" || f.FreeHost {
		t.Errorf("addresses: %q %q %v", f.AuthorizationURL, f.TokenOrigin, f.FreeHost)
	}
	var names []string
	for _, x := range f.Fields {
		names = append(names, x.Name)
	}
	if want := []string{"subdomain", "instance_url", "region", "lookahead"}; !slices.Equal(names, want) {
		t.Errorf("fields: %v", names)
	}
	key := provider[*apiKey](t, load(t, string(data)), "key-provider").Facts()
	if len(key.Fields) != 1 || !key.Fields[0].Secret || key.Fields[0].Pattern != "^[0-9a-f]{32}$" || key.Interactive || key.NeedsClient {
		t.Errorf("fields of a key: %+v", key.Fields)
	}
	if key.TokenOrigin != "" || key.CredentialType != "API_KEY" {
		t.Errorf("facts of a key: %+v", key)
	}
}

func TestFormOrder(t *testing.T) {
	c := load(t, `
x:
  display_name: X
  auth_mode: BASIC
  connection_config:
    last: {title: Last, description: d}
    second: {title: Second, description: d, order: 2}
    first: {title: First, description: d, order: 1}
  credentials:
    extra: {title: Extra, description: d}
    password: {title: My password, description: d, optional: true}
`)
	var got []string
	for _, f := range provider[*basic](t, c, "x").Facts().Fields {
		got = append(got, fmt.Sprint(f.Name, ":", f.Title, ":", f.Secret))
	}
	want := []string{
		"first:First:false", "second:Second:false", "username:User name:false", "password:My password:true", "extra:Extra:false", "last:Last:false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestAllProblemsAreReportedWithTheirPlace(t *testing.T) {
	_, err := Load(options(t, `# comment
one:
  display_name: One
  auth_mode: OAUTH2
  authorization_url: https://one.example/authorize
  token_url: https://one.example/token
  authorization_uri: typo
  disable_pkce: perhaps
  proxy:
    base_url: https://one.example
    hedaers: {}
two:
  auth_mode: NOPE
  access_token_lifetime: soon
three:
  alias: nobody
  display_name: Three
four:
  display_name: Four
  auth_mode: API_KEY
  auth_mode: BASIC
  connection_config:
    x: {title: X, description: d}
    x: {title: Y, description: d}
five:
  display_name: Five
  auth_mode: NONE
  connection_config:
    x: {title: X, description: d, format: ipv9}
`))
	if err == nil {
		t.Fatal("loaded")
	}
	want := strings.TrimSpace(`
overlay.yaml:7:3: one: field authorization_uri not found
overlay.yaml:8:17: one: cannot construct !!str ` + "`perhaps`" + ` into bool
overlay.yaml:11:5: one: field hedaers not found
overlay.yaml:13:3: two: display_name: is missing
overlay.yaml:13:14: two: auth_mode: "NOPE" is not one of OAUTH2, OAUTH2_CC, API_KEY, BASIC, NONE, TWO_STEP, JWT, OAUTH1, TBA, APP, CUSTOM, APP_STORE, AWS_SIGV4, SIGNATURE, BILL, TABLEAU, INSTALL_PLUGIN, MCP_OAUTH2, MCP_OAUTH2_GENERIC
overlay.yaml:14:26: two: access_token_lifetime: is neither seconds nor one of never, configurable, unknown
overlay.yaml:16:10: three: there is no nobody that this could be an alias of
overlay.yaml:21:3: four: auth_mode stands here twice
overlay.yaml:24:5: four: x stands here twice
overlay.yaml:29:43: five: connection_config.x.format: there is no format ipv9: hostname, uuid, uri or email`)
	if err.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", err, want)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"twice":          "a:\n  alias: b\na:\n  alias: b\n",
		"list":           "- a\n- b\n",
		"anchor":         "a: &x\n  display_name: A\n  auth_mode: NONE\nb: *x\n",
		"self":           "a:\n  alias: a\n",
		"circle":         "a:\n  alias: b\nb:\n  alias: a\n",
		"name":           "Not_A_Name:\n  display_name: A\n  auth_mode: NONE\n",
		"empty":          "a:\n",
		"scalar":         "a: text\n",
		"syntax":         "a:\n  b: [\n",
		"predicate":      "a:\n  display_name: A\n  auth_mode: NONE\n  error_predicates: [{path: ok}]\n",
		"forbidden":      "a:\n  display_name: A\n  auth_mode: NONE\n  pkce: forbidden\n",
		"unusable":       "a:\n  display_name: A\n  auth_mode: NONE\n  usable: false\n",
		"host pattern":   "a:\n  display_name: A\n  auth_mode: NONE\n  host_pattern: example\n",
		"second entries": "a:\n  display_name: A\n  auth_mode: NONE\n{}\n",
	} {
		if _, err := Load(options(t, text)); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestAliases(t *testing.T) {
	data, err := os.ReadFile("testdata/common-format.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := load(t, string(data))
	again := oauth(t, c, "acme-again")
	if f := again.Facts(); f.DisplayName != "Acme (Again)" || f.Docs != "https://docs.example.com/acme" {
		t.Errorf("facts: %q %q", f.DisplayName, f.Docs)
	}
	// The merge is shallow: the whole proxy section is the alias' own.
	p, err := again.Present(&broker.Holding{Client: client, Material: &broker.Material{Access: broker.NewSecret("t")}})
	if err != nil {
		t.Fatal(err)
	}
	if p.BaseURL.String() != "https://again.acme.example" || len(p.Headers) != 1 {
		t.Errorf("presented %v %d", p.BaseURL, len(p.Headers))
	}
	var template map[string]any
	if err := json.Unmarshal(again.Facts().Template, &template); err != nil {
		t.Fatal(err)
	}
	if template["alias"] != "acme-early" || template["auth_mode"] != "OAUTH2" || template["disable_pkce"] != true {
		t.Errorf("template: %v", template)
	}
}

func TestTemplateKeepsTheOrderOfTheFile(t *testing.T) {
	c := load(t, "x:\n  display_name: X\n  categories: [b, a]\n  auth_mode: NONE\n  token_expiration_buffer: 5\n  disable_pkce: true\n  docs:\n")
	got := string(provider[*none](t, c, "x").Facts().Template)
	want := `{"display_name":"X","categories":["b","a"],"auth_mode":"NONE","token_expiration_buffer":5,"disable_pkce":true,"docs":null}`
	if got != want {
		t.Errorf("got %s", got)
	}
}

const acme = `
acme:
  display_name: Acme
  categories: [crm]
  auth_mode: OAUTH2
  docs: https://docs.example
  authorization_url: https://acme.example/authorize
  token_url: https://acme.example/token
  revocation_url: https://acme.example/revoke
  identity_endpoint: GET https://acme.example/me
  permanent_errors: [gone]
  usable: false
  unusable_reason: Not here.
  proxy:
    base_url: https://acme.example
    headers: {x-ours: "1"}
`

func TestOverlayReplacesAnEntryButNotOurAdditions(t *testing.T) {
	theirs := func(tokenURL, more string) string {
		return "acme:\n  display_name: Theirs\n  auth_mode: OAUTH2\n  authorization_url: https://acme.example/a\n  token_url: " +
			tokenURL + "\n" + more
	}
	for _, tt := range []struct {
		name, overlay     string
		revokes, identify bool
	}{
		{"same host", theirs("https://acme.example/t", ""), true, true},
		{"other host", theirs("https://evil.example/t", ""), false, false},
		{"one of two hosts", theirs("https://acme.example/t || https://evil.example/t", ""), false, false},
		{"other mode", strings.Replace(theirs("https://acme.example/t", ""), "OAUTH2", "OAUTH2_CC", 1), false, false},
		{"switched off", theirs("https://acme.example/t", "  identity_endpoint: \"\"\n"), true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, tt.overlay)
			o.Builtin = []byte(acme)
			c, err := Load(o)
			if err != nil {
				t.Fatal(err)
			}
			p, _ := c.Provider("acme")
			f := p.Facts()
			if f.DisplayName != "Theirs" || f.HasProxy || !f.Usable {
				t.Errorf("the entry was not replaced: %+v", f)
			}
			s := baseOf(p).spec
			if (s.revoke != nil) != tt.revokes || (s.identity != nil) != tt.identify {
				t.Errorf("revokes %v, identifies %v", s.revoke != nil, s.identity != nil)
			}
			if tt.revokes != slices.Contains(s.rules.permanent, "gone") {
				t.Errorf("permanent errors: %v", s.rules.permanent)
			}
		})
	}
}

func TestOverlayExtendsTheEntryOfItsOwnName(t *testing.T) {
	o := options(t, "acme:\n  alias: acme\n  usable: true\n  display_name: Ours too\n", "acme:\n  alias: acme\n  docs: https://third.example\n")
	o.Builtin = []byte(acme)
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	f := oauth(t, c, "acme").Facts()
	if f.DisplayName != "Ours too" || f.Docs != "https://third.example" || !f.HasProxy {
		t.Errorf("facts: %+v", f)
	}
}

func TestUnknownProvider(t *testing.T) {
	if _, ok := load(t, acme).Provider("nobody"); ok {
		t.Error("found")
	}
}

// manyEntries is a catalogue of the size of the largest that is known.
func manyEntries(n int) []byte {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `provider-%d:
    display_name: Provider %[1]d
    categories:
        - crm
    auth_mode: OAUTH2
    authorization_url: https://${connectionConfig.subdomain}.p%[1]d.example/oauth/authorize
    authorization_params:
        response_type: code
        access_type: offline
    token_url: https://${connectionConfig.subdomain}.p%[1]d.example/oauth/token
    token_params:
        grant_type: authorization_code
    refresh_params:
        grant_type: refresh_token
    proxy:
        base_url: https://${connectionConfig.subdomain}.p%[1]d.example
        headers:
            accept: application/json
        retry:
            after: retry-after
    docs: https://docs.example/p%[1]d
    connection_config:
        subdomain:
            type: string
            title: Subdomain
            description: The name in front of your address
            pattern: '^[a-z0-9-]+$'
            order: 1
`, i)
	}
	return []byte(b.String())
}

func BenchmarkLoadBuiltin(b *testing.B) {
	o := options(b)
	o.Builtin = builtin(b)
	for b.Loop() {
		if _, err := Load(o); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoadBuiltinOf1000(b *testing.B) {
	o := options(b)
	o.Builtin = manyEntries(1000)
	for b.Loop() {
		if _, err := Load(o); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoadOverlayOf1000(b *testing.B) {
	o := options(b, string(manyEntries(1000)))
	for b.Loop() {
		if _, err := Load(o); err != nil {
			b.Fatal(err)
		}
	}
}
