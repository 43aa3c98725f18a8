// Package connect is the Connect UI: the pages that an end user sees, in a popup or by a link, while an account is
// connected, and the address that providers send the browser back to. Everything is rendered on the server and works
// without JavaScript; a script makes it smoother. It decides nothing about flows and stores nothing: that is broker's.
//
//	GET  /connect/?session_token=…          what can be connected; with one choice, its form
//	GET  /connect/                          in a frame: waits to be told the token
//	GET  /connect/to/{key}?session_token=…  who asks for what, the fields a provider needs, a button
//	POST /connect/to/{key}                  starts: on to the provider, or stored at once
//	GET  /connect/to/{key}/attempt          in a frame: how far the sign-in has got, as JSON
//	GET  /connect/to/{key}/done             how it went
//	GET  /connect/start?note=…              the same form for a sign-in that another surface begins
//	POST /connect/start                     starts it
//	GET  /connect/ended?flow=…              how a sign-in went that another surface has begun
//	GET  /oauth/callback …                  the way back: it worked, or why not
//	POST /oauth/callback …                  the same for providers that answer by POST
//
// # Looking changes nothing
//
// Links are opened by scanners, previews and prefetching browsers. So a GET starts no flow, sets no cookie and contacts
// no provider. Starting takes a POST from our own page, proven by the browser's Sec-Fetch-Site or Origin and by a token
// bound to the session. The cookie that a start sets binds the flow to this browser.
//
// # On to the provider
//
// Chromium applies the form's form-action policy to every redirect that follows a submission, and silently stays where
// it is when one is not listed. Many providers redirect across their own origins before they show a page, and no list of
// those could be kept. So a browser gets a page that goes on by itself and shows a link, which no such policy binds.
// Clients that do not describe their requests as browsers do get a plain redirect. The way from our own forms to where
// another surface has the sign-in end, which may be the app, is the same. Widening form-action to every https
// origin was refused: it would let injected markup send what the user types anywhere.
//
// # Results
//
// The page at the end tells its opener the outcome, by name of each origin that the session allows, and closes. It
// carries ids and codes, never a token or a provider's text. Nobody should rely on it: a provider's own
// Cross-Origin-Opener-Policy can cut the tie. The app's backend is told by an event, and can ask.
//
// # Inside an app's page
//
// The Nango client shows the pages in a frame, and tells them the token by a message. That first page is for all origins
// that some environment allows; it takes the token from such a page alone, and goes on with both to pages that only the
// session's own origins may have inside theirs. Those tell the one page around what happens, in the client's words.
// A frame has no cookies in most browsers and needs none: credentials are typed there, and a sign-in goes on in a window
// of its own, where our cookies are first-party ones. The frame makes up a number for the sign-in, and asks the server
// what came of it: a provider's page may cut the window from us, and then it looks closed, and no message comes. To wait
// for the window's message instead was refused for that reason. Without JavaScript nothing of this can work.
//
// # Language and theme
//
// They are those of the address, else the browser's. They go along from page to page, past the provider's in the flow's
// cookie. Each language is a table of texts in a file of its own.
package connect
