package providers

import (
	"fmt"

	"go.yaml.in/yaml/v4"
)

// entry is a provider as the catalogue writes it. Fields of type yaml.Node are read by no mode that exists here; they are
// listed so that a name that nobody knows is still an error.
type entry struct {
	// What it is.
	DisplayName        string    `yaml:"display_name"`
	Categories         list      `yaml:"categories"`
	AuthMode           string    `yaml:"auth_mode"`
	Docs               string    `yaml:"docs"`
	DocsConnect        string    `yaml:"docs_connect"`
	SetupGuideURL      string    `yaml:"setup_guide_url"`
	Alias              string    `yaml:"alias"`
	Installation       string    `yaml:"installation"`
	AuthType           string    `yaml:"auth_type"`
	RequireCertificate bool      `yaml:"require_client_certificate"`
	DefaultScopes      list      `yaml:"default_scopes"`
	Usable             *bool     `yaml:"usable"`
	UnusableReason     string    `yaml:"unusable_reason"`
	Quirks             list      `yaml:"quirks"`
	Evidence           yaml.Node `yaml:"evidence"`
	Lacking            pairs     `yaml:"lacking"`
	Warnings           []dated   `yaml:"warnings"`
	ClientIDPattern    string    `yaml:"client_id_pattern"`

	// What is asked for.
	ConnectionConfig  fieldMap `yaml:"connection_config"`
	Credentials       fieldMap `yaml:"credentials"`
	IntegrationConfig fieldMap `yaml:"integration_config"`
	AssertionOption   fieldMap `yaml:"assertion_option"`

	// The authorization request.
	AuthorizationURL   string    `yaml:"authorization_url"`
	AuthorizationParam pairs     `yaml:"authorization_params"`
	ScopeSeparator     string    `yaml:"scope_separator"`
	DisablePKCE        bool      `yaml:"disable_pkce"`
	PKCE               string    `yaml:"pkce"`
	PKCEReason         string    `yaml:"pkce_reason"`
	SkipEncode         list      `yaml:"authorization_url_skip_encode"`
	SkipEmpty          bool      `yaml:"authorization_url_skip_empty"`
	Replacements       pairs     `yaml:"authorization_url_replacements"`
	Fragment           string    `yaml:"authorization_url_fragment"`
	CodeParam          string    `yaml:"authorization_code_param_in_callback"`
	CodeParamInWebhook string    `yaml:"authorization_code_param_in_webhook"`
	RequestURL         string    `yaml:"request_url"`
	RequestParams      yaml.Node `yaml:"request_params"`
	RequestMethod      string    `yaml:"request_http_method"`
	TokenHTTPMethod    string    `yaml:"token_http_method"`
	SignatureMethod    string    `yaml:"signature_method"`
	Realm              string    `yaml:"realm"`
	Auth               yaml.Node `yaml:"auth"`
	AccessTokenURL     string    `yaml:"access_token_url"`

	// The token request.
	TokenURL               tokenURL  `yaml:"token_url"`
	TokenURLSkipEncode     list      `yaml:"token_url_skip_encode"`
	TokenParams            yaml.Node `yaml:"token_params"` // nested in some modes
	TokenRequestAuthMethod string    `yaml:"token_request_auth_method"`
	TokenAuthMethod        string    `yaml:"token_auth_method"`
	AuthorizationMethod    string    `yaml:"authorization_method"`
	BodyFormat             string    `yaml:"body_format"`
	AlternateTokenPath     string    `yaml:"alternate_access_token_response_path"`
	ExpiresInUnit          string    `yaml:"expires_in_unit"`
	ExpirationBuffer       int       `yaml:"token_expiration_buffer"`
	RefreshParams          yaml.Node `yaml:"refresh_params"`
	RefreshURL             string    `yaml:"refresh_url"`
	TokenParamNames        pairs     `yaml:"token_param_names"`
	ClientAssertion        pairs     `yaml:"client_assertion"`

	LongLived            *longLivedEntry `yaml:"long_lived_token"`
	TokenHeaders         yaml.Node       `yaml:"token_headers"`
	RefreshRotation      string          `yaml:"refresh_rotation"`
	RefreshGrace         int             `yaml:"refresh_grace"`
	AccessTokenLifetime  string          `yaml:"access_token_lifetime"`
	RefreshTokenLifetime int             `yaml:"refresh_token_lifetime"`
	RefreshTokenIdle     int             `yaml:"refresh_token_idle"`

	// What answers mean.
	ErrorPredicates     []predicate `yaml:"error_predicates"`
	PermanentErrors     list        `yaml:"permanent_errors"`
	ClientErrors        list        `yaml:"client_errors"`
	TokenMetadata       list        `yaml:"token_response_metadata"`
	RedirectMetadata    list        `yaml:"redirect_uri_metadata"`
	WebhookMetadata     yaml.Node   `yaml:"webhook_response_metadata"`
	ConnectionDocs      yaml.Node   `yaml:"connection_configuration"`
	RefreshMetadata     yaml.Node   `yaml:"refresh_token_response_metadata"`
	RevocationURL       string      `yaml:"revocation_url"`
	Revocation          revocation  `yaml:"revocation"`
	IdentityEndpoint    string      `yaml:"identity_endpoint"`
	IdentityPath        string      `yaml:"identity_path"`
	PostConnection      afterwards  `yaml:"post_connection"`
	HostPattern         string      `yaml:"host_pattern"`
	Issuer              string      `yaml:"issuer"`
	RateLimit           rateLimit   `yaml:"rate_limit"`
	Proxy               *proxyEntry `yaml:"proxy"`
	TokenResponse       answerEntry `yaml:"token_response"`
	TokenExpiresInMS    int64       `yaml:"token_expires_in_ms"`
	TokenRequestMethod  string      `yaml:"token_request_method"`
	TokenAnswerHeaders  list        `yaml:"token_response_headers"`
	RefreshTokenParams  yaml.Node   `yaml:"refresh_token_params"`
	RefreshTokenHeaders yaml.Node   `yaml:"refresh_token_headers"`
	AdditionalSteps     []stepEntry `yaml:"additional_steps"`
	Signature           signature   `yaml:"signature"`
	Token               ownToken    `yaml:"token"`
	Assertion           yaml.Node   `yaml:"assertion"`
	ProxyHeaderAuth     yaml.Node   `yaml:"proxy_header_authorization"`
	ClientRegistration  string      `yaml:"client_registration"`
	RegistrationURL     string      `yaml:"registration_url"`
	RegistrationParams  yaml.Node   `yaml:"registration_params"`
	Resource            string      `yaml:"resource"`

	// Scripts and webhooks: names of another broker's code.
	PostConnectionScript string    `yaml:"post_connection_script"`
	VerificationScript   string    `yaml:"credentials_verification_script"`
	PreDeletionScript    string    `yaml:"pre_connection_deletion_script"`
	PreCreationScript    string    `yaml:"pre_connection_creation_script"`
	WebhookScript        string    `yaml:"webhook_routing_script"`
	WebhookOwnSecret     bool      `yaml:"webhook_user_defined_secret"`
	WebhookQuery         yaml.Node `yaml:"webhook_allowed_query_params"`
	DecodeURL            yaml.Node `yaml:"decode_url"`
}

