// Package egress is the only way out: every request that leaves the broker, to a token endpoint,
// a discovery document, a webhook receiver or a proxied API, goes through a transport made here.
//
// A [Policy] answers three questions, at three moments:
//
//   - May this URL be used at all? [Policy.CheckURL], when a URL is configured, discovered or built
//     from a template. The URL that was checked is the one that is returned and used.
//   - May this address be connected to? [Policy.CheckAddr], in the dialler, after name resolution,
//     for each address that is tried. A name that resolves to a public address when it is checked
//     and to 127.0.0.1 when it is dialled is caught here.
//   - What may the caller learn of a failure? [Classify] and [Redact]: one of three words, never an
//     address, a URL or what a port scan would want to know.
//
// By default only public addresses are reached, on port 443. The operator's allow list opens
// networks, addresses and host names on top of that, by plain http and on any port too. The cloud
// metadata services, which give credentials to whoever asks, stay shut until each is named by its
// own address: no network and no host name on the list opens them.
//
// The environment's HTTPS_PROXY and its like count for nothing. A forward proxy that the operator
// names carries everything, plain http too, through tunnels: the proxy's own answers are then never
// taken for the provider's, and both see the requests that they would see without it. The price is
// that names are resolved over there, where no address can be checked from here.
//
// Checking the resolved addresses before the dial and then dialling the name was refused: the
// second resolution may answer differently. Dialling only the first good address was refused too:
// it would lose the fallback between IPv6 and IPv4 that net.Dialer has.
package egress
