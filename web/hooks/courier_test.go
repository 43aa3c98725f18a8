package hooks

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/egress"
)

// newCourier makes one whose policy allows this machine, and that sends a fixed body.
func newCourier(t *testing.T, allow ...string) *Courier {
	t.Helper()
	policy, err := egress.New(egress.Options{Allow: allow})
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{
		Client: policy.TokenClient(), UserAgent: "coatcheck/test",
		Encode: func(*broker.Notice) ([]byte, error) { return []byte(body), nil },
		CheckURL: func(raw string) error {
			_, err := policy.CheckURL(raw, egress.URLOptions{Literal: true})
			return err
		},
		Reach: func(err error) *broker.Error {
			switch egress.Classify(err) {
			case egress.Blocked:
				return broker.ErrEgressBlocked
			case egress.Timeout:
				return broker.ErrProviderTimeout
			case egress.Unreachable:
				return broker.ErrUnreachable
			}
			return broker.ErrUnreachable
		},
	})
}

func parcel(url string) *broker.Parcel {
	return &broker.Parcel{ID: "event-1", URL: url, At: now, Keys: []broker.Secret{broker.NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")}, Notice: &broker.Notice{}}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestWhatIsSent(t *testing.T) {
	type request struct {
		method, path, body string
		header             http.Header
	}
	got := make(chan request, 1)
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got <- request{r.Method, r.URL.String(), string(raw), r.Header}
	})
	if r := newCourier(t, "127.0.0.1").Deliver(t.Context(), parcel(url+"/hooks?a=b")); r != (broker.Receipt{Status: 200}) {
		t.Fatalf("%+v", r)
	}
	r := <-got
	if r.method != http.MethodPost || r.path != "/hooks?a=b" || r.body != body {
		t.Errorf("%s %s %s", r.method, r.path, r.body)
	}
	if r.header.Get("Content-Type") != "application/json" || r.header.Get("User-Agent") != "coatcheck/test" || r.header.Get("Webhook-Id") != "event-1" {
		t.Errorf("headers %v", r.header)
	}
}

func TestWhatCameOfIt(t *testing.T) {
	c := newCourier(t, "127.0.0.1")
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    broker.Receipt
	}{
		"success, whatever it says": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202); _, _ = io.WriteString(w, "thanks") }, broker.Receipt{Status: 202}},
		"a redirect is not followed": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				t.Error("it was followed")
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(307)
		}, broker.Receipt{Status: 307}},
		"a refusal": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(429)
			_, _ = io.WriteString(w, "not\nnow\x1b[31m"+strings.Repeat("!", 5000))
		}, broker.Receipt{Status: 429, RetryAfter: time.Minute, Answer: "not now[31m" + strings.Repeat("!", 1012)}},
		"it hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, broker.Receipt{Code: "receiver_unreachable"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.Deliver(t.Context(), parcel(serve(t, test.handler)+"/")); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestASilentReceiver(t *testing.T) {
	arrived := make(chan struct{})
	release := make(chan struct{})
	url := serve(t, func(http.ResponseWriter, *http.Request) { close(arrived); <-release })
	defer close(release)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-arrived; cancel(context.DeadlineExceeded) }()
	if got := newCourier(t, "127.0.0.1").Deliver(ctx, parcel(url)); got.Status != 0 || got.Code == "" {
		t.Errorf("got %+v", got)
	}
}

// The policy holds when an address is entered, and again when it is dialled.
func TestAddressesThatMustNotBeContacted(t *testing.T) {
	asked := false
	local := serve(t, func(http.ResponseWriter, *http.Request) { asked = true })
	c := newCourier(t)
	for _, url := range []string{local, "http://app.example.com", "https://127.0.0.1/", "https://user@app.example.com/", "https://169.254.169.254/", "ftp://app.example.com"} {
		if err := c.CheckURL(url); !errors.Is(err, broker.ErrURLNotAllowed) {
			t.Errorf("%s: %v", url, err)
		}
		if got := c.Deliver(t.Context(), parcel(url)); got.Code != "url_not_allowed" || got.Status != 0 {
			t.Errorf("%s: %+v", url, got)
		}
	}
	if asked {
		t.Error("a private address was contacted")
	}
	// A name that passes, and leads to this machine after all.
	blocked := newCourier(t)
	blocked.o.CheckURL = func(string) error { return nil }
	if got := blocked.Deliver(t.Context(), parcel(strings.Replace(local, "127.0.0.1", "localhost", 1))); got.Code != "egress_blocked" || asked {
		t.Errorf("%+v", got)
	}
}
