package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/providers"
	"github.com/coatcheck/coatcheck/providers/egress"
)

// clientIDFits reports whether a client id has the form that the entry knows; an entry that knows none takes any.
func (e *entry) clientIDFits(id string) bool {
	if e.ClientIDPattern == "" {
		return true
	}
	form, err := regexp.Compile(e.ClientIDPattern)
	return err != nil || form.MatchString(id)
}

// knownScopes are the default scopes of all entries that get their tokens where this one does.
func knownScopes(c *providers.Catalogue, e *entry) []string {
	out := slices.Clone(e.facts.DefaultScopes)
	for _, name := range c.Names() {
		if p, ok := c.Provider(name); ok && e.facts.TokenOrigin != "" && p.Facts().TokenOrigin == e.facts.TokenOrigin {
			out = append(out, p.Facts().DefaultScopes...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// offlineScopes are what providers call the scope that brings a refresh token.
var offlineScopes = []string{"offline_access", "offline.access", "offline", "refresh_token"}

// lookScopes looks at what is asked for.
func (p *patient) lookScopes() {
	e := p.entry
	if !e.tokens() {
		return
	}
	before := len(p.findings)
	reason := e.Lacking["scopes"]
	if len(p.scopes) > 0 && reason != "" {
		p.note(warns, "scopes", "leave them out", "the provider takes none: %s", reason)
	}
	if len(p.scopes) == 0 && reason == "" && e.facts.Interactive {
		p.note(warns, "scopes", "set scopes", "no scopes are asked for, so the provider decides what the app may do")
	}
	for i, s := range p.scopes {
		p.lookScope(s)
		if slices.Contains(p.scopes[:i], s) {
			p.note(warns, "scopes", "leave one out", "%q stands there twice", s)
		}
	}
	for _, s := range e.facts.DefaultScopes {
		if slices.Contains(offlineScopes, s) && len(p.scopes) > 0 && !slices.Contains(p.scopes, s) {
			p.note(warns, "scopes", "add it", "%s is not asked for: connections end when their first token does", s)
		}
	}
	if len(p.findings) == before {
		p.note(fine, "scopes", "", "%s", cmp.Or(strings.Join(p.scopes, ", "), "none to ask for"))
	}
}

// lookScope looks at one scope: what separates scopes cannot be part of one.
func (p *patient) lookScope(s string) {
	separator := p.entry.separator()
	switch {
	case strings.TrimSpace(s) == "":
		p.note(failure, "scopes", "take it out", "there is an empty scope")
	case strings.ContainsAny(s, ", \t\n"):
		l := failure
		if strings.Contains(s, separator) {
			l = warns // the provider reads several, as was meant
		}
		p.note(l, "scopes", "write a list with one scope an item", "%q is more than one scope; the provider wants %q between them", s, separator)
	case slices.Contains(p.known, s):
	default:
		for _, k := range p.known {
			if len(s) > 4 && len(k) > 4 && distance(strings.ToLower(s), strings.ToLower(k)) <= 1 {
				p.note(warns, "scopes", "check its spelling", "%q is not known, and %q is", s, k)
				return
			}
		}
	}
}

// distance counts the letters that make one word another (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

const (
	probeFor  = 10 * time.Second // all hosts together
	maxProbed = 8
)

// lookEndpoints asks every host that does not depend on the end user for a sign of life.
func (p *patient) lookEndpoints(ctx context.Context, policy *egress.Policy) {
	origins := p.origins()
	if len(origins) == 0 {
		p.note(fine, "endpoints", "", "all depend on the end user's account: none was asked")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	found := make([]finding, len(origins))
	var work sync.WaitGroup
	for i, origin := range origins {
		work.Go(func() { found[i] = probe(ctx, policy, origin) })
	}
	work.Wait()
	p.findings = append(p.findings, found...)
}

// origins lists the schemes and hosts of the entry's addresses, as far as they are known without an end user.
func (p *patient) origins() []string {
	var settings []string
	for name, value := range p.settings {
		settings = append(settings, "${integrationConfig."+name+"}", value)
	}
	fill := strings.NewReplacer(settings...)
	var out []string
	for _, address := range p.entry.addresses() {
		for one := range strings.SplitSeq(address, "||") {
			scheme, rest, ok := strings.Cut(fill.Replace(strings.TrimSpace(one)), "://")
			host, _, _ := strings.Cut(rest, "/")
			host, _, _ = strings.Cut(host, "?")
			if origin := scheme + "://" + host; ok && host != "" && !strings.Contains(origin, "${") && !slices.Contains(out, origin) {
				out = append(out, origin)
			}
		}
	}
	return out[:min(len(out), maxProbed)]
}

// probe asks a host for its headers, under the policy that all requests are made under. Any answer will do.
func probe(ctx context.Context, policy *egress.Policy, origin string) finding {
	f := finding{Level: failure, Check: "endpoints"}
	u, err := policy.CheckURL(origin+"/", egress.URLOptions{Literal: true})
	if err != nil {
		f.Text, f.Do = origin+" is not an address that may be used", "use https and a public host, or list it in egress.allow"
		return f
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.String(), nil)
	if err != nil {
		f.Text = origin + " is not an address"
		return f
	}
	req.Header.Set("User-Agent", "coatcheck/"+version)
	resp, err := policy.TokenClient().Do(req)
	if err == nil {
		_ = resp.Body.Close()
		return answered(u)
	}
	var untrusted *tls.CertificateVerificationError
	switch kind := egress.Classify(err); {
	case errors.As(err, &untrusted):
		f.Text, f.Do = origin+" has a certificate that is not trusted", "check the address, and the machine's list of authorities"
	case kind == egress.Blocked:
		f.Text, f.Do = origin+" may not be reached from here (egress_blocked)", "list it in egress.allow if it is meant"
	case kind == egress.Timeout:
		f.Text, f.Do = origin+" does not answer (provider_timeout)", "check the network and firewalls"
	default:
		f.Text, f.Do = origin+" cannot be reached (provider_unreachable)", "check the name and the network"
	}
	return f
}

// answered is the finding of a host that answers.
func answered(u *url.URL) finding {
	origin := u.Scheme + "://" + u.Host
	if u.Scheme != "https" {
		return finding{Level: warns, Check: "endpoints", Text: origin + " answers without TLS: whoever is on the way reads the tokens", Do: "use https"}
	}
	return finding{Level: fine, Check: "endpoints", Text: origin + " answers"}
}
