package egress

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

// dialTimeout bounds name resolution and all connection attempts of one dial together. It is shorter
// than any client's total, so that a silent port fails as a dial; see Classify.
const dialTimeout = 10 * time.Second

// dial connects to host:port. The host is still a name here, so this is where a name on the allow
// list is known; each resolved address is judged in Control, between the making of its socket and
// the connect.
func (p *Policy) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, ErrBlocked
	}
	named := p.allowsName(host)

	// With several addresses the dialler returns the first error of one family. Whether the caller
	// hears of a blocked address must not depend on the order of a DNS answer.
	var blocked atomic.Bool
	d := net.Dialer{
		Timeout:  dialTimeout,
		Resolver: p.resolver,
		Control: func(_, address string, _ syscall.RawConn) error {
			// An address that cannot be parsed is the zero AddrPort, which is refused.
			target, _ := netip.ParseAddrPort(address)
			err := p.check(target, named)
			if err != nil {
				blocked.Store(true)
			}
			return err
		},
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil && blocked.Load() {
		return nil, ErrBlocked
	}
	return conn, err
}
