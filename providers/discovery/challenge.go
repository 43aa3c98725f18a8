package discovery

import (
	"net/http"
	"strings"
)

// Challenge is what a server says of the token that it wants.
type Challenge struct {
	Metadata string   // where the metadata of the protected resource is; empty: it does not say
	Scopes   []string // that the request needs; nil: it does not say
	Error    string   // such as insufficient_scope; empty: there was no token
}

// maxChallenge bounds what is read of an answer's challenges, in bytes.
const maxChallenge = 8 << 10

// ReadChallenge gives the challenge for a bearer token of an answer. ok is false where there is none, or where it cannot be
// read in one way alone.
func ReadChallenge(h http.Header) (c Challenge, ok bool) {
	for _, value := range h.Values("WWW-Authenticate") {
		if len(value) > maxChallenge {
			return Challenge{}, false
		}
		params, found, valid := bearerIn(value)
		switch {
		case !valid:
			return Challenge{}, false
		case !found:
			continue
		}
		return Challenge{Metadata: params["resource_metadata"], Scopes: Scopes(strings.Fields(params["scope"])), Error: params["error"]}, true
	}
	return Challenge{}, false
}

// bearerIn finds the parameters of the first Bearer challenge (RFC 9110 section 11.6.1). A parameter may stand once.
func bearerIn(value string) (params map[string]string, found, valid bool) {
	items, ok := splitList(value)
	if !ok {
		return nil, false, false
	}
	var current map[string]string // of the challenge that is being read
	for _, item := range items {
		name, v, isParam := parameter(item)
		if !isParam {
			scheme, rest, _ := strings.Cut(item, " ")
			rest = strings.TrimSpace(rest)
			if !isToken(scheme) {
				return nil, false, false
			}
			current = make(map[string]string)
			if !found && strings.EqualFold(scheme, "Bearer") {
				params, found = current, true
			}
			if name, v, isParam = parameter(rest); !isParam {
				if rest != "" && !isToken68(rest) {
					return nil, false, false
				}
				continue
			}
		}
		name = strings.ToLower(name)
		if _, twice := current[name]; twice || current == nil {
			return nil, false, false
		}
		current[name] = v
	}
	return params, found, true
}

// splitList splits a field at the commas that are not in quoted strings, and leaves empty elements out.
func splitList(value string) (items []string, ok bool) {
	begin, quoted := 0, false
	add := func(item string) {
		if item = strings.Trim(item, " \t"); item != "" {
			items = append(items, item)
		}
	}
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			add(value[begin:i])
			begin = i + 1
		}
	}
	add(value[begin:])
	return items, !quoted
}

// parameter reads name=value. A value without quotes that is no token is taken too: some servers write addresses so, and
// there is one way alone to read them.
func parameter(item string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(item, "=")
	name, value = strings.TrimRight(name, " \t"), strings.TrimLeft(value, " \t")
	if !ok || !isToken(name) || value == "" {
		return "", "", false
	}
	if value[0] != '"' {
		return name, value, value[0] != '=' && !strings.ContainsFunc(value, notInBareValue)
	}
	value, ok = unquote(value)
	return name, value, ok
}

func notInBareValue(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }

// unquote reads a quoted string (RFC 9110 section 5.6.4) that is all there is.
func unquote(s string) (string, bool) {
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return out.String(), i == len(s)-1
		case c == '\\' && i+1 < len(s):
			i++
			out.WriteByte(s[i])
		case c < ' ' && c != '\t', c == 0x7f:
			return "", false
		default:
			out.WriteByte(c)
		}
	}
	return "", false
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// isToken68 reports whether s is the other thing that may follow a scheme (RFC 9110 section 11.2).
func isToken68(s string) bool {
	return !strings.ContainsFunc(strings.TrimRight(s, "="), func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("-._~+/", r)
	})
}

func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// The bounds of what strangers may have asked for.
const (
	maxScopes = 100
	maxScope  = 128
)

// Scopes gives those of a list that can be scopes (RFC 6749 section 3.3), each once, as many as anybody means.
func Scopes(in []string) []string {
	var out []string
	seen := make(map[string]bool, min(len(in), maxScopes))
	for _, s := range in {
		if len(out) == maxScopes {
			break
		}
		if s == "" || len(s) > maxScope || seen[s] || strings.ContainsFunc(s, notInScope) {
			continue
		}
		seen[s] = true
		out = append(out, s)
	}
	return out
}

func notInScope(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
