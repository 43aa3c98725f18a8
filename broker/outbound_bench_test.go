package broker_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/crypto"
	"github.com/coatcheck/coatcheck/storage/sqlite"
)

// benchBroker is a broker on a real SQLite file with some connections of the fake provider, and a cache of that size.
func benchBroker(b *testing.B, connections, cached int) (*broker.Broker, broker.Actor, []string) {
	b.Helper()
	ctx := b.Context()
	provider := newFakeProvider()
	provider.now = time.Now
	var identity bytes.Buffer
	if _, err := crypto.GenerateIdentity(&identity, time.Now()); err != nil {
		b.Fatal(err)
	}
	ids, err := crypto.ParseIdentities(&identity)
	if err != nil {
		b.Fatal(err)
	}
	wrapped, err := crypto.NewKey(1, ids, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	ring, err := crypto.OpenKeyring([]crypto.WrappedKey{wrapped}, ids)
	if err != nil {
		b.Fatal(err)
	}
	db, err := sqlite.Open(ctx, sqlite.Options{Dir: b.TempDir(), Exclusive: true, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	made, err := broker.New(ctx, broker.Config{
		Store: db, Sealer: sealer{ring}, Catalogue: provider, Now: time.Now, Logger: slog.New(slog.DiscardHandler), PublicURL: publicURL,
		CacheEntries: cached,
	})
	if err != nil {
		b.Fatal(err)
	}
	err = made.Declare(ctx, []broker.DeclaredEnvironment{{
		Environment:  broker.Environment{Name: "dev"},
		SecretKey:    broker.NewSecret(rigKey),
		Integrations: []broker.IntegrationInput{{Key: "one", Provider: "fake", ClientID: "client", ClientSecret: broker.NewSecret("client-secret")}},
	}})
	if err != nil {
		b.Fatal(err)
	}
	who, err := made.Authenticate(rigKey)
	if err != nil {
		b.Fatal(err)
	}
	token := string(bytes.Repeat([]byte("token"), 300))
	keys := make([]string, connections)
	for i := range keys {
		keys[i] = fmt.Sprintf("connection-%d", i)
		m := &broker.Material{Type: "OAUTH2", Access: broker.NewSecret(token), ExpiresAt: time.Now().AddDate(1, 0, 0)}
		if _, _, err := made.Import(ctx, who, broker.ImportInput{Integration: "one", Key: keys[i], Material: m}); err != nil {
			b.Fatal(err)
		}
	}
	return made, who, keys
}

// BenchmarkOutbound asks for the way out of connections in turn: from the cache, and past a cache that holds none of them
// any more when their turn comes again: what has to go goes a little later, so there are many.
func BenchmarkOutbound(b *testing.B) {
	for _, x := range []struct {
		name   string
		cached int
	}{{"hit", 4000}, {"miss", 4}} {
		b.Run(x.name, func(b *testing.B) {
			made, who, keys := benchBroker(b, 2000, x.cached)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := made.Outbound(b.Context(), who, "one", keys[i%len(keys)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAuthenticate finds the actor of an API key, which every request begins with.
func BenchmarkAuthenticate(b *testing.B) {
	made, _, _ := benchBroker(b, 1, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := made.Authenticate(rigKey); err != nil {
			b.Fatal(err)
		}
	}
}
