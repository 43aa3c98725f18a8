package broker_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// preparing is the fake provider with a protocol that begins with a temporary credential.
type preparing struct{ *fakeProvider }

func (p preparing) Prepare(_ context.Context, r *broker.AuthorizeRequest) (*broker.Temporary, error) {
	return p.prepares(r)
}

// Exchange takes a verifier only together with the credential that it belongs to.
func (p preparing) Exchange(ctx context.Context, r *broker.ExchangeRequest) (*broker.Obtained, error) {
	if r.Temporary == nil || r.Temporary.Token != canaryToken || r.Temporary.Secret.Reveal() != canarySecret || r.Code != "a-verifier" {
		return nil, &broker.ProviderError{Class: broker.GrantLost, Code: "verifier_invalid"}
	}
	return p.fakeProvider.Exchange(ctx, r)
}

const (
	canaryToken  = "the-temporary-token-0001"
	canarySecret = "the-temporary-secret-0001"
)

// preparingRig counts how often the provider is asked for a temporary credential, and what with.
func preparingRig(t *testing.T, answer func(r *rig) error) (*rig, *[]*broker.AuthorizeRequest) {
	t.Helper()
	r := newRig(t)
	asked := new([]*broker.AuthorizeRequest)
	r.provider.prepares = func(q *broker.AuthorizeRequest) (*broker.Temporary, error) {
		*asked = append(*asked, q)
		if err := answer(r); err != nil {
			return nil, err
		}
		return &broker.Temporary{URL: "https://fake.example.com/authorize?oauth_token=" + canaryToken, Token: canaryToken, Secret: broker.NewSecret(canarySecret)}, nil
	}
	return r, asked
}

func granted(*rig) error { return nil }

// answered gives what the browser brings back.
func answered(s *broker.Started) broker.Callback {
	return broker.Callback{Browser: s.Browser, Query: url.Values{
		"state": {s.State}, "oauth_token": {canaryToken}, "oauth_verifier": {"a-verifier"},
	}}
}

func TestASignInWithATemporaryCredential(t *testing.T) {
	r, asked := preparingRig(t, granted)
	who, _ := r.session(broker.SessionInput{})
	s, _ := r.started(who)
	if len(*asked) != 1 || (*asked)[0].State != s.State || (*asked)[0].RedirectURI != publicURL+"/oauth/callback" {
		t.Fatalf("asked %+v", *asked)
	}
	if s.URL != "https://fake.example.com/authorize?oauth_token="+canaryToken {
		t.Fatalf("the browser goes to %s", s.URL)
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), canaryToken) || strings.Contains(string(raw), canarySecret) {
			t.Errorf("%s holds the temporary credential in the clear", file)
		}
	}
	o, err := r.broker.FinishFlow(t.Context(), answered(s))
	if err != nil {
		t.Fatal(err)
	}
	if got := r.reveal(broker.ConnectionRef{Integration: "one", Key: o.Key}); got.Connection.Status != broker.Active {
		t.Errorf("the connection is %s", got.Connection.Status)
	}
	if _, err := r.broker.FinishFlow(t.Context(), answered(s)); !errors.Is(err, broker.ErrStateUsed) {
		t.Errorf("a second time: %v", err)
	}
	if len(*asked) != 1 || len(r.provider.codes) != 1 {
		t.Errorf("%d temporary credentials, %d exchanges", len(*asked), len(r.provider.codes))
	}
}

