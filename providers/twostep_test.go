package providers

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// door is a provider that lets people in with requests of its own making. A test says what it answers.
type door struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []string
	answer func(w http.ResponseWriter, r *http.Request, body string)
}

func newDoor(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, body string)) *door {
	t.Helper()
	d := &door{answer: answer}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asked = append(d.asked, strings.Join([]string{r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), string(raw)}, "|"))
		if w.Header().Get("Content-Type") == "" {
			w.Header().Set("Content-Type", "application/json")
		}
		d.answer(w, r, string(raw))
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *door) requests() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// always answers the same.
func always(body string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) { _, _ = io.WriteString(w, body) }
}

// twoStepAt loads an entry of that mode. SERVER stands for the provider's address.
func twoStepAt(t *testing.T, url, lines string) *twoStep {
	t.Helper()
	text := "x:\n  display_name: X\n  auth_mode: TWO_STEP\n  " + strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(lines, "SERVER", url)), "\n", "\n  ") + "\n"
	return provider[*twoStep](t, load(t, text), "x")
}

const userAndPassword = `
credentials:
  username: {title: User, description: d}
  password: {title: Password, description: d, secret: true}
  domain: {title: Domain, description: d, optional: true}
`

func TestSignInOfOneStepIsRenewedAndRefused(t *testing.T) {
	logins := 0
	d := newDoor(t, func(w http.ResponseWriter, r *http.Request, body string) {
		switch {
		case strings.Contains(body, `"password":"wrong"`):
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"bad_login","message":"wrong is not the password"}`)
		case r.URL.Path == "/login":
			logins++
			_, _ = fmt.Fprintf(w, `{"data":{"jwt":"token-%d","ttl":"1200"},"region":"eu"}`, logins)
		}
	})
	p := twoStepAt(t, d.URL, `
token_url: SERVER/login
token_params:
  user: ${credentials.username}
  password: ${credentials.password}
  domain: ${credentials.domain}
  nested: {deep: [1, true, "${connectionConfig.site}"]}
token_response: {token: data.jwt, token_expiration: data.ttl, token_expiration_strategy: expireIn}
token_response_metadata: [region]
connection_config: {site: {title: S, description: d}}
proxy: {base_url: SERVER, headers: {x-more: yes}}
`+userAndPassword)
	h := &broker.Holding{Client: &broker.Client{}, Config: map[string]string{"site": "a\"b"}}
	got, err := p.Submit(t.Context(), h, secrets("username", "ann", "password", "p w", "other", "dropped"))
	if err != nil {
		t.Fatal(err)
	}
	m := got.Material
	if m.Type != "TWO_STEP" || m.Access.Reveal() != "token-1" || m.Details["password"].Reveal() != "p w" || len(m.Details) != 2 {
		t.Errorf("material: %v %d details", m.Type, len(m.Details))
	}
	if left := time.Until(m.ExpiresAt); left < 19*time.Minute || left > 20*time.Minute || got.Config["region"] != "eu" {
		t.Errorf("ends in %v, config %v", left, got.Config)
	}
	if want := `POST|/login|application/json|{"user":"ann","password":"p w","nested":{"deep":[1,true,"a\"b"]}}`; d.requests()[0] != want {
		t.Errorf("asked %s", d.requests()[0])
	}
	h.Material = m
	if !p.Renewable(m) || p.Endpoint(h) != strings.TrimPrefix(d.URL, "http://") {
		t.Errorf("endpoint %q", p.Endpoint(h))
	}
	shown, err := p.Present(h)
	if err != nil || len(shown.Headers) != 2 || shown.Headers[0].Values[0] != "Bearer token-1" {
		t.Errorf("presented %v %v", len(shown.Headers), err)
	}
	renewed, err := p.Renew(t.Context(), h)
	if err != nil || renewed.Material.Access.Reveal() != "token-2" || renewed.Config != nil || renewed.Material.Details["username"].Reveal() != "ann" {
		t.Fatalf("renewed %v", err)
	}
	_, err = p.Submit(t.Context(), h, secrets("username", "ann", "password", "wrong"))
	if e := failed(t, err); e.Class != broker.GrantLost || e.Code != "bad_login" || e.Text != "" {
		t.Errorf("refused: %+v", e)
	}
	h.Material = &broker.Material{Details: secrets("username", "ann", "password", "wrong")}
	_, err = p.Renew(t.Context(), h)
	if e := failed(t, err); e.Class != broker.GrantLost {
		t.Errorf("refused later: %+v", e)
	}
	_, err = p.Submit(t.Context(), h, secrets("username", "ann"))
	wantInvalid(t, "no password", err, "password")
	_, err = p.Submit(t.Context(), &broker.Holding{Client: &broker.Client{}}, secrets("username", "ann", "password", "x"))
	wantInvalid(t, "no site", err, "site")
}

func TestSignInRequests(t *testing.T) {
	for _, tt := range []struct{ name, lines, want string }{
		{"form", "token_url: SERVER/t\nbody_format: form\ntoken_params: {u: '${credentials.username}', n: 5}", "POST|/t|application/x-www-form-urlencoded|n=5&u=a%26b"},
		{"query", "token_url: SERVER/t?v=1\nbody_format: query\ntoken_params: {u: '${username}'}", "POST|/t?u=a%26b&v=1||"},
		{"get", "token_url: SERVER/t/${credentials.username}\ntoken_request_method: GET\ntoken_params: {u: '${credentials.username}'}", "GET|/t/a&b||"},
		{"get with a query", "token_url: SERVER/t\nbody_format: query\ntoken_request_method: GET\ntoken_params: {u: '${credentials.username}'}", "GET|/t?u=a%26b||"},
		{"the entry's content type", "token_url: SERVER/t\ntoken_headers: {content-type: application/vnd.x+json}\ntoken_params: {u: 1}", `POST|/t|application/vnd.x+json|{"u":1}`},
		{"a form by its content type", "token_url: SERVER/t\ntoken_headers: {content-type: application/x-www-form-urlencoded}\ntoken_params: {u: 1}", "POST|/t|application/x-www-form-urlencoded|u=1"},
		{"nothing", "token_url: SERVER/t", "POST|/t|application/json|{}"},
		{"bars are text", "token_url: SERVER/t\nbody_format: form\ntoken_params: {u: '${credentials.username}||x'}", "POST|/t|application/x-www-form-urlencoded|u=a%26b%7C%7Cx"},
		{"sums", "token_url: SERVER/t\nbody_format: form\ntoken_params: {u: '${sha256Hex(${credentials.username},${credentials.password})}'}", "POST|/t|application/x-www-form-urlencoded|u=7f80518546e9d57a31a91c9c9ec941ad429a2d9fe3ab29bf230922726b4a8fa8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDoor(t, always(`{"t":"x"}`))
			p := twoStepAt(t, d.URL, tt.lines+"\ntoken_response: {token: t}"+userAndPassword)
			if _, err := p.Submit(t.Context(), &broker.Holding{}, secrets("username", "a&b", "password", "p")); err != nil {
				t.Fatal(err)
			}
			if got := d.requests()[0]; got != tt.want {
				t.Errorf("asked %s", got)
			}
		})
	}
}

func TestWhereASignInFindsItsToken(t *testing.T) {
	at := time.Now()
	jwt := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".s"
	}
	in := func(d time.Duration) time.Time { return at.Add(d) }
	soon := jwt(fmt.Sprintf(`{"exp":%d}`, in(time.Hour).Unix()))
	for _, tt := range []struct {
		name, lines, kind, body, want string
		end                           time.Time
	}{
		{"a path", "{token: a.b}", "", `{"a":{"b":"x"}}`, "x", time.Time{}},
		{"the whole body", "{token: ''}", "text/plain", " x-y\n", "x-y", time.Time{}},
		{"the whole body, quoted", "{token: ''}", "", `"x-y"`, "x-y", time.Time{}},
		{"seconds", "{token: t, token_expiration: e, token_expiration_strategy: expireIn}", "", `{"t":"x","e":60}`, "x", in(time.Minute)},
		{"two hours", "{token: t, token_expiration: e, token_expiration_strategy: expireIn}", "", `{"t":"x","e":"2h"}`, "x", in(2 * time.Hour)},
		{"minutes in words", "{token: t, token_expiration: e, token_expiration_strategy: expireIn}", "", `{"t":"x","e":"90 minutes"}`, "x", in(90 * time.Minute)},
		{"a date", "{token: t, token_expiration: e}", "", `{"t":"x","e":"` + in(time.Hour).UTC().Format(time.RFC3339) + `"}`, "x", in(time.Hour)},
		{"epoch seconds", "{token: t, token_expiration: e, token_expiration_strategy: expireAt}", "", fmt.Sprintf(`{"t":"x","e":%d}`, in(time.Hour).Unix()), "x", in(time.Hour)},
		{"epoch milliseconds", "{token: t, token_expiration: e}", "", fmt.Sprintf(`{"t":"x","e":"%d"}`, in(time.Hour).UnixMilli()), "x", in(time.Hour)},
		{"days, hours, minutes", "{token: t, token_expiration: e}", "", `{"t":"x","e":"1:02:03"}`, "x", in(26*time.Hour + 3*time.Minute)},
		{"a date that is past", "{token: t, token_expiration: e}", "", `{"t":"x","e":"2001-01-01T00:00:00Z"}`, "x", time.Time{}},
		{"an end that no token has", "{token: t, token_expiration: e, token_expiration_strategy: expireIn}", "", `{"t":"x","e":1e12}`, "x", time.Time{}},
		{"the token's own", "{token: t}", "", `{"t":"` + soon + `"}`, soon, in(time.Hour)},
		{"a fixed life", "{token: t}\ntoken_expires_in_ms: 90000", "", `{"t":"` + soon + `"}`, soon, in(90 * time.Second)},
		{"no path leads there", "{token: t}", "", `{"u":"x"}`, "", time.Time{}},
		{"an empty token", "{token: t}", "", `{"t":""}`, "", time.Time{}},
		{"no text", "{token: t}", "", `{"t":1}`, "", time.Time{}},
		{"spaces", "{token: ''}", "text/plain", "log in first", "", time.Time{}},
		{"a page", "{token: ''}", "text/html", "<html></html>", "", time.Time{}},
		{"too long", "{token: t}", "", `{"t":"` + strings.Repeat("x", maxToken+1) + `"}`, "", time.Time{}},
		{"an error in a 200", "{token: t}", "", `{"t":"x","error":"nope"}`, "", time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDoor(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
				if tt.kind != "" {
					w.Header().Set("Content-Type", tt.kind)
				}
				_, _ = io.WriteString(w, tt.body)
			})
			p := twoStepAt(t, d.URL, "token_url: SERVER/t\ntoken_response: "+tt.lines+userAndPassword)
			got, err := p.Submit(t.Context(), &broker.Holding{}, secrets("username", "a", "password", "p"))
			if tt.want == "" {
				if e := failed(t, err); (e.Class == broker.GrantLost) != (tt.kind != "text/html") || got != nil {
					t.Errorf("%+v", e)
				}
				return
			}
			if err != nil || got.Material.Access.Reveal() != tt.want {
				t.Fatal(err)
			}
			if end := got.Material.ExpiresAt; end.IsZero() != tt.end.IsZero() || end.Sub(tt.end).Abs() > 5*time.Second && !tt.end.IsZero() {
				t.Errorf("ends %v, want %v", end, tt.end)
			}
		})
	}
}

func TestSignInOfSeveralSteps(t *testing.T) {
	d := newDoor(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		switch r.URL.Path {
		case "/info":
			_, _ = io.WriteString(w, `{"issuer":"http://`+r.Host+`/is","deep":{"id":7}}`)
		case "/is/well-known":
			_, _ = io.WriteString(w, `{"endpoint":"/token"}`)
		default:
			_, _ = io.WriteString(w, `{"t":"third"}`)
		}
	})
	p := twoStepAt(t, d.URL, `
token_url: SERVER/info
token_request_method: GET
additional_steps:
  - token_url: ${step1.issuer}/well-known
    token_request_method: GET
    token_headers: {x-id: '${step1.deep.id}'}
  - token_url: SERVER/${step2.endpoint}
    body_format: form
    token_params: {id: '${step1.deep.id}', u: '${credentials.username}'}
  - token_url: SERVER/last
    token_params: {id: '${step3.t}'}
token_response: {token: t}
`+userAndPassword)
	got, err := p.Submit(t.Context(), &broker.Holding{}, secrets("username", "a", "password", "p"))
	if err != nil || got.Material.Access.Reveal() != "third" {
		t.Fatal(err)
	}
	want := []string{
		"GET|/info||", "GET|/is/well-known||", "POST|/%2Ftoken|application/x-www-form-urlencoded|id=7&u=a", `POST|/last|application/json|{"id":"third"}`,
	}
	if !slices.Equal(d.requests(), want) {
		t.Errorf("asked %q", d.requests())
	}
}

func TestAnAnswerSendsASignInNowhereElse(t *testing.T) {
	thief := newDoor(t, always(`{"t":"x"}`))
	target := strings.Replace(thief.URL, "127.0.0.1", "127.0.0.2", 1)
	d := newDoor(t, always(`{"next":"`+target+`"}`))
	p := twoStepAt(t, d.URL, `
token_url: SERVER/a
additional_steps: [{token_url: '${step1.next}/b', token_params: {p: '${credentials.password}'}}]
token_response: {token: t}
`+userAndPassword)
	_, err := p.Submit(t.Context(), &broker.Holding{}, secrets("username", "a", "password", "p"))
	if broker.AsError(err).Code != broker.ErrURLNotAllowed.Code || len(thief.requests()) != 0 {
		t.Errorf("%v %v", err, thief.requests())
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"a.example.com", "b.example.com", true},
		{"example.com", "b.example.com", true},
		{"a.co.uk", "b.co.uk", false},
		{"127.0.0.1", "127.0.0.2", false},
		{"127.0.0.1", "127.0.0.1", true},
		{"a.github.io", "b.github.io", false},
		{"example.com", "example.org", false},
	} {
		if sameDomain(tt.a, tt.b) != tt.want {
			t.Errorf("%s and %s", tt.a, tt.b)
		}
	}
}

// What the answers on the way brought is as secret as what was typed.
func TestRefusalDoesNotRepeatWhatAnEarlierAnswerBrought(t *testing.T) {
	d := newDoor(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.URL.Path == "/first" {
			w.Header().Set("Set-Cookie", "session=marked-cookie")
			_, _ = io.WriteString(w, `{"t":"marked-token"}`)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"refused","message":"`+r.URL.Query().Get("echo")+` is not good here"}`)
	})
	for _, echo := range []string{"${step1.t}", "${credentials.session}"} {
		p := twoStepAt(t, d.URL, `
token_url: SERVER/first
token_response_headers: [set-cookie]
additional_steps: [{token_url: 'SERVER/second?echo=`+echo+`'}]
token_response: {token: t}
`+userAndPassword)
		_, err := p.Submit(t.Context(), &broker.Holding{}, secrets("username", "a", "password", "p"))
		if e := failed(t, err); e.Code != "refused" || strings.Contains(e.Text, "marked") {
			t.Errorf("%s: %s: %s", echo, e.Code, e.Text)
		}
	}
}

