// Package integrations is an API in which a user has one connection of each integration: to connect, to look at, to call
// the provider through, and to end.
package integrations
