package broker_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// behind changes the database behind the broker's back.
func (r *rig) behind(query string) {
	r.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(r.dir, sqlite.FileName))
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(r.t.Context(), query); err != nil {
		r.t.Fatal(err)
	}
}

// Whoever can write to the database can move ciphertexts about. None opens in another row, in another column, or as what
// it was before a renewal; the damaged connection says so and leaves a trace, and all others work.
func TestCiphertextOpensOnlyWhereItBelongs(t *testing.T) {
	const victim = " WHERE connection_number = (SELECT number FROM connections WHERE key = 'victim')"
	tests := map[string]func(r *rig){
		"another row": func(r *rig) {
			r.behind("UPDATE credentials SET access = (SELECT c.access FROM credentials c JOIN connections n ON n.number = c.connection_number WHERE n.key = 'other')" + victim)
		},
		"another column": func(r *rig) { r.behind("UPDATE credentials SET access = refresh" + victim) },
		"another address": func(r *rig) {
			r.behind("UPDATE connections SET origins = 'https://evil.example.com ' || substr(origins, instr(origins, ' ') + 1) WHERE key = 'victim'")
		},
		"an older version": func(r *rig) {
			r.behind("CREATE TABLE kept AS SELECT * FROM credentials")
			_, err := r.broker.Reveal(r.t.Context(), r.who, broker.ConnectionRef{Integration: "one", Key: "victim"}, broker.RevealOptions{ForceRefresh: true})
			if err != nil {
				r.t.Fatal(err)
			}
			r.behind("UPDATE credentials SET access = (SELECT access FROM kept WHERE kept.connection_number = credentials.connection_number)" + victim)
		},
		"a flipped bit": func(r *rig) {
			r.behind("UPDATE credentials SET access = CAST(substr(access, 1, 40) || x'00' || substr(access, 42) AS BLOB)" + victim)
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			target, other := r.imported("victim", time.Hour), r.imported("other", time.Hour)
			damage(r)
			for _, read := range []func() error{
				func() error {
					_, err := r.broker.Reveal(t.Context(), r.who, target, broker.RevealOptions{})
					return err
				},
				func() error {
					_, err := r.broker.Outbound(t.Context(), r.who, target.Integration, target.Key)
					return err
				},
			} {
				if err := read(); !errors.Is(err, broker.ErrUnreadable) {
					t.Fatalf("got %v", err)
				}
			}
			r.reveal(other)
			r.run()()
			lines, err := r.store.Audit(t.Context(), r.who.Environment, 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lines {
				if l.Action == "integrity_failure" && l.Count == 2 {
					return
				}
			}
			t.Fatalf("no trace among %+v", lines)
		})
	}
}

