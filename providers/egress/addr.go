package egress

import (
	"net/netip"

	"code.dny.dev/ssrf"
)

// registry knows the special-purpose ranges that IANA keeps for IPv4 and IPv6, and refuses all IPv6
// outside global unicast. Ports and the allow list are decided here, not there.
var registry = ssrf.New(ssrf.WithAnyNetwork(), ssrf.WithAnyPort())

var (
	// never holds what no TCP server can answer on. No allow list opens it: on Linux, 0.0.0.0 and
	// :: are other names of this machine, which would slip past a list that leaves loopback out.
	never = prefixes(
		"0.0.0.0/8",
		"224.0.0.0/4",
		"255.255.255.255/32",
		"::/128",
		"ff00::/8",
	)

	// oneByOne holds what a range or a host name on the allow list does not open. First the
	// services that hand a cloud machine its credentials and configuration, then the addresses that
	// carry an IPv4 address at a place that is obsolete or not the same in every network, so that
	// they could hide one of the former.
	oneByOne = prefixes(
		"169.254.169.0/24",       // metadata of most clouds; Amazon's DNS and time beside it
		"169.254.170.0/24",       // Amazon ECS and EKS credentials
		"169.254.0.23/32",        // Tencent
		"169.254.42.42/32",       // Scaleway
		"100.100.100.200/32",     // Alibaba
		"168.63.129.16/32",       // Azure's host agent, a public address that is not public
		"192.0.0.192/32",         // Oracle, classic
		"fd00:ec2::254/128",      // Amazon
		"fd00:ec2::23/128",       // Amazon EKS credentials
		"fd20:ce::254/128",       // Google
		"fd00:c1::a9fe:a9fe/128", // Oracle
		"fd00:42::42/128",        // Scaleway
		"fd00:a9fe:a9fe::1/128",  // Linode
		"fe80::a9fe:a9fe/128",    // OpenStack

		"::/96",           // IPv4-compatible (RFC 4291 section 2.5.5.1)
		"::ffff:0:0:0/96", // IPv4-translated (RFC 2765 section 2.1)
		"64:ff9b:1::/48",  // local NAT64 (RFC 8215), whose layout the network chooses
		"2001::/32",       // Teredo (RFC 4380)
		"2002::/16",       // 6to4 (RFC 3056)
	)

	// nat64 is the one prefix whose last four bytes always are the IPv4 address (RFC 6052
	// section 2.1).
	nat64 = ssrf.IPv6NAT64Prefix
)

// verdict is what an address itself gives, before its port is looked at.
type verdict int

const (
	refused verdict = iota
	public          // on the ports that are open to everyone
	listed          // on any port: it is on the allow list
)

// CheckAddr returns ErrBlocked, which does not name the address, unless addr is public and its port
// is 443 (or 80 in dev), or addr is on the allow list. The dialler asks it about each address that
// it is about to connect to.
func (p *Policy) CheckAddr(addr netip.AddrPort) error {
	return p.check(addr, false)
}

// check is CheckAddr where named says that the host name being dialled is on the allow list.
func (p *Policy) check(addr netip.AddrPort, named bool) error {
	v := p.verdict(addr.Addr(), named)
	if v == listed || v == public && p.publicPort(addr.Port()) {
		return nil
	}
	return ErrBlocked
}

func (p *Policy) verdict(addr netip.Addr, named bool) verdict {
	if !addr.IsValid() || addr.Zone() != "" {
		return refused
	}
	addr = addr.Unmap()
	allowed := named || contains(p.networks, addr)
	switch {
	case contains(never, addr):
		return refused
	case p.addrs[addr]:
		return listed
	case contains(oneByOne, addr) && addr != netip.IPv6Loopback(): // which ::/96 holds as well
		return refused
	case nat64.Contains(addr) && allowed:
		return p.verdict(embedded(addr), named)
	case allowed:
		return listed
	case registry.SafeAddr(addr) != nil:
		return refused
	}
	return public
}

func (p *Policy) publicPort(port uint16) bool {
	return port == 443 || port == 80 && p.dev
}

// embedded is the IPv4 address at the end of a NAT64 address.
func embedded(addr netip.Addr) netip.Addr {
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

func contains(in []netip.Prefix, addr netip.Addr) bool {
	for _, p := range in {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// covered reports whether one prefix of the list holds all of network.
func covered(by []netip.Prefix, network netip.Prefix) bool {
	for _, p := range by {
		if p.Bits() <= network.Bits() && p.Contains(network.Addr()) {
			return true
		}
	}
	return false
}

func prefixes(list ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(list))
	for i, s := range list {
		all[i] = netip.MustParsePrefix(s)
	}
	return all
}
