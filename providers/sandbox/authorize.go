package sandbox

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// request is an authorization request on its way through the pages. Between two of them it waits under
// a key that only the page knows and that its form spends, so no cookie is needed.
type request struct {
	clientID    string
	redirectURI string
	state       string
	challenge   string // PKCE, S256
	scopes      []string
	user        User // zero until one was chosen
}

// authorize is the authorization endpoint (RFC 6749 3.1). While the redirect URI is in doubt, errors
// stay on a page of ours; after that they go to the client.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	if len(r.URL.RawQuery) > maxQuery {
		s.errorPage(w, r, http.StatusRequestURITooLong, "The app's request is too long.")
		return
	}
	q := r.URL.Query()
	client, known := s.clients[q.Get("client_id")]
	if !known || len(q["client_id"]) != 1 {
		s.errorPage(w, r, http.StatusBadRequest, "The sandbox does not know the app that sent you here (client_id).")
		return
	}
	if len(q["redirect_uri"]) != 1 || !slices.Contains(client.RedirectURIs, q.Get("redirect_uri")) {
		s.errorPage(w, r, http.StatusBadRequest, "The app wants the answer at an address that is not registered for it (redirect_uri).")
		return
	}
	req := request{
		clientID:    q.Get("client_id"),
		redirectURI: q.Get("redirect_uri"),
		state:       q.Get("state"),
		challenge:   q.Get("code_challenge"),
		scopes:      strings.Fields(q.Get("scope")),
	}
	if len(req.scopes) == 0 {
		req.scopes = defaultScopes()
	}
	if code, description := checkRequest(q, req); code != "" {
		s.answer(w, req, url.Values{"error": {code}, "error_description": {description}})
		return
	}
	s.loginPage(w, r, req)
}

// checkRequest returns the error of RFC 6749 4.1.2.1 for a request whose client and redirect URI are
// good, or an empty code.
func checkRequest(q url.Values, req request) (code, description string) {
	if repeated(q) {
		return "invalid_request", "a parameter is given twice"
	}
	switch q.Get("response_type") {
	case "code":
	case "":
		return "invalid_request", "response_type is missing"
	default:
		return "unsupported_response_type", "only response_type=code is supported"
	}
	hash, err := base64.RawURLEncoding.DecodeString(req.challenge)
	if q.Get("code_challenge_method") != "S256" || err != nil || len(hash) != 32 {
		return "invalid_request", "PKCE with code_challenge_method=S256 is required"
	}
	if !slices.ContainsFunc(req.scopes, malformedScope) {
		return "", ""
	}
	return "invalid_scope", "a scope holds a character that scopes may not"
}

// malformedScope goes by the scope-token of RFC 6749 3.3.
func malformedScope(scope string) bool {
	return strings.ContainsFunc(scope, func(c rune) bool {
		return c <= ' ' || c > '~' || c == '"' || c == '\\'
	})
}

func repeated(v url.Values) bool {
	for _, values := range v {
		if len(values) > 1 {
			return true
		}
	}
	return false
}

// login takes the account that was chosen and goes on to the consent page.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	req, ok := s.resume(w, r)
	if !ok {
		return
	}
	if req.user, ok = s.user(r.PostForm.Get("user")); !ok {
		s.errorPage(w, r, http.StatusBadRequest, "There is no such account.")
		return
	}
	s.consentPage(w, r, req)
}

// consent takes the decision and sends the browser back to the client with it.
func (s *Server) consent(w http.ResponseWriter, r *http.Request) {
	req, ok := s.resume(w, r)
	if !ok {
		return
	}
	if req.user.ID == "" {
		s.errorPage(w, r, http.StatusBadRequest, "No account was chosen.")
		return
	}
	switch r.PostForm.Get("decision") {
	case "allow":
		s.answer(w, req, url.Values{"code": {s.newCode(req)}})
	case "switch":
		s.loginPage(w, r, req)
	case "deny":
		s.answer(w, req, url.Values{"error": {"access_denied"}, "error_description": {"the user denied access"}})
	default:
		s.errorPage(w, r, http.StatusBadRequest, "The form was not filled in.")
	}
}

// suspend keeps req while a page is open, and returns the key for the page's form.
func (s *Server) suspend(req request) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, now := rand.Text(), s.now()
	s.requests.put(key, req, now, now.Add(pageLifetime))
	return key
}

// resume takes the request that the posted form belongs to. If there is none, it has answered.
func (s *Server) resume(w http.ResponseWriter, r *http.Request) (request, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		s.errorPage(w, r, http.StatusBadRequest, "The form could not be read.")
		return request{}, false
	}
	s.mu.Lock()
	req, ok := s.requests.take(r.PostForm.Get("transaction"), s.now())
	s.mu.Unlock()
	if !ok {
		s.errorPage(w, r, http.StatusBadRequest, "This page has expired or was used already. Go back to the app and start again.")
	}
	return req, ok
}

func (s *Server) newCode(req request) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, now := rand.Text(), s.now()
	s.codes.put(key, &code{request: req, expires: now.Add(codeLifetime)}, now, now.Add(codeMemory))
	return key
}

// answer sends the authorization response. With 303 the browser drops the form that it posted here
// (RFC 9700 4.12).
func (s *Server) answer(w http.ResponseWriter, req request, values url.Values) {
	if req.state != "" {
		values.Set("state", req.state)
	}
	values.Set("iss", s.origin)
	separator := "?"
	if strings.Contains(req.redirectURI, "?") {
		separator = "&"
	}
	w.Header().Set("Location", req.redirectURI+separator+values.Encode())
	w.WriteHeader(http.StatusSeeOther)
}
