//go:build unix

// Package postgrestest gives tests databases of their own, in a PostgreSQL that runs for one test process and is gone with
// it. It needs PostgreSQL's programs on the machine, and nothing else.
package postgrestest

import (
	"errors"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// New gives the address of a fresh, empty database. Without PostgreSQL the test is skipped, unless it runs where one must
// be.
func New(t testing.TB) (address string) {
	t.Helper()
	return create(t, "template0")
}

// templates are the databases that others are copies of, by their names.
var templates sync.Map // string -> func() error

// NewFrom gives the address of a fresh copy of a database that prepare filled, once for each name in a process. Nothing may
// be connected to it any more when prepare returns.
func NewFrom(t testing.TB, name string, prepare func(address string) error) (address string) {
	t.Helper()
	made, _ := templates.LoadOrStore(name, sync.OnceValue(func() error {
		c, err := cluster()
		if err == nil {
			err = c.create("template_"+name, "template0")
		}
		if err != nil {
			return err
		}
		return prepare(c.address("template_" + name))
	}))
	must(t, made.(func() error)())
	return create(t, "template_"+name)
}

// must ends the test on an error: by skipping it, if all that is missing is PostgreSQL and the machine is not one where
// every test has to run.
func must(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.As(err, new(missingError)) && !required():
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// missingError names a program that is not on the machine.
type missingError string

func (e missingError) Error() string {
	return "no " + string(e) + " to test with: build/setup.sh installs it"
}

// Pooled gives another address of a database: that of a pooler which gives each transaction the next best of few sessions.
// Without PgBouncer the test is skipped, unless it runs where one must be.
func Pooled(t testing.TB, address string) (pooled string) {
	t.Helper()
	p, err := pooler()
	must(t, err)
	u, err := url.Parse(address)
	must(t, err)
	u.Host = p
	return u.String()
}

// HasPooler reports whether [Pooled] will do: there is one, or there has to be.
func HasPooler() bool {
	return required() || pgbouncer() != ""
}

// required reports whether every test has to run on this machine.
func required() bool {
	_, ci := os.LookupEnv("CI") //nolint:forbidigo // part of tests, which look there
	return ci
}

// created counts databases, for their names.
var created atomic.Int64

func create(t testing.TB, template string) string {
	t.Helper()
	c, err := cluster()
	must(t, err)
	name := "test_" + strconv.FormatInt(created.Add(1), 10)
	must(t, c.create(name, template))
	t.Cleanup(func() {
		if err := c.run("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return c.address(name)
}
