package providers

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
)

func TestOddAnswersThatHoldAToken(t *testing.T) {
	for _, tt := range []struct {
		name    string
		knobs   providertest.Knobs
		lines   []string
		expires bool
	}{
		{"plain", providertest.Knobs{}, nil, true},
		{"expires_in as text", providertest.Knobs{ExpiresInString: true}, nil, true},
		{"expires_in with a fraction", providertest.Knobs{ExpiresInFloat: true}, nil, true},
		{"no expires_in", providertest.Knobs{NoExpiresIn: true}, nil, false},
		{"expires_in of zero", providertest.Knobs{ExpiresIn: "0"}, nil, false},
		{"expires_in below zero", providertest.Knobs{ExpiresIn: "-5"}, nil, false},
		{"expires_in of a century", providertest.Knobs{ExpiresIn: "3155760000"}, nil, false},
		{"expires_in that is no number", providertest.Knobs{ExpiresIn: `"soon"`}, nil, false},
		{"expires_in that is an object", providertest.Knobs{ExpiresIn: `{}`}, nil, false},
		{"expires_in that is null", providertest.Knobs{ExpiresIn: "null"}, nil, false},
		{"form", providertest.Knobs{FormAnswers: true}, nil, false},
		{"JSON as text", providertest.Knobs{ContentType: "text/plain"}, nil, true},
		{"no content type", providertest.Knobs{ContentType: "application/octet-stream"}, nil, true},
		{"nested", providertest.Knobs{Nested: "authed_user"}, []string{"alternate_access_token_response_path: authed_user"}, true},
		{"nested, the token itself", providertest.Knobs{Nested: "data"}, []string{"alternate_access_token_response_path: data.access_token"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, p := testProvider(t, tt.knobs, tt.lines...)
			got, err := connect(t, s, p)
			if err != nil {
				t.Fatal(err)
			}
			m := got.Material
			if !s.Good(m.Access.Reveal()) || m.ExpiresAt.IsZero() == tt.expires {
				t.Errorf("access %v, expires %v", s.Good(m.Access.Reveal()), m.ExpiresAt)
			}
			if !strings.HasPrefix(m.Answer.Reveal(), "{") {
				t.Error("the answer is not kept as JSON")
			}
		})
	}
}

func TestFormAnswersBecomeJSON(t *testing.T) {
	a := &reply{status: 200, header: http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}}, body: []byte("access_token=a%2Bb&scope=repo%2Cgist&expires_in=60")}
	got, err := (&answerRules{tokenPaths: []string{"access_token"}}).read(a, nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.raw) != `{"access_token":"a+b","expires_in":"60","scope":"repo,gist"}` || got.access != "a+b" || len(got.scopes) != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestLifetimes(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		json    string
		rules   answerRules
		expires time.Duration
		refresh time.Duration
	}{
		{json: `{"expires_in":60}`, expires: time.Minute},
		{json: `{"expires_in":"60"}`, expires: time.Minute},
		{json: `{"expires_in":60.5}`, expires: 60500 * time.Millisecond},
		{json: `{"expires_in":60000}`, rules: answerRules{milliseconds: true}, expires: time.Minute},
		{json: `{"expires_in":315360000}`, expires: maxLifetime},
		{json: `{"expires_in":315360001}`},
		{json: `{"expires_in":1e400}`},
		{json: `{"expires_in":true}`},
		{json: `{"expires_in":null,"expires_at":"2026-01-02T03:05:05Z"}`, expires: time.Minute},
		{json: `{"expires_at":"2026-01-02T04:05:05+01:00"}`, expires: time.Minute},
		{json: `{"expires_at":1767323105}`, expires: time.Minute},
		{json: `{"expires_at":1767323105000}`, expires: time.Minute},
		{json: `{"expires_at":"1767323105"}`, expires: time.Minute},
		{json: `{"expires_at":1}`},
		{json: `{"expires_at":"2020-01-01T00:00:00Z"}`},
		{json: `{"expires_at":"2099-01-01T00:00:00Z"}`},
		{json: `{"expires_at":"tomorrow"}`},
		{json: `{"refresh_token_expires_in":60}`, refresh: time.Minute},
		{json: `{"x_refresh_token_expires_in":8640000}`, refresh: 100 * 24 * time.Hour},
		{json: `{"refresh_expires_in":0}`},
	} {
		expires := tt.rules.expiry([]byte(tt.json), at)
		refresh := refreshExpiry([]byte(tt.json), at)
		if tt.expires == 0 != expires.IsZero() || tt.expires > 0 && !expires.Equal(at.Add(tt.expires)) {
			t.Errorf("%s: expires %v", tt.json, expires)
		}
		if tt.refresh == 0 != refresh.IsZero() || tt.refresh > 0 && !refresh.Equal(at.Add(tt.refresh)) {
			t.Errorf("%s: refresh token until %v", tt.json, refresh)
		}
	}
}

