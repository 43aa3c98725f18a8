package providers

import (
	"context"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// basic is a user name and a password that an end user types in (RFC 7617).
type basic struct{ base }

// Submit takes user name and password as they are. Either may be empty if it is there: many APIs take a key as one of them.
func (p *basic) Submit(_ context.Context, _ *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	details, err := p.submitted(fields, "")
	if err != nil {
		return nil, err
	}
	m := &broker.Material{Type: p.spec.facts.CredentialType, Details: details}
	return &broker.Obtained{Material: m}, p.CheckMaterial(m)
}

// CheckMaterial refuses what a Basic header cannot carry: a colon in the user name, control characters, or nothing at all.
func (p *basic) CheckMaterial(m *broker.Material) error { return checkUser(m) }

// checkUser refuses a user name and a password that a Basic header cannot carry.
func checkUser(m *broker.Material) error {
	user, password := m.Details["username"].Reveal(), m.Details["password"].Reveal()
	switch {
	case user == "" && password == "":
		return invalid("username", "is missing")
	case len(user) > maxToken || hasControl(user) || strings.Contains(user, ":"):
		return invalid("username", "holds a character that it cannot have, or is too long")
	case len(password) > maxToken || hasControl(password):
		return invalid("password", "holds a character that it cannot have, or is too long")
	}
	return nil
}
