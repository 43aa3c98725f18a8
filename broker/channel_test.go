package broker_test

import (
	"errors"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// waited begins a sign-in whose end is waited for.
func (r *rig) waited(who broker.Actor) (channel string, ends <-chan broker.FlowEnd, cb broker.Callback) {
	r.t.Helper()
	channel = broker.NewChannel()
	ends, stop := r.broker.Await(channel, "")
	r.t.Cleanup(stop)
	s, err := r.broker.StartFlow(r.t.Context(), who, "one", broker.ConnectInput{Channel: channel})
	if err != nil {
		r.t.Fatal(err)
	}
	return channel, ends, broker.Callback{Query: url.Values{"state": {s.State}, "code": {"code-" + s.CookieName}}, Browser: s.Browser}
}

// state asks how far a flow has got.
func (r *rig) state(who broker.Actor, channel string) broker.FlowState {
	r.t.Helper()
	s, err := r.broker.FlowByChannel(r.t.Context(), who, channel)
	if err != nil {
		r.t.Fatal(err)
	}
	return *s
}

func TestASuccessIsTold(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	channel, ends, cb := r.waited(who)
	if got := r.state(who, channel); !reflect.DeepEqual(got, broker.FlowState{Status: broker.FlowOpen, Integration: "one"}) {
		t.Errorf("before the answer: %+v", got)
	}
	o, err := r.broker.FinishFlow(t.Context(), cb)
	if err != nil {
		t.Fatal(err)
	}
	if end := <-ends; end != (broker.FlowEnd{Integration: "one", Connection: o.Key}) {
		t.Errorf("told %+v", end)
	}
	if got := r.state(who, channel); !reflect.DeepEqual(got, broker.FlowState{Status: broker.FlowSucceeded, Integration: "one", Connection: o.Key}) {
		t.Errorf("afterwards: %+v", got)
	}
	// An answer that comes twice ends nothing.
	if _, err := r.broker.FinishFlow(t.Context(), cb); !errors.Is(err, broker.ErrStateUsed) {
		t.Fatal(err)
	}
	if len(ends) != 0 {
		t.Error("it was told twice")
	}
}

func TestAFailureIsTold(t *testing.T) {
	tests := map[string]struct {
		change func(r *rig, cb *broker.Callback)
		want   *broker.Error
	}{
		"denied": {func(_ *rig, cb *broker.Callback) {
			cb.Query.Del("code")
			cb.Query.Set("error", "access_denied")
		}, broker.ErrProviderDenied},
		"in another browser": {func(_ *rig, cb *broker.Callback) { cb.Browser = broker.Secret{} }, broker.ErrBrowserMismatch},
		"too late":           {func(r *rig, _ *broker.Callback) { r.clock.advance(11 * time.Minute) }, broker.ErrStateExpired},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			who, _ := r.session(broker.SessionInput{})
			channel, ends, cb := r.waited(who)
			test.change(r, &cb)
			if _, err := r.broker.FinishFlow(t.Context(), cb); !errors.Is(err, test.want) {
				t.Fatal(err)
			}
			if end := <-ends; end.Integration != "one" || end.Connection != "" || !errors.Is(end.Err, test.want) {
				t.Errorf("told %+v", end)
			}
			if got := r.state(who, channel); got.Status != broker.FlowFailed || got.Code != test.want.Code {
				t.Errorf("afterwards: %+v", got)
			}
		})
	}
}

func TestAFlowThatNeverBeganIsTold(t *testing.T) {
	r := newRig(t)
	channel := broker.NewChannel()
	ends, stop := r.broker.Await(channel, "")
	defer stop()
	r.broker.RefuseFlow("short", "one", broker.ErrNotFound)
	r.broker.RefuseFlow(broker.NewChannel(), "one", broker.ErrNotFound)
	if len(ends) != 0 {
		t.Fatal("somebody else's refusal was told")
	}
	r.broker.RefuseFlow(channel, "one", broker.ErrNotFound)
	if end := <-ends; !errors.Is(end.Err, broker.ErrNotFound) || end.Integration != "one" {
		t.Errorf("told %+v", end)
	}
}

