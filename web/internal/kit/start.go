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
	// Landing, Callback and Own are as in [broker.ConnectInput].
	Landing  string
	Callback string
	Own      bool
	// Ask has the pages ask for what the provider needs to be told, also where it needs no browser. Otherwise Fields is all
	// there is, and such a provider is refused.
	Ask bool
	// Status is that of the redirect; zero: 303.
	Status int
}

// ParamFlow is the query parameter that tells a landing which sign-in has ended.
const ParamFlow = "flow"

// EndedPath is a landing that tells people how it went.
const EndedPath = "/connect/ended"

// Starter is the pages, for surfaces that have none of their own.
type Starter interface {
	// Start sends the browser to the provider at once where it is plain who wants that, and to a page with a button
	// where it is not.
	Start(w http.ResponseWriter, r *http.Request, who broker.Actor, s Start) error
	// Keep puts a session's token into a cookie for the page at the request's path, and sends the browser there with an
	// address that does not hold it.
	Keep(w http.ResponseWriter, r *http.Request, token string) error
	// Kept gives the token that Keep has put there; empty: none.
	Kept(r *http.Request) string
	// Address gives the link by which a browser begins what the form is for. It holds the session's token, which is good for
	// one success.
	Address(form *broker.ConnectForm, token string) string
	// Fail shows the page of a failure.
	Fail(w http.ResponseWriter, r *http.Request, err error)
}
