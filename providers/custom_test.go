package providers

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

const customEntry = `
x:
  display_name: X
  auth_mode: CUSTOM
  authorization_url: ${connectionConfig.appPublicLink}/installations/new
  token_url:
    OAUTH2: SERVER/login/oauth/access_token
    APP: SERVER/app/installations/${connectionConfig.installation_id}/access_tokens
  token_auth_method: client_secret_post
  permanent_errors: [bad_refresh_token]
  proxy: {base_url: SERVER}
`

// newLodge makes a double of a provider whose user may see many installations, and whose refresh tokens are not good.
func newLodge(t *testing.T, visible int) *custom {
	t.Helper()
	s := newDoor(t, func(w http.ResponseWriter, r *http.Request, body string) {
		w.Header().Set("Content-Type", "application/json")
		switch path := r.URL.Path; {
		case path == "/login/oauth/access_token" && !strings.Contains(body, "code="):
			_, _ = io.WriteString(w, `{"error":"bad_refresh_token"}`)
		case path == "/login/oauth/access_token":
			_, _ = io.WriteString(w, `{"access_token":"ghu_1","refresh_token":"ghr_1","expires_in":28800}`)
		case path == "/user/installations":
			page, _ := strconv.Atoi(r.URL.Query().Get("page"))
			size, _ := strconv.Atoi(r.URL.Query().Get("per_page"))
			var list []string
			for id := 1 + (page-1)*size; id <= min(visible, page*size); id++ {
				list = append(list, fmt.Sprintf(`{"id":%d,"account":{"id":5},"created_at":%q}`, id, time.Now().UTC().Format(time.RFC3339)))
			}
			_, _ = fmt.Fprintf(w, `{"total_count":%d,"installations":[%s]}`, visible, strings.Join(list, ","))
		default:
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprintf(w, `{"token":"ghs_1","expires_at":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		}
	})
	return provider[*custom](t, load(t, strings.ReplaceAll(customEntry, "SERVER", s.URL)), "x")
}

func customClient() *broker.Client {
	app := appClient()
	return &broker.Client{ID: "Iv1.x", Secret: broker.NewSecret("x-secret"), Settings: map[string]string{
		"app_id": app.ID, "private_key": app.Secret.Reveal(), "app_link": app.Settings["app_link"],
	}}
}

func TestAUsersInstallationsAreReadToTheEnd(t *testing.T) {
	for visible, want := range map[int]string{95: "", 89: "installation_not_visible", 0: "installation_not_visible"} {
		r := installing(time.Now())
		r.Client, r.Code = customClient(), "code"
		r.Callback.Set("installation_id", "90")
		got, err := newLodge(t, visible).Exchange(t.Context(), r)
		if want == "" && err == nil {
			if got.Config["installation_id"] != "90" || got.Config["account_id"] != "5" || got.Material.User().Access.Reveal() != "ghu_1" {
				t.Errorf("%v", got.Config)
			}
			continue
		}
		if e := failed(t, err); e.Code != want || got.Material.Installed() || got.Material.Access.Reveal() != "ghu_1" {
			t.Errorf("%d: %v", visible, err)
		}
	}
}

// A refresh token that the provider has refused is kept for a month, and not asked about again unless somebody insists.
func TestALostUserIsForgottenInTheEnd(t *testing.T) {
	p := newLodge(t, 0)
	m := &broker.Material{Type: "CUSTOM", Access: broker.NewSecret("ghs_0"), Details: secrets("installation_id", "77", "app_id", "4711")}
	m.SetUser(&broker.Material{Access: broker.NewSecret("ghu_1"), Refresh: broker.NewSecret("ghr_1"), ExpiresAt: time.Now()})
	h := &broker.Holding{Client: customClient(), Material: m}
	got, err := p.Renew(t.Context(), h)
	if err != nil || got.Partly == nil || got.Partly.Class != broker.GrantLost || got.Erases || got.Material.Refresh.Reveal() != "ghr_1" {
		t.Fatal(got, err)
	}
	since, code := got.Material.UserLost()
	if code != "bad_refresh_token" || time.Since(since) > time.Minute || got.Material.Access.Reveal() != "ghs_1" {
		t.Errorf("lost at %v: %s", since, code)
	}
	h.Material = got.Material
	if again, err := p.Renew(t.Context(), h); err != nil || again.Partly != nil {
		t.Error("it is asked about again")
	}
	h.Insisted = true
	if again, err := p.Renew(t.Context(), h); err != nil || again.Partly == nil {
		t.Error("it is not asked about again for who insists")
	}
	h.Material.LoseUser("bad_refresh_token", time.Now().Add(-31*24*time.Hour))
	last, err := p.Renew(t.Context(), h)
	if err != nil || !last.Erases || last.Material.User() != nil || last.Material.Access.Reveal() != "ghs_1" {
		t.Errorf("after a month: %+v, %v", last, err)
	}
}

func TestAppsWithASignInAreConfiguredWhole(t *testing.T) {
	p := newLodge(t, 0)
	if f := p.Facts(); !f.Usable || !f.InstalledLater || !f.NeedsClient || f.FreeHost || f.CodeParam != "" || f.SecretSettings[0] != "private_key" {
		t.Errorf("facts %+v", f)
	}
	goal, err := p.AuthorizeURL(&broker.AuthorizeRequest{Client: customClient(), State: "s"})
	if err != nil || goal != "https://house.example/apps/reader/installations/new?state=s" {
		t.Error(goal, err)
	}
	for _, name := range []string{"app_id", "app_link", "private_key"} {
		c := customClient()
		delete(c.Settings, name)
		if _, err := p.AuthorizeURL(&broker.AuthorizeRequest{Client: c}); !errors.Is(err, broker.ErrNotSupported) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	for what, m := range map[string]*broker.Material{
		"nothing":                  {},
		"no number":                {Details: secrets("installation_id", "x")},
		"a user without a token":   {Details: secrets("installation_id", "77"), Refresh: broker.NewSecret("r")},
		"a token that can be none": {Details: secrets("installation_id", "77", "user.access_token", "a b")},
	} {
		if p.CheckMaterial(m) == nil {
			t.Errorf("%s is taken", what)
		}
	}
	for what, change := range map[string][2]string{
		"no address of a user's tokens": {"OAUTH2: SERVER/login/oauth/access_token", "OTHER: SERVER/x"},
		"another form of address":       {"/app/installations/", "/installations/"},
		"one address":                   {"\n    OAUTH2: SERVER/login/oauth/access_token\n    APP: SERVER/app/installations/${connectionConfig.installation_id}/access_tokens", " SERVER/token"},
	} {
		text := strings.ReplaceAll(strings.Replace(customEntry, change[0], change[1], 1), "SERVER", "https://x.example")
		c, err := Load(options(t, text))
		if err != nil {
			t.Fatal(what, err)
		}
		if found, _ := c.Provider("x"); found.Facts().Usable {
			t.Errorf("%s: it is usable", what)
		}
	}
}