func TestScopes(t *testing.T) {
	for in, want := range map[string]string{
		`"a b"`: "a|b", `"a,b"`: "a|b", `"a, b"`: "a|b", `"a+b"`: "a|b", `["a","b"]`: "a|b", `null`: "", `""`: "", `[1]`: "", `7`: "",
	} {
		if got := strings.Join(scopesIn([]byte(in), "+"), "|"); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestPaths(t *testing.T) {
	raw := []byte(`{"a":{"b":[{"id":12345678901234567890},{"id":"x"}]},"a.c":"dotted","n":null,"t":true,"é":"\u00e9"}`)
	for path, want := range map[string]string{
		"a.b.0.id": "12345678901234567890", "a.b[1].id": "x", "a.c": "dotted", "n": "", "t": "true", "a": "", "a.b.2.id": "", "a.b.x.id": "",
		"a.b.-1": "", "a.b.9999": "", "": "", "t.x": "", "é": "é",
	} {
		if got := scalarText(get(raw, path)); got != want {
			t.Errorf("%q: %q", path, got)
		}
	}
	if got := scalarText(get([]byte(`[{"id":7}]`), "0.id")); got != "7" {
		t.Errorf("a list: %q", got)
	}
}

func FuzzTokenAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"access_token":"a","expires_in":60,"scope":"x y"}`, `{"ok":false,"error":"x"}`, `access_token=a&scope=b`, `{"authed_user":{"access_token":"a"}}`,
		`{"access_token":"a","access_token":"b"}`, `{"error":{"code":"x","message":"y"}}`, `{"expires_at":"2030-01-01T00:00:00Z","access_token":"a"}`,
	} {
		f.Add(200, "application/json", []byte(seed))
	}
	f.Add(400, "application/x-www-form-urlencoded", []byte("error=invalid_grant"))
	r := &answerRules{
		tokenPaths: []string{"access_token", "data.token"}, alternate: "authed_user", permanent: []string{"gone"},
		predicates: []errorPredicate{{path: "ok", equals: []byte("false"), codePath: "error"}, {path: "status", present: true, codePath: "status"}},
	}
	at := time.Now()
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		status = 200 + (status%400+400)%400
		got, err := r.read(&reply{status: status, header: http.Header{"Content-Type": {kind}}, body: body, at: at}, []string{"s3cret"})
		if err == nil {
			if status >= 300 || got.access == "" || len(got.access) > maxToken || !visibleASCII(got.access) || !got.raw.IsValid() {
				t.Errorf("%q: took %q", body, got.access)
			}
			if !got.expires.IsZero() && (!got.expires.After(at) || got.expires.Sub(at) > maxLifetime) {
				t.Errorf("%q: expires %v", body, got.expires)
			}
			return
		}
		e := failed(t, err)
		if e.Code == "" || len(e.Code) > maxErrorCode || !errorCode().MatchString(e.Code) || len([]rune(e.Text)) > maxText || strings.Contains(e.Text, "s3cret") {
			t.Errorf("%q: error %+v", body, e)
		}
		if e.Class == broker.GrantLost && status >= 500 {
			t.Errorf("%q: a %d ends the grant", body, status)
		}
	})
}

func FuzzExpiresIn(f *testing.F) {
	for _, seed := range []string{"60", `"60"`, "60.5", "-1", "1e400", `"NaN"`, "null", `"0x1p62"`, `" 5 "`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		for _, unit := range []time.Duration{time.Second, time.Millisecond} {
			if d := parseLifetime([]byte(in), unit); d < 0 || d > maxLifetime {
				t.Errorf("%q: %v", in, d)
			}
		}
	})
}
