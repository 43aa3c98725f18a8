package providers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
)

// failed takes an error for a provider's.
func failed(t *testing.T, err error) *broker.ProviderError {
	t.Helper()
	var p *broker.ProviderError
	if !errors.As(err, &p) {
		t.Fatalf("got %v, want a provider's error", err)
	}
	return p
}

func TestClassesOfFailures(t *testing.T) {
	const form, js, html = "application/x-www-form-urlencoded", "application/json; charset=utf-8", "text/html"
	for _, tt := range []struct {
		name   string
		status int
		kind   string
		body   string
		class  broker.FailureClass
		code   string
		doubt  bool
	}{
		{"grant", 400, js, `{"error":"invalid_grant","error_description":"gone"}`, broker.GrantLost, "invalid_grant", false},
		{"grant in a 401", 401, js, `{"error":"invalid_grant"}`, broker.GrantLost, "invalid_grant", false},
		{"grant in a 403", 403, js, `{"error":"invalid_grant"}`, broker.GrantLost, "invalid_grant", false},
		{"grant in a form", 400, form, `error=invalid_grant`, broker.GrantLost, "invalid_grant", false},
		{"grant in a 200", 200, js, `{"error":"invalid_grant"}`, broker.GrantLost, "invalid_grant", false},
		{"grant in a 500", 500, js, `{"error":"invalid_grant"}`, broker.Transient, "invalid_grant", false},
		{"grant in a 429", 429, js, `{"error":"invalid_grant"}`, broker.Transient, "invalid_grant", false},
		{"synonym", 400, js, `{"error":"BAD_REFRESH_TOKEN"}`, broker.GrantLost, "BAD_REFRESH_TOKEN", false},
		{"synonym at its own path", 400, js, `{"status":"BAD_REFRESH_TOKEN","message":"no"}`, broker.GrantLost, "BAD_REFRESH_TOKEN", false},
		{"synonym in an object", 400, js, `{"error":{"code":"BAD_REFRESH_TOKEN","message":"no"}}`, broker.GrantLost, "BAD_REFRESH_TOKEN", false},
		{"predicate", 200, js, `{"ok":false,"error":"token_revoked"}`, broker.GrantLost, "token_revoked", false},
		{"predicate, passing", 200, js, `{"ok":false,"error":"ratelimited"}`, broker.Transient, "ratelimited", false},
		{"predicate, client", 200, js, `{"ok":false,"error":"bad_client_secret"}`, broker.ClientRefused, "bad_client_secret", false},
		{"predicate with a token", 200, js, `{"ok":false,"access_token":"x"}`, broker.GrantLost, "http_200", false},
		{"error in a 200, unknown", 200, js, `{"error":"odd"}`, broker.Transient, "odd", false},
		{"client", 401, js, `{"error":"invalid_client"}`, broker.ClientRefused, "invalid_client", false},
		{"client in a 400", 400, js, `{"error":"unauthorized_client"}`, broker.ClientRefused, "unauthorized_client", false},
		{"scope", 400, js, `{"error":"invalid_scope"}`, broker.ClientRefused, "invalid_scope", false},
		{"grant type", 400, js, `{"error":"unsupported_grant_type"}`, broker.ClientRefused, "unsupported_grant_type", false},
		{"401 without a word", 401, html, `<p>no`, broker.ClientRefused, "http_401", false},
		{"403 without a word", 403, js, `{}`, broker.ClientRefused, "http_403", false},
		{"request", 400, js, `{"error":"invalid_request"}`, broker.Transient, "invalid_request", false},
		{"404", 404, html, `<p>no`, broker.Transient, "http_404", false},
		{"408", 408, js, `{}`, broker.Transient, "http_408", false},
		{"425", 425, js, `{"error":"invalid_client"}`, broker.Transient, "invalid_client", false},
		{"429", 429, html, `slow`, broker.Transient, "http_429", false},
		{"500", 500, html, `<p>no`, broker.Transient, "http_500", false},
		{"503", 503, js, `{"error":"temporarily_unavailable"}`, broker.Transient, "temporarily_unavailable", false},
		{"code that is none", 400, js, `{"error":"<script>"}`, broker.Transient, "http_400", false},
		{"HTML", 200, html, `{"access_token":"x"}`, broker.Transient, "bad_answer", true},
		{"no JSON", 200, js, `oops`, broker.Transient, "bad_answer", true},
		{"a list", 200, js, `["access_token"]`, broker.Transient, "bad_answer", true},
		{"no body", 200, js, ``, broker.Transient, "bad_answer", true},
		{"no token", 200, js, `{}`, broker.Transient, "no_token", true},
		{"empty token", 200, js, `{"access_token":""}`, broker.Transient, "no_token", true},
		{"token that is a number", 200, js, `{"access_token":1}`, broker.Transient, "no_token", true},
		{"token with a space", 200, js, `{"access_token":"a b"}`, broker.Transient, "no_token", true},
		{"token with a line", 200, js, `{"access_token":"a\nb"}`, broker.Transient, "no_token", true},
		{"token in another alphabet", 200, js, `{"access_token":"é"}`, broker.Transient, "no_token", true},
		{"token that is too long", 200, js, `{"access_token":"` + strings.Repeat("x", 16<<10+1) + `"}`, broker.Transient, "no_token", true},
		{"wrong case", 200, js, `{"Access_Token":"x"}`, broker.Transient, "no_token", true},
		{"twice", 200, js, `{"access_token":"x","access_token":"y"}`, broker.Transient, "bad_answer", true},
		{"twice, deep inside", 200, js, `{"access_token":"x","a":{"b":1,"b":2}}`, broker.Transient, "bad_answer", true},
		{"twice in a form", 200, form, `access_token=x&access_token=y`, broker.Transient, "bad_answer", true},
		{"too much", 200, js, `{"access_token":"x","pad":"` + strings.Repeat("x", 256<<10) + `"}`, broker.Transient, "answer_too_large", true},
		{"redirect", 302, js, `{}`, broker.Transient, "unexpected_redirect", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			requests := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				requests++
				w.Header().Set("Content-Type", tt.kind)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer s.Close()
			p := oauth(t, load(t, "x:\n  display_name: X\n  auth_mode: OAUTH2\n  authorization_url: "+s.URL+"/a\n  token_url: "+s.URL+"/t\n"+
				"  permanent_errors: [BAD_REFRESH_TOKEN]\n  client_errors: [bad_client_secret]\n"+
				"  error_predicates: [{path: ok, equals: false, code_path: error}, {path: status, present: true, code_path: status}]\n"), "x")
			_, err := p.Renew(t.Context(), &broker.Holding{Client: client, Material: &broker.Material{Refresh: broker.NewSecret("R")}})
			e := failed(t, err)
			if e.Class != tt.class || e.Code != tt.code || e.Status != tt.status || e.InDoubt != tt.doubt || e.Reach != nil {
				t.Errorf("got %+v", e)
			}
			if requests != 1 {
				t.Errorf("%d requests", requests)
			}
		})
	}
}

