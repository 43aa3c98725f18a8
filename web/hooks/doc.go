// Package hooks carries notices to apps: it signs a body and sends it, once. When, how often and in which order that is
// done is the broker's business; what the body says is that of the API whose format it has.
//
// It stands beside the surfaces because it speaks HTTP as they do, in the other direction.
package hooks
