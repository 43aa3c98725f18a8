package nango

import (
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// api holds what every handler needs.
type api struct{ b *broker.Broker }

// Surface lists the rows.
func Surface(b *broker.Broker) kit.Surface {
	a := &api{b: b}
	doors := kit.Doors{Keeper: b}
	var rows []kit.Route
	for _, part := range [][]kit.Route{
		a.sessionRoutes(doors), a.connectionRoutes(doors), a.integrationRoutes(doors), a.providerRoutes(doors),
		a.submissionRoutes(doors), a.hookRoutes(doors),
		a.telemetryRoutes(doors), a.legacyRoutes(doors), a.environmentRoutes(doors), a.absentRoutes(doors), a.documentRoutes(),
	} {
		rows = append(rows, part...)
	}
	return kit.Surface{Name: "nango", JSON: true, Routes: rows, Fail: fail}
}

func (a *api) sessionRoutes(doors kit.Doors) []kit.Route {
	write := doors.Key(broker.ScopeSessionsWrite)
	return []kit.Route{
		{Method: http.MethodPost, Path: "/connect/sessions", Auth: write, MaxBody: kit.MaxJSON, Handle: a.createSession},
		{Method: http.MethodPost, Path: "/connect/sessions/reconnect", Auth: write, MaxBody: kit.MaxJSON, Handle: a.createReconnectSession},
		{Method: http.MethodGet, Path: "/connect/session", Auth: doors.Session(), Handle: a.session},
		{Method: http.MethodDelete, Path: "/connect/session", Auth: doors.Session(), Handle: a.deleteSession},
	}
}

// connectionRoutes has the paths in the singular too, which older clients call.
func (a *api) connectionRoutes(doors kit.Doors) []kit.Route {
	list := doors.Key(broker.ScopeConnectionsList, broker.ScopeConnectionsListC)
	read := doors.Key(broker.ScopeConnectionsRead, broker.ScopeCredentialsRead)
	create := doors.Key(broker.ScopeConnectionsCreate)
	update := doors.Key(broker.ScopeConnectionsUpdate)
	remove := doors.Key(broker.ScopeConnectionsDelete)
	rows := []kit.Route{
		{Method: http.MethodPost, Path: "/connections", Auth: create, MaxBody: kit.MaxJSON, Handle: a.importConnection},
		{Method: http.MethodPatch, Path: "/connections/{connectionId}", Auth: update, MaxBody: kit.MaxJSON, Handle: a.updateConnection},
	}
	for _, base := range []string{"/connections", "/connection"} {
		rows = append(
			rows,
			kit.Route{Method: http.MethodGet, Path: base, Auth: list, Handle: a.connections},
			kit.Route{Method: http.MethodGet, Path: base + "/{connectionId}", Auth: read, Handle: a.connection},
			kit.Route{Method: http.MethodDelete, Path: base + "/{connectionId}", Auth: remove, Handle: a.deleteConnection},
			kit.Route{Method: http.MethodPost, Path: base + "/metadata", Auth: update, MaxBody: kit.MaxJSON, Handle: a.setMetadata},
			kit.Route{Method: http.MethodPatch, Path: base + "/metadata", Auth: update, MaxBody: kit.MaxJSON, Handle: a.mergeMetadata},
		)
	}
	return rows
}

func (a *api) integrationRoutes(doors kit.Doors) []kit.Route {
	list := doors.Either(broker.ScopeIntegrationsList, broker.ScopeIntegrationsListC)
	read := doors.Key(broker.ScopeIntegrationsRead, broker.ScopeIntegrationSecrets)
	create := doors.Key(broker.ScopeIntegrationsCreate)
	update := doors.Key(broker.ScopeIntegrationsUpdate)
	remove := doors.Key(broker.ScopeIntegrationsDelete)
	return []kit.Route{
		{Method: http.MethodGet, Path: "/integrations", Auth: list, Handle: a.integrations},
		{Method: http.MethodPost, Path: "/integrations", Auth: create, MaxBody: kit.MaxJSON, Handle: a.createIntegration},
		{Method: http.MethodPost, Path: "/integrations/quickstart", Auth: create, MaxBody: kit.MaxJSON, Handle: a.quickstart},
		{Method: http.MethodGet, Path: "/integrations/{uniqueKey}", Auth: read, Handle: a.integration},
		{Method: http.MethodPatch, Path: "/integrations/{uniqueKey}", Auth: update, MaxBody: kit.MaxJSON, Handle: a.updateIntegration},
		{Method: http.MethodDelete, Path: "/integrations/{uniqueKey}", Auth: remove, Handle: a.deleteIntegration},
	}
}

func (a *api) providerRoutes(doors kit.Doors) []kit.Route {
	return []kit.Route{
		{Method: http.MethodGet, Path: "/providers", Auth: doors.Either(), Handle: a.providers},
		{Method: http.MethodGet, Path: "/providers/{provider}", Auth: doors.Either(), Handle: a.provider},
		{Method: http.MethodGet, Path: "/providers/{provider}/templates", Auth: doors.Key(), Handle: a.templates},
		{Method: http.MethodGet, Path: "/providers.json", Auth: kit.Public, Handle: a.catalogue},
		{Method: http.MethodGet, Path: "/images/template-logos/{provider}.svg", Auth: kit.Public, Handle: a.logo},
	}
}
