package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/proxy"
)

func TestCallsUnderWayAreCounted(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits proxy.Limits
		same   int // what a further call through the same connection gets
		other  int // and one through another
	}{
		{"per connection", proxy.Limits{PerConnection: 2}, http.StatusTooManyRequests, http.StatusOK},
		{"in all", proxy.Limits{Global: 2}, http.StatusTooManyRequests, http.StatusTooManyRequests},
	} {
		t.Run(test.name, func(t *testing.T) {
			arrived, release := make(chan struct{}), make(chan struct{})
			r := newRig(t, func(_ http.ResponseWriter, q *http.Request) {
				if q.URL.Path == "/wait" {
					arrived <- struct{}{}
					<-release
				}
			}, func(r *rig) { r.limits = test.limits })
			r.put("keyed", "d", &broker.Material{Type: "API_KEY", Access: broker.NewSecret(apiKey)})
			var group sync.WaitGroup
			for range 2 {
				group.Go(func() { r.get("keyed", "/wait") })
				<-arrived
			}
			same, other := r.get("keyed", "/x"), r.get("keyed", "/x", "Connection-Id", "d")
			sent := r.do(r.request(http.MethodPost, "keyed", "/x", strings.NewReader("body")))
			close(release)
			group.Wait()
			sent.refused(t, http.StatusTooManyRequests, "rate_limited", "too_many_request")
			if sent.Close {
				t.Error("a connection is given up for a call that comes too early")
			}
			if same.StatusCode != test.same || other.StatusCode != test.other {
				t.Errorf("got %d and %d, want %d and %d", same.StatusCode, other.StatusCode, test.same, test.other)
			}
			same.refused(t, http.StatusTooManyRequests, "rate_limited", "too_many_request")
			if same.Header.Get("Retry-After") != "1" || !strings.Contains(same.body, `"method":"GET","path":"/proxy/x"`) {
				t.Errorf("got %v %s", same.Header, same.body)
			}
			if a := r.do(r.request(http.MethodPost, "keyed", "/x", strings.NewReader("body"))); a.StatusCode != http.StatusOK {
				t.Errorf("afterwards: got %d", a.StatusCode)
			}
		})
	}
}

// A key that sends too much is refused before anything is asked of anybody, and told when to come back.
func TestKeyLimit(t *testing.T) {
	var asked []broker.APIKeyID
	var refuse error
	r := newRig(t, echo, func(r *rig) {
		r.keyLimit = func(k broker.APIKeyID) error {
			asked = append(asked, k)
			return refuse
		}
	})
	if a := r.get("oauth", "/x"); a.StatusCode != http.StatusOK {
		t.Fatalf("got %d %s", a.StatusCode, a.body)
	}
	r.get("oauth", "/x", "Authorization", "Bearer an-unknown-key-of-some-length").refused(t, http.StatusUnauthorized, "unauthorized", "unknown_account")
	refuse = broker.ErrRateLimited.After(1500 * time.Millisecond)
	a := r.get("nope", "/x") // the limit is asked first
	a.refused(t, http.StatusTooManyRequests, "rate_limited", "too_many_request")
	if a.Header.Get("Retry-After") != "2" {
		t.Errorf("got %v", a.Header)
	}
	if len(asked) != 2 || asked[0] != r.who.Key || asked[1] != r.who.Key {
		t.Errorf("the limit was asked about %v", asked)
	}
}

func TestBodyLimit(t *testing.T) {
	r := newRig(t, echo, func(r *rig) { r.limits = proxy.Limits{MaxBody: 10} })
	for _, test := range []struct {
		body   string
		length int64
		status int
	}{
		{"0123456789", 10, 200},
		{"0123456789", -1, 200},
		{"0123456789a", 11, 413},
		{"0123456789a", -1, 413},
	} {
		req := r.request(http.MethodPost, "oauth", "/x", io.MultiReader(strings.NewReader(test.body)))
		req.ContentLength = test.length
		a := r.do(req)
		if a.StatusCode != test.status {
			t.Errorf("%d bytes, length %d: got %d %s", len(test.body), test.length, a.StatusCode, a.body)
		}
		if test.status != http.StatusOK {
			a.refused(t, http.StatusRequestEntityTooLarge, "body_too_large", "body_too_large")
		}
	}
}

