package lab

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The modes that are played.
const (
	modeOAuth2            = "OAUTH2"
	modeOAuth1            = "OAUTH1"
	modeClientCredentials = "OAUTH2_CC"
	modeAPIKey            = "API_KEY"
	modeBasic             = "BASIC"
	modeNone              = "NONE"
	modeTwoStep           = "TWO_STEP"
	modeJWT               = "JWT"
	modeBill              = "BILL"
	modeTBA               = "TBA"
	modeApp               = "APP"
	modeCustom            = "CUSTOM"
	modeAWS               = "AWS_SIGV4"
	modeSignature         = "SIGNATURE"
	modePlugin            = "INSTALL_PLUGIN"
	modeMCP               = "MCP_OAUTH2"
	modeMCPGeneric        = "MCP_OAUTH2_GENERIC"
)

// Modes lists the modes that are played.
func Modes() []string {
	return []string{
		modeOAuth2, modeOAuth1, modeClientCredentials, modeAPIKey, modeBasic, modeNone, modeTwoStep, modeJWT, modeBill,
		modeMCP, modeMCPGeneric, modeTBA, modeApp, modeCustom, modeAWS, modeSignature, modePlugin,
	}
}

// The kinds of request that [Provider.Requests] tells.
const (
	Prepare  = "prepare"  // for a temporary credential
	Exchange = "exchange" // of a code, or of what a user typed, for a token
	Trade    = "trade"    // of a token for one that lasts
	Refresh  = "refresh"
	Ask      = "ask"   // whether a credential works, or whose it is
	After    = "after" // the call for what only the API knows
	Revoke   = "revoke"
	Call     = "call"  // of the API, through the proxy
	Stale    = "stale" // one with a credential that is no longer good

	Challenge = "challenge" // of a server, for what it wants
	Metadata  = "metadata"
	Register  = "register" // of a client

	Look = "look" // at an installation
	Mint = "mint" // of an installation's token, beside its user's
)

// Provider plays the provider of an entry for one integration. It is safe for concurrent use.
type Provider struct {
	entry    *Entry
	client   *Client
	now      func() time.Time
	callback string

	mu       sync.Mutex
	faults   []string
	done     []string
	grants   []*grant
	installs []*grant          // of users who have a grant besides
	pending  map[string]*grant // by code, or by temporary credential
	ending   *grant            // whose revocation is expected; nil: anybody's
	serial   int
	nonces   map[string]bool

	clients   map[string]*registered   // that were made here, by id
	redirects map[string]string        // the servers that send browsers back there
	trusted   map[*User]string         // the external ids that roles ask for
	fetch     func(path string) []byte // reads a document of the broker's
}

// grant is what a user gave, and the tokens that came of it.
type grant struct {
	user      *User
	of        *registered // the client that it was given to; nil: the integration's, or the user's own
	good      bool        // the provider accepts it
	challenge string
	redirect  string
	nonce     string
	access    string
	refresh   string
	secret    string          // of the token (OAuth 1.0)
	session   *session        // that signs requests (AWS)
	spent     map[string]bool // access and refresh tokens that were replaced
	expires   time.Time       // zero: never
	asked     []string        // scopes
	short     bool            // the access token is yet to be traded for one that lasts
	told      bool            // the API has told what only it knows
	ended     []string        // the kinds of token that were revoked
}

// New plays the provider of an entry. callback is the address that browsers come back to, which may have a further segment.
func New(e *Entry, c *Client, callback string, now func() time.Time) *Provider {
	return &Provider{
		entry: e.playable(), client: c, callback: callback, now: now, pending: map[string]*grant{}, nonces: map[string]bool{},
		clients: map[string]*registered{}, redirects: map[string]string{}, trusted: map[*User]string{},
	}
}

// Admit lets a user sign in with their credentials, or refuses them.
func (p *Provider) Admit(u *User, good bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := &grant{user: u, good: good, spent: map[string]bool{}, asked: u.Scopes}
	switch p.entry.Mode() {
	case modeAPIKey:
		g.access = u.Credentials["apiKey"]
	case modeTBA:
		g.access, g.secret = u.Credentials["token_id"], u.Credentials["token_secret"]
	}
	p.grants = append(p.grants, g)
}

// Refuse ends a user's grant at the provider's side: from now on their tokens and credentials are refused.
func (p *Provider) Refuse(u *User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.grantOf(u).good = false
	if in := p.installOf(u); in != nil {
		in.good = false
	}
}

// Ending says whose grant is to be revoked. From then on a revocation has to be that user's, with all that the entry says.
func (p *Provider) Ending(u *User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = p.grantOf(u)
}

func (p *Provider) grantOf(u *User) *grant {
	for _, g := range p.grants {
		if g.user == u {
			return g
		}
	}
	return &grant{user: u, spent: map[string]bool{}} // none yet
}

// Issued gives the tokens that the provider gave a user last, "" for those that there are not. That of an installation is
// the access token, and the user's own is [Provider.Beside] it.
func (p *Provider) Issued(u *User) (access, refresh string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.grantOf(u)
	if in := p.installOf(u); in != nil {
		return in.access, g.refresh
	}
	return g.access, g.refresh
}

// Ended lists the kinds of token of a user that were revoked, in order.
func (p *Provider) Ended(u *User) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in := p.installOf(u); in != nil {
		return slices.Concat(in.ended, p.grantOf(u).ended)
	}
	return p.grantOf(u).ended
}

// Faults tells what was wrong with the requests since it was last asked.
func (p *Provider) Faults() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []error
	for _, f := range p.faults {
		all = append(all, errors.New(f))
	}
	p.faults = nil
	return errors.Join(all...)
}

