package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Where the address of an installation's tokens ends, and where a provider sends browsers after an installation.
const (
	tokensPath = "/access_tokens"
	setupPath  = "/app-auth/connect"
)

// install is a user who installs an app in their account. No code comes of it: the browser brings the installation's id.
func (p *Provider) install(got map[string]string, u *User) (*url.URL, error) {
	if problem := differences(map[string]string{"state": anything}, got); problem != "" {
		return nil, fmt.Errorf("installation: %s", problem)
	}
	p.grants = append(p.grants, &grant{user: u, good: true, spent: map[string]bool{}})
	back, err := url.Parse(p.callback)
	if err != nil {
		return nil, fmt.Errorf("installation: callback: %w", err)
	}
	back.Path = setupPath
	back.RawQuery = url.Values{
		"installation_id": {u.Answered["installation_id"]}, "setup_action": {"install"}, "state": {got["state"]},
	}.Encode()
	return back, nil
}

// plugIn is a user who installs an app that calls with a name and a password of its own. The browser brings back what it
// came with, and for whom the app was installed.
// https://docs.crisp.chat/guides/rest-api/authentication/
func (p *Provider) plugIn(got map[string]string, u *User) (*url.URL, error) {
	if problem := differences(map[string]string{"payload": anything}, got); problem != "" {
		return nil, fmt.Errorf("installation: %s", problem)
	}
	p.grants = append(p.grants, &grant{user: u, good: true, spent: map[string]bool{}})
	back, err := url.Parse(p.callback)
	if err != nil {
		return nil, fmt.Errorf("installation: callback: %w", err)
	}
	q := url.Values{"payload": {got["payload"]}}
	for _, name := range p.entry.list("redirect_uri_metadata") {
		q.Set(name, u.Answered[name])
	}
	back.RawQuery = q.Encode()
	return back, nil
}

// app answers what an app asks in its own name; nil: the request is not that.
// https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
func (p *Provider) app(q *request) *reply {
	all, template, kind := p.grants, p.entry.text("token_url"), Exchange
	switch p.entry.Mode() {
	case modeApp:
	case modeCustom:
		all, template, kind = p.installs, p.entry.text("token_url", modeApp), Mint
	default:
		return nil
	}
	for _, g := range all {
		tokens := p.values(g).address(template)
		about := *tokens
		about.Path = strings.TrimSuffix(about.Path, tokensPath)
		_, toTokens := leadsTo(q.url, tokens)
		_, toInstallation := leadsTo(q.url, &about)
		switch {
		case toTokens && q.method == http.MethodPost:
			p.note(kind)
			return p.mint(q, g)
		case toInstallation && q.method == http.MethodGet:
			p.note(Look)
			return p.installed(q, g)
		}
	}
	return nil
}

// speaks says what is wrong with the token that an app has signed for itself: it is good for ten minutes at most, and
// begins in the past, for clocks differ.
func (p *Provider) speaks(q *request) string {
	text, found := strings.CutPrefix(q.header.Get("Authorization"), "Bearer ")
	if !found {
		return "the app does not say who it is"
	}
	public, _ := clientKey(keyOfClient)
	claims := map[string]any{"iss": p.client.ID}
	if own := p.client.Settings["app_id"]; own != "" { // the client is that of its users' sign-ins
		claims["iss"] = own
	}
	if problem := vouches(text, public, map[string]any{"alg": "RS256", "typ": "JWT"}, claims, 0); problem != "" {
		return "the app's token: " + problem
	}
	if t := readJWS(text); !t.current(p.now()) || t.when("iat").After(p.now()) {
		return "the app's token is too old, or of tomorrow"
	}
	return ""
}

// installed tells of an installation. One of an odd user is old, and was changed now.
func (p *Provider) installed(q *request, g *grant) *reply {
	if problem := p.speaks(q); problem != "" {
		p.fault("installation: %s", problem)
	}
	if !g.good {
		return &reply{status: http.StatusNotFound, body: map[string]any{"message": "Not Found"}}
	}
	now := p.now().UTC().Format(time.RFC3339)
	body := map[string]any{
		"id": g.user.Answered["installation_id"], "account": map[string]any{"id": json.Number(g.user.Answered["account_id"]), "login": g.user.Account},
		"created_at": now, "updated_at": now,
	}
	if g.user.N%2 == 1 {
		body["created_at"] = "2020-01-01T00:00:00Z"
	}
	return &reply{status: http.StatusOK, body: body}
}

// mint gives a token of an installation.
func (p *Provider) mint(q *request, g *grant) *reply {
	if problem := p.speaks(q); problem != "" {
		p.fault("installation's token: %s", problem)
	}
	if !g.good {
		return &reply{status: http.StatusNotFound, body: map[string]any{"message": "Not Found"}}
	}
	if p.issue(g); p.entry.Mode() == modeCustom { // what the entry says is of the user's
		g.expires = p.now().Add(InstallationLife)
	}
	return &reply{status: http.StatusCreated, body: map[string]any{
		"token": g.access, "expires_at": g.expires.UTC().Format(time.RFC3339), "permissions": map[string]any{"contents": "read"},
	}}
}