func TestDescriptionsAreCleaned(t *testing.T) {
	secrets := []string{"s3cret", ""}
	for in, want := range map[string]string{
		"plain":                          "plain",
		" two\r\nlines\t ":               "two  lines",
		"\u202eturned\u2066 \x1b[31mred": "turned [31mred",
		"the code s3cret is used":        "",
		strings.Repeat("é", 400):         strings.Repeat("é", 300),
		"bad \xff bytes":                 "bad  bytes",
	} {
		if got := cleanText(in, secrets); got != want {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

// A code can be used once, so whatever comes back, one request is made.
func TestExchangeIsSentOnce(t *testing.T) {
	for name, knobs := range map[string]providertest.Knobs{
		"refused client": {Error: "invalid_client"}, "401": {Status: 401}, "500": {Status: 500}, "503": {Status: 503}, "hang up": {HangUp: true},
		"hang up in the answer": {HangUpMid: true}, "307": {Redirect: 307}, "308": {Redirect: 308}, "302": {Redirect: 302}, "429": {Status: 429},
		"no token": {NoToken: true}, "too large": {Oversized: true}, "twice": {DuplicateKeys: true}, "case": {WrongCase: true},
		"html": {ContentType: "text/html"},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := testProvider(t, knobs)
			if _, err := connect(t, s, p); err == nil {
				t.Fatal("exchanged")
			}
			if c := s.Counts(); c.Tokens != 1 || c.Collected != 0 {
				t.Errorf("counts: %+v", c)
			}
		})
	}
}

// A redirect would take secret and refresh token to wherever it leads.
func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		s, p := testProvider(t, providertest.Knobs{Redirect: status})
		access, refresh := s.Grant()
		h := &broker.Holding{Client: client, Material: &broker.Material{Access: broker.NewSecret(access), Refresh: broker.NewSecret(refresh)}}
		_, err := p.Renew(t.Context(), h)
		if e := failed(t, err); e.Code != "unexpected_redirect" || e.Class != broker.Transient {
			t.Errorf("%d: renewal %+v", status, e)
		}
		_, err = p.Revoke(t.Context(), h)
		if e := failed(t, err); e.Class != broker.Transient {
			t.Errorf("%d: revocation %+v", status, e)
		}
		_, err = p.Identify(t.Context(), h)
		if e := failed(t, err); e.Class != broker.Transient {
			t.Errorf("%d: identity %+v", status, e)
		}
		if c := s.Counts(); c.Collected != 0 || c.Tokens != 1 || c.Revocations != 1 || c.Identities != 1 {
			t.Errorf("%d: %+v", status, c)
		}
	}
}

