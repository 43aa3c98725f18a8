package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// target is where a call goes.
type target struct {
	scheme string
	host   string
	base   string // the base URL's path, escaped, without a slash at its end
	path   string // the whole path, as it is sent: base and what the caller asked for
	query  string // the caller's, as it is sent
	odd    bool   // net/url would escape some of the path's characters once more
	itself bool   // it is the base URL, to the letter, and not what is below it
}

// prefix is where the proxy is mounted; the router matches it in any case.
const prefix = "/proxy"

// rawPath gives the request's path as it was sent. [url.URL] keeps it only where its own form differs.
func rawPath(r *http.Request) string {
	if r.URL.RawPath != "" {
		return r.URL.RawPath
	}
	if strings.HasPrefix(r.RequestURI, "/") {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		return path
	}
	return r.URL.EscapedPath()
}

// endpointOf gives what the caller asked for, beginning with a slash; an absolute URL begins after it.
func endpointOf(path string) (string, error) {
	if len(path) < len(prefix) || !strings.EqualFold(path[:len(prefix)], prefix) {
		return "", broker.ErrInvalidPath
	}
	if path = path[len(prefix):]; path == "" {
		path = "/"
	}
	return path, nil
}

// below gives the target of a base URL, without a path.
func below(base *url.URL) target {
	return target{scheme: base.Scheme, host: base.Host, base: strings.TrimSuffix(base.EscapedPath(), "/")}
}

// at puts an endpoint below a base URL. Errors: invalid_path.
func at(base *url.URL, endpoint string) (target, error) {
	t := below(base)
	if strings.Contains(endpoint, "://") {
		endpoint = t.relative(endpoint)
	}
	var ok bool
	if t.odd, ok = checkPath(endpoint); !ok {
		return t, broker.ErrInvalidPath
	}
	t.path = t.base + endpoint
	return t, nil
}

// exactly gives a base URL itself as the target, as it was written.
func exactly(base *url.URL) target {
	t := below(base)
	t.itself, t.path = true, base.EscapedPath()
	if t.path == "" {
		t.path = "/"
	}
	return t
}

// under reports whether a URL is the base or below it.
func under(u, base *url.URL) bool {
	root := strings.TrimSuffix(base.EscapedPath(), "/")
	return u.Scheme == base.Scheme && u.Host == base.Host && strings.HasPrefix(strings.TrimSuffix(u.EscapedPath(), "/")+"/", root+"/")
}

// relative takes the base off an absolute URL, so that callers may write whole ones where they match. What is absolute
// and does not match comes back as something that is no path.
func (t *target) relative(endpoint string) string {
	scheme, rest, _ := strings.Cut(endpoint[1:], "://")
	if !isScheme(scheme) {
		return endpoint // an URL somewhere inside, which is the provider's business
	}
	end := strings.IndexByte(rest, '/')
	if end < 0 {
		end = len(rest)
	}
	path := rest[end:]
	if !strings.EqualFold(scheme, t.scheme) || !sameHost(t.scheme, rest[:end], t.host) || !strings.HasPrefix(path, t.base) {
		return ""
	}
	switch path = path[len(t.base):]; {
	case path == "":
		return "/"
	case path[0] != '/':
		return "" // the base ends within a segment
	}
	return path
}

// isScheme reports whether s can be a URL's scheme (RFC 3986 section 3.1).
func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (i == 0 || !(s[i] >= '0' && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.')) {
			return false
		}
	}
	return s != ""
}

// sameHost compares hosts, with or without the scheme's own port. Some letters beyond ASCII fold to one of it, but are
// longer, and stay another host's.
func sameHost(scheme, a, b string) bool {
	port := ":443"
	if scheme == "http" {
		port = ":80"
	}
	a, b = withoutPort(a, port), withoutPort(b, port)
	return len(a) == len(b) && strings.EqualFold(a, b)
}

// withoutPort takes a port off a host that has no other. An IPv6 address has brackets.
func withoutPort(host, port string) string {
	if name, ok := strings.CutSuffix(host, port); ok && (strings.HasSuffix(name, "]") || strings.IndexByte(name, ':') < 0) {
		return name
	}
	return host
}

// maxDecodings is how often a path may have been escaped. Nobody but an attacker escapes so often, and each round costs
// a pass over the path.
const maxDecodings = 5

// checkPath accepts a path that no server on the way can take for another one: it begins with one slash, and, however
// often it is decoded, has no dot segment, no backslash and no control character. An encoded slash inside a segment is
// fine. The path is sent as it was checked.
func checkPath(path string) (odd, ok bool) {
	escaped := false
	if !strings.HasPrefix(path, "/") {
		return false, false
	}
	for i := range len(path) {
		switch pathClass[path[i]] {
		case never:
			return false, false
		case percent:
			if i+2 >= len(path) || hexValue(path[i+1]) < 0 || hexValue(path[i+2]) < 0 {
				return false, false
			}
			escaped = true
		case unusual:
			odd = true
		case usual:
		}
	}
	if deceives(path) {
		return false, false
	}
	if !escaped {
		return odd, true
	}
	for range maxDecodings {
		decoded := decode(path)
		if decoded == path {
			return odd, true
		}
		path = decoded
		if strings.ContainsFunc(path, neverDecoded) || deceives(path) {
			return false, false
		}
	}
	return false, false
}

