package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// fakeCourier remembers what it was given, and answers as it is told.
type fakeCourier struct {
	mu     sync.Mutex
	got    []*broker.Parcel
	answer func(p *broker.Parcel) broker.Receipt // nil: 200
}

func (c *fakeCourier) CheckURL(raw string) error {
	if strings.Contains(raw, "internal") {
		return broker.ErrURLNotAllowed
	}
	return nil
}

func (c *fakeCourier) Deliver(_ context.Context, p *broker.Parcel) broker.Receipt {
	c.mu.Lock()
	c.got = append(c.got, p)
	answer := c.answer
	c.mu.Unlock()
	if answer != nil {
		return answer(p)
	}
	return broker.Receipt{Status: 200}
}

func (c *fakeCourier) set(answer func(*broker.Parcel) broker.Receipt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

// take gives what has come since the last call.
func (c *fakeCourier) take() []*broker.Parcel {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	return got
}

const (
	primaryURL   = "https://app.example.com/hooks"
	secondaryURL = "https://second.example.com/hooks"
	ownURL       = "https://own.example.com/hooks"
)

func newHookRig(t *testing.T, options ...func(*rig)) (*rig, *fakeCourier) {
	t.Helper()
	c := &fakeCourier{}
	return newRig(t, append([]func(*rig){func(r *rig) { r.courier, r.webhook.URL = c, primaryURL }}, options...)...), c
}

// told delivers what is due and says what came, as "host kind code".
func (r *rig) told(c *fakeCourier) []string {
	r.t.Helper()
	r.deliverDue()
	out := []string{}
	for _, p := range c.take() {
		u, err := url.Parse(p.URL)
		if err != nil {
			r.t.Fatal(err)
		}
		host, _, _ := strings.Cut(u.Host, ".")
		kind := strings.TrimPrefix(string(p.Notice.Kind), "connection.")
		out = append(out, strings.TrimSpace(host+" "+kind+" "+p.Notice.Code))
	}
	slices.Sort(out)
	return out
}

func (r *rig) expectTold(c *fakeCourier, want ...string) {
	r.t.Helper()
	if got := r.told(c); !slices.Equal(got, want) {
		r.t.Errorf("told %q, want %q", got, want)
	}
}

// importedTo imports a connection with an address of its own.
func (r *rig) importedTo(key, address string) {
	r.t.Helper()
	access, refresh := r.provider.issue(time.Hour)
	_, _, err := r.broker.Import(r.t.Context(), r.who, broker.ImportInput{
		Integration: "one", Key: key, WebhookURL: address,
		Material: &broker.Material{Type: "OAUTH2", Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh), ExpiresAt: r.clock.Now().Add(time.Hour)},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestWhereAnAppIsTold(t *testing.T) {
	second := func(r *rig) { r.webhook.SecondaryURL = secondaryURL }
	for name, test := range map[string]struct {
		option func(*rig)
		own    string
		want   []string
	}{
		"primary alone":             {func(*rig) {}, "", []string{"app created", "app reauthorized"}},
		"both":                      {second, "", []string{"app created", "app reauthorized", "second created", "second reauthorized"}},
		"secondary alone":           {func(r *rig) { second(r); r.webhook.URL = "" }, "", []string{"second created", "second reauthorized"}},
		"the connection's own":      {second, ownURL, []string{"own created", "own reauthorized"}},
		"its own is the primary":    {second, primaryURL, []string{"app created", "app reauthorized"}},
		"only the connection's own": {func(r *rig) { r.webhook.URL = "" }, ownURL, []string{"own created", "own reauthorized"}},
		"nowhere":                   {func(r *rig) { r.webhook.URL = "" }, "", nil},
		"creations are muted":       {func(r *rig) { r.webhook.MuteCreation = true }, "", []string{"app reauthorized"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, c := newHookRig(t, test.option)
			r.importedTo("c", test.own)
			r.importedTo("c", test.own)
			if n := len(r.deliveries()); n != len(test.want) {
				t.Errorf("%d deliveries were stored", n)
			}
			r.expectTold(c, test.want...)
		})
	}
}

// What is told is what held when it happened, whatever has become of the connection since.
func TestANoticeIsOfItsMoment(t *testing.T) {
	r, c := newHookRig(t)
	who, _ := r.session(broker.SessionInput{
		EndUser: &broker.EndUser{ID: "u-1", Email: "ann@corp.test", OrganizationID: "o-1"}, Tags: map[string]string{"plan": "gold"}, WebhookURL: ownURL,
	})
	_, cb := r.started(who)
	o, err := r.broker.FinishFlow(t.Context(), cb)
	if err != nil {
		t.Fatal(err)
	}
	ref := broker.ConnectionRef{Integration: "one", Key: o.Key}
	if _, err := r.broker.UpdateConnection(t.Context(), r.who, ref, broker.ConnectionPatch{Tags: map[string]string{"plan": "lead"}}); err != nil {
		t.Fatal(err)
	}
	if err := r.broker.DeleteConnection(t.Context(), r.who, ref); err != nil {
		t.Fatal(err)
	}
	r.deliverDue()
	got := c.take()
	if len(got) != 1 || got[0].URL != ownURL {
		t.Fatalf("%d were told", len(got))
	}
	n := got[0].Notice
	want := broker.Notice{
		Kind: broker.EventConnected, Environment: "dev", Integration: "one", Provider: "fake", Mode: "OAUTH2", Connection: o.Key,
		Tags: map[string]string{"plan": "gold"}, EndUser: &broker.EndUser{ID: "u-1", Email: "ann@corp.test", OrganizationID: "o-1"},
	}
	if fmt.Sprint(*n.EndUser) != fmt.Sprint(*want.EndUser) {
		t.Errorf("end user %+v", n.EndUser)
	}
	n.EndUser, want.EndUser = nil, nil
	if fmt.Sprint(*n) != fmt.Sprint(want) {
		t.Errorf("told %+v, want %+v", *n, want)
	}
}

func TestSignInsThatComeToNothing(t *testing.T) {
	refuse := func(r *rig) {
		r.provider.set(func(p *fakeProvider) {
			p.before = func(int) error {
				return &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Text: "secret words"}
			}
		})
	}
	for name, test := range map[string]struct {
		spoil func(r *rig, cb *broker.Callback)
		want  []string
	}{
		"the exchange fails":        {func(r *rig, _ *broker.Callback) { refuse(r) }, []string{"app failed exchange_failed"}},
		"the provider has no code":  {func(_ *rig, cb *broker.Callback) { cb.Query.Del("code") }, []string{"app failed callback_invalid"}},
		"the provider has an error": {func(_ *rig, cb *broker.Callback) { cb.Query.Del("code"); cb.Query.Set("error", "server_error") }, []string{"app failed provider_error"}},
		"the end user says no":      {func(_ *rig, cb *broker.Callback) { cb.Query.Del("code"); cb.Query.Set("error", "access_denied") }, nil},
		"another browser":           {func(_ *rig, cb *broker.Callback) { cb.Browser = broker.NewSecret("another") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, c := newHookRig(t)
			who, _ := r.session(broker.SessionInput{})
			_, cb := r.started(who)
			test.spoil(r, &cb)
			if _, err := r.broker.FinishFlow(t.Context(), cb); err == nil {
				t.Fatal("it succeeded")
			}
			for _, d := range r.deliveries() {
				if strings.Contains(string(d.Notice), "secret words") || d.About == "" {
					t.Errorf("delivery %+v, %s", d, d.Notice)
				}
			}
			r.expectTold(c, test.want...)
		})
	}
}

// A repair that ends in another account is refused, and told even where creations are muted.
func TestARefusedRepairIsTold(t *testing.T) {
	r, c := newHookRig(t, func(r *rig) { r.webhook.MuteCreation = true })
	connect := func(in broker.SessionInput) (*broker.Outcome, error) {
		who, _ := r.session(in)
		_, cb := r.started(who)
		return r.broker.FinishFlow(t.Context(), cb)
	}
	o, err := connect(broker.SessionInput{})
	if err != nil {
		t.Fatal(err)
	}
	r.expectTold(c)
	ref := &broker.ConnectionRef{Integration: "one", Key: o.Key}
	if _, err := connect(broker.SessionInput{Reconnect: ref}); err != nil {
		t.Fatal(err)
	}
	r.expectTold(c, "app reauthorized")
	r.provider.set(func(p *fakeProvider) { p.account = "another" })
	if _, err := connect(broker.SessionInput{Reconnect: ref}); !errors.Is(err, broker.ErrAccountMismatch) {
		t.Fatal(err)
	}
	r.deliverDue()
	if got := c.take(); len(got) != 1 || got[0].Notice.Code != "account_mismatch" || got[0].Notice.Connection != o.Key {
		t.Fatalf("told %+v", got)
	}
}

// An app hears once when a connection stops working for its users, and once more when only they can mend it; a provider
// that stumbles while the token is good is not its business.
func TestRefreshFailuresAreToldOnce(t *testing.T) {
	r, c := newHookRig(t)
	ref := r.imported("c", time.Hour)
	r.expectTold(c, "app created")
	r.provider.set(func(p *fakeProvider) {
		p.before = func(int) error { return &broker.ProviderError{Class: broker.Transient, Code: "http_500", Status: 500} }
	})
	refresh := func() {
		t.Helper()
		if _, err := r.broker.Reveal(t.Context(), r.who, ref, broker.RevealOptions{ForceRefresh: true}); err == nil {
			t.Fatal("it was renewed")
		}
	}
	refresh()
	r.clock.advance(time.Minute)
	refresh()
	r.expectTold(c)
	r.clock.advance(time.Hour) // the token has run out
	refresh()
	r.expectTold(c, "app refresh_failing http_500")
	r.clock.advance(time.Hour)
	refresh() // the fourth: a fifth would close the gate
	r.expectTold(c)
	r.provider.set(func(p *fakeProvider) { p.before = nil })
	r.loseGrant("c")
	r.loseGrant("c")
	r.expectTold(c, "app needs_reauth needs_reauth")
	if err := r.broker.DeleteConnection(t.Context(), r.who, ref); err != nil {
		t.Fatal(err)
	}
	r.expectTold(c)
}

func TestRefreshFailuresCanBeMuted(t *testing.T) {
	r, c := newHookRig(t, func(r *rig) { r.webhook.MuteRefreshErrors = true })
	r.imported("c", time.Hour)
	r.loseGrant("c")
	r.expectTold(c, "app created")
}

func TestNobodyIsToldAtAddressesThatAreNotAllowed(t *testing.T) {
	r, _ := newHookRig(t)
	ctx, bad := t.Context(), "https://internal.example.com"
	ref := r.imported("c", time.Hour)
	_, _, err1 := r.broker.CreateSession(ctx, r.who, broker.SessionInput{WebhookURL: bad})
	_, err2 := r.broker.UpdateConnection(ctx, r.who, ref, broker.ConnectionPatch{WebhookURL: &bad})
	_, _, err3 := r.broker.Import(ctx, r.who, broker.ImportInput{
		Integration: "one", WebhookURL: bad, Material: &broker.Material{Type: "OAUTH2", Access: broker.NewSecret("token")},
	})
	for i, err := range []error{err1, err2, err3} {
		if e := broker.AsError(err); e.Code != "url_not_allowed" || e.Field != "webhook_url_override" {
			t.Errorf("%d: got %v on %q", i, err, e.Field)
		}
	}
	for _, w := range []broker.DeclaredWebhook{{URL: bad}, {URL: primaryURL, SecondaryURL: bad}} {
		err := r.broker.Declare(ctx, []broker.DeclaredEnvironment{{Environment: broker.Environment{Name: "prod"}, Webhook: w}})
		if !errors.Is(err, broker.ErrURLNotAllowed) {
			t.Errorf("%+v: got %v", w, err)
		}
	}
}

// Longer ones would not fit into an index of PostgreSQL's, so that what happens at the connection could not be stored either.
func TestAddressesHaveAnEnd(t *testing.T) {
	r, _ := newHookRig(t)
	ctx, ref := t.Context(), r.imported("c", time.Hour)
	long := ownURL + strings.Repeat("x", 2048-len(ownURL))
	if _, err := r.broker.UpdateConnection(ctx, r.who, ref, broker.ConnectionPatch{WebhookURL: &long}); err != nil {
		t.Fatal(err)
	}
	long += "x"
	_, _, err1 := r.broker.CreateSession(ctx, r.who, broker.SessionInput{WebhookURL: long})
	_, err2 := r.broker.UpdateConnection(ctx, r.who, ref, broker.ConnectionPatch{WebhookURL: &long})
	_, _, err3 := r.broker.Import(ctx, r.who, broker.ImportInput{
		Integration: "one", WebhookURL: long, Material: &broker.Material{Type: "OAUTH2", Access: broker.NewSecret("token")},
	})
	for i, err := range []error{err1, err2, err3} {
		if e := broker.AsError(err); e.Code != "invalid_request" || e.Field != "webhook_url_override" {
			t.Errorf("%d: got %v on %q", i, err, e.Field)
		}
	}
	err := r.broker.Declare(ctx, []broker.DeclaredEnvironment{{Environment: broker.Environment{Name: "prod"}, Webhook: broker.DeclaredWebhook{URL: long}}})
	if !errors.Is(err, broker.ErrInvalidRequest) {
		t.Errorf("declared: got %v", err)
	}
}

func TestSigningKeys(t *testing.T) {
	r, c := newHookRig(t)
	ctx, system := t.Context(), broker.System(r.who.Environment)
	keys := func() (out []string) {
		t.Helper()
		r.imported("c", time.Hour)
		r.deliverDue()
		got := c.take()
		if len(got) != 1 {
			t.Fatalf("%d were told", len(got))
		}
		for _, k := range got[0].Keys {
			out = append(out, k.Reveal())
		}
		return out
	}
	first := r.signingKey()
	if !strings.HasPrefix(first, "whsec_") || !slices.Equal(keys(), []string{first}) {
		t.Fatalf("the first key is %q", first)
	}
	second, err := r.broker.RotateWebhookKey(ctx, system)
	if err != nil || second.Reveal() != r.signingKey() {
		t.Fatal("the new key is not the one that was given", err)
	}
	if got := keys(); !slices.Equal(got, []string{second.Reveal(), first}) {
		t.Errorf("after a rotation %d keys sign", len(got))
	}
	r.clock.advance(24 * time.Hour)
	if got := keys(); !slices.Equal(got, []string{second.Reveal()}) {
		t.Errorf("a day later %d keys sign", len(got))
	}

	r.webhook.Key = broker.NewSecret("11111111-2222-4333-8444-555555555555")
	r.declare(ctx)
	if got := keys(); !slices.Equal(got, []string{r.webhook.Key.Reveal(), second.Reveal()}) {
		t.Errorf("once it is configured %d keys sign", len(got))
	}
	if _, err := r.broker.RotateWebhookKey(ctx, system); !errors.Is(err, broker.ErrManagedByConfig) {
		t.Errorf("a configured key was rotated: %v", err)
	}
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	r.start() // the same configuration changes nothing
	if got := keys(); len(got) != 2 || r.signingKey() != r.webhook.Key.Reveal() {
		t.Errorf("after a start %d keys sign", len(got))
	}
	for _, bad := range []string{"short", "whsec_", "whsec_AAAA", "whsec_not base64 not base64 not base64 not base64"} {
		err := r.broker.Declare(ctx, []broker.DeclaredEnvironment{{Environment: broker.Environment{Name: "prod"}, Webhook: broker.DeclaredWebhook{Key: broker.NewSecret(bad)}}})
		if !errors.Is(err, broker.ErrInvalidRequest) {
			t.Errorf("the key %q: %v", bad, err)
		}
	}
	limited := r.who
	limited.Scopes = broker.Scopes{broker.ScopeProxy}
	if _, err := r.broker.RotateWebhookKey(ctx, limited); !errors.Is(err, broker.ErrInsufficientScope) {
		t.Errorf("anybody can rotate: %v", err)
	}
}
