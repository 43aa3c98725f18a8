// Package storetest tests every promise of [broker.Store]. Each backend runs the same suite, with no exemption.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
)

// Opener returns two handles on one fresh, empty database, as two machines have them. They are closed by the suite. Now
// is the store's clock, where the backend has none of its own.
type Opener func(t *testing.T, now func() time.Time) (a, b broker.Store)

// Run tests a backend. Subtests run in parallel, each on a database of its own.
func Run(t *testing.T, open Opener) {
	t.Helper()
	for _, group := range []struct {
		name  string
		tests map[string]func(*fixture)
	}{
		{"environments", environmentTests},
		{"integrations", integrationTests},
		{"sessions", sessionTests},
		{"flows", flowTests},
		{"registrations", registrationTests},
		{"connections", connectionTests},
		{"lists", listTests},
		{"grants", grantTests},
		{"credentials", credentialTests},
		{"leases", leaseTests},
		{"erasures", erasureTests},
		{"revocations", revocationTests},
		{"trail", trailTests},
		{"webhooks", webhookTests},
		{"deliveries", deliveryTests},
		{"deployment", deploymentTests},
		{"store", storeTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for name, test := range group.tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(newFixture(t, open))
				})
			}
		})
	}
}

// clock is a clock that the tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is a fresh database with one environment and one integration.
type fixture struct {
	*testing.T
	ctx         context.Context
	a, b        broker.Store
	clock       *clock
	env         *broker.Environment
	integration *broker.Integration
}

func newFixture(t *testing.T, open Opener) *fixture {
	t.Helper()
	f := &fixture{T: t, ctx: t.Context(), clock: &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)}}
	f.a, f.b = open(t, f.clock.Now)
	t.Cleanup(func() {
		if err := errors.Join(f.a.Close(), f.b.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	f.env = f.newEnvironment("dev")
	f.integration = f.newIntegration("github")
	return f
}

func (f *fixture) now() time.Time { return f.clock.Now() }

// ok ends the test on an error.
func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		cause := errors.Unwrap(broker.AsError(err))
		f.Fatalf("unexpected error: %v (cause: %v)", err, cause)
	}
}

// refused ends the test unless err has want's code.
func (f *fixture) refused(err error, want *broker.Error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Fatalf("got %v, want %s", err, want.Code)
	}
	var e *broker.Error
	if !errors.As(err, &e) {
		f.Fatalf("%v is no *broker.Error", err)
	}
}

// same compares field by field, so that a dropped one is named.
func (f *fixture) same(got, want any) {
	f.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	g, w := reflect.Indirect(reflect.ValueOf(got)), reflect.Indirect(reflect.ValueOf(want))
	if g.Kind() == reflect.Struct && g.Type() == w.Type() {
		for i := range g.NumField() {
			if !reflect.DeepEqual(g.Field(i).Interface(), w.Field(i).Interface()) {
				f.Errorf("%s.%s: got %+v, want %+v", g.Type(), g.Type().Field(i).Name, g.Field(i), w.Field(i))
			}
		}
		return
	}
	f.Errorf("got %+v, want %+v", got, want)
}

func (f *fixture) newEnvironment(name string) *broker.Environment {
	f.Helper()
	e := &broker.Environment{
		ID: broker.EnvironmentID(uuid.NewString()), Name: name, Start: broker.StartAuto, CreatedAt: f.now(), UpdatedAt: f.now(),
	}
	f.ok(f.a.SaveEnvironment(f.ctx, e, broker.Trail{}))
	return e
}

func (f *fixture) newIntegration(key string) *broker.Integration {
	f.Helper()
	return f.newIntegrationIn(f.env.ID, key)
}

func (f *fixture) newIntegrationIn(env broker.EnvironmentID, key string) *broker.Integration {
	f.Helper()
	i := &broker.Integration{
		ID: broker.IntegrationID(uuid.NewString()), PublicID: uuid.NewString(), Environment: env, Key: key, Provider: "github",
		CreatedAt: f.now(), UpdatedAt: f.now(),
	}
	f.ok(f.a.CreateIntegration(f.ctx, i, broker.Trail{}))
	return i
}

// connection is a new active one, not stored.
func (f *fixture) connection() *broker.Connection {
	id := broker.ConnectionID(uuid.NewString())
	return &broker.Connection{
		ID: id, Environment: f.env.ID, Integration: f.integration.ID, Key: string(id), Status: broker.Active,
		CreatedAt: f.now(), UpdatedAt: f.now(), AuthorizedAt: f.now(),
	}
}

// credential is one that holds tokens, named so that tests can tell versions apart.
func (f *fixture) credential(name string) *broker.Credential {
	return &broker.Credential{
		Type: "OAUTH2", Origins: "https://api.example.com token.example.com", Access: broker.Sealed("access " + name), Refresh: broker.Sealed("refresh " + name),
		Answer: broker.Sealed("answer " + name), ObtainedAt: f.now(), ExpiresAt: f.now().Add(time.Hour),
		RefreshAt: f.now().Add(45 * time.Minute),
	}
}

// granted stores a connection with a credential of version 1.
func (f *fixture) granted() *broker.Connection {
	f.Helper()
	return f.grantedAs(f.connection())
}

