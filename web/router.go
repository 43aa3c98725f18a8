package web

import (
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/gorilla/mux"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// router finds the row that a request belongs to.
type router struct {
	gate  *kit.Gate
	paths paths
	rows  map[endpoint]func() http.Handler
	of    map[endpoint]*kit.Surface // whose row it is
	own   kit.Surface               // tells the router's own failures
}

// endpoint is a row as a request finds it.
type endpoint struct{ method, path string }

func newRouter(gate *kit.Gate, surfaces []kit.Surface) *router {
	rt := &router{
		gate:  gate,
		paths: make(paths),
		rows:  make(map[endpoint]func() http.Handler),
		of:    make(map[endpoint]*kit.Surface),
		own:   kit.Surface{Name: "router"},
	}
	for _, s := range surfaces {
		for _, row := range s.Routes {
			row.Path = trimSlash(row.Path)
			rt.mount(&s, row)
		}
	}
	return rt
}

// mount lets the paths find the row, and mux read the variables of its path. That is prepared when the row is first asked
// for: mux compiles an expression for each, and all of them together take a part of each start that shows.
func (rt *router) mount(s *kit.Surface, row kit.Route) {
	methods := []string{row.Method}
	if row.Method == http.MethodGet {
		methods = append(methods, http.MethodHead)
	}
	handler := sync.OnceValue(func() http.Handler {
		// As sent: an encoded slash belongs to an id, and nothing is cleaned by a redirect that loses the body.
		m := mux.NewRouter().SkipClean(true).UseEncodedPath()
		m.Handle(row.Path, withPathValues(rt.gate.Handler(s, row)))
		m.NotFoundHandler = rt.refuse(&rt.own, broker.ErrNotFound) // not reached: the paths know what mux knows
		return m
	})
	for _, method := range methods {
		rt.paths.add(method, row)
		rt.rows[endpoint{method, row.Path}] = handler
		rt.of[endpoint{method, row.Path}] = s
	}
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
	path, row, ok := rt.paths.fold(r.Method, sent)
	if ok {
		rt.rows[endpoint{r.Method, row.Path}]().ServeHTTP(w, rewritten(r, path))
		return
	}
	rows := rt.paths.all(sent)
	switch {
	case len(rows) == 0:
		rt.refuse(&rt.own, broker.ErrNotFound).ServeHTTP(w, r)
	case r.Method == http.MethodOptions:
		rt.gate.CORS.Preflight(w, r, rows)
	default:
		w.Header().Set("Allow", strings.Join(kit.Methods(rows), ", "))
		rt.refuse(rt.teller(rows), broker.ErrMethodNotAllowed).ServeHTTP(w, r)
	}
}

// teller gives the surface in whose words a refusal at the rows' path is told: the API's that has them all, or the router.
func (rt *router) teller(rows []kit.Route) *kit.Surface {
	s := rt.of[endpoint{rows[0].Method, rows[0].Path}]
	for _, row := range rows {
		if other := rt.of[endpoint{row.Method, row.Path}]; other != s || !s.JSON {
			return &rt.own
		}
	}
	return &kit.Surface{Name: s.Name, Fail: s.Fail}
}

// refuse answers with a failure, by the same way as every other.
func (rt *router) refuse(s *kit.Surface, err *broker.Error) http.Handler {
	return rt.gate.Handler(s, kit.Route{
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
