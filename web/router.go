package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gorilla/mux"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// router finds the row that a request belongs to.
type router struct {
	gate  *kit.Gate
	mux   *mux.Router
	paths paths
	own   kit.Surface // tells the router's own failures
}

func newRouter(gate *kit.Gate, surfaces []kit.Surface) *router {
	rt := &router{
		gate: gate,
		// As sent: an encoded slash belongs to an id, and nothing is cleaned by a redirect that loses the body.
		mux:   mux.NewRouter().SkipClean(true).UseEncodedPath(),
		paths: make(paths),
		own:   kit.Surface{Name: "router"},
	}
	var all []mounted
	for _, s := range surfaces {
		for _, row := range s.Routes {
			row.Path = trimSlash(row.Path)
			all = append(all, mounted{&s, row})
		}
	}
	// mux takes the first row that fits. The brace sorts behind letters, so fixed segments win over ids.
	slices.SortFunc(all, func(x, y mounted) int { return strings.Compare(x.row.Path, y.row.Path) })
	for _, m := range all {
		rt.mount(m)
	}
	// What the paths know, mux knows too, so neither of these is reached; a mistake there must not be a page of mux.
	rt.mux.NotFoundHandler = rt.refuse(broker.ErrNotFound)
	rt.mux.MethodNotAllowedHandler = rt.refuse(broker.ErrMethodNotAllowed)
	return rt
}

// mounted is a row and the surface that it belongs to.
type mounted struct {
	surface *kit.Surface
	row     kit.Route
}

func (rt *router) mount(m mounted) {
	methods := []string{m.row.Method}
	if m.row.Method == http.MethodGet {
		methods = append(methods, http.MethodHead)
	}
	for _, method := range methods {
		rt.paths.add(method, m.row)
	}
	rt.mux.Handle(m.row.Path, withPathValues(rt.gate.Handler(m.surface, m.row))).Methods(methods...)
}

// withPathValues hands the variable segments on, decoded.
func withPathValues(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, raw := range mux.Vars(r) {
			value, err := url.PathUnescape(raw)
			if err != nil {
				value = raw // cannot be: net/http has read the same escapes
			}
			r.SetPathValue(name, value)
		}
		next.ServeHTTP(w, r)
	})
}

// ServeHTTP folds the path and hands the request to its row.
func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sent := r.URL.EscapedPath()
	path, _, ok := rt.paths.fold(r.Method, sent)
	if ok {
		rt.mux.ServeHTTP(w, rewritten(r, path))
		return
	}
	rows := rt.paths.all(sent)
	switch {
	case len(rows) == 0:
		rt.refuse(broker.ErrNotFound).ServeHTTP(w, r)
	case r.Method == http.MethodOptions:
		rt.gate.CORS.Preflight(w, r, rows)
	default:
		w.Header().Set("Allow", strings.Join(kit.Methods(rows), ", "))
		rt.refuse(broker.ErrMethodNotAllowed).ServeHTTP(w, r)
	}
}

// refuse answers with a failure, by the same way as every other.
func (rt *router) refuse(err *broker.Error) http.Handler {
	return rt.gate.Handler(&rt.own, kit.Route{
		Auth:    kit.Auth{Check: func(*http.Request) (broker.Actor, error) { return broker.Actor{}, err }},
		MaxBody: 1 << 62, // whatever it is, it is not read
	})
}

// rewritten gives the request another path, and leaves the one in the log alone.
func rewritten(r *http.Request, path string) *http.Request {
	out, u := *r, *r.URL
	out.URL = &u
	if plain, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = plain, path
	}
	return &out
}

func trimSlash(path string) string {
	if len(path) > 1 {
		return strings.TrimSuffix(path, "/")
	}
	return path
}
