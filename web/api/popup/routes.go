package popup

import (
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// api holds what every handler needs.
type api struct{ b *broker.Broker }

// maxBody is far more than a key and a nickname take, and bounds what a refusal can repeat of it.
const maxBody = 16 << 10

// Surface lists the rows.
func Surface(b *broker.Broker) kit.Surface {
	a := &api{b: b}
	doors := kit.Doors{Keeper: b, Header: "X-Api-Key"}
	const all, one = "/v1/integrations/connections", "/v1/integrations/connections/{connection_id}"
	list := doors.Key(broker.ScopeConnectionsList, broker.ScopeConnectionsListC)
	read := doors.Key(broker.ScopeConnectionsRead, broker.ScopeCredentialsRead)
	return kit.Surface{Name: "popup", JSON: true, Fail: fail, Routes: []kit.Route{
		{Method: http.MethodPost, Path: all, Auth: doors.Key(broker.ScopeSessionsWrite), MaxBody: maxBody, Handle: a.create},
		{Method: http.MethodGet, Path: all, Auth: list, Handle: a.connections},
		{Method: http.MethodGet, Path: one, Auth: read, Handle: a.connection},
		{Method: http.MethodDelete, Path: one, Auth: doors.Key(broker.ScopeConnectionsDelete), Handle: a.remove},
	}}
}
