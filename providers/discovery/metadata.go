package discovery

import (
	"context"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// body ends its request's time when it is closed.
type body struct {
	io.ReadCloser
	cancel func()
}

// Close implements io.Closer.
func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}

// serverMetadata is what counts here of an authorization server's metadata (RFC 8414 section 2).
type serverMetadata struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Registration  string   `json:"registration_endpoint"`
	Revocation    string   `json:"revocation_endpoint"`
	Scopes        []string `json:"scopes_supported"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	TokenAuth     []string `json:"token_endpoint_auth_methods_supported"`
	NamesIssuer   bool     `json:"authorization_response_iss_parameter_supported"`
	Documents     bool     `json:"client_id_metadata_document_supported"`
}

// authorizationServer finds and checks the one that the server trusts.
func (s *search) authorizationServer(ctx context.Context, about *resourceMetadata) (*broker.Server, error) {
	var issuers []string // any of these is right
	switch {
	case len(about.Servers) == 0:
		// The version of 2025-03-26: it is where the server is. Whether that is written with a slash at its end is not said.
		here := s.server.Scheme + "://" + s.server.Host
		issuers = []string{here, here + "/"}
	case s.issuer != "" && slices.Contains(about.Servers, s.issuer):
		issuers = []string{s.issuer}
	default:
		issuers = about.Servers[:1]
	}
	if s.issuer != "" && !slices.Contains(issuers, s.issuer) {
		return nil, broker.ErrIssuerUnexpected.Saying("this server trusts another authorization server than the integration's client belongs to").Because(ErrNotTrusted)
	}
	at, err := s.check(issuers[0])
	if err != nil {
		return nil, err
	}
	if at.RawQuery != "" || at.ForceQuery {
		return nil, broker.ErrURLNotAllowed
	}
	for _, place := range s.metadataPlaces(at) {
		m := new(serverMetadata)
		found, err := s.document(ctx, place, m)
		switch {
		case err != nil:
			return nil, err
		case found && !slices.Contains(issuers, m.Issuer):
			return nil, broker.ErrIssuerUnexpected
		case found:
			return s.checked(m)
		}
	}
	return nil, ErrNone
}

// metadataPlaces lists where an issuer's metadata may be, in the order in which to look: with the suffix before the
// issuer's path (RFC 8414 section 3.1), the same for OpenID, and behind the path.
func (s *search) metadataPlaces(issuer *url.URL) []*url.URL {
	const oauth, openid = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	out := []*url.URL{s.at(issuer, oauth+path), s.at(issuer, openid+path)}
	if path != "" {
		out = append(out, s.at(issuer, path+openid))
	}
	return out
}

// maxMethods bounds how many ways of client authentication are looked at.
const maxMethods = 20

// checked takes over what metadata says, if all of it may be used.
func (s *search) checked(m *serverMetadata) (*broker.Server, error) {
	if !slices.Contains(m.Challenges, "S256") {
		return nil, broker.ErrPKCEUnsupported
	}
	out := &broker.Server{
		Issuer: m.Issuer, NamesIssuer: m.NamesIssuer, Documents: m.Documents, Scopes: Scopes(m.Scopes), TokenAuth: known(m.TokenAuth),
	}
	for _, e := range []struct {
		raw    string
		into   *string
		needed bool
	}{
		{m.Authorization, &out.Authorization, true},
		{m.Token, &out.Token, true},
		{m.Registration, &out.Registration, false},
		{m.Revocation, &out.Revocation, false},
	} {
		if e.raw == "" && !e.needed {
			continue
		}
		u, err := s.check(e.raw)
		if err != nil {
			return nil, err
		}
		*e.into = u.String()
	}
	// The scope that refresh tokens need may stand behind more than anybody asks for.
	if slices.Contains(m.Scopes, offline) && !slices.Contains(out.Scopes, offline) {
		out.Scopes = append(out.Scopes, offline)
	}
	return out, nil
}

// The ways in which a client proves itself that we have.
const (
	AuthBasic = "client_secret_basic"
	AuthPost  = "client_secret_post"
	AuthNone  = "none"
)

// known leaves of the ways of client authentication those that we have, and one more where there is none: a server that
// says what it takes takes nothing else.
func known(methods []string) []string {
	var out []string
	for _, m := range methods[:min(len(methods), maxMethods)] {
		if m == AuthBasic || m == AuthPost || m == AuthNone {
			out = append(out, m)
		}
	}
	if len(methods) > 0 && out == nil {
		return []string{"unsupported"}
	}
	return out
}