func TestRenewalIsSentOnceWhenTheProviderIsDown(t *testing.T) {
	s, p := testProvider(t, providertest.Knobs{Status: 503, RetryAfter: "120"})
	_, refresh := s.Grant()
	_, err := p.Renew(t.Context(), &broker.Holding{Client: client, Material: &broker.Material{Refresh: broker.NewSecret(refresh)}})
	e := failed(t, err)
	if e.Class != broker.Transient || e.Status != 503 || e.RetryAfter != 2*time.Minute || e.InDoubt {
		t.Errorf("got %+v", e)
	}
	if c := s.Counts(); c.Tokens != 1 || c.Refreshes != 1 {
		t.Errorf("counts: %+v", c)
	}
}

func TestOutcomesInDoubt(t *testing.T) {
	renew := func(s *providertest.Server, p *oauth2Provider, ctx context.Context) *broker.ProviderError {
		_, refresh := s.Grant()
		_, err := p.Renew(ctx, &broker.Holding{Client: client, Material: &broker.Material{Refresh: broker.NewSecret(refresh)}})
		return failed(t, err)
	}
	t.Run("hang up", func(t *testing.T) {
		s, p := testProvider(t, providertest.Knobs{Rotate: true, HangUp: true})
		e := renew(s, p, t.Context())
		if !e.InDoubt || e.Reach == nil || e.Status != 0 || s.Counts().Issued != 1 {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("hang up in the answer", func(t *testing.T) {
		s, p := testProvider(t, providertest.Knobs{Rotate: true, HangUpMid: true})
		if e := renew(s, p, t.Context()); !e.InDoubt || e.Reach == nil {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("given up while it waits", func(t *testing.T) {
		s, p := testProvider(t, providertest.Knobs{Stall: true})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-s.Stalled()
			cancel()
		}()
		if e := renew(s, p, ctx); !e.InDoubt {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("never sent", func(t *testing.T) {
		s, p := testProvider(t, providertest.Knobs{})
		p.deps.client.Transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("dial 10.1.2.3: refused") })
		e := renew(s, p, t.Context())
		if e.InDoubt || e.Reach == nil || e.Code != "provider_unreachable" || strings.Contains(e.Error()+e.Text+e.Reach.Error(), "10.1.2.3") {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("blocked", func(t *testing.T) {
		s, p := testProvider(t, providertest.Knobs{})
		strict := options(t)
		p.deps.client.Transport = blockingTransport(t)
		p.deps.reach = strict.Reach
		if e := renew(s, p, t.Context()); e.InDoubt || e.Reach == nil || e.Reach.Code != "egress_blocked" {
			t.Errorf("got %+v", e)
		}
	})
}

func TestWithoutARefreshTokenNothingIsSent(t *testing.T) {
	s, p := testProvider(t, providertest.Knobs{})
	_, err := p.Renew(t.Context(), &broker.Holding{Client: client, Material: &broker.Material{Access: broker.NewSecret("x")}})
	if e := failed(t, err); e.Class != broker.GrantLost || s.Counts().Tokens != 0 {
		t.Errorf("got %+v", e)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "x": 0, "-5": 0, "NaN": 0, "0": time.Second, "0.2": time.Second, "30": 30 * time.Second, " 30 ": 30 * time.Second,
		"1.5": 1500 * time.Millisecond, "99999": time.Hour, "1e300": time.Hour, "Inf": time.Hour, "-Inf": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:00:00 GMT": time.Second, "Sat, 03 Jan 2026 03:00:00 GMT": time.Hour,
	} {
		if got := parseRetryAfter(in, now); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
	r := &answerRules{waitAt: []string{"X-Reset"}, waitAfter: []string{"X-Wait"}}
	for _, tt := range []struct {
		header map[string]string
		status int
		want   time.Duration
	}{
		{map[string]string{"X-Wait": "9"}, 429, 9 * time.Second},
		{map[string]string{"X-Wait": "9", "Retry-After": "20"}, 429, 20 * time.Second},
		{map[string]string{"X-Reset": "1767323055"}, 429, 10 * time.Second},
		{map[string]string{"X-Reset": "1767323055000"}, 429, 10 * time.Second},
		{map[string]string{"X-Reset": "Fri, 02 Jan 2026 03:04:15 GMT"}, 429, 10 * time.Second},
		{map[string]string{"X-Reset": "17"}, 429, 0},
		{map[string]string{"X-Reset": "1767323055"}, 200, 0},
		{nil, 429, 0},
	} {
		a := &reply{status: tt.status, header: http.Header{}, at: now}
		for k, v := range tt.header {
			a.header.Set(k, v)
		}
		if got := r.retryAfter(a); got != tt.want {
			t.Errorf("%v: %v", tt.header, got)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"1", "1e9", "Fri, 02 Jan 2026 03:05:05 GMT", "-1", "NaN", "0x1p10"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		for _, got := range []time.Duration{parseRetryAfter(in, time.Now()), parseInstantHeader(in, time.Now())} {
			if got != 0 && (got < time.Second || got > time.Hour) {
				t.Errorf("%q: %v", in, got)
			}
		}
	})
}

// Nothing that a provider answered stands in the text of an error.
func TestErrorsDoNotRepeatTheAnswer(t *testing.T) {
	s, p := testProvider(t, providertest.Knobs{})
	for _, change := range []func(*providertest.Knobs){
		func(k *providertest.Knobs) { k.DuplicateKeys = true }, func(k *providertest.Knobs) { k.WrongCase = true },
		func(k *providertest.Knobs) { k.Oversized = true }, func(k *providertest.Knobs) { k.HangUpMid = true },
		func(k *providertest.Knobs) { k.Redirect = 307 }, func(k *providertest.Knobs) { k.ErrorIn200 = true; k.Error = "invalid_grant" },
	} {
		s.Set(func(k *providertest.Knobs) { *k = providertest.Knobs{Rotate: true} })
		s.Set(change)
		_, refresh := s.Grant()
		_, err := p.Renew(t.Context(), &broker.Holding{Client: client, Material: &broker.Material{Refresh: broker.NewSecret(refresh)}})
		e := failed(t, err)
		for _, text := range []string{e.Error(), e.Text, e.Code} {
			if slices.ContainsFunc([]string{"canary", "secret", "127.0.0.1"}, func(x string) bool { return strings.Contains(text, x) }) {
				t.Errorf("repeats: %s", text)
			}
		}
	}
}
