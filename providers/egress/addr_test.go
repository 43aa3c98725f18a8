package egress

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func newPolicy(t testing.TB, o Options) *Policy {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCheckAddrRefusesWhatIsNotPublic(t *testing.T) {
	p := newPolicy(t, Options{})
	families := map[string][]string{
		"this network":      {"0.0.0.0", "0.1.2.3", "::"},
		"loopback":          {"127.0.0.1", "127.255.255.254", "::1"},
		"private":           {"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255"},
		"carrier-grade NAT": {"100.64.0.1", "100.127.255.255"},
		"link-local":        {"169.254.0.1", "169.254.255.255", "fe80::1", "febf::1"},
		"metadata": {
			"169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.0.23", "169.254.42.42", "100.100.100.200",
			"168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe",
			"fd00:42::42", "fd00:a9fe:a9fe::1", "fe80::a9fe:a9fe",
		},
		"unique local":   {"fc00::1", "fd12:3456:789a::1"},
		"site-local":     {"fec0::1"},
		"protocol":       {"192.0.0.1", "192.0.0.170", "192.88.99.1", "2001:1::1", "2001:20::1"},
		"documentation":  {"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"},
		"benchmarking":   {"198.18.0.1", "198.19.255.255", "2001:2::1"},
		"multicast":      {"224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"},
		"reserved":       {"240.0.0.1", "255.255.255.254", "4000::1", "::2", "100::1", "5f00::1"},
		"broadcast":      {"255.255.255.255"},
		"IPv4-mapped":    {"::ffff:169.254.169.254", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0.0.0.0"},
		"IPv4-compat":    {"::127.0.0.1", "::169.254.169.254", "::8.8.8.8"},
		"IPv4-translate": {"::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"},
		"NAT64":          {"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::808:808", "64:ff9b:1::7f00:1", "64:ff9b:1:a9fe:a9:fe00::"},
		"6to4":           {"2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1"},
		"Teredo":         {"2001::1", "2001:0:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:80ff:fffe"},
		"zone":           {"fe80::1%eth0", "2606:4700:4700::1111%eth0", "::1%lo"},
	}
	for family, addrs := range families {
		for _, s := range addrs {
			err := p.CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(s), 443))
			if !errors.Is(err, ErrBlocked) {
				t.Errorf("%s %s: got %v, want ErrBlocked", family, s, err)
			} else if strings.Contains(err.Error(), s) {
				t.Errorf("%s: the error names the address: %v", s, err)
			}
		}
	}
	if err := p.CheckAddr(netip.AddrPort{}); !errors.Is(err, ErrBlocked) {
		t.Errorf("zero address: got %v, want ErrBlocked", err)
	}
}

// The neighbours of refused ranges are reached: a prefix too wide would cut providers off.
func TestCheckAddrAcceptsPublic(t *testing.T) {
	p := newPolicy(t, Options{})
	for _, s := range []string{
		"1.0.0.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
		"128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
		"192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
		"2001:4860:4860::8888", "2606:4700:4700::1111", "2001:db9::1", "2003::1", "::ffff:8.8.8.8",
	} {
		if err := p.CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(s), 443)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestCheckAddrPorts(t *testing.T) {
	strict := newPolicy(t, Options{Allow: []string{"10.0.0.0/8", "192.168.1.5", "8.8.4.4", "fd12::/16"}})
	dev := newPolicy(t, Options{Dev: true})
	tests := []struct {
		policy *Policy
		addr   string
		want   error
	}{
		{strict, "8.8.8.8:443", nil},
		{strict, "8.8.8.8:80", ErrBlocked},
		{strict, "8.8.8.8:8443", ErrBlocked},
		{strict, "8.8.8.8:22", ErrBlocked},
		{strict, "8.8.8.8:0", ErrBlocked},
		{strict, "[2606:4700:4700::1111]:80", ErrBlocked},
		{strict, "10.9.8.7:80", nil},
		{strict, "10.9.8.7:5432", nil},
		{strict, "[::ffff:10.9.8.7]:5432", nil},
		{strict, "192.168.1.5:8080", nil},
		{strict, "192.168.1.6:443", ErrBlocked},
		{strict, "8.8.4.4:8443", nil},
		{strict, "[fd12::1]:8080", nil},
		{strict, "[fd13::1]:443", ErrBlocked},
		{dev, "8.8.8.8:80", nil},
		{dev, "8.8.8.8:443", nil},
		{dev, "8.8.8.8:8080", ErrBlocked},
		{dev, "127.0.0.1:80", ErrBlocked},
	}
	for _, tt := range tests {
		if err := tt.policy.CheckAddr(netip.MustParseAddrPort(tt.addr)); !errors.Is(err, tt.want) {
			t.Errorf("%s (dev %t): got %v, want %v", tt.addr, tt.policy.dev, err, tt.want)
		}
	}
}

var metadata = []string{
	"169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192",
	"fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fe80::a9fe:a9fe",
	"::ffff:169.254.169.254", "::169.254.169.254", "::ffff:0:169.254.169.254", "64:ff9b::a9fe:a9fe",
	"64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "2002:a9fe:a9fe::", "2001:0:a9fe:a9fe::",
}

func TestMetadataStaysBlockedUnderRangesAndNames(t *testing.T) {
	p := newPolicy(t, Options{Allow: []string{
		"0.0.0.0/0", "::/0", "169.254.0.0/16", "100.64.0.0/10", "168.63.0.0/16", "fd00::/8", "64:ff9b::/96", "2002::/15",
	}})
	for _, s := range metadata {
		target := netip.AddrPortFrom(netip.MustParseAddr(s), 80)
		if err := p.CheckAddr(target); !errors.Is(err, ErrBlocked) {
			t.Errorf("%s under a range: got %v, want ErrBlocked", s, err)
		}
		if err := p.check(target, true); !errors.Is(err, ErrBlocked) {
			t.Errorf("%s under a host name: got %v, want ErrBlocked", s, err)
		}
	}
	for _, s := range []string{"127.0.0.1", "10.0.0.1", "169.254.1.1", "::1", "fd12::1", "64:ff9b::a00:1"} {
		if err := p.CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(s), 8080)); err != nil {
			t.Errorf("%s: the ranges do not hold: %v", s, err)
		}
	}
}

