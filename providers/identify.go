package providers

import (
	"context"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// accountPaths are where an account's id usually stands, in order.
var accountPaths = []string{"sub", "id", "user_id", "account_id", "account", "login", "email"}

// compileIdentity reads how to find out which account was connected, and what else to ask of a new connection.
func (c *compiler) compileIdentity() {
	e := c.entry
	c.identity = c.call([]string{"identity_endpoint"}, e.IdentityEndpoint, nil)
	if strings.Contains(e.IdentityPath, "${") {
		c.account = c.template([]string{"identity_path"}, e.IdentityPath)
	}
	c.after = c.call([]string{"post_connection"}, e.PostConnection.Request, e.PostConnection.Headers)
}

// Identify gives the account's id: from connection config or credential where the entry says that it stands there, or else
// from the identity endpoint. It is "" where the entry has neither, or the answer has no id.
func (b *base) Identify(ctx context.Context, h *broker.Holding) (string, error) {
	if t := b.spec.account; t != nil {
		id, missing := t.fill(b.scope(h))
		if len(missing) > 0 {
			return "", nil
		}
		return id, nil
	}
	if b.spec.identity == nil {
		return "", nil
	}
	raw, ok, err := b.do(ctx, h, b.spec.identity)
	if err != nil || !ok {
		return "", err
	}
	return accountIn(raw, b.spec.entry.IdentityPath), nil
}

// accountIn finds an account's id in an answer. A number keeps its digits as they were written.
func accountIn(raw jsontext.Value, path string) string {
	paths := accountPaths
	if path != "" {
		paths = []string{path}
	}
	for _, p := range paths {
		if id := scalarText(get(raw, p)); id != "" && len(id) <= 1024 {
			return id
		}
	}
	return ""
}

// Complete asks for what only the API knows of a new connection. Values that do not have the form that the entry asks for
// are left out.
func (b *base) Complete(ctx context.Context, h *broker.Holding) (map[string]string, error) {
	if b.spec.after == nil {
		return nil, nil //nolint:nilnil // nothing to add is an answer
	}
	raw, ok, err := b.do(ctx, h, b.spec.after)
	if err != nil || !ok {
		return nil, err
	}
	values := map[string]string{}
	for _, p := range b.spec.entry.PostConnection.Capture {
		if v := scalarText(get(raw, p.Value)); v != "" {
			values[p.Key] = v
		}
	}
	return b.capture(values, h.Client), nil
}
