package kit

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/broker"
)

// Keeper tells whose a credential is. [broker.Broker] is the one in the product.
type Keeper interface {
	Authenticate(key string) (broker.Actor, error)
	AuthenticateSession(ctx context.Context, token string) (broker.Actor, error)
}

// Causes of a refused credential, for surfaces whose contract tells them apart. None of them depends on which keys exist.
var (
	ErrNoToken         = errors.New("no connect session token was sent")
	ErrNoCredential    = errors.New("no credential was sent")
	ErrEmptyCredential = errors.New("the credential is empty or sent twice")
	ErrNotAKey         = errors.New("the text cannot be an API key")
	ErrNotASession     = errors.New("the text cannot be a connect session token")
)

// SessionPrefix is how every connect session's token begins.
const SessionPrefix = "nango_connect_session_"

const (
	keyPrefix      = "coat_" // of the API keys that we make; preset ones have any form
	minKeyLength   = 16
	sessionHexSize = 64
)

// Doors makes the ways in for callers with a credential in a header.
type Doors struct {
	Keeper Keeper
	// Header is where the credential stands, and nothing else with it; empty: in Authorization.
	Header string
}

// Key lets API keys in. Where scopes are named, a key must hold one of them; where none are, it must be an environment's.
func (d Doors) Key(scopes ...broker.Scope) Auth {
	return Auth{Name: "key" + names(scopes), Check: func(r *http.Request) (broker.Actor, error) {
		text, err := d.credential(r)
		if err != nil {
			return broker.Actor{}, err
		}
		return d.key(text, scopes)
	}}
}

// Session lets connect sessions in.
func (d Doors) Session() Auth {
	return Auth{Name: "session", Pages: true, Check: func(r *http.Request) (broker.Actor, error) {
		text, err := d.credential(r)
		if err != nil {
			return broker.Actor{}, err
		}
		return d.session(r.Context(), text)
	}}
}

// ParamSession is the query parameter of a connect session's token, where a browser client has no header to send.
const ParamSession = "connect_session_token"

// Query lets connect sessions in whose token stands in the query, as the browser client sends it: it opens a popup,
// which cannot have a header. Errors: session_invalid, deprecated_authentication for a public key, credential_in_url for
// an API key.
func (d Doors) Query() Auth {
	return Auth{Name: "session in query", Pages: true, Limited: true, Check: func(r *http.Request) (broker.Actor, error) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return broker.Actor{}, broker.ErrInvalidQuery
		}
		tokens := query[ParamSession]
		switch {
		case len(tokens) == 0 && (query.Has("public_key") || query.Has("hmac")):
			return broker.Actor{}, broker.ErrDeprecatedAuth
		case len(tokens) == 0:
			return broker.Actor{}, broker.ErrUnauthorized.Saying("the connect session's token is missing").Because(ErrNoToken)
		case len(tokens) > 1:
			return broker.Actor{}, broker.ErrSessionInvalid.Because(ErrNotASession)
		}
		query.Del(ParamSession)
		if err := NoCredentialInURL(&url.URL{RawQuery: query.Encode()}); err != nil || strings.HasPrefix(tokens[0], keyPrefix) {
			return broker.Actor{}, broker.ErrCredentialInURL
		}
		return d.session(r.Context(), tokens[0])
	}}
}

// Either lets both in. Scopes bind keys alone: a session may do what it was made for.
func (d Doors) Either(scopes ...broker.Scope) Auth {
	return Auth{Name: "session or key" + names(scopes), Pages: true, Check: func(r *http.Request) (broker.Actor, error) {
		text, err := d.credential(r)
		if err != nil {
			return broker.Actor{}, err
		}
		if strings.HasPrefix(text, SessionPrefix) {
			return d.session(r.Context(), text)
		}
		return d.key(text, scopes)
	}}
}

// HeaderOwner names the end user on whose behalf an app's backend asks.
const HeaderOwner = "X-Owner-Id"

// maxOwner bounds an end user's id, in characters.
const maxOwner = 255

// User lets sessions in, which belong to an end user, and API keys on behalf of the one in [HeaderOwner], if there is one.
// Scopes bind keys alone.
func (d Doors) User(scopes ...broker.Scope) Auth {
	either := d.Either(scopes...)
	return Auth{Name: "user: " + either.Name, Pages: true, Check: func(r *http.Request) (broker.Actor, error) {
		who, err := either.Check(r)
		if err != nil {
			return who, err
		}
		return OnBehalf(r, who)
	}}
}

