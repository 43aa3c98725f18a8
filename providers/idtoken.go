package providers

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// codeIDToken is the code of an answer whose ID token is for somebody else.
const codeIDToken = "id_token_invalid"

// clockSkew is how far a provider's clock may be from ours.
const clockSkew = time.Minute

// checkIDToken refuses an answer whose ID token was made for another request, another client, or another time: then code
// and browser were brought together by somebody (OpenID Connect Core section 3.1.3.7). The signature is not checked, which
// that section allows for tokens that came straight from the token endpoint; nor is anything else taken from the token. A
// provider that leaves a claim out is not refused for it.
func checkIDToken(answer jsontext.Value, clientID, nonce string, now time.Time) error {
	raw := text(get(answer, "id_token"))
	parts := strings.Split(raw, ".")
	if raw == "" || len(parts) != 3 {
		return nil // none, or one that is encrypted
	}
	refused := &broker.ProviderError{Class: broker.Transient, Code: codeIDToken}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	claims := jsontext.Value(payload)
	if err != nil || !claims.IsValid() || claims.Kind() != '{' {
		return refused
	}
	if n := text(get(claims, "nonce")); n != "" && n != nonce {
		return refused
	}
	audience := get(claims, "aud")
	var many []string
	switch audience.Kind() {
	case '"':
		many = []string{text(audience)}
	case '[':
		if json.Unmarshal(audience, &many) != nil {
			return refused
		}
	}
	if many != nil && !slices.Contains(many, clientID) {
		return refused
	}
	var exp float64
	if v := get(claims, "exp"); v.Kind() == '0' && json.Unmarshal(v, &exp) == nil && now.Add(-clockSkew).Unix() > int64(exp) {
		return refused
	}
	return nil
}
