package kit

import (
	"bytes"
	"io"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/coatcheck/coatcheck/broker"
)

// SessionInBody lets connect sessions in whose token is the member "token" of a JSON body: what a page sends as it closes
// can carry no header. The handler reads the body as if nobody had.
func (d Doors) SessionInBody() Auth {
	return Auth{Name: "session in body", Pages: true, Limited: true, Check: func(r *http.Request) (broker.Actor, error) {
		if err := NoCredentialInURL(r.URL); err != nil {
			return broker.Actor{}, err
		}
		raw, err := ReadJSON(r)
		if err != nil {
			return broker.Actor{}, err
		}
		r.Body = io.NopCloser(bytes.NewReader(raw))
		var in struct {
			Token *string `json:"token"`
		}
		switch err := json.Unmarshal(raw, &in); {
		case err != nil: // it is JSON, so it is the token that is no text
			return broker.Actor{}, broker.ErrSessionInvalid.Because(ErrNotASession)
		case in.Token == nil || *in.Token == "":
			return broker.Actor{}, broker.ErrUnauthorized.Because(ErrNoCredential)
		}
		return d.session(r.Context(), *in.Token)
	}}
}
