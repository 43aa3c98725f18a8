package egress

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// outside is written down again, by hand, so that a mistake in the tables of the package shows.
var outside = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3", "168.63.129.16/32",
	"::/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "4000::/2", "8000::/1",
)

func FuzzCheckAddr(f *testing.F) {
	for _, s := range append(metadata, "8.8.8.8", "127.0.0.1", "10.0.0.1", "::1", "::", "2606:4700:4700::1111", "2001:db8::1", "64:ff9b::7f00:1") {
		f.Add(netip.MustParseAddr(s).AsSlice(), uint16(443))
		f.Add(netip.MustParseAddr(s).AsSlice(), uint16(80))
	}
	strict := newPolicy(f, Options{})
	wide := newPolicy(f, Options{Allow: []string{"0.0.0.0/0", "::/0"}})
	f.Fuzz(func(t *testing.T, b []byte, port uint16) {
		addr, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		target := netip.AddrPortFrom(addr, port)
		plain := addr.Unmap()
		err := strict.CheckAddr(target)
		if want := port == 443 && !contains(outside, plain) && !as112(plain); (err == nil) != want {
			t.Errorf("%s: got %v, want accepted: %t", target, err, want)
		}
		if err != nil && err != ErrBlocked { //nolint:errorlint // it must say nothing else
			t.Errorf("%s: the error is %v", target, err)
		}
		if again := strict.CheckAddr(netip.AddrPortFrom(plain, port)); (again == nil) != (err == nil) {
			t.Errorf("%s: %v, but unmapped %v", target, err, again)
		}
		if plain.Is4() {
			checkCarriers(t, strict, wide, plain, port)
		}
	})
}

// checkCarriers puts an IPv4 address inside IPv6 ones: never reached by default, and never more than
// the address itself when everything is allowed.
func checkCarriers(t *testing.T, strict, wide *Policy, v4 netip.Addr, port uint16) {
	t.Helper()
	direct := wide.CheckAddr(netip.AddrPortFrom(v4, port))
	b := v4.As4()
	for _, prefix := range []string{"64:ff9b::", "64:ff9b:1::", "::", "::ffff:0:0:0"} {
		carrier := netip.MustParseAddr(prefix).As16()
		copy(carrier[12:], b[:])
		target := netip.AddrPortFrom(netip.AddrFrom16(carrier), port)
		if strict.CheckAddr(target) == nil {
			t.Errorf("%s is reached by default", target)
		}
		if wide.CheckAddr(target) == nil && direct != nil && target.Addr() != netip.IPv6Loopback() {
			t.Errorf("%s is reached although %s is not", target, v4)
		}
	}
	sixToFour := netip.AddrFrom16([16]byte{0x20, 0x02, b[0], b[1], b[2], b[3]})
	teredo := netip.AddrFrom16([16]byte{0x20, 0x01, 0, 0, b[0], b[1], b[2], b[3]})
	for _, carrier := range []netip.Addr{sixToFour, teredo} {
		if wide.CheckAddr(netip.AddrPortFrom(carrier, port)) == nil {
			t.Errorf("%s is reached through a range", carrier)
		}
	}
}

// as112 holds special-purpose ranges that are routed, and that no provider lives in.
func as112(addr netip.Addr) bool {
	return contains(prefixes("192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24", "2620:4f:8000::/48"), addr)
}

var ldh = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func FuzzCheckURL(f *testing.F) {
	for _, raw := range []string{
		"https://example.com", "https://EXAMPLE.com:443/a%2Fb?c=d&e", "https://a@example.com", "https://example.com#x",
		"http://example.com", "https://127.0.0.1", "https://[::ffff:169.254.169.254]/", "https://[64:ff9b::7f00:1]", "https://2130706433",
		"https://0x7f.1", "https://xn--bcher-kva.example", "https://xn--a", "https://example.com.", `https://x.evil.com\@example.com`,
		"https://evil。com", "https://%2e", "https:///x", "https://example.com:0443", "//example.com", "https://[fe80::1%25eth0]:443/",
	} {
		f.Add(raw)
	}
	p := newPolicy(f, Options{})
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := p.CheckURL(raw, URLOptions{})
		if err != nil {
			if !errors.Is(err, ErrURL) {
				t.Errorf("%q: %v is not ErrURL", raw, err)
			}
			return
		}
		host := u.Hostname()
		if u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Opaque != "" || u.Port() != "" && u.Port() != "443" {
			t.Errorf("%q was accepted", raw)
		}
		if len(host) > 253 || !ldh.MatchString(host) || net.ParseIP(host) != nil {
			t.Errorf("%q was accepted with host %q", raw, host)
		}
		if u.Host != host && u.Host != host+":443" {
			t.Errorf("%q: the authority %q is not its host", raw, u.Host)
		}
		again, err := p.CheckURL(u.String(), URLOptions{})
		if err != nil || again.String() != u.String() || again.Host != u.Host {
			t.Errorf("%q: %q is read back as %v, %v", raw, u, again, err)
		}
	})
}

func FuzzCheckHost(f *testing.F) {
	for _, host := range []string{
		"example.com", "evil.com/", "evil.com#", "a@evil.com", `x.evil.com\`, "evil.com:443/?", "evil.com\n", "evil。com", "%2e",
		"a..b", "a.", "-a.com", "xn--bcher-kva.example", "xn--a", "XN--BCHER-KVA.example", "127.0.0.1", "0x7f000001", "017700000001",
	} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if err := CheckHost(host); err != nil {
			if !errors.Is(err, ErrURL) {
				t.Errorf("%q: %v is not ErrURL", host, err)
			}
			return
		}
		if len(host) > 253 || !ldh.MatchString(strings.ToLower(host)) {
			t.Errorf("%q was accepted", host)
		}
		u, err := url.Parse("https://" + host + "/path")
		if err != nil || u.Host != host || u.Path != "/path" || u.User != nil {
			t.Errorf("%q does not stand where a host stands: %v, %v", host, u, err)
		}
		for label := range strings.SplitSeq(host, ".") {
			if err := CheckLabel(label); err != nil {
				t.Errorf("%q: its label %q: %v", host, label, err)
			}
		}
	})
}