func TestSignInWithARefreshToken(t *testing.T) {
	refused := false
	d := newDoor(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		switch {
		case r.URL.Path == "/refresh" && refused:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/refresh":
			_, _ = io.WriteString(w, `{"t":"renewed","r":"r2"}`)
		default:
			_, _ = io.WriteString(w, `{"t":"first","r":"r1"}`)
		}
	})
	p := twoStepAt(t, d.URL, `
token_url: SERVER/login
token_params: {u: '${credentials.username}'}
refresh_url: SERVER/refresh
refresh_token_params: {token: '${refresh_token}'}
refresh_token_headers: {authorization: 'Bearer ${refresh_token}'}
token_response: {token: t, refresh_token: r}
`+userAndPassword)
	got, err := p.Submit(t.Context(), &broker.Holding{}, secrets("username", "a", "password", "p"))
	if err != nil || got.Material.Refresh.Reveal() != "r1" {
		t.Fatal(err)
	}
	h := &broker.Holding{Material: got.Material}
	if got, err = p.Renew(t.Context(), h); err != nil || got.Material.Access.Reveal() != "renewed" || got.Material.Refresh.Reveal() != "r2" {
		t.Fatal(err)
	}
	refused = true
	if got, err = p.Renew(t.Context(), h); err != nil || got.Material.Access.Reveal() != "first" {
		t.Fatal(err)
	}
	want := []string{
		`POST|/login|application/json|{"u":"a"}`, `POST|/refresh|application/json|{"token":"r1"}`, `POST|/refresh|application/json|{"token":"r1"}`,
		`POST|/login|application/json|{"u":"a"}`,
	}
	if !slices.Equal(d.requests(), want) {
		t.Errorf("asked %q", d.requests())
	}
}

