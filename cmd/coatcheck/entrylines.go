package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// line is a fact of an entry, for people.
type line struct{ label, text string }

// lines are all facts of an entry; one without a text has none.
func (e *entry) lines(publicURL string) []line {
	f := e.facts
	out := []line{
		{"Key", f.Name},
		{"Name", f.DisplayName},
		{"Alias of", e.Alias},
		{"From", cmp.Or(e.file, "built in")},
		{"Categories", strings.Join(f.Categories, ", ")},
		{"Mode", f.Mode},
		{"Usable", e.usable()},
		{"Documentation", f.Docs},
		{"For end users", f.DocsConnect},
		{"Redirect URI to register", e.redirectURI(publicURL)},
		{"Temporary credential", e.RequestURL},
		{"Authorization", e.AuthorizationURL},
		{"Token", e.TokenURL},
		{"Refresh", e.RefreshURL},
		{"API", e.Proxy.BaseURL},
		{"Hosts", e.HostPattern},
		{"Client authentication", e.stated(e.clientAuth(), "auth")},
		{"Body of token requests", e.BodyFormat},
		{"PKCE", e.pkce()},
		{"Default scopes", e.scopes()},
	}
	for i := range f.Fields {
		out = append(out, line{"Asked for", fieldLine(&f.Fields[i])})
	}
	for _, name := range slices.Sorted(maps.Keys(e.IntegrationConfig)) {
		out = append(out, line{"Setting", e.settingLine(name)})
	}
	out = append(out, e.behaviour()...)
	for _, w := range e.warnings() {
		out = append(out, line{"Warning", w.Date + ": " + w.Text})
	}
	for _, what := range slices.Sorted(maps.Keys(e.Lacking)) {
		out = append(out, line{"Lacks " + strings.ReplaceAll(what, "_", " "), e.Lacking[what]})
	}
	return append(out, line{"Oddities", strings.Join(e.Quirks, ", ")}, line{"Evidence", e.evidence()})
}

// behaviour says what becomes of a grant.
func (e *entry) behaviour() []line {
	return []line{
		{"Access token", e.stated(e.lifetime(), "life")},
		{"Refresh token", e.refreshing()},
		{"Revocation", e.revoking()},
		{"Account", e.account()},
		{"Verification", e.verifying()},
		{"Rate limits", e.stated(strings.Join(e.limits(), ", "), "rate")},
	}
}

func (e *entry) usable() string {
	if e.facts.Usable {
		return "yes"
	}
	return "no: " + e.facts.UnusableReason
}

// redirectURI is what the provider is to know; "" where no browser goes there.
func (e *entry) redirectURI(publicURL string) string {
	switch {
	case !e.facts.Interactive:
		return ""
	case e.facts.FreeHost:
		return publicURL + broker.CallbackPath + "/ and the integration's own id, which \"coatcheck providers doctor\" shows"
	}
	return publicURL + broker.CallbackPath
}

// certainty is what the letters of evidence mean.
var certainty = map[string]string{
	"d": "documentation", "s": "other open source", "a": "summary of the documentation", "g": "public repositories",
	"n": "another broker's documentation", "m": "memory, not verified",
}

// stated is a fact with how sure it is.
func (e *entry) stated(fact, key string) string {
	if how := certainty[e.Evidence[key]]; how != "" && fact != "" {
		return fact + " [" + how + "]"
	}
	return fact
}

func (e *entry) pkce() string {
	said := map[string]string{
		"S256": "S256", "none": "sent, ignored by the provider", "unknown": "sent, effect unknown", "forbidden": "not sent", "": "S256 is sent",
	}[e.PKCE]
	switch {
	case e.facts.Mode != "OAUTH2":
		return ""
	case e.DisablePKCE:
		said = "not sent"
	}
	said = e.stated(said, "pkce")
	if e.PKCEReason != "" {
		said += ": " + e.PKCEReason
	}
	return said
}

func (e *entry) scopes() string {
	if len(e.facts.DefaultScopes) == 0 {
		return ""
	}
	between := ""
	if e.separator() != " " {
		between = fmt.Sprintf(" (sent with %q between them)", e.separator())
	}
	return strings.Join(e.facts.DefaultScopes, ", ") + between
}

