package providers

import (
	"cmp"
	"context"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// tba is NetSuite's token-based authentication: requests signed as OAuth 1.0 has it, with a token that somebody made in the
// account and typed in here. The consumer is the integration's, or one that came with the token. Such tokens last until
// they are revoked.
// https://docs.oracle.com/en/cloud/saas/netsuite/ns-online-help/section_4247337262.html
type tba struct{ base }

// Names of what a token consists of, and of the consumer that it may bring.
const (
	tbaToken          = "token_id"
	tbaSecret         = "token_secret"
	tbaConsumer       = "oauth_client_id_override"
	tbaConsumerSecret = "oauth_client_secret_override"
	tbaAccount        = "accountId"
)

func (c *compiler) compileTBA() {
	if c.mode != modeTBA {
		return
	}
	e := c.entry
	c.oauth1 = &oauth1Spec{
		signature: c.signatureMethod(cmp.Or(e.SignatureMethod, hmacSHA256)), tokenSecret: tbaSecret, isAccount: true,
		realm: c.template([]string{"realm"}, cmp.Or(e.Realm, "${connectionConfig."+tbaAccount+"}")),
	}
	c.compileSignedRevocation()
}

// accountRealm writes an account's id as NetSuite wants it in a realm: in capitals, and with an underscore where its host
// has a hyphen.
func accountRealm(id string) string { return strings.ToUpper(strings.Replace(id, "-", "_", 1)) }

// Submit takes the token, and the consumer if one was typed, without the white space that copying brings along.
func (p *tba) Submit(_ context.Context, h *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	trimmed := make(map[string]broker.Secret, len(fields))
	for name, v := range fields {
		trimmed[name] = broker.NewSecret(strings.TrimSpace(v.Reveal()))
	}
	details, err := p.submitted(trimmed, tbaToken)
	if err != nil {
		return nil, err
	}
	for from, to := range map[string]string{tbaConsumer: "client_id", tbaConsumerSecret: "client_secret"} {
		if v := details[from]; !v.IsZero() {
			details[to] = v
		}
		delete(details, from)
	}
	m := &broker.Material{Type: p.spec.facts.CredentialType, Access: trimmed[tbaToken], Details: details}
	if err := p.CheckMaterial(m); err != nil {
		return nil, err
	}
	if c := p.client(&broker.Holding{Client: h.Client, Material: m}); c == nil || c.ID == "" {
		return nil, invalid(tbaConsumer, "is missing, and the integration has no consumer key")
	}
	if _, err := p.realm(p.scope(&broker.Holding{Client: h.Client, Config: h.Config, Material: m})); err != nil {
		return nil, err
	}
	return &broker.Obtained{Material: m}, nil
}

// CheckMaterial refuses what cannot be a token, and half a consumer.
func (p *tba) CheckMaterial(m *broker.Material) error {
	if err := checkToken(m.Access, tbaToken); err != nil {
		return err
	}
	if err := checkToken(m.Details[tbaSecret], tbaSecret); err != nil {
		return err
	}
	id, secret := m.Details["client_id"], m.Details["client_secret"]
	if id.IsZero() && secret.IsZero() {
		return nil
	}
	if err := checkToken(id, tbaConsumer); err != nil {
		return err
	}
	return checkToken(secret, tbaConsumerSecret)
}

// Revoke ends the token in the entry's own way.
func (p *tba) Revoke(ctx context.Context, h *broker.Holding) (bool, error) {
	return p.revoke(ctx, h, func(*broker.Material) bool { return false }, nil)
}