func TestSignInThatBringsCookies(t *testing.T) {
	d := newDoor(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Add("Set-Cookie", "session=s-1; Path=/; HttpOnly")
		w.Header().Add("Set-Cookie", "node=n2")
		w.Header().Add("Set-Cookie", "password=stolen")
		w.Header().Add("Set-Cookie", "connection_config.site=elsewhere")
		w.Header().Set("X-Csrf", "c")
		_, _ = io.WriteString(w, `{"SessionId":"s-1"}`)
	})
	p := twoStepAt(t, d.URL, `
token_url: SERVER/login
token_response: {token: SessionId}
token_response_headers: [set-cookie, x-csrf]
token_expires_in_ms: 60000
proxy: {base_url: SERVER, headers: {cookie: '${credentials._cookies}', x-csrf: '${credentials.x-csrf}'}}
`+userAndPassword)
	got, err := p.Submit(t.Context(), &broker.Holding{}, secrets("username", "a", "password", "p"))
	if err != nil {
		t.Fatal(err)
	}
	d2 := got.Material.Details
	if d2["session"].Reveal() != "s-1" || d2["password"].Reveal() != "p" || !d2["connection_config.site"].IsZero() {
		t.Errorf("%d details", len(d2))
	}
	shown, err := p.Present(&broker.Holding{Material: got.Material})
	if err != nil || len(shown.Headers) != 2 || shown.Headers[0].Key != "Cookie" || !strings.HasPrefix(shown.Headers[0].Values[0], "session=s-1; node=n2") || shown.Headers[1].Values[0] != "c" {
		t.Errorf("presented %d %v", len(shown.Headers), err)
	}
}

