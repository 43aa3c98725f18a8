package nango

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// maxToken is how long a token may be that is pushed in.
const maxToken = 16 << 10

// importConnection answers POST /connections: it makes a connection of a credential that the app has already, or
// overwrites one.
func (a *api) importConnection(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	in := broker.ImportInput{
		Integration: o.text("provider_config_key", isIntegrationKey...),
		// Ids that could not be read again are not taken in.
		Key: deref(o.maybe("connection_id", isConnectionID...)),
	}
	in.Metadata = jsontext.Value("{}")
	if v, ok := o.take("metadata", jsontext.KindBeginObject, false); ok {
		in.Metadata = v
	}
	in.Config = o.importedConfig()
	in.WebhookURL = deref(o.webhookURL())
	in.EndUser = o.user(false)
	in.Tags = o.merged(in.EndUser, o.tags())
	unsupported := o.imported(&in)
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	if unsupported != "" {
		return invalidBody(broker.ErrNotSupported, "Credentials of type "+unsupported+" cannot be imported")
	}
	got, _, err := a.b.Import(r.Context(), who, in)
	if err != nil {
		return importFailed(err)
	}
	out, err := revealed(got, true) // what is shown is what was sent
	if err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusCreated, out)
}

// importFailed rewords what the broker finds wrong with an import.
func importFailed(err error) error {
	e := broker.AsError(err)
	switch {
	case errors.Is(e, broker.ErrTestFailed):
		return called(e, http.StatusBadRequest, "connection_test_failed")
	case e.Kind == broker.Invalid && (e.Field == "" || e.Field == "credentials.type"):
		return invalidBody(e, e.Msg)
	}
	return err
}

// importedConfig takes the connection config. It is free-form, but scopes, if given, are an array.
func (o *object) importedConfig() (config map[string]any) {
	raw, ok := o.take("connection_config", jsontext.KindBeginObject, false)
	if !ok {
		return nil
	}
	newObject(o.check, raw, o.at("connection_config")...).texts("oauth_scopes_override")
	return o.freely("connection_config", raw)
}

// freely decodes an object of any shape, which was taken from under that name.
func (o *object) freely(name string, raw jsontext.Value) (out map[string]any) {
	d := stdjson.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // numbers keep all their digits
	if err := d.Decode(&out); err != nil {
		o.add(codeType, wrongType("object", "something else"), o.at(name)...)
	}
	return out
}

// imported takes the credentials. It gives the type where that exists but cannot be imported.
func (o *object) imported(in *broker.ImportInput) (unsupported string) {
	c := o.object("credentials", true)
	if c == nil {
		return ""
	}
	kind := deref(c.maybe("type"))
	m := &broker.Material{Type: kind, Details: make(map[string]broker.Secret), Answer: broker.NewSecret(string(o.members["credentials"]))}
	switch kind {
	case typeOAuth2:
		m.Access = broker.NewSecret(c.text("access_token", atLeast(1), atMost(maxToken)))
		m.Refresh = broker.NewSecret(deref(c.maybe("refresh_token", atMost(maxToken))))
		m.ExpiresAt = c.expiry()
		c.override(m)
	case typeClient:
		m.Access = broker.NewSecret(c.text("token", atLeast(1), atMost(4096)))
		c.secret(m, "client_id", true, atLeast(1), atMost(255))
		c.secret(m, "client_secret", !c.has("client_private_key"), atLeast(1), atMost(2048))
		c.secret(m, "client_certificate", false, atMost(10_000))
		c.secret(m, "client_private_key", false, atMost(10_000))
		m.ExpiresAt = c.expiry()
	case typeBasic:
		c.secret(m, "username", true, atMost(1024))
		c.secret(m, "password", true, atMost(1024))
	case typeKey:
		m.Access = broker.NewSecret(c.text("apiKey", atLeast(1), atMost(1024)))
	case typeOAuth1:
		m.Access = broker.NewSecret(c.text("oauth_token", atLeast(1), atMost(2048)))
		c.secret(m, "oauth_token_secret", true, atLeast(1), atMost(2048))
	case typeTBA:
		m.Access = broker.NewSecret(c.text("token_id", atLeast(1), atMost(maxToken)))
		c.secret(m, "token_secret", true, atLeast(1), atMost(maxToken))
		c.override(m)
		if account, _ := in.Config["accountId"].(string); account == "" {
			o.add(codeType, "Invalid input: expected string, received undefined", "connection_config", "accountId")
		}
	case typeNone:
	case typeTwo, typeJWT, typeWSSE, typeBill:
		c.signIn(m)
	case typeAWS:
		c.role(m)
	case typeApp:
		c.secret(m, "app_id", true, atLeast(1), atMost(255))
		c.secret(m, "installation_id", true, atLeast(1), atMost(255))
		m.Answer = broker.Secret{}
	case typeCustom:
		c.secret(m, "app_id", true, atLeast(1), atMost(255))
		c.secret(m, "installation_id", true, atLeast(1), atMost(255))
		m.Answer = broker.Secret{}
		o.importedUser(in.Config, m)
	case "INSTALL_PLUGIN", "MCP_OAUTH2", "MCP_OAUTH2_GENERIC":
		return kind
	default:
		o.add(codeUnion, "Invalid input", "credentials", "type")
		return ""
	}
	c.done()
	in.Material = m
	return ""
}

