package nango_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

const installed = "code=code-ann-1&installation_id=77&setup_action=install"

// all checks that the provider was asked as it has to be, and that no refresh token was spent twice.
func (e *estate) all(t *testing.T) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reused > 0 || len(e.wrong) > 0 {
		t.Errorf("%d refresh tokens were spent twice; %q", e.reused, e.wrong)
	}
}

func TestAnInstalledAppAndItsUserAreRenewedOnTheirOwn(t *testing.T) {
	e, s := newEstate(t)
	e.install("77", s.Now(), "ann")
	c := e.connects(t, s, broker.SessionInput{}, installed)
	first := e.reads(t, s, c, "&refresh_token=true")
	switch user := first.Config.User; {
	case first.Credentials.Type != "APP" || !strings.HasPrefix(first.Credentials.Access, "ghs_77") || !first.Credentials.Expires.Equal(s.Now().Add(time.Hour)):
		t.Fatalf("the installation's: %+v", first.Credentials)
	case user == nil || user.Type != "OAUTH2" || user.Access != "ghu_ann_0001" || user.Refresh != "ghr_ann_0001" || !user.Expires.Equal(s.Now().Add(8*time.Hour)):
		t.Fatalf("the user's: %+v", user)
	case first.Config.Installation != "77" || first.Config.App != "4711" || first.Config.Handle != "ann" || first.Config.Pending:
		t.Fatalf("config %+v", first.Config)
	}
	if e.reads(t, s, c, "").Config.User.Refresh != "" {
		t.Error("a refresh token is shown to who did not ask for it")
	}
	s.call(t, http.MethodGet, "/repos", "estate-prod", c.Key, "").is(t, http.StatusOK, "").has(t, "Bearer "+first.Credentials.Access)

	s.Advance(50 * time.Minute)
	later := e.reads(t, s, c, "&refresh_token=true")
	if later.Credentials.Access == first.Credentials.Access || later.Config.User.Refresh != first.Config.User.Refresh {
		t.Error("after an hour the installation's token is not new, or the user's is")
	}
	s.Advance(6 * time.Hour)
	var waiting sync.WaitGroup
	for range 8 {
		waiting.Go(func() { s.Send(t, http.MethodGet, "/connections/"+c.Key+"?provider_config_key=estate-prod", "") })
	}
	waiting.Wait()
	last := e.reads(t, s, c, "&refresh_token=true")
	if user := last.Config.User; user.Access == first.Config.User.Access || user.Refresh == first.Config.User.Refresh || e.asked() != 1 {
		t.Errorf("after %d renewals: %+v", e.asked(), user)
	}
	if forced := e.reads(t, s, c, "&refresh_token=true&force_refresh=true"); forced.Config.User.Refresh == last.Config.User.Refresh || forced.Credentials.Access == last.Credentials.Access {
		t.Error("who insists does not get both anew")
	}
	e.all(t)
}

func TestAUserWhoIsLostIsToldAndTheAppWorksOn(t *testing.T) {
	for what, lose := range map[string]func(e *estate){
		"the grant was ended":  func(e *estate) { e.grants["ghr_ann_0001"].ended = true },
		"its answer was lost":  func(e *estate) { e.muddled = true },
		"the user took it off": func(e *estate) { delete(e.grants, "ghr_ann_0001") },
	} {
		t.Run(what, func(t *testing.T) {
			e, s := newEstate(t)
			e.install("77", s.Now(), "ann")
			c := e.connects(t, s, broker.SessionInput{WebhookURL: "https://app.example.com/told"}, installed)
			e.set(func() { lose(e) })
			s.Run(t)
			if hook := <-s.Told; !strings.Contains(hook.Body, `"operation":"creation"`) {
				t.Fatal(hook.Body)
			}
			s.Advance(6*time.Hour + 30*time.Minute)
			read := e.reads(t, s, c, "")
			if read.Config.User != nil || read.Config.Lost != "bad_refresh_token" || read.Credentials.Type != "APP" {
				t.Fatalf("%+v", read)
			}
			hook := <-s.Told
			if !strings.Contains(hook.Body, `"operation":"refresh"`) || !strings.Contains(hook.Body, "sign in again") {
				t.Error(hook.Body)
			}
			s.call(t, http.MethodGet, "/repos", "estate-prod", c.Key, "").is(t, http.StatusOK, "").has(t, read.Credentials.Access)
			before := e.asked()
			s.Advance(50 * time.Minute)
			if again := e.reads(t, s, c, ""); again.Credentials.Access == read.Credentials.Access || e.asked() != before {
				t.Error("the installation's token is not renewed any more, or the user's still is")
			}
			list, err := s.Broker.Connections(t.Context(), broker.System(s.Env.ID), broker.ConnectionFilter{Limit: 2})
			must(t, err)
			if list[0].Status != broker.Active {
				t.Errorf("the connection is %s", list[0].Status)
			}
			mended := e.connects(t, s, broker.SessionInput{Reconnect: &broker.ConnectionRef{ID: c.ID}}, "code=code-ann-2&installation_id=77&setup_action=update")
			if now := e.reads(t, s, mended, ""); now.Config.User == nil || now.Config.Lost != "" || mended.ID != c.ID {
				t.Errorf("after another sign-in: %+v", now.Config)
			}
		})
	}
}

