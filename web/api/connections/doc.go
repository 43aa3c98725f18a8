// Package connections is an API around connections as objects of their own: they are pending first, get their authorization
// by a link, and are verified, refreshed and deleted by their ids. It is a codec: it parses, makes one call to the broker and
// renders. It keeps nothing and decides nothing about who may do what. DIVERGENCES.md says what it has to settle by itself.
//
// # Back from a sign-in
//
// A link leads to a page of the broker, which binds the sign-in to the browser. In the end the broker sends the browser to
// the callback here, with the id of the flow; what that came to is read from the broker, and the browser goes on to the app.
// The contract has the callback told in its query what happened, and where to go on to. Anybody could write that, so it is
// not looked at: to believe it would make the callback an open redirect, and let strangers tell an app that somebody has
// connected.
package connections
