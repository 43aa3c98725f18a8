package broker

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// quote shows a stranger's text in a message: short, and with control characters escaped.
func quote(s string) string {
	if len(s) > 100 {
		s = s[:100] + "..."
	}
	return strconv.Quote(s)
}

// validOrigin reports whether s is an origin as browsers write it: scheme, host, perhaps a port, nothing else.
func validOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.Scheme+"://"+u.Host == s &&
		strings.ToLower(s) == s
}

// parseReturnURL accepts https, and http on this machine; never a user, a fragment, a backslash or a control character,
// which browsers read differently than servers do.
func parseReturnURL(s string) (*url.URL, error) {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) {
		return nil, errors.New("character not allowed")
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	if u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return nil, errors.New("user, fragment or no host")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !Loopback(u.Hostname())) {
		return nil, errors.New("not https")
	}
	return u, nil
}

// ReturnURLAllowed reports whether target equals an entry of the list in scheme, host, port and path.
func ReturnURLAllowed(target string, list []string) bool {
	t, err := parseReturnURL(target)
	if err != nil {
		return false
	}
	for _, entry := range list {
		e, err := parseReturnURL(entry)
		if err == nil && t.Scheme == e.Scheme && strings.EqualFold(t.Host, e.Host) && t.EscapedPath() == e.EscapedPath() {
			return true
		}
	}
	return false
}

// Loopback reports whether host names this machine.
func Loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
