package connections

import (
	"net/http"
	"net/url"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// api holds what every handler needs.
type api struct {
	b     *broker.Broker
	pages kit.Starter
}

const base = "/api/v1/connections"

// maxEmpty is how long the body may be of a request that needs none: clients send an empty object all the same.
const maxEmpty = 1 << 10

// Surface lists the rows. Links to begin sign-ins with lead to the pages.
func Surface(b *broker.Broker, pages kit.Starter) kit.Surface {
	a := &api{b: b, pages: pages}
	doors := kit.Doors{Keeper: b, Header: "X-Api-Key"}
	list := doors.Key(broker.ScopeConnectionsList, broker.ScopeConnectionsListC)
	read := doors.Key(broker.ScopeConnectionsRead, broker.ScopeCredentialsRead)
	begin := doors.Key(broker.ScopeSessionsWrite)
	update := doors.Key(broker.ScopeConnectionsUpdate)
	remove := doors.Key(broker.ScopeConnectionsDelete)
	return kit.Surface{Name: "connections", JSON: true, Fail: fail, Routes: []kit.Route{
		{Method: http.MethodGet, Path: base, Auth: list, Handle: a.connections},
		{Method: http.MethodPost, Path: base, Auth: begin, MaxBody: kit.MaxJSON, Handle: a.create},
		{Method: http.MethodGet, Path: base + "/{id}", Auth: read, Handle: a.connection},
		{Method: http.MethodDelete, Path: base + "/{id}", Auth: remove, Handle: a.remove},
		{Method: http.MethodPost, Path: base + "/{id}/refresh", Auth: update, MaxBody: maxEmpty, Handle: a.refresh},
		{Method: http.MethodPost, Path: base + "/{id}/verify", Auth: update, MaxBody: maxEmpty, Handle: a.verify},
		{Method: http.MethodGet, Path: base + "/{provider}/auth-url", Auth: begin, Handle: a.authURL},
		{Method: http.MethodGet, Path: base + "/{provider}/callback", Auth: kit.Public, Handle: a.callback},
	}}
}

// landing is the callback's path for a provider as a caller named it.
func landing(provider string) string { return base + "/" + url.PathEscape(provider) + "/callback" }
