// Package proxy answers /proxy: it takes an app's request, puts the connection's credential into it and lets it through
// to the provider's API. Bytes, status and order stay as they are in both directions; what changes are headers that are
// meant for one side alone. It never sees a token: [broker.Outbound] puts it in.
//
// # A call
//
//	prepare   method, API key, control headers, query        refused here: nothing was asked of anybody
//	Outbound  the connection's way out, renewed if due
//	target    base URL + path, checked as sent; headers from the caller's allow list
//	rewrite   the outgoing request; the credential goes in last
//	RoundTrip attempts: one renewal after a 401, retries, redirects of the same origin
//	modify    the answer's headers
//
// This is the hot path. Each call lives in one pooled struct (call), which is the ResponseWriter, the RoundTripper and the
// holder of a [httputil.ReverseProxy] whose hooks were bound when the struct was made: no value in a context, no
// closure and, without a body, no copy of the request. Three things look roundabout and are measured:
//
//   - Idle calls are found by a sweep over all calls in flight, not by timers or deadlines of their own.
//   - The access log is a shared buffer that a goroutine writes out; package kit's line would cost a system call.
//   - An answer's header slices are moved, not copied.
//
// Calling the transport from a handler of our own was refused: it saves a few percent of a call, and ReverseProxy knows
// hop-by-hop headers, flushing and broken streams. Director was refused: with it `Connection: Authorization` takes the
// credential out again.
//
// # Bodies that are sent twice
//
// A body of known length up to 1 MiB is kept while it streams through, so that it can be sent again after a 401, or where
// the caller asks for retries. It is never read ahead. All such bodies together take at most 64 MiB; above that, and for
// longer ones, the provider's answer is passed on as it is. A renewal is asked for all the same, so that the caller's own
// repetition is served.
//
// # Errands
//
// Another surface may have a call made whose caller it has let in itself: [Handler.Carry]. That is the same call from the
// connection's way out on. It differs in what it begins with, a URL that nobody's server has read yet, and in how it
// fails: with an error, which that surface writes in its own words. An absolute URL is compared with the base URL and with
// the integration's hosts as text, and what it is compared with is what is called, so that no reader of URLs can be
// brought to see another host than the one that was allowed.
//
// # Connections with callers
//
// An answer may come before its request's body has arrived. It goes out at once, and the connection is closed after it: what
// still comes must never be taken for the next request. Where a request is refused, the server reads what is left of a short
// body within five seconds, and keeps the connection.
package proxy
