package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// started begins a sign-in and gives it together with the answer that a provider would send.
func (r *rig) started(who broker.Actor) (*broker.Started, broker.Callback) {
	r.t.Helper()
	s, err := r.broker.StartFlow(r.t.Context(), who, "one", broker.ConnectInput{})
	if err != nil {
		r.t.Fatal(err)
	}
	return s, broker.Callback{Query: url.Values{"state": {s.State}, "code": {"code-" + s.CookieName}}, Browser: s.Browser}
}

func TestASignInMakesAConnection(t *testing.T) {
	r := newRig(t)
	who, session := r.session(broker.SessionInput{
		EndUser: &broker.EndUser{ID: "u-1", Email: "ann@corp.test"}, Tags: map[string]string{"plan": "gold"},
		Integrations: []string{"one"}, ReturnURL: "https://app.example.com/done",
	})
	s, cb := r.started(who)
	target, err := url.Parse(s.URL)
	if err != nil || target.Query().Get("redirect_uri") != publicURL+"/oauth/callback" || target.Query().Get("state") != s.State {
		t.Fatalf("url %s, %v", s.URL, err)
	}
	o, err := r.broker.FinishFlow(t.Context(), cb)
	if err != nil {
		t.Fatal(err)
	}
	if o.Integration != "one" || o.Key != string(o.Connection) || o.ReturnURL != "https://app.example.com/done" || o.Session.ID != session.ID {
		t.Fatalf("outcome %+v", o)
	}
	got := r.reveal(broker.ConnectionRef{Integration: "one", Key: o.Key})
	c := got.Connection
	if c.Status != broker.Active || c.EndUser.Email != "ann@corp.test" || c.Tags["plan"] != "gold" || got.Material.Access.IsZero() {
		t.Fatalf("connection %+v", c)
	}
	if account, err := r.broker.Account(c); err != nil || account != "account-1" {
		t.Fatalf("account %q, %v", account, err)
	}

	// The session is spent for this integration, and only for it.
	if _, err := r.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{}); !errors.Is(err, broker.ErrSessionCompleted) {
		t.Fatalf("a second sign-in: %v", err)
	}
	if _, err := r.broker.StartFlow(t.Context(), who, "typed", broker.ConnectInput{}); !errors.Is(err, broker.ErrIntegrationRefused) {
		t.Fatalf("another integration: %v", err)
	}
}

// What a stranger can do to an answer, and what he gets for it. None of it leads to a token request.
func TestHostileCallbacks(t *testing.T) {
	tests := []struct {
		name   string
		change func(r *rig, cb *broker.Callback)
		want   *broker.Error
		burnt  bool // the true answer is refused afterwards, too
	}{
		{"no state", func(_ *rig, cb *broker.Callback) { cb.Query.Del("state") }, broker.ErrStateInvalid, false},
		{"two states", func(_ *rig, cb *broker.Callback) { cb.Query.Add("state", cb.Query.Get("state")) }, broker.ErrStateInvalid, false},
		{"forged state", func(_ *rig, cb *broker.Callback) {
			cb.Query.Set("state", strings.Repeat("A", len(cb.Query.Get("state"))))
		}, broker.ErrStateInvalid, false},
		{"long state", func(_ *rig, cb *broker.Callback) { cb.Query.Set("state", strings.Repeat("x", 600)) }, broker.ErrStateInvalid, false},
		{"unknown state", func(r *rig, cb *broker.Callback) {
			state, _ := r.keyring.NewState()
			cb.Query.Set("state", state)
		}, broker.ErrStateInvalid, false},
		{"late", func(r *rig, _ *broker.Callback) { r.clock.advance(10*time.Minute + time.Second) }, broker.ErrStateExpired, true},
		{"no cookie", func(_ *rig, cb *broker.Callback) { cb.Browser = broker.Secret{} }, broker.ErrBrowserMismatch, true},
		{"foreign cookie", func(_ *rig, cb *broker.Callback) { cb.Browser = broker.NewSecret(strings.Repeat("0", 64)) }, broker.ErrBrowserMismatch, true},
		{"another's address", func(_ *rig, cb *broker.Callback) { cb.Integration = "0123456789abcdef01234567" }, broker.ErrContextMismatch, true},
		{"two codes", func(_ *rig, cb *broker.Callback) { cb.Query.Add("code", "another") }, broker.ErrCallbackInvalid, true},
		{"code and error", func(_ *rig, cb *broker.Callback) { cb.Query.Set("error", "x") }, broker.ErrCallbackInvalid, true},
		{"a token in the query", func(_ *rig, cb *broker.Callback) { cb.Query.Set("access_token", "x") }, broker.ErrCallbackInvalid, true},
		{"long code", func(_ *rig, cb *broker.Callback) { cb.Query.Set("code", strings.Repeat("x", 4097)) }, broker.ErrCallbackInvalid, true},
		{"no code", func(_ *rig, cb *broker.Callback) { cb.Query.Del("code") }, broker.ErrCallbackInvalid, true},
		{"denied", func(_ *rig, cb *broker.Callback) {
			cb.Query.Del("code")
			cb.Query.Set("error", "access_denied")
		}, broker.ErrProviderDenied, true},
		{"provider error", func(_ *rig, cb *broker.Callback) {
			cb.Query.Del("code")
			cb.Query.Set("error", "server_error")
		}, broker.ErrProviderError, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			who, _ := r.session(broker.SessionInput{})
			_, honest := r.started(who)
			hostile := broker.Callback{Query: url.Values{}, Browser: honest.Browser}
			for k, v := range honest.Query {
				hostile.Query[k] = append([]string(nil), v...)
			}
			tt.change(r, &hostile)
			_, err := r.broker.FinishFlow(t.Context(), hostile)
			var failure *broker.FlowError
			if !errors.As(err, &failure) || !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want.Code)
			}
			if n := len(r.provider.codes); n != 0 {
				t.Fatalf("%d codes were exchanged", n)
			}
			_, err = r.broker.FinishFlow(t.Context(), honest)
			if tt.burnt != (err != nil) {
				t.Fatalf("the true answer afterwards: %v", err)
			}
		})
	}
}

