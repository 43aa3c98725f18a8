// Package lab plays the provider of any entry of the catalogue, as that entry says that it behaves. Its test drives every
// entry through connect, read, renew and revoke with the real broker between, so that an entry that cannot work is found.
//
// The entry's facts are read here once more, from the map that the file is: what package providers makes of them is not
// asked, for a mistake made there would be made here too, and nobody would notice. A [Provider] is strict where real ones
// are lenient. It takes no parameter, header or call that the entry does not promise, wants each credential in its place and
// nowhere else, and answers in the oddest form that the entry admits. What it does not like it answers as a provider
// would, and keeps as a fault that [Provider.Faults] tells.
//
// Keys and certificates are made when a test first needs them. Signatures are verified here by what was published of them,
// with nothing of the code that makes them.
//
// Nothing here opens a socket: whoever owns the transport hands requests to [Provider.Serve] and [Provider.ServeAPI].
// Only tests import it.
package lab
