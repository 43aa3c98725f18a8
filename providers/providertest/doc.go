// Package providertest is an OAuth 2.0 provider for tests, in the process and on loopback, that misbehaves on request.
//
// It behaves by default: codes are used once, PKCE is checked, refresh tokens may rotate and a second use of one revokes
// everything that came of the same consent (RFC 9700 section 4.14). Each oddity met in the wild is a field of [Knobs], which
// may be changed while the provider runs. It counts what it was asked, so that a test can prove that a code or a refresh
// token was sent once.
//
//	p := providertest.New(t, providertest.Knobs{Rotate: true})
//	overlay := p.Entry("acme")               // an entry for the catalogue
//	callback := p.Approve(t, authorizeURL)   // what the browser would bring back
//	p.Set(func(k *providertest.Knobs) { k.HangUp = true })
//
// [OAuth1] is the same for OAuth 1.0 (RFC 5849): it checks signatures, nonces, timestamps and verifiers.
package providertest
