package lab

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what the protocol has
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// prepare answers the two endpoints of OAuth 1.0 that give credentials (RFC 5849 section 2); nil: the request is to neither.
func (p *Provider) prepare(q *request) *reply {
	e := p.entry
	if e.Mode() != modeOAuth1 {
		return nil
	}
	anybody := p.values(&grant{user: e.User(0)})
	if _, ok := leadsTo(q.url, anybody.address(e.text("request_url"))); ok {
		p.note(Prepare)
		return p.temporary(q)
	}
	if _, ok := leadsTo(q.url, anybody.address(e.text("token_url"))); ok {
		p.note(Exchange)
		return p.exchange1(q)
	}
	return nil
}

func (p *Provider) problem(text string) *reply {
	p.fault("%s", text)
	return &reply{status: http.StatusUnauthorized, form: true, body: map[string]any{"oauth_problem": "parameter_rejected"}}
}

// temporary gives a temporary credential, bound to the callback.
func (p *Provider) temporary(q *request) *reply {
	g := &grant{user: &User{}, good: true, spent: map[string]bool{}}
	if problem := p.signed(q, g); problem != "" {
		return p.problem("temporary credential: " + problem)
	}
	g.redirect = protocol(q)["oauth_callback"]
	if !strings.HasPrefix(g.redirect, p.callback) {
		return p.problem("temporary credential: the callback is not the broker's")
	}
	p.serial++
	g.access, g.secret = fmt.Sprintf("temporary-%d", p.serial), fmt.Sprintf("temporary+secret/%d=", p.serial)
	p.pending[g.access] = g
	return &reply{status: http.StatusOK, form: true, body: map[string]any{
		"oauth_token": g.access, "oauth_token_secret": g.secret, "oauth_callback_confirmed": "true",
	}}
}

// authorize1 is a user who agrees to what a temporary credential asks for.
func (p *Provider) authorize1(got map[string]string, u *User) (*url.URL, error) {
	want := map[string]string{"oauth_token": anything}
	known := p.entry.typed(p.client, u)
	for name, template := range p.entry.pairs("authorization_params") {
		want[name], _ = known.text(template)
	}
	if len(u.Scopes) > 0 {
		want["scope"] = p.scopes(u.Scopes)
	}
	if problem := differences(want, got); problem != "" {
		return nil, fmt.Errorf("authorization page: %s", problem)
	}
	g := p.pending[got["oauth_token"]]
	if g == nil {
		return nil, fmt.Errorf("authorization page: the temporary credential is not one that was given")
	}
	g.user, g.asked = u, u.Scopes
	g.nonce = "verifier-of-" + g.access
	back, err := url.Parse(g.redirect)
	if err != nil {
		return nil, fmt.Errorf("authorization page: callback: %w", err)
	}
	q := back.Query()
	q.Set("oauth_token", g.access)
	q.Set("oauth_verifier", g.nonce)
	back.RawQuery = q.Encode()
	return back, nil
}

// exchange1 gives a lasting credential for a temporary one and its verifier.
func (p *Provider) exchange1(q *request) *reply {
	in := protocol(q)
	g := p.pending[in["oauth_token"]]
	if g == nil {
		return p.problem("exchange: the temporary credential is not one that was given")
	}
	delete(p.pending, g.access)
	if problem := p.signed(q, g); problem != "" {
		return p.problem("exchange: " + problem)
	}
	if in["oauth_verifier"] != g.nonce || g.nonce == "" {
		return p.problem("exchange: the verifier is not the one that the user brought")
	}
	g.access = ""
	p.issue(g)
	g.secret = "secret+of/" + g.access + "="
	p.grants = append(p.grants, g)
	return &reply{status: http.StatusOK, form: true, body: map[string]any{
		"oauth_token": g.access, "oauth_token_secret": g.secret, "lab_extra": "1",
	}}
}

