package lab

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Authorize is a user whose browser comes to the authorization page and who agrees. It gives the address that the browser
// is sent back to.
func (p *Provider) Authorize(raw string, u *User) (*url.URL, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	page, query, err := p.page(raw, u)
	if err != nil {
		return nil, err
	}
	got := map[string]string{}
	for name, all := range query {
		if got[name] = all[0]; len(all) > 1 {
			return nil, fmt.Errorf("authorization page: %s stands there %d times", name, len(all))
		}
	}
	if p.entry.Mode() == modeOAuth1 {
		return p.authorize1(got, u)
	}
	switch p.entry.Mode() {
	case modeApp:
		return p.install(got, u)
	case modeCustom:
		return p.join(got, u)
	case modePlugin:
		return p.plugIn(got, u)
	}
	client := p.visitor(u, got[p.renamed("client_id")])
	if client == nil {
		return nil, fmt.Errorf("authorization page: nobody knows the client")
	}
	g := &grant{user: u, good: true, spent: map[string]bool{}, asked: u.Scopes}
	if client.ID != p.client.ID {
		g.of = client
	}
	if problem := differences(p.asks(u, client), got); problem != "" {
		return nil, fmt.Errorf("authorization page %s: %s", page, problem)
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if v, ok := got[name]; ok && len(v) < 16 {
			return nil, fmt.Errorf("authorization page: %s is short", name)
		}
	}
	g.challenge, g.nonce, g.redirect = got["code_challenge"], got["nonce"], got[p.renamed("redirect_uri")]
	if own := p.entry.typed(p.client, u)["integrationConfig.ruName"]; own == g.redirect {
		return p.back(p.callback, got["state"], g)
	}
	if g.of != nil && g.redirect != g.of.redirect {
		return nil, fmt.Errorf("authorization page: redirect_uri is not the one that was registered")
	}
	if g.redirect != p.callback && !strings.HasPrefix(g.redirect, p.callback+"/") {
		return nil, fmt.Errorf("authorization page: redirect_uri is not the broker's")
	}
	return p.back(g.redirect, got["state"], g)
}

// page checks which page the browser went to, and gives its parameters. Those of a page that lives in the fragment stand
// there.
func (p *Provider) page(raw string, u *User) (page string, query url.Values, err error) {
	if fragment := p.entry.text("authorization_url_fragment"); fragment != "" {
		before, after, _ := strings.Cut(raw, "#"+fragment+"?")
		if after == "" {
			return "", nil, fmt.Errorf("the browser is not sent to the fragment %s", fragment)
		}
		raw = before + "?" + after
	}
	to, err := url.Parse(raw)
	if err != nil {
		return "", nil, fmt.Errorf("the browser cannot be sent off: %w", err)
	}
	template := p.entry.text("authorization_url")
	if p.entry.Mode() == modePlugin {
		template = p.client.Settings["app_link"]
	}
	want := p.values(&grant{user: u}).address(template)
	query, ok := leadsTo(to, want)
	if !ok {
		return "", nil, fmt.Errorf("the browser is sent to %s%s, which is not the authorization page", hostOf(to), to.Path)
	}
	return hostOf(to) + to.Path, query, nil
}

// asks gives the parameters that the page expects, by the names that it has for them.
func (p *Provider) asks(u *User, client *registered) map[string]string {
	e := p.entry
	want := map[string]string{
		"client_id": client.ID, "response_type": "code", "redirect_uri": anything, "state": anything,
	}
	if len(u.Scopes) > 0 {
		want["scope"] = p.scopes(u.Scopes)
	}
	if e.text("pkce") != "forbidden" && e.at("disable_pkce") != true {
		want["code_challenge"], want["code_challenge_method"] = anything, "S256"
	}
	if slices.Contains(u.Scopes, "openid") {
		want["nonce"] = anything
	}
	maps.Copy(want, p.demands(u))
	known := e.typed(p.client, u)
	for name, template := range e.pairs("authorization_params") {
		if strings.Contains(template, "${random}") {
			want[name] = anything
		} else if v, ok := known.text(template); ok {
			want[name] = v
		}
	}
	for from, to := range e.pairs("authorization_url_replacements") {
		name, _, _ := strings.Cut(from, "=")
		v := want[name]
		delete(want, name)
		if to != "" {
			want[to] = v
		}
	}
	return want
}

// renamed is what the page calls a parameter.
func (p *Provider) renamed(name string) string {
	if to := p.entry.pairs("authorization_url_replacements")[name]; to != "" {
		return to
	}
	return name
}

// scopes writes scopes as the entry says.
func (p *Provider) scopes(all []string) string {
	separator := p.entry.text("scope_separator")
	if separator == "" {
		separator = " "
	}
	return strings.Join(all, separator)
}

// back sends the browser back with a code, and with what the entry says that comes along.
func (p *Provider) back(to, state string, g *grant) (*url.URL, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, fmt.Errorf("authorization page: redirect_uri: %w", err)
	}
	p.serial++
	code := fmt.Sprintf("code/%d+of=%s", p.serial, p.entry.Name)
	p.pending[code] = g
	name := p.entry.text("authorization_code_param_in_callback")
	if name == "" {
		name = "code"
	}
	q := u.Query()
	q.Set(name, code)
	q.Set("state", state)
	q.Set("lab_extra", "1")
	if issuer, _ := p.values(g).text(p.entry.text("issuer")); issuer != "" && !(p.entry.generic() && g.user.N%2 == 1) {
		q.Set("iss", issuer)
	}
	for _, name := range p.entry.list("redirect_uri_metadata") {
		q.Set(name, g.user.Answered[name])
	}
	u.RawQuery = q.Encode()
	return u, nil
}
