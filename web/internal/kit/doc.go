// Package kit is what every HTTP surface of the broker shares: the rows that describe endpoints, who may come in, JSON
// in and out, failures on the wire, request ids, the access log, and the rules for addresses, origins and limits. It
// knows no endpoint and no page, and it never stores anything.
//
// # From outside to inside
//
//	Observer   request id, client address, deadlines, security headers, recover, one log line
//	  └─ the router, which belongs to package web
//	       └─ Gate     limit per address, cross-origin rules, content type, body limit, authentication
//	            └─ Route.Handle    decode, one call to the broker, encode
//
// An error that a handler returns goes out through its surface's Fail. Handlers never write a failure themselves.
package kit
