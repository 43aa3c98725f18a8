package providers

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// callSpec is a call that the broker itself makes to a provider's API with the credential: "METHOD URL", perhaps with a
// JSON body behind it.
type callSpec struct {
	method  string
	url     *urlTemplate
	headers []namedTemplate // over those of proxied calls
	body    string
}

var callText = expression(`^(GET|HEAD|POST|PUT|DELETE) (\S.*)$`)

// call parses a call; nil if it is empty or cannot work here.
func (c *compiler) call(path []string, s string, headers pairs) *callSpec {
	if s == "" {
		return nil
	}
	m := callText().FindStringSubmatch(s)
	if m == nil {
		c.broken(path, "is not of the form METHOD URL")
		return nil
	}
	out := &callSpec{method: m[1]}
	target := m[2]
	if i := strings.Index(target, " {"); i >= 0 {
		target, out.body = target[:i], target[i+1:]
		if !jsontext.Value(out.body).IsValid() {
			c.broken(path, "the body is not JSON")
		}
	}
	out.url = c.url(path, target)
	out.headers = c.named(append(slices.Clone(path), "headers"), headers)
	if out.url == nil {
		return nil
	}
	return out
}

// do makes a call. ok is false where the connection has no value for a placeholder in the URL: then there is nothing to
// ask. An answer that an entry's predicate takes for an error is one. Errors: *ProviderError.
func (b *base) do(ctx context.Context, h *broker.Holding, c *callSpec) (raw jsontext.Value, ok bool, err error) {
	sc := b.scope(h)
	if _, missing := c.url.fill(sc); len(missing) > 0 {
		return nil, false, nil
	}
	u, err := c.url.expand(sc, b.deps.checkURL)
	if err != nil {
		return nil, false, asFailure(err)
	}
	a, err := b.authorized(ctx, h, c.method, u, c.headers, c.body)
	if err != nil {
		return nil, false, err
	}
	if raw, err = b.spec.rules.readCall(a); err != nil {
		return nil, false, err
	}
	return raw, true, nil
}

// authorized sends a request with the credential in place, as the proxy would, and once.
func (b *base) authorized(ctx context.Context, h *broker.Holding, method string, u *url.URL, headers []namedTemplate, body string) (*reply, error) {
	p, err := b.presentTo(h)
	if err != nil {
		return nil, asFailure(err)
	}
	sc := b.scope(h)
	for _, t := range headers {
		if err := addHeader(p, t, sc); err != nil {
			return nil, asFailure(err)
		}
	}
	target := *u
	for _, x := range p.Query {
		if target.RawQuery != "" {
			target.RawQuery += "&"
		}
		target.RawQuery += x.Key + "=" + x.Value
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), strings.NewReader(body))
	if err != nil {
		return nil, asFailure(broker.ErrURLNotAllowed)
	}
	req.Header.Set("Accept", jsonType)
	if body != "" {
		req.Header.Set("Content-Type", jsonType)
	}
	for _, x := range p.Headers {
		req.Header[x.Key] = x.Values
	}
	if p.Sign != nil {
		if err := p.Sign(req); err != nil {
			return nil, asFailure(err)
		}
	}
	return b.deps.sendAs(req, p.Certificate)
}

// readCall reads the answer to a call of ours as JSON; an answer without a body is null.
func (r *answerRules) readCall(a *reply) (jsontext.Value, error) {
	raw := jsontext.Value(strings.TrimSpace(string(a.body)))
	isJSON := len(raw) > 0 && raw.IsValid()
	switch {
	case a.status >= 300 && a.status < 400:
		return nil, unreadable(a, codeRedirect, 0)
	case a.status >= 300 || isJSON && raw.Kind() == '{' && slices.ContainsFunc(r.predicates, func(p errorPredicate) bool { return p.holds(raw) }):
		v := &verdict{}
		if isJSON && raw.Kind() == '{' {
			v = r.errorIn(raw, a.status)
		}
		e := r.failure(a, v, nil)
		e.Class = callClass(a.status, e.Class)
		return nil, e
	case len(raw) == 0:
		return jsontext.Value("null"), nil
	case !isJSON:
		return nil, unreadable(a, codeBadAnswer, 0)
	}
	return raw, nil
}

// callClass is the class of a refused API call: a 401 refuses the credential, and a client is not asked about at all.
func callClass(status int, class broker.FailureClass) broker.FailureClass {
	switch {
	case status == http.StatusUnauthorized:
		return broker.GrantLost
	case class == broker.ClientRefused:
		return broker.Transient
	}
	return class
}
