package providers

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// compileProxy reads where the API is and how the credential goes into a request.
func (c *compiler) compileProxy() {
	p := c.entry.Proxy
	if p == nil {
		c.retry = c.retryRules(&c.entry.RateLimit)
		return
	}
	if c.api = c.url([]string{"proxy", "base_url"}, p.BaseURL); c.api != nil {
		c.api.keepSlash = true
	}
	c.headers = c.named([]string{"proxy", "headers"}, p.Headers)
	c.query = c.named([]string{"proxy", "query"}, p.Query)
	c.compileBody()
	c.retry = c.retryRules(&p.Retry)
	if len(p.Retry.At)+len(p.Retry.After)+len(p.Retry.ErrorCode) == 0 && p.Retry.Remaining == "" {
		c.retry = c.retryRules(&c.entry.RateLimit)
	}
	c.compileVerification(p.Verification)
	for _, h := range c.headers {
		if !headerName().MatchString(h.name) {
			c.fail([]string{"proxy", "headers", h.name}, "is not the name of a header")
		}
	}
}

var headerName = expression("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

var statusWord = expression(`^(?:([1-5])xx|([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?)$`)

// retryRules reads the headers and statuses that say when to come back.
func (c *compiler) retryRules(r *rateLimit) broker.RetryRules {
	out := broker.RetryRules{At: r.At, After: r.After, Remaining: r.Remaining}
	for _, word := range r.ErrorCode {
		m := statusWord().FindStringSubmatch(word)
		switch {
		case m == nil:
			c.fail([]string{"proxy", "retry", "error_code"}, "%s is not a status such as 429, 5xx or 500-502", word)
		case m[1] != "":
			first, _ := strconv.Atoi(m[1] + "00")
			out.Statuses = append(out.Statuses, broker.StatusRange{From: first, To: first + 99})
		default:
			from, _ := strconv.Atoi(m[2])
			to := from
			if m[3] != "" {
				to, _ = strconv.Atoi(m[3])
			}
			out.Statuses = append(out.Statuses, broker.StatusRange{From: from, To: to})
		}
	}
	return out
}

// Present says how the credential goes into a request: the mode's own header, and over it what the entry has. Whatever
// depends only on the credential is made here, once.
func (b *base) Present(h *broker.Holding) (*broker.Presentation, error) {
	out, err := b.presentTo(h)
	if err != nil {
		return nil, err
	}
	if out.BaseURL, err = b.BaseURL(h); err != nil {
		return nil, err
	}
	return out, nil
}

// presentTo is Present for calls that have an address of their own.
func (b *base) presentTo(h *broker.Holding) (*broker.Presentation, error) {
	out := &broker.Presentation{Retry: b.spec.retry}
	if v := b.modeHeader(h); v != "" {
		if !printable(v) {
			return nil, invalid("access_token", "holds a character that it cannot have")
		}
		out.Headers = append(out.Headers, broker.Header{Key: "Authorization", Values: []string{v}})
	}
	if b.spec.mode == modeBill && len(b.spec.headers) == 0 {
		out.Headers = billHeaders(h.Material)
	}
	var err error
	if out.Certificate, err = b.certificate(h); err != nil {
		return nil, err
	}
	k := b.integrationKey(h)
	if k == nil && len(b.spec.headers) == 0 && len(b.spec.query) == 0 && b.spec.body == nil && b.spec.oauth1 == nil && b.spec.mode != modeAWS {
		return out, nil
	}
	sc := b.scope(h)
	if k != nil {
		if err := k.present(out, sc); err != nil {
			return nil, err
		}
	}
	var volatile []namedTemplate
	for _, t := range b.spec.headers {
		if t.volatile() {
			volatile = append(volatile, t)
			continue
		}
		if err := addHeader(out, t, sc); err != nil {
			return nil, err
		}
	}
	for _, t := range b.spec.query {
		if v, missing := t.fill(sc); len(missing) == 0 {
			out.Query = append(out.Query, broker.Param{Key: t.name, Value: url.QueryEscape(v)})
		}
	}
	if len(volatile) > 0 {
		out.Sign = func(r *http.Request) error { return b.sign(r, sc, volatile) }
	}
	if b.spec.body != nil {
		last := out.Sign
		out.Sign = func(r *http.Request) error {
			if err := b.inject(r, sc); err != nil || last == nil {
				return err
			}
			return last(r)
		}
	}
	if b.spec.oauth1 != nil {
		if out.Sign, err = b.signing(h, sc, out.Sign); err != nil {
			return nil, err
		}
	}
	if b.spec.mode == modeAWS {
		return out, b.presentAWS(out, h)
	}
	return out, nil
}

// BaseURL implements [broker.Locator].
func (b *base) BaseURL(h *broker.Holding) (*url.URL, error) {
	if own := setting(h, "baseUrl"); own != "" && slices.ContainsFunc(b.spec.entry.IntegrationConfig, func(f namedField) bool { return f.Name == "baseUrl" }) {
		return b.deps.checkURL(strings.TrimSuffix(own, "/"), true)
	}
	if chosen, err := b.awsBase(h); chosen != nil || err != nil {
		return chosen, err
	}
	switch {
	case b.spec.api == nil:
		return nil, nil //nolint:nilnil // as the interface says
	case b.spec.api.static() != "":
		return b.staticBase()
	}
	return b.expandBase(b.scope(h))
}

// expandBase gives the API's address for what is in scope.
func (b *base) expandBase(sc *scope) (*url.URL, error) {
	u, err := b.spec.api.expand(sc, b.deps.checkURL)
	if err != nil {
		return nil, err
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	return u, nil
}

// modeHeader is the Authorization header of the mode; an API key has none.
func (b *base) modeHeader(h *broker.Holding) string {
	m := h.Material
	switch b.spec.mode {
	case modeOAuth2, modeClientCredentials, modeJWT, modeMCP, modeMCPGeneric, modeApp, modeCustom:
		return "Bearer " + m.Access.Reveal()
	case modeTwoStep, modeSignature:
		if b.spec.presentsToken() {
			return ""
		}
		return "Bearer " + m.Access.Reveal()
	case modeBasic, modePlugin:
		pair := m.Details["username"].Reveal() + ":" + m.Details["password"].Reveal()
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
	}
	return ""
}

// addHeader adds a header, over one of the same name. One whose placeholder has no value is left out.
func addHeader(out *broker.Presentation, t namedTemplate, sc *scope) error {
	v, missing := t.fill(sc)
	if len(missing) > 0 {
		return nil
	}
	if !printable(v) {
		return invalid(t.name, "would put a character into a header that it cannot have")
	}
	key := http.CanonicalHeaderKey(t.name)
	header := broker.Header{Key: key, Values: []string{v}, Weak: t.weak(key)}
	if i := slices.IndexFunc(out.Headers, func(x broker.Header) bool { return x.Key == key }); i >= 0 {
		out.Headers[i] = header
		return nil
	}
	out.Headers = append(out.Headers, header)
	return nil
}

// weak reports whether the caller's own header may replace this one: it holds nothing of the credential. The user agent
// that an entry names stays, because such providers want to know the application.
func (t *template) weak(key string) bool {
	if key == "User-Agent" || key == "Authorization" || key == "Cookie" {
		return false
	}
	return !slices.ContainsFunc(t.refs(), func(ref string) bool { return !strings.HasPrefix(ref, "connectionConfig.") })
}

// sign sets the headers that are different for each request.
func (b *base) sign(r *http.Request, sc *scope, headers []namedTemplate) error {
	now := *sc
	now.now = b.now()
	for _, t := range headers {
		v, missing := t.fill(&now)
		if len(missing) > 0 {
			continue
		}
		if !printable(v) {
			return invalid(t.name, "would put a character into a header that it cannot have")
		}
		r.Header.Set(t.name, v)
	}
	return nil
}

// printable reports whether a header can carry v: visible ASCII and spaces, none at the ends.
func printable(v string) bool {
	for i := range len(v) {
		if v[i] < ' ' || v[i] > '~' {
			return false
		}
	}
	return strings.TrimSpace(v) == v
}

// integrationKey is an API key whose place the integration's settings say.
func (b *base) integrationKey(h *broker.Holding) *keyPlace {
	name := setting(h, "keyName")
	if name == "" || b.spec.mode != modeAPIKey || !slices.ContainsFunc(b.spec.entry.IntegrationConfig, func(f namedField) bool { return f.Name == "keyName" }) {
		return nil
	}
	return &keyPlace{name: name, inQuery: setting(h, "keyPlacement") == "query", value: setting(h, "valueTemplate")}
}

type keyPlace struct {
	name, value string
	inQuery     bool
}

func (k *keyPlace) present(out *broker.Presentation, sc *scope) error {
	value := k.value
	if value == "" {
		value = "${apiKey}"
	}
	t, err := parseTemplate(value)
	if err != nil || !headerName().MatchString(k.name) {
		return broker.ErrInvalidRequest.On("integration_config").Saying("the settings of this integration do not say where the key goes")
	}
	if !k.inQuery {
		return addHeader(out, namedTemplate{k.name, t}, sc)
	}
	if v, missing := t.fill(sc); len(missing) == 0 {
		out.Query = append(out.Query, broker.Param{Key: k.name, Value: url.QueryEscape(v)})
	}
	return nil
}

func setting(h *broker.Holding, name string) string {
	if h.Client == nil {
		return ""
	}
	return h.Client.Settings[name]
}
