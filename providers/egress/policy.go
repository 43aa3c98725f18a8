package egress

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Options is what the operator decides about outgoing requests. The zero value is the strictest.
type Options struct {
	// Allow lists what may be reached although it is not public, or not on port 443: networks
	// ("10.0.0.0/8"), addresses ("192.168.1.5") and host names ("idp.corp.example"). Whatever is
	// listed may be reached by plain http and on any port. A host name opens the addresses it
	// resolves to, only when that name is dialled. In a network that reaches IPv4 through NAT64,
	// list 64:ff9b::/96: each IPv4 address in it is then judged as if dialled directly.
	Allow []string

	// Dev opens port 80 of public addresses beside port 443.
	Dev bool

	// Proxy is the URL of a forward proxy that everything goes through: http, https or socks5, with
	// its host and port, and perhaps a user name and a password; empty is none. Its own address may be
	// any. It resolves the names of the targets, so it has to refuse the addresses that must not be
	// reached: here only a target's name, port and literal address can be judged.
	Proxy string

	// Resolver looks names up; nil is the system's.
	Resolver *net.Resolver

	// RootCAs are the authorities trusted for TLS; nil is the system's.
	RootCAs *x509.CertPool

	// ProxyHeaderTimeout bounds the wait for an answer's headers in ProxyTransport. Zero is no
	// bound: a long poll may take its time.
	ProxyHeaderTimeout time.Duration
}

// Policy decides what may be reached and makes the clients that obey it. It does not change once
// made and may be used by many goroutines.
type Policy struct {
	dev      bool
	addrs    map[netip.Addr]bool // allowed one by one
	networks []netip.Prefix      // allowed by the range
	names    map[string]bool     // allowed by host name, in lower case

	resolver *net.Resolver
	forward  dialer // to a target through the forward proxy; nil: there is none
	proxy    *http.Transport
	calls    *http.Transport

	certifiedProxy, certifiedCalls *certified
}

// New makes a Policy. Its error names every entry of Allow that cannot be used, and why, and what is
// wrong with Proxy, of which it quotes nothing.
func New(o Options) (*Policy, error) {
	p := &Policy{
		dev:      o.Dev,
		addrs:    map[netip.Addr]bool{},
		names:    map[string]bool{},
		resolver: o.Resolver,
	}
	var bad []error
	for _, entry := range o.Allow {
		if err := p.allow(entry); err != nil {
			bad = append(bad, fmt.Errorf("allow %q: %w", entry, err))
		}
	}
	if o.Proxy != "" {
		var err error
		if p.forward, err = newForward(o); err != nil {
			bad = append(bad, fmt.Errorf("proxy: %w", err))
		}
	}
	if err := errors.Join(bad...); err != nil {
		return nil, err
	}
	p.proxy = p.proxyTransport(o)
	p.calls = p.callTransport(o)
	p.certifiedProxy, p.certifiedCalls = newCertified(p.proxy), newCertified(p.calls)
	return p, nil
}

func (p *Policy) allow(entry string) error {
	if strings.Contains(entry, "/") {
		network, err := netip.ParsePrefix(entry)
		if err != nil {
			return errors.New("not a network such as 10.0.0.0/8")
		}
		if network.IsSingleIP() {
			return p.allowAddr(network.Addr())
		}
		return p.allowNetwork(network)
	}
	if addr, err := netip.ParseAddr(entry); err == nil {
		return p.allowAddr(addr)
	}
	if err := checkHost(entry); err != nil {
		return fmt.Errorf("neither a network, nor an address, nor a host name: %w", err)
	}
	p.names[strings.ToLower(entry)] = true
	return nil
}

func (p *Policy) allowAddr(addr netip.Addr) error {
	switch {
	case addr.Zone() != "":
		return errors.New("an address with a zone is never dialled")
	case addr.Is4In6():
		return errors.New("write the address in its IPv4 form")
	case contains(never, addr):
		return errors.New("no server can have this address")
	}
	p.addrs[addr] = true
	return nil
}

// allowNetwork refuses what would silently open more, or less, than the operator reads in it.
func (p *Policy) allowNetwork(network netip.Prefix) error {
	switch {
	case network.Addr().Is4In6():
		return errors.New("write the network in its IPv4 form")
	case network != network.Masked():
		return fmt.Errorf("bits are set after the prefix; the network is %s", network.Masked())
	case covered(never, network):
		return errors.New("no server can have an address in this network")
	case covered(oneByOne, network):
		return errors.New("addresses in this network must be listed one by one")
	}
	p.networks = append(p.networks, network)
	return nil
}

// loopback reports whether this machine itself may be reached.
func (p *Policy) loopback() bool {
	return p.verdict(netip.AddrFrom4([4]byte{127, 0, 0, 1}), false) == listed ||
		p.verdict(netip.IPv6Loopback(), false) == listed
}

// allowsName reports whether the host name itself is on the allow list.
func (p *Policy) allowsName(host string) bool { return p.names[strings.ToLower(host)] }