// Fifty identical callbacks at once: one token request, one connection.
func TestACallbackCountsOnce(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	_, cb := r.started(who)
	var won, used atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, err := r.broker.FinishFlow(t.Context(), cb)
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, broker.ErrStateUsed):
				used.Add(1)
			default:
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 || used.Load() != 49 {
		t.Fatalf("%d won, %d were told that it was used", won.Load(), used.Load())
	}
	if n := r.provider.codes[cb.Query.Get("code")]; n != 1 {
		t.Fatalf("%d token requests", n)
	}
}

// A failed exchange ends the sign-in: the code is not sent again, and the next sign-in works.
func TestAFailedExchangeIsNotRepeated(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	_, cb := r.started(who)
	r.provider.set(func(p *fakeProvider) {
		p.before = func(int) error {
			return &broker.ProviderError{Class: broker.ClientRefused, Code: "invalid_client", Text: "bad\u202e <svg onload=alert(1)>\nsecret", Status: 401}
		}
	})
	_, err := r.broker.FinishFlow(t.Context(), cb)
	var failure *broker.FlowError
	if !errors.As(err, &failure) || !errors.Is(err, broker.ErrExchangeFailed) {
		t.Fatalf("got %v", err)
	}
	if failure.Detail != "invalid_client bad <svg onload=alert(1)> secret" {
		t.Fatalf("detail %q", failure.Detail)
	}
	r.provider.set(func(p *fakeProvider) { p.before = nil })
	if _, err := r.broker.FinishFlow(t.Context(), cb); !errors.Is(err, broker.ErrStateUsed) {
		t.Fatalf("again: %v", err)
	}
	if n := r.provider.codes[cb.Query.Get("code")]; n != 1 {
		t.Fatalf("%d token requests", n)
	}
	_, cb = r.started(who)
	if _, err := r.broker.FinishFlow(t.Context(), cb); err != nil {
		t.Fatalf("a new sign-in: %v", err)
	}
}

// What a provider says about its refusal is shown, cut and cleaned.
func TestAProvidersWordsAreShown(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	_, cb := r.started(who)
	cb.Query.Del("code")
	cb.Query.Set("error", "server_error")
	cb.Query.Set("error_description", "try\x00 later\u202e "+strings.Repeat("x", 1000))
	_, err := r.broker.FinishFlow(t.Context(), cb)
	var failure *broker.FlowError
	if !errors.As(err, &failure) || !strings.HasPrefix(failure.Detail, "server_error try later xxx") || len(failure.Detail) != 300 {
		t.Fatalf("detail %q", failure.Detail)
	}
}

