// Package broker is the domain: its nouns, their rules and everything that may be done with them. It knows no SQL, no
// HTML and no routes. Adapters import it, and it imports none of them: the store, the seal, the catalogue and whoever takes
// webhooks to apps come to it as [Store], [Sealer], [Catalogue] and [Courier], and only the command ties them together.
//
// # Nouns
//
// An environment is a tenant; it has API keys and integrations. An integration is a provider, an entry of the catalogue,
// configured with our client. A connect session lets one end user connect for a short while. A flow is one attempt to get
// a grant through the end user's browser. A connection is a grant that is kept; the app knows it by its key. Its secrets
// are the credential, sealed, in a row of its own. What happened is told by events, and by the audit trail.
//
// # The states of a connection
//
//	           first success
//	pending ───────────────────▶ active ◀──────────────────────────────┐
//	                              │  ▲  renewed                        │ connected again,
//	   renewal fails for long,    ▼  │                                 │ the same id
//	   or the grant is lost      error ────────────────────────────────┤
//	                              │                                    │
//	                 run out,     ▼                                    │
//	   nothing to renew it with  expired, disconnected ────────────────┘
//
// The end of a credential that nothing renews comes by itself: from then on the connection reads as expired, whether
// somebody has come by to write that down or not.
//
// A transient failure does not change the status as long as the token is good: it says nothing about the grant. A lost
// grant keeps its refresh token for thirty days, since whoever insists may find that it works after all. A deletion removes
// the row; what is left of the credential becomes a [Revocation].
//
// # Where a credential may go
//
// A credential was entered, or granted, for the API and the token endpoint of that day. Where they are is worked out of the
// catalogue, the integration's settings and the connection's config, and any of these may say something else tomorrow. So a
// credential comes with its origins, which its seals are bound to, and goes nowhere else. The API is checked when a
// connection comes into the cache, the token endpoint before a renewal; if one is another, the connection has to be
// connected again, and only a new credential has new origins. An address that is put back is the old one. Refusing such
// changes where they are made would not do: an overlay or the database is changed while nobody looks. The hosts of an
// integration are the operator's own word, and stay that.
//
// # The path of a request
//
// An adapter parses, makes one call, and renders what comes back. The call carries the [Actor], so that none can be made
// without a decision about who may make it. What is small and read on every request (environments, keys, integrations) is
// in memory whole; a connection is one row, read when the cache of open credentials does not have it.
//
// # Renewal
//
// A refresh token can be spent once, and what comes back for it exists nowhere else. So one attempt runs for all who wait,
// in the process by a single flight, between processes by a lease; inside the lease the row is read again; the attempt
// does not end with its caller; and the answer is committed before anybody sees it. If it cannot be committed it is held,
// and written beside the database when the process has to end. The alternative, a lock around the whole with the token
// handed out first, is simpler and loses tokens whenever the process or the disk fails in between.
//
// # Telling the app
//
// What an app is told of commits with the change itself, addressed and with its facts: a [Delivery] for each endpoint, and
// none where there is nobody to tell. A worker claims what is due, has the [Courier] make one attempt, and records what
// came of it; a claim outlives the process that made it, so an event can arrive twice and cannot be lost. Deliveries of one
// endpoint about one connection form a line, and only its first is ever due. The alternative, a reader that follows the
// events and looks up what to say, would say what holds by then, and need a place in the stream for every endpoint.
package broker
