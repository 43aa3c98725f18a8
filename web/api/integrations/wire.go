package integrations

import (
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// connectionView is a connection alone. Its members stand in the order of the original's example; Status is ours.
type connectionView struct {
	ID                    string         `json:"id"`
	IntegrationID         string         `json:"integrationId"`
	OwnerID               *string        `json:"ownerId"`
	IsShared              bool           `json:"isShared"`
	TokenExpiresAt        *string        `json:"tokenExpiresAt"`
	RefreshTokenExpiresAt *string        `json:"refreshTokenExpiresAt"`
	LastAuthorizedAt      *string        `json:"lastAuthorizedAt"`
	APIBaseURI            *string        `json:"apiBaseUri"`
	Data                  map[string]any `json:"data"`
	CreatedAt             string         `json:"createdAt"`
	UpdatedAt             string         `json:"updatedAt"`
	Status                broker.Status  `json:"status"`
}

// listedView is a connection in the list, where a time that nobody knows is left out.
type listedView struct {
	ID                    string         `json:"id"`
	IntegrationID         string         `json:"integrationId"`
	OwnerID               *string        `json:"ownerId"`
	IsShared              bool           `json:"isShared"`
	TokenExpiresAt        *string        `json:"tokenExpiresAt,omitzero"`
	RefreshTokenExpiresAt *string        `json:"refreshTokenExpiresAt,omitzero"`
	LastAuthorizedAt      *string        `json:"lastAuthorizedAt,omitzero"`
	Status                broker.Status  `json:"status"`
	Embedded              listedEmbedded `json:"_embedded"`
}

type listedEmbedded struct {
	Integration integrationView `json:"inf:integration"`
}

// integrationView is what a list says of an integration.
type integrationView struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Type string `json:"type"`
}

// listView is the list, in the Hypertext Application Language (draft-kelly-json-hal-11).
type listView struct {
	Links    listLinks `json:"_links"`
	Embedded struct {
		Connections []listedView `json:"inf:integration-connection"`
	} `json:"_embedded"`
	Start int `json:"start"`
	Count int `json:"count"` // in this answer
	Total int `json:"total"` // that there are
}

type listLinks struct {
	Self link `json:"self"`
}

type link struct {
	Href string `json:"href"`
}

// publicID is a connection's id in this API.
func publicID(c *broker.Connection) string { return "conn-" + string(c.ID) }

// ownerOf names whose connection it is; nil: nobody's.
func ownerOf(c *broker.Connection) *string {
	if c.EndUser == nil || c.EndUser.ID == "" {
		return nil
	}
	return &c.EndUser.ID
}

// stamp is how times are written: to the second, in UTC.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// stampOr gives nil for a time that nobody knows.
func stampOr(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := stamp(t)
	return &text
}

// nameOf is how people call an integration.
func nameOf(i *broker.Integration, f *broker.Facts) string {
	switch {
	case i.DisplayName != "":
		return i.DisplayName
	case f != nil && f.DisplayName != "":
		return f.DisplayName
	}
	return i.Provider
}