// protocol reads the parameters of the Authorization header.
func protocol(q *request) map[string]string {
	out := map[string]string{}
	text, _ := strings.CutPrefix(q.header.Get("Authorization"), "OAuth ")
	for field := range strings.SplitSeq(text, ",") {
		name, quoted, _ := strings.Cut(strings.TrimSpace(field), "=")
		if v, err := url.PathUnescape(strings.Trim(quoted, `"`)); err == nil && name != "" {
			out[name] = v
		}
	}
	return out
}

// consumer gives who signs: the integration, or a client that came with an end user's token.
func (p *Provider) consumer(g *grant) (id, secret string) {
	if own := g.user.Credentials; own["oauth_client_id_override"] != "" {
		return own["oauth_client_id_override"], own["oauth_client_secret_override"]
	}
	return p.client.ID, p.client.Secret
}

// signsBy is the method of signatures (RFC 5849 section 3.4.2): NetSuite takes the newer hash alone.
// https://docs.oracle.com/en/cloud/saas/netsuite/ns-online-help/section_4247337262.html
func (e *Entry) signsBy() (method string, digest func() hash.Hash) {
	if method = e.text("signature_method"); method == "" && e.Mode() == modeTBA {
		method = "HMAC-SHA256"
	}
	if method == "HMAC-SHA256" {
		return method, sha256.New
	}
	return "HMAC-SHA1", sha1.New
}

// realm is the account that a signature is for: NetSuite knows it in capitals, with an underscore before the sandbox.
func (p *Provider) realm(g *grant) string {
	if p.entry.Mode() != modeTBA {
		return ""
	}
	return strings.ToUpper(strings.ReplaceAll(g.user.Typed["accountId"], "-", "_"))
}

// signed says what is wrong with a request's signature (RFC 5849 section 3.4).
func (p *Provider) signed(q *request, g *grant) string {
	in := protocol(q)
	at, err := strconv.ParseInt(in["oauth_timestamp"], 10, 64)
	nonce := in["oauth_nonce"]
	id, secret := p.consumer(g)
	method, digest := p.entry.signsBy()
	switch {
	case in["oauth_consumer_key"] != id:
		return "the client's key is not in the header"
	case in["oauth_token"] != g.access:
		return "the token is not in the header"
	case in["oauth_signature_method"] != method:
		return "the signature is of another method"
	case in["realm"] != p.realm(g):
		return "the realm is not the account"
	case in["oauth_version"] != "1.0":
		return "the version is not said"
	case err != nil || at-p.now().Unix() > 300 || p.now().Unix()-at > 300:
		return "the time is not now"
	case len(nonce) < 8 || p.nonces[nonce]:
		return "the nonce was used before, or is short"
	}
	mac := hmac.New(digest, []byte(percent(secret)+"&"+percent(g.secret)))
	mac.Write([]byte(signatureBase(q, in)))
	if base64.StdEncoding.EncodeToString(mac.Sum(nil)) != in["oauth_signature"] {
		return "the signature is wrong"
	}
	p.nonces[nonce] = true
	return ""
}

// signatureBase is what is signed (RFC 5849 section 3.4.1).
func signatureBase(q *request, in map[string]string) string {
	var pairs [][2]string
	add := func(name, v string) { pairs = append(pairs, [2]string{percent(name), percent(v)}) }
	for name, v := range in {
		if name != "realm" && name != "oauth_signature" {
			add(name, v)
		}
	}
	sources := []url.Values{q.url.Query()}
	if strings.HasPrefix(q.header.Get("Content-Type"), formType) {
		if form, err := url.ParseQuery(string(q.body)); err == nil {
			sources = append(sources, form)
		}
	}
	for _, values := range sources {
		for name, all := range values {
			for _, v := range all {
				add(name, v)
			}
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int {
		return slices.Compare(a[:], b[:])
	})
	texts := make([]string, len(pairs))
	for i, pair := range pairs {
		texts[i] = pair[0] + "=" + pair[1]
	}
	address := strings.ToLower(q.url.Scheme+"://"+q.url.Host) + q.url.EscapedPath()
	return q.method + "&" + percent(address) + "&" + percent(strings.Join(texts, "&"))
}

// percent is the encoding of RFC 3986 section 2.3.
func percent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
