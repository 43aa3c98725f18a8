package lab

// keyAuth is how a client proves itself that has a key (RFC 7523 section 2.2, OpenID Connect Core section 9).
const keyAuth = "private_key_jwt"

// asserts says what is wrong with the assertion of a client, and takes it away.
func (p *Provider) asserts(q *request, params map[string]string, c prover) string {
	kind, text := params["client_assertion_type"], params["client_assertion"]
	delete(params, "client_assertion_type")
	delete(params, "client_assertion")
	if kind != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		return "its type is not the standard's"
	}
	public, alg := clientKey(c.key)
	header := map[string]any{"alg": alg, "typ": "JWT"}
	if c.key != keyOfClient {
		header["kid"] = clientKeyID(c.key)
	}
	claims := map[string]any{"iss": c.id, "sub": c.id, "aud": hostOf(q.url) + q.url.EscapedPath(), "jti": anything}
	known := p.entry.typed(p.client, &User{})
	for name := range p.entry.pairs("client_assertion") {
		claims[name], _ = known.text(p.entry.text("client_assertion", name))
	}
	if problem := vouches(text, public, header, claims, 0); problem != "" {
		return problem
	}
	t := readJWS(text)
	id, _ := t.claims["jti"].(string)
	switch {
	case p.nonces[id]:
		return "it was used before"
	case !t.current(p.now()):
		return "it is too old, or of tomorrow"
	}
	p.nonces[id] = true
	return ""
}

// assertsKey reports whether clients have a key in place of a secret.
func (e *Entry) assertsKey() bool { return e.text("token_auth_method") == keyAuth }
