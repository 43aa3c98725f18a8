package apitest_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web"
	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

const catalogue = `
code:
  display_name: Code Host
  categories: [dev-tools]
  auth_mode: OAUTH2
  docs: https://docs.code.test
  authorization_url: https://code.test/authorize
  token_url: https://code.test/token
  token_auth_method: client_secret_post
  pkce: S256
  proxy:
    base_url: https://api.code.test
`

func newSite(t *testing.T) *apitest.Site {
	t.Helper()
	code := broker.IntegrationInput{Key: "code-prod", Provider: "code", ClientID: "client-1", ClientSecret: broker.NewSecret("s")}
	return apitest.New(t, apitest.Options{
		Catalogue: []byte(catalogue), Integrations: []broker.IntegrationInput{code}, Connect: true,
		Declare: func(dev, _ *broker.DeclaredEnvironment) { dev.Environment.ReturnURLs = []string{"https://app.test/"} },
		Mount:   func(d *web.Deps) { d.Pages = append(d.Pages, surface(d.Broker)) },
	})
}

// surface is a small API: /begin starts a sign-in, and /mine is there for dev alone. /away ends in the app. /leak is what
// nobody should write.
func surface(b *broker.Broker) kit.Surface {
	key := kit.Auth{Name: "key in x-api-key environment:connect_sessions:write", Check: func(r *http.Request) (broker.Actor, error) {
		who, err := b.Authenticate(r.Header.Get("X-Api-Key"))
		if err != nil {
			return who, err
		}
		return who, who.Allow(broker.ScopeSessionsWrite)
	}}
	begin := func(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
		_, token, err := b.CreateSession(r.Context(), who, broker.SessionInput{ReturnURL: r.URL.Query().Get("to")})
		if err != nil {
			return err
		}
		q := url.Values{kit.ParamSession: {token.Reveal()}}
		return kit.WriteJSON(w, http.StatusOK, map[string]string{
			"id": "conn_" + uuid.NewString(), "authUrl": b.PublicURL() + "/oauth/connect/code-prod?" + q.Encode(), "appUrl": "https://app.test/?a=1",
		})
	}
	mine := func(w http.ResponseWriter, _ *http.Request, who broker.Actor) error {
		if dev, err := b.EnvironmentNamed("dev"); err != nil || dev.ID != who.Environment {
			return broker.ErrNotFound
		}
		return kit.WriteJSON(w, http.StatusOK, "ours")
	}
	leak := func(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
		return kit.WriteJSON(w, http.StatusOK, "ours")
	}
	away := func(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
		to := "/away?note=" + strings.ReplaceAll(uuid.NewString(), "-", "")
		if r.URL.RawQuery != "" {
			to = "https://app.test/done?id=conn_" + uuid.NewString()
		}
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	return kit.Surface{Name: "small", JSON: true, Routes: []kit.Route{
		{Method: http.MethodPost, Path: "/begin", Auth: key, Handle: begin},
		{Method: http.MethodGet, Path: "/mine/{id}", Auth: key, Handle: mine},
		{Method: http.MethodGet, Path: "/who", Auth: kit.Doors{Keeper: b}.Session(), Handle: leak},
		{Method: http.MethodGet, Path: "/leak/{id}", Auth: key, Handle: leak},
		{Method: http.MethodGet, Path: "/open", Auth: kit.Auth{Name: "key", Check: kit.Public.Check}, Handle: leak},
		{Method: http.MethodGet, Path: "/forgotten", Auth: key, Handle: leak},
		{Method: http.MethodGet, Path: "/away", Auth: kit.Public, Handle: away},
	}}
}

func TestGolden(t *testing.T) { apitest.Golden(t, "testdata/*.txtar", newSite) }

func newMatrix(t *testing.T) *apitest.Matrix {
	t.Helper()
	s := newSite(t)
	return &apitest.Matrix{
		Site: s, Rows: surface(s.Broker).Routes[:3], Ours: []string{"ours"},
		Keys: []apitest.Way{apitest.Header("X-Api-Key")},
		Samples: map[string]apitest.Sample{
			"POST /begin":    {Target: "/begin", Status: http.StatusOK, Own: true},
			"GET /mine/{id}": {Target: "/mine/{id}", Status: http.StatusOK},
			"GET /who":       {Target: "/who", Status: http.StatusOK},
		},
		Restore: func(*testing.T) map[string]string { return map[string]string{"{id}": uuid.NewString()} },
	}
}

func TestMatrixPassesWhatKeepsItsDoors(t *testing.T) { newMatrix(t).Run(t) }

// inner is set where this test binary runs a test that has to fail.
const inner = "APITEST_INNER"

// TestMatrixFailsWhatLeaks runs itself in a process of its own, whose failure it looks at.
func TestMatrixFailsWhatLeaks(t *testing.T) {
	if os.Getenv(inner) != "" {
		m := newMatrix(t)
		m.Rows = surface(m.Site.Broker).Routes
		m.Samples["GET /leak/{id}"] = apitest.Sample{Target: "/leak/1", Status: http.StatusOK}
		m.Samples["GET /open"] = apitest.Sample{Target: "/open", Status: http.StatusOK}
		m.Samples["GET /gone"] = apitest.Sample{Target: "/gone", Status: http.StatusOK}
		m.Run(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMatrixFailsWhatLeaks$")
	cmd.Env = append(os.Environ(), inner+"=1")
	raw, err := cmd.CombinedOutput()
	out := string(raw)
	if err == nil {
		t.Error("it passes")
	}
	for _, want := range []string{
		"another environment's key: got 200", "another environment's key sees ours", "no credential: got 200", "a revoked key: got 200",
		"a session instead of a key: got 200", "no sample of GET /forgotten", "a sample of GET /gone, and no such row",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	for _, passes := range []string{"FAIL: TestMatrixFailsWhatLeaks/POST__begin", "FAIL: TestMatrixFailsWhatLeaks/GET__mine", "FAIL: TestMatrixFailsWhatLeaks/GET__who"} {
		if strings.Contains(out, passes) {
			t.Errorf("what keeps its doors fails, too:\n%s", out)
		}
	}
}