// proxyEntry says where the API is and how the credential goes into a request.
type proxyEntry struct {
	BaseURL          string        `yaml:"base_url"`
	Headers          pairs         `yaml:"headers"`
	Query            pairs         `yaml:"query"`
	Body             yaml.Node     `yaml:"body"`
	ConnectionConfig yaml.Node     `yaml:"connection_config"`
	Decompress       bool          `yaml:"decompress"`
	ForwardHeaders   bool          `yaml:"forward_headers_on_redirect"`
	Retry            rateLimit     `yaml:"retry"`
	Paginate         yaml.Node     `yaml:"paginate"`
	Verification     *verification `yaml:"verification"`
}

// rateLimit names the headers by which a provider says when to come back.
type rateLimit struct {
	At        list      `yaml:"at"`
	After     list      `yaml:"after"`
	Remaining string    `yaml:"remaining"`
	ErrorCode list      `yaml:"error_code"`
	InBody    yaml.Node `yaml:"in_body"`
}

// verification is a call that tells whether a credential works.
type verification struct {
	Endpoints       list      `yaml:"endpoints"`
	Method          string    `yaml:"method"`
	Headers         pairs     `yaml:"headers"`
	Data            yaml.Node `yaml:"data"`
	BaseURLOverride string    `yaml:"base_url_override"`
}

// revocation is how a provider ends a grant, where that differs from RFC 7009.
type revocation struct {
	Method     string `yaml:"method"`
	Style      string `yaml:"style"`
	Auth       string `yaml:"auth"`
	TokenParam string `yaml:"token_param"`
	BodyFormat string `yaml:"body_format"`
	Params     pairs  `yaml:"params"`
	Headers    pairs  `yaml:"headers"`
	WholeGrant bool   `yaml:"whole_grant"`
	Tokens     *list  `yaml:"tokens"`
}

// afterwards is the call that is made after a grant, for what the provider tells only then.
type afterwards struct {
	Request string `yaml:"request"`
	Headers pairs  `yaml:"headers"`
	Capture pairs  `yaml:"capture"`
}

// predicate recognises an answer that is an error whatever its HTTP status says.
type predicate struct {
	Path     string    `yaml:"path"`
	Equals   yaml.Node `yaml:"equals"`
	Differs  yaml.Node `yaml:"differs"`
	Present  *bool     `yaml:"present"`
	CodePath string    `yaml:"code_path"`
}

// answerEntry says where in the last answer of a sign-in its token stands. An empty path is the whole body.
type answerEntry struct {
	Token      string `yaml:"token"`
	Expiration string `yaml:"token_expiration"`
	Strategy   string `yaml:"token_expiration_strategy"`
	Refresh    string `yaml:"refresh_token"`
}

