package egress

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is a name server in memory: for each name, the answers to one lookup after the other, the
// last of them for good. It makes a name change its mind between two lookups.
type zone struct {
	names map[string][][]string

	mu    sync.Mutex
	asked map[dnsmessage.Question]int
}

// resolver asks only the zone; no packet leaves the process.
func (z *zone) resolver() *net.Resolver {
	z.asked = map[dnsmessage.Question]int{}
	return &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() { _ = z.serve(server) }() // a failure is a failed lookup to the client
			return client, nil
		},
	}
}

// serve answers one query in the framing of RFC 1035 section 4.2.2.
func (z *zone) serve(conn net.Conn) error {
	defer conn.Close()
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, query); err != nil {
		return err
	}
	answer, err := z.answer(query)
	if err != nil {
		return err
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	return err
}

func (z *zone) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	q := m.Questions[0]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}
	m.Additionals = nil

	z.mu.Lock()
	defer z.mu.Unlock()
	lookups, ok := z.names[strings.ToLower(q.Name.String())]
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
		return m.Pack()
	}
	for _, s := range lookups[min(z.asked[q], len(lookups)-1)] {
		if r, ok := resource(q, netip.MustParseAddr(s)); ok {
			m.Answers = append(m.Answers, r)
		}
	}
	z.asked[q]++
	return m.Pack()
}

func resource(q dnsmessage.Question, addr netip.Addr) (dnsmessage.Resource, bool) {
	r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}}
	switch {
	case q.Type == dnsmessage.TypeA && addr.Is4():
		r.Body = &dnsmessage.AResource{A: addr.As4()}
	case q.Type == dnsmessage.TypeAAAA && addr.Is6():
		r.Body = &dnsmessage.AAAAResource{AAAA: addr.As16()}
	default:
		return r, false
	}
	return r, true
}
