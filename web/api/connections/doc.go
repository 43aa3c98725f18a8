// Package connections is an API around connections as objects of their own: they are pending first, get their authorization
// by a link, and are verified, refreshed and deleted by their ids.
package connections
