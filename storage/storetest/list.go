package storetest

import (
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// listed are the keys of the connections that the filter selects in the fixture's environment.
func (f *fixture) listed(filter broker.ConnectionFilter) []string {
	f.Helper()
	filter.Environment = f.env.ID
	list, err := f.b.Connections(f.ctx, filter)
	f.ok(err)
	keys := []string{}
	for _, c := range list {
		keys = append(keys, c.Key)
	}
	return keys
}

func (f *fixture) lists(filter broker.ConnectionFilter, want ...string) {
	f.Helper()
	if got := f.listed(filter); !slices.Equal(got, want) {
		f.Errorf("%+v lists %q, want %q", filter, got, want)
	}
	if filter.Offset > 0 || filter.Limit > 0 && len(want) == filter.Limit {
		return // a page is not all there is
	}
	filter.Environment = f.env.ID
	if n, err := f.b.MatchingConnections(f.ctx, filter); err != nil || n != len(want) {
		f.Errorf("%+v counts %d, %v, want %d", filter, n, err, len(want))
	}
}

// keyed stores a connection with that key, one second younger than the one before.
func (f *fixture) keyed(key string, change func(*broker.Connection)) *broker.Connection {
	f.Helper()
	f.clock.advance(time.Second)
	c := f.connection()
	c.Key = key
	if change != nil {
		change(c)
	}
	return f.grantedAs(c)
}

var listTests = map[string]func(*fixture){
	"newest first, then by number": func(f *fixture) {
		f.keyed("one", nil)
		second := f.keyed("two", nil)
		f.keyed("three", func(c *broker.Connection) { c.CreatedAt = second.CreatedAt })
		f.keyed("old", func(c *broker.Connection) { c.CreatedAt = f.now().Add(-time.Hour) })
		f.lists(broker.ConnectionFilter{}, "three", "two", "one", "old")
	},
	"limit and offset": func(f *fixture) {
		for _, key := range []string{"one", "two", "three", "four"} {
			f.keyed(key, nil)
		}
		f.lists(broker.ConnectionFilter{Limit: 2}, "four", "three")
		f.lists(broker.ConnectionFilter{Limit: 2, Offset: 2}, "two", "one")
		f.lists(broker.ConnectionFilter{Limit: 2, Offset: 3}, "one")
		f.lists(broker.ConnectionFilter{Offset: 4})
	},
	"a hundred where nobody says": func(f *fixture) {
		for range 101 {
			f.granted()
		}
		if n := len(f.listed(broker.ConnectionFilter{})); n != 100 {
			f.Errorf("%d are listed, want 100", n)
		}
	},
	"pending ones on demand": func(f *fixture) {
		f.keyed("active", nil)
		f.keyed("pending", func(c *broker.Connection) { c.Status = broker.Pending })
		f.lists(broker.ConnectionFilter{}, "active")
		f.lists(broker.ConnectionFilter{IncludePending: true}, "pending", "active")
	},
	"by statuses, as they were or as of some time": func(f *fixture) {
		end := f.now().Add(time.Hour)
		ends := func(c *broker.Connection) { c.EndsAt = end }
		f.keyed("for ever", nil)
		f.keyed("ends", ends)
		f.keyed("failed before", func(c *broker.Connection) { ends(c); c.Status = broker.Failing })
		f.keyed("ended", func(c *broker.Connection) { c.Status = broker.Expired })
		active, expired := []broker.Status{broker.Active}, []broker.Status{broker.Expired}
		for _, at := range []time.Time{{}, end.Add(-time.Microsecond)} {
			f.lists(broker.ConnectionFilter{Statuses: active, AsOf: at}, "ends", "for ever")
			f.lists(broker.ConnectionFilter{Statuses: expired, AsOf: at}, "ended")
		}
		f.lists(broker.ConnectionFilter{Statuses: active, AsOf: end}, "for ever")
		f.lists(broker.ConnectionFilter{Statuses: expired, AsOf: end}, "ended", "ends")
		f.lists(broker.ConnectionFilter{Statuses: append(expired, broker.Failing), AsOf: end}, "ended", "failed before", "ends")
		f.lists(broker.ConnectionFilter{AsOf: end}, "ended", "failed before", "ends", "for ever")
		if n, err := f.b.MatchingConnections(f.ctx, broker.ConnectionFilter{Environment: f.env.ID, Statuses: expired, AsOf: end}); err != nil || n != 2 {
			f.Errorf("counted %d, %v", n, err)
		}
	},
	"without an end user": func(f *fixture) {
		f.keyed("nobody's", nil)
		f.keyed("ann's", func(c *broker.Connection) { c.EndUser = &broker.EndUser{ID: "ann"} })
		f.keyed("somebody's", func(c *broker.Connection) { c.EndUser = &broker.EndUser{DisplayName: "Bob"} })
		f.lists(broker.ConnectionFilter{Unowned: true}, "nobody's")
		f.lists(broker.ConnectionFilter{Unowned: true, Statuses: []broker.Status{broker.Failing}})
	},
	"by key": func(f *fixture) {
		f.keyed("one", nil)
		f.keyed("two", nil)
		f.keyed("one", func(c *broker.Connection) { c.Integration = f.newIntegration("slack").ID })
		f.lists(broker.ConnectionFilter{Key: "one"}, "one", "one")
		f.lists(broker.ConnectionFilter{Key: "ONE"})
	},
	"by end user and organization": func(f *fixture) {
		f.keyed("nobody's", nil)
		f.keyed("ann's", func(c *broker.Connection) { c.EndUser = &broker.EndUser{ID: "ann", OrganizationID: "acme"} })
		f.keyed("bob's", func(c *broker.Connection) { c.EndUser = &broker.EndUser{ID: "bob", OrganizationID: "acme"} })
		f.lists(broker.ConnectionFilter{EndUser: "ann"}, "ann's")
		f.lists(broker.ConnectionFilter{Organization: "acme"}, "bob's", "ann's")
		f.lists(broker.ConnectionFilter{Organization: "acme", EndUser: "bob"}, "bob's")
		f.lists(broker.ConnectionFilter{EndUser: "acme"})
	},
	"one end user's, and everybody's of some integrations": func(f *fixture) {
		shared := f.newIntegration("shared").ID
		of := func(user string, i broker.IntegrationID) func(c *broker.Connection) {
			return func(c *broker.Connection) {
				c.EndUser = &broker.EndUser{ID: user}
				if i != "" {
					c.Integration = i
				}
			}
		}
		f.keyed("ann's", of("ann", ""))
		f.keyed("bob's", of("bob", ""))
		f.keyed("bob shares", of("bob", shared))
		all := broker.ConnectionFilter{EndUser: "ann", OrIntegrations: []broker.IntegrationID{shared}}
		f.lists(all, "bob shares", "ann's")
		all.Integrations = []broker.IntegrationID{shared}
		f.lists(all, "bob shares")
		f.lists(broker.ConnectionFilter{EndUser: "carl", OrIntegrations: []broker.IntegrationID{"unknown"}})
		f.lists(broker.ConnectionFilter{Limit: 1}, "bob shares")
		if n, err := f.b.MatchingConnections(f.ctx, broker.ConnectionFilter{Environment: f.env.ID, Limit: 1, Offset: 2}); err != nil || n != 3 {
			f.Errorf("%d of all, %v", n, err)
		}
	},
	"by integration": func(f *fixture) {
		slack, zoho := f.newIntegration("slack").ID, f.newIntegration("zoho").ID
		f.keyed("github", nil)
		f.keyed("slack", func(c *broker.Connection) { c.Integration = slack })
		f.keyed("zoho", func(c *broker.Connection) { c.Integration = zoho })
		f.lists(broker.ConnectionFilter{Integrations: []broker.IntegrationID{slack}}, "slack")
		f.lists(broker.ConnectionFilter{Integrations: []broker.IntegrationID{slack, zoho, "unknown"}}, "zoho", "slack")
		f.lists(broker.ConnectionFilter{Integrations: []broker.IntegrationID{"unknown"}})
	},
	"by status": func(f *fixture) {
		f.keyed("active", nil)
		f.keyed("failing", func(c *broker.Connection) { c.Status = broker.Failing })
		f.keyed("expired", func(c *broker.Connection) { c.Status = broker.Expired })
		f.lists(broker.ConnectionFilter{Statuses: []broker.Status{broker.Failing}}, "failing")
		f.lists(broker.ConnectionFilter{Statuses: []broker.Status{broker.Failing, broker.Expired}}, "expired", "failing")
	},
	"by tags": func(f *fixture) {
		odd := map[string]string{`a "quoted\ key".<x>`: "grün & 'blau'", "plan": "pro"}
		f.keyed("none", nil)
		f.keyed("free", func(c *broker.Connection) { c.Tags = map[string]string{"plan": "free", "team": "a"} })
		f.keyed("pro", func(c *broker.Connection) { c.Tags = odd })
		f.lists(broker.ConnectionFilter{Tags: map[string]string{"plan": "free"}}, "free")
		f.lists(broker.ConnectionFilter{Tags: map[string]string{"plan": "free", "team": "a"}}, "free")
		f.lists(broker.ConnectionFilter{Tags: map[string]string{"plan": "pro", "team": "a"}})
		f.lists(broker.ConnectionFilter{Tags: map[string]string{"team": "free"}})
		f.lists(broker.ConnectionFilter{Tags: map[string]string{"plan": "PRO"}})
		f.lists(broker.ConnectionFilter{Tags: odd}, "pro")
	},
	"by search in any case": func(f *fixture) {
		f.keyed("Key-One", nil)
		f.keyed("two", func(c *broker.Connection) {
			c.EndUser = &broker.EndUser{ID: "u", DisplayName: "Ann Müller", Email: "Ann@Example.com"}
		})
		f.keyed("three", func(c *broker.Connection) {
			c.EndUser = &broker.EndUser{ID: "u", DisplayName: "100% Bob_", Email: "bob@example.com"}
		})
		f.keyed("ÄRZTE", nil)
		f.lists(broker.ConnectionFilter{Search: "key-o"}, "Key-One")
		f.lists(broker.ConnectionFilter{Search: "ANN MÜLL"}, "two")
		f.lists(broker.ConnectionFilter{Search: "EXAMPLE.COM"}, "three", "two")
		f.lists(broker.ConnectionFilter{Search: "0% b"}, "three")
		f.lists(broker.ConnectionFilter{Search: "b_b"})
		f.lists(broker.ConnectionFilter{Search: "ärzte"}, "ÄRZTE")
		f.lists(broker.ConnectionFilter{Search: "%"}, "three")
		f.lists(broker.ConnectionFilter{Search: "nobody"})
	},
	"filters add up": func(f *fixture) {
		user := &broker.EndUser{ID: "ann", OrganizationID: "acme", Email: "ann@example.com"}
		tags := map[string]string{"plan": "pro"}
		f.keyed("other", func(c *broker.Connection) { c.EndUser = user })
		f.keyed("wanted", func(c *broker.Connection) { c.EndUser, c.Tags = user, tags })
		f.keyed("failing", func(c *broker.Connection) { c.EndUser, c.Tags, c.Status = user, tags, broker.Failing })
		f.lists(broker.ConnectionFilter{
			Key: "wanted", Search: "EXAMPLE", EndUser: "ann", Organization: "acme", Tags: tags,
			Integrations: []broker.IntegrationID{f.integration.ID}, Statuses: []broker.Status{broker.Active}, IncludePending: true,
		}, "wanted")
		f.lists(broker.ConnectionFilter{Tags: tags, Statuses: []broker.Status{broker.Active}, Offset: 1})
	},
	"a search finds what an update wrote": func(f *fixture) {
		c := f.keyed("key", func(c *broker.Connection) { c.EndUser = &broker.EndUser{ID: "u", DisplayName: "Zoë"} })
		c.EndUser = &broker.EndUser{ID: "u", DisplayName: "Ágnes"}
		f.ok(f.a.UpdateConnections(f.ctx, []*broker.Connection{c}, broker.Trail{}))
		f.lists(broker.ConnectionFilter{Search: "ágnes"}, "key")
		f.lists(broker.ConnectionFilter{Search: "zoë"})
	},
}