// A body that ends early is not taken for a whole one.
func TestBodyThatBreaksOff(t *testing.T) {
	r := newRig(t, func(_ http.ResponseWriter, q *http.Request) {
		if body, err := io.ReadAll(q.Body); err == nil {
			t.Errorf("the API took %q for the whole", body)
		}
	})
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", r.server.Listener.Addr().String())
	must(t, err)
	_, err = io.WriteString(conn, head("POST", "/x", "oauth", "Content-Length: 100")+"the beginning")
	must(t, err)
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("%T", conn)
	}
	must(t, tcp.CloseWrite())
	out, err := io.ReadAll(conn)
	if err != nil || len(out) > 0 && !strings.HasPrefix(string(out), "HTTP/1.1 400 ") {
		t.Errorf("got %q, %v", out, err)
	}
	must(t, conn.Close())
}

// idle is short, and yet no call that moves runs into it.
func idle(r *rig) { r.limits = proxy.Limits{IdleTimeout: 300 * time.Millisecond} }

func TestIdleProvider(t *testing.T) {
	for _, body := range []string{"", "body"} {
		left := make(chan struct{}, 1)
		r := newRig(t, func(_ http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			<-q.Context().Done()
			left <- struct{}{}
		}, idle)
		a := r.do(r.request(http.MethodPost, "oauth", "/x", strings.NewReader(body)))
		a.refused(t, http.StatusInternalServerError, "provider_timeout", "ETIMEDOUT")
		<-left
		if !a.Close {
			t.Error("the connection, whose context has ended, is kept")
		}
	}
}

func TestIdleAnswer(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.WriteString(w, "begin")
		must(t, http.NewResponseController(w).Flush())
		<-q.Context().Done()
	}, idle)
	res, err := r.client.Do(r.request(http.MethodGet, "oauth", "/x", nil))
	must(t, err)
	if body, err := io.ReadAll(res.Body); err == nil || string(body) != "begin" {
		t.Errorf("got %q, %v", body, err)
	}
	must(t, res.Body.Close())
}

func TestIdleCaller(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/down" {
			_, _ = io.Copy(w, &pattern{n: 1 << 30})
			return
		}
		_, _ = io.Copy(io.Discard, q.Body)
	}, idle)
	dial := func(text string) (net.Conn, *bufio.Reader) {
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp", r.server.Listener.Addr().String())
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, text)
		must(t, err)
		return conn, bufio.NewReader(conn)
	}
	t.Run("does not send", func(t *testing.T) {
		_, in := dial(head("POST", "/up", "oauth", "Content-Length: 100") + "the beginning")
		res, err := http.ReadResponse(in, nil)
		must(t, err)
		body, err := io.ReadAll(res.Body)
		must(t, err)
		must(t, res.Body.Close())
		answer{res, string(body)}.refused(t, http.StatusBadRequest, "invalid_request", "invalid_request")
	})
	t.Run("is refused and does not send", func(t *testing.T) {
		if testing.Short() {
			t.Skip("takes five seconds")
		}
		_, in := dial(strings.Replace(head("POST", "/up", "nope", "Content-Length: 100"), "Connection: close\r\n", "", 1) + "the beginning")
		res, err := http.ReadResponse(in, nil)
		must(t, err)
		_, err = io.Copy(io.Discard, res.Body)
		must(t, err)
		must(t, res.Body.Close())
		if _, err := in.ReadByte(); res.StatusCode != http.StatusNotFound || err == nil {
			t.Errorf("got %d, and the connection is kept", res.StatusCode)
		}
	})
	t.Run("does not read", func(t *testing.T) {
		conn, in := dial(head("GET", "/down", "oauth"))
		if tcp, ok := conn.(*net.TCPConn); ok {
			must(t, tcp.SetReadBuffer(4096))
		}
		_, err := in.ReadString('\n')
		must(t, err)
		r.access.await("/down") // the call ends though nobody reads
	})
}

// A call in which something moves now and then takes as long as it takes.
func TestSlowCallsAreNotIdle(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, q *http.Request) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 8 {
			<-tick.C
			_, _ = io.WriteString(w, "x")
			must(t, http.NewResponseController(w).Flush())
		}
		_, _ = io.Copy(io.Discard, q.Body)
	}, idle)
	if a := r.get("oauth", "/x"); a.body != "xxxxxxxx" {
		t.Errorf("got %q", a.body)
	}
}
