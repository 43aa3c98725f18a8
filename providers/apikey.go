package providers

import (
	"context"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// apiKey is a key that an end user types in. The entry says where in a request it goes.
type apiKey struct{ base }

// Submit takes the key as it is, without the white space that copying brings along.
func (p *apiKey) Submit(_ context.Context, _ *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	key := broker.NewSecret(strings.TrimSpace(fields["apiKey"].Reveal()))
	details, err := p.submitted(fields, "apiKey")
	if err != nil {
		return nil, err
	}
	for _, f := range p.spec.fields {
		if f.Name == "apiKey" && f.Section == broker.CredentialField {
			if err := f.checkCredential(key); err != nil {
				return nil, err
			}
		}
	}
	m := &broker.Material{Type: p.spec.facts.CredentialType, Access: key, Details: details}
	return &broker.Obtained{Material: m}, p.CheckMaterial(m)
}

// CheckMaterial refuses what cannot be a key.
func (p *apiKey) CheckMaterial(m *broker.Material) error { return checkToken(m.Access, "apiKey") }

// submitted checks the typed credentials and gives all but one. Only fields that the entry has are kept.
func (b *base) submitted(fields map[string]broker.Secret, except string) (map[string]broker.Secret, error) {
	var out map[string]broker.Secret
	for _, f := range b.spec.fields {
		if f.Section != broker.CredentialField || f.Automated || f.Name == except {
			continue
		}
		v, given := fields[f.Name]
		if !given && f.HasDefault {
			v = broker.NewSecret(f.Default)
		}
		if blank := given && v.IsZero() && b.spec.mode == modeBasic; !blank { // either half of a pair may be empty on purpose
			if err := f.checkCredential(v); err != nil {
				return nil, err
			}
		}
		if out == nil {
			out = map[string]broker.Secret{}
		}
		out[f.Name] = v
	}
	return out, nil
}

// checkCredential says what is wrong with a typed credential.
func (f *field) checkCredential(v broker.Secret) error {
	switch {
	case v.IsZero() && (f.Optional || f.HasDefault):
		return nil
	case v.IsZero():
		return invalid(f.Name, "is missing")
	}
	return f.check(v.Reveal(), false)
}
