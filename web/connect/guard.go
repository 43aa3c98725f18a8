package connect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
)

// guard tells our own forms from those of others.
type guard struct {
	key    []byte
	origin *http.CrossOriginProtection
}

func newGuard(key []byte, publicURL string) (*guard, error) {
	origin := http.NewCrossOriginProtection()
	// A proxy in front of us may change Host, so an Origin is compared with the public URL too.
	if err := origin.AddTrustedOrigin(publicURL); err != nil {
		return nil, err
	}
	return &guard{key: key, origin: origin}, nil
}

// token is what a form of the session carries.
func (g *guard) token(session broker.SessionID) string {
	mac := hmac.New(sha256.New, g.key)
	mac.Write([]byte("connect form\x00" + session))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// check refuses a form that was not sent from our own page. The token alone would not do: whoever has a session can
// read its token, and put both into a form that somebody else's browser sends.
func (g *guard) check(r *http.Request, session broker.SessionID) error {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return broker.ErrCSRF
	}
	if err := g.origin.Check(r); err != nil {
		return broker.ErrCSRF.Because(err)
	}
	if !hmac.Equal([]byte(r.PostForm.Get("csrf")), []byte(g.token(session))) {
		return broker.ErrCSRF
	}
	return nil
}
