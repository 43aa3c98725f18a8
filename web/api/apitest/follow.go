package apitest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var linkMember = regexp.MustCompile(`"\w*(?i:url|link)"\s*:\s*("https?://[^"]+")`)

// begins gives the address in an answer that begins a sign-in, or "".
func (p *player) begins(t *testing.T, res *http.Response, body []byte) string {
	t.Helper()
	found := []string{}
	if to := res.Header.Get("Location"); to != "" {
		found = append(found, p.at(t, to).String())
	}
	for _, m := range linkMember.FindAllSubmatch(body, -1) {
		var address string
		must(t, json.Unmarshal(m[1], &address))
		found = append(found, address)
	}
	for _, address := range found {
		u, err := url.Parse(address)
		if err != nil {
			continue // the catalogue's addresses have holes
		}
		if p.asksProvider(u) || p.atSite(u) && u.RawQuery != "" { // others are logos, pages of the app and the like
			return address
		}
	}
	return ""
}

// atSite reports whether an address is the broker's.
func (p *player) atSite(u *url.URL) bool {
	return u.Scheme+"://"+u.Host == p.site.Broker.PublicURL()
}

// asksProvider reports whether an address asks a provider for consent (RFC 6749 section 4.1.1).
func (p *player) asksProvider(u *url.URL) bool {
	return !p.atSite(u) && u.Query().Has("redirect_uri") && u.Query().Has("state")
}

// maxHops is more than any sign-in takes.
const maxHops = 10

// follow plays a sign-in.
func (p *player) follow(t *testing.T, words []string) []byte {
	t.Helper()
	deny := slices.Equal(words, []string{"deny"})
	switch {
	case len(words) > 0 && !deny:
		t.Fatalf("a sign-in cannot be followed so: %q", words)
	case p.link == "":
		t.Fatalf("no answer has begun a sign-in; the last one was\n%s", p.last)
	}
	var out []byte
	u := p.at(t, p.link)
	for range maxHops {
		res := p.hop(t, u, deny)
		body, err := io.ReadAll(res.Body)
		must(t, err)
		must(t, res.Body.Close())
		to := res.Header.Get("Location")
		if to == "" {
			p.note(t, res, body)
			return append(out, p.render(res, body)...)
		}
		out = append(out, p.head(res)...)
		u, err = u.Parse(to)
		must(t, err)
		if !p.atSite(u) && !p.asksProvider(u) {
			return out // on to the app
		}
	}
	t.Fatalf("the sign-in goes round in circles:\n%s", out)
	return nil
}

// hop asks the site or the provider, whichever the address is of.
func (p *player) hop(t *testing.T, u *url.URL, deny bool) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, u.String(), strings.NewReader(""))
	if !p.atSite(u) {
		return p.site.authorization(t, r, deny)
	}
	for _, c := range p.cookies.Cookies(u) {
		r.AddCookie(c)
	}
	r.RemoteAddr = "192.0.2.1:1234"
	res := p.site.serve(r).Result()
	p.cookies.SetCookies(u, res.Cookies())
	return res
}
