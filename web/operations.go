package web

import (
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// result is what the health routes say: ok or not, and nothing that a stranger could learn from.
type result struct {
	Result string `json:"result"`
}

// operations is for whoever keeps the process running. /health and /livez say that it runs, /ready and /readyz that it
// may be sent work.
func operations(d Deps) kit.Surface {
	return kit.Surface{Name: "operations", JSON: true, Routes: []kit.Route{
		{Method: http.MethodGet, Path: "/health", Auth: kit.Public, Handle: alive},
		{Method: http.MethodGet, Path: "/livez", Auth: kit.Public, Handle: alive},
		{Method: http.MethodGet, Path: "/ready", Auth: kit.Public, Handle: ready(d, "not ready")},
		{Method: http.MethodGet, Path: "/readyz", Auth: kit.Public, Handle: ready(d, "not ok")},
	}}
}

func alive(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
	return kit.WriteJSON(w, http.StatusOK, result{"ok"})
}

func ready(d Deps, otherwise string) func(http.ResponseWriter, *http.Request, broker.Actor) error {
	return func(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
		if stopping(d.Stopping) || d.Broker.Ready(r.Context()) != nil {
			return kit.WriteJSON(w, http.StatusServiceUnavailable, result{otherwise})
		}
		return kit.WriteJSON(w, http.StatusOK, result{"ok"})
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
