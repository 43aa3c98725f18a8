package nango

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// legacyRoutes are the paths that the current clients do not call any more, beside the ones in the singular.
func (a *api) legacyRoutes(doors kit.Doors) []kit.Route {
	create, update := doors.Key(broker.ScopeConnectionsCreate), doors.Key(broker.ScopeConnectionsUpdate)
	read := doors.Key(broker.ScopeIntegrationsRead, broker.ScopeIntegrationSecrets)
	return []kit.Route{
		{Method: http.MethodPost, Path: "/connection", Auth: create, MaxBody: kit.MaxJSON, Handle: a.importFlat},
		{Method: http.MethodPost, Path: "/connection/{connectionId}/metadata", Auth: update, MaxBody: kit.MaxJSON, Handle: a.setMetadataOfOne},
		{Method: http.MethodPatch, Path: "/connection/{connectionId}/metadata", Auth: update, MaxBody: kit.MaxJSON, Handle: a.mergeMetadataOfOne},
		{Method: http.MethodGet, Path: "/config/{providerConfigKey}", Auth: read, Handle: a.config},
	}
}

// setMetadataOfOne answers POST /connection/{connectionId}/metadata.
func (a *api) setMetadataOfOne(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	return a.putMetadataOfOne(w, r, who, false, http.StatusCreated)
}

// mergeMetadataOfOne answers PATCH /connection/{connectionId}/metadata.
func (a *api) mergeMetadataOfOne(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	return a.putMetadataOfOne(w, r, who, true, http.StatusOK)
}

// unknownConnection names what was asked for.
type unknownConnection struct {
	ConnectionID      string `json:"connectionId"`
	ProviderConfigKey string `json:"providerConfigKey"`
}

// putMetadataOfOne takes the whole body for the metadata, and the integration from the query or a header. Nothing is
// checked: what is not there is not found.
func (a *api) putMetadataOfOne(w http.ResponseWriter, r *http.Request, who broker.Actor, merge bool, status int) error {
	metadata, err := kit.ReadJSON(r)
	if err != nil {
		return err
	}
	key, integration := r.PathValue("connectionId"), integrationOf(r)
	if err := a.b.SetMetadata(r.Context(), who, integration, []string{key}, metadata, merge); err != nil {
		if errors.Is(err, broker.ErrNotFound) {
			e := broker.AsError(err)
			return &refusal{
				cause: e, status: http.StatusNotFound, code: "unknown_connection", message: e.Msg,
				payload: unknownConnection{key, integration},
			}
		}
		return err
	}
	return kit.WriteJSON(w, status, metadata)
}

// integrationOf reads the key that older callers send in the query or as a header.
func integrationOf(r *http.Request) string {
	return cmp.Or(r.URL.Query().Get("provider_config_key"), r.Header.Get("Provider-Config-Key"))
}

// configView is an integration as the oldest of this API's endpoints shows it. There are no syncs and actions here.
type configView struct {
	UniqueKey string     `json:"unique_key"`
	Provider  string     `json:"provider"`
	Syncs     []struct{} `json:"syncs"`
	Actions   []struct{} `json:"actions"`
	*configSecrets
}

// configSecrets is what it adds when credentials are asked for.
type configSecrets struct {
	ClientID            *string            `json:"client_id"`
	ClientSecret        *string            `json:"client_secret"`
	Custom              map[string]string  `json:"custom"`
	Scopes              *string            `json:"scopes"`
	AppLink             *string            `json:"app_link"`
	AuthMode            string             `json:"auth_mode"`
	CreatedAt           string             `json:"created_at"`
	HasWebhook          bool               `json:"has_webhook"`
	WebhookSecret       *string            `json:"webhook_secret"`
	WebhookURL          *string            `json:"webhook_url"`
	HasOwnWebhookSecret bool               `json:"has_webhook_user_defined_secret"`
	Docs                string             `json:"docs"`
	ConnectionCount     int                `json:"connection_count"`
	Connections         []listedConnection `json:"connections"`
}

// config answers GET /config/{providerConfigKey}.
func (a *api) config(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	i, facts, err := a.b.Integration(r.Context(), who, r.PathValue("providerConfigKey"))
	if err != nil {
		return missing(err, http.StatusBadRequest, "unknown_provider_config", "")
	}
	out := configView{UniqueKey: i.Key, Provider: i.Provider, Syncs: []struct{}{}, Actions: []struct{}{}}
	if words[strings.ToLower(r.URL.Query().Get("include_creds"))] {
		if out.configSecrets, err = a.configSecrets(r, who, i, facts); err != nil {
			return err
		}
	}
	return kit.WriteJSON(w, http.StatusOK, struct {
		Config configView `json:"config"`
	}{out})
}

func (a *api) configSecrets(r *http.Request, who broker.Actor, i *broker.Integration, facts *broker.Facts) (*configSecrets, error) {
	s, err := a.b.ClientSecrets(r.Context(), who, i.Key)
	if err != nil {
		return nil, err
	}
	out := &configSecrets{
		ClientID: orNull(s.ClientID), ClientSecret: orNull(s.ClientSecret.Reveal()), Custom: s.Settings,
		Scopes: orNull(strings.Join(s.Scopes, ",")), CreatedAt: stamp(i.CreatedAt), WebhookSecret: orNull(s.WebhookSecret.Reveal()),
		HasOwnWebhookSecret: !s.WebhookSecret.IsZero(), Connections: []listedConnection{},
	}
	out.AppLink = orNull(s.Settings[settingAppLink])
	if facts != nil {
		out.AuthMode, out.Docs, out.HasWebhook = facts.Mode, facts.Docs, facts.ForwardsWebhooks
	}
	if out.HasWebhook {
		out.WebhookURL = orNull(a.webhookAddress(i))
	}
	if out.ConnectionCount, err = a.b.ConnectionCount(r.Context(), who, i); err != nil {
		return nil, err
	}
	if !who.Scopes.Has(broker.ScopeConnectionsList) && !who.Scopes.Has(broker.ScopeConnectionsListC) {
		return out, nil // whoever may not list them is told how many there are
	}
	list, err := a.b.Connections(r.Context(), who, broker.ConnectionFilter{Integrations: []broker.IntegrationID{i.ID}, Limit: defaultPage})
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		out.Connections = append(out.Connections, listedConnection{core(c, i), stampDatabase(c.CreatedAt)})
	}
	return out, nil
}

// webhookAddress is where the integration's provider sends what happens there.
func (a *api) webhookAddress(i *broker.Integration) string {
	return a.b.PublicURL() + "/webhook/" + string(i.Environment) + "/" + url.PathEscape(i.Key)
}
