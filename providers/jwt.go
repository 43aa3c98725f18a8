package providers

import (
	"context"
	"maps"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// jwtProvider signs its tokens itself, with a key that an end user typed (RFC 7519). The provider is not asked: it checks
// the signature of each call.
type jwtProvider struct{ base }

func (c *compiler) compileJWT() {
	if c.mode != modeJWT {
		return
	}
	if c.signed = c.compileSigned(); c.signed == nil {
		c.broken([]string{"token"}, "says nothing about the token")
	}
}

// Submit signs a first token with what was typed.
func (p *jwtProvider) Submit(_ context.Context, h *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	details, err := p.typed(h, fields)
	if err != nil {
		return nil, err
	}
	return p.sign(&broker.Holding{Client: h.Client, Config: h.Config, Material: &broker.Material{Details: details}})
}

// Renewable reports whether there is a key, which there always is.
func (p *jwtProvider) Renewable(*broker.Material) bool { return true }

// Endpoint is empty: nobody is asked.
func (p *jwtProvider) Endpoint(*broker.Holding) string { return "" }

// Renew signs another token. A key that cannot sign will not be able to later, so the end user has to give another.
func (p *jwtProvider) Renew(_ context.Context, h *broker.Holding) (*broker.Obtained, error) {
	got, err := p.sign(h)
	if err != nil {
		return nil, &broker.ProviderError{Class: broker.GrantLost, Code: codeKeyUnusable, Text: broker.AsError(err).Msg}
	}
	return got, nil
}

// codeKeyUnusable is the code of a credential that cannot be signed with.
const codeKeyUnusable = "key_unusable"

func (p *jwtProvider) sign(h *broker.Holding) (*broker.Obtained, error) {
	sc := p.scope(h)
	sc.bare = true
	halve(sc, p.spec.signed)
	signed, end, err := p.spec.signed.make(sc, p.now())
	if err != nil {
		return nil, err
	}
	m := &broker.Material{
		Type: p.spec.facts.CredentialType, Access: broker.NewSecret(signed), Details: maps.Clone(h.Material.Details), ExpiresAt: end,
	}
	return &broker.Obtained{Material: m}, nil
}

// halve gives the halves of keys that are written as id:secret, where the entry asks for one of them.
func halve(sc *scope, t *signedToken) {
	refs := t.key.refs()
	for _, part := range []*tree{t.header, t.payload} {
		refs = part.refs(refs)
	}
	for _, ref := range refs {
		ref = strings.TrimPrefix(ref, "credentials.")
		name, half, _ := strings.Cut(ref, ".")
		id, secret, found := strings.Cut(sc.named[name], ":")
		switch {
		case !found:
		case half == "id":
			sc.named[ref] = strings.TrimSpace(id)
		case half == "secret":
			sc.named[ref] = strings.TrimSpace(secret)
		}
	}
}

// CheckMaterial refuses what cannot be a token, and a credential without one that nothing can be signed with.
func (p *jwtProvider) CheckMaterial(m *broker.Material) error {
	if m.Access.IsZero() {
		return p.complete(m)
	}
	return checkToken(m.Access, "token")
}