// stepEntry is a request of a sign-in that follows on the first.
type stepEntry struct {
	URL        string    `yaml:"token_url"`
	Params     yaml.Node `yaml:"token_params"`
	Headers    yaml.Node `yaml:"token_headers"`
	Method     string    `yaml:"token_request_method"`
	BodyFormat string    `yaml:"body_format"`
}

// signature is how a token that we make is signed.
type signature struct {
	Protocol       string `yaml:"protocol"`
	SecretEncoding string `yaml:"hmac_secret_encoding"`
}

// ownToken is a token that we make.
type ownToken struct {
	SigningKey  string    `yaml:"signing_key"`
	ExpiresInMS int64     `yaml:"expires_in_ms"`
	Header      yaml.Node `yaml:"header"`
	Payload     yaml.Node `yaml:"payload"`
}

// dated is something that changes at a provider on a day.
type dated struct {
	Date string `yaml:"date"`
	Text string `yaml:"text"`
	When string `yaml:"when"` // counts only where an address of the entry holds this
}

// fieldEntry is one thing that somebody is asked for.
type fieldEntry struct {
	Type        string    `yaml:"type"`
	Title       string    `yaml:"title"`
	Description string    `yaml:"description"`
	Example     string    `yaml:"example"`
	DocSection  string    `yaml:"doc_section"`
	Pattern     string    `yaml:"pattern"`
	Format      string    `yaml:"format"`
	Enum        list      `yaml:"enum"`
	Prefix      string    `yaml:"prefix"`
	Suffix      string    `yaml:"suffix"`
	Order       *int      `yaml:"order"`
	Optional    bool      `yaml:"optional"`
	Automated   bool      `yaml:"automated"`
	Default     *string   `yaml:"default_value"`
	Hidden      bool      `yaml:"hidden"`
	Secret      bool      `yaml:"secret"`
	Warnings    yaml.Node `yaml:"warnings"`
	VisibleWhen yaml.Node `yaml:"visible_when"`
}

// fieldMap keeps its fields in the order of the file.
type fieldMap []namedField

type namedField struct {
	Name string
	fieldEntry
}

// UnmarshalYAML reads a mapping of names to fields.
func (m *fieldMap) UnmarshalYAML(n *yaml.Node) error {
	return eachPair(n, func(key string, value *yaml.Node) error {
		f := namedField{Name: key}
		*m = append(*m, f)
		return value.Load(&(*m)[len(*m)-1].fieldEntry, strictly)
	})
}

// pairs is a mapping of names to text that keeps its order. Numbers and booleans are the text that was written.
type pairs []pair

type pair struct{ Key, Value string }

// UnmarshalYAML reads a mapping of names to scalars.
func (p *pairs) UnmarshalYAML(n *yaml.Node) error {
	return eachPair(n, func(key string, value *yaml.Node) error {
		if value.Kind != yaml.ScalarNode {
			return faults(value, "%s: expected text, a number or a boolean", key)
		}
		*p = append(*p, pair{key, value.Value})
		return nil
	})
}

// get gives the value of key.
func (p pairs) get(key string) string {
	for _, x := range p {
		if x.Key == key {
			return x.Value
		}
	}
	return ""
}

// list is a sequence of text; a single text is a list of one.
type list []string

// UnmarshalYAML reads a sequence of scalars, or one scalar.
func (l *list) UnmarshalYAML(n *yaml.Node) error {
	*l = list{} // an empty list is not an absent one
	items := n.Content
	if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" {
		items = []*yaml.Node{n}
	} else if n.Kind != yaml.SequenceNode {
		return faults(n, "expected a list")
	}
	for _, item := range items {
		if item.Kind != yaml.ScalarNode {
			return faults(item, "expected text")
		}
		*l = append(*l, item.Value)
	}
	return nil
}

// tokenURL is a template, or one template per mode where a provider has two modes in one.
type tokenURL struct {
	URL    string
	ByMode pairs
}

// UnmarshalYAML reads a scalar or a mapping.
func (t *tokenURL) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		t.URL = n.Value
		return nil
	}
	return t.ByMode.UnmarshalYAML(n)
}

// eachPair calls do for each pair of a mapping and gathers what is wrong. A key may stand once.
func eachPair(n *yaml.Node, do func(key string, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return faults(n, "expected a mapping")
	}
	all := &yaml.LoadErrors{}
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		var err error
		switch {
		case key.Kind != yaml.ScalarNode:
			err = faults(key, "expected a name")
		case seen[key.Value]:
			err = faults(key, "%s stands here twice", key.Value)
		default:
			seen[key.Value] = true
			err = do(key.Value, n.Content[i+1])
		}
		if err != nil {
			all.Errors = append(all.Errors, loadErrors(err, n.Content[i+1])...)
		}
	}
	if len(all.Errors) > 0 {
		return all
	}
	return nil
}

// faults is an error at a node, in the form in which the YAML library gathers them.
func faults(at *yaml.Node, format string, args ...any) error {
	return &yaml.LoadErrors{Errors: []*yaml.LoadError{{
		Message: fmt.Sprintf(format, args...),
		Mark:    yaml.Mark{Line: at.Line, Column: at.Column},
	}}}
}