// A session begins at most twenty sign-ins.
func TestASessionBeginsTwentySignIns(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	for range 20 {
		r.started(who)
	}
	if _, err := r.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{}); !errors.Is(err, broker.ErrRateLimited) {
		t.Fatalf("got %v", err)
	}
}

// Deleting a session ends the sign-ins that are open in it.
func TestADeletedSessionEndsItsSignIns(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	_, cb := r.started(who)
	if err := r.broker.DeleteSession(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	if _, err := r.broker.FinishFlow(t.Context(), cb); err == nil {
		t.Fatal("the sign-in went on")
	}
	if _, err := r.broker.Session(t.Context(), who); !errors.Is(err, broker.ErrSessionInvalid) {
		t.Fatalf("session: %v", err)
	}
}

// A repair that ends in another account changes nothing, and ends the new grant.
func TestARepairMustEndInTheSameAccount(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	_, cb := r.started(who)
	o, err := r.broker.FinishFlow(t.Context(), cb)
	if err != nil {
		t.Fatal(err)
	}
	ref := broker.ConnectionRef{Integration: "one", Key: o.Key}
	before := r.reveal(ref).Material.Access.Reveal()

	r.provider.set(func(p *fakeProvider) { p.account = "account-2" })
	who, _ = r.session(broker.SessionInput{Reconnect: &ref})
	_, cb = r.started(who)
	if _, err := r.broker.FinishFlow(t.Context(), cb); !errors.Is(err, broker.ErrAccountMismatch) {
		t.Fatalf("got %v", err)
	}
	if now := r.reveal(ref).Material.Access.Reveal(); now != before {
		t.Fatal("the old token is gone")
	}
	if err := r.broker.RevokeDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.provider.revocations(); len(got) != 1 || got[0] != "refresh-token-000002" {
		t.Fatalf("revoked %q", got)
	}

	who, _ = r.session(broker.SessionInput{Reconnect: &ref, AllowAccountChange: true})
	_, cb = r.started(who)
	o2, err := r.broker.FinishFlow(t.Context(), cb)
	if err != nil || !o2.Reconnected || o2.Connection != o.Connection {
		t.Fatalf("outcome %+v, %v", o2, err)
	}
	if now := r.reveal(ref).Material.Access.Reveal(); now == before {
		t.Fatal("the token is the old one")
	}
}

// A process that died between code and token leaves a sign-in that is told to have failed.
func TestAnInterruptedSignInIsTold(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	_, cb := r.started(who)
	hash, ok := r.keyring.CheckState(cb.Query.Get("state"))
	if !ok {
		t.Fatal("our own state is refused")
	}
	f, err := r.store.FlowByState(t.Context(), hash[:])
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := r.store.ConsumeFlow(t.Context(), f.ID, r.clock.Now()); err != nil || !ok {
		t.Fatal(ok, err)
	}
	r.clock.advance(2 * time.Minute)
	if err := r.broker.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	events, err := r.store.Events(t.Context(), r.who.Environment, 0, 100)
	if err != nil || len(events) != 1 || events[0].Kind != broker.EventConnectFailed || events[0].Code != "interrupted" {
		t.Fatalf("events %+v, %v", events, err)
	}
	if _, err := r.broker.FinishFlow(t.Context(), cb); !errors.Is(err, broker.ErrStateUsed) {
		t.Fatalf("got %v", err)
	}
}

// unending cannot end one of the flows.
type unending struct {
	broker.Store
	stuck *broker.FlowID
}

func (s unending) FailFlow(ctx context.Context, id broker.FlowID, code string, at time.Time, t broker.Trail) error {
	if id == *s.stuck {
		return broker.ErrInternal
	}
	return s.Store.FailFlow(ctx, id, code, at, t)
}

// A sign-in that cannot be ended keeps neither the broker from starting nor others from being told.
func TestAStuckSignInKeepsNobody(t *testing.T) {
	stuck := new(broker.FlowID)
	r := newRig(t, func(r *rig) { r.wrap = func(s broker.Store) broker.Store { return unending{s, stuck} } })
	for range 2 {
		who, _ := r.session(broker.SessionInput{})
		_, cb := r.started(who)
		hash, _ := r.keyring.CheckState(cb.Query.Get("state"))
		f, err := r.store.FlowByState(t.Context(), hash[:])
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := r.store.ConsumeFlow(t.Context(), f.ID, r.clock.Now()); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if *stuck == "" {
			*stuck = f.ID
		}
		r.clock.advance(time.Second) // the other one is looked at later
	}
	r.clock.advance(2 * time.Minute)
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	r.start()
	events, err := r.store.Events(t.Context(), r.who.Environment, 0, 100)
	if err != nil || len(events) != 1 || events[0].Code != "interrupted" {
		t.Fatalf("events %+v, %v", events, err)
	}
}

// What an end user types is checked on the server, goes where it belongs, and what the backend fixed stays.
func TestTypedCredentials(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{Defaults: map[string]broker.Defaults{"typed": {Config: map[string]string{"region": "eu"}}}})
	form, err := r.broker.ConnectForm(t.Context(), who, "typed")
	if err != nil || len(form.Ask) != 2 || form.Ask[0].Name != "tenant" || form.Ask[1].Name != "apiKey" {
		t.Fatalf("form %+v, %v", form, err)
	}
	refused := []struct {
		fields map[string]string
		want   *broker.Error
		field  string
	}{
		{map[string]string{}, broker.ErrVariableInvalid, "credentials.apiKey"},
		{map[string]string{"credentials.apiKey": "k", "connection_config.region": "us"}, broker.ErrInvalidRequest, "connection_config.region"},
		{map[string]string{"credentials.apiKey": "k", "connection_config.tenant": "bad"}, broker.ErrVariableInvalid, "connection_config.tenant"},
		{map[string]string{"credentials.apiKey": "k", "webhook_url": "https://x"}, broker.ErrInvalidRequest, "webhook_url"},
		{map[string]string{"credentials.apiKey": "refused"}, broker.ErrTestFailed, ""},
	}
	for _, tt := range refused {
		_, err := r.broker.Connect(t.Context(), who, "typed", broker.ConnectInput{Fields: tt.fields})
		if !errors.Is(err, tt.want) || broker.AsError(err).Field != tt.field {
			t.Fatalf("%v: got %v on %q", tt.fields, err, broker.AsError(err).Field)
		}
	}
	o, err := r.broker.Connect(t.Context(), who, "typed", broker.ConnectInput{Fields: map[string]string{
		"credentials.apiKey": "the-api-key", "connection_config.tenant": "tenant-secret",
	}})
	if err != nil {
		t.Fatal(err)
	}
	got := r.reveal(broker.ConnectionRef{Integration: "typed", Key: o.Key})
	if got.Material.Access.Reveal() != "the-api-key" || got.Config["region"] != "eu" || got.Config["tenant"] != "tenant-secret" {
		t.Fatalf("config %v", got.Config)
	}
	if config := string(got.Connection.Config); strings.Contains(config, "tenant-secret") {
		t.Fatalf("a secret field stands in the connection's row: %s", config)
	}
	out, err := r.broker.Outbound(t.Context(), r.who, "typed", o.Key)
	if err != nil || !out.Reserved("X-Tenant") {
		t.Fatalf("outbound: %v", err)
	}
	if printed := fmt.Sprintf("%v %+v %#v", out, out, got.Material); strings.Contains(printed, "the-api-key") {
		t.Fatal("a secret prints")
	}
}

