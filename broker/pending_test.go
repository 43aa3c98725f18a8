package broker_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// proposed makes a pending connection and the actor of its session.
func (r *rig) proposed(p broker.Proposal) (*broker.Connection, broker.Actor) {
	r.t.Helper()
	if p.Integration == "" {
		p.Integration = "one"
	}
	c, _, token, err := r.broker.Propose(r.t.Context(), r.who, p)
	if err != nil {
		r.t.Fatal(err)
	}
	who, err := r.broker.AuthenticateSession(r.t.Context(), token.Reveal())
	if err != nil {
		r.t.Fatal(err)
	}
	return c, who
}

func TestAPendingConnectionBecomesActiveUnderItsID(t *testing.T) {
	r := newRig(t)
	c, who := r.proposed(broker.Proposal{
		Name: "Sales", EndUser: &broker.EndUser{ID: "u-1"}, Metadata: []byte(`{"a":1}`), ReturnURL: "https://app.example.com/done",
		Landing: "/somewhere",
	})
	if c.Status != broker.Pending || c.Key != string(c.ID) {
		t.Fatalf("%+v", c)
	}
	byKey := broker.ConnectionRef{Integration: "one", Key: c.Key}
	if _, err := r.broker.Connection(t.Context(), r.who, byKey); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("by its keys: %v", err)
	}
	if list, err := r.broker.Connections(t.Context(), r.who, broker.ConnectionFilter{}); err != nil || len(list) != 0 {
		t.Errorf("listed: %d, %v", len(list), err)
	}
	if _, err := r.broker.Outbound(t.Context(), r.who, "one", c.Key); !errors.Is(err, broker.ErrConnectionPending) {
		t.Errorf("outbound: %v", err)
	}
	form, err := r.broker.ConnectForm(t.Context(), who, "one")
	if err != nil || form.Reconnecting {
		t.Errorf("form: %+v, %v", form, err)
	}
	if _, err := r.broker.ConnectForm(t.Context(), who, "typed"); !errors.Is(err, broker.ErrIntegrationRefused) {
		t.Errorf("another integration: %v", err)
	}

	_, cb := r.started(who)
	o, err := r.broker.FinishFlow(t.Context(), cb)
	if err != nil {
		t.Fatal(err)
	}
	if o.Connection != c.ID || o.Reconnected || o.Landing != "/somewhere" {
		t.Errorf("outcome %+v", o)
	}
	now, err := r.broker.Connection(t.Context(), r.who, byKey)
	if err != nil || now.Status != broker.Active || now.Name != "Sales" || now.EndUser.ID != "u-1" || string(now.Metadata) != `{"a":1}` {
		t.Errorf("%+v, %v", now, err)
	}
	events, err := r.store.Events(t.Context(), r.who.Environment, 0, 100)
	if err != nil || len(events) == 0 || events[len(events)-1].Kind != broker.EventConnected {
		t.Errorf("events %+v, %v", events, err)
	}
	result, err := r.broker.EndedFlow(t.Context(), o.Flow)
	if err != nil || result.Status != broker.FlowSucceeded || result.Connection != c.ID || result.ReturnURL != "https://app.example.com/done" {
		t.Errorf("result %+v, %v", result, err)
	}
	r.clock.advance(11 * time.Minute)
	if _, err := r.broker.EndedFlow(t.Context(), o.Flow); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("the result, later: %v", err)
	}
}

func TestADeniedSignInLeavesItsConnectionPending(t *testing.T) {
	r := newRig(t)
	c, who := r.proposed(broker.Proposal{Landing: "/somewhere"})
	started, cb := r.started(who)
	if _, err := r.broker.EndedFlow(t.Context(), broker.FlowID(started.State)); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("a result by another name: %v", err)
	}
	cb.Query.Del("code")
	cb.Query.Set("error", "access_denied")
	var failed *broker.FlowError
	if _, err := r.broker.FinishFlow(t.Context(), cb); !errors.As(err, &failed) || failed.Landing != "/somewhere" {
		t.Fatalf("%+v, %v", failed, err)
	}
	result, err := r.broker.EndedFlow(t.Context(), failed.Flow)
	if err != nil || result.Status != broker.FlowFailed || result.Code != "provider_denied" || result.Connection != c.ID {
		t.Errorf("result %+v, %v", result, err)
	}
	if c, err = r.broker.Connection(t.Context(), r.who, broker.ConnectionRef{ID: c.ID}); err != nil || c.Status != broker.Pending {
		t.Errorf("%+v, %v", c, err)
	}

	// A stranger's browser with a good state is told nothing that leads further.
	_, cb = r.started(who)
	cb.Browser = broker.NewSecret("another")
	failed = nil
	if _, err := r.broker.FinishFlow(t.Context(), cb); !errors.As(err, &failed) || failed.Landing != "" || failed.Flow != "" {
		t.Errorf("a stranger: %+v, %v", failed, err)
	}
}