// What a stranger, or a provider, can do to an answer that names a temporary credential. None of it leads to an exchange.
func TestHostileAnswersOfATemporaryCredential(t *testing.T) {
	tests := map[string]struct {
		change func(q url.Values)
		want   *broker.Error
	}{
		"another token":          {func(q url.Values) { q.Set("oauth_token", canaryToken+"x") }, broker.ErrContextMismatch},
		"no token":               {func(q url.Values) { q.Del("oauth_token") }, broker.ErrCallbackInvalid},
		"two tokens":             {func(q url.Values) { q.Add("oauth_token", canaryToken) }, broker.ErrCallbackInvalid},
		"no verifier":            {func(q url.Values) { q.Del("oauth_verifier") }, broker.ErrCallbackInvalid},
		"two verifiers":          {func(q url.Values) { q.Add("oauth_verifier", "a-verifier") }, broker.ErrCallbackInvalid},
		"a long verifier":        {func(q url.Values) { q.Set("oauth_verifier", strings.Repeat("x", 4097)) }, broker.ErrCallbackInvalid},
		"a code in its place":    {func(q url.Values) { q.Del("oauth_verifier"); q.Set("code", "a-verifier") }, broker.ErrCallbackInvalid},
		"denied and a verifier":  {func(q url.Values) { q.Set("denied", canaryToken) }, broker.ErrCallbackInvalid},
		"problem and verifier":   {func(q url.Values) { q.Set("oauth_problem", "x") }, broker.ErrCallbackInvalid},
		"denied":                 {func(q url.Values) { q.Del("oauth_verifier"); q.Set("denied", canaryToken) }, broker.ErrProviderDenied},
		"denied twice":           {func(q url.Values) { q.Del("oauth_verifier"); q["denied"] = []string{"a", "b"} }, broker.ErrCallbackInvalid},
		"a problem: permission":  {func(q url.Values) { q.Del("oauth_verifier"); q.Set("oauth_problem", "permission_denied") }, broker.ErrProviderDenied},
		"a problem: the user":    {func(q url.Values) { q.Del("oauth_verifier"); q.Set("oauth_problem", "user_refused") }, broker.ErrProviderDenied},
		"another problem":        {func(q url.Values) { q.Del("oauth_verifier"); q.Set("oauth_problem", "token_expired") }, broker.ErrProviderError},
		"an error of OAuth 2":    {func(q url.Values) { q.Set("error", "access_denied") }, broker.ErrProviderDenied},
		"a token of OAuth 2 too": {func(q url.Values) { q.Set("access_token", "x") }, broker.ErrCallbackInvalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, _ := preparingRig(t, granted)
			who, _ := r.session(broker.SessionInput{})
			s, _ := r.started(who)
			hostile := answered(s)
			tt.change(hostile.Query)
			var failure *broker.FlowError
			if _, err := r.broker.FinishFlow(t.Context(), hostile); !errors.As(err, &failure) || !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %s", err, tt.want.Code)
			}
			if _, err := r.broker.FinishFlow(t.Context(), answered(s)); !errors.Is(err, broker.ErrStateUsed) {
				t.Errorf("the true answer afterwards: %v", err)
			}
			if len(r.provider.codes) != 0 {
				t.Error("it was exchanged")
			}
		})
	}
}

func TestASessionAsksForSoManyTemporaryCredentials(t *testing.T) {
	r, asked := preparingRig(t, granted)
	who, _ := r.session(broker.SessionInput{})
	for range 20 {
		r.started(who)
	}
	if _, err := r.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{}); !errors.Is(err, broker.ErrRateLimited) {
		t.Errorf("one more: %v", err)
	}
	if len(*asked) != 20 {
		t.Errorf("the provider was asked %d times", len(*asked))
	}
}

func TestAProviderThatLetsNoSignInBegin(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want *broker.Error
		says string
	}{
		"our client":    {&broker.ProviderError{Class: broker.ClientRefused, Code: "consumer_key_unknown", Status: 401}, broker.ErrExchangeFailed, "callback address"},
		"no answer":     {&broker.ProviderError{Class: broker.Transient, Code: "provider_timeout"}, broker.ErrExchangeFailed, "start again"},
		"a wrong value": {broker.ErrVariableInvalid.On("team"), broker.ErrVariableInvalid, ""},
	} {
		t.Run(name, func(t *testing.T) {
			failing := true
			r, asked := preparingRig(t, func(*rig) error {
				if failing {
					return tt.err
				}
				return nil
			})
			who, session := r.session(broker.SessionInput{})
			_, err := r.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{})
			e := broker.AsError(err)
			if !errors.Is(err, tt.want) || !strings.Contains(e.Msg, tt.says) {
				t.Errorf("got %v", err)
			}
			if tt.want == broker.ErrVariableInvalid && e.Field != "connection_config.team" {
				t.Errorf("the field is %s", e.Field)
			}
			if len(*asked) != 1 {
				t.Errorf("the provider was asked %d times", len(*asked))
			}
			hash, _ := r.keyring.CheckState((*asked)[0].State)
			f, err := r.store.FlowByState(t.Context(), hash[:])
			if err != nil || f.Status != broker.FlowFailed || f.Code != tt.want.Code || len(f.Secrets) != 0 {
				t.Errorf("the flow is %+v, %v", f, err)
			}
			stored, err := r.store.Session(t.Context(), session.ID)
			if err != nil || stored.Starts != 1 {
				t.Errorf("starts %+v, %v", stored, err)
			}
			failing = false
			s, _ := r.started(who)
			if _, err := r.broker.FinishFlow(t.Context(), answered(s)); err != nil {
				t.Errorf("the next sign-in: %v", err)
			}
		})
	}
}

// A session that is deleted while its provider is asked takes the sign-in with it.
func TestADeletedSessionLetsNoSignInBegin(t *testing.T) {
	var who broker.Actor
	r, _ := preparingRig(t, func(r *rig) error { return r.broker.DeleteSession(t.Context(), who) })
	who, _ = r.session(broker.SessionInput{})
	if _, err := r.broker.StartFlow(t.Context(), who, "one", broker.ConnectInput{}); !errors.Is(err, broker.ErrSessionInvalid) {
		t.Errorf("got %v", err)
	}
}
