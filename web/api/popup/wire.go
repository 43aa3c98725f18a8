package popup

import (
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// vendor says which client library a page opens the popup with.
const vendor = "nango"

// createdConnection is a connection that was just asked for. The token is told here and never again.
type createdConnection struct {
	ConnectionID string `json:"connection_id"`
	SessionToken string `json:"session_token"`
	ExpiresAt    string `json:"expires_at"`
	Vendor       string `json:"vendor"`
}

// connectionRow is a connection.
type connectionRow struct {
	ConnectionID   string  `json:"connection_id"`
	IntegrationKey string  `json:"integration_key"`
	Nickname       *string `json:"nickname"` // null: it was made by an API that gave it none
	Vendor         string  `json:"vendor"`
	Status         string  `json:"status"`
	CreatedAt      string  `json:"created_at"`
	UpdatedAt      string  `json:"updated_at"`
}

// connectionPage is a part of the list.
type connectionPage struct {
	Connections []connectionRow `json:"connections"`
	Limit       int             `json:"limit"`
	Offset      int             `json:"offset"`
	HasMore     bool            `json:"has_more"`
}

// rowOf renders a connection of the integration that goes by the key.
func rowOf(c *broker.Connection, key string) connectionRow {
	out := connectionRow{
		ConnectionID: string(c.ID), IntegrationKey: key, Vendor: vendor, Status: string(c.Status),
		CreatedAt: stamp(c.CreatedAt), UpdatedAt: stamp(c.UpdatedAt),
	}
	if c.Name != "" {
		out.Nickname = &c.Name
	}
	return out
}

// stamp writes a time as the contract's date-time (RFC 3339 section 5.6), in UTC and to the microsecond that it is kept in.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }
