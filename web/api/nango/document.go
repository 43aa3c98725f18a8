package nango

import (
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// documentRoutes have what servers read about us that are told an address for a client id.
func (a *api) documentRoutes() []kit.Route {
	return []kit.Route{{Method: http.MethodGet, Path: "/oauth/client-metadata/{name}", Auth: kit.Public, Handle: a.document}}
}

// clientDocument describes us as a client (OAuth Client ID Metadata Document section 4.1, RFC 7591 section 2).
type clientDocument struct {
	ClientID      string   `json:"client_id"`
	ClientName    string   `json:"client_name"`
	ClientURI     string   `json:"client_uri"`
	RedirectURIs  []string `json:"redirect_uris"`
	GrantTypes    []string `json:"grant_types"`
	ResponseTypes []string `json:"response_types"`
	TokenAuth     string   `json:"token_endpoint_auth_method"`
	Kind          string   `json:"application_type"`
}

// document answers GET /oauth/client-metadata/{name}.
func (a *api) document(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	d, err := a.b.ClientDocument(r.PathValue("name"))
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	return kit.WriteJSON(w, http.StatusOK, clientDocument{
		ClientID: d.ClientID, ClientName: d.Name, ClientURI: d.PublicURL, RedirectURIs: []string{d.RedirectURI},
		GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"}, TokenAuth: "none", Kind: "web",
	})
}
