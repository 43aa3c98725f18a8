package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// serverRedirectURI is where the authorization server of one protected server sends browsers back. Each has its own, for two
// of them behind one address could have their answers mistaken for each other's. Where the integration has a client, its
// redirect URI is registered somewhere, and stays the integration's.
func (b *Broker) serverRedirectURI(c *connecting, callback string) string {
	m := c.making
	uri := b.redirectURI(m.facts, m.integration, callback)
	server, ok := m.config[m.facts.ServerField].(string)
	if !ok || m.client.ID != "" {
		return uri
	}
	sum := sha256.Sum256([]byte(server))
	return uri + "-" + hex.EncodeToString(sum[:serverTag/2])
}

// serverTag is how many characters of a callback's name tell servers apart.
const serverTag = 16

// ownCallback gives the end of a redirect URI that belongs to the integration; empty: it is a shared one.
func (i *Integration) ownCallback(redirectURI string) string {
	last := redirectURI[strings.LastIndexByte(redirectURI, '/')+1:]
	if rest, ok := strings.CutPrefix(last, i.PublicID); ok && (rest == "" || rest[0] == '-') {
		return last
	}
	return ""
}

// discover finds the server of a sign-in and a client for it, seals both into the flow and gives the address that the
// browser goes to.
func (b *Broker) discover(ctx context.Context, c *connecting, d Discoverer, a Authorizer, r *AuthorizeRequest, f *Flow, s flowSecrets) (string, error) {
	asking, cancel := context.WithTimeout(ctx, providerTimeout)
	server, err := d.Discover(asking, &Holding{Client: r.Client, Config: r.Config})
	cancel()
	if err != nil {
		return "", inSection(refusal(err), ConfigField)
	}
	client, err := b.serverClient(ctx, c, d, server, r)
	if err != nil {
		return "", err
	}
	server.RedirectURI = r.RedirectURI
	if server.Scopes = b.scopesAt(c, client, server); len(server.Scopes) > maxAsked {
		return "", ErrInvalidRequest.Saying("so many scopes are asked for that no server would give them")
	}
	named := *client
	named.Scopes = server.Scopes
	r.Client, r.Server = &named, server
	goal, err := a.AuthorizeURL(r)
	if err != nil {
		return "", inSection(err, ConfigField)
	}
	s.Server = server
	if server.Client != ConfiguredClient {
		s.ServerClientID, s.ServerClientSecret = client.ID, client.Secret.Reveal()
	}
	return goal, b.sealIntoFlow(ctx, f, s)
}

// foundScopes gives what a server's own word, and not the form, says is asked for.
func (r *AuthorizeRequest) foundScopes(shown []string) []string {
	if r.Server == nil || slices.Equal(r.Server.Scopes, shown) {
		return nil
	}
	return r.Server.Scopes
}

// maxAsked bounds how many scopes are asked for.
const maxAsked = 200

// scopesAt decides what to ask for: what the integration or the session says, or else what the server does; and, where a
// connection is repaired of which a call was refused for lack of scopes, those and what it was asked for before.
func (b *Broker) scopesAt(c *connecting, client *Client, s *Server) []string {
	asked := client.Scopes
	if len(asked) == 0 {
		asked = s.Scopes
	}
	if c.repaired == nil {
		return asked
	}
	wanted := wantedScopes(c.repaired)
	if len(wanted) == 0 {
		return asked
	}
	return union(asked, c.repaired.AskedScopes, c.repaired.Scopes, wanted)
}