func TestConnectionsThatNobodyMadeAreSweptAWeekLater(t *testing.T) {
	r := newRig(t)
	c, _ := r.proposed(broker.Proposal{})
	kept, who := r.proposed(broker.Proposal{})
	_, cb := r.started(who)
	if _, err := r.broker.FinishFlow(t.Context(), cb); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		wait time.Duration
		want error
	}{{6 * 24 * time.Hour, nil}, {25 * time.Hour, broker.ErrNotFound}} {
		r.clock.advance(step.wait)
		if err := r.broker.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.broker.Connection(t.Context(), r.who, broker.ConnectionRef{ID: c.ID}); !errors.Is(err, step.want) {
			t.Errorf("after %v: %v", step.wait, err)
		}
	}
	if _, err := r.broker.Connection(t.Context(), r.who, broker.ConnectionRef{ID: kept.ID}); err != nil {
		t.Errorf("the one that was made: %v", err)
	}
}

func TestAPendingConnectionCanBeDeletedBeneathItsSignIn(t *testing.T) {
	r := newRig(t)
	c, who := r.proposed(broker.Proposal{})
	_, cb := r.started(who)
	if err := r.broker.DeleteConnection(t.Context(), r.who, broker.ConnectionRef{ID: c.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.broker.FinishFlow(t.Context(), cb); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("the sign-in: %v", err)
	}
	if err := r.broker.RevokeDue(t.Context()); err != nil || len(r.provider.revocations()) != 1 {
		t.Errorf("revoked %v, %v", r.provider.revocations(), err)
	}
	if _, err := r.broker.ConnectForm(t.Context(), who, "one"); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("another sign-in: %v", err)
	}
}

// A name is counted in characters, whatever their script.
func TestNamesOfUpTo255Characters(t *testing.T) {
	r := newRig(t)
	name := strings.Repeat("名", 255)
	if c, _ := r.proposed(broker.Proposal{Name: name}); c.Name != name {
		t.Errorf("%q", c.Name)
	}
	if _, _, _, err := r.broker.Propose(t.Context(), r.who, broker.Proposal{Integration: "one", Name: name + "a"}); !errors.Is(err, broker.ErrInvalidRequest) {
		t.Errorf("one more: %v", err)
	}
}

// once proposes the app's own connection.
func (r *rig) once(p broker.Proposal) (id broker.ConnectionID, known bool, who broker.Actor, err error) {
	r.t.Helper()
	p.Integration = "one"
	c, known, token, err := r.broker.ProposeOnce(r.t.Context(), r.who, p)
	if err != nil {
		return "", known, who, err
	}
	if who, err = r.broker.AuthenticateSession(r.t.Context(), token.Reveal()); err != nil {
		r.t.Fatal(err)
	}
	return c.ID, known, who, nil
}

// mustOnce is once where nothing stands in the way.
func (r *rig) mustOnce(p broker.Proposal) (broker.ConnectionID, bool, broker.Actor) {
	r.t.Helper()
	id, known, who, err := r.once(p)
	if err != nil {
		r.t.Fatal(err)
	}
	return id, known, who
}