// A provider that promises to name itself in its answers is held to that.
func TestAnAnswerOfAnotherIssuerIsRefused(t *testing.T) {
	for name, iss := range map[string][]string{"missing": nil, "another": {"https://evil.example.com"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.provider.set(func(p *fakeProvider) { p.facts.Issuer = "https://fake.example.com" })
			who, _ := r.session(broker.SessionInput{})
			_, cb := r.started(who)
			cb.Query["iss"] = iss
			cb.Query.Del("code")
			cb.Query.Set("error", "access_denied")
			cb.Query.Set("error_description", "call this number")
			_, err := r.broker.FinishFlow(t.Context(), cb)
			var failure *broker.FlowError
			if !errors.As(err, &failure) || !errors.Is(err, broker.ErrIssuerMismatch) || failure.Detail != "" {
				t.Fatalf("got %v, detail %q", err, failure.Detail)
			}
		})
	}
	r := newRig(t)
	r.provider.set(func(p *fakeProvider) { p.facts.Issuer = "https://fake.example.com" })
	who, _ := r.session(broker.SessionInput{})
	_, cb := r.started(who)
	cb.Query.Set("iss", "https://fake.example.com")
	if _, err := r.broker.FinishFlow(t.Context(), cb); err != nil {
		t.Fatal(err)
	}
}