// OnBehalf reads [HeaderOwner]. Errors: invalid_request, also where a session tries to speak for somebody.
func OnBehalf(r *http.Request, who broker.Actor) (broker.Actor, error) {
	values := r.Header.Values(HeaderOwner)
	if len(values) == 0 {
		return who, nil
	}
	refused := broker.ErrInvalidRequest.On("owner")
	switch owner := values[0]; {
	case who.Kind == broker.BySession:
		return who, refused.Saying("a connect session belongs to its own end user; " + HeaderOwner + " is for API keys")
	case len(values) > 1, owner == "", utf8.RuneCountInString(owner) > maxOwner, !utf8.ValidString(owner), strings.ContainsFunc(owner, unicode.IsControl):
		return who, refused.Saying(HeaderOwner + " holds the id of one end user, of 1 to 255 characters")
	default:
		who.Owner = owner
	}
	return who, nil
}

func names(scopes []broker.Scope) string {
	if len(scopes) == 0 {
		return ""
	}
	out := make([]string, len(scopes))
	for i, s := range scopes {
		out[i] = string(s)
	}
	return " " + strings.Join(out, "|")
}

func (d Doors) key(text string, scopes []broker.Scope) (broker.Actor, error) {
	if len(text) < minKeyLength {
		return broker.Actor{}, broker.ErrUnauthorized.Because(ErrNotAKey)
	}
	who, err := d.Keeper.Authenticate(text)
	if err != nil {
		return broker.Actor{}, err
	}
	switch {
	case len(scopes) > 0:
		err = who.Allow(scopes...)
	case who.Environment == "": // the account's key: where nothing else is asked, it is still nobody's backend
		err = broker.ErrInsufficientScope.Saying("The API key belongs to no environment")
	}
	if err != nil {
		return broker.Actor{}, err
	}
	return who, nil
}

func (d Doors) session(ctx context.Context, text string) (broker.Actor, error) {
	if !IsSessionToken(text) {
		return broker.Actor{}, broker.ErrSessionInvalid.Because(ErrNotASession)
	}
	return d.Keeper.AuthenticateSession(ctx, text)
}

// IsSessionToken reports whether text has the form of a connect session's token.
func IsSessionToken(text string) bool {
	digits, ok := strings.CutPrefix(text, SessionPrefix)
	return ok && len(digits) == sessionHexSize && strings.Trim(digits, "0123456789abcdef") == ""
}

// credential reads the header. Authorization holds the text after the last "Bearer ", or the whole header without it. A
// credential in the URL is refused even beside a good header: it is in somebody's log already.
func (d Doors) credential(r *http.Request) (string, error) {
	if err := NoCredentialInURL(r.URL); err != nil {
		return "", err
	}
	values := r.Header.Values(cmp.Or(d.Header, "Authorization"))
	switch {
	case len(values) == 0:
		return "", broker.ErrUnauthorized.Because(ErrNoCredential)
	case len(values) > 1:
		return "", broker.ErrUnauthorized.Because(ErrEmptyCredential)
	}
	text := values[0]
	if i := strings.LastIndex(text, "Bearer "); i >= 0 && d.Header == "" {
		text = text[i+len("Bearer "):]
	}
	// A header of "Bearer " arrives as "Bearer": its trailing space is not part of the value.
	if text = strings.TrimSpace(text); text == "" || text == "Bearer" {
		return "", broker.ErrUnauthorized.Because(ErrEmptyCredential)
	}
	return text, nil
}

// Token gives the credential that a request was let in with, for those who hand a session's token on; empty: none.
func (d Doors) Token(r *http.Request) string {
	text, err := d.credential(r)
	if err != nil {
		return ""
	}
	return text
}

// credentialParams are the query parameters, without punctuation and in lower case, that people put keys into.
var credentialParams = map[string]bool{
	"secretkey": true, "apikey": true, "xapikey": true, "accesstoken": true, "authorization": true, "clientsecret": true,
	"bearer": true, "bearertoken": true, "connectsessiontoken": true, "sessiontoken": true,
}

// NoCredentialInURL refuses a query that carries a credential, or cannot be read.
func NoCredentialInURL(u *url.URL) error {
	if u.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return broker.ErrInvalidQuery
	}
	for name, values := range query {
		if credentialParams[strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))] {
			return broker.ErrCredentialInURL
		}
		for _, v := range values {
			if strings.HasPrefix(v, keyPrefix) || strings.HasPrefix(v, SessionPrefix) {
				return broker.ErrCredentialInURL
			}
		}
	}
	return nil
}
