package kit

import (
	"net/http"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// CORS tells browsers which pages of other origins may read an answer. Only routes for connect sessions take part, and
// never with cookies: a page can read just what it holds a token for.
type CORS struct {
	// Allowed reports whether pages of the origin may read what the actor is answered. An actor of kind Anonymous stands
	// for one that is not known yet. everyone is set where every origin may, because none is configured.
	Allowed func(r *http.Request, who broker.Actor, origin string) (ok, everyone bool, err error)
}

// What pages may send and read, and for how long browsers remember that.
const (
	corsHeaders = "Authorization, Content-Type, Accept, Provider-Config-Key, Connection-Id, Sentry-Trace, Baggage"
	corsExposed = "X-Request-Id, X-Error-Code, X-Error-Source, Retry-After"
	corsMaxAge  = "600"
)

// Preflight answers OPTIONS for a path with these rows. A browser that asks for a row that takes no part learns nothing,
// and so refuses.
func (c *CORS) Preflight(w http.ResponseWriter, r *http.Request, rows []Route) {
	h := w.Header()
	h.Add("Vary", "Origin, Access-Control-Request-Method")
	h.Set("Allow", strings.Join(Methods(rows), ", "))
	wanted := r.Header.Get("Access-Control-Request-Method")
	if slices.ContainsFunc(rows, func(row Route) bool { return row.Auth.Pages && row.Method == wanted }) {
		if c.allow(w, r, broker.Actor{}) == nil && h.Get("Access-Control-Allow-Origin") != "" {
			h.Set("Access-Control-Allow-Methods", wanted)
			h.Set("Access-Control-Allow-Headers", corsHeaders)
			h.Set("Access-Control-Max-Age", corsMaxAge)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// Methods lists what the rows of one path take, for the Allow header.
func Methods(rows []Route) []string {
	out := []string{http.MethodOptions}
	for _, row := range rows {
		out = append(out, row.Method)
		if row.Method == http.MethodGet {
			out = append(out, http.MethodHead)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// beforeAuth lets a page read why its token is refused. An API key in a browser gets no such help: it does not belong
// there.
func (c *CORS) beforeAuth(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Origin")
	text, err := Doors{}.credential(r)
	if err == nil && strings.HasPrefix(text, SessionPrefix) || r.URL.Query().Has(ParamSession) {
		_ = c.allow(w, r, broker.Actor{})
	}
}

// afterAuth goes by what the session itself allows, once that is known.
func (c *CORS) afterAuth(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	w.Header().Del("Access-Control-Allow-Origin")
	w.Header().Del("Access-Control-Expose-Headers")
	if who.Kind != broker.BySession {
		return nil
	}
	if err := c.allow(w, r, who); err != nil {
		return err
	}
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !safe && r.Header.Get("Origin") != "" && w.Header().Get("Access-Control-Allow-Origin") == "" {
		return broker.ErrOriginRefused // such a page could not read the answer, but it would have changed something
	}
	return nil
}

// allow sets the origin that may read the answer: exactly the one that asks, or any.
func (c *CORS) allow(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	ok, everyone, err := c.Allowed(r, who, origin)
	if err != nil || !ok {
		return err
	}
	if everyone {
		origin = "*"
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	w.Header().Set("Access-Control-Expose-Headers", corsExposed)
	return nil
}
