// Package popup is the API by which an app's backend opens a connect popup for one integration. It asks for a connection
// under a nickname, and gets two things at once: the id of the connection that is to come, which it polls, and the token of
// a connect session, with which its page opens the popup. The session is good for that one integration and for one success,
// and what comes of it has that id and that nickname.
//
//	POST   /v1/integrations/connections        a pending connection, and the session to make it in
//	GET    /v1/integrations/connections        the environment's connections, whichever API made them
//	GET    /v1/integrations/connections/{id}   one of them: pending, active, error, expired or disconnected
//	DELETE /v1/integrations/connections/{id}   it is gone, and its grant is ended at the provider
//
// The popup itself is the Connect UI, which the Nango-compatible API's browser client opens: this package mounts no page.
//
// A request whose values are wrong is told everything that is wrong with it, in the words of the original's validation
// library (validate.go); every other refusal is a code and a message (errors.go). DIVERGENCES.md says what the original
// leaves open and how it is decided here.
package popup
