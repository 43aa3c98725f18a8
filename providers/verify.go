package providers

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/coatcheck/coatcheck/broker"
)

// verifySpec is how to find out whether a credential works: any of the calls succeeds.
type verifySpec struct {
	method    string
	base      *urlTemplate // nil: the API's
	endpoints []*template
	headers   []namedTemplate
	data      *yaml.Node
}

func (c *compiler) compileVerification(v *verification) {
	if v == nil || len(v.Endpoints) == 0 {
		return
	}
	out := &verifySpec{method: strings.ToUpper(v.Method)}
	if out.method == "" {
		out.method = http.MethodGet
	}
	c.oneOf("proxy.verification.method", out.method, "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS")
	path := []string{"proxy", "verification"}
	out.base = c.url(append(path, "base_url_override"), v.BaseURLOverride)
	for _, endpoint := range v.Endpoints {
		if t := c.template(append(path, "endpoints"), endpoint); t != nil {
			out.endpoints = append(out.endpoints, t)
		}
	}
	out.headers = c.named(append(path, "headers"), v.Headers)
	if v.Data.Kind != 0 {
		out.data = &v.Data
	}
	c.verify = out
}

// Verify asks the provider whether the credential works: by the entry's verification, or else by asking whose it is. A 401
// or 403 to a verification is a refusal. The identity call may lack a scope, so only its 401 is.
func (b *base) Verify(ctx context.Context, h *broker.Holding) (bool, error) {
	v := b.spec.verify
	if v == nil {
		return b.verifyByIdentity(ctx, h)
	}
	at, err := b.verifyBase(h)
	if err != nil {
		return false, asFailure(err)
	}
	if at == nil {
		return false, nil
	}
	var failure error
	for _, endpoint := range v.endpoints {
		if failure = b.verifyAt(ctx, h, at, endpoint); failure == nil {
			return true, nil
		}
	}
	return true, failure
}

func (b *base) verifyByIdentity(ctx context.Context, h *broker.Holding) (bool, error) {
	if b.spec.identity == nil {
		return false, nil
	}
	_, ok, err := b.do(ctx, h, b.spec.identity)
	return ok || err != nil, err
}

// verifyBase gives the address that the endpoints are below.
func (b *base) verifyBase(h *broker.Holding) (*url.URL, error) {
	if over := b.spec.verify.base; over != nil {
		return over.expand(b.scope(h), b.deps.checkURL)
	}
	return b.BaseURL(h)
}

// verifyAt makes one call.
func (b *base) verifyAt(ctx context.Context, h *broker.Holding, at *url.URL, endpoint *template) error {
	sc := b.scope(h)
	raw, missing, err := endpoint.alts[endpoint.pick(sc)].fill(sc, func(_ int, v string) (string, error) { return url.PathEscape(v), nil })
	if err == nil && len(missing) > 0 {
		err = invalid(missing[0], "is missing")
	}
	if err != nil {
		return asFailure(err)
	}
	base := strings.TrimSuffix(at.String(), "/")
	u, err := b.deps.checkURL(base+"/"+strings.TrimPrefix(strings.TrimPrefix(raw, base), "/"), true)
	if err != nil {
		return asFailure(err)
	}
	if u.Host != at.Host || hasDotSegment(u.EscapedPath()) {
		return asFailure(broker.ErrURLNotAllowed)
	}
	a, err := b.authorized(ctx, h, b.spec.verify.method, u, b.spec.verify.headers, b.verifyBody(sc))
	if err != nil {
		return err
	}
	if a.status == http.StatusForbidden {
		return &broker.ProviderError{Class: broker.GrantLost, Code: codeHTTP + "403", Status: a.status}
	}
	if a.status >= 200 && a.status < 300 && len(b.spec.rules.predicates) == 0 {
		return nil // any body will do, JSON or not
	}
	_, err = b.spec.rules.readCall(a)
	return err
}

// verifyBody gives the entry's data as JSON, with its placeholders filled in.
func (b *base) verifyBody(sc *scope) string {
	if b.spec.verify.data == nil {
		return ""
	}
	return string(appendJSON(nil, filled(b.spec.verify.data, sc)))
}

// filled copies a node with the placeholders of its texts filled in; a text that lacks a value stays as it is.
func filled(n *yaml.Node, sc *scope) *yaml.Node {
	out := *n
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "${") {
		if t, err := parseTemplate(n.Value); err == nil {
			if v, missing := t.fill(sc); len(missing) == 0 {
				out.Value, out.Tag = v, "!!str"
			}
		}
	}
	out.Content = nil
	for _, child := range n.Content {
		out.Content = append(out.Content, filled(child, sc))
	}
	return &out
}
