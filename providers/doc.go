// Package providers holds the catalogue of providers and what each mode of authentication does.
//
// A provider is data, a mode is code. An entry of the catalogue is a few lines of YAML in a published format, decoded
// strictly; a mode is one file here: oauth2.go, clientcredentials.go, apikey.go, basic.go, none.go. An entry that needs
// something which is not built is still listed, with the reason why it cannot be used.
//
// The way of an entry:
//
//	text -> split -> node -> alias resolved -> entry (decode.go) -> spec (compile.go) -> a mode's broker.Provider
//
// The built-in catalogue is only cut into pieces when the program starts; a piece is decoded when somebody asks for it.
// Overlays, which operators write, are decoded and checked at once, and every problem is reported together with its line.
//
// Three rules hold for all requests made here. A request to a token endpoint is sent once, whatever comes back: a code and
// a rotating refresh token can be used once. Nothing secret goes to a host that the entry does not name: see host.go. And
// nothing that a provider answered goes into an error, except its error code, if it has the form of one, and a description
// cut and cleaned.
//
// Requests to token endpoints are built by golang.org/x/oauth2 and leave through a transport of ours, tokenCall, which adds
// what a provider wants differently and reads the answer more strictly than that library would. The alternative, the
// library alone, was refused: it matches keys in any case, takes the last of two equal keys, and cannot send JSON.
package providers
