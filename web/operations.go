package web

import (
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// result is what the health routes say: ok or not, and nothing that a stranger could learn from.
type result struct {
	Result   string `json:"result"`
	Renewals string `json:"renewals,omitempty"` // paused, if they are; /livez and /readyz leave it out
}

// operations is for whoever keeps the process running. /health and /livez say that it runs, /ready and /readyz that it
// may be sent work.
func operations(d Deps) kit.Surface {
	return kit.Surface{Name: "operations", JSON: true, Routes: []kit.Route{
		{Method: http.MethodGet, Path: "/health", Auth: kit.Public, Handle: alive(renewals(d))},
		{Method: http.MethodGet, Path: "/livez", Auth: kit.Public, Handle: alive(nothing)},
		{Method: http.MethodGet, Path: "/ready", Auth: kit.Public, Handle: ready(d, "not ready", renewals(d))},
		{Method: http.MethodGet, Path: "/readyz", Auth: kit.Public, Handle: ready(d, "not ok", nothing)},
	}}
}

// renewals says that they are paused. What serves is ready all the same.
func renewals(d Deps) func() string {
	return func() string {
		if d.Broker.Paused() == broker.NotPaused {
			return ""
		}
		return "paused"
	}
}

func nothing() string { return "" }

func alive(renewals func() string) func(http.ResponseWriter, *http.Request, broker.Actor) error {
	return func(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
		return kit.WriteJSON(w, http.StatusOK, result{"ok", renewals()})
	}
}

func ready(d Deps, otherwise string, renewals func() string) func(http.ResponseWriter, *http.Request, broker.Actor) error {
	return func(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
		if stopping(d.Stopping) || d.Broker.Ready(r.Context()) != nil {
			return kit.WriteJSON(w, http.StatusServiceUnavailable, result{otherwise, renewals()})
		}
		return kit.WriteJSON(w, http.StatusOK, result{"ok", renewals()})
	}
}

func stopping(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
