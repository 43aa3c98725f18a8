package nango

import (
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
	out["type"] = m.Type
	detail := func(names ...string) {
		for _, name := range names {
			if v, ok := m.Details[name]; ok {
				out[name] = v.Reveal()
			}
		}
	}
	switch m.Type {
	case typeBasic:
		out["username"], out["password"] = "", ""
		detail("username", "password")
		return out
	case typeKey:
		out["apiKey"] = m.Access.Reveal()
		return out
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

// strip works on the text, so that numbers keep all their digits.
func strip(raw jsontext.Value) (jsontext.Value, error) {
	switch raw.Kind() {
	case jsontext.KindBeginObject:
		var members map[string]jsontext.Value
		if err := json.Unmarshal(raw, &members); err != nil {
			return nil, err
		}
		for name, v := range members {
			if isRefreshToken(name) {
				delete(members, name)
				continue
			}
			stripped, err := strip(v)
			if err != nil {
				return nil, err
			}
			members[name] = stripped
		}
		return json.Marshal(members, json.Deterministic(true))
	case jsontext.KindBeginArray:
		var elements []jsontext.Value
		if err := json.Unmarshal(raw, &elements); err != nil {
			return nil, err
		}
		for i, v := range elements {
			stripped, err := strip(v)
			if err != nil {
				return nil, err
			}
			elements[i] = stripped
		}
		return json.Marshal(elements)
	}
	return raw, nil
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
