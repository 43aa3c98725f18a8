package integrations

import (
	"net/http"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// obtainBody is what a program has got: exactly one of a code, an access token, a refresh token alone and credentials, and
// what only goes with that.
type obtainBody struct {
	Code         *string `json:"code"`
	CodeVerifier *string `json:"codeVerifier"`
	Verifier     *string `json:"code_verifier"` // as RFC 7636 section 4.5 has it
	Nonce        *string `json:"nonce"`
	RedirectURI  *string `json:"redirectUri"`

	AccessToken           *string `json:"accessToken"`
	TokenSecret           *string `json:"tokenSecret"` // of OAuth 1.0a
	ExpiresAt             *string `json:"expiresAt"`
	ExpiresIn             *int64  `json:"expiresIn"` // seconds
	RefreshToken          *string `json:"refreshToken"`
	RefreshTokenExpiresAt *string `json:"refreshTokenExpiresAt"`

	Credentials map[string]string `json:"credentials"`

	ConnectionConfig map[string]string `json:"connectionConfig"`
}

// obtain answers POST /api/integrations/{id}/connect.
func (a *api) obtain(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if _, err := params(r); err != nil {
		return err
	}
	var body obtainBody
	if err := kit.DecodeJSON(r, &body); err != nil {
		return err
	}
	in := broker.ObtainInput{Integration: r.PathValue("id"), Fields: make(map[string]string)}
	if err := a.read(r, who, &body, &in); err != nil {
		return err
	}
	o, err := a.b.Obtain(r.Context(), who, in)
	if err != nil {
		return err
	}
	// Whoever made it may see it: no credential is shown.
	c, err := a.b.Connection(r.Context(), broker.System(who.Environment), broker.ConnectionRef{ID: o.Connection})
	if err != nil {
		return err
	}
	return a.show(w, r, http.StatusCreated, c)
}

// read finds out which kind of thing the body holds.
func (a *api) read(r *http.Request, who broker.Actor, b *obtainBody, in *broker.ObtainInput) error {
	if err := b.check(); err != nil {
		return err
	}
	for name, value := range b.ConnectionConfig {
		in.Fields[string(broker.ConfigField)+"."+name] = value
	}
	for name, value := range b.Credentials {
		in.Fields[string(broker.CredentialField)+"."+name] = value
	}
	in.Code, in.Nonce, in.RedirectURI = text(b.Code), text(b.Nonce), text(b.RedirectURI)
	if in.Verifier = text(b.CodeVerifier); b.Verifier != nil {
		in.Verifier = *b.Verifier
	}
	if b.AccessToken == nil {
		in.RefreshToken = broker.NewSecret(text(b.RefreshToken))
		return nil
	}
	_, facts, err := a.b.OwnIntegration(r.Context(), who, in.Integration)
	if err != nil {
		return err
	}
	in.Material, err = b.material(facts, a.b.Now())
	return err
}

// material makes a credential of an access token.
func (b *obtainBody) material(f *broker.Facts, now time.Time) (*broker.Material, error) {
	m := &broker.Material{Access: broker.NewSecret(*b.AccessToken), Refresh: broker.NewSecret(text(b.RefreshToken))}
	if f != nil { // else the provider left the catalogue, which is found out next
		m.Type = f.CredentialType
	}
	if b.TokenSecret != nil {
		m.Details = map[string]broker.Secret{"oauth_token_secret": broker.NewSecret(*b.TokenSecret)}
	}
	if b.ExpiresIn != nil {
		m.ExpiresAt = now.Add(time.Duration(*b.ExpiresIn) * time.Second)
	}
	var err error
	if b.ExpiresAt != nil {
		if m.ExpiresAt, err = moment("expiresAt", *b.ExpiresAt); err != nil {
			return nil, err
		}
	}
	if b.RefreshTokenExpiresAt != nil {
		m.RefreshExpiresAt, err = moment("refreshTokenExpiresAt", *b.RefreshTokenExpiresAt)
	}
	return m, err
}

// moment reads a time as answers have it.
func moment(name, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, broker.ErrInvalidRequest.On(name).Saying("a time such as 2026-03-01T12:00:00Z is expected")
	}
	return t.UTC(), nil
}

// maxLife is the longest life that a token may be said to have, in seconds: a hundred years.
const maxLife = 100 * 365 * 24 * 3600

// check refuses a body that is nothing whole, or several things at once: what counts would be a guess.
func (b *obtainBody) check() error {
	byCode, byToken, byRefresh, typed := b.Code != nil, b.AccessToken != nil, b.RefreshToken != nil && b.AccessToken == nil, b.Credentials != nil
	kinds := 0
	for _, has := range []bool{byCode, byToken, byRefresh, typed} {
		if has {
			kinds++
		}
	}
	if kinds != 1 {
		return broker.ErrInvalidRequest.Saying("the body holds one of code, accessToken, refreshToken and credentials")
	}
	for _, m := range []struct {
		name  string
		sent  bool
		fits  bool
		value *string // nil: it may be empty, or is none
	}{
		{"code", byCode, true, b.Code},
		{"codeVerifier", b.CodeVerifier != nil, byCode && b.Verifier == nil, b.CodeVerifier},
		{"code_verifier", b.Verifier != nil, byCode, b.Verifier},
		{"nonce", b.Nonce != nil, byCode, b.Nonce},
		{"redirectUri", b.RedirectURI != nil, byCode, b.RedirectURI},
		{"accessToken", byToken, true, b.AccessToken},
		{"tokenSecret", b.TokenSecret != nil, byToken, b.TokenSecret},
		{"expiresAt", b.ExpiresAt != nil, byToken && b.ExpiresIn == nil, b.ExpiresAt},
		{"expiresIn", b.ExpiresIn != nil, byToken, nil},
		{"refreshToken", b.RefreshToken != nil, true, b.RefreshToken},
		{"refreshTokenExpiresAt", b.RefreshTokenExpiresAt != nil, byToken && b.RefreshToken != nil, b.RefreshTokenExpiresAt},
	} {
		switch {
		case !m.sent:
		case !m.fits:
			return broker.ErrInvalidRequest.On(m.name).Saying("this does not go with the rest of the body")
		case m.value != nil && *m.value == "":
			return broker.ErrInvalidRequest.On(m.name).Saying("this must not be empty")
		}
	}
	if b.ExpiresIn != nil && (*b.ExpiresIn < 0 || *b.ExpiresIn > maxLife) {
		return broker.ErrInvalidRequest.On("expiresIn").Saying("a number of seconds is expected")
	}
	return nil
}

// text gives what a member holds; empty: it is absent.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