func (f *fixture) grantedAs(c *broker.Connection) *broker.Connection {
	f.Helper()
	f.ok(f.a.PutGrant(f.ctx, &broker.Grant{Connection: c, Credential: f.credential("1"), New: true}))
	return c
}

// session is a new one, not stored.
func (f *fixture) session() *broker.Session {
	id := uuid.NewString()
	hash := sha256.Sum256([]byte(id))
	return &broker.Session{
		ID: broker.SessionID(id), Environment: f.env.ID, TokenHash: hash[:], CreatedAt: f.now(), ExpiresAt: f.now().Add(time.Hour),
	}
}

func (f *fixture) newSession() *broker.Session {
	f.Helper()
	s := f.session()
	f.ok(f.a.CreateSession(f.ctx, s, broker.Trail{}))
	return s
}

// flow is a new one, not stored; session may be empty.
func (f *fixture) flow(session broker.SessionID) *broker.Flow {
	id := uuid.NewString()
	hash := sha256.Sum256([]byte(id))
	return &broker.Flow{
		ID: broker.FlowID(id), Environment: f.env.ID, Session: session, Integration: f.integration.ID, StateHash: hash[:],
		Secrets: broker.Sealed("sealed"), Status: broker.FlowOpen, CreatedAt: f.now(), ExpiresAt: f.now().Add(10 * time.Minute),
	}
}

func (f *fixture) newFlow(session broker.SessionID) *broker.Flow {
	f.Helper()
	flow := f.flow(session)
	ok, err := f.a.CreateFlow(f.ctx, flow, 20, broker.Trail{})
	f.ok(err)
	if !ok {
		f.Fatal("the flow was refused")
	}
	return flow
}

func (f *fixture) consumedFlow(session broker.SessionID) *broker.Flow {
	f.Helper()
	flow := f.newFlow(session)
	ok, err := f.a.ConsumeFlow(f.ctx, flow.ID, f.now())
	f.ok(err)
	if !ok {
		f.Fatal("the flow could not be consumed")
	}
	return flow
}

// status reads a flow's.
func (f *fixture) status(flow *broker.Flow) (broker.FlowStatus, string) {
	f.Helper()
	got, err := f.b.FlowByState(f.ctx, flow.StateHash)
	f.ok(err)
	return got.Status, got.Code
}

// reread reads a connection and its credential by the other handle.
func (f *fixture) reread(id broker.ConnectionID) (*broker.Connection, *broker.Credential) {
	f.Helper()
	c, err := f.b.Connection(f.ctx, f.env.ID, id)
	f.ok(err)
	cred, err := f.b.Credential(f.ctx, id)
	f.ok(err)
	return c, cred
}

// trail is one of each, that left can look for.
func (f *fixture) trail(name string) broker.Trail {
	return broker.Trail{
		Audit:  []broker.AuditEntry{{Environment: f.env.ID, Action: name, Result: "ok", Count: 1, At: f.now()}},
		Events: []broker.Event{{ID: uuid.NewString(), Environment: f.env.ID, Kind: broker.EventKind(name), At: f.now()}},
	}
}

// left reports how often a trail of that name was written; audit and events must agree.
func (f *fixture) left(name string) int {
	f.Helper()
	audit, err := f.b.Audit(f.ctx, f.env.ID, 0, 1000)
	f.ok(err)
	events, err := f.b.Events(f.ctx, f.env.ID, 0, 1000)
	f.ok(err)
	var lines, told int
	for _, a := range audit {
		if a.Action == name {
			lines++
		}
	}
	for _, e := range events {
		if string(e.Kind) == name {
			told++
		}
	}
	if lines != told {
		f.Fatalf("%s: %d audit lines, %d events", name, lines, told)
	}
	return lines
}

// wrote and wroteNothing check what a change left behind.
func (f *fixture) wrote(name string) {
	f.Helper()
	if n := f.left(name); n != 1 {
		f.Errorf("the trail of %s was written %d times, want once", name, n)
	}
}

func (f *fixture) wroteNothing(name string) {
	f.Helper()
	if n := f.left(name); n != 0 {
		f.Errorf("%s changed nothing, but its trail was written %d times", name, n)
	}
}

// race runs n calls of f at once, half on each handle, and gives their results.
func race[T any](f *fixture, n int, call func(s broker.Store, i int) T) []T {
	out := make([]T, n)
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		s := f.a
		if i%2 == 1 {
			s = f.b
		}
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			out[i] = call(s, i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	return out
}

// count tells how many elements satisfy want.
func count[T any](list []T, want func(T) bool) int {
	var n int
	for _, x := range list {
		if want(x) {
			n++
		}
	}
	return n
}

// fill sets every field of the struct that p points to, however deep, to a value that is not zero and that no other
// field has. A field that a store drops reads back as zero.
func fill(p any) {
	n := 0
	fillValue(reflect.ValueOf(p).Elem(), &n)
}

func fillValue(v reflect.Value, n *int) {
	*n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.UnixMicro(1_900_000_000_000_000 + int64(*n)).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d \"ü\" <&>", *n))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint32:
		v.SetUint(uint64(*n)) //nolint:gosec // a count of fields is not negative
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fillValue(v.Index(0), n)
		fillValue(v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fillValue(key, n)
			fillValue(value, n)
			v.SetMapIndex(key, value)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			fillValue(v.Field(i), n)
		}
	default:
		panic("no value for " + v.Type().String())
	}
}
