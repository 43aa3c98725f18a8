// Package web puts the broker's HTTP surfaces together: it is the only place that mounts anything. It decides which
// handler a request belongs to, and nothing else; what a surface answers is its own business.
//
// The proxy is taken out before the router. It is the hot path, and a router that cleans paths would change what goes
// upstream. Everything else is observed, folded to the form that its row is written in, and then matched.
package web

import (
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/connections"
	"github.com/coatcheck/coatcheck/web/api/integrations"
	"github.com/coatcheck/coatcheck/web/api/nango"
	"github.com/coatcheck/coatcheck/web/api/popup"
	"github.com/coatcheck/coatcheck/web/internal/kit"
	"github.com/coatcheck/coatcheck/web/openapi"
)

// Surface is one API or one set of pages. The alias lets those who put the process together name what only surfaces make.
type Surface = kit.Surface

// Connect is the Connect UI, which begins sign-ins for other surfaces too.
type Connect interface {
	kit.Starter
	Surface() Surface
}

// Deps is what the surfaces are made of.
type Deps struct {
	Broker *broker.Broker
	// Proxy answers /proxy and everything below it, with an access log, request ids and limits of its own.
	Proxy http.Handler
	// Carrier is the proxy for surfaces that have calls to make through it. nil: they refuse to.
	Carrier kit.Carrier
	// Connect are the pages on which end users connect. nil: there are none, and no sign-ins.
	Connect Connect
	// Pages are other surfaces that people see.
	Pages  []Surface
	Logger *slog.Logger
	// TrustedProxies are believed about whom they speak for.
	TrustedProxies []netip.Prefix
	// PublicRate and PublicBurst limit what an address may send to routes without a credential: requests a second, and at
	// once. Zeros stand for 100 and 1,000.
	PublicRate  float64
	PublicBurst int
	// KeyLimit is what [KeyLimit] makes; nil: an API key may send what it likes. The proxy has to be given the same.
	KeyLimit func(broker.APIKeyID) error
	// Stopping is closed when the process is about to end, so that no new work is sent to it. nil: it never ends.
	Stopping <-chan struct{}
}

// New puts the surfaces together. It panics when two rows or a malformed one make that impossible: that is a mistake in
// this program, which any test finds.
func New(d Deps) http.Handler {
	gate := &kit.Gate{
		Limiter:  kit.NewLimiter(d.PublicRate, d.PublicBurst, time.Now),
		KeyLimit: d.KeyLimit,
		CORS:     &kit.CORS{Allowed: origins(d.Broker)},
	}
	observer := &kit.Observer{
		Logger: d.Logger, Proxies: d.TrustedProxies, Secure: strings.HasPrefix(d.Broker.PublicURL(), "https://"),
	}
	return &dispatcher{proxy: d.Proxy, rest: observer.Wrap(newRouter(gate, surfaces(d)))}
}

// surfaces lists everything that is mounted beside the proxy.
func surfaces(d Deps) []Surface {
	all := append([]Surface{operations(d), nango.Surface(d.Broker), openapi.Surface(d.Broker.PublicURL(), documents())}, d.Pages...)
	if d.Connect == nil {
		return all
	}
	all = append(all, popup.Surface(d.Broker), connections.Surface(d.Broker, d.Connect))
	if d.Carrier != nil {
		all = append(all, integrations.Surface(d.Broker, d.Carrier), integrations.SignIn(d.Broker, d.Connect))
	}
	return append(all, d.Connect.Surface(), nango.SignIn(nango.SignInDeps{
		Broker: d.Broker, Pages: d.Connect, Origins: anyOrigin(d.Broker), Stopping: d.Stopping,
	}))
}

// documents describe the APIs. Each is held against its surface by that package's own test.
func documents() []openapi.Document {
	return []openapi.Document{{Name: "nango", Source: nango.OpenAPI}}
}

// dispatcher takes the proxy's requests out before anything else looks at them.
type dispatcher struct{ proxy, rest http.Handler }

func (d *dispatcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	lastOfConnection(w, r)
	if !isProxy(r) || r.Method == http.MethodTrace || r.Method == http.MethodConnect {
		d.rest.ServeHTTP(w, r)
		return
	}
	// An earlier request on this connection may have left a deadline behind, and the proxy may stream for hours.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	d.proxy.ServeHTTP(w, r)
}

// isProxy reports whether the first segment is "proxy", in any case. It looks at the path as it was sent: an encoded
// slash does not end a segment.
func isProxy(r *http.Request) bool {
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.Path
	}
	const prefix = "/proxy"
	return len(path) >= len(prefix) && strings.EqualFold(path[:len(prefix)], prefix) &&
		(len(path) == len(prefix) || path[len(prefix)] == '/')
}
