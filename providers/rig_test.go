package providers

import (
	"net/http"
	"net/url"
	"os"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/egress"
)

// loopback is the operator's policy in these tests: this machine may be reached.
func loopback(t testing.TB) *egress.Policy {
	t.Helper()
	p, err := egress.New(egress.Options{Allow: []string{"127.0.0.0/8"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// options are a catalogue's options with the real policy for outgoing requests behind them.
func options(t testing.TB, overlays ...string) Options {
	t.Helper()
	policy := loopback(t)
	o := Options{
		Client: policy.TokenClient(),
		CheckURL: func(raw string, literal bool) (*url.URL, error) {
			return policy.CheckURL(raw, egress.URLOptions{Literal: literal})
		},
		Reach: func(err error) *broker.Error {
			switch egress.Classify(err) {
			case egress.Blocked:
				return broker.ErrEgressBlocked
			case egress.Timeout:
				return broker.ErrProviderTimeout
			case egress.Unreachable:
			}
			return broker.ErrUnreachable
		},
	}
	for _, text := range overlays {
		o.Overlays = append(o.Overlays, File{Name: "overlay.yaml", Data: []byte(text)})
	}
	return o
}

func builtin(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("../providers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// load loads overlays that have to be right.
func load(t testing.TB, overlays ...string) *Catalogue {
	t.Helper()
	c, err := Load(options(t, overlays...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loadBuiltin loads the catalogue that comes with the program.
func loadBuiltin(t testing.TB, overlays ...string) *Catalogue {
	t.Helper()
	o := options(t, overlays...)
	o.Builtin = builtin(t)
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// provider finds an entry as what it has to be.
func provider[P any](t testing.TB, c *Catalogue, name string) P {
	t.Helper()
	found, ok := c.Provider(name)
	if !ok {
		t.Fatalf("there is no provider %s", name)
	}
	p, ok := found.(P)
	if !ok {
		t.Fatalf("provider %s is a %T", name, found)
	}
	return p
}

// oauth finds an OAuth 2 entry.
func oauth(t testing.TB, c *Catalogue, name string) *oauth2Provider {
	t.Helper()
	return provider[*oauth2Provider](t, c, name)
}

var client = &broker.Client{ID: "test-client", Secret: broker.NewSecret("test-client-secret-0123456789")}

// roundTripper answers requests in place of the network.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// blockingTransport reaches public addresses alone.
func blockingTransport(t testing.TB) http.RoundTripper {
	t.Helper()
	p, err := egress.New(egress.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p.TokenClient().Transport
}
