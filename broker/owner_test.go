package broker_test

import (
	"errors"
	"net/url"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// ownerRig has a shared integration beside the others.
func ownerRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	_, err := r.broker.CreateIntegration(t.Context(), broker.System(r.who.Environment), broker.IntegrationInput{
		Key: "team", Provider: "fake", ClientID: "client", ClientSecret: broker.NewSecret("client-secret"), Shared: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// as is the backend on behalf of an end user.
func (r *rig) as(user string) broker.Actor {
	who := r.who
	who.Owner = user
	return who
}

func (r *rig) user(id string) broker.Actor {
	who, _ := r.session(broker.SessionInput{EndUser: &broker.EndUser{ID: id}})
	return who
}

func (r *rig) obtained(who broker.Actor, integration string) *broker.Connection {
	r.t.Helper()
	access, refresh := r.provider.issue(0)
	o, err := r.broker.Obtain(r.t.Context(), who, broker.ObtainInput{Integration: integration, Material: r.provider.material(access, refresh)})
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := r.store.Connection(r.t.Context(), who.Environment, o.Connection)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func TestEachOwnerHasAConnectionAndASharedOneIsForAll(t *testing.T) {
	r := ownerRig(t)
	anns, bobs, team := r.obtained(r.as("ann"), "one"), r.obtained(r.user("bob"), "one"), r.obtained(r.as("ann"), "team")
	for _, test := range []struct {
		name        string
		who         broker.Actor
		integration string
		want        *broker.Connection
		err         error
	}{
		{"the backend for ann", r.as("ann"), "one", anns, nil},
		{"ann herself", r.user("ann"), "one", anns, nil},
		{"bob", r.user("bob"), "one", bobs, nil},
		{"carl has none", r.as("carl"), "one", nil, broker.ErrNotFound},
		{"whose is not said", r.who, "one", nil, broker.ErrInvalidRequest},
		{"the shared one, for bob", r.user("bob"), "team", team, nil},
		{"the shared one, for nobody", r.who, "team", team, nil},
		{"no such integration", r.as("ann"), "none", nil, broker.ErrNotFound},
	} {
		c, _, err := r.broker.OwnConnection(t.Context(), test.who, test.integration)
		if !errors.Is(err, test.err) || test.want != nil && (c == nil || c.ID != test.want.ID) {
			t.Errorf("%s: %+v, %v", test.name, c, err)
		}
		o, err := r.broker.OwnOutbound(t.Context(), test.who, test.integration)
		if !errors.Is(err, test.err) || test.want != nil && (o == nil || o.Connection() != test.want.ID) {
			t.Errorf("%s, outbound: %v", test.name, err)
		}
	}
	_, i, err := r.broker.OwnConnection(t.Context(), r.as("ann"), "one")
	if err != nil {
		t.Fatal(err)
	}
	if c, _, err := r.broker.OwnConnection(t.Context(), r.as("ann"), i.PublicName()); err != nil || c.ID != anns.ID {
		t.Errorf("by public name: %+v, %v", c, err)
	}
	nobody, _ := r.session(broker.SessionInput{})
	if _, _, err := r.broker.OwnConnection(t.Context(), nobody, "one"); !errors.Is(err, broker.ErrUserMismatch) {
		t.Errorf("a session without an end user: %v", err)
	}
	narrow, _ := r.session(broker.SessionInput{EndUser: &broker.EndUser{ID: "ann"}, Integrations: []string{"team"}})
	if _, _, err := r.broker.OwnConnection(t.Context(), narrow, "one"); !errors.Is(err, broker.ErrIntegrationRefused) {
		t.Errorf("outside the session: %v", err)
	}
	for _, test := range []struct {
		name  string
		who   broker.Actor
		total int
	}{{"ann", r.as("ann"), 2}, {"bob", r.user("bob"), 2}, {"carl", r.as("carl"), 1}, {"everybody", r.who, 3}, {"narrow", narrow, 1}} {
		list, total, err := r.broker.OwnConnections(t.Context(), test.who, 0, 1)
		if err != nil || total != test.total || len(list) != 1 {
			t.Errorf("%s: %d of %d, %v", test.name, len(list), total, err)
		}
	}
}

func TestWhoMayDisconnect(t *testing.T) {
	r := ownerRig(t)
	r.obtained(r.as("ann"), "one")
	r.obtained(r.as("ann"), "team")
	steps := []struct {
		name        string
		who         broker.Actor
		integration string
		err         error
	}{
		{"bob, what is not his", r.user("bob"), "one", broker.ErrNotFound},
		{"bob, what ann shares", r.user("bob"), "team", broker.ErrUserMismatch},
		{"ann, hers", r.user("ann"), "one", nil},
		{"ann, again", r.user("ann"), "one", broker.ErrNotFound},
		{"the superuser, what ann shares", r.who, "team", nil},
	}
	for _, s := range steps {
		if err := r.broker.Disconnect(t.Context(), s.who, s.integration); !errors.Is(err, s.err) {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	if err := r.broker.RevokeDue(t.Context()); err != nil || len(r.provider.revocations()) != 2 {
		t.Errorf("revoked %v, %v", r.provider.revocations(), err)
	}
}

func TestWhatAProgramHasGotBecomesTheOwnersConnection(t *testing.T) {
	r := ownerRig(t)
	ann := r.as("ann")
	first := r.obtained(ann, "one")
	_, refresh := r.provider.issue(0)
	o, err := r.broker.Obtain(t.Context(), ann, broker.ObtainInput{Integration: "one", RefreshToken: broker.NewSecret(refresh)})
	if err != nil || o.Connection != first.ID || !o.Reconnected {
		t.Fatalf("a refresh token: %+v, %v", o, err)
	}
	o, err = r.broker.Obtain(t.Context(), ann, broker.ObtainInput{Integration: "one", Code: "the-code", Verifier: "v"})
	if err != nil || o.Connection != first.ID {
		t.Fatalf("a code: %+v, %v", o, err)
	}
	typed, err := r.broker.Obtain(t.Context(), ann, broker.ObtainInput{
		Integration: "typed", Fields: map[string]string{"credentials.apiKey": "good", "connection_config.region": "eu"},
	})
	if err != nil || typed.Reconnected {
		t.Fatalf("fields: %+v, %v", typed, err)
	}
	refusals := []struct {
		name string
		who  broker.Actor
		in   broker.ObtainInput
		want error
	}{
		{"a code of another redirect URI", ann, broker.ObtainInput{Integration: "one", Code: "c", RedirectURI: "https://evil.example.com/"}, broker.ErrInvalidRequest},
		{"a code for what has none", ann, broker.ObtainInput{
			Integration: "typed", Code: "c", Fields: map[string]string{"credentials.apiKey": "k", "connection_config.region": "eu"},
		}, broker.ErrInvalidRequest},
		{"a spent refresh token", ann, broker.ObtainInput{Integration: "one", RefreshToken: broker.NewSecret(refresh)}, broker.ErrTestFailed},
		{"nothing", ann, broker.ObtainInput{Integration: "one"}, broker.ErrInvalidRequest},
		{"nobody's", r.who, broker.ObtainInput{Integration: "one", Code: "c"}, broker.ErrInvalidRequest},
		{"a refused key", ann, broker.ObtainInput{
			Integration: "typed", Fields: map[string]string{"credentials.apiKey": "refused", "connection_config.region": "eu"},
		}, broker.ErrTestFailed},
	}
	for _, test := range refusals {
		if _, err := r.broker.Obtain(t.Context(), test.who, test.in); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	// Another account does not slip into the place of the first.
	r.provider.set(func(p *fakeProvider) { p.account = "account-2" })
	if _, err := r.broker.Obtain(t.Context(), ann, broker.ObtainInput{Integration: "one", Code: "more", Verifier: "v"}); !errors.Is(err, broker.ErrAccountMismatch) {
		t.Errorf("another account: %v", err)
	}
	if _, total, err := r.broker.OwnConnections(t.Context(), ann, 0, 10); err != nil || total != 2 {
		t.Errorf("%d connections, %v", total, err)
	}
}

func TestASignInOfOnesOwnReplacesWhatOneHas(t *testing.T) {
	r := ownerRig(t)
	first := r.obtained(r.as("ann"), "one")
	who := r.user("ann")
	s, err := r.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{Own: true, Callback: broker.SecondCallbackPath, Landing: "/connect/ended"})
	if err != nil {
		t.Fatal(err)
	}
	cb := callbackOf(t, s)
	if cb.redirectURI != publicURL+"/oauth2/callback" {
		t.Errorf("redirect URI %s", cb.redirectURI)
	}
	o, err := r.broker.FinishFlow(t.Context(), cb.Callback)
	if err != nil || o.Connection != first.ID || o.Landing != "/connect/ended" {
		t.Errorf("%+v, %v", o, err)
	}
	_, token, err := r.broker.OwnSession(t.Context(), r.as("ann"), "one", "/connect/ended", broker.SecondCallbackPath)
	if err != nil {
		t.Fatal(err)
	}
	who, err = r.broker.AuthenticateSession(t.Context(), token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if form, err := r.broker.ConnectForm(t.Context(), who, "one"); err != nil || !form.Reconnecting {
		t.Errorf("%+v, %v", form, err)
	}
}

// What the session says counts for every sign-in in it, wherever that is begun.
func TestASessionOfOnesOwnDecidesForItsSignIns(t *testing.T) {
	r := ownerRig(t)
	var actors []broker.Actor
	for range 2 { // handed out before there is a connection
		_, token, err := r.broker.OwnSession(t.Context(), r.as("ann"), "one", "/connect/ended", broker.SecondCallbackPath)
		if err != nil {
			t.Fatal(err)
		}
		who, err := r.broker.AuthenticateSession(t.Context(), token.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		actors = append(actors, who)
	}
	var made []broker.ConnectionID
	for _, who := range actors {
		s, err := r.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{})
		if err != nil {
			t.Fatal(err)
		}
		cb := callbackOf(t, s)
		o, err := r.broker.FinishFlow(t.Context(), cb.Callback)
		if err != nil {
			t.Fatal(err)
		}
		if cb.redirectURI != publicURL+"/oauth2/callback" || o.Landing != "/connect/ended" {
			t.Errorf("redirect URI %s, landing %s", cb.redirectURI, o.Landing)
		}
		made = append(made, o.Connection)
	}
	if made[0] != made[1] {
		t.Errorf("two connections: %v", made)
	}
}

// Where no end user is named, everybody's connections would be found: none of them is replaced.
func TestASignInOfNobodyReplacesNobodysConnection(t *testing.T) {
	r := ownerRig(t)
	r.obtained(r.as("ann"), "one")
	nobody, _ := r.session(broker.SessionInput{})
	if _, err := r.broker.StartFlow(t.Context(), nobody, "one", broker.ConnectInput{Own: true}); !errors.Is(err, broker.ErrUserMismatch) {
		t.Errorf("a sign-in: %v", err)
	}
	fields := map[string]string{"credentials.apiKey": "k", "connection_config.region": "eu"}
	if _, err := r.broker.Connect(t.Context(), nobody, "typed", broker.ConnectInput{Own: true, Fields: fields}); !errors.Is(err, broker.ErrUserMismatch) {
		t.Errorf("a form: %v", err)
	}
}

type landed struct {
	broker.Callback
	redirectURI string
}

func callbackOf(t *testing.T, s *broker.Started) landed {
	t.Helper()
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return landed{
		broker.Callback{Query: url.Values{"state": {s.State}, "code": {"code-" + s.CookieName}}, Browser: s.Browser},
		target.Query().Get("redirect_uri"),
	}
}

// Where an app is installed, what comes back is no code that somebody could have got elsewhere: only the sign-in that sent
// the end user there says whose installation it is.
func TestInstallationsAreNotTakenForCodes(t *testing.T) {
	for _, param := range []string{broker.PluginStateParam, broker.InstallationParam} {
		r := newRig(t, func(r *rig) { r.provider.facts.CodeParam = param })
		who, _ := r.session(broker.SessionInput{EndUser: &broker.EndUser{ID: "ann"}})
		_, err := r.broker.Obtain(t.Context(), who, broker.ObtainInput{Integration: "one", Code: "77", Verifier: "v"})
		var e *broker.Error
		if !errors.As(err, &e) || !errors.Is(e, broker.ErrInvalidRequest) || e.Field != "code" {
			t.Errorf("%s: %v", param, err)
		}
		if len(r.provider.codes) > 0 {
			t.Errorf("%s: the provider was asked", param)
		}
	}
}
