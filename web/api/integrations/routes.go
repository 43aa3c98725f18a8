package integrations

import (
	"net/http"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// Where the rows stand.
const (
	pathOne  = "/api/integrations/{id}"
	pathList = "/api/integration-connections"
)

// maxRequest is how long the description of a call may be, its data included.
const maxRequest = 8 << 20

// api holds what every handler needs.
type api struct {
	b     *broker.Broker
	proxy kit.Carrier
}

// Surface lists the rows for programs. Calls to providers are made through the proxy.
func Surface(b *broker.Broker, proxy kit.Carrier) kit.Surface {
	a := &api{b: b, proxy: proxy}
	doors := kit.Doors{Keeper: b}
	read := doors.User(broker.ScopeConnectionsRead, broker.ScopeCredentialsRead)
	list := doors.User(broker.ScopeConnectionsList, broker.ScopeConnectionsListC)
	call := doors.User(broker.ScopeProxy)
	return kit.Surface{Name: "integrations", JSON: true, Fail: fail, Routes: []kit.Route{
		{
			Method: http.MethodPost, Path: pathOne + "/connect", Auth: doors.User(broker.ScopeConnectionsCreate), MaxBody: kit.MaxJSON,
			Handle: a.obtain,
		},
		{Method: http.MethodGet, Path: pathOne + "/connection", Auth: read, Handle: a.connection},
		{Method: http.MethodDelete, Path: pathOne + "/connection", Auth: doors.User(broker.ScopeConnectionsDelete), Handle: a.disconnect},
		{Method: http.MethodGet, Path: pathList, Auth: list, Handle: a.connections},
		{Method: http.MethodPost, Path: pathOne + "/request", Auth: call, MaxBody: maxRequest, Handle: a.call},
		{Method: http.MethodGet, Path: pathOne + "/request/{path:.*}", Auth: call, Handle: a.callPath},
	}}
}

// SignIn is the surface of the one row that browsers open. What goes wrong is shown to them on a page.
func SignIn(b *broker.Broker, pages kit.Starter) kit.Surface {
	s := &signIn{b: b, pages: pages, doors: kit.Doors{Keeper: b}}
	return kit.Surface{
		Name:   "integrations sign-in",
		Routes: []kit.Route{{Method: http.MethodGet, Path: pathOne + "/connect", Auth: s.auth(), Handle: s.begin}},
		Fail: func(w http.ResponseWriter, r *http.Request, err error) {
			if !strings.Contains(r.Header.Get("Accept"), "text/html") {
				fail(w, r, err)
				return
			}
			w.Header().Set(headerSource, ours)
			pages.Fail(w, r, err)
		},
	}
}
