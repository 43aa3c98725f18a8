package broker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// importedWith imports a connection with that connection config.
func (r *rig) importedWith(key string, config map[string]any) broker.ConnectionRef {
	r.t.Helper()
	access, refresh := r.provider.issue(time.Hour)
	_, _, err := r.broker.Import(r.t.Context(), r.who, broker.ImportInput{
		Integration: "one", Key: key, Config: config,
		Material: &broker.Material{
			Type: "OAUTH2", Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh), ExpiresAt: r.clock.Now().Add(time.Hour),
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return broker.ConnectionRef{Integration: "one", Key: key}
}

// restart ends the process, as far as the database can tell, and begins another.
func (r *rig) restart() {
	r.t.Helper()
	if err := r.store.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.start()
}

// wayOut asks for a connection's way out.
func (r *rig) wayOut(ref broker.ConnectionRef) (*broker.Outbound, error) {
	r.t.Helper()
	return r.broker.Outbound(r.t.Context(), r.who, ref.Integration, ref.Key)
}

// announced counts the events of a kind.
func (r *rig) announced(kind broker.EventKind) int {
	r.t.Helper()
	events, err := r.store.Events(r.t.Context(), r.who.Environment, 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	n := 0
	for _, e := range events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// stranded checks that a connection can neither be used nor renewed, and says why.
func (r *rig) stranded(ref broker.ConnectionRef) {
	r.t.Helper()
	before, _ := r.provider.count()
	for range 2 {
		if _, err := r.wayOut(ref); !errors.Is(err, broker.ErrNeedsReauth) {
			r.t.Fatalf("the way out: %v", err)
		}
	}
	_, err := r.broker.Reveal(r.t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true})
	if !errors.Is(err, broker.ErrNeedsReauth) {
		r.t.Fatalf("a forced renewal: %v", err)
	}
	if after, _ := r.provider.count(); after != before {
		r.t.Fatal("the refresh token was sent")
	}
	c, err := r.broker.Connection(r.t.Context(), r.who, ref)
	if err != nil || c.Status != broker.Failing || c.Reason != broker.ReasonOriginChanged || c.ErrorID == "" {
		r.t.Fatalf("status %q, reason %q, %v", c.Status, c.Reason, err)
	}
}

// The catalogue says that the API is somewhere else than when the end users connected: they have to connect again, after
// a restart too, and the app is told once.
func TestAMovedAPIGetsNoOldCredential(t *testing.T) {
	for name, base := range map[string]string{
		"host": "https://evil.example.com", "port": "https://api.fake.example.com:8443", "scheme": "http://api.fake.example.com",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			ref, keyed := r.imported("c", time.Hour), broker.ConnectionRef{Integration: "one", Key: "without a refresh token"}
			r.importToken(keyed.Key, broker.Material{Access: broker.NewSecret("the-only-token")})
			if _, err := r.wayOut(ref); err != nil {
				t.Fatal(err)
			}
			r.provider.set(func(p *fakeProvider) { p.base = base })
			r.restart()
			r.stranded(ref)
			if _, err := r.wayOut(keyed); !errors.Is(err, broker.ErrNeedsReauth) {
				t.Fatalf("without a refresh token: %v", err)
			}
			r.restart()
			r.stranded(ref)
			if n := r.announced(broker.EventNeedsReauth); n != 2 {
				t.Fatalf("the app was told %d times of two connections", n)
			}
			r.imported("c", time.Hour)
			o, err := r.wayOut(ref)
			if err != nil || o.Base().String() != base {
				t.Fatalf("after a new credential: %v", err)
			}
			if c, _ := r.broker.Connection(t.Context(), r.who, ref); c.Status != broker.Active || c.Reason != "" {
				t.Fatalf("status %q, reason %q", c.Status, c.Reason)
			}
		})
	}
}

// What is the same address keeps its connections, however it is written, and so does another path.
func TestTheSameAPIKeepsItsConnections(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	for _, base := range []string{"https://api.fake.example.com/v2", "https://api.fake.example.com:443", "https://API.fake.example.com"} {
		r.provider.set(func(p *fakeProvider) { p.base = base })
		r.restart()
		if _, err := r.wayOut(ref); err != nil {
			t.Fatalf("%s: %v", base, err)
		}
	}
	typed := broker.ConnectionRef{Integration: "typed", Key: "k"}
	_, _, err := r.broker.Import(t.Context(), r.who, broker.ImportInput{
		Integration: "typed", Key: "k", Config: map[string]any{"region": "eu"},
		Material: &broker.Material{Type: "API_KEY", Access: broker.NewSecret("some-key")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.wayOut(typed); err != nil {
		t.Fatalf("a provider without a base URL: %v", err)
	}
}

// Connection config that leads elsewhere, whoever changed it, takes no credential with it: to the API, or to the endpoint
// that renews it.
func TestChangedConfigGetsNoOldCredential(t *testing.T) {
	for name, change := range map[string]string{
		"API": `{"subdomain":"evil"}`, "token endpoint": `{"subdomain":"acme","token_host":"evil.example.com"}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			ref := r.importedWith("c", map[string]any{"subdomain": "acme"})
			if o, err := r.wayOut(ref); err != nil || o.Base().Host != "acme.fake.example.com" {
				t.Fatalf("%v", err)
			}
			r.behind(`UPDATE connections SET config = '` + change + `' WHERE key = 'c'`)
			r.restart()
			r.clock.advance(2 * time.Hour) // so that it has to be renewed before it is used
			r.stranded(ref)
		})
	}
}

// An address that was changed by mistake and is put back is the one that the credential was granted for: whoever insists
// can have it renewed.
func TestAnAddressThatIsPutBackIsTheOldOne(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.provider.set(func(p *fakeProvider) { p.base = "https://typo.example.com" })
	r.restart()
	r.stranded(ref)
	r.provider.set(func(p *fakeProvider) { p.base = "https://api.fake.example.com" })
	r.restart()
	if _, err := r.wayOut(ref); err != nil {
		t.Fatal(err)
	}
	if _, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true}); err != nil {
		t.Fatal(err)
	}
	if c, err := r.broker.Connection(t.Context(), r.who, ref); err != nil || c.Status != broker.Active {
		t.Fatalf("status %q, %v", c.Status, err)
	}
}

// A renewal brings a new token, not a new address: what was agreed with the end user stays, also when the provider's
// answer says otherwise.
func TestARenewalKeepsTheAddress(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.clock.advance(2 * time.Hour)
	if _, err := r.wayOut(ref); err != nil {
		t.Fatal(err)
	}
	r.provider.set(func(p *fakeProvider) { p.answers = map[string]string{"subdomain": "elsewhere"} })
	r.clock.advance(2 * time.Hour)
	if _, err := r.wayOut(ref); !errors.Is(err, broker.ErrNeedsReauth) {
		t.Fatalf("after an answer with another address: %v", err)
	}
	r.stranded(ref)
}
