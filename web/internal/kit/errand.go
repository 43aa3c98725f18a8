package kit

import (
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
)

// Errand is a call that another surface makes through the proxy. That surface has found out who asks and whether they may.
type Errand struct {
	// Who asks. It stands in the access log, under its own request id where it has one.
	Who broker.Actor
	// Out is the connection's way out, as the broker gave it to Who.
	Out *broker.Outbound
	// Counted is set where the key's limit has been asked about this call already, as [Gate] does for its routes.
	Counted bool

	// Method is what is sent upstream, in upper case however it is written here. Empty: GET.
	Method string
	// URL is what the caller wrote, escapes and all. It may be relative to the connection's base URL, with or without a
	// slash before it. An absolute one has to lie below the base URL, or has to name an https host that the integration lists.
	URL string
	// Header is what the caller means for upstream, like the headers that begin with Nango-Proxy- in a call to /proxy.
	Header http.Header
	// Plain is what the caller's HTTP client sent where its own request stands for the one upstream: of these, what may go there is sent.
	// Header precedes it, and so does the provider's own Accept.
	Plain http.Header
	// Body is sent as it is, and must not be changed until the call is over. Its type stands in Header.
	Body []byte
}

// Carrier is the proxy, for surfaces that have calls to make through it.
type Carrier interface {
	// Carry does an errand and writes the provider's answer. An error is a [*broker.Error], and nothing was written then.
	Carry(w http.ResponseWriter, r *http.Request, e Errand) error
}
