package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// URLOptions says where a URL came from. The zero value is for the ones that strangers write.
type URLOptions struct {
	// Literal accepts an IP address as the host. It is for URLs that the operator wrote, never for
	// those of end users, discovered documents or templates.
	Literal bool
}

// CheckURL parses raw and returns the URL to use from then on, its host in lower case. Parsing raw
// again elsewhere would open a gap between what was checked and what is sent.
//
// It returns ErrURL, with a reason that quotes nothing of raw, unless the URL is https, on a port
// that is open to everyone, without user information or fragment, in printable ASCII, and its host
// passes CheckHost. Where the host is on the allow list by its own name or address, and for
// localhost where loopback is on it, plain http and any port are accepted too. A name is not
// resolved here; the dialler judges its addresses.
func (p *Policy) CheckURL(raw string, opts URLOptions) (*url.URL, error) {
	u, err := p.checkURL(raw, opts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURL, err)
	}
	return u, nil
}

func (p *Policy) checkURL(raw string, opts URLOptions) (*url.URL, error) {
	u, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	port, err := effectivePort(u)
	if err != nil {
		return nil, err
	}
	allowed, err := p.checkTarget(u, opts)
	switch {
	case err != nil:
		return nil, err
	case allowed:
		return u, nil
	case u.Scheme != "https":
		return nil, errors.New("the scheme must be https")
	case !p.publicPort(port):
		return nil, errors.New("the port is not allowed")
	}
	return u, nil
}

// parseURL refuses whatever two parsers may read differently before net/url reads it.
func parseURL(raw string) (*url.URL, error) {
	for _, c := range []byte(raw) {
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return nil, errors.New("it holds a character that a URL cannot have")
		}
		if c == '#' {
			return nil, errors.New("it has a fragment")
		}
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("it is not a URL") // the parser's error quotes all of it
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("the scheme must be https")
	case u.User != nil:
		return nil, errors.New("it has user information")
	case u.Hostname() == "":
		return nil, errors.New("it has no host")
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

// effectivePort is the port that will be dialled.
func effectivePort(u *url.URL) (uint16, error) {
	switch port := u.Port(); {
	case port != "":
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return 0, errors.New("the port is not a number from 1 to 65535")
		}
		return uint16(n), nil
	case strings.HasSuffix(u.Host, ":"):
		return 0, errors.New("the port is empty")
	case u.Scheme == "http":
		return 80, nil
	}
	return 443, nil
}

// checkTarget reports whether the host is on the allow list. An error says that it cannot be used
// at all.
func (p *Policy) checkTarget(u *url.URL, opts URLOptions) (allowed bool, err error) {
	host := u.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		return p.checkLiteral(addr, opts)
	}
	if err := checkHost(host); err != nil {
		return false, err
	}
	return p.opensName(host), nil
}

// opensName reports whether a host name is on the allow list, or is one of this machine and loopback
// is on it.
func (p *Policy) opensName(host string) bool {
	return p.allowsName(host) || isLocal(host) && p.loopback()
}

// isLocal reports whether a name means the machine that resolves it (RFC 6761 section 6.3).
func isLocal(host string) bool {
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func (p *Policy) checkLiteral(addr netip.Addr, opts URLOptions) (allowed bool, err error) {
	if !opts.Literal {
		return false, errors.New("the host is an IP address")
	}
	v := p.verdict(addr, false)
	if v == refused {
		return false, ErrBlocked
	}
	return v == listed, nil
}

// CheckHost returns ErrURL, with a reason that does not quote host, unless host is a DNS name in
// ASCII: letters, digits and hyphens in labels of at most 63 characters, 253 in all, no dot at the
// end, and any internationalised label in its one valid encoding. IP addresses in any notation are
// refused, the decimal, octal and hexadecimal ones of inet_aton included. Upper case is accepted.
func CheckHost(host string) error {
	if err := checkHost(host); err != nil {
		return fmt.Errorf("%w: %w", ErrURL, err)
	}
	return nil
}

// CheckLabel is CheckHost for one label that will stand before a dot: no dots, and it may be a
// number, as account ids are in some providers' host names.
func CheckLabel(label string) error {
	err := checkLabel(label)
	if err == nil {
		err = checkIDNA(label)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrURL, err)
	}
	return nil
}

func checkHost(host string) error {
	if len(host) > 253 {
		return errors.New("the host is longer than 253 characters")
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if err := checkLabel(label); err != nil {
			return err
		}
	}
	// Some resolvers read 0177.1, 0x7f.1 and 2130706433 as addresses. No top-level domain is a
	// number (RFC 1123 section 2.1), so nothing is lost.
	if isNumber(labels[len(labels)-1]) {
		return errors.New("the host ends in a number")
	}
	return checkIDNA(host)
}

// checkLabel is the letters-digits-hyphen rule of RFC 1123 section 2.1 and RFC 5890 section 2.3.1.
func checkLabel(label string) error {
	switch {
	case label == "":
		return errors.New("the host has an empty label")
	case len(label) > 63:
		return errors.New("the host has a label longer than 63 characters")
	case label[0] == '-' || label[len(label)-1] == '-':
		return errors.New("the host has a label that begins or ends in a hyphen")
	}
	for _, c := range []byte(label) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && !isDigit(c) && c != '-' {
			return errors.New("the host holds something else than ASCII letters, digits and hyphens")
		}
	}
	return nil
}

// lookup is the lookup profile of UTS 46, except that hyphens at the third and fourth place pass:
// hosts that are not internationalised have them.
var lookup = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.CheckJoiners(true),
	idna.CheckHyphens(false),
	idna.StrictDomainName(true),
	idna.VerifyDNSLength(true),
)

// checkIDNA decodes and encodes host. Two spellings of one name would otherwise pass a comparison
// of one and be dialled as the other.
func checkIDNA(host string) error {
	host = strings.ToLower(host)
	decoded, err := lookup.ToUnicode(host)
	if err == nil {
		var encoded string
		encoded, err = lookup.ToASCII(decoded)
		if err == nil && encoded == host {
			return nil
		}
	}
	return errors.New("the host has an invalid internationalised label")
}

// isNumber reports whether a label is a decimal, octal or hexadecimal number.
func isNumber(label string) bool {
	digits, isHex := strings.CutPrefix(strings.ToLower(label), "0x")
	for _, c := range []byte(digits) {
		if !isDigit(c) && (!isHex || c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
