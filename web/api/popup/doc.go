// Package popup is the API by which an app's backend opens a connect popup for one integration: it gets the id of the
// connection that is to come, to poll, and the session with which the popup is opened.
package popup
