package providertest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// FreeAddr gives a loopback address on which nobody listens, for a process that must know its own before it starts. Its port
// lies below those that systems give to outgoing calls and to listeners on port 0, so that nobody takes it by chance meanwhile.
func FreeAddr(t testing.TB) string {
	t.Helper()
	const lowest, tries = 20000, 100
	for range tries {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.IntN(12000))) //nolint:gosec // a port, and no secret
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	t.Fatal("no port is free")
	return ""
}
