package providertest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// family is everything that came of one consent.
type family struct {
	account string
	nonce   string
	revoked bool
	ends    map[string]time.Time // of its access tokens
}

type code struct {
	family    *family
	challenge string
	redirect  string
	used      bool
}

type refreshToken struct {
	family *family
	used   time.Time // zero: it was not
	next   string    // what it was traded for
}

func (s *Server) newFamily(nonce string) *family {
	account := s.knobs.Account
	if account == "" {
		s.serial++
		account = fmt.Sprintf("account-%d", s.serial)
	}
	f := &family{account: account, nonce: nonce, ends: map[string]time.Time{}}
	s.families = append(s.families, f)
	return f
}

func (s *Server) newAccess(f *family) string {
	s.serial++
	token := fmt.Sprintf("access-%d-canary", s.serial)
	s.access[token], f.ends[token] = f, s.now().Add(s.lifetime())
	return token
}

func (s *Server) newRefresh(f *family) string {
	s.serial++
	token := fmt.Sprintf("refresh-%d-canary", s.serial)
	s.refresh[token] = &refreshToken{family: f}
	return token
}

func (s *Server) lifetime() time.Duration {
	if s.knobs.Lifetime == 0 {
		return time.Hour
	}
	return s.knobs.Lifetime
}

// authorize approves at once (RFC 6749 section 4.1.2), naming the issuer (RFC 9207).
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || back.Host == "" || q.Get("client_id") != ClientID || q.Get("response_type") != "code" {
		http.Error(w, "client_id, redirect_uri or response_type is wrong", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.counts.Authorizations++
	answer := back.Query()
	answer.Set("state", q.Get("state"))
	if !s.knobs.NoIss {
		answer.Set("iss", s.URL)
	}
	if s.knobs.Deny {
		answer.Set("error", "access_denied")
	} else {
		s.serial++
		value := fmt.Sprintf("code-%d-canary", s.serial)
		s.codes[value] = &code{
			family: s.newFamily(q.Get("nonce")), challenge: q.Get("code_challenge"), redirect: q.Get("redirect_uri"),
		}
		answer.Set("code", value)
	}
	s.mu.Unlock()
	back.RawQuery = answer.Encode()
	w.Header().Set("Location", back.String())
	w.WriteHeader(http.StatusFound)
}

// refusal is an OAuth error.
type refusal struct {
	code   string
	status int
}

func (e *refusal) Error() string { return e.code }

func invalidGrant() error { return &refusal{"invalid_grant", http.StatusBadRequest} }

// issued is a token on its way out.
type issued struct {
	access, refresh, nonce, account string
}

// grant gives a token for a request's parameters.
func (s *Server) grant(form url.Values) (*issued, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch form.Get("grant_type") {
	case "authorization_code":
		return s.exchange(form)
	case "refresh_token":
		return s.renew(form.Get("refresh_token"))
	case "client_credentials":
		f := s.newFamily("")
		return &issued{access: s.newAccess(f), account: f.account}, nil
	}
	return nil, &refusal{"unsupported_grant_type", http.StatusBadRequest}
}

func (s *Server) exchange(form url.Values) (*issued, error) {
	c := s.codes[form.Get("code")]
	switch {
	case c == nil || c.redirect != form.Get("redirect_uri"):
		return nil, invalidGrant()
	case c.used: // RFC 6749 section 4.1.2: what came of the code ends
		c.family.revoked = true
		return nil, invalidGrant()
	case c.challenge != "" && c.challenge != challengeOf(form.Get("code_verifier")):
		return nil, invalidGrant()
	}
	c.used = true
	return s.issue(c.family), nil
}

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s *Server) issue(f *family) *issued {
	out := &issued{access: s.newAccess(f), nonce: f.nonce, account: f.account}
	if !s.knobs.NoRefreshToken {
		out.refresh = s.newRefresh(f)
	}
	return out
}

// renew trades a refresh token. A used one that is past its grace ends the family: it may have been stolen.
func (s *Server) renew(value string) (*issued, error) {
	t := s.refresh[value]
	if t == nil || t.family.revoked {
		return nil, invalidGrant()
	}
	if !t.used.IsZero() {
		s.counts.Reuses++
		if s.now().Sub(t.used) > s.knobs.Grace || s.knobs.Grace == 0 {
			t.family.revoked = true
			s.counts.FamiliesRevoked++
			return nil, invalidGrant()
		}
		return &issued{access: s.newAccess(t.family), refresh: t.next, account: t.family.account}, nil
	}
	if !s.knobs.Rotate {
		return &issued{access: s.newAccess(t.family), account: t.family.account}, nil
	}
	out := s.issue(t.family)
	t.used, t.next = s.now(), out.refresh
	return out, nil
}

// knownClient checks id and secret, in the header or in the parameters.
func knownClient(r *http.Request, form url.Values) bool {
	if id, secret, ok := r.BasicAuth(); ok {
		return id == ClientID && secret == ClientSecret
	}
	return form.Get("client_id") == ClientID && form.Get("client_secret") == ClientSecret
}

// idToken makes an unsigned ID token: it comes straight from the token endpoint.
func (s *Server) idToken(out *issued) string {
	claims, _ := json.Marshal(map[string]any{
		"iss": s.URL, "sub": out.account, "aud": ClientID, "nonce": out.nonce, "exp": s.now().Add(time.Hour).Unix(),
	})
	encode := base64.RawURLEncoding.EncodeToString
	return strings.Join([]string{encode([]byte(`{"alg":"none"}`)), encode(claims), ""}, ".")
}
