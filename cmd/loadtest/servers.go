package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// The names by which callers choose a connection, in the form that net/http gives them.
const (
	integrationHeader = "Provider-Config-Key"
	connectionHeader  = "Connection-Id"
)

// The upstream's paths.
const (
	smallPath = "/small" // 200 bytes of JSON
	largePath = "/large" // a large body
	sinkPath  = "/sink"  // takes a body of any size
)

// listening is what a server of ours says, followed by its address, when it can be reached.
const listening = "listening "

// serveUntilClosed serves until ctx or stdin ends; whoever started us holds the other end of that, so that no server
// outlives the run.
func serveUntilClosed(ctx context.Context, h http.Handler, stdin io.Reader, stdout io.Writer) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		close(closed)
	}()
	go func() {
		select {
		case <-closed:
		case <-ctx.Done():
		}
		_ = s.Close()
	}()
	if _, err := fmt.Fprintf(stdout, "%s%s\n", listening, l.Addr()); err != nil {
		return errors.Join(err, l.Close())
	}
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serveUpstream is the API that everything is proxied to.
func serveUpstream(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("upstream", flag.ContinueOnError)
	tokens := tokenList{}
	flags.Var(&tokens, "token", "access token to accept; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return serveUntilClosed(ctx, upstreamHandler(tokens...), stdin, stdout)
}

type tokenList []string

// String gives nothing: tokens are not shown.
func (l *tokenList) String() string { return "" }

// Set adds a token.
func (l *tokenList) Set(token string) error {
	*l = append(*l, token)
	return nil
}

// upstreamHandler answers whoever shows one of the tokens.
func upstreamHandler(tokens ...string) http.Handler {
	accepted := make(map[string]bool)
	for _, token := range tokens {
		accepted["Bearer "+token] = true
	}
	small := bytes.Repeat([]byte("x"), 200)
	copy(small, `{"text":"`)
	copy(small[len(small)-2:], `"}`)
	chunk := make([]byte, 256<<10)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !accepted[r.Header.Get("Authorization")] {
			http.Error(w, "the token is not the right one", http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case largePath:
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Length", strconv.Itoa(large))
			for sent := 0; sent < large; sent += len(chunk) {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
			return
		case sinkPath:
			if n, err := io.Copy(io.Discard, r.Body); err != nil || n != r.ContentLength {
				http.Error(w, "the body is not whole", http.StatusBadRequest)
				return
			}
		}
		w.Header()["Content-Type"] = []string{"application/json"}
		_, _ = w.Write(small)
	})
}

// serveBare is what the broker is compared with.
func serveBare(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("bare", flag.ContinueOnError)
	upstream := flags.String("upstream", "", "address of the upstream")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return serveUntilClosed(ctx, bareProxy(*upstream), stdin, stdout)
}

// bareProxy is the standard library's reverse proxy with a transport that keeps its connections and a pool of buffers. It
// does nothing else; the caller sends the right token itself. Both proxies get the same request, apart from the value
// of Authorization, and both pass the same one on, so it drops the two headers that the broker understands.
func bareProxy(upstream string) http.Handler {
	to := &url.URL{Scheme: "http", Host: upstream}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			delete(r.Out.Header, integrationHeader)
			delete(r.Out.Header, connectionHeader)
		},
		Transport: &http.Transport{
			MaxIdleConns: 4096, MaxIdleConnsPerHost: 512, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
		},
		BufferPool: &buffers{sync.Pool{New: func() any { return new([32 << 10]byte) }}},
	}
}

// buffers keeps copy buffers for the reverse proxy.
type buffers struct{ pool sync.Pool }

// Get gives a buffer.
func (b *buffers) Get() []byte { return b.pool.Get().(*[32 << 10]byte)[:] }

// Put takes it back.
func (b *buffers) Put(buf []byte) { b.pool.Put((*[32 << 10]byte)(buf)) }