func TestChannelsAreTheSessionsOwn(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	stranger, _ := r.session(broker.SessionInput{})
	channel, _, _ := r.waited(who)
	for name, ask := range map[string]struct {
		who     broker.Actor
		channel string
		want    *broker.Error
	}{
		"another session": {stranger, channel, broker.ErrNotFound},
		"a key":           {r.who, channel, broker.ErrSessionInvalid},
		"unknown":         {who, broker.NewChannel(), broker.ErrNotFound},
		"short":           {who, "short", broker.ErrInvalidRequest},
		"long":            {who, strings.Repeat("x", 129), broker.ErrInvalidRequest},
	} {
		if _, err := r.broker.FlowByChannel(t.Context(), ask.who, ask.channel); !errors.Is(err, ask.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.broker.StartFlow(t.Context(), stranger, "one", broker.ConnectInput{Channel: channel}); !errors.Is(err, broker.ErrConflict) {
		t.Errorf("a stranger's flow on the channel: %v", err)
	}
}

func TestFewWaitForOneSession(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	for range 5 {
		r.waited(who)
	}
	channel := broker.NewChannel()
	_, stop := r.broker.Await(channel, "")
	defer stop()
	if _, err := r.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{Channel: channel}); !errors.Is(err, broker.ErrRateLimited) {
		t.Errorf("a sixth: %v", err)
	}
	other, _ := r.session(broker.SessionInput{})
	r.waited(other)
}

func TestWhatABrowserMayAskTheProvider(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	for _, name := range []string{"scope", "redirect_uri", "State", "response_mode"} {
		_, err := r.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{Params: map[string]string{name: "x"}})
		if !errors.Is(err, broker.ErrInvalidRequest) || broker.AsError(err).Field != "authorization_params."+name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Somebody who goes back and begins anew is waited for all the same; what was begun before comes to nothing.
func TestBeginningAnewKeepsTheChannel(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	channel, ends, first := r.waited(who)
	s, err := r.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{Channel: channel})
	if err != nil {
		t.Fatal(err)
	}
	r.broker.RefuseFlow(channel, "one", broker.ErrConflict)
	if _, err := r.broker.FinishFlow(t.Context(), first); !errors.Is(err, broker.ErrStateUsed) {
		t.Errorf("the first: %v", err)
	}
	if len(ends) != 0 {
		t.Fatal("the end of what is still open was told")
	}
	o, err := r.broker.FinishFlow(t.Context(), broker.Callback{Query: url.Values{"state": {s.State}, "code": {"c"}}, Browser: s.Browser})
	if err != nil {
		t.Fatal(err)
	}
	if end := <-ends; end.Connection != o.Key {
		t.Errorf("told %+v", end)
	}
}

func TestADeletedSessionIsTold(t *testing.T) {
	r := newRig(t)
	who, _ := r.session(broker.SessionInput{})
	_, ends, _ := r.waited(who)
	if err := r.broker.DeleteSession(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	if end := <-ends; !errors.Is(end.Err, broker.ErrSessionInvalid) {
		t.Errorf("told %+v", end)
	}
}

// A page waits only for sessions that allow its origin.
func TestPagesWaitForTheirOwnSessions(t *testing.T) {
	r := newRig(t, func(r *rig) { r.origins = []string{"https://app.example.com"} })
	who, _ := r.session(broker.SessionInput{})
	for origin, want := range map[string]error{"https://app.example.com": nil, "": nil, "https://other.example.com": broker.ErrOriginRefused} {
		channel := broker.NewChannel()
		_, stop := r.broker.Await(channel, origin)
		defer stop()
		if _, err := r.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{Channel: channel}); !errors.Is(err, want) {
			t.Errorf("%q: %v", origin, err)
		}
	}
}

// A connection that is deleted while its token is being renewed gives no token to whoever comes afterwards.
func TestADeletedConnectionGivesNothingOut(t *testing.T) {
	r := newRig(t)
	ref := r.imported("c", time.Hour)
	r.clock.advance(time.Hour - 20*time.Second) // good for a while, and to be renewed before it is served
	renewing, goOn := make(chan struct{}), make(chan struct{})
	r.provider.before = func(int) error {
		close(renewing)
		<-goOn
		return nil
	}
	first := make(chan error, 1)
	go func() {
		_, err := r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key)
		first <- err
	}()
	select {
	case <-renewing:
	case err := <-first:
		t.Fatalf("there was no renewal: %v", err)
	}
	if err := r.broker.DeleteConnection(t.Context(), r.who, ref); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if err := <-first; !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("who asked before: %v", err)
	}
	if _, err := r.broker.Outbound(t.Context(), r.who, ref.Integration, ref.Key); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("who asks afterwards: %v", err)
	}
}
