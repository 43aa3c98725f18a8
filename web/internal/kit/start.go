package kit

import (
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
)

// Start is a sign-in that one surface asks the pages to begin.
type Start struct {
	Token   string            // the connect session's
	Key     string            // the integration's
	Fields  map[string]string // as in [broker.ConnectInput]; what the provider does not ask for is dropped
	Params  map[string]string // as in [broker.ConnectInput]
	Channel string            // where the result is waited for
}

// Starter is the pages, for surfaces that have none of their own.
type Starter interface {
	// Start sends the browser to the provider at once where it is plain who wants that, and to a page with a button
	// where it is not.
	Start(w http.ResponseWriter, r *http.Request, who broker.Actor, s Start) error
	// Fail shows the page of a failure.
	Fail(w http.ResponseWriter, r *http.Request, err error)
}
