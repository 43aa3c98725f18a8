package proxy_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

// A length beside chunks counts for nothing, and does not go upstream: an API that went by it would see another end.
func TestLengthBesideChunksStaysHere(t *testing.T) {
	upstream, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = upstream.Close() }()
	arrived := make(chan string, 1)
	go func() { // not net/http, which would hide what it does not need
		conn, err := upstream.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		var text strings.Builder
		in := bufio.NewReader(conn)
		for !strings.HasSuffix(text.String(), "\r\n0\r\n\r\n") {
			line, err := in.ReadString('\n')
			text.WriteString(line)
			if err != nil {
				break
			}
		}
		arrived <- text.String()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}()
	r := newRig(t, echo, func(r *rig) { r.apiURL = "http://" + upstream.Addr().String() })
	out := r.raw(head("POST", "/x", "oauth", "Content-Length: 60", "Transfer-Encoding: chunked") + "6\r\n-body-\r\n0\r\n\r\n")
	if !strings.HasPrefix(out, "HTTP/1.1 200 ") {
		t.Fatalf("got %s", out)
	}
	got := strings.ToLower(<-arrived)
	if strings.Contains(got, "content-length") || strings.Count(got, "transfer-encoding: chunked\r\n") != 1 || !strings.HasSuffix(got, "\r\n\r\n6\r\n-body-\r\n0\r\n\r\n") {
		t.Errorf("upstream got %q", got)
	}
}
