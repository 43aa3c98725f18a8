package providers

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"github.com/coatcheck/coatcheck/broker"
)

func (c *compiler) compileAuthorization() {
	e := c.entry
	if c.mode != modeOAuth2 {
		return
	}
	c.authorize = c.url([]string{"authorization_url"}, e.AuthorizationURL)
	if e.AuthorizationURL == "" || e.TokenURL.URL == "" {
		c.broken([]string{"auth_mode"}, "OAUTH2 needs authorization_url and token_url")
	}
	c.authParams = c.named([]string{"authorization_params"}, e.AuthorizationParam)
	c.sendsPKCE = e.PKCE != "forbidden" && !e.DisablePKCE
}

// AuthorizeURL is where the browser goes to ask for a grant (RFC 6749 section 4.1.1), always with a PKCE challenge unless
// the entry says why not. The entry's parameters lie over ours, and the caller's over both, except those that tie the answer
// to this request.
func (p *oauth2Provider) AuthorizeURL(r *broker.AuthorizeRequest) (string, error) {
	sc := p.scope(&broker.Holding{Client: r.Client, Config: r.Config})
	sc.bare = true
	target, err := p.spec.authorize.expand(sc, p.deps.checkURL)
	if err != nil {
		return "", onlyDeclared(err)
	}
	// What the token request needs is asked for now: afterwards the end user is gone. The token URL itself is left alone,
	// since it may need what comes with the callback.
	if _, err := fillAll(p.spec.tokenParams, sc); err != nil {
		return "", err
	}
	params, err := p.authorizeParams(r, sc)
	if err != nil {
		return "", err
	}
	cfg := oauth2.Config{ClientID: r.Client.ID, RedirectURL: r.RedirectURI, Endpoint: oauth2.Endpoint{AuthURL: target.String()}}
	options := make([]oauth2.AuthCodeOption, 0, len(params)+1)
	for _, x := range params {
		options = append(options, oauth2.SetAuthURLParam(x.Key, x.Value))
	}
	if p.spec.sendsPKCE {
		options = append(options, oauth2.S256ChallengeOption(r.Verifier))
	}
	return p.edited(cfg.AuthCodeURL(r.State, options...), p.scopeText(r)), nil
}

// bound are the parameters that tie the answer to this request, our client and our address.
var bound = []string{"client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method", "nonce"}

// authorizeParams gives the parameters that the library does not know of.
func (p *oauth2Provider) authorizeParams(r *broker.AuthorizeRequest, sc *scope) (pairs, error) {
	var out pairs
	if s := p.scopeText(r); s != "" {
		out = append(out, pair{"scope", s})
	}
	own, err := fillAll(p.spec.authParams, sc)
	if err != nil {
		return nil, err
	}
	for i, x := range own {
		if x.Value == "" && p.spec.entry.SkipEmpty {
			continue
		}
		chosen, taken := r.Params[x.Key]
		if p.spec.authParams[i].namesAddress() || !slices.Contains(bound, x.Key) && (!taken || chosen != "") {
			out = append(out, x)
		}
	}
	if r.UserScopes != "" {
		out = append(out, pair{"user_scope", r.UserScopes})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Params)) {
		if !slices.Contains(bound, name) && name != "response_type" && r.Params[name] != "" {
			out = append(out, pair{name, r.Params[name]})
		}
	}
	wanted := slices.ContainsFunc(own, func(x pair) bool { return x.Key == "nonce" }) // some servers insist on one
	if r.Nonce != "" && (wanted || asksOpenID(out)) {
		out = append(out, pair{"nonce", r.Nonce})
	}
	return out, nil
}

// namesAddress reports whether a parameter is what the provider calls our address: some know it under a name, which stands
// in the integration's settings and so is the operator's word.
func (t namedTemplate) namesAddress() bool {
	refs := t.refs()
	return t.name == "redirect_uri" && len(refs) == 1 && strings.HasPrefix(refs[0], settingPrefix)
}

func (p *oauth2Provider) scopeText(r *broker.AuthorizeRequest) string {
	separator := p.spec.entry.ScopeSeparator
	if separator == "" {
		separator = " "
	}
	return strings.Join(r.Client.Scopes, separator)
}

// asksOpenID reports whether an ID token is asked for (OpenID Connect Core section 3.1.2.1).
func asksOpenID(params pairs) bool {
	for _, x := range params {
		if x.Key == "scope" && slices.Contains(strings.FieldsFunc(x.Value, func(r rune) bool { return r == ' ' || r == ',' || r == '+' }), "openid") {
			return true
		}
	}
	return false
}

// edited applies what an entry says of the finished URL, in the order that the catalogue's format has: scopes as they are,
// a fragment, replacements.
func (p *oauth2Provider) edited(raw, scopes string) string {
	e := p.spec.entry
	if slices.Contains(e.SkipEncode, "scopes") && scopes != "" {
		if u, err := url.Parse(raw); err == nil {
			q := u.Query()
			q.Del("scope")
			u.RawQuery = strings.TrimPrefix(q.Encode()+"&scope="+rawScope(scopes), "&")
			raw = u.String()
		}
	}
	if e.Fragment != "" {
		before, query, _ := strings.Cut(raw, "?")
		raw = before + "#" + e.Fragment + "?" + query
	}
	for _, x := range e.Replacements {
		raw = renamed(raw, x)
	}
	return raw
}

// rawScope writes scopes without encoding, except what would end the parameter.
func rawScope(scopes string) string {
	return strings.NewReplacer("%2B", "+", "%3A", ":", "%2F", "/", "%2C", ",", "%40", "@").Replace(url.QueryEscape(scopes))
}

// renamed gives a parameter another name. The catalogue's format replaces the first occurrence of a text, and means a
// parameter; only what is none is replaced as text.
func renamed(raw string, x pair) string {
	from, to := strings.TrimSuffix(x.Key, "="), strings.TrimSuffix(x.Value, "=")
	for _, before := range []string{"?", "&"} {
		if at := strings.Index(raw, before+from+"="); at >= 0 {
			return raw[:at] + before + to + raw[at+len(before)+len(from):]
		}
	}
	return strings.Replace(raw, x.Key, x.Value, 1)
}

// fillAll fills parameters in; one that lacks a value is variable_invalid.
func fillAll(templates []namedTemplate, sc *scope) (pairs, error) {
	out := make(pairs, 0, len(templates))
	for _, t := range templates {
		v, missing := t.fill(sc)
		if len(missing) > 0 {
			return nil, invalid(missing[0], "is missing")
		}
		out = append(out, pair{t.name, v})
	}
	return out, nil
}

// onlyDeclared keeps the errors that an authorization URL may have: variable_invalid and provider_url_invalid.
func onlyDeclared(err error) error {
	if e := broker.AsError(err); e.Code == broker.ErrVariableInvalid.Code {
		return e
	}
	return broker.ErrProviderURLInvalid.Because(err)
}
