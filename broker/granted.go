package broker

import (
	"slices"
	"strings"
)

// MissingScopes are the scopes that were asked for and not granted, in the words in which they were asked for; nil where
// none is, or where it is not known what was granted.
func (c *Connection) MissingScopes() []string { return missingScopes(c.AskedScopes, c.Scopes) }

// missingScopes is the one place where scopes are compared. Providers write granted scopes in their own way: in another
// case, with the address of the API in front, or with the wider scope in place of one that it holds. What could be the same
// scope is, so that nobody is told of a lack that there is not.
func missingScopes(asked, granted []string) []string {
	if granted == nil {
		return nil
	}
	var out []string
	for _, a := range asked {
		covers := func(g string) bool { return coversScope(g, a) }
		if !impliedScope(a) && !slices.ContainsFunc(granted, covers) && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// impliedScope reports whether a scope asks for something about the answer and not for access: servers follow it or do not,
// and leave it out of what they say was granted (OpenID Connect Core sections 3.1.2.1 and 11).
func impliedScope(s string) bool {
	switch strings.ToLower(s) {
	case "openid", "offline_access", "offline.access", "offline", "refresh_token":
		return true
	}
	return false
}

// coversScope reports whether a granted scope is the one that was asked for, or holds it.
func coversScope(granted, asked string) bool {
	g, a := strings.TrimSuffix(strings.ToLower(granted), "/"), strings.TrimSuffix(strings.ToLower(asked), "/")
	switch {
	case g == "" || a == "":
		return a == ""
	case g == a:
		return true
	case strings.HasSuffix(g, "/"+a), strings.HasSuffix(a, "/"+g): // https://graph.microsoft.com/Mail.Read is Mail.Read
		return true
	case strings.HasSuffix(g, "/userinfo."+a): // Google's names for profile and email
		return true
	}
	return strings.HasPrefix(a, g+":") // user holds user:email
}

// grantedAsAsked notes that the scopes are those that were asked for, which is what an answer without any says (RFC 6749
// section 5.1).
func (m *making) grantedAsAsked() {
	if m.material.Scopes == nil && len(m.asked) > 0 {
		m.material.Scopes = slices.Clone(m.asked)
	}
}
