package kit

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the reverse proxies in front of us. Only they are believed about whom they speak for.
type Proxies []netip.Prefix

// ClientIP gives the address of who sent the request: the peer, or, where the peer is a trusted proxy, the last address
// in X-Forwarded-For that is not one. Addresses before that one are whatever the client wrote there.
func (p Proxies) ClientIP(r *http.Request) netip.Addr {
	client := Peer(r.RemoteAddr)
	if !p.Trusts(client) {
		return client
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, ok := parseHop(hop)
		if !ok {
			return client
		}
		if client = a; !p.Trusts(client) {
			return client
		}
	}
	return client
}

// Trusts reports whether the address is one of the proxies'.
func (p Proxies) Trusts(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Peer gives the address at the other end of a connection, from its text with a port; the zero Addr if it has none.
func Peer(remote string) netip.Addr {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return clean(peer.Addr())
}

// parseHop reads an address as proxies write it, some of them with a port.
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.TrimSpace(hop)
	if a, err := netip.ParseAddr(strings.Trim(hop, "[]")); err == nil {
		return clean(a), true
	}
	if ap, err := netip.ParseAddrPort(hop); err == nil {
		return clean(ap.Addr()), true
	}
	return netip.Addr{}, false
}

// clean gives one form to an address that can be written in several.
func clean(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