// The installation's token cannot be had for a while. What the provider has rotated in that time must be kept.
func TestAUserIsRenewedWhileTheAppIsNot(t *testing.T) {
	for what, fails := range map[string]func(e *estate, yes bool){
		"it is suspended":     func(e *estate, yes bool) { e.suspended = yes },
		"nobody can tell why": func(e *estate, yes bool) { e.mute = yes },
	} {
		t.Run(what, func(t *testing.T) {
			e, s := newEstate(t)
			e.install("77", s.Now(), "ann")
			c := e.connects(t, s, broker.SessionInput{}, installed)
			e.set(func() { fails(e, true) })
			s.Advance(6*time.Hour + 30*time.Minute)
			path := "/connections/" + c.Key + "?provider_config_key=estate-prod"
			if got := s.Send(t, http.MethodGet, path, ""); got.Code == http.StatusOK || e.asked() != 1 {
				t.Fatalf("%d after %d renewals: %s", got.Code, e.asked(), got.Body)
			}
			e.set(func() { fails(e, false) })
			s.Advance(time.Hour)
			read := e.reads(t, s, c, "&refresh_token=true")
			if user := read.Config.User; user == nil || e.grants[user.Refresh].refresh != user.Refresh || user.Access == "ghu_ann_0001" {
				t.Errorf("the user's: %+v", user)
			}
			if forced := e.reads(t, s, c, "&force_refresh=true"); forced.Config.Lost != "" {
				t.Error(forced.Config.Lost)
			}
			e.all(t)

			e.set(func() { delete(e.installations, "77") })
			s.Advance(time.Hour)
			if got := s.Send(t, http.MethodGet, path, ""); got.Header().Get("X-Error-Code") != "needs_reauth" {
				t.Errorf("of an app that was removed: %d %s", got.Code, got.Body)
			}
		})
	}
}

func TestNobodyBindsAnothersInstallation(t *testing.T) {
	e, s := newEstate(t)
	e.install("77", s.Now(), "ann")
	e.install("78", s.Now(), "bob")
	e.install("76", s.Now().Add(-time.Hour), "ann", "bob")
	for what, try := range map[string]struct {
		query, code string
	}{
		"another's, just made":           {"code=code-ann-%&installation_id=78&setup_action=install", "exchange_failed"},
		"one that exists":                {"code=code-ann-%&installation_id=76&setup_action=update", "exchange_failed"},
		"one that does not":              {"code=code-ann-%&installation_id=99&setup_action=install", "exchange_failed"},
		"no number":                      {"code=code-ann-%&installation_id=77%2F..%2F78", "exchange_failed"},
		"two":                            {"code=code-ann-%&installation_id=77&installation_id=78", "exchange_failed"},
		"nobody signed in":               {"installation_id=77&setup_action=update", "callback_invalid"},
		"nobody signed in, and it waits": {"setup_action=request", "provider_error"},
	} {
		t.Run(what, func(t *testing.T) {
			query := strings.Replace(try.query, "code-ann-%", "code-ann-"+strings.ReplaceAll(what, " ", "_"), 1)
			if got := e.signsIn(t, s, broker.SessionInput{}, query); got.Header().Get("X-Error-Code") != try.code {
				t.Fatalf("%d %s: %s", got.Code, got.Header().Get("X-Error-Code"), got.Body)
			}
			must(t, s.Broker.RevokeDue(t.Context()))
			if over, living := e.ended("ann"); !over || living > 0 {
				t.Error("what the provider gave is not ended")
			}
		})
	}
	list, err := s.Broker.Connections(t.Context(), broker.System(s.Env.ID), broker.ConnectionFilter{Limit: 10})
	must(t, err)
	if len(list) != 0 {
		t.Errorf("%d connections", len(list))
	}
	// What the app's backend has decided on may be older, and must be the user's all the same.
	decided := func(id string) broker.SessionInput {
		return broker.SessionInput{Defaults: map[string]broker.Defaults{"estate-prod": {Config: map[string]string{"installation_id": id}}}}
	}
	c := e.connects(t, s, decided("76"), "code=code-ann-a&setup_action=update")
	if got := e.reads(t, s, c, ""); got.Config.Installation != "76" || !strings.HasPrefix(got.Credentials.Access, "ghs_76") {
		t.Errorf("%+v", got)
	}
	for _, query := range []string{"code=code-ann-b", "code=code-ann-c&installation_id=77"} {
		if got := e.signsIn(t, s, decided("78"), query); got.Header().Get("X-Error-Code") != "exchange_failed" {
			t.Errorf("%s: %d", query, got.Code)
		}
	}
}

