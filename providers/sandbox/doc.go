// Package sandbox is the authorization server and API that the demo connects to: a test double for
// people. It lets somebody who has no account at any provider go through a whole connect flow, see a
// token run out and be renewed, and call an API with it. Only the demo starts it, on a loopback port
// of its own; it imports nothing else of this module and nothing but the demo may import it.
//
// # What it speaks
//
//	GET  /authorize   RFC 6749 4.1.1, with PKCE S256 required (RFC 7636) and iss in every answer (RFC 9207)
//	POST /login       the form of the login page: which demo account
//	POST /consent     the form of the consent page: allow, deny or another account
//	POST /token       authorization_code and refresh_token, client authentication by header or body
//	POST /revoke      RFC 7009
//	GET  /.well-known/oauth-authorization-server   RFC 8414
//	/api/...          a small API behind a bearer token (RFC 6750)
//
// # Grants
//
// What a person allowed is a family of tokens. Each renewal starts its next generation: the refresh
// token is replaced, while the last access token lives until it runs out. A refresh token that comes
// again after it was replaced ends the family with every token in it (RFC 9700 4.14.2), except that the
// one just replaced may be sent again within ten seconds and gets the same answer, because its first
// answer may have been lost on the way. A code that comes again ends the family it started.
//
// Tokens are signed, not stored: each names its family, generation and end, and can be made again from
// those. So a family takes the same room after its thousandth renewal as after its first, a spent
// refresh token is recognised however old it is, and a repeat is answered without keeping answers.
// Families, codes and open pages are kept in memory, bounded in number; a restart forgets them all.
//
// Scopes are shown, recorded and returned, but any token opens the whole API: the sandbox is about the
// life of a token, not about permissions.
//
// # Why no library
//
// go-oauth2/oauth2 v4 has PKCE and replaces refresh tokens, but it keeps no trace of spent ones or of
// spent codes, does not authenticate the client on a refresh and reads the wall clock itself, and its
// ready-made store brings buntdb; what is asked for here would have been written around it. ory/fosite
// has most of it, for some fifty modules in a binary that has few. What is left is small enough to read
// in one sitting.
package sandbox
