package providers

import (
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the protocol asks for it
	"encoding/base64"
	"encoding/hex"
	"maps"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// wsse makes a UsernameToken of a user name and a password (OASIS WSS UsernameToken Profile 1.1), as a header for HTTP. The
// digest is the one that is in use there: base64 of the hexadecimal digits of the sum.
// https://dev.emarsys.com/docs/core-api-reference/fdbb8c3ce5e04-authentication
type wsse struct{ base }

func (c *compiler) compileWSSE() {
	if c.mode != modeSignature {
		return
	}
	e := c.entry
	if e.Signature.Protocol != protocolWSSE {
		c.broken([]string{"signature", "protocol"}, "is not WSSE")
	}
	if c.tokenLife = time.Duration(e.Token.ExpiresInMS) * time.Millisecond; c.tokenLife <= 0 || c.tokenLife > maxSignedLife {
		c.broken([]string{"token", "expires_in_ms"}, "is not a life of up to a year")
	}
}

// Submit makes a first token of what was typed.
func (p *wsse) Submit(_ context.Context, h *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	details, err := p.typed(h, fields)
	if err != nil {
		return nil, err
	}
	return p.make(details)
}

// Renewable reports whether there is a password, which there always is.
func (p *wsse) Renewable(*broker.Material) bool { return true }

// Endpoint is empty: nobody is asked.
func (p *wsse) Endpoint(*broker.Holding) string { return "" }

// Renew makes another token.
func (p *wsse) Renew(_ context.Context, h *broker.Holding) (*broker.Obtained, error) {
	got, err := p.make(maps.Clone(h.Material.Details))
	if err != nil {
		return nil, &broker.ProviderError{Class: broker.GrantLost, Code: codeKeyUnusable, Text: broker.AsError(err).Msg}
	}
	return got, nil
}

func (p *wsse) make(details map[string]broker.Secret) (*broker.Obtained, error) {
	user, now := details["username"].Reveal(), p.now().UTC()
	if user == "" || !printable(user) || strings.ContainsAny(user, `"\`) {
		return nil, invalid("username", "cannot stand in a header")
	}
	var random [16]byte
	_, _ = rand.Read(random[:])
	nonce, created := hex.EncodeToString(random[:]), now.Format(time.RFC3339)
	m := &broker.Material{
		Type: p.spec.facts.CredentialType, Details: details, ExpiresAt: now.Add(p.spec.tokenLife),
		Access: broker.NewSecret(`UsernameToken Username="` + user + `", PasswordDigest="` + wsseDigest(nonce, created, details["password"].Reveal()) +
			`", Nonce="` + nonce + `", Created="` + created + `"`),
	}
	return &broker.Obtained{Material: m}, nil
}

func wsseDigest(nonce, created, password string) string {
	sum := sha1.Sum([]byte(nonce + created + password)) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString([]byte(hex.EncodeToString(sum[:])))
}

// CheckMaterial refuses what a token cannot be made of.
func (p *wsse) CheckMaterial(m *broker.Material) error {
	if v := m.Access.Reveal(); len(v) > maxToken || !printable(v) {
		return invalid("token", "cannot stand in a header")
	}
	return p.complete(m)
}