func TestAnInstallationThatIsWaitedFor(t *testing.T) {
	for what, query := range map[string]string{
		"the provider names it":       "code=code-ann-2&installation_id=80&setup_action=install",
		"the provider says nothing":   "code=code-ann-2&setup_action=request",
		"one that was there is named": "code=code-ann-2&installation_id=70&setup_action=update",
	} {
		t.Run(what, func(t *testing.T) {
			e, s := newEstate(t)
			e.install("70", s.Now().Add(-24*time.Hour), "ann")
			e.install("79", s.Now(), "bob")
			c := e.connects(t, s, broker.SessionInput{}, "code=code-ann-1&setup_action=request")
			read := e.reads(t, s, c, "")
			if read.Credentials.Type != "OAUTH2" || read.Credentials.Access != "ghu_ann_0001" || !read.Config.Pending || read.Config.User == nil || read.Config.App != "4711" {
				t.Fatalf("%+v", read)
			}
			s.call(t, http.MethodGet, "/user", "estate-prod", c.Key, "").is(t, http.StatusOK, "").has(t, "Bearer ghu_ann_0001")
			s.Advance(7*time.Hour + 50*time.Minute)
			if renewed := e.reads(t, s, c, ""); renewed.Credentials.Access == read.Credentials.Access || !renewed.Config.Pending {
				t.Errorf("%+v", renewed)
			}
			e.install("80", s.Now(), "ann") // an owner has approved it
			s.Advance(time.Hour)
			again := broker.SessionInput{Reconnect: &broker.ConnectionRef{ID: c.ID}}
			if strings.Contains(query, "=70") {
				if got := e.signsIn(t, s, again, query); got.Header().Get("X-Error-Code") != "exchange_failed" {
					t.Errorf("%d", got.Code)
				}
				return
			}
			done := e.reads(t, s, e.connects(t, s, again, query), "")
			if done.Config.Pending || done.Config.Installation != "80" || done.Credentials.Type != "APP" || done.Config.User == nil {
				t.Errorf("%+v", done)
			}
			e.all(t)
		})
	}
}

func TestWhatIsWaitedForIsSaid(t *testing.T) {
	e, s := newEstate(t)
	channel := broker.NewChannel()
	ends, stop := s.Broker.Await(channel, "")
	defer stop()
	e.channel = "&ws_client_id=" + channel
	page := e.signsIn(t, s, broker.SessionInput{}, "code=code-ann-1&setup_action=request")
	if !strings.Contains(page.Body.String(), "has to approve the installation") {
		t.Errorf("%d %s", page.Code, page.Body)
	}
	if end := <-ends; !end.Pending || end.Err != nil {
		t.Errorf("who waits hears %+v", end)
	}
	e.channel = ""
	e.install("77", s.Now(), "ann")
	page = e.signsIn(t, s, broker.SessionInput{}, "code=code-ann-2&installation_id=77")
	if page.Code != http.StatusOK || strings.Contains(page.Body.String(), "has to approve") {
		t.Errorf("%d %s", page.Code, page.Body)
	}
}

