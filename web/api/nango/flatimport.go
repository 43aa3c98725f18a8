package nango

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// importFlat answers POST /connection, the older form of the import: the credential's parts stand beside everything else,
// what is not known is passed over, the provider is not asked, and the answer is the request. The parts are put into the
// form of POST /connections and read by the same code.
func (a *api) importFlat(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	o, err := body(r)
	if err != nil {
		return err
	}
	mode, err := a.flatMode(r, who, o)
	if err != nil {
		return err
	}
	in := broker.ImportInput{
		Integration: o.textOf("provider_config_key"), Key: deref(o.maybe("connection_id", isConnectionID...)),
		Metadata: jsontext.Value("{}"), WebhookURL: deref(o.webhookURL()), Unverified: true,
	}
	if v, ok := o.take("metadata", jsontext.KindBeginObject, false); ok {
		in.Metadata = v
	}
	in.Config = o.flatConfig()
	unsupported, err := o.flatCredentials(mode, a.b.Now(), &in)
	if err != nil {
		return err
	}
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
	if o.members["connection_id"], err = quote(got.Connection.Key); err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusCreated, o.members)
}

// flatMode gives the mode of the integration's provider, by which the parts are read.
func (a *api) flatMode(r *http.Request, who broker.Actor, o *object) (string, error) {
	key := o.textOf("provider_config_key")
	if key == "" {
		return "", lacking("missing_provider_config", "provider_config_key is missing")
	}
	_, facts, err := a.b.Integration(r.Context(), broker.System(who.Environment), key)
	switch {
	case err != nil:
		return "", missing(err, http.StatusBadRequest, "unknown_provider_config", "")
	case facts == nil:
		return "", called(broker.ErrNotSupported.Saying("The provider left the catalogue"), http.StatusNotFound, "unknown_provider_template")
	}
	return facts.Mode, nil
}

// lacking refuses a flat import for a part that is not there, or not what it must be.
func lacking(code, message string) error {
	return &refusal{cause: broker.ErrInvalidRequest, status: http.StatusBadRequest, code: code, message: message}
}

// failing is the same where callers are used to a failure of the server.
func failing(code, message string) error {
	return &refusal{cause: broker.ErrInvalidRequest, status: http.StatusInternalServerError, code: code, message: message}
}

// textOf gives a member that is a text, and "" for every other.
func (o *object) textOf(name string) string {
	if v, ok := o.members[name]; ok && v.Kind() == jsontext.KindString {
		return unquote(v)
	}
	return ""
}

// blank reports whether a member is absent, null, false, zero or empty: older callers send any of these for nothing.
func (o *object) blank(name string) bool {
	v, ok := o.members[name]
	return !ok || slices.Contains([]string{"null", "false", "0", `""`}, string(v))
}

// flatConfig takes the connection config. Scopes may be a text with commas here.
func (o *object) flatConfig() map[string]any {
	raw, ok := o.take("connection_config", jsontext.KindBeginObject, false)
	if !ok {
		return nil
	}
	config := o.freely("connection_config", raw)
	if s, ok := config["oauth_scopes_override"].(string); ok {
		config["oauth_scopes_override"] = splitKeys(s)
	}
	return config
}

// flatPart is a member of a flat body and where the credential has it.
type flatPart struct{ flat, part string }

// flatOverrides name the end user's own client.
var flatOverrides = []flatPart{{"oauth_client_id_override", "client_id"}, {"oauth_client_secret_override", "client_secret"}}

// flatParts are the members that each mode's credential is made of.
var flatParts = map[string][]flatPart{
	typeOAuth2: {{"access_token", "access_token"}, {"refresh_token", "refresh_token"}},
	typeClient: append([]flatPart{{"access_token", "token"}}, flatOverrides...),
	typeOAuth1: {{"oauth_token", "oauth_token"}, {"oauth_token_secret", "oauth_token_secret"}},
	typeBasic:  {{"username", "username"}, {"password", "password"}},
	typeKey:    {{"api_key", "apiKey"}},
	typeApp:    {{"app_id", "app_id"}, {"installation_id", "installation_id"}},
	typeTBA:    {{"token_id", "token_id"}, {"token_secret", "token_secret"}},
	typeNone:   nil,
}

// flatCredentials takes the credential's parts. It gives the type where that cannot be imported.
func (o *object) flatCredentials(mode string, now time.Time, in *broker.ImportInput) (unsupported string, err error) {
	parts, known := flatParts[mode]
	if !known {
		return "", failing("unhandled_unknown_oauth_type", "Connections of mode "+mode+" cannot be imported")
	}
	if err := o.complete(mode, in.Config); err != nil {
		return "", err
	}
	c := map[string]jsontext.Value{"type": jsontext.Value(strconv.Quote(mode))}
	o.move(c, parts)
	if mode == typeBasic && o.blank("password") {
		c["password"] = jsontext.Value(`""`)
	}
	if mode == typeApp { // later renewals look for them there
		in.Config = o.withApp(in.Config)
	}
	if mode == typeOAuth2 || mode == typeTBA {
		override := make(map[string]jsontext.Value)
		o.move(override, flatOverrides)
		if len(override) > 0 {
			if c["config_override"], err = encodedMembers(override); err != nil {
				return "", err
			}
		}
	}
	if mode == typeOAuth2 || mode == typeClient {
		if err := o.flatExpiry(c, now); err != nil {
			return "", err
		}
	}
	if unsupported, err = o.readFlat(c, parts, in); err != nil || unsupported != "" || in.Material == nil {
		return unsupported, err
	}
	if raw, ok := o.take("raw", jsontext.KindBeginObject, false); ok {
		in.Material.Answer = broker.NewSecret(string(raw))
	}
	return "", nil
}

