// Package integrations is an API in which a user has one connection of each integration: to connect, to look at, to call
// the provider through, and to end. A shared integration has one connection for everybody.
//
//	GET    /api/integrations/{id}/connect         the browser goes to the provider
//	POST   /api/integrations/{id}/connect         a program brings a code, a token or credentials
//	GET    /api/integrations/{id}/connection      what the user has
//	DELETE /api/integrations/{id}/connection      ends it, with the provider too
//	GET    /api/integration-connections           all that the user has
//	POST   /api/integrations/{id}/request         a call of the provider's API, described in JSON
//	GET    /api/integrations/{id}/request/{path}  the same for a GET, by its path
//
// The user is a connect session's end user, or whom the app's backend names in X-Owner-Id. A backend that names nobody is
// the superuser: it sees everybody's connections and has those of shared integrations.
//
// DIVERGENCES.md has what the original's document leaves open, and what is decided otherwise here.
package integrations
