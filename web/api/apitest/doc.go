// Package apitest is what the tests of every API share: a broker that is mounted as in the product, with providers that a
// test answers for ([Site]); golden files of requests and answers ([Golden]); and the matrix of who may not call what
// ([Matrix]). It is a package of its own so that each API promises the same things in the same way. Only tests import it.
//
// # Golden files
//
// A golden file is a txtar archive of requests as they are sent, with any headers, and the answers to them. They are the
// promise of compatibility: "go test -update" rewrites the answers, and a reviewer reads the difference.
//
//	-- request --
//	wait 1h
//	GET /connections/c-1?provider_config_key=mail-prod
//	Authorization: Bearer {key}
//	-- answer --
//	200
//	...
//
// A request may hold
//
//	{key} {other}                   dev's key, and that of the other environment
//	{key SCOPES} {account SCOPES}   a key of dev, or of the account, with these scopes; {account} has all
//	{token} {secret}                the last session token and the last API key that an answer held
//	{uuid N} {id N}                 what answers are shown with as <uuid N> and <id N>, whatever stands before it
//	{environment}                   the id of dev
//
// Lines before the request that begin with "wait" move the clock. What differs from run to run is given a name: ids, tokens,
// keys, and everything in an address that is long and looks drawn at random.
//
// The line "follow", in the place of a request, plays a sign-in: from the address that the last answer with one gave, in its
// Location or in a member whose name ends in "url" or "link", by way of the provider, which agrees, to where no redirect leads on,
// or out to the app. "follow deny" is an end user who says no. It goes as curl would, with the cookies that it was
// given and nothing that only browsers send. Every hop is shown, and the last one's body; of a page, the title.
package apitest
