package kit

import (
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
)

// Route says in one row what a reviewer asks of an endpoint.
type Route struct {
	// Method is one method. A GET row answers HEAD too.
	Method string
	// Path holds fixed segments, which match in any case, and {name} for the ones that vary. Handlers read those with
	// [http.Request.PathValue], already decoded. A trailing slash in a request means nothing.
	Path    string
	Auth    Auth
	MaxBody int64 // bytes; 0: no body is accepted
	// Handle answers. It is handed the actor that Auth established, so that no handler can forget to ask.
	Handle func(w http.ResponseWriter, r *http.Request, who broker.Actor) error
}

// Surface is one API, or one set of pages: its rows, and how it tells a failure.
type Surface struct {
	Name   string
	Routes []Route
	// JSON is set where bodies are JSON: everything else is unsupported_media_type.
	JSON bool
	// Fail writes a failure in the surface's own words. [HeaderErrorCode] and Retry-After are set already. nil: [Fail].
	Fail func(w http.ResponseWriter, r *http.Request, err error)
}

// Auth establishes who sends a request.
type Auth struct {
	// Name is how the table of routes calls it.
	Name string
	// Check gives the actor, or refuses. It fills in neither address nor request id: the gate does.
	Check func(r *http.Request) (broker.Actor, error)
	// Limited is set where strangers come in: an address may send only so many of these requests.
	Limited bool
	// Pages is set where pages of other origins call, with a connect session's token.
	Pages bool
}

// Public lets everybody in, at a limited rate.
var Public = Auth{
	Name:    "public",
	Check:   func(*http.Request) (broker.Actor, error) { return broker.Actor{}, nil },
	Limited: true,
}