func TestTheAppsOwnConnectionIsProposedOnce(t *testing.T) {
	r := newRig(t)
	if users, _ := r.proposed(broker.Proposal{EndUser: &broker.EndUser{ID: "u-1"}}); users.Status != broker.Pending {
		t.Fatal(users.Status)
	}
	id, known, _ := r.mustOnce(broker.Proposal{Name: "First"})
	again, knownAgain, who := r.mustOnce(broker.Proposal{Name: "Second"})
	if known || !knownAgain || again != id {
		t.Fatalf("made %v, then %v: %s, %s", !known, !knownAgain, id, again)
	}
	_, cb := r.started(who)
	if _, err := r.broker.FinishFlow(t.Context(), cb); err != nil {
		t.Fatal(err)
	}
	c, err := r.broker.Connection(t.Context(), r.who, broker.ConnectionRef{ID: id})
	if err != nil || c.Status != broker.Active || c.Name != "Second" {
		t.Errorf("%+v, %v", c, err)
	}
	var refusal *broker.Error
	if _, _, _, err := r.once(broker.Proposal{}); !errors.As(err, &refusal) || refusal.Code != "conflict" || refusal.Field != "connection" {
		t.Errorf("while it works: %v", err)
	}

	r.provider.set(func(p *fakeProvider) {
		p.before = func(int) error {
			return &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Status: 400}
		}
	})
	if _, err := r.broker.RefreshConnection(t.Context(), r.who, broker.ConnectionRef{ID: id}); !errors.Is(err, broker.ErrNeedsReauth) {
		t.Fatal(err)
	}
	r.provider.set(func(p *fakeProvider) { p.before = nil })
	if _, _, _, err := r.once(broker.Proposal{ReturnURL: "https://elsewhere.example.com"}); !errors.Is(err, broker.ErrReturnURLRefused) {
		t.Errorf("back to a stranger: %v", err)
	}
	again, known, who = r.mustOnce(broker.Proposal{})
	if !known || again != id {
		t.Errorf("lost: known %v, %s instead of %s", known, again, id)
	}
	_, cb = r.started(who)
	if o, err := r.broker.FinishFlow(t.Context(), cb); err != nil || o.Connection != id || !o.Reconnected {
		t.Errorf("authorized again: %+v, %v", o, err)
	}
	if c, err = r.broker.Connection(t.Context(), r.who, broker.ConnectionRef{ID: id}); err != nil || c.Name != "Second" || c.ErrorCode != "" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestTwoWhoAskAtTheSameTimeGetOneConnection(t *testing.T) {
	r := newRig(t)
	const askers = 8
	var all sync.WaitGroup
	ids := make([]broker.ConnectionID, askers)
	for n := range askers {
		all.Go(func() {
			c, _, _, err := r.broker.ProposeOnce(t.Context(), r.who, broker.Proposal{Integration: "one"})
			if err != nil {
				t.Error(err)
				return
			}
			ids[n] = c.ID
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("several: %v", ids)
		}
	}
}

func TestWhatCannotBeAuthorizedIsNotProposed(t *testing.T) {
	r := newRig(t)
	if _, err := r.broker.CreateIntegration(t.Context(), r.who, broker.IntegrationInput{Key: "clientless", Provider: "fake"}); err != nil {
		t.Fatal(err)
	}
	r.provider.set(func(p *fakeProvider) { p.facts.NeedsClient = true })
	for name, c := range map[string]struct {
		proposal broker.Proposal
		want     *broker.Error
	}{
		"no client":           {broker.Proposal{Integration: "clientless"}, broker.ErrNotSupported},
		"unknown integration": {broker.Proposal{Integration: "nope"}, broker.ErrNotFound},
		"a long name":         {broker.Proposal{Integration: "one", Name: strings.Repeat("n", 256)}, broker.ErrInvalidRequest},
		"a name of two lines": {broker.Proposal{Integration: "one", Name: "a\r\nb"}, broker.ErrInvalidRequest},
		"another's address":   {broker.Proposal{Integration: "one", ReturnURL: "https://app.example.com/other"}, broker.ErrReturnURLRefused},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, _, err := r.broker.Propose(t.Context(), r.who, c.proposal); !errors.Is(err, c.want) {
				t.Errorf("propose: %v", err)
			}
			if _, _, _, err := r.broker.ProposeOnce(t.Context(), r.who, c.proposal); !errors.Is(err, c.want) {
				t.Errorf("once: %v", err)
			}
		})
	}
	list, err := r.broker.Connections(t.Context(), r.who, broker.ConnectionFilter{IncludePending: true})
	if err != nil || len(list) != 0 {
		t.Errorf("%d were left behind, %v", len(list), err)
	}
	if _, _, err := r.broker.CreateSession(t.Context(), r.who, broker.SessionInput{ConnectionName: "a\nb"}); !errors.Is(err, broker.ErrInvalidRequest) {
		t.Errorf("a session: %v", err)
	}
}
