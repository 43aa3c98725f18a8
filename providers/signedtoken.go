package providers

import (
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"

	"github.com/coatcheck/coatcheck/broker"
)

// signedToken is how a token is made here (RFC 7519): claims of the entry, signed with a key of the credential. Nobody is
// asked for it.
type signedToken struct {
	key     *template
	keyName string // of the credential that the key comes from, for errors
	secret  string // how an HMAC key is written: hex or utf8; empty: the key is a private one
	life    time.Duration
	header  *tree
	payload *tree
}

// Names of what a signature's protocol may be.
const (
	protocolRSA  = "RSA"
	protocolEC   = "EC"
	protocolHMAC = "HMAC"
	protocolWSSE = "WSSE"
)

// maxSignedLife is how long a token of ours lasts at most: whoever gets hold of one has it until then.
const maxSignedLife = 366 * 24 * time.Hour

// compileSigned reads `signature` and `token`; nil if the entry has none or they cannot work here.
func (c *compiler) compileSigned() *signedToken {
	e := c.entry
	if e.Token.Header.Kind == 0 && e.Token.Payload.Kind == 0 && e.Token.SigningKey == "" {
		return nil
	}
	out := c.signedToken("token", e.Token.SigningKey, &e.Token.Header, &e.Token.Payload)
	out.life = time.Duration(e.Token.ExpiresInMS) * time.Millisecond
	switch e.Signature.Protocol {
	case protocolRSA, protocolEC:
	case protocolHMAC:
		out.secret = "hex"
		if e.Signature.SecretEncoding != "" {
			out.secret = e.Signature.SecretEncoding
		}
		c.oneOf("signature.hmac_secret_encoding", out.secret, "hex", "utf8")
	default:
		c.broken([]string{"signature", "protocol"}, "is not RSA, EC or HMAC")
	}
	if out.life <= 0 || out.life > maxSignedLife {
		c.broken([]string{"token", "expires_in_ms"}, "is not a life of up to a year")
	}
	c.checkAlgorithm("token", out)
	return out
}

// signedToken reads the parts that all such tokens have.
func (c *compiler) signedToken(path, key string, header, payload *yaml.Node) *signedToken {
	out := &signedToken{header: c.mapping([]string{path, "header"}, header), payload: c.mapping([]string{path, "payload"}, payload)}
	if key == "" {
		c.broken([]string{path}, "says nothing about the key")
		return out
	}
	if out.key = c.text([]string{path}, key); out.key != nil {
		for _, ref := range out.key.refs() {
			out.keyName = strings.TrimPrefix(ref, "credentials.")
		}
	}
	return out
}

// mapping reads a mapping, which may be missing.
func (c *compiler) mapping(path []string, n *yaml.Node) *tree {
	switch n.Kind {
	case 0:
		return &tree{kind: yaml.MappingNode}
	case yaml.MappingNode:
		return c.tree(path, n)
	case yaml.DocumentNode, yaml.SequenceNode, yaml.ScalarNode, yaml.AliasNode, yaml.StreamNode:
	}
	c.fail(path, "is not a mapping")
	return &tree{kind: yaml.MappingNode}
}

// checkAlgorithm refuses a header whose algorithm is not one of its key's kind. `none` is none of any.
func (c *compiler) checkAlgorithm(path string, t *signedToken) {
	alg := t.header.member("alg")
	if alg == nil || alg.literal == nil {
		return // the key's usual one, or one that the library judges
	}
	known := []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}
	if t.secret != "" {
		known = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}
	}
	if !slices.Contains(known, jose.SignatureAlgorithm(scalarText(alg.literal))) {
		c.broken([]string{path, "header", "alg"}, "is not an algorithm of this kind of key")
	}
}

// make signs a token for what is in scope. A header or claim that lacks a value is left out, and lists in text are lists.
// Errors: variable_invalid naming the key.
func (t *signedToken) make(sc *scope, now time.Time) (signed string, end time.Time, err error) {
	text, missing := t.key.fill(sc)
	if len(missing) > 0 {
		return "", end, invalid(missing[0], "is missing")
	}
	key, err := t.signingKey(text)
	if err != nil {
		return "", end, invalid(t.keyName, "cannot sign: "+err.Error())
	}
	end = now.Add(t.life)
	header, err := t.object(t.header, sc)
	if err != nil {
		return "", end, err
	}
	claims, err := t.object(t.payload, sc)
	if err != nil {
		return "", end, err
	}
	claims["iat"], claims["exp"] = unixTime(now), unixTime(end)
	payload, err := json.Marshal(claims, json.Deterministic(true))
	if err != nil {
		return "", end, broker.ErrInternal.Because(err)
	}
	if signed, err = compactJWS(header, payload, key); err != nil {
		return "", end, invalid(t.keyName, "does not fit the algorithm that the provider wants")
	}
	return signed, end, nil
}

func unixTime(t time.Time) jsontext.Value {
	v, _ := json.Marshal(t.Unix()) // of a number it cannot fail
	return v
}

// signingKey gives the key that a text stands for.
func (t *signedToken) signingKey(text string) (*jose.JSONWebKey, error) {
	switch t.secret {
	case "":
		return parseKey(text)
	case "hex":
		raw, err := hex.DecodeString(strings.TrimSpace(text))
		if err != nil {
			return nil, errNotHex
		}
		return &jose.JSONWebKey{Key: raw, Algorithm: string(jose.HS256)}, nil
	}
	return &jose.JSONWebKey{Key: []byte(text), Algorithm: string(jose.HS256)}, nil
}

// object fills a header or claims in.
func (t *signedToken) object(from *tree, sc *scope) (map[string]jsontext.Value, error) {
	out := map[string]jsontext.Value{}
	for i, item := range from.items {
		if item.kind == yaml.SequenceNode {
			if list := item.list(sc); len(list) > 0 {
				raw, err := json.Marshal(list)
				if err != nil {
					return nil, broker.ErrInternal.Because(err)
				}
				out[from.names[i]] = raw
			}
			continue
		}
		if v, missing := item.fill(sc); len(missing) == 0 {
			out[from.names[i]] = v
		}
	}
	return out, nil
}

// list gives the texts of a sequence; one that a person filled in may hold several, with commas between them.
func (t *tree) list(sc *scope) []string {
	var out []string
	for _, item := range t.items {
		v, missing := item.fill(sc)
		if len(missing) > 0 {
			continue
		}
		for word := range strings.SplitSeq(scalarText(v), ",") {
			if word = strings.TrimSpace(word); word != "" {
				out = append(out, word)
			}
		}
	}
	return out
}

// compactJWS signs (RFC 7515 section 7.1). The header may name the algorithm and the key; else they are the key's own.
func compactJWS(header map[string]jsontext.Value, payload []byte, key *jose.JSONWebKey) (string, error) {
	header = maps.Clone(header)
	alg := jose.SignatureAlgorithm(scalarText(header["alg"]))
	if alg == "" {
		alg = algorithmOf(key)
	}
	delete(header, "alg")
	options := &jose.SignerOptions{}
	for name, v := range header {
		var value any
		if err := json.Unmarshal(v, &value); err != nil {
			return "", err
		}
		options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}