func fieldLine(f *broker.Field) string {
	notes := []string{strings.ReplaceAll(string(f.Section), "_", " ")}
	for _, x := range []struct {
		is   bool
		word string
	}{{f.Secret, "secret"}, {f.Optional, "optional"}, {f.Automated, "comes by itself"}, {f.Hidden, "hidden"}} {
		if x.is {
			notes = append(notes, x.word)
		}
	}
	if f.Example != "" {
		notes = append(notes, "such as "+f.Prefix+f.Example+f.Suffix)
	}
	return fmt.Sprintf("%s: %s (%s)", f.Name, cmp.Or(f.Title, f.Name), strings.Join(notes, ", "))
}

func (e *entry) settingLine(name string) string {
	s := e.IntegrationConfig[name]
	text := name + ": " + cmp.Or(s.Title, name)
	if s.Optional {
		text += " (optional)"
	}
	return text
}

// span writes seconds in the largest unit that fits.
func span(seconds int) string {
	d := time.Duration(seconds) * time.Second
	const day = 24 * time.Hour
	switch {
	case d >= 2*day && d%day == 0:
		return strconv.Itoa(int(d/day)) + " days"
	case d >= time.Hour && d%time.Hour == 0:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	case d >= time.Minute && d%time.Minute == 0:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	}
	return strconv.Itoa(seconds) + " s"
}

func (e *entry) lifetime() string {
	switch v := e.AccessTokenLifetime.(type) {
	case float64:
		return "lives for " + span(int(v))
	case string:
		if n, err := strconv.Atoi(v); err == nil {
			return "lives for " + span(n)
		}
		return map[string]string{
			"never": "never ends", "configurable": "its life is a setting at the provider", "unknown": "how long it lives is unknown",
		}[v]
	}
	return ""
}

func (e *entry) refreshing() string {
	if e.LongLived != nil {
		return "none: the access token is traded for a longer one"
	}
	said := map[string]string{
		"yes": "a new one at each renewal", "no": "stays the same", "configurable": "a new one at each renewal, if set so at the provider",
		"unknown": "whether a renewal brings a new one is unknown",
	}[e.RefreshRotation]
	said = e.stated(said, "rot")
	for _, x := range []struct {
		seconds int
		text    string
	}{
		{e.RefreshTokenLifetime, "ends %s after consent"},
		{e.RefreshTokenIdle, "ends when unused for %s"},
		{e.RefreshGrace, "the old one works for %s more"},
	} {
		if x.seconds > 0 {
			said = strings.TrimPrefix(said+"; "+fmt.Sprintf(x.text, span(x.seconds)), "; ")
		}
	}
	return said
}

func (e *entry) revoking() string {
	if e.RevocationURL == "" {
		return ""
	}
	said := "RFC 7009 at "
	if e.Revocation.Style == "recipe" {
		said = cmp.Or(e.Revocation.Method, "POST") + " "
	}
	said += e.RevocationURL
	if e.Revocation.WholeGrant {
		said += ", which ends all access of the client to the account"
	}
	return e.stated(said, "rev")
}

func (e *entry) account() string {
	switch {
	case strings.Contains(e.IdentityPath, "${"):
		return e.stated(e.IdentityPath+", without a call", "id")
	case e.IdentityEndpoint == "":
		return ""
	}
	return e.stated(cmp.Or(e.IdentityPath, "the first id in the answer")+" of "+e.IdentityEndpoint, "id")
}

func (e *entry) verifying() string {
	switch v := e.Proxy.Verification; {
	case !e.verifies():
		return ""
	case v != nil:
		return cmp.Or(v.Method, "GET") + " " + strings.Join(v.Endpoints, ", ")
	}
	return "the call that names the account"
}

func (e *entry) evidence() string {
	names := map[string]string{"rev": "revocation", "pkce": "PKCE", "rot": "rotation", "life": "lifetime", "id": "account", "rate": "rate limits"}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(e.Evidence)) {
		out = append(out, cmp.Or(names[key], key)+": "+cmp.Or(certainty[e.Evidence[key]], e.Evidence[key]))
	}
	return strings.Join(out, "; ")
}
