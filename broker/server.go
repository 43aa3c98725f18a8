package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// Server is the authorization server that a grant is asked of, where the catalogue does not say once for all which that is:
// as it was found and checked when a sign-in began. It is pinned with the grant: renewal and revocation go by it.
type Server struct {
	API         string   `json:"api"`                    // the protected server, whose tokens these are
	Resource    string   `json:"resource,omitempty"`     // what requests for tokens name (RFC 8707); empty: nothing
	Issuer      string   `json:"issuer"`                 // empty: the entry does not say
	NamesIssuer bool     `json:"names_issuer,omitempty"` // its authorization answers hold iss (RFC 9207)
	Scopes      []string `json:"scopes,omitempty"`       // to be asked for

	// The endpoints (RFC 8414 section 2); empty: there is none.
	Authorization string `json:"authorization"`
	Token         string `json:"token"`
	Registration  string `json:"registration,omitempty"`
	Revocation    string `json:"revocation,omitempty"`

	TokenAuth []string  `json:"token_auth,omitempty"` // how clients may prove themselves; empty: it does not say
	Documents bool      `json:"documents,omitempty"`  // a client may be named by the address of a document about it
	FoundAt   time.Time `json:"found_at,omitzero"`    // zero: its entry says all this

	// How we are known there, and prove it.
	Client     ClientKind `json:"client,omitempty"`
	ClientAuth string     `json:"client_auth,omitempty"` // client_secret_basic, client_secret_post or none
	// RedirectURI is the one that the grant was asked with.
	RedirectURI string `json:"redirect_uri,omitempty"`
}

// ClientKind says where the client of a sign-in comes from.
type ClientKind string

// The kinds, in the order of preference.
const (
	ConfiguredClient ClientKind = "configured" // the integration's, or what the app's backend named for the session
	DocumentedClient ClientKind = "document"   // its id is the address of a document of ours
	RegisteredClient ClientKind = "registered" // registered by us
)

// Discoverer is an Authorizer whose authorization server has to be found before the browser can leave, and which may have
// to be told of us. AuthorizeURL without a Server then only tells whether the request can be made.
type Discoverer interface {
	// Discover finds the server. Errors: variable_invalid, url_not_allowed, provider_url_invalid, resource_mismatch,
	// issuer_mismatch, pkce_unsupported, *ProviderError.
	Discover(ctx context.Context, h *Holding) (*Server, error)
	// Register makes us a client of the server, exactly once. Errors: url_not_allowed, not_supported, *ProviderError.
	Register(ctx context.Context, s *Server, r *RegisterRequest) (*Registered, error)
}

// RegisterRequest is what a registration is made of.
type RegisterRequest struct {
	Client      *Client
	Config      map[string]string
	Name        string // what end users read
	PublicURL   string
	RedirectURI string
	Native      bool // the redirect URI is on this machine
}

// Registered is a client that a server has made for us.
type Registered struct {
	ID        string
	Secret    Secret
	Auth      string    // how it proves itself, as in [Server]
	ExpiresAt time.Time // of the secret; zero: never
}

// ScopeReader is a provider whose API says which scopes a refused call lacked.
type ScopeReader interface {
	// MissingScopes reads the headers of a refusal; nil: it does not say.
	MissingScopes(header http.Header) []string
}

// Details of a credential that say which server it is of, and which client was made for it.
const (
	detailServer       = "mcp.server"
	detailServerClient = "mcp.client_id"
	detailServerSecret = "mcp.client_secret"
)

// SetServer pins a server to a credential, and its client where that is neither the integration's nor the end user's.
func (m *Material) SetServer(s *Server, client *Client) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return ErrInternal.Because(err)
	}
	details := make(map[string]Secret, len(m.Details)+3)
	for name, v := range m.Details {
		details[name] = v
	}
	details[detailServer] = NewSecret(string(raw))
	if s.Client != ConfiguredClient && client != nil {
		details[detailServerClient], details[detailServerSecret] = NewSecret(client.ID), client.Secret
	}
	m.Details = details
	return nil
}

// Server gives the server that is pinned to a credential; nil: none is.
func (m *Material) Server() *Server {
	raw := m.Details[detailServer]
	if raw.IsZero() {
		return nil
	}
	s := new(Server)
	if json.Unmarshal([]byte(raw.Reveal()), s) != nil {
		return nil
	}
	return s
}

// ServerClient gives the client that was made for the credential's server; nil: none was.
func (m *Material) ServerClient(of *Client) *Client {
	id := m.Details[detailServerClient]
	if id.IsZero() {
		return nil
	}
	out := Client{}
	if of != nil {
		out = *of
	}
	out.ID, out.Secret = id.Reveal(), m.Details[detailServerSecret]
	return &out
}

// hasOwnClient reports whether a refusal of the credential's client concerns this connection alone: the client is the end
// user's own, or one that the server made for us and may have forgotten, which connecting again mends.
func (m *Material) hasOwnClient() bool {
	return !m.Details["client_id"].IsZero() || !m.Details[detailServerClient].IsZero()
}

// registrar is by what a registration at the server is found again.
func (s *Server) registrar() string { return cmp.Or(s.Issuer, s.Registration) }

// takesPublic reports whether the server lets clients in that have no secret.
func (s *Server) takesPublic() bool {
	return len(s.TokenAuth) == 0 || slices.Contains(s.TokenAuth, "none")
}
