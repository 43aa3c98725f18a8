package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// InstallationLife is how long a token of an installation lasts that has its user's beside it.
const InstallationLife = time.Hour

// OfInstallation is the kind of token, beside those of [Provider.Revocable], that speaks for an installation.
const OfInstallation = "installation"

// installationsPath is what an entry's address of an installation's tokens has behind that of the API.
const installationsPath = "/app/installations/"

// join is a user who installs an app and signs in to it. The page takes the state and nothing else; the browser brings the
// installation's id and a code.
// https://docs.github.com/en/apps/creating-github-apps/registering-a-github-app/about-the-user-authorization-callback-url
func (p *Provider) join(got map[string]string, u *User) (*url.URL, error) {
	if problem := differences(map[string]string{"state": anything}, got); problem != "" {
		return nil, fmt.Errorf("installation: %s", problem)
	}
	if len(got["state"]) < 16 {
		return nil, fmt.Errorf("installation: state is short")
	}
	p.installs = append(p.installs, &grant{user: u, good: true, spent: map[string]bool{}})
	back, err := p.back(p.callback, got["state"], &grant{user: u, good: true, spent: map[string]bool{}})
	if err != nil {
		return nil, err
	}
	q := back.Query()
	q.Set("installation_id", u.Answered["installation_id"])
	q.Set("setup_action", "install")
	back.RawQuery = q.Encode()
	return back, nil
}

// RefuseSignIn ends what a user granted for themselves. Their installation stays.
func (p *Provider) RefuseSignIn(u *User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.grantOf(u).good = false
}

// Beside gives the access token that the provider gave a user last, beside that of the installation; "": there is none.
func (p *Provider) Beside(u *User) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.installOf(u) == nil {
		return ""
	}
	return p.grantOf(u).access
}

// installOf gives a user's installation; nil: the mode has none beside a user's grant.
func (p *Provider) installOf(u *User) *grant {
	for _, g := range p.installs {
		if g.user == u {
			return g
		}
	}
	return nil
}

// holders lists whose credential a request may present: a call through the proxy is the installation's, where there is one,
// and what the broker asks by itself is the user's.
func (p *Provider) holders(q *request) []*grant {
	if q.viaProxy && p.entry.Mode() == modeCustom {
		return p.installs
	}
	return p.grants
}

// appAPI is the address of the API that has the installations.
func (e *Entry) appAPI() string {
	api, _, _ := strings.Cut(e.text("token_url", modeApp), installationsPath)
	return api
}

// installations answers what is asked of installations besides their tokens: which of them a user may see, and to end a
// token; nil: the request is neither.
// https://docs.github.com/en/rest/apps/installations
func (p *Provider) installations(q *request) *reply {
	if p.entry.Mode() != modeCustom {
		return nil
	}
	api := p.entry.appAPI()
	visible, token := *q.url, values{}.address(api+"/installation/token")
	visible.RawQuery = ""
	_, toVisible := leadsTo(&visible, values{}.address(api+"/user/installations"))
	_, toToken := leadsTo(q.url, token)
	switch {
	case toVisible && q.method == http.MethodGet:
		p.note(Look)
		return p.visible(q)
	case toToken && q.method == http.MethodDelete:
		p.note(Revoke)
		return p.endInstallation(q)
	}
	return nil
}

// crowd is how many installations a user with an odd number may see before their own comes.
const crowd = 30

// visible tells a page of the installations that the user may see whose token it is. Users with an even number installed
// theirs now; those with an odd one have changed theirs, which is old, and is behind many of others.
func (p *Provider) visible(q *request) *reply {
	var all []any
	for _, g := range p.grants {
		if q.header.Get("Authorization") == "Bearer "+g.access {
			all = p.seenBy(g.user)
		}
	}
	asked := q.url.Query()
	size, err := strconv.Atoi(asked.Get("per_page"))
	page, also := strconv.Atoi(asked.Get("page"))
	if err != nil || also != nil || size < 1 || size > 100 || page < 1 || len(asked) != 2 {
		p.fault("installations of a user: the page is not named as it should be")
		size, page = 30, 1
	}
	from := min(len(all), (page-1)*size)
	body := map[string]any{"total_count": len(all), "installations": all[from:min(len(all), from+size)]}
	return p.answerCall(q, "installations of a user", nil, body, func(*grant) *url.URL { return q.url })
}

func (p *Provider) seenBy(u *User) (out []any) {
	const old = "2020-01-01T00:00:00Z"
	now := p.now().UTC().Format(time.RFC3339)
	one := func(id, account, created, updated string) map[string]any {
		return map[string]any{
			"id": json.Number(id), "account": map[string]any{"id": json.Number(account), "login": "lab"}, "created_at": created, "updated_at": updated,
		}
	}
	created := now
	if u.N%2 == 1 {
		for i := range crowd {
			out = append(out, one(strconv.Itoa(900+i), "7", old, old))
		}
		created = old
	}
	return append(out, one(u.Answered["installation_id"], u.Answered["account_id"], created, now))
}

// endInstallation ends the token of an installation that the request presents. One that has run out is nobody's any more.
func (p *Provider) endInstallation(q *request) *reply {
	if len(q.body) > 0 {
		p.fault("end of an installation's token: there should be no body")
	}
	for _, g := range p.installs {
		if q.header.Get("Authorization") != "Bearer "+g.access || !g.good || !p.lives(g, g.access) {
			continue
		}
		if p.ending != nil && p.ending.user != g.user {
			p.fault("end of an installation's token: it is somebody else's")
		}
		g.ended = append(g.ended, OfInstallation)
		g.expires = p.now()
		return &reply{status: http.StatusNoContent}
	}
	if p.ending != nil {
		p.fault("end of an installation's token: it is not one that counts")
	}
	return &reply{status: http.StatusUnauthorized, body: map[string]any{"message": "Bad credentials"}}
}
