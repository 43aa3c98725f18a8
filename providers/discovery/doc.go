// Package discovery finds out how to sign in to an MCP server of which only the address is known: what protects it, which
// authorization server that trusts, where its endpoints are; and it registers a client there.
//
// It follows the authorization part of the Model Context Protocol's specification, version 2026-07-28:
//
//	the server's 401 challenge                       (RFC 6750 section 3, RFC 9728 section 5.1)
//	metadata of the protected resource               (RFC 9728): named in the challenge, or below the path, or at the root
//	metadata of the authorization server             (RFC 8414, OpenID Connect Discovery 1.0), three forms of path
//	dynamic client registration                      (RFC 7591)
//
// A server without metadata of its own is one of the version of 2025-03-26, whose authorization server is at its own origin.
// One whose authorization server has no metadata is not signed in to: nothing would say that it checks PKCE.
//
// Everything that is read here was written by strangers, and an end user may have chosen which. So every address in it is
// checked before it is used, documents are bounded, read case by case exactly and refused where a name stands twice, and
// whoever calls learns which rule was broken and never what stood there. Nothing secret is sent, but a registration is made
// only where a checked document says.
package discovery
