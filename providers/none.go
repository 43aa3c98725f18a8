package providers

import (
	"context"

	"github.com/coatcheck/coatcheck/broker"
)

// none is an API that wants no credential.
type none struct{ base }

// Submit makes the empty credential.
func (p *none) Submit(context.Context, *broker.Holding, map[string]broker.Secret) (*broker.Obtained, error) {
	return &broker.Obtained{Material: &broker.Material{Type: p.spec.facts.CredentialType}}, nil
}

// CheckMaterial accepts anything: nothing is presented.
func (p *none) CheckMaterial(*broker.Material) error { return nil }
