// Package interop_test runs what applications use, unmodified, against the broker as it is shipped: the npm packages
// @nangohq/node and @nangohq/frontend, a real browser, and an authorization server that this project did not write. The
// packages are driven, never read. The other connection APIs are used in the same world, each by its own flow.
//
// To take other versions, change package.json and run
// npm install --package-lock-only --omit-lockfile-registry-resolved in this folder.
package interop_test
