package apitest

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// Sample is a request of a row that succeeds with a good credential. What [Matrix.Restore] names, and {token} for the
// session's, are filled in.
type Sample struct {
	Target, Body string
	Status       int // with a good credential
	// Global is set where the answer is the same for every environment.
	Global bool
	// Own is set where another environment's key gets that environment's own, which must hold nothing of ours.
	Own bool
}

// Way puts a credential into a request.
type Way func(r *http.Request, credential string)

// Bearer is the way of most credentials (RFC 6750 section 2.1).
func Bearer(r *http.Request, credential string) { r.Header.Set("Authorization", "Bearer "+credential) }

// Header is the way of a credential that is the whole of a header.
func Header(name string) Way {
	return func(r *http.Request, credential string) { r.Header.Set(name, credential) }
}

// Query is the way of a credential that is a parameter.
func Query(name string) Way {
	return func(r *http.Request, credential string) {
		q := r.URL.Query()
		q.Set(name, credential)
		r.URL.RawQuery = q.Encode()
	}
}

// Matrix sends every row of a surface with every credential that must not do, and none may succeed. Then it sends it with
// the right one, so that it is the credential alone that made the others fail.
type Matrix struct {
	Site    *Site
	Rows    []kit.Route
	Samples map[string]Sample // by method and path; there must be one for each row
	// Apart reports which rows have a test of their own. nil: none has.
	Apart func(row kit.Route) bool
	// Keys are the ways in which API keys are put, and Sessions those of session tokens. nil: [Bearer] alone, and where
	// the row takes sessions in the query, there.
	Keys, Sessions []Way
	// Restore brings back what an earlier request deleted, and may name values that samples hold, with their braces.
	Restore func(t *testing.T) map[string]string
	// Ours are texts of dev that no success may show to another environment, Secrets those that no answer may.
	Ours, Secrets []string
	// Foreign are the statuses that another environment's key may get for what is dev's. nil: 404.
	Foreign []int

	// Token is the connect session's that is good now.
	Token  string
	values []string // for strings.NewReplacer
}

// Run is the test.
func (m *Matrix) Run(t *testing.T) {
	t.Helper()
	revoked, left := m.revokedKey(t), make(map[string]bool)
	for name := range m.Samples {
		left[name] = true
	}
	for _, row := range m.Rows {
		name := nameOf(row)
		delete(left, name)
		if m.Apart != nil && m.Apart(row) {
			continue
		}
		c, ok := m.Samples[name]
		if !ok {
			t.Errorf("there is no sample of %s", name)
			continue
		}
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) { m.row(t, row, c, revoked) })
	}
	for name := range left {
		t.Errorf("there is a sample of %s, and no such row", name)
	}
}

func nameOf(row kit.Route) string { return row.Method + " " + row.Path }

// door is who a row lets in.
type door struct {
	keys, sessions, account bool
	scopes                  []broker.Scope // any of them opens it
}

func doorOf(row kit.Route) door {
	kind, rest, keys := strings.Cut(row.Auth.Name, "key")
	d := door{keys: keys, sessions: strings.HasPrefix(kind, "session")}
	for _, word := range strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '|' }) {
		if slices.Contains(broker.KnownScopes(), broker.Scope(word)) {
			d.scopes = append(d.scopes, broker.Scope(word))
		}
	}
	d.account = len(d.scopes) > 0 && ofAccount(d.scopes[0])
	return d
}

func ofAccount(s broker.Scope) bool { return strings.HasPrefix(string(s), "account:") }

// row tries one row.
func (m *Matrix) row(t *testing.T, row kit.Route, c Sample, revoked string) {
	t.Helper()
	m.Fresh(t)
	d := doorOf(row)
	switch {
	case row.Auth.Name == kit.Public.Name:
		return
	case !d.keys && !d.sessions:
		t.Fatalf("who is let in by %q?", row.Auth.Name)
	}
	m.refused(t, "no credential", row, c, nil, "")
	for _, put := range append(m.keyWays(), m.sessionWays(row)...) {
		m.refused(t, "an unknown key", row, c, put, "00000000-2222-4333-8444-555555555555")
		m.refused(t, "a revoked key", row, c, put, revoked)
		m.refused(t, "an unknown session", row, c, put, kit.SessionPrefix+strings.Repeat("0", 64))
		if !d.sessions {
			m.refused(t, "a session instead of a key", row, c, put, m.Token)
		}
		if !d.keys {
			m.refused(t, "a key instead of a session", row, c, put, Key)
		}
	}
	if d.keys {
		m.byKey(t, row, c, d)
	}
	if d.sessions {
		for _, put := range m.sessionWays(row) {
			m.accepted(t, "a session", row, c, put, m.Token)
		}
	}
}

