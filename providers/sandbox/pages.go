package sandbox

import (
	"bytes"
	"crypto/rand"
	_ "embed" // for the templates
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

//go:embed pages.html
var pagesHTML string

// pages are parsed when the first one is wanted: most processes that this is built into never show one.
var pages = sync.OnceValue(func() *template.Template { return template.Must(template.New("pages").Parse(pagesHTML)) })

// permission is a scope and what the consent page says of it; nothing, for a scope the sandbox has not.
type permission struct{ Scope, Meaning string }

var permissions = []permission{
	{"profile", "See your name and email address"},
	{"coats", "See your coats and check in new ones"},
}

func defaultScopes() []string {
	var scopes []string
	for _, p := range permissions {
		scopes = append(scopes, p.Scope)
	}
	return scopes
}

// view is what the templates know.
type view struct {
	Nonce       string
	Transaction string
	App         string
	Host        string // where the answer goes
	User        User
	Users       []User
	Permissions []permission
	Message     string
}

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request, req request) {
	req.user = User{}
	v := s.view(req)
	v.Users = s.users
	s.render(w, r, http.StatusOK, "login", v, "'self'")
}

func (s *Server) consentPage(w http.ResponseWriter, r *http.Request, req request) {
	v := s.view(req)
	for _, scope := range req.scopes {
		i := slices.IndexFunc(permissions, func(p permission) bool { return p.Scope == scope })
		if i < 0 {
			v.Permissions = append(v.Permissions, permission{Scope: scope})
			continue
		}
		v.Permissions = append(v.Permissions, permissions[i])
	}
	s.render(w, r, http.StatusOK, "consent", v, s.formTargets(req))
}

func (s *Server) errorPage(w http.ResponseWriter, r *http.Request, status int, message string) {
	s.render(w, r, status, "error", view{Message: message}, "'none'")
}

func (s *Server) view(req request) view {
	v := view{Transaction: s.suspend(req), App: s.clients[req.clientID].Name, User: req.user}
	if v.App == "" {
		v.App = req.clientID
	}
	if u, err := url.Parse(req.redirectURI); err == nil {
		v.Host = u.Host
	}
	return v
}

// formTargets lists what the form of the consent page may lead to: this server, and, because Chromium
// holds the redirects that follow against form-action too, where the answer goes from here.
func (s *Server) formTargets(req request) string {
	targets := []string{"'self'"}
	if u, err := url.Parse(req.redirectURI); err == nil && u.Host != "" {
		targets = append(targets, u.Scheme+"://"+u.Host)
	} else if err == nil {
		targets = append(targets, u.Scheme+":") // an app's own scheme (RFC 8252 7.1)
	}
	return strings.Join(append(targets, s.clients[req.clientID].OnwardOrigins...), " ")
}

// render writes a page, whole or not at all. There is no Cross-Origin-Opener-Policy: it would part a
// popup from the window that opened it and waits for its result.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, name string, v view, formTargets string) {
	v.Nonce = rand.Text()
	var page bytes.Buffer
	if err := pages().ExecuteTemplate(&page, name, v); err != nil {
		s.log.ErrorContext(r.Context(), "sandbox page", "page", name, "error", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+v.Nonce+
		"'; form-action "+formTargets+"; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w)
}
