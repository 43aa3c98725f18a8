package nango

import (
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// maxTelemetry is how long a report may be, in bytes.
const maxTelemetry = 16 << 10

// telemetryRoutes has the one of a page that reports what its user does. The page cannot set headers when it closes, so
// the token is in the body.
func (a *api) telemetryRoutes(doors kit.Doors) []kit.Route {
	return []kit.Route{
		{Method: http.MethodPost, Path: "/connect/telemetry", Auth: doors.SessionInBody(), MaxBody: maxTelemetry, Handle: a.telemetry},
	}
}

// telemetryEvents are what a page can report.
var telemetryEvents = []string{
	"open", "view:list", "view:integration", "view:unknown_error", "view:credentials_error", "view:success", "click:integration",
	"click:doc", "click:doc_section", "click:connect", "click:close", "click:finish", "click:outside", "popup:blocked_by_browser",
	"popup:closed_early",
}

// telemetryWindow is how far a page's clock may be off.
const telemetryWindow = 2 * time.Hour

// telemetry answers POST /connect/telemetry. A line in the log is all that comes of it.
func (a *api) telemetry(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	o.text("token")
	event := o.text("event", func(s string) (string, string) {
		if !slices.Contains(telemetryEvents, s) {
			return codeValue, "Invalid option: expected an event of the Connect UI"
		}
		return "", ""
	})
	if o.has("timestamp") {
		at := o.date("timestamp")
		if off := a.b.Now().Sub(at); len(o.issues) == 0 && (off > telemetryWindow || off < -telemetryWindow) {
			o.add(codeCustom, "The timestamp is more than two hours off", "timestamp")
		}
	} else {
		o.text("timestamp") // says that it is missing
	}
	var integration string
	if d := o.object("dimensions", false); d != nil {
		integration = deref(d.maybe("integration", isIntegrationKey...))
		d.done()
	}
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	e := kit.EventOf(r)
	e.Note(slog.String("event", event))
	if integration != "" {
		e.Note(slog.String("integration", integration))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