// Requests lists the kinds of the requests since it was last asked.
func (p *Provider) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.done
	p.done = nil
	return out
}

func (p *Provider) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

// request is a request that came.
type request struct {
	method string
	url    *url.URL
	header http.Header
	body   []byte

	viaProxy     bool                // the app's call, and not the broker's own
	certificates []*x509.Certificate // that the client showed, its own first
}

// reply is an answer to it. A map is written as JSON, unless the kind says that it is a form.
type reply struct {
	status int
	header map[string]string
	xml    string // in place of what body holds
	form   bool
	body   map[string]any
}

func (p *Provider) take(r *http.Request) (*request, error) {
	body, err := io.ReadAll(r.Body)
	q := &request{method: r.Method, url: r.URL, header: r.Header, body: body}
	if r.TLS != nil {
		q.certificates = r.TLS.PeerCertificates
	}
	return q, err
}

// Serve answers a request that the broker makes by itself.
func (p *Provider) Serve(w http.ResponseWriter, r *http.Request) {
	p.serve(w, r, func(q *request) *reply {
		for _, answer := range []func(*request) *reply{p.prepare, p.revocation, p.token, p.signIn, p.register, p.discovery, p.app, p.installations, p.sts, p.trade, p.calls} {
			if out := answer(q); out != nil {
				return out
			}
		}
		p.fault("the entry does not name the request %s %s%s", q.method, hostOf(q.url), q.url.EscapedPath())
		return &reply{status: http.StatusNotFound}
	})
}

// ServeAPI answers a call that came through the proxy, with [Path] behind the API's address.
func (p *Provider) ServeAPI(w http.ResponseWriter, r *http.Request) { p.serve(w, r, p.proxied) }

func (p *Provider) serve(w http.ResponseWriter, r *http.Request, answer func(*request) *reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q, err := p.take(r)
	if err != nil {
		p.fault("the body cannot be read: %v", err)
	}
	out := answer(q)
	for name, v := range out.header {
		w.Header().Set(name, v)
	}
	if out.form {
		form := url.Values{}
		for name, v := range out.body {
			form.Set(name, fmt.Sprint(v))
		}
		w.Header().Set("Content-Type", formType)
		w.WriteHeader(out.status)
		_, _ = io.WriteString(w, form.Encode())
		return
	}
	if out.xml != "" {
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(out.status)
		_, _ = io.WriteString(w, out.xml)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(out.status)
	if out.body != nil {
		_ = json.NewEncoder(w).Encode(out.body)
	}
}

const formType = "application/x-www-form-urlencoded"

// note counts a request.
func (p *Provider) note(kind string) { p.done = append(p.done, kind) }

// values gives what templates know once a grant is made.
func (p *Provider) values(g *grant) values {
	c := p.client
	if g.of != nil {
		c = &Client{ID: g.of.ID, Secret: g.of.Secret, Settings: p.client.Settings}
	}
	v := p.entry.typed(c, g.user)
	if p.entry.generic() {
		v["lab.issuer"] = p.entry.issuerOf(g.user.N)
	}
	for name, value := range g.user.Answered {
		if p.entry.has("post_connection", "capture", name) && !g.told {
			continue
		}
		v["connectionConfig."+name] = value
	}
	for name, value := range map[string]string{"accessToken": g.access, "refreshToken": g.refresh} {
		if value != "" && p.entry.Mode() != modeAPIKey {
			v[name] = value
		}
	}
	return v
}

// issue gives a grant its next access token.
func (p *Provider) issue(g *grant) {
	if g.access != "" {
		g.spent[g.access] = true
	}
	p.serial++
	g.access = fmt.Sprintf("access-%d-of-%s.%s", p.serial, p.entry.Name, strings.Repeat("~", p.serial%3))
	g.expires = time.Time{}
	if life := p.entry.Life(); life > 0 {
		g.expires = p.now().Add(life)
	}
}

// Life is how long tokens last; zero: for ever.
func (e *Entry) Life() time.Duration {
	word := e.text("access_token_lifetime")
	if word == "never" || e.Mode() == modeOAuth1 {
		return 0
	}
	switch {
	case e.MakesTokens():
		return e.ownLife()
	case e.generic():
		return 25 * time.Hour // so that its metadata is looked at again
	}
	if life := e.milliseconds("token_expires_in_ms"); life > 0 {
		return life
	}
	if n, err := strconv.Atoi(word); err == nil {
		return time.Duration(n) * time.Second
	}
	return time.Hour
}

// Renews reports whether the provider gives refresh tokens, and Trades whether it renews a token against itself.
func (e *Entry) Renews() bool {
	return (e.Mode() == modeOAuth2 || e.Mode() == modeCustom || e.isMCP()) && e.Life() > 0 && !e.Trades()
}

// AsksAgain reports whether a token that has run out is replaced by one that is asked for as the first was.
func (e *Entry) AsksAgain() bool {
	return e.signsIn() || slices.Contains([]string{modeClientCredentials, modeApp, modeAWS}, e.Mode())
}

// Trades reports whether a token is renewed against itself, while it lives.
func (e *Entry) Trades() bool { return e.has("long_lived_token") }

// TellsLife reports whether answers say when a token ends.
func (e *Entry) TellsLife() bool {
	return e.Life() > 0 && !e.quirk("no_expires_in") && !e.quirk("expires_in_zero")
}

// differences says in which names two sets of parameters differ, never in which values: those are secrets.
func differences(want, got map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[name]; !ok {
			out = append(out, name+" is missing")
		} else if v != want[name] && want[name] != anything {
			out = append(out, name+" is not as it should be")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			out = append(out, name+" should not be there")
		}
	}
	return strings.Join(out, ", ")
}

// anything stands for a value that may be any.
const anything = "\x00"
