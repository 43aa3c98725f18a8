package providers

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// origin is where values of connection config come from, and so how far they are believed.
type origin int

const (
	typed    origin = iota // by an end user
	decided                // by the app's backend
	answered               // by the provider, over a connection to its own host
	returned               // in the query of the callback, which the browser can change
)

// CheckConfig checks connection config.
func (b *base) CheckConfig(in map[string]string, client *broker.Client, trusted bool) (map[string]string, error) {
	from := typed
	if trusted {
		from = decided
	}
	return b.checkConfig(in, client, from)
}

// CheckSettings implements [broker.SettingsChecker]: settings are checked as far as the entry declares any.
func (b *base) CheckSettings(in map[string]string) (map[string]string, error) {
	if len(b.spec.settings) == 0 {
		return in, nil
	}
	out := make(map[string]string, len(in))
	left := maps.Clone(in)
	for _, f := range b.spec.settings {
		value := in[f.Name]
		delete(left, f.Name)
		if value == "" {
			value = f.Default
		}
		switch {
		case value != "":
			if err := f.check(value, false); err != nil {
				return nil, err
			}
			out[f.Name] = value
		case !f.Optional && !f.HasDefault && !f.sometimes && !f.Automated && b.spec.mode != modeTwoStep: // there the end user is asked
			return nil, invalid(f.Name, "is missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		return nil, invalid(name, "is not a setting of this provider")
	}
	return out, nil
}

// checkConfig checks values one by one, then the hosts that they make.
func (b *base) checkConfig(in map[string]string, client *broker.Client, from origin) (map[string]string, error) {
	out := make(map[string]string, len(in))
	for _, name := range slices.Sorted(maps.Keys(in)) {
		value := in[name]
		f := b.spec.config[name]
		if value == "" || f == nil || from == typed && f.Automated {
			continue
		}
		if err := f.check(value, from == decided); err != nil {
			return nil, err
		}
		out[name] = value
	}
	for _, t := range b.spec.urls {
		if err := b.checkHosts(t, out, client, from); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// checkHosts checks the hosts that a template makes of the values.
func (b *base) checkHosts(t *urlTemplate, values map[string]string, client *broker.Client, from origin) error {
	s := &scope{config: values, defaults: b.spec.defaults, bare: true}
	for i := range t.alts {
		form := &t.hosts[i]
		given, complete, err := t.checkHostValues(i, s, values)
		if err != nil {
			return err
		}
		listed := form.isFree && b.spec.ownClient(client) && (from == typed || from == returned)
		switch {
		case given == "":
			continue
		case !complete && listed:
			return invalid(given, "is not on the list of hosts that the integration may call")
		case !complete:
			continue
		}
		u, err := b.deps.checkURL(t.hostURL(i, s), from == decided)
		if err != nil {
			return invalid(given, "does not give an address that may be used").Because(err)
		}
		if !form.admits(u.Host) || t.pattern != nil && !t.pattern.MatchString(u.Hostname()) {
			return invalid(given, "leads to a host that this provider does not have")
		}
		if listed && (client == nil || !hostAllowed(u.Host, client.Hosts)) {
			return invalid(given, "is not on the list of hosts that the integration may call")
		}
	}
	return nil
}

// checkHostValues checks the grammar of each value that stands in a host. given names one of values that does, "" if none;
// complete is set when the host has all it needs.
func (t *urlTemplate) checkHostValues(i int, s *scope, values map[string]string) (given string, complete bool, err error) {
	complete = true
	for j, p := range t.alts[i] {
		at := t.places[i][j]
		if p.ref == "" || at == pathPlace || at == queryPlace {
			continue
		}
		v, ok := s.look(p.ref)
		if !ok {
			complete = false
			continue
		}
		if _, isGiven := values[strings.TrimPrefix(p.ref, "connectionConfig.")]; isGiven {
			given = p.ref
		}
		if _, err := t.encode(p, at, v); err != nil {
			return "", false, err
		}
	}
	return given, complete, nil
}

// hostURL gives scheme and host of an alternative whose placeholders there all have values.
func (t *urlTemplate) hostURL(i int, s *scope) string {
	form := &t.hosts[i]
	if form.whole != "" {
		v, _ := s.look(form.whole)
		return v
	}
	scheme, _, _ := strings.Cut(t.alts[i][0].text, "://")
	host, _, _ := form.parts.fill(s, nil)
	return scheme + "://" + host
}

// ownClient reports whether requests to the provider hold a secret of the integration. Where everything that is sent was
// given by the end user, so may the host be.
func (s *spec) ownClient(client *broker.Client) bool {
	switch s.mode {
	case modeOAuth2, modeOAuth1, modeApp, modeCustom:
		return true
	case modeMCPGeneric:
		// Nothing of the integration's is sent, but a server that an end user names is one that the app will talk to.
		return client == nil || client.Settings[serversSetting] != "any"
	case modeClientCredentials, modeTBA:
		return client != nil && !client.Secret.IsZero()
	case modeTwoStep:
		return client != nil && slices.ContainsFunc(s.settings, func(f *field) bool { return client.Settings[f.Name] != "" })
	}
	return false
}

// capture takes values that a provider gave into connection config. What does not pass is left out: by then the grant is
// made, and whatever needs the value says that it is missing.
func (b *base) capture(values map[string]string, client *broker.Client) map[string]string {
	out := map[string]string{}
	for name, value := range values {
		one, err := b.checkConfig(map[string]string{name: value}, client, answered)
		if err == nil {
			maps.Copy(out, one)
		}
	}
	return out
}

// fromCallback takes what the entry wants of the callback's query. The browser brought it: a host in it is believed only if
// it is one of the provider's.
func (b *base) fromCallback(q url.Values, client *broker.Client) (map[string]string, error) {
	values := map[string]string{}
	for _, name := range b.spec.entry.RedirectMetadata {
		if v := q[name]; len(v) == 1 {
			values[name] = v[0]
		}
	}
	return b.checkConfig(values, client, returned)
}
