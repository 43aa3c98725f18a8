package postgres

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/postgres/postgrestest"
)

// eventually tries until it works.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// A server that takes over gives numbers again that its predecessor gave to transactions which came to nothing, and which it
// never heard of. A change under such a number was not seen by anybody.
func TestAChangeAfterAFailoverIsNoticed(t *testing.T) {
	t.Parallel()
	servers := postgrestest.NewPair(t)
	nodes := []*DB{openTest(t, Options{URL: servers.Address()}), openTest(t, Options{URL: servers.Address()})}
	ok(t, nodes[1].SaveEnvironment(t.Context(), &broker.Environment{ID: "environment", Name: "dev"}, broker.Trail{}))

	both, err := url.Parse(servers.Address())
	ok(t, err)
	standby := *both
	_, standby.Host, _ = strings.Cut(both.Host, ",")
	standby.RawQuery = "sslmode=disable"
	as(t, standby.String(), "ALTER SYSTEM SET primary_conninfo = ''")
	as(t, standby.String(), "SELECT pg_reload_conf()")
	eventually(t, "the standby follows still", func() error {
		c, err := pgx.Connect(t.Context(), standby.String())
		if err != nil {
			return err
		}
		var follows bool
		err = c.QueryRow(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_stat_wal_receiver)").Scan(&follows)
		if err == nil && follows {
			err = errors.New("it does")
		}
		return errors.Join(err, c.Close(t.Context()))
	})
	stop := errors.New("it comes to nothing")
	for range 100 {
		err := nodes[0].write(t.Context(), "take a number", func(tx *conn) error {
			_, err := tx.exec("SELECT pg_current_xact_id()")
			return errors.Join(err, stop)
		})
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
	}
	before, err := nodes[0].ForeignChanges(t.Context())
	ok(t, err)
	ok(t, servers.Fail())
	ok(t, servers.Promote())
	eventually(t, "nothing can be changed", func() error {
		return nodes[1].SaveEnvironment(t.Context(), &broker.Environment{ID: "environment", Name: "renamed"}, broker.Trail{})
	})
	eventually(t, "nobody can look", func() error {
		after, err := nodes[0].ForeignChanges(t.Context())
		if err == nil && after == before {
			t.Error("the change was not noticed")
		}
		return err
	})
}
