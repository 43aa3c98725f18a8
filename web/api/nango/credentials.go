package nango

import (
	"bytes"
	"errors"
	"io"
	"maps"
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
	typeTwo    = "TWO_STEP"
	typeJWT    = "JWT"
	typeWSSE   = "SIGNATURE"
	typeBill   = "BILL"
	typeAWS    = "AWS_SIGV4"
)

// revealed renders a connection with its credentials.
func revealed(r *broker.Revealed, refresh bool) (fullConnection, error) {
	filter := withoutRefreshTokens
	if refresh {
		filter = encoded
	}
	shown := credentialsOf(r.Material)
	shownConfig := withUser(r.Config, r.Facts, r.Material)
	if !refresh && shown["type"] == typeTwo {
		raw, err := withoutText(rawOf(r.Material), r.Material.Refresh.Reveal())
		if err != nil {
			return fullConnection{}, err
		}
		shown["raw"] = raw
	}
	credentials, err := filter(shown)
	if err != nil {
		return fullConnection{}, err
	}
	config, err := filter(shownConfig)
	if err != nil {
		return fullConnection{}, err
	}
	return full(r.Connection, r.Integration, config, credentials), nil
}

// withUser lays over the config of a connection whose app end users install and sign in to what this API has there: the
// user's credentials, and whether the installation is waited for.
func withUser(config map[string]any, f *broker.Facts, m *broker.Material) map[string]any {
	if f == nil || f.Mode != typeCustom {
		return config
	}
	out := make(map[string]any, len(config)+2)
	maps.Copy(out, config)
	if f.AwaitsInstallation(config) {
		out["pending"] = true
	}
	user := m.User()
	if user == nil {
		return out
	}
	if _, lost := m.UserLost(); lost != "" {
		out["userCredentialsError"] = lost
		return out
	}
	user.Type = typeOAuth2
	out["userCredentials"] = credentialsOf(user)
	return out
}

// credentialsOf gives a credential the shape that its type has in this API. It and withUser are the only places here where
// secrets become text.
func credentialsOf(m *broker.Material) map[string]any {
	out := make(map[string]any)
	if m == nil || m.Type == typeNone {
		return out
	}
	kind := typeOf(m)
	if m.Type == typeCustom && kind == typeApp { // the user's stands elsewhere
		app := *m
		app.Refresh, m = broker.Secret{}, &app
	}
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
	case typeTBA:
		out["token_id"] = m.Access.Reveal()
		detail("token_secret")
		if override := overrideOf(m); len(override) > 0 {
			out["config_override"] = override
		}
		return out
	case typeOAuth2, typeApp:
		out["access_token"] = m.Access.Reveal()
		if override := overrideOf(m); len(override) > 0 {
			out["config_override"] = override
		}
	case typeClient:
		out["token"] = m.Access.Reveal()
		detail("client_id", "client_secret", "client_certificate", "client_private_key")
	case typeBill:
		out["session_id"] = m.Access.Reveal()
		detail("username", "password", "organization_id", "dev_key", "user_id")
	case typeAWS:
		out["session_token"] = m.Access.Reveal()
		detail("role_arn", "region", "service", "external_id", "access_key_id", "secret_access_key")
	default:
		for name := range m.Details {
			if !strings.Contains(name, ".") { // dotted ones belong elsewhere, as connection config does
				detail(name)
			}
		}
		out["type"], out["token"] = kind, m.Access.Reveal()
	}
	if !m.Refresh.IsZero() {
		out["refresh_token"] = m.Refresh.Reveal()
	}
	if !m.ExpiresAt.IsZero() {
		out["expires_at"] = stamp(m.ExpiresAt)
	}
	if kind != typeJWT && kind != typeWSSE { // nobody answered anything
		out["raw"] = rawOf(m)
	}
	return out
}

// typeOf is how callers know the credential: what an MCP server gives is to them a token of OAuth 2, and so is what a user
// gives whose app is not installed yet.
func typeOf(m *broker.Material) string {
	if m.Type == typeCustom && m.Installed() {
		return typeApp
	}
	if m.Type == typeCustom || strings.HasPrefix(m.Type, "MCP_OAUTH2") {
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

// withoutText gives an answer without the members whose value is a text: some providers have names of their own for a
// refresh token.
func withoutText(raw jsontext.Value, text string) (jsontext.Value, error) {
	if text == "" {
		return raw, nil
	}
	out, err := without(raw, func(_ string, v jsontext.Value) bool { return v != nil && unquote(v) == text })
	if err != nil {
		return nil, broker.ErrInternal.Because(err)
	}
	return out, nil
}

func strip(raw jsontext.Value) (jsontext.Value, error) {
	return without(raw, func(name string, _ jsontext.Value) bool { return isRefreshToken(name) })
}

// without walks the text once, whatever a provider has nested in it, and copies all but some members. Numbers keep all
// their digits. drop is asked about each member's name, and about its text if it has one.
func without(raw jsontext.Value, drop func(name string, text jsontext.Value) bool) (jsontext.Value, error) {
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
		if isName(d) {
			err = copyMember(e, d, token.String(), drop)
		} else {
			err = e.WriteToken(token)
		}
		if err != nil {
			return nil, err
		}
	}
}

// copyMember copies a member whose name has just been read, or the beginning of its value, unless it is to be dropped.
func copyMember(e *jsontext.Encoder, d *jsontext.Decoder, name string, drop func(name string, text jsontext.Value) bool) error {
	var text jsontext.Value
	if d.PeekKind() == jsontext.KindString {
		v, err := d.ReadValue()
		if err != nil {
			return err
		}
		text = v
	}
	switch dropped := drop(name, text); {
	case dropped && text == nil:
		return d.SkipValue()
	case dropped:
		return nil
	}
	if err := e.WriteToken(jsontext.String(name)); err != nil || text == nil {
		return err
	}
	return e.WriteValue(text)
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
