package interop_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// byAPIKey asks an API whose keys have a header of their own.
func (r *rig) byAPIKey(method, path, body string, out any) int {
	r.t.Helper()
	return r.callAs("X-Api-Key", secretKey, method, path, body, out)
}

// everywhere gives the status of a connection in each of the four APIs, which know it by the same UUID. user is its end
// user, if it has one.
func (r *rig) everywhere(integration, id, user string) map[string]string {
	r.t.Helper()
	out := make(map[string]string)
	var nango struct {
		Connections []struct {
			ID     string `json:"connection_id"`
			Errors []any  `json:"errors"`
		} `json:"connections"`
	}
	r.call(http.MethodGet, "/connections", "", &nango)
	for _, c := range nango.Connections {
		if c.ID == id {
			out["nango"] = "active"
			if len(c.Errors) > 0 {
				out["nango"] = "error"
			}
		}
	}
	var popup struct {
		Status string `json:"status"`
	}
	if r.byAPIKey(http.MethodGet, "/v1/integrations/connections/"+id, "", &popup) == http.StatusOK {
		out["popup"] = popup.Status
	}
	var connections struct {
		Data struct {
			Status string `json:"status"`
		} `json:"data"`
	}
	if r.byAPIKey(http.MethodGet, "/api/v1/connections/conn_"+id, "", &connections) == http.StatusOK {
		out["connections"] = connections.Data.Status
	}
	var mine struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	}
	if user == "" {
		return out // it belongs to nobody, so nobody has it there
	}
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.broker+"/api/integrations/"+integration+"/connection", nil)
	must(r.t, err)
	req.Header.Set("Authorization", "Bearer "+secretKey)
	req.Header.Set("X-Owner-Id", user)
	if r.send(req, &mine) == http.StatusOK && mine.ID == "conn-"+id {
		out["integrations"] = mine.Status
	}
	return out
}

func (r *rig) agreeOn(integration, id, user, status string) {
	r.t.Helper()
	got := r.everywhere(integration, id, user)
	want := []string{"nango", "popup", "connections"}
	if user != "" {
		want = append(want, "integrations")
	}
	for _, api := range want {
		if got[api] != status {
			r.t.Errorf("in the API %s, the connection is %q, want %q", api, got[api], status)
		}
	}
}

// The backend asks for a popup, the page opens it with the browser client, and the backend polls by the id that it has had
// from the beginning.
func TestAPopupFromItsOwnAPI(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	var begun struct {
		ID     string `json:"connection_id"`
		Token  string `json:"session_token"`
		Vendor string `json:"vendor"`
	}
	status := p.byAPIKey(http.MethodPost, "/v1/integrations/connections", `{"integration_key":"slack","nickname":"Sales"}`, &begun)
	if status != http.StatusCreated || begun.Vendor != "nango" {
		t.Fatalf("%d %+v", status, begun)
	}
	poll := func() (out struct{ Status, Nickname string }) {
		if status := p.byAPIKey(http.MethodGet, "/v1/integrations/connections/"+begun.ID, "", &out); status != http.StatusOK {
			t.Errorf("polled: %d", status)
		}
		return out
	}
	if got := poll(); got.Status != "pending" {
		t.Errorf("before: %+v", got)
	}
	popup := p.popup(p.client(begun.Token) + `return nango.auth("slack");`)
	p.signIn(popup)
	if got := p.result(); got.Error != "" || got.Value.Connection != begun.ID {
		t.Fatalf("auth came to %+v, want %s", got, begun.ID)
	}
	if got := poll(); got.Status != "active" || got.Nickname != "Sales" {
		t.Errorf("after: %+v", got)
	}
	p.agreeOn("slack", begun.ID, "", "active")
	if status := p.byAPIKey(http.MethodDelete, "/v1/integrations/connections/"+begun.ID, "", nil); status != http.StatusNoContent {
		t.Errorf("deleted: %d", status)
	}
	p.until(func() bool { return p.idp.Counts().GrantsRevoked == 1 })
}

// leaveFor lets the app's page, where the browser must be, send the browser somewhere, as a click in an app does.
func (p *page) leaveFor(address string) {
	p.t.Helper()
	p.eval(`window.action = () => { location.href = ` + quoted(address) + `; }; "";`)
	_ = chromedp.Do(p.ctx, chromedp.Evaluate[chromedp.Void](`document.getElementById('go').click()`))
}

func quoted(s string) string { return `"` + strings.ReplaceAll(s, `"`, "%22") + `"` }

// arrives waits until the browser is at an address that begins like this, and gives all of it.
func (p *page) arrives(prefix string) *url.URL {
	p.t.Helper()
	var at string
	p.until(func() bool {
		at = p.eval("location.href")
		return strings.HasPrefix(at, prefix) && p.eval("document.readyState") == "complete"
	})
	u, err := url.Parse(at)
	must(p.t, err)
	return u
}

type envelope struct {
	Success bool
	Data    struct {
		ID, ConnectionID, Status, AuthURL, ExternalAccountID string
		IsNew, Healthy, Deleted                              bool
	}
}

