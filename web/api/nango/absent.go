package nango

import (
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// absentRoutes are those of functions, syncs, records and actions, which there are none of here. They answer as the
// original does where nothing is deployed, so that an app which asks for them goes on.
func (a *api) absentRoutes(doors kit.Doors) []kit.Route {
	type handler = func(http.ResponseWriter, *http.Request, broker.Actor) error
	var rows []kit.Route
	add := func(method, path, scope string, h handler) {
		row := kit.Route{Method: method, Path: path, Auth: doors.Key(broker.Scope("environment:" + scope)), Handle: h}
		if method != http.MethodGet {
			row.MaxBody = kit.MaxJSON
		}
		rows = append(rows, row)
	}
	add(http.MethodGet, "/integrations/{uniqueKey}/functions", "functions:list", a.functions)
	add(http.MethodGet, "/integrations/{uniqueKey}/functions/{name}", "functions:read", a.nothing)
	add(http.MethodGet, "/integrations/{uniqueKey}/functions/{name}/code", "functions:read", a.nothing)
	add(http.MethodDelete, "/integrations/{uniqueKey}/functions/{name}", "functions:delete", a.nothing)
	add(http.MethodGet, "/scripts/config", "integrations:list_functions", a.scripts)
	add(http.MethodGet, "/records", "records:read", a.records)
	add(http.MethodPatch, "/records/prune", "records:write", a.pruneRecords)
	for _, verb := range []string{"trigger", "start", "pause"} {
		add(http.MethodPost, "/sync/"+verb, "syncs:execute", a.runSyncs)
	}
	add(http.MethodGet, "/sync/status", "syncs:read", a.syncStatus)
	add(http.MethodPut, "/sync/update-connection-frequency", "syncs:update", a.noSync)
	add(http.MethodPost, "/sync/{name}/variant/{variant}", "syncs:variant:create", a.noSync)
	add(http.MethodDelete, "/sync/{name}/variant/{variant}", "syncs:variant:delete", a.nothing)
	add(http.MethodPost, "/action/trigger", "actions:execute", a.triggerAction)
	add(http.MethodGet, "/action/{id}", "actions:execute", a.nothing)
	return append(rows, kit.Route{Method: http.MethodPost, Path: "/cli/telemetry", Auth: kit.Public, MaxBody: kit.MaxJSON, Handle: a.ignored})
}

// nothing answers what asks for one function, action or variant.
func (a *api) nothing(http.ResponseWriter, *http.Request, broker.Actor) error {
	return broker.ErrNotFound
}

// ignored answers reports that nobody reads.
func (a *api) ignored(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

type functionPage struct {
	Data       []struct{} `json:"data"`
	Pagination struct {
		Total int `json:"total"`
		Page  int `json:"page"`
		Limit int `json:"limit"`
	} `json:"pagination"`
}

// functions answers GET /integrations/{uniqueKey}/functions.
func (a *api) functions(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if _, _, err := a.b.Integration(r.Context(), broker.System(who.Environment), r.PathValue("uniqueKey")); err != nil {
		return err
	}
	out := functionPage{Data: []struct{}{}}
	out.Pagination.Limit = 20
	return kit.WriteJSON(w, http.StatusOK, out)
}

// scripts answers GET /scripts/config, in one of its two forms.
func (a *api) scripts(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	if r.URL.Query().Get("format") == "openai" {
		return kit.WriteJSON(w, http.StatusOK, data[[]struct{}]{[]struct{}{}})
	}
	return kit.WriteJSON(w, http.StatusOK, []struct{}{})
}

type recordPage struct {
	NextCursor *string    `json:"next_cursor"`
	Records    []struct{} `json:"records"`
}

// records answers GET /records.
func (a *api) records(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if err := a.connectionInHeaders(r, who); err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, recordPage{Records: []struct{}{}})
}

// connectionInHeaders makes sure that there is the connection which the headers name.
func (a *api) connectionInHeaders(r *http.Request, who broker.Actor) error {
	_, err := a.b.Connection(r.Context(), broker.System(who.Environment), broker.ConnectionRef{
		Integration: r.Header.Get("Provider-Config-Key"), Key: r.Header.Get("Connection-Id"),
	})
	return missing(err, http.StatusBadRequest, "unknown_connection", "unknown_connection")
}

// pruneRecords answers PATCH /records/prune.
func (a *api) pruneRecords(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
	return kit.WriteJSON(w, http.StatusOK, struct {
		Count   int  `json:"count"`
		HasMore bool `json:"has_more"`
	}{})
}

// runSyncs answers POST /sync/trigger, /sync/start and /sync/pause. All the syncs of a connection are none, which is no
// failure; any that is named does not exist.
func (a *api) runSyncs(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	o, err := body(r)
	if err != nil {
		return err
	}
	if o.noneOf("syncs") && !o.blank("connection_id") {
		return kit.WriteJSON(w, http.StatusOK, success{true})
	}
	return called(broker.ErrNotFound.Saying("There is no such sync"), http.StatusBadRequest, "no_syncs_found")
}

// noneOf reports whether a member is an array without elements, or absent.
func (o *object) noneOf(name string) bool {
	v, ok := o.members[name]
	return !ok || v.Kind() == jsontext.KindBeginArray && strings.Trim(string(v), "[] \t\r\n") == ""
}

// syncStatus answers GET /sync/status.
func (a *api) syncStatus(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
	return kit.WriteJSON(w, http.StatusOK, struct {
		Syncs []struct{} `json:"syncs"`
	}{[]struct{}{}})
}

// noSync answers what changes a sync.
func (a *api) noSync(http.ResponseWriter, *http.Request, broker.Actor) error {
	return called(broker.ErrNotFound.Saying("There is no such sync"), http.StatusBadRequest, "unknown_sync")
}

// triggerAction answers POST /action/trigger.
func (a *api) triggerAction(_ http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if err := a.connectionInHeaders(r, who); err != nil {
		return err
	}
	return broker.ErrNotFound
}
