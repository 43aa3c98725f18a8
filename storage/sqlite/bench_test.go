package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"strconv"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// secretSize is a sealed token of 1.5 kB.
const secretSize = 1540

// seeded opens a database with one integration and n connections, named by their number.
func seeded(t testing.TB, n int) *DB {
	t.Helper()
	d := openTest(t, Options{Dir: t.TempDir()})
	ok(t, d.SaveEnvironment(t.Context(), &broker.Environment{ID: "environment", Name: "dev"}, broker.Trail{}))
	ok(t, d.CreateIntegration(t.Context(), &broker.Integration{
		ID: "integration", PublicID: "public", Environment: "environment", Key: "github", Provider: "github",
	}, broker.Trail{}))
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	err := d.write(t.Context(), "seed", func(tx *conn) error {
		for k := range n {
			g := grant(strconv.Itoa(k), now)
			number, err := insertConnection(tx, g.Connection)
			if err != nil {
				return err
			}
			if err := putCredential(tx, number, g); err != nil {
				return err
			}
		}
		return nil
	})
	ok(t, err)
	return d
}

// grant is a new connection of the seeded integration.
func grant(id string, now time.Time) *broker.Grant {
	access, hash := make([]byte, secretSize), make([]byte, 16)
	_, _ = rand.Read(access)
	_, _ = rand.Read(hash)
	return &broker.Grant{
		New: true,
		Connection: &broker.Connection{
			ID: broker.ConnectionID(id), Environment: "environment", Integration: "integration", Key: id, Status: broker.Active,
			GrantHash: hash, CreatedAt: now, UpdatedAt: now, AuthorizedAt: now,
		},
		Credential: &broker.Credential{
			Type: "OAUTH2", Origins: "https://api.example.com token.example.com", Access: access, ObtainedAt: now, ExpiresAt: now.Add(time.Hour), RefreshAt: now.Add(time.Hour),
		},
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// BenchmarkTicket is a cache miss, but for the opening of the seal. It is to be compared with BenchmarkRawPointRead.
func BenchmarkTicket(b *testing.B) {
	d := seeded(b, 1000)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for k := 0; p.Next(); k++ {
			if _, err := d.Ticket(b.Context(), "integration", strconv.Itoa(k%1000)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRawPointRead reads the same row with the bare driver, by one prepared statement on each of as many
// connections, and no more than what a ticket is made of.
func BenchmarkRawPointRead(b *testing.B) {
	d := seeded(b, 1000)
	db, err := sql.Open("sqlite", dsn(d.Path(), true))
	ok(b, err)
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(readerCount)
	db.SetMaxIdleConns(readerCount)
	statement, err := db.PrepareContext(b.Context(), selectTicket)
	ok(b, err)
	ctx := context.WithoutCancel(b.Context()) // the driver would start a goroutine for one that can end
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for k := 0; p.Next(); k++ {
			var id, key, status, reason, kind string
			var config, access, details []byte
			var integration, version int64
			var obtained, expires, refresh sql.NullInt64
			var renewable bool
			err := statement.QueryRowContext(ctx, 1, strconv.Itoa(k%1000)).Scan(&integration, &key, &id, &status,
				&reason, &config, &version, &kind, &access, &details, &obtained, &expires, &refresh, &renewable)
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
