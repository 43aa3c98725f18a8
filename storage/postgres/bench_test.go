package postgres

import (
	"crypto/rand"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// benched opens a database with one integration and n connections, named by their number.
func benched(b *testing.B, n int) *DB {
	b.Helper()
	d := openTest(b, Options{URL: migrated(b)})
	ok(b, d.SaveEnvironment(b.Context(), &broker.Environment{ID: "environment", Name: "dev"}, broker.Trail{}))
	ok(b, d.CreateIntegration(b.Context(), &broker.Integration{
		ID: "integration", PublicID: "public", Environment: "environment", Key: "github", Provider: "github",
	}, broker.Trail{}))
	now := time.Now().UTC().Truncate(time.Microsecond)
	for k := range n {
		id := strconv.Itoa(k)
		ok(b, d.PutGrant(b.Context(), &broker.Grant{
			New: true,
			Connection: &broker.Connection{
				ID: broker.ConnectionID(id), Environment: "environment", Integration: "integration", Key: id, Status: broker.Active,
				CreatedAt: now, UpdatedAt: now, AuthorizedAt: now,
			},
			Credential: renewed(now),
		}))
	}
	return d
}

// renewed is a credential with sealed tokens of 1.5 kB.
func renewed(now time.Time) *broker.Credential {
	access, refresh := make([]byte, 1540), make([]byte, 1540)
	_, _ = rand.Read(access)
	_, _ = rand.Read(refresh)
	return &broker.Credential{
		Type: "OAUTH2", Origins: "https://api.example.com token.example.com", Access: access, Refresh: refresh,
		ObtainedAt: now, ExpiresAt: now.Add(time.Hour), RefreshAt: now.Add(45 * time.Minute),
	}
}

// BenchmarkTicket is a cache miss, but for the opening of the seal.
func BenchmarkTicket(b *testing.B) {
	d := benched(b, 200)
	b.RunParallel(func(p *testing.PB) {
		for k := 0; p.Next(); k++ {
			if _, err := d.Ticket(b.Context(), "integration", strconv.Itoa(k%200)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkStanding is what a cache hit costs where several nodes serve.
func BenchmarkStanding(b *testing.B) {
	d := benched(b, 200)
	b.RunParallel(func(p *testing.PB) {
		for k := 0; p.Next(); k++ {
			if _, err := d.Standing(b.Context(), "integration", strconv.Itoa(k%200)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRenewal is what a renewal asks of the database, but for the look-ups before it: the lease, and the new tokens.
// renewals/h is how often one node with 64 at a time does that, whatever its providers take.
func BenchmarkRenewal(b *testing.B) {
	const connections = 2000
	d := benched(b, connections)
	var next atomic.Int64
	b.SetParallelism(32) // 64 on two cores
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			k := int(next.Add(1) % connections)
			id := broker.ConnectionID(strconv.Itoa(k))
			c, leased, err := d.LeaseRefresh(b.Context(), id, "owner-"+strconv.Itoa(k), time.Minute)
			if err != nil || !leased {
				b.Error(leased, err)
				return
			}
			if err := d.SwapCredential(b.Context(), &broker.Swap{Connection: id, From: c.Version, Next: renewed(time.Now().UTC())}); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Hours(), "renewals/h")
}