// The eight steps: the app asks for a link, sends the end user there, and finds the browser back on its own page.
func TestAConnectionByALinkAndBack(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	done := p.app.URL + "/done"
	var got envelope
	path := "/api/v1/connections/acme/auth-url?connectionName=Sales&redirectUrl=" + url.QueryEscape(done)
	if status := p.byAPIKey(http.MethodGet, path, "", &got); status != http.StatusOK || !got.Data.IsNew {
		t.Fatalf("%d %+v", status, got)
	}
	id := got.Data.ConnectionID
	p.leaveFor(got.Data.AuthURL)
	p.signIn(p.ctx)
	back := p.arrives(done).Query()
	if back.Get("success") != "true" || back.Get("connectionId") != id || back.Get("provider") != "acme" || len(back) != 3 {
		t.Errorf("the app hears %v", back)
	}
	if p.byAPIKey(http.MethodGet, "/api/v1/connections/"+id, "", &got); got.Data.Status != "active" || got.Data.ExternalAccountID != "ada" {
		t.Errorf("%+v", got)
	}
	if p.byAPIKey(http.MethodPost, "/api/v1/connections/"+id+"/verify", "", &got); !got.Data.Healthy {
		t.Errorf("verified: %+v", got)
	}
	if status := p.byAPIKey(http.MethodPost, "/api/v1/connections/"+id+"/refresh", "", &got); status != http.StatusOK {
		t.Errorf("refreshed: %d %+v", status, got)
	}
	p.agreeOn("acme", strings.TrimPrefix(id, "conn_"), "", "active")
	if status := p.byAPIKey(http.MethodGet, path, "", nil); status != http.StatusBadRequest {
		t.Errorf("another link while it is active: %d", status)
	}
	if status := p.byAPIKey(http.MethodDelete, "/api/v1/connections/"+id, "", &got); status != http.StatusOK || !got.Data.Deleted {
		t.Errorf("deleted: %d %+v", status, got)
	}
	p.until(func() bool { return p.idp.Counts().GrantsRevoked == 1 })
}

// The end user says no, and says yes by a second link, for the same connection.
func TestAConnectionByALinkThatIsDeniedFirst(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	done := p.app.URL + "/done"
	path := "/api/v1/connections/acme/auth-url?redirectUrl=" + url.QueryEscape(done)
	var first, second envelope
	p.byAPIKey(http.MethodGet, path, "", &first)
	p.leaveFor(first.Data.AuthURL)
	p.arrives(p.idp.Issuer())
	lastClick(t, p.ctx, "document.querySelector('button[name=decision]:not([value=continue])')")
	if back := p.arrives(done).Query(); back.Get("error") != "access_denied" || back.Get("connectionId") != first.Data.ConnectionID {
		t.Errorf("the app hears %v", back)
	}
	p.byAPIKey(http.MethodGet, path, "", &second)
	if second.Data.IsNew || second.Data.ConnectionID != first.Data.ConnectionID {
		t.Errorf("the second link is for %+v", second.Data)
	}
	must(t, chromedp.Do(p.ctx, chromedp.Navigate(p.app.URL+"/")))
	p.until(func() bool { return p.eval(`String(window.ready)`) == "true" })
	p.leaveFor(second.Data.AuthURL)
	p.signIn(p.ctx)
	if back := p.arrives(done).Query(); back.Get("success") != "true" {
		t.Errorf("the app hears %v", back)
	}
}

// The seven steps: the app's page, which has a connect session, sends the browser to connect, and calls the provider
// afterwards.
func TestAUsersIntegration(t *testing.T) {
	t.Parallel()
	p := newRig(t).open()
	token := p.session("acme")
	p.leaveFor(p.broker + "/api/integrations/acme/connect?connect_session_token=" + token)
	p.signIn(p.ctx)
	at := p.arrives(p.broker + "/connect/ended")
	if at.Query().Get("flow") == "" || strings.Contains(at.String(), token) || !strings.Contains(p.eval("document.body.innerText"), "connected") {
		t.Errorf("it ends at %s with %s", at, p.eval("document.body.innerText"))
	}
	bearer := "Bearer " + p.session("acme")
	var mine struct{ ID, OwnerID, Status string }
	if status := p.callAs("Authorization", bearer, http.MethodGet, "/api/integrations/acme/connection", "", &mine); status != http.StatusOK || mine.OwnerID != "u-1" {
		t.Errorf("%d %+v", status, mine)
	}
	p.agreeOn("acme", strings.TrimPrefix(mine.ID, "conn-"), "u-1", "active")
	var who struct{ Sub string }
	request := `{"url":` + quoted("/me") + `}`
	if status := p.callAs("Authorization", bearer, http.MethodPost, "/api/integrations/acme/request", request, &who); status != http.StatusOK || who.Sub != "ada" {
		t.Errorf("a call through it: %d %+v", status, who)
	}
	if status := p.callAs("Authorization", bearer, http.MethodGet, "/api/integrations/acme/request/me", "", &who); status != http.StatusOK || who.Sub != "ada" {
		t.Errorf("a call by path: %d %+v", status, who)
	}
	if status := p.callAs("Authorization", bearer, http.MethodDelete, "/api/integrations/acme/connection", "", nil); status != http.StatusNoContent {
		t.Errorf("deleted: %d", status)
	}
	p.until(func() bool { return p.idp.Counts().GrantsRevoked == 1 })
}