// complete refuses a body that lacks what its mode cannot do without, each in its own words.
func (o *object) complete(mode string, config map[string]any) error {
	for _, need := range []struct {
		mode, member, code string
		answer             func(code, message string) error
	}{
		{typeOAuth2, "access_token", "missing_access_token", lacking},
		{typeClient, "access_token", "missing_access_token", lacking},
		{typeOAuth1, "oauth_token", "unhandled_missing_oauth_token", failing},
		{typeOAuth1, "oauth_token_secret", "unhandled_missing_oauth_token_secret", failing},
		{typeBasic, "username", "missing_basic_username", lacking},
		{typeKey, "api_key", "missing_api_key", lacking},
		{typeApp, "app_id", "missing_app_id", lacking},
		{typeApp, "installation_id", "missing_installation_id", lacking},
	} {
		if need.mode == mode && o.blank(need.member) {
			return need.answer(need.code, need.member+" is missing")
		}
	}
	if account, _ := config["accountId"].(string); mode == typeTBA && account == "" {
		return lacking("missing_account_id", "connection_config.accountId is missing")
	}
	if mode == typeOAuth2 && o.blank("expires_at") && o.blank("expires_in") && string(o.members["no_expiration"]) != "true" {
		return lacking("missing_expires_at", "expires_at is missing; say no_expiration where there is none")
	}
	return nil
}

// move puts members under the names that the credential has for them.
func (o *object) move(to map[string]jsontext.Value, parts []flatPart) {
	for _, p := range parts {
		if v, ok := o.members[p.flat]; ok && v.Kind() != jsontext.KindNull {
			to[p.part] = v
		}
	}
}

// withApp lays the app's ids over the connection config.
func (o *object) withApp(config map[string]any) map[string]any {
	for _, name := range []string{"app_id", "installation_id"} {
		setIn(&config, name, any(cmp.Or(o.textOf(name), string(o.members[name])))) // a number stands for itself
	}
	return config
}

// longestLife bounds how long a token can be said to live, in seconds: ten years.
const longestLife = 10 * 365 * 24 * 60 * 60

// flatExpiry takes the end of a token, or its life.
func (o *object) flatExpiry(c map[string]jsontext.Value, now time.Time) error {
	switch {
	case string(o.members["no_expiration"]) == "true":
	case !o.blank("expires_at"):
		c["expires_at"] = o.members["expires_at"]
	case !o.blank("expires_in"):
		text := string(o.members["expires_in"])
		if s := o.textOf("expires_in"); s != "" {
			text = s
		}
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || !(seconds > 0 && seconds <= longestLife) { // NaN is neither
			return lacking("invalid_expires_at", "expires_in is no number of seconds")
		}
		end := now.Add(time.Duration(seconds * float64(time.Second)))
		c["expires_at"] = jsontext.Value(strconv.Quote(end.Format(time.RFC3339Nano)))
	}
	return nil
}

// readFlat reads the credential that was put together, and tells what is wrong with it by the names of the flat body.
func (o *object) readFlat(c map[string]jsontext.Value, parts []flatPart, in *broker.ImportInput) (unsupported string, err error) {
	credentials, err := encodedMembers(c)
	if err != nil {
		return "", err
	}
	wrapped := newObject(&check{}, append(append(jsontext.Value(`{"credentials":`), credentials...), '}'))
	unsupported = wrapped.imported(in)
	for _, i := range wrapped.issues {
		name := i.Path[len(i.Path)-1]
		if name == "expires_at" {
			return "", lacking("invalid_expires_at", "expires_at is no date")
		}
		for _, p := range slices.Concat(parts, flatOverrides) {
			if p.part == name {
				name = p.flat
				break
			}
		}
		o.add(i.Code, i.Message, name)
	}
	return unsupported, nil
}

func encodedMembers(m map[string]jsontext.Value) (jsontext.Value, error) {
	out, err := json.Marshal(m, json.Deterministic(true))
	if err != nil {
		return nil, broker.ErrInternal.Because(err)
	}
	return out, nil
}

func quote(s string) (jsontext.Value, error) {
	out, err := jsontext.AppendQuote(nil, s)
	if err != nil {
		return nil, broker.ErrInternal.Because(err)
	}
	return out, nil
}