func TestMetadataOpensByItsOwnAddress(t *testing.T) {
	for _, entry := range []string{"169.254.169.254", "169.254.169.254/32", "fd00:ec2::254", "fd00:ec2::254/128", "168.63.129.16"} {
		p := newPolicy(t, Options{Allow: []string{entry}})
		s, _, _ := strings.Cut(entry, "/")
		if err := p.CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(s), 80)); err != nil {
			t.Errorf("%s: %v", entry, err)
		}
		if err := p.CheckAddr(netip.MustParseAddrPort("169.254.170.2:80")); !errors.Is(err, ErrBlocked) {
			t.Errorf("%s opens another address: %v", entry, err)
		}
	}
}

// No list entry makes these a destination.
func TestNeverDialled(t *testing.T) {
	p := newPolicy(t, Options{Allow: []string{"0.0.0.0/0", "::/0"}})
	for _, s := range []string{"0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::1%lo", "64:ff9b::", "64:ff9b::e000:1"} {
		target := netip.AddrPortFrom(netip.MustParseAddr(s), 443)
		if err := p.check(target, true); !errors.Is(err, ErrBlocked) {
			t.Errorf("%s: got %v, want ErrBlocked", s, err)
		}
	}
}

func TestNAT64IsJudgedByTheEmbeddedAddress(t *testing.T) {
	p := newPolicy(t, Options{Allow: []string{"64:ff9b::/96", "10.0.0.0/8"}})
	tests := []struct {
		addr string
		want error
	}{
		{"[64:ff9b::808:808]:443", nil},
		{"[64:ff9b::808:808]:80", ErrBlocked},
		{"[64:ff9b::a00:1]:80", nil},
		{"[64:ff9b::7f00:1]:443", ErrBlocked},
		{"[64:ff9b::c0a8:1]:443", ErrBlocked},
	}
	for _, tt := range tests {
		if err := p.CheckAddr(netip.MustParseAddrPort(tt.addr)); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.addr, err, tt.want)
		}
	}
}

func TestNewRefusesBadEntries(t *testing.T) {
	tests := []struct{ entry, reason string }{
		{"", "empty label"},
		{" 10.0.0.1", "neither a network"},
		{"10.0.0.0/33", "not a network"},
		{"10.0.0.0/", "not a network"},
		{"https://idp.example", "not a network"},
		{"10.0.0.5/8", "the network is 10.0.0.0/8"},
		{"::ffff:10.0.0.0/104", "IPv4 form"},
		{"::ffff:10.0.0.1", "IPv4 form"},
		{"fe80::1%eth0", "zone"},
		{"fe80::/10%eth0", "not a network"},
		{"169.254.169.0/24", "one by one"},
		{"169.254.169.128/25", "one by one"},
		{"64:ff9b:1::/48", "one by one"},
		{"2002::/16", "one by one"},
		{"224.0.0.0/4", "no server"},
		{"0.0.0.0", "no server"},
		{"255.255.255.255", "no server"},
		{"::", "no server"},
		{"*.corp.example", "letters, digits and hyphens"},
		{"idp.example:8080", "letters, digits and hyphens"},
		{"[::1]", "letters, digits and hyphens"},
		{"0177.0.0.1", "ends in a number"},
		{"2130706433", "ends in a number"},
		{"idp.example.", "empty label"},
	}
	for _, tt := range tests {
		_, err := New(Options{Allow: []string{"10.0.0.0/8", tt.entry}})
		if err == nil || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%q: got %v, want a reason with %q", tt.entry, err, tt.reason)
		}
	}
	_, err := New(Options{Allow: []string{"10.0.0.0/99", "a_b"}})
	if err == nil || !strings.Contains(err.Error(), `"10.0.0.0/99"`) || !strings.Contains(err.Error(), `"a_b"`) {
		t.Errorf("not every bad entry is named: %v", err)
	}
}