// importedUser takes out of an exported connection's config what is a secret there, or was of use at that time alone: the
// credentials of the app's user go beside the installation's.
func (o *object) importedUser(config map[string]any, m *broker.Material) {
	for _, name := range []string{"userCredentials", "userCredentialsError", "pending", "pendingLog", "jwtToken"} {
		delete(config, name)
	}
	raw, ok := o.members["connection_config"]
	if !ok || raw.Kind() != jsontext.KindBeginObject {
		return
	}
	u := newObject(o.check, raw, o.at("connection_config")...).object("userCredentials", false)
	if u == nil {
		return
	}
	user := &broker.Material{
		Access: broker.NewSecret(u.text("access_token", atLeast(1), atMost(maxToken))), ExpiresAt: u.expiry(),
		Refresh: broker.NewSecret(deref(u.maybe("refresh_token", atMost(maxToken)))),
	}
	if answer, ok := u.take("raw", jsontext.KindBeginObject, false); ok {
		user.Answer = broker.NewSecret(string(answer))
	}
	m.SetUser(user)
}

// signIn takes what a credential is made of that tokens are made of. With a token it is taken as it is; without, it gets
// one. What we sign ourselves is signed anew: a token that somebody else signed would not be renewed in time.
func (o *object) signIn(m *broker.Material) {
	token := deref(o.maybe("token", atMost(maxToken)))
	refresh := deref(o.maybe("refresh_token", atMost(maxToken)))
	session := deref(o.maybe("session_id", atMost(maxToken)))
	end := o.expiry()
	answer, answered := o.take("raw", jsontext.KindBeginObject, false)
	switch m.Type {
	case typeTwo:
		m.Access, m.Refresh, m.ExpiresAt = broker.NewSecret(token), broker.NewSecret(refresh), end
	case typeBill:
		m.Access, m.ExpiresAt = broker.NewSecret(session), end
	}
	if m.Answer = (broker.Secret{}); answered {
		m.Answer = broker.NewSecret(string(answer))
	}
	read := (*object).anyTexts
	switch m.Type {
	case typeTwo:
		read = readTwoStep
	case typeJWT:
		read = readKey
	}
	for name, value := range read(o) {
		m.Details[name] = broker.NewSecret(value)
	}
}

// role takes which role is to be assumed. What a session of somebody else's consists of may be there, and is not used: it
// would be over soon, and nobody could tell whether the role lets us in.
func (o *object) role(m *broker.Material) {
	o.secret(m, "role_arn", true, atLeast(1), atMost(2048))
	for _, name := range []string{"region", "service", "external_id"} {
		o.secret(m, name, false, atMost(1224))
	}
	for _, name := range []string{"access_key_id", "secret_access_key", "session_token"} {
		o.maybe(name, atMost(maxToken))
	}
	o.expiry()
	o.take("raw", jsontext.KindBeginObject, false)
	m.Answer = broker.Secret{}
}

// override takes the end user's own client into the credential's details.
func (o *object) override(m *broker.Material) {
	if c := o.object("config_override", false); c != nil {
		c.secret(m, "client_id", false)
		c.secret(m, "client_secret", false)
		c.done()
	}
}

// secret takes one member into the credential's details.
func (o *object) secret(m *broker.Material, name string, required bool, rules ...rule) {
	if s, ok := o.textIf(name, required, rules); ok && s != "" {
		m.Details[name] = broker.NewSecret(s)
	}
}

// Forms of a date in text.
var dateForms = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", time.DateOnly}

// expiry takes the end of a token. Absent or null: unknown.
func (o *object) expiry() time.Time { return o.date("expires_at") }

// date takes a date: ISO text, or milliseconds or seconds since 1970. Absent or null: the zero time.
func (o *object) date(name string) time.Time {
	o.taken[name] = true
	v, ok := o.members[name]
	if !ok || v.Kind() == jsontext.KindNull {
		return time.Time{}
	}
	switch v.Kind() {
	case jsontext.KindNumber:
		if t, ok := moment(v.String()); ok {
			return t
		}
	case jsontext.KindString:
		s := unquote(v)
		for _, form := range dateForms {
			if t, err := time.Parse(form, s); err == nil {
				return t.UTC()
			}
		}
	}
	o.add(codeType, "Invalid input: expected a date as ISO text or in milliseconds since 1970", o.at(name)...)
	return time.Time{}
}

// lastMoment is the end of the year 9999, in milliseconds.
const lastMoment = 253_402_300_799_999

// moment reads a number of milliseconds. One that would end in 1971 or before is a number of seconds: no token is that
// old.
func moment(s string) (t time.Time, ok bool) {
	n, err := strconv.ParseFloat(s, 64)
	if ok = err == nil && n > 0 && n <= lastMoment; !ok {
		return time.Time{}, false
	}
	if t = time.UnixMilli(int64(n)).UTC(); t.Year() <= 1971 {
		t = time.UnixMilli(int64(n * 1000)).UTC()
	}
	return t, true
}