// Every read of a credential leaves a line, one for each key, connection and minute, with a count.
func TestReadsLeaveATrace(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	for range 5 {
		r.reveal(ref)
	}
	r.clock.advance(time.Minute)
	r.reveal(ref)
	r.run()()
	lines, err := r.store.Audit(t.Context(), r.who.Environment, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[int64]int{}
	for _, l := range lines {
		if l.Action == "credential.read" && l.Actor == "key:"+string(r.who.Key) {
			counts[l.Count]++
		}
	}
	if counts[5] != 1 || counts[1] != 1 {
		t.Fatalf("lines by count: %v", counts)
	}
}

// What a configuration file declares is written once, kept as it is while the file does not change, cannot be changed
// over the API, and can be again when it has left the file. A preset key that left the file opens nothing.
func TestADeclarationIsWrittenWhenItChanges(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	audited := func() int {
		lines, err := r.store.Audit(ctx, r.who.Environment, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		return len(lines)
	}
	before := audited()
	r.declare(ctx)
	if n := audited(); n != before {
		t.Fatalf("declaring the same again made %d changes", n-before)
	}
	name := "changed"
	if _, err := r.broker.UpdateIntegration(ctx, r.who, "one", broker.IntegrationPatch{DisplayName: &name}); !errors.Is(err, broker.ErrManagedByConfig) {
		t.Fatalf("update: %v", err)
	}
	if err := r.broker.DeleteIntegration(ctx, r.who, "one"); !errors.Is(err, broker.ErrManagedByConfig) {
		t.Fatalf("delete: %v", err)
	}

	who := broker.System(r.who.Environment)
	if err := r.broker.Declare(ctx, []broker.DeclaredEnvironment{{Environment: broker.Environment{Name: "dev"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.broker.UpdateIntegration(ctx, who, "one", broker.IntegrationPatch{DisplayName: &name}); err != nil {
		t.Fatalf("after it left the file: %v", err)
	}
	if _, err := r.broker.Authenticate(rigKey); !errors.Is(err, broker.ErrUnauthorized) {
		t.Fatalf("the key that left the file: %v", err)
	}
}

// Another environment's objects are not there, in the words used for what never was.
func TestEnvironmentsDoNotSeeEachOther(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	ctx := t.Context()
	e, err := r.broker.CreateEnvironment(ctx, broker.System(""), "other")
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := r.broker.CreateAPIKey(ctx, broker.System(e.ID), e, broker.KeyInput{Name: "k", Scopes: broker.Scopes{broker.ScopeAll}})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := r.broker.Authenticate(key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.broker.Connection(ctx, r.who, ref)
	if err != nil {
		t.Fatal(err)
	}
	attempts := map[string]func() error{
		"connection": func() error { _, err := r.broker.Connection(ctx, stranger, ref); return err },
		"by id":      func() error { _, err := r.broker.Connection(ctx, stranger, broker.ConnectionRef{ID: c.ID}); return err },
		"reveal":     func() error { _, err := r.broker.Reveal(ctx, stranger, ref, broker.RevealOptions{}); return err },
		"outbound":   func() error { _, err := r.broker.Outbound(ctx, stranger, ref.Integration, ref.Key); return err },
		"delete":     func() error { return r.broker.DeleteConnection(ctx, stranger, ref) },
		"metadata":   func() error { return r.broker.SetMetadata(ctx, stranger, "one", []string{"c"}, []byte(`{}`), false) },
	}
	for name, attempt := range attempts {
		if err := attempt(); !errors.Is(err, broker.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := r.broker.Connections(ctx, stranger, broker.ConnectionFilter{Environment: r.who.Environment}); err != nil || len(list) != 0 {
		t.Errorf("list: %d, %v", len(list), err)
	}
	if list, err := r.broker.Integrations(ctx, stranger); err != nil || len(list) != 0 {
		t.Errorf("integrations: %d, %v", len(list), err)
	}
}

// A key does what its scopes say and nothing else.
func TestScopes(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	ctx := t.Context()
	e, err := r.broker.EnvironmentNamed("dev")
	if err != nil {
		t.Fatal(err)
	}
	actor := func(names ...string) broker.Actor {
		scopes, err := broker.ParseScopes(names)
		if err != nil {
			t.Fatal(err)
		}
		return broker.Actor{Kind: broker.ByKey, Environment: e.ID, Scopes: scopes}
	}
	tests := []struct {
		name  string
		scope string
		do    func(context.Context, broker.Actor) error
	}{
		{"list", "connections:read", func(ctx context.Context, a broker.Actor) error {
			_, err := r.broker.Connections(ctx, a, broker.ConnectionFilter{})
			return err
		}},
		{"read", "connections:read", func(ctx context.Context, a broker.Actor) error {
			_, err := r.broker.Connection(ctx, a, ref)
			return err
		}},
		{"reveal", "credentials:read", func(ctx context.Context, a broker.Actor) error {
			_, err := r.broker.Reveal(ctx, a, ref, broker.RevealOptions{})
			return err
		}},
		{"proxy", "proxy", func(ctx context.Context, a broker.Actor) error {
			_, err := r.broker.Outbound(ctx, a, "one", "c")
			return err
		}},
		{"session", "sessions:write", func(ctx context.Context, a broker.Actor) error {
			_, _, err := r.broker.CreateSession(ctx, a, broker.SessionInput{})
			return err
		}},
		{"secrets", "admin", func(ctx context.Context, a broker.Actor) error {
			_, err := r.broker.ClientSecrets(ctx, a, "one")
			return err
		}},
		{"delete", "connections:write", func(ctx context.Context, a broker.Actor) error { return r.broker.DeleteConnection(ctx, a, ref) }},
	}
	all := []string{"sessions:write", "connections:read", "connections:write", "credentials:read", "credentials:read_refresh", "proxy", "integrations:write"}
	for _, tt := range tests {
		for _, scope := range all {
			if scope == tt.scope || tt.name == "read" && scope == "credentials:read" {
				continue
			}
			if err := tt.do(ctx, actor(scope)); !errors.Is(err, broker.ErrInsufficientScope) {
				t.Errorf("%s with %s: %v", tt.name, scope, err)
			}
		}
		if err := tt.do(ctx, actor(tt.scope)); err != nil {
			t.Errorf("%s with %s: %v", tt.name, tt.scope, err)
		}
	}
	if got := (&broker.Revealed{}); got.RefreshAllowed {
		t.Fatal("refresh tokens without a scope")
	}
}

// An integration with connections is not pointed at another API: their credentials were not entered for it.
func TestCredentialsStayWithTheAddressTheyWereEnteredFor(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	settings := func(base string) map[string]string { return map[string]string{"baseUrl": base} }
	_, err := r.broker.CreateIntegration(ctx, r.who, broker.IntegrationInput{Key: "generic", Provider: "fake", ClientID: "c", Settings: settings("https://one.example.com/v1")})
	if err != nil {
		t.Fatal(err)
	}
	move := func(base string) error {
		_, err := r.broker.UpdateIntegration(ctx, r.who, "generic", broker.IntegrationPatch{Settings: settings(base)})
		return err
	}
	if err := move("https://two.example.com/v1"); err != nil {
		t.Fatalf("without connections: %v", err)
	}
	access, _ := r.provider.issue(time.Hour)
	_, _, err = r.broker.Import(ctx, r.who, broker.ImportInput{Integration: "generic", Key: "c", Material: &broker.Material{Type: "OAUTH2", Access: broker.NewSecret(access)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := move("https://two.example.com/v2"); err != nil {
		t.Fatalf("the same host: %v", err)
	}
	for _, base := range []string{"https://evil.example.com/v2", "http://two.example.com/v2", "https://two.example.com:8443/v2", ""} {
		if err := move(base); !errors.Is(err, broker.ErrSecretRequired) {
			t.Errorf("%q: %v", base, err)
		}
	}
}