func TestSignInThatAnIntegrationHasAPartIn(t *testing.T) {
	status := http.StatusOK
	d := newDoor(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"t":"x"}`)
	})
	p := twoStepAt(t, d.URL, `
token_url: SERVER/login
token_params: {key: '${credentials.appKey}', u: '${credentials.username}'}
token_response: {token: t}
integration_config: {appKey: {title: App key, description: d, secret: true}}
`+userAndPassword)
	asked := func(name string) bool {
		return slices.ContainsFunc(p.Facts().Fields, func(f broker.Field) bool { return f.Name == name && f.Section == broker.CredentialField && f.Secret })
	}
	if !asked("appKey") {
		t.Error("what the integration leaves open is not asked for")
	}
	if _, err := p.CheckSettings(nil); err != nil {
		t.Error(err)
	}
	typed := secrets("username", "a", "password", "p")
	_, err := p.Submit(t.Context(), &broker.Holding{Client: &broker.Client{}}, typed)
	wantInvalid(t, "nobody gave it", err, "appKey")
	ours := &broker.Holding{Client: &broker.Client{Settings: map[string]string{"appKey": "ours"}}}
	got, err := p.Submit(t.Context(), ours, typed)
	if err != nil || !got.Material.Details["appKey"].IsZero() {
		t.Fatal(err)
	}
	if want := `POST|/login|application/json|{"key":"ours","u":"a"}`; d.requests()[0] != want {
		t.Errorf("asked %s", d.requests()[0])
	}
	status = http.StatusUnauthorized
	ours.Material = got.Material
	_, err = p.Renew(t.Context(), ours)
	if e := failed(t, err); e.Class != broker.ClientRefused {
		t.Errorf("whose fault it is, is not known: %+v", e)
	}
}

// What an integration settles later is not for the connections that were made without it: where their end users' hosts were
// free, it would go to one that somebody typed.
func TestWhatAnIntegrationSettlesLaterDoesNotReachOlderConnections(t *testing.T) {
	status := http.StatusOK
	d := newDoor(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"t":"x"}`)
	})
	p := twoStepAt(t, d.URL, `
token_url: http://${connectionConfig.host}/login
token_params: {key: '${credentials.appKey}', u: '${credentials.username}'}
token_response: {token: t}
connection_config: {host: {title: Host, description: d}}
integration_config: {appKey: {title: App key, description: d, secret: true}}
`+userAndPassword)
	config := map[string]string{"host": strings.TrimPrefix(d.URL, "http://")}
	typed := secrets("username", "a", "password", "p", "appKey", "theirs")
	got, err := p.Submit(t.Context(), &broker.Holding{Client: &broker.Client{}, Config: config}, typed)
	if err != nil {
		t.Fatal(err)
	}
	later := &broker.Holding{Client: &broker.Client{Settings: map[string]string{"appKey": "ours"}}, Config: config, Material: got.Material}
	if _, err := p.Renew(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	if all := d.requests(); strings.Contains(strings.Join(all, ""), "ours") || len(all) != 2 {
		t.Errorf("asked %q", all)
	}
	status = http.StatusUnauthorized
	_, err = p.Renew(t.Context(), later)
	if e := failed(t, err); e.Class != broker.GrantLost {
		t.Errorf("the integration is taken to be at fault: %+v", e)
	}
}