// byKey tries a row that keys open with those that must not, and then with one that must.
func (m *Matrix) byKey(t *testing.T, row kit.Route, c Sample, d door) {
	t.Helper()
	wrong, good := m.Site.AccountKey(t), Key
	if d.account {
		wrong, good = good, wrong
	}
	for _, put := range m.keyWays() {
		m.refused(t, "a key of the environment instead of the account's, or the other way round", row, c, put, wrong)
		if !d.account {
			m.foreign(t, row, c, put)
		}
		if len(d.scopes) > 0 {
			if got := m.Send(t, row.Method, c, put, m.underScoped(t, d)); got.Code != http.StatusForbidden {
				t.Errorf("a key without %s: got %d %s", d.scopes, got.Code, got.Body)
			}
		}
		m.accepted(t, "the right key", row, c, put, good)
	}
}

// Fresh brings everything back and makes a new session.
func (m *Matrix) Fresh(t *testing.T) {
	t.Helper()
	m.values = nil
	if m.Restore != nil {
		for name, value := range m.Restore(t) {
			m.values = append(m.values, name, value)
		}
	}
	m.Token = m.Site.Session(t, broker.SessionInput{})
}

func (m *Matrix) keyWays() []Way { return orBearer(m.Keys) }

func (m *Matrix) sessionWays(row kit.Route) []Way {
	if strings.Contains(row.Auth.Name, "in query") && m.Sessions == nil {
		return []Way{Query(kit.ParamSession)}
	}
	return orBearer(m.Sessions)
}

func orBearer(ways []Way) []Way {
	if len(ways) == 0 {
		return []Way{Bearer}
	}
	return slices.Clone(ways)
}

// Send sends a sample with a credential, or with none if put is nil.
func (m *Matrix) Send(t testing.TB, method string, c Sample, put Way, credential string) *httptest.ResponseRecorder {
	t.Helper()
	fill := strings.NewReplacer(append([]string{"{token}", m.Token}, m.values...)...)
	r := newRequest(t, method, fill.Replace(c.Target), fill.Replace(c.Body))
	if put != nil {
		put(r, credential)
	}
	return m.Site.serve(r)
}

func (m *Matrix) refused(t *testing.T, what string, row kit.Route, c Sample, put Way, credential string) {
	t.Helper()
	if got := m.Send(t, row.Method, c, put, credential); got.Code < 400 || got.Code >= 500 {
		t.Errorf("%s: got %d %s", what, got.Code, got.Body)
	}
}

// accepted sends what must do.
func (m *Matrix) accepted(t *testing.T, what string, row kit.Route, c Sample, put Way, credential string) {
	t.Helper()
	if got := m.Send(t, row.Method, c, put, credential); got.Code != c.Status {
		t.Errorf("%s: got %d %s, want %d", what, got.Code, got.Body, c.Status)
	}
	m.Fresh(t)
}

// foreign sends another environment's key.
func (m *Matrix) foreign(t *testing.T, row kit.Route, c Sample, put Way) {
	t.Helper()
	got := m.Send(t, row.Method, c, put, OtherKey)
	allowed := m.Foreign
	if allowed == nil {
		allowed = []int{http.StatusNotFound}
	}
	if !c.Own && !c.Global && !slices.Contains(allowed, got.Code) {
		t.Errorf("another environment's key: got %d %s", got.Code, got.Body)
	}
	body := got.Body.String()
	for _, text := range append(slices.Clone(m.Ours), m.Secrets...) {
		// A refusal may name what was asked for.
		if (got.Code < 400 || slices.Contains(m.Secrets, text)) && strings.Contains(body, text) {
			t.Errorf("another environment's key sees %s: %s", text, body)
		}
	}
}

// underScoped gives a key that holds every scope but those that open the door.
func (m *Matrix) underScoped(t *testing.T, d door) string {
	t.Helper()
	var names []string
	for _, s := range broker.KnownScopes() {
		if ofAccount(s) == d.account && !strings.HasSuffix(string(s), ":*") && !slices.Contains(d.scopes, s) {
			names = append(names, string(s))
		}
	}
	if d.account {
		return m.Site.AccountKey(t, names...)
	}
	return m.Site.Key(t, names...)
}

func (m *Matrix) revokedKey(t *testing.T) string {
	t.Helper()
	system := broker.System(m.Site.Env.ID)
	key, k, err := m.Site.Broker.CreateAPIKey(t.Context(), system, m.Site.Env, broker.KeyInput{Name: "old", Scopes: broker.Scopes{broker.ScopeAll}})
	must(t, err)
	must(t, m.Site.Broker.RevokeAPIKey(t.Context(), system, k.ID))
	return key.Reveal()
}
