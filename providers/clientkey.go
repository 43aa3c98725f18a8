package providers

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
)

// assertionLife is how long an assertion is good: for one request, and for clocks that differ.
const assertionLife = 5 * time.Minute

// assertionType is what an assertion of a client is called (RFC 7523 section 2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// compileClientAssertion reads who an assertion is of and for, where that is not as the standard has it.
func (c *compiler) compileClientAssertion() {
	for _, x := range c.entry.ClientAssertion {
		c.oneOf("client_assertion", x.Key, "iss", "sub", "aud")
	}
	if len(c.entry.ClientAssertion) > 0 && !c.tokenAuth.asserted {
		c.broken([]string{"client_assertion"}, "needs token_auth_method private_key_jwt")
	}
	c.assertion = c.named([]string{"client_assertion"}, c.entry.ClientAssertion)
}

// assert puts a client's assertion into a request to an address. Its key, a PEM or a JWK, stands where other clients have
// their secret. Errors: variable_invalid naming client_private_key, or what the entry's own claims lack.
func (b *base) assert(form url.Values, client *broker.Client, audience string, sc *scope) error {
	key, err := parseKey(client.Secret.Reveal())
	if err != nil {
		return invalid(namePrivateKey, "cannot sign: "+err.Error())
	}
	now := b.now()
	said := map[string]any{
		"iss": client.ID, "sub": client.ID, "aud": audience, "jti": uuid.NewString(), "iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	}
	own, err := fillAll(b.spec.assertion, sc)
	if err != nil {
		return err
	}
	for _, x := range own {
		said[x.Key] = x.Value
	}
	claims, err := json.Marshal(said, json.Deterministic(true))
	if err != nil {
		return broker.ErrInternal.Because(err)
	}
	header := map[string]jsontext.Value{"typ": jsontext.Value(`"JWT"`)}
	signed, err := compactJWS(header, claims, key)
	if err != nil {
		return invalid(namePrivateKey, "cannot sign")
	}
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", signed)
	return nil
}

// certificate gives what a connection shows to the provider's servers (RFC 8705); nil: the entry wants none. Errors:
// variable_invalid naming the half that cannot be used.
func (b *base) certificate(h *broker.Holding) (*tls.Certificate, error) {
	if !b.spec.entry.RequireCertificate {
		return nil, nil //nolint:nilnil // most providers want none
	}
	var chain, key broker.Secret
	if h.Material != nil {
		chain, key = h.Material.Details[nameCertificate], h.Material.Details[namePrivateKey]
	}
	switch {
	case chain.IsZero():
		return nil, invalid(nameCertificate, "is missing")
	case key.IsZero():
		return nil, invalid(namePrivateKey, "is missing")
	}
	private, err := parseKey(key.Reveal())
	if err != nil {
		return nil, invalid(namePrivateKey, "cannot be used: "+err.Error())
	}
	der, err := x509.MarshalPKCS8PrivateKey(private.Key)
	if err != nil {
		return nil, invalid(namePrivateKey, "cannot be used")
	}
	var blocks bytes.Buffer
	for rest := []byte(strings.ReplaceAll(chain.Reveal(), `\n`, "\n")); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			_ = pem.Encode(&blocks, block) // to memory
		}
	}
	pair, err := tls.X509KeyPair(blocks.Bytes(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	switch {
	case err != nil && blocks.Len() == 0:
		return nil, invalid(nameCertificate, "is not a certificate in PEM form")
	case err != nil:
		return nil, invalid(nameCertificate, "does not belong to the private key")
	}
	return &pair, nil
}
