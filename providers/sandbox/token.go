package sandbox

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// oauthError is an error answer of the token and revocation endpoints (RFC 6749 5.2).
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

var (
	errClient    = &oauthError{"invalid_client", "client authentication failed"}
	errForm      = &oauthError{"invalid_request", "the body is not a form, or too long"}
	errRepeated  = &oauthError{"invalid_request", "a parameter is given twice"}
	errTwoWays   = &oauthError{"invalid_request", "the client authenticates in two ways at once"}
	errNoGrant   = &oauthError{"invalid_request", "grant_type is missing"}
	errNoToken   = &oauthError{"invalid_request", "token is missing"}
	errGrantType = &oauthError{"unsupported_grant_type", "only authorization_code and refresh_token are supported"}
	errCode      = &oauthError{"invalid_grant", "the code is unknown, expired, used, or not for this client, redirect_uri or verifier"}
	errRefresh   = &oauthError{"invalid_grant", "the refresh token is unknown, expired, revoked, used, or another client's"}
	errScope     = &oauthError{"invalid_scope", "the grant does not cover this scope"}
	errForeign   = &oauthError{"invalid_grant", "the token is another client's"}
)

// tokenAnswer is the body of RFC 6749 5.1.
type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	clientID, fail := s.authenticate(w, r)
	s.mu.Lock()
	s.stats.TokenRequests++
	var t tokens
	if fail == nil {
		switch r.PostForm.Get("grant_type") {
		case "authorization_code":
			t, fail = s.exchange(clientID, r.PostForm)
		case "refresh_token":
			t, fail = s.refresh(clientID, r.PostForm)
		case "":
			fail = errNoGrant
		default:
			fail = errGrantType
		}
	}
	s.mu.Unlock()
	if fail != nil {
		s.fail(w, r, fail)
		return
	}
	s.log.InfoContext(r.Context(), "sandbox answered", "path", r.URL.Path, "client", clientID)
	writeJSON(w, http.StatusOK, tokenAnswer{
		AccessToken:  t.access,
		TokenType:    "Bearer",
		ExpiresIn:    int64(t.expiresIn / time.Second),
		RefreshToken: t.refresh,
		Scope:        strings.Join(t.scopes, " "),
	})
}

// authenticate parses the form and says which client sent it, by HTTP Basic or by the body
// (RFC 6749 2.3.1), but not by both.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) (clientID string, fail *oauthError) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return "", errForm
	}
	if repeated(r.PostForm) {
		return "", errRepeated
	}
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	} else {
		if r.PostForm.Has("client_secret") {
			return "", errTwoWays
		}
		var err1, err2 error
		id, err1 = url.QueryUnescape(id)
		secret, err2 = url.QueryUnescape(secret)
		if err1 != nil || err2 != nil {
			return "", errClient
		}
	}
	client := s.clients[id]
	if client.Secret == "" || subtle.ConstantTimeCompare([]byte(secret), []byte(client.Secret)) != 1 {
		return "", errClient
	}
	return id, nil
}

// exchange trades a code for tokens. Its client gets one try: a wrong verifier spends the code too,
// so that a stolen code cannot be tried out.
func (s *Server) exchange(clientID string, form url.Values) (tokens, *oauthError) {
	now := s.now()
	c, ok := s.codes.get(form.Get("code"), now)
	if !ok || c.clientID != clientID {
		return tokens{}, errCode
	}
	if c.spent {
		s.endReused(c.family)
		return tokens{}, errCode
	}
	c.spent = true
	if !now.Before(c.expires) || c.redirectURI != form.Get("redirect_uri") ||
		!verifies(form.Get("code_verifier"), c.challenge) {
		return tokens{}, errCode
	}
	f := s.newFamily(clientID, c.user, c.scopes)
	c.family = f.id
	return s.tokens(f), nil
}

// verifies checks a PKCE verifier of proper length (RFC 7636 4.1) against its challenge.
func verifies(verifier, challenge string) bool {
	hash := sha256.Sum256([]byte(verifier))
	want := base64.RawURLEncoding.EncodeToString(hash[:])
	return len(verifier) >= 43 && len(verifier) <= 128 &&
		subtle.ConstantTimeCompare([]byte(want), []byte(challenge)) == 1
}

// refresh starts the family's next generation, or repeats the last start of one.
func (s *Server) refresh(clientID string, form url.Values) (tokens, *oauthError) {
	now := s.now()
	t, ok := s.read(form.Get("refresh_token"))
	if !ok || t.kind != kindRefresh {
		return tokens{}, errRefresh
	}
	f, alive := s.families.get(t.family, now)
	if !alive || f.clientID != clientID {
		return tokens{}, errRefresh
	}
	for _, scope := range strings.Fields(form.Get("scope")) {
		if !slices.Contains(f.scopes, scope) {
			return tokens{}, errScope
		}
	}
	switch {
	case t.generation == f.generation:
		s.nextGeneration(f)
	case t.generation == f.generation-1 && now.Sub(f.issued) <= repeatGrace:
	default:
		s.endReused(f.id)
		return tokens{}, errRefresh
	}
	s.stats.Refreshes++
	return s.tokens(f), nil
}

// revoke ends the family of the token, be it an access or a refresh token, current or not. A token that
// is unknown or dead is no error (RFC 7009 2.2).
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	clientID, fail := s.authenticate(w, r)
	if fail == nil {
		fail = s.end(clientID, r.PostForm.Get("token"))
	}
	if fail != nil {
		s.fail(w, r, fail)
		return
	}
	s.log.InfoContext(r.Context(), "sandbox answered", "path", r.URL.Path, "client", clientID)
	w.WriteHeader(http.StatusOK)
}

func (s *Server) end(clientID, token string) *oauthError {
	if token == "" {
		return errNoToken
	}
	t, ours := s.read(token)
	if !ours {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, alive := s.families.get(t.family, s.now())
	if !alive {
		return nil
	}
	if f.clientID != clientID {
		return errForeign
	}
	s.families.take(f.id, s.now())
	s.stats.Revocations++
	return nil
}

// fail answers with an error that the client can act on.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, e *oauthError) {
	s.log.InfoContext(r.Context(), "sandbox refused", "path", r.URL.Path, "error", e.Code)
	status := http.StatusBadRequest
	if e == errClient {
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm="sandbox"`)
	}
	writeJSON(w, status, e)
}

// metadata describes the server (RFC 8414).
func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) {
	methods := []string{"client_secret_basic", "client_secret_post"}
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                         s.origin,
		"authorization_endpoint":                         s.origin + "/authorize",
		"token_endpoint":                                 s.origin + "/token",
		"revocation_endpoint":                            s.origin + "/revoke",
		"response_types_supported":                       []string{"code"},
		"response_modes_supported":                       []string{"query"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token"},
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          methods,
		"revocation_endpoint_auth_methods_supported":     methods,
		"authorization_response_iss_parameter_supported": true,
		"scopes_supported":                               defaultScopes(),
	})
}