func TestSignInsThatCannotWorkAreRefusedAtLoad(t *testing.T) {
	for reason, lines := range map[string]string{
		"token_url":        "token_response: {token: t}",
		"nested":           "token_url: https://x.example\nbody_format: form\ntoken_params: {a: {b: c}}",
		"comes after":      "token_url: https://x.example\nadditional_steps: [{token_url: 'https://x.example/${step2.a}'}]",
		"neither GET":      "token_url: https://x.example\ntoken_request_method: PUT",
		"only jwt":         "token_url: https://x.example\nassertion: {type: saml}",
		"is not RSA":       "token_url: https://x.example\ntoken: {signing_key: '${credentials.k}', expires_in_ms: 1000}",
		"not a life":       "token_url: https://x.example\nsignature: {protocol: RSA}\ntoken: {signing_key: '${credentials.k}'}",
		"kind of key":      "token_url: https://x.example\nsignature: {protocol: RSA}\ntoken: {signing_key: '${credentials.k}', expires_in_ms: 1000, header: {alg: HS256}}",
		"none":             "token_url: https://x.example\nassertion: {type: jwt, key: '${credentials.k}', header: {alg: none}}",
		"has secrets":      "token_url: https://${credentials.host}/x\nintegration_config: {a: {title: A, description: d}}",
		"function":         "token_url: https://x.example\ntoken_params: {a: '${hmacSha1Hex(x)}'}",
		"is not supported": "token_url: https://x.example\ntoken_params: {a: '${nosuch(x)}'}",
	} {
		p, _ := load(t, "x:\n  display_name: X\n  auth_mode: TWO_STEP\n  "+strings.ReplaceAll(lines, "\n", "\n  ")+"\n").Provider("x")
		if f := p.Facts(); f.Usable || reason != "none" && !strings.Contains(f.UnusableReason, reason) {
			t.Errorf("%s: %v %q", reason, f.Usable, f.UnusableReason)
		}
	}
}

func TestSignInEndsTheSession(t *testing.T) {
	d := newDoor(t, always(`{"t":"x"}`))
	p := twoStepAt(t, d.URL, `
token_url: SERVER/login
token_response: {token: t}
revocation_url: SERVER/logout
revocation: {style: recipe, method: DELETE, auth: bearer, body_format: none, tokens: [access]}
`+userAndPassword)
	m := &broker.Material{Access: broker.NewSecret("x"), ExpiresAt: time.Now().Add(-time.Hour), Details: secrets("username", "a", "password", "p")}
	if supported, err := p.Revoke(t.Context(), &broker.Holding{Material: m}); !supported || err != nil {
		t.Error(supported, err)
	}
	if got := d.requests(); len(got) != 1 || !strings.HasPrefix(got[0], "DELETE|/logout|") {
		t.Errorf("asked %q", got)
	}
}
