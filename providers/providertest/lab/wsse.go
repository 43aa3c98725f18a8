package lab

import (
	"crypto/sha1" //nolint:gosec // what the protocol has
	"encoding/base64"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// usernameToken is a token that is made of a user's name and password, as a header for HTTP has it (OASIS WSS UsernameToken
// Profile 1.1).
// https://dev.emarsys.com/docs/core-api-reference/fdbb8c3ce5e04-authentication
var usernameToken = regexp.MustCompile(`^UsernameToken Username="([^"]+)", PasswordDigest="([^"]+)", Nonce="([0-9a-f]{32})", Created="([^"]+)"$`)

// usernameTokens lists those of a request.
func usernameTokens(q *request) []string {
	for _, name := range slices.Sorted(maps.Keys(q.header)) {
		if v := q.header.Get(name); strings.HasPrefix(v, "UsernameToken ") {
			return []string{v}
		}
	}
	return []string{"no-token-at-all"}
}

// digests says what is wrong with a token of a user's.
func digests(text string, u *User) string {
	m := usernameToken.FindStringSubmatch(text)
	if m == nil {
		return "it is no UsernameToken"
	}
	sum := sha1.Sum([]byte(m[3] + m[4] + u.Credentials["password"])) //nolint:gosec // as above
	switch {
	case m[1] != u.Credentials["username"]:
		return "it is of another user"
	case m[2] != base64.StdEncoding.EncodeToString([]byte(hex.EncodeToString(sum[:]))):
		return "its digest is not of that password, nonce and time"
	}
	return ""
}

// made is when a token was; zero: it does not say.
func made(text string) time.Time {
	if m := usernameToken.FindStringSubmatch(text); m != nil {
		if at, err := time.Parse(time.RFC3339, m[4]); err == nil {
			return at
		}
	}
	return time.Time{}
}
