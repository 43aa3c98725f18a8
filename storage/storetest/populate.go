package storetest

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
)

// Populate puts something into every table of an empty store: n connections with credentials, and whatever else there is.
func Populate(t *testing.T, s broker.Store, n int) {
	t.Helper()
	f := &fixture{T: t, ctx: t.Context(), a: s, b: s, clock: &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)}}
	f.ok(s.AddKey(f.ctx, broker.WrappedKey{ID: 1, Wrapped: []byte("wrapped\x00key"), Recipients: []string{"age1"}, Check: []byte{0, 255}, Active: true}))
	f.env = f.newEnvironment("dev")
	f.integration = f.newIntegration("github")
	f.ok(s.CreateAPIKey(f.ctx, f.key("backend", "1"), f.trail("key")))
	f.ok(s.SaveWebhook(f.ctx, &broker.Webhook{Environment: f.env.ID, URL: "https://app.example/hook"}, broker.Trail{}))
	f.ok(s.PutGrant(f.ctx, &broker.Grant{Connection: f.filled(), Credential: f.credential("filled"), New: true, Trail: f.trail("grant")}))
	for range n {
		f.granted()
		f.clock.advance(time.Second)
	}
	f.ok(s.DeleteConnection(f.ctx, f.env.ID, f.granted().ID, f.now(), f.trail("delete"))) // leaves a revocation, and a number behind
	session := f.session()
	f.ok(s.CreateSession(f.ctx, session, broker.Trail{}))
	flow := f.flow(session.ID)
	_, err := s.CreateFlow(f.ctx, flow, 10, broker.Trail{})
	f.ok(err)
	_, err = s.ConsumeFlow(f.ctx, flow.ID, f.now())
	f.ok(err)
	f.ok(s.PutGrant(f.ctx, &broker.Grant{Connection: f.connection(), Credential: f.credential("signed in"), New: true, Flow: flow.ID, Session: session.ID}))
	f.newRegistration(nil)
	f.ok(s.AppendTrail(f.ctx, broker.Trail{Deliveries: []broker.Delivery{f.delivery(uuid.NewString(), "https://app.example/hook", "c")}}))
	f.ok(s.SetDeployment(f.ctx, "", broker.Deployment{Cluster: "cluster", PublicURL: "https://connect.example.com", AdoptedAt: f.now()}, broker.Trail{}))
}
