package nango

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// The types of credentials that have a shape of their own here.
const (
	typeOAuth1 = "OAUTH1"
	typeOAuth2 = "OAUTH2"
	typeClient = "OAUTH2_CC"
	typeBasic  = "BASIC"
	typeKey    = "API_KEY"
	typeTBA    = "TBA"
	typeApp    = "APP"
	typeCustom = "CUSTOM"
	typeNone   = "NONE"
)

// revealed renders a connection with its credentials.
func revealed(r *broker.Revealed, refresh bool) (fullConnection, error) {
	filter := withoutRefreshTokens
	if refresh {
		filter = encoded
	}
	credentials, err := filter(credentialsOf(r.Material))
	if err != nil {
		return fullConnection{}, err
	}
	config, err := filter(r.Config)
	if err != nil {
		return fullConnection{}, err
	}
	return full(r.Connection, r.Integration, config, credentials), nil
}

// credentialsOf gives a credential the shape that its type has in this API. It is the only place here where secrets
// become text.
func credentialsOf(m *broker.Material) map[string]any {
	out := make(map[string]any)
	if m == nil || m.Type == typeNone {
		return out
	}
	kind := typeOf(m)
	out["type"] = kind
	detail := func(names ...string) {
		for _, name := range names {
			if v, ok := m.Details[name]; ok {
				out[name] = v.Reveal()
			}
		}
	}
	switch kind {
	case typeBasic:
		out["username"], out["password"] = "", ""
		detail("username", "password")
		return out
	case typeKey:
		out["apiKey"] = m.Access.Reveal()
		return out
	case typeOAuth1:
		out["oauth_token"] = m.Access.Reveal()
		detail("oauth_token_secret")
	case typeOAuth2, typeApp:
		out["access_token"] = m.Access.Reveal()
		if override := overrideOf(m); len(override) > 0 {
			out["config_override"] = override
		}
	case typeClient:
		out["token"] = m.Access.Reveal()
		detail("client_id", "client_secret", "client_certificate", "client_private_key")
	default:
		out["token"] = m.Access.Reveal()
		for name := range m.Details {
			if !strings.Contains(name, ".") { // dotted ones belong elsewhere, as connection config does
				detail(name)
			}
		}
	}
	if !m.Refresh.IsZero() {
		out["refresh_token"] = m.Refresh.Reveal()
	}
	if !m.ExpiresAt.IsZero() {
		out["expires_at"] = stamp(m.ExpiresAt)
	}
	out["raw"] = rawOf(m)
	return out
}

// typeOf is how callers know the credential: what an MCP server gives is to them a token of OAuth 2.
func typeOf(m *broker.Material) string {
	if strings.HasPrefix(m.Type, "MCP_OAUTH2") {
		return typeOAuth2
	}
	return m.Type
}

// overrideOf gives the end user's own client, if the grant was made with one.
func overrideOf(m *broker.Material) map[string]string {
	out := make(map[string]string)
	for _, name := range []string{"client_id", "client_secret"} {
		if v, ok := m.Details[name]; ok {
			out[name] = v.Reveal()
		}
	}
	return out
}

// rawOf gives the provider's last answer, or what was imported.
func rawOf(m *broker.Material) jsontext.Value {
	if v := jsontext.Value(m.Answer.Reveal()); v.IsValid() {
		return v
	}
	return jsontext.Value("{}")
}

// encoded gives v as JSON, an empty object for nothing.
func encoded(v map[string]any) (jsontext.Value, error) {
	if v == nil {
		return jsontext.Value("{}"), nil
	}
	out, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return nil, broker.ErrInternal.Because(err)
	}
	return out, nil
}

// withoutRefreshTokens gives v as JSON without any member, at any depth, whose name reads "refresh token" once
// everything but letters is gone.
func withoutRefreshTokens(v map[string]any) (jsontext.Value, error) {
	raw, err := encoded(v)
	if err != nil {
		return nil, err
	}
	out, err := strip(raw)
	if err != nil {
		return nil, broker.ErrInternal.Because(err)
	}
	return out, nil
}

// strip walks the text once, whatever a provider has nested in it, and copies all but those members. Numbers keep all
// their digits.
func strip(raw jsontext.Value) (jsontext.Value, error) {
	var out bytes.Buffer
	d, e := jsontext.NewDecoder(bytes.NewReader(raw)), jsontext.NewEncoder(&out)
	for {
		token, err := d.ReadToken()
		if errors.Is(err, io.EOF) {
			return bytes.TrimSpace(out.Bytes()), nil
		}
		if err != nil {
			return nil, err
		}
		if isName(d) && isRefreshToken(token.String()) {
			err = d.SkipValue()
		} else {
			err = e.WriteToken(token)
		}
		if err != nil {
			return nil, err
		}
	}
}

// isName reports whether the token that was just read is a member's name: names and values take turns.
func isName(d *jsontext.Decoder) bool {
	kind, n := d.StackIndex(d.StackDepth())
	return kind == jsontext.KindBeginObject && n%2 == 1
}

func isRefreshToken(name string) bool {
	letters := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return -1
	}, name)
	return letters == "refreshtoken"
}
