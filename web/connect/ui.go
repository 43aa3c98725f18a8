package connect

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/a-h/templ"
	"github.com/gorilla/securecookie"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
	"github.com/coatcheck/coatcheck/web/static"
)

// Deps is what the pages need.
type Deps struct {
	Broker *broker.Broker
	Assets *static.Assets
	// FormKey binds the token in a form to its session: 32 bytes or more.
	FormKey []byte
	// CookieKeys protect the cookies that bind a flow to a browser. The first pair is used for new ones.
	CookieKeys []CookieKeys
}

// UI is the Connect UI. Make it with [New].
type UI struct {
	broker *broker.Broker
	assets *static.Assets
	guard  *guard
	jar    *jar
	notes  []securecookie.Codec // what a page hands to the next one in its address
}

// noteAge is how long, in seconds, the address of a result page works.
const noteAge = 600

// New makes the Connect UI. Errors: keys are missing or too short.
func New(d Deps) (*UI, error) {
	if d.Broker == nil || d.Assets == nil || len(d.FormKey) < 32 {
		return nil, errors.New("connect: broker, assets and a form key of 32 bytes are needed")
	}
	cookies, err := codecs(d.CookieKeys, flowCookieAge)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	notes, err := codecs(d.CookieKeys, noteAge)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	g, err := newGuard(d.FormKey, d.Broker.PublicURL())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	secure := strings.HasPrefix(d.Broker.PublicURL(), "https://")
	return &UI{
		broker: d.Broker, assets: d.Assets, guard: g, notes: notes,
		jar: &jar{codecs: cookies, secure: secure, now: d.Broker.Now},
	}, nil
}

// How long bodies may be, in bytes. A form can hold a private key or two.
const (
	maxForm     = 64 << 10
	maxCallback = 64 << 10
)

// callbackPaths are the addresses that providers send browsers back to.
var callbackPaths = []string{"/oauth/callback", "/oauth2/callback", "/oauth/callback/{integration}"}

// Surface lists the pages.
func (u *UI) Surface() kit.Surface {
	link := kit.Auth{Name: "session in link", Limited: true, Check: u.byLink}
	first := kit.Auth{Name: "session in link or told to a frame", Limited: true, Check: u.byLinkOrFrame}
	form := kit.Auth{Name: "session in form", Limited: true, Check: u.byForm}
	sealedLink := kit.Auth{Name: "session sealed in link", Limited: true, Check: u.bySealedLink}
	sealedForm := kit.Auth{Name: "session sealed in form", Limited: true, Check: u.bySealedForm}
	routes := []kit.Route{
		{Method: http.MethodGet, Path: "/connect", Auth: first, Handle: u.openList},
		{Method: http.MethodGet, Path: "/connect/to/{key}", Auth: link, Handle: u.form},
		{Method: http.MethodPost, Path: "/connect/to/{key}", Auth: form, MaxBody: maxForm, Handle: u.submit},
		{Method: http.MethodGet, Path: "/connect/to/{key}/done", Auth: link, Handle: u.done},
		{Method: http.MethodGet, Path: "/connect/to/{key}/attempt", Auth: link, Handle: u.attempt},
		{Method: http.MethodGet, Path: endedPath, Auth: kit.Public, Handle: u.endedSignIn},
		{Method: http.MethodGet, Path: startPath, Auth: sealedLink, Handle: u.startPage},
		{Method: http.MethodPost, Path: startPath, Auth: sealedForm, MaxBody: maxForm, Handle: u.startSubmit},
	}
	for _, path := range callbackPaths {
		routes = append(routes,
			kit.Route{Method: http.MethodGet, Path: path, Auth: kit.Public, Handle: u.callback},
			kit.Route{Method: http.MethodPost, Path: path, Auth: kit.Public, MaxBody: maxCallback, Handle: u.repost})
	}
	routes = append(routes, kit.Route{Method: http.MethodGet, Path: broker.AppCallbackPath, Auth: kit.Public, Handle: u.callback})
	for i := range routes {
		routes[i].Handle = remembering(routes[i].Handle)
	}
	return kit.Surface{Name: "connect", Routes: routes, Fail: u.fail}
}