func TestBothAreEndedWithTheirConnection(t *testing.T) {
	e, s := newEstate(t)
	e.install("77", s.Now(), "ann")
	first := e.connects(t, s, broker.SessionInput{}, installed)
	s.Advance(time.Minute)
	second := e.connects(t, s, broker.SessionInput{}, "code=code-ann-2&installation_id=77")
	remove := func(c *broker.Connection) {
		t.Helper()
		s.send(t, http.MethodDelete, "/connections/"+c.Key+"?provider_config_key=estate-prod", "").is(t, http.StatusOK, "")
		must(t, s.Broker.RevokeDue(t.Context()))
	}
	remove(first)
	if over, living := e.ended("ann"); over || living != 1 {
		t.Errorf("of a user with two connections: %v, and %d tokens of installations", over, living)
	}
	s.Advance(9 * time.Hour) // the user's has run out, and nobody was there to renew it
	remove(second)
	e.mu.Lock()
	g := e.grants["code-ann-2"]
	e.mu.Unlock()
	if !g.ended {
		t.Error("the user's grant goes on")
	}
	e.all(t)
}

func TestInstallationsAreImportedWithTheirUsers(t *testing.T) {
	e, s := newEstate(t)
	e.install("77", s.Now().Add(-time.Hour), "ann")
	e.grants["ghr_ann_0000"] = &grant{user: "ann", refresh: "ghr_ann_0000"}
	const body = `{"provider_config_key":"estate-prod","connection_id":"c-1","credentials":{"type":"CUSTOM","app_id":"4711","installation_id":"77"},
		"connection_config":{"installation_id":"77","app_id":"4711","jwtToken":"jwt-canary","pending":true,
		"userCredentials":{"type":"OAUTH2","access_token":"ghu_imported","refresh_token":"ghr_ann_0000","expires_at":"2026-03-01T12:30:00Z","raw":{}}}}`
	s.send(t, http.MethodPost, "/connections", body).is(t, http.StatusCreated, "").has(t, `"type":"APP"`)
	c, err := s.Broker.Connection(t.Context(), broker.System(s.Env.ID), broker.ConnectionRef{Integration: "estate-prod", Key: "c-1"})
	must(t, err)
	for _, secret := range []string{"ghu_", "ghr_", "jwt-canary", "pending"} {
		if strings.Contains(string(c.Config), secret) {
			t.Errorf("%s stands in the open", secret)
		}
	}
	if user := e.reads(t, s, c, "").Config.User; user == nil || user.Access != "ghu_imported" {
		t.Fatalf("%+v", user)
	}
	s.Advance(50 * time.Minute)
	if user := e.reads(t, s, c, "").Config.User; user == nil || user.Access != e.grants["ghr_ann_0000"].access {
		t.Errorf("%+v", user)
	}
	e.all(t)
}

func TestNoSecretOfAnInstalledAppShows(t *testing.T) {
	e, s := newEstate(t)
	e.install("77", s.Now(), "ann")
	c := e.connects(t, s, broker.SessionInput{}, installed)
	e.signsIn(t, s, broker.SessionInput{}, "code=code-bob-1&installation_id=77")
	s.Advance(6*time.Hour + 30*time.Minute)
	e.reads(t, s, c, "")
	e.set(func() { e.suspended = true })
	s.Advance(2 * time.Hour)
	open := []string{s.Send(t, http.MethodGet, "/connections/"+c.Key+"?provider_config_key=estate-prod", "").Body.String()}
	weak := s.Key(t, "environment:connections:read", "environment:connections:list", "environment:integrations:read")
	for _, path := range []string{"/connections", "/connections/" + c.Key + "?provider_config_key=estate-prod", "/integrations/estate-prod?include=credentials"} {
		open = append(open, s.Send(t, http.MethodGet, path, "", "Authorization", "Bearer "+weak).Body.String())
	}
	stored, err := s.Config.Store.Connection(t.Context(), s.Env.ID, c.ID)
	must(t, err)
	open = append(open, s.Log.String(), string(stored.Config))
	lines := strings.Split(estatePEM(), "\n")
	for _, secret := range append(e.issued, estateSecret, lines[1], "code-ann-1", "eyJ") {
		for i, text := range open {
			if strings.Contains(text, secret) {
				t.Errorf("%d shows %.8s", i, secret)
			}
		}
	}
	if len(e.issued) < 5 || apitest.Start.IsZero() {
		t.Errorf("%d tokens", len(e.issued))
	}
}
