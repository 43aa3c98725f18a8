// Package mcp_test connects to MCP servers with the whole broker: over the hosted page and the APIs, with a database, the
// rules for outgoing requests and the proxy. The servers are a double that does wrong on request, the project's own Go SDK
// and its TypeScript SDK with an authorization server that this project did not write.
package mcp_test