// union gives each text of the lists once, in order.
func union(lists ...[]string) []string {
	var out []string
	for _, list := range lists {
		for _, s := range list {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// repair notes the connection that a session repairs where what it holds counts: the scopes that its calls lacked, and its
// server, where it names one. Whoever repairs it is not asked for an address again, and cannot name another.
func (b *Broker) repair(ctx context.Context, c *connecting) error {
	if _, ok := c.making.provider.(Discoverer); !ok || !c.session.Repairs() {
		return nil
	}
	conn, err := b.store.Connection(ctx, c.making.integration.Environment, c.making.reconnect)
	if errors.Is(err, ErrNotFound) {
		return nil // told when the grant is to be kept
	}
	if err != nil {
		return err
	}
	field := c.making.facts.ServerField
	if field == "" {
		c.repaired = conn
		return nil
	}
	server, ok := decodeObject(conn.Config)[field].(string)
	if given := c.defaults.Config[field]; !ok || given != "" && given != server {
		return nil // the app's backend has decided otherwise
	}
	c.repaired = conn
	c.defaults.Config = maps.Clone(c.defaults.Config)
	if c.defaults.Config == nil {
		c.defaults.Config = make(map[string]string, 1)
	}
	c.defaults.Config[field] = server
	return nil
}

// answeredBy checks who answers an authorization request (RFC 9207 section 2.4): a name must be the server's, to the byte,
// and one that promised its name must give it.
func (s *Server) answeredBy(q url.Values) error {
	if s == nil || s.Issuer == "" {
		return nil // an entry that knows the endpoints need not know the name
	}
	named := q.Get("iss")
	if named == s.Issuer || !q.Has("iss") && !s.NamesIssuer {
		return nil
	}
	return ErrIssuerMismatch
}

// client gives the client of a sign-in at a server.
func (s *flowSecrets) client(of *Client) *Client {
	if s.Server == nil {
		return of
	}
	out := *of
	out.Scopes = s.Server.Scopes
	if s.ServerClientID != "" {
		out.ID, out.Secret = s.ServerClientID, NewSecret(s.ServerClientSecret)
	}
	return &out
}

// Document is what a server finds at the address that is our client id there (OAuth Client ID Metadata Document).
type Document struct {
	ClientID    string
	Name        string
	PublicURL   string
	RedirectURI string
}

// documentPath is where documents are; their name is that of the callback.
const documentPath = "/oauth/client-metadata/"

// servesDocuments reports whether a server can read our documents: they are to be at an address of https.
func (b *Broker) servesDocuments() bool { return strings.HasPrefix(b.publicURL, "https://") && !b.dev }

// documentURL is the address of the document that names a redirect URI.
func (b *Broker) documentURL(redirectURI string) string {
	return b.publicURL + documentPath + redirectURI[strings.LastIndexByte(redirectURI, '/')+1:]
}

// ClientDocument gives the document of that name: an integration's public id, perhaps with the tag of one of its servers.
// Errors: not_found.
func (b *Broker) ClientDocument(name string) (*Document, error) {
	id, tag, tagged := strings.Cut(name, "-")
	if !b.servesDocuments() || tagged && (len(tag) != serverTag || strings.Trim(tag, "0123456789abcdef") != "") {
		return nil, ErrNotFound
	}
	for _, i := range b.snapshot.Load().byKey {
		if i.PublicID != id {
			continue
		}
		p, ok := b.catalogue.Provider(i.Provider)
		if _, discovers := p.(Discoverer); !ok || !discovers || tagged && p.Facts().ServerField == "" {
			break
		}
		redirect := b.publicURL + CallbackPath + "/" + name
		return &Document{ClientID: b.documentURL(redirect), Name: b.clientName(i), PublicURL: b.publicURL, RedirectURI: redirect}, nil
	}
	return nil, ErrNotFound
}

// clientName is what end users read at a server about who asks: what the integration says, or else the app.
func (b *Broker) clientName(i *Integration) string {
	if name := i.Settings[clientNameSetting]; name != "" {
		return name
	}
	if e := b.snapshot.Load().environments[i.Environment]; e != nil {
		return e.Label()
	}
	return ""
}

// issuerSetting is the setting that says which authorization server an integration's client belongs to, where connections
// name their servers.
const issuerSetting = "issuer"

// tokenOrigin is where an integration's client secret may be sent; empty: its connections' config says.
func (f *Facts) tokenOrigin(settings map[string]string) string {
	if f.ServerField == "" {
		return f.TokenOrigin
	}
	return originOf(settings[issuerSetting])
}

// clientNameSetting is the setting that names us at servers.
const clientNameSetting = "oauth_client_name"
