package providers

import (
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/coatcheck/coatcheck/broker"
)

// bill keeps a session that is begun with a user's name and password and a developer's key. It is a sign-in of one step,
// whose request every entry of this mode has in common.
// https://developer.bill.com/docs/session-and-authentication
type bill struct{ twoStep }

// billSession is how long a session lasts in which nothing happens.
const billSession = 35 * time.Minute

// The headers that a session's calls have.
const (
	billSessionHeader = "Sessionid"
	billKeyHeader     = "Devkey"
)

func (c *compiler) compileBill() {
	if c.mode != modeBill {
		return
	}
	if c.token = c.url([]string{"token_url"}, c.entry.TokenURL.URL); c.token == nil {
		c.broken([]string{"token_url"}, "one URL is needed")
	}
	params := &tree{kind: yaml.MappingNode}
	for _, x := range []pair{{"username", "username"}, {"password", "password"}, {"organizationId", "organization_id"}, {"devKey", "dev_key"}} {
		text := &template{alts: []sequence{{{ref: "credentials." + x.Value}}}}
		params.names, params.items = append(params.names, x.Key), append(params.items, &tree{kind: yaml.ScalarNode, text: text})
	}
	c.twoStep = &twoStepSpec{
		steps: []*step{{url: c.token, method: "POST", format: "json", params: params}}, token: "sessionId", life: billSession,
		details: map[string]string{"organization_id": "organizationId", "user_id": "userId"},
	}
}

// billHeaders are how a session goes into a request where the entry does not say. A caller that has read them may send
// them itself.
func billHeaders(m *broker.Material) []broker.Header {
	var out []broker.Header
	for _, x := range []pair{{billSessionHeader, m.Access.Reveal()}, {billKeyHeader, m.Details["dev_key"].Reveal()}} {
		if x.Value != "" && printable(x.Value) {
			out = append(out, broker.Header{Key: x.Key, Values: []string{x.Value}, Weak: true})
		}
	}
	return out
}
