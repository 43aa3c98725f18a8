package discovery

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/egress"
)

// Registration is what a server is told of us (RFC 7591 section 2).
type Registration struct {
	Name          string
	PublicURL     string
	RedirectURI   string
	Native        bool
	ResponseTypes []string // nil: code
	GrantTypes    []string // nil: authorization_code and refresh_token
	Auth          string
}

// ChooseAuth gives the way in which a new client is to prove itself. A server that says nothing takes a secret in the header
// (RFC 8414 section 2). Errors: not_supported.
func ChooseAuth(s *broker.Server) (string, error) {
	if len(s.TokenAuth) == 0 {
		return AuthBasic, nil
	}
	// A secret can run out, and with it every grant of its client. One that anybody gets who asks protects little.
	for _, m := range []string{AuthNone, AuthBasic, AuthPost} {
		if slices.Contains(s.TokenAuth, m) {
			return m, nil
		}
	}
	return "", broker.ErrNotSupported.Saying("this server wants clients to prove themselves in a way that this version does not have")
}

// registrationRequest is the body of a request.
type registrationRequest struct {
	RedirectURIs    []string `json:"redirect_uris"`
	ClientName      string   `json:"client_name,omitempty"`
	ClientURI       string   `json:"client_uri,omitempty"`
	GrantTypes      []string `json:"grant_types"`
	ResponseTypes   []string `json:"response_types"`
	TokenAuth       string   `json:"token_endpoint_auth_method"`
	ApplicationType string   `json:"application_type"`
}

// registrationAnswer is what counts here of the answer (RFC 7591 section 3.2.1).
type registrationAnswer struct {
	ID           string         `json:"client_id"`
	Secret       string         `json:"client_secret"`
	SecretEnd    jsontext.Value `json:"client_secret_expires_at"`
	RedirectURIs []string       `json:"redirect_uris"`
	TokenAuth    string         `json:"token_endpoint_auth_method"`
}

// Codes of registrations that came to nothing and have none of the server's.
const (
	codeNoClient      = "no_client_id"
	codeOtherRedirect = "foreign_redirect_uri"
	codeBadAnswer     = "bad_answer"
	codeOtherAuth     = "unsupported_client_auth"
	codeRefused       = "registration_refused"
)

// Register makes us a client of a server, once. Errors: url_not_allowed, provider_url_invalid; *broker.ProviderError, of
// class ClientRefused where the server will not have us or answers something that cannot be used.
func (f *Finder) Register(ctx context.Context, s *broker.Server, r Registration) (*broker.Registered, error) {
	target, err := f.checkNear(s.Registration, nil)
	if err != nil && Origin(s.Registration) == Origin(s.API) { // an address that the app's backend chose
		target, err = f.CheckURL(s.Registration, true)
	}
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(r.request())
	if err != nil {
		return nil, broker.ErrInternal.Because(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(raw))
	if err != nil {
		return nil, broker.ErrURLNotAllowed
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := f.send(f.Calls, req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := egress.ReadBody(resp, egress.MaxBody)
	switch {
	case errors.Is(err, egress.ErrTooLarge):
		return nil, refused(resp, codeBadAnswer)
	case err != nil:
		return nil, f.unanswered(err, true)
	case resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK:
		return nil, declined(resp, answer)
	}
	return registered(resp, answer, r)
}

func (r *Registration) request() *registrationRequest {
	out := &registrationRequest{
		RedirectURIs: []string{r.RedirectURI}, ClientName: r.Name, ClientURI: r.PublicURL, GrantTypes: r.GrantTypes,
		ResponseTypes: r.ResponseTypes, TokenAuth: r.Auth, ApplicationType: "web",
	}
	if r.Native {
		out.ApplicationType = "native"
	}
	if out.GrantTypes == nil {
		out.GrantTypes = []string{"authorization_code", "refresh_token"}
	}
	if out.ResponseTypes == nil {
		out.ResponseTypes = []string{"code"}
	}
	return out
}

// refused is the error of an answer that cannot be used.
func refused(resp *http.Response, code string) error {
	return &broker.ProviderError{Class: broker.ClientRefused, Code: code, Status: resp.StatusCode}
}

// declined reads the refusal of a registration (RFC 7591 section 3.2.2). What the server says in words is left out: whoever
// runs it could have chosen them.
func declined(resp *http.Response, answer []byte) error {
	if resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
		return &broker.ProviderError{Class: broker.Transient, Code: codeRefused, Status: resp.StatusCode}
	}
	var said struct {
		Error string `json:"error"`
	}
	code := codeRefused
	if json.Unmarshal(answer, &said) == nil && isCode(said.Error) {
		code = said.Error
	}
	return refused(resp, code)
}

// maxCode is the length of the longest error code that is passed on.
const maxCode = 64

func isCode(s string) bool {
	return s != "" && len(s) <= maxCode && !strings.ContainsFunc(s, func(r rune) bool { return !isAlphanumeric(r) && r != '_' && r != '-' && r != '.' })
}

// The longest client id and secret, in bytes.
const (
	maxClientID     = 2048
	maxClientSecret = 4096
)

// registered reads the answer to a registration. What the server has registered otherwise than it was asked to is refused,
// but for the way in which the client proves itself, where it has the last word.
func registered(resp *http.Response, answer []byte, r Registration) (*broker.Registered, error) {
	var a registrationAnswer
	if json.Unmarshal(answer, &a) != nil {
		return nil, refused(resp, codeBadAnswer)
	}
	out := &broker.Registered{ID: a.ID, Secret: broker.NewSecret(a.Secret), Auth: r.Auth}
	if a.TokenAuth != "" {
		out.Auth = a.TokenAuth
	}
	if a.Secret == "" {
		out.Auth = AuthNone // nothing to prove itself with
	}
	switch {
	case !usable(a.ID, maxClientID):
		return nil, refused(resp, codeNoClient)
	case a.Secret != "" && !usable(a.Secret, maxClientSecret):
		return nil, refused(resp, codeBadAnswer)
	case a.RedirectURIs != nil && (len(a.RedirectURIs) != 1 || a.RedirectURIs[0] != r.RedirectURI):
		return nil, refused(resp, codeOtherRedirect)
	case out.Auth != AuthBasic && out.Auth != AuthPost && out.Auth != AuthNone,
		a.Secret == "" && a.TokenAuth != "" && a.TokenAuth != AuthNone:
		return nil, refused(resp, codeOtherAuth)
	}
	if out.Auth == AuthNone {
		out.Secret = broker.Secret{} // a secret that is never sent need not be kept
		return out, nil
	}
	var ok bool
	if out.ExpiresAt, ok = secretEnd(a.SecretEnd); !ok {
		return nil, refused(resp, codeBadAnswer)
	}
	return out, nil
}

// usable reports whether a text can be a client id or a secret: visible, and not endless.
func usable(s string, limit int) bool {
	return s != "" && len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// secretEnd reads the end of a secret, in seconds since 1970. Zero and nothing mean that it has none.
func secretEnd(v jsontext.Value) (time.Time, bool) {
	if len(v) == 0 || v.Kind() == 'n' {
		return time.Time{}, true
	}
	var at float64
	if v.Kind() != '0' || json.Unmarshal(v, &at) != nil || at < 0 {
		return time.Time{}, false
	}
	if at == 0 || at > maxTime {
		return time.Time{}, true
	}
	return time.Unix(int64(at), 0).UTC(), true
}

// maxTime is the year 9999, after which nothing ends.
const maxTime = 253_402_300_799
