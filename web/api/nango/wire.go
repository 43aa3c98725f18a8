package nango

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// data wraps most answers, but not those about connections.
type data[T any] struct {
	Data T `json:"data"`
}

// success is the answer of changes that give nothing back.
type success struct {
	Success bool `json:"success"`
}

// stamp is how most dates are written.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// stampOffset is how a single connection's dates are written.
func stampOffset(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000+00:00") }

// stampDatabase is how listed connections' dates are written: as the original's database prints them.
func stampDatabase(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999999+00:00") }

// createdSession is a session that was just made.
type createdSession struct {
	Token       string `json:"token"`
	ConnectLink string `json:"connect_link"`
	ExpiresAt   string `json:"expires_at"`
}

// sessionView is a session as the browser that holds it sees it.
type sessionView struct {
	EndUser             *sessionUser                `json:"endUser"`
	AllowedIntegrations []string                    `json:"allowed_integrations,omitempty"`
	Defaults            map[string]sessionDefaults  `json:"integrations_config_defaults,omitempty"`
	Overrides           map[string]sessionOverrides `json:"overrides,omitempty"`
	IsReconnecting      bool                        `json:"isReconnecting,omitzero"`
	Settings            uiSettings                  `json:"connectUISettings"`
	WebsocketsPath      string                      `json:"websocketsPath"`
}

type sessionUser struct {
	ID           string               `json:"id"`
	DisplayName  *string              `json:"display_name"`
	Email        *string              `json:"email"`
	Tags         *map[string]string   `json:"tags"`
	Organization *organizationOfAUser `json:"organization"`
}

type organizationOfAUser struct {
	ID          string  `json:"id"`
	DisplayName *string `json:"display_name"`
}

type sessionDefaults struct {
	ConnectionConfig    map[string]string `json:"connection_config,omitempty"`
	AuthorizationParams map[string]string `json:"authorization_params,omitempty"`
}

type sessionOverrides struct {
	DocsConnect string `json:"docs_connect"`
}

// uiSettings are the settings of the original's Connect UI. Ours has none; a page that reads them gets its defaults.
type uiSettings struct {
	ShowWatermark bool    `json:"showWatermark"`
	DefaultTheme  string  `json:"defaultTheme"`
	Theme         uiTheme `json:"theme"`
}

type uiTheme struct {
	Light uiColours `json:"light"`
	Dark  uiColours `json:"dark"`
}

type uiColours struct {
	Primary string `json:"primary"`
}

var defaultSettings = uiSettings{DefaultTheme: "system", Theme: uiTheme{uiColours{"#00B2E3"}, uiColours{"#00B2E3"}}}

// listedConnection is a connection in a list.
type listedConnection struct {
	connectionCore
	Created string `json:"created"`
}

// fullConnection is a connection alone.
type fullConnection struct {
	connectionCore
	ConnectionConfig   jsontext.Value `json:"connection_config"`
	WebhookURLOverride *string        `json:"webhook_url_override"`
	CreatedAt          string         `json:"created_at"`
	UpdatedAt          string         `json:"updated_at"`
	LastFetchedAt      *string        `json:"last_fetched_at"`
	Credentials        jsontext.Value `json:"credentials"`
	// CredentialsRedacted is ours: the key holds no scope for what is missing.
	CredentialsRedacted bool `json:"credentials_redacted,omitzero"`
	// Scopes is ours: what was asked for and what came of it, where either is known.
	Scopes *connectionScopes `json:"scopes,omitzero"`
}

// connectionScopes are the scopes of a connection.
type connectionScopes struct {
	Asked   []string `json:"asked"`
	Granted []string `json:"granted"`
	Missing []string `json:"missing"`
}

// connectionCore is what both have.
type connectionCore struct {
	ID                int64             `json:"id"`
	ConnectionID      string            `json:"connection_id"`
	ProviderConfigKey string            `json:"provider_config_key"`
	Provider          string            `json:"provider"`
	Errors            []connectionError `json:"errors"`
	EndUser           *sessionUser      `json:"end_user"`
	Tags              map[string]string `json:"tags"`
	Metadata          jsontext.Value    `json:"metadata"`
}

type connectionError struct {
	Type  string `json:"type"`
	LogID string `json:"log_id"`
}

// integrationView is an integration.
type integrationView struct {
	UniqueKey       string `json:"unique_key"`
	Provider        string `json:"provider"`
	DisplayName     string `json:"display_name"`
	Logo            string `json:"logo"`
	ForwardWebhooks bool   `json:"forward_webhooks"`
	CreatedAt       string `json:"created_at"`
	UpdatedAt       string `json:"updated_at"`
}

// integrationDetails is an integration with what was asked for besides. nil pointers are left out; the values that they
// point to may be null.
type integrationDetails struct {
	integrationView
	WebhookURL  **string `json:"webhook_url,omitzero"`
	Credentials *any     `json:"credentials,omitzero"` // integrationSecrets, appSecrets, customSecrets or null
}

type integrationSecrets struct {
	Type          string  `json:"type"`
	ClientID      *string `json:"client_id"`
	ClientSecret  *string `json:"client_secret"`
	Scopes        *string `json:"scopes"`
	WebhookSecret *string `json:"webhook_secret"`
}

// appSecrets are those of an integration whose app end users install.
type appSecrets struct {
	Type       string  `json:"type"`
	AppID      *string `json:"app_id"`
	PrivateKey *string `json:"private_key"`
	AppLink    *string `json:"app_link"`
}

// customSecrets are those of an integration whose app end users install and sign in to.
type customSecrets struct {
	Type         string  `json:"type"`
	ClientID     *string `json:"client_id"`
	ClientSecret *string `json:"client_secret"`
	AppID        *string `json:"app_id"`
	AppLink      *string `json:"app_link"`
	PrivateKey   *string `json:"private_key"`
}

// orNull gives null for an absent text.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// sessionUserOf gives an end user, or null.
func sessionUserOf(u *broker.EndUser) *sessionUser {
	if u == nil {
		return nil
	}
	out := &sessionUser{ID: u.ID, DisplayName: orNull(u.DisplayName), Email: orNull(u.Email)}
	if u.Tags != nil {
		out.Tags = &u.Tags
	}
	if u.OrganizationID != "" || u.OrganizationName != "" {
		out.Organization = &organizationOfAUser{ID: u.OrganizationID, DisplayName: orNull(u.OrganizationName)}
	}
	return out
}