// classes of a path's characters.
const (
	never   = iota // would end the path, or confuse whoever reads it
	usual          // sent as it is by net/url
	unusual        // not allowed in a URL, but sent by some clients; goes on as it is
	percent
)

var pathClass = func() (class [256]byte) {
	for c := ' ' + 1; c < 256; c++ {
		class[c] = unusual
	}
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~!$&'()*+,;=:@[]/" {
		class[c] = usual
	}
	class['%'] = percent
	for _, c := range `\#?` + "\x7f" {
		class[c] = never
	}
	return class
}()

func neverDecoded(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }

// deceives reports whether a path, decoded or not, leads elsewhere than it seems to: to another host, or up.
func deceives(path string) bool {
	first, _, _ := strings.Cut(path[1:], "/")
	if first == "" && len(path) > 1 {
		return true // begins with two slashes, which is a host to some
	}
	if user, _, ok := strings.Cut(first, "@"); ok && (user == "" || strings.Contains(user, ":")) {
		return true // a host, to whoever pastes it behind another
	}
	if strings.Contains(path, "/.") {
		for segment := range strings.SplitSeq(path, "/") {
			// Some servers cut a segment's parameters off before they look for dots.
			segment, _, _ = strings.Cut(segment, ";")
			if segment == "." || segment == ".." {
				return true
			}
		}
	}
	return overlong(path)
}

// overlong reports whether the path holds an ASCII character in more bytes than it needs, as decoders once accepted
// (RFC 3629 section 10): C0 AE is a dot to them.
func overlong(path string) bool {
	for i := 0; i+1 < len(path); i++ {
		switch next := path[i+1]; path[i] {
		case 0xc0, 0xc1:
			if next&0xc0 == 0x80 {
				return true
			}
		case 0xe0:
			if next >= 0x80 && next < 0xa0 {
				return true
			}
		}
	}
	return false
}

// decode takes one layer of percent escapes off. What is no escape stays.
func decode(path string) string {
	first := strings.IndexByte(path, '%')
	if first < 0 {
		return path
	}
	out := append(make([]byte, 0, len(path)), path[:first]...)
	for i := first; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if high, low := hexValue(path[i+1]), hexValue(path[i+2]); high >= 0 && low >= 0 {
				out = append(out, byte(high<<4|low)) //nolint:gosec // two hexadecimal digits
				i += 2
				continue
			}
		}
		out = append(out, path[i])
	}
	return string(out)
}

// hexValue gives a hexadecimal digit's value, or -1.
func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// apply makes u the target, with the parameters of the provider's authentication.
func (t *target) apply(u *url.URL, params []broker.Param) error {
	u.Scheme, u.Host, u.User = t.scheme, t.host, nil
	u.Path, u.RawPath, u.Opaque = t.path, t.path, ""
	u.Fragment, u.RawFragment = "", ""
	if strings.IndexByte(t.path, '%') >= 0 {
		var err error
		if u.Path, err = url.PathUnescape(t.path); err != nil {
			return broker.ErrInvalidPath
		}
	}
	if t.odd {
		u.Opaque = t.path // as it is: net/url would escape it
	}
	u.RawQuery = withParams(t.query, params)
	return nil
}

// holds reports whether u still is the target. It is asked last, when everybody has had a hand in u.
func (t *target) holds(u *url.URL) bool {
	path := u.Opaque
	if path == "" {
		path = u.EscapedPath()
	}
	return u.Scheme == t.scheme && u.Host == t.host && u.User == nil && path == t.path &&
		strings.HasPrefix(path, t.base) && (t.itself || len(path) > len(t.base) && path[len(t.base)] == '/') && !strings.HasPrefix(path, "//")
}

// overridden gives the base URL that the caller names in place of the provider's: an https host that the integration
// lists, or the provider's own origin. Errors: a refusal invalid_headers, base_url_not_allowed.
func overridden(raw string, base *url.URL, hosts []string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return nil, invalidHeaders([]issue{{Code: "invalid_format", Message: "Invalid URL", Path: []string{strings.ToLower(headerBaseURL)}}})
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(raw, "#") {
		return nil, broker.ErrBaseURLNotAllowed
	}
	if path := u.EscapedPath(); path != "" {
		if odd, ok := checkPath(path); !ok || odd {
			return nil, broker.ErrBaseURLNotAllowed
		}
	}
	if base != nil && u.Scheme == base.Scheme && sameHost(u.Scheme, u.Host, base.Host) {
		u.Host = base.Host
		return u, nil
	}
	for _, host := range hosts {
		if u.Scheme == "https" && sameHost(u.Scheme, u.Host, host) {
			u.Host = strings.ToLower(u.Host)
			return u, nil
		}
	}
	return nil, broker.ErrBaseURLNotAllowed
}
