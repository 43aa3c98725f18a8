package providers

import (
	"net/netip"
	"net/url"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/egress"
)

// hostForm is what a template says about its URL's host: literal text and placeholders, or a placeholder that brings the
// whole URL.
//
// A host is pinned when whoever gives the values cannot choose whose machine it is: the text that follows the last free
// placeholder ends in a domain of the provider, as in ${connectionConfig.subdomain}.example.com. Otherwise it is free:
// our client secret would go wherever an end user says, so such a host has to be on the integration's list.
type hostForm struct {
	whole  string // the placeholder that the URL begins with
	parts  sequence
	isFree bool // as free has it, and no host_pattern says more
}

// fixed reports whether no value has a part in the host.
func (f *hostForm) fixed() bool { return f.variable() == "" }

// variable names the first placeholder that has.
func (f *hostForm) variable() string {
	if f.whole != "" {
		return f.whole
	}
	for _, p := range f.parts {
		if p.ref != "" {
			return p.ref
		}
	}
	return ""
}

// admits reports whether a host has this form.
func (f *hostForm) admits(host string) bool {
	if f.whole != "" {
		return host != ""
	}
	if f.fixed() {
		return host == f.parts.literal()
	}
	prefix, suffix := "", ""
	if first := f.parts[0]; first.ref == "" {
		prefix = first.text
	}
	if last := f.parts[len(f.parts)-1]; last.ref == "" {
		suffix = last.text
	}
	return len(host) > len(prefix)+len(suffix) && strings.HasPrefix(host, prefix) && strings.HasSuffix(host, suffix)
}

func (q sequence) literal() string {
	var b strings.Builder
	for _, p := range q {
		b.WriteString(p.text)
	}
	return b.String()
}

// free reports whether the values choose whose machine the host is. closed says of connection config whether its values
// are a short list.
func (f *hostForm) free(closed func(name string) bool) bool {
	if f.whole != "" {
		return !closed(strings.TrimPrefix(f.whole, "connectionConfig."))
	}
	tail, found := "", false
	for _, p := range f.parts {
		switch {
		case p.ref == "":
			tail += p.text
		case closed(strings.TrimPrefix(p.ref, "connectionConfig.")):
			tail += "x"
		default:
			tail, found = "", true
		}
	}
	if !found {
		return false
	}
	_, domain, _ := strings.Cut(tail, ".")
	domain, _, _ = strings.Cut(domain, ":")
	return !strings.Contains(strings.Trim(domain, "."), ".")
}

// closedPattern reports whether a pattern matches at most 64 texts, as ^(eu|us)$ does and ^[a-z]+$ does not.
func closedPattern(pattern string) bool {
	if !strings.HasPrefix(pattern, "^") || !strings.HasSuffix(pattern, "$") {
		return false
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return false
	}
	n := countMatches(re, 64)
	return n > 0 && n <= 64
}

// countMatches counts the texts that an expression matches; anything above limit stands for more.
func countMatches(re *syntax.Regexp, limit int) int {
	over := limit + 1
	n := 1
	switch re.Op {
	case syntax.OpNoMatch:
		return 0
	case syntax.OpEmptyMatch, syntax.OpLiteral, syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine:
		return 1
	case syntax.OpCharClass:
		n = 0
		for i := 0; i+1 < len(re.Rune); i += 2 {
			n = min(over, n+int(re.Rune[i+1]-re.Rune[i])+1)
		}
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			n = min(over, n*countMatches(sub, limit))
		}
	case syntax.OpAlternate:
		n = 0
		for _, sub := range re.Sub {
			n = min(over, n+countMatches(sub, limit))
		}
	case syntax.OpQuest:
		n = min(over, 1+countMatches(re.Sub[0], limit))
	default:
		return over
	}
	return n
}

// checkWhole checks a value that brings scheme and host: an address without user, query or fragment.
func checkWhole(ref, v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || u.User != nil || u.Fragment != "" ||
		u.RawQuery != "" || strings.ContainsAny(v, "?#\\@ ") {
		return invalid(ref, "is not an address such as https://example.com")
	}
	return checkHost(ref, u.Host)
}

// checkHostEnd checks a value that ends a host: a port and a path may follow it.
func checkHostEnd(ref, v string) error {
	host, path, _ := strings.Cut(v, "/")
	if strings.ContainsAny(path, "?#\\@%; ") || hasDotSegment(path) {
		return invalid(ref, "is not a host name")
	}
	return checkHost(ref, host)
}

// checkHost checks a host name or an address, and a port behind it.
func checkHost(ref, host string) error {
	if addr, err := netip.ParseAddrPort(host); err == nil && addr.Addr().Zone() == "" {
		return nil
	}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && addr.Zone() == "" {
		return nil
	}
	name, port, hasPort := strings.Cut(host, ":")
	if hasPort {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
			return invalid(ref, "has a port that is not a number from 1 to 65535")
		}
	}
	return checkLabels(ref, name)
}

// checkLabels checks letters, digits and hyphens between dots.
func checkLabels(ref, name string) error {
	for label := range strings.SplitSeq(name, ".") {
		if egress.CheckLabel(label) != nil {
			return invalid(ref, "is not a host name")
		}
	}
	return nil
}

// invalid is variable_invalid naming the connection config or credential that a placeholder stands for.
func invalid(ref, what string) *broker.Error {
	name := strings.TrimPrefix(strings.TrimPrefix(ref, "connectionConfig."), "credentials.")
	e := broker.ErrVariableInvalid.On(name)
	if what != "" {
		e = e.Saying("the value of " + name + " " + what)
	}
	return e
}

// hasControl finds control characters and what browsers and servers read differently.
func hasControl(v string) bool {
	return strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd })
}

// hostAllowed reports whether a host is on an integration's list, whose entries are hosts or https origins.
func hostAllowed(host string, list []string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ":443")
	for _, entry := range list {
		entry = strings.TrimPrefix(strings.ToLower(entry), "https://")
		if strings.TrimSuffix(strings.TrimSuffix(entry, "/"), ":443") == host {
			return true
		}
	}
	return false
}