// byLink reads the session's token from a link. It is a credential in an address, as links have to be: the pages send no
// referrer, and the access log has no queries.
func (u *UI) byLink(r *http.Request) (broker.Actor, error) {
	return u.session(r, r.URL.Query()[paramToken])
}

// byForm reads the session's token from a form.
func (u *UI) byForm(r *http.Request) (broker.Actor, error) {
	if err := parseForm(r); err != nil {
		return broker.Actor{}, err
	}
	return u.session(r, r.PostForm[paramToken])
}

func (u *UI) session(r *http.Request, tokens []string) (broker.Actor, error) {
	if len(tokens) != 1 || !kit.IsSessionToken(tokens[0]) {
		return broker.Actor{}, broker.ErrSessionInvalid
	}
	return u.broker.AuthenticateSession(r.Context(), tokens[0])
}

func parseForm(r *http.Request) error {
	err := r.ParseForm()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return broker.ErrBodyTooLarge
	case err != nil:
		return broker.ErrInvalidRequest.Saying("the form cannot be read").Because(err)
	}
	return nil
}

// Names in addresses and forms.
const (
	paramToken = "session_token"
	paramQuery = "q"
	paramNote  = "note"
)

const listPath = "/connect/"

func formPath(key string) string { return listPath + "to/" + url.PathEscape(key) }

// rules are what differs between the policies of pages.
type rules struct {
	formTo    string   // an origin besides our own that the page's form may lead to; empty: none
	ancestors []string // what pages may have this one inside them; empty: none
}

// render writes a page. It is rendered whole first, so that an error is a page of its own.
func (u *UI) render(w http.ResponseWriter, r *http.Request, status int, page templ.Component, what rules) error {
	nonce := newNonce()
	var buf bytes.Buffer
	if err := page.Render(templ.WithNonce(r.Context(), nonce), &buf); err != nil {
		return fmt.Errorf("render the page: %w", err)
	}
	headers(w, policy(nonce, what))
	kit.WriteBody(w, status, "text/html; charset=utf-8", buf.Bytes())
	return nil
}

// headers sets what every answer of these pages has, redirects included: a browser minds their policies too.
func headers(w http.ResponseWriter, csp string) {
	h := w.Header()
	h.Set("Content-Security-Policy", csp)
	// A popup keeps its opener, which the result is told to.
	h.Set("Cross-Origin-Opener-Policy", "unsafe-none")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// redirect sends the browser on after a form, with a GET.
func redirect(w http.ResponseWriter, target string, ancestors []string) {
	redirectBy(w, http.StatusSeeOther, target, ancestors)
}

// redirectBy sends the browser on by a redirect of that status.
func redirectBy(w http.ResponseWriter, status int, target string, ancestors []string) {
	headers(w, "default-src 'none'; frame-ancestors "+sources(ancestors))
	w.Header().Set("Location", target)
	w.WriteHeader(status)
}

func newNonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// policy says what a page may load and do. Scripts and styles need the nonce, from wherever they come: the proxy answers
// on our own origin with what strangers wrote, so 'self' is no proof.
func policy(nonce string, what rules) string {
	forms := "'self'"
	if what.formTo != "" {
		forms += " " + what.formTo
	}
	return "default-src 'none'; script-src 'nonce-" + nonce + "'; style-src 'nonce-" + nonce + "'; img-src 'self' data:; " +
		"connect-src 'self'; base-uri 'none'; form-action " + forms + "; frame-ancestors " + sources(what.ancestors)
}

// sources lists origins as a policy does.
func sources(origins []string) string {
	if len(origins) == 0 {
		return "'none'"
	}
	return strings.Join(origins, " ")
}

// plainOrigin gives an origin if it is one and nothing else: it goes into a header that spaces and semicolons divide.
func plainOrigin(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Scheme+"://"+u.Host != s ||
		strings.ContainsAny(s, " ;,'\"*\t\r\n") {
		return ""
	}
	return s
}
