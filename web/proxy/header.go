package proxy

import (
	"net/http"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// collect picks the caller's headers that go upstream. Errors: reserved_header.
func (c *call) collect() error {
	hop := hopHeaders(c.in.Header["Connection"])
	for key, values := range c.in.Header {
		name, override := strings.CutPrefix(key, headerPass)
		plain := folded(name)
		switch {
		case name == "":
			continue
		case override && plain != "User-Agent" && c.out.Reserved(plain):
			return broker.ErrReservedHeader.On(strings.ToLower(name))
		case ours(plain), hop != nil && (slices.Contains(hop, plain) || slices.Contains(hop, folded(key))):
			continue
		case !override && !passes(name):
			// It would be dropped, but whoever sends it thinks that it is the one which counts.
			if c.out.Reserved(plain) {
				return broker.ErrReservedHeader.On(strings.ToLower(name))
			}
			continue
		}
		if name == "Accept" && !override {
			c.accept = values
			continue
		}
		if !c.leaks(values) {
			c.pass = append(c.pass, field{name, values, override})
		}
	}
	return nil
}

// leaks reports whether the caller's API key stands in a header that would go upstream.
func (c *call) leaks(values []string) bool {
	if c.key == "" {
		return false
	}
	for _, v := range values {
		if strings.Contains(v, c.key) {
			return true
		}
	}
	return false
}

// jsonType is shared: nobody may change it.
var jsonType = []string{"application/json"}

// fill makes out's headers those that were collected. Accept is not among them: HTTP clients send one that nobody wrote, and
// it must not take the place of the entry's; see [call.rewrite].
func (c *call) fill(out http.Header) {
	clear(out)
	for i := range c.pass {
		if f := &c.pass[i]; !f.override {
			out[f.key] = f.values
		}
	}
	for i := range c.pass {
		if f := &c.pass[i]; f.override {
			out[f.key] = f.values
		}
	}
	if c.empty {
		out["Content-Type"] = jsonType
	}
}

// folded gives a header's name in the form in which names are compared: to many servers "_" is "-".
func folded(name string) string {
	if strings.IndexByte(name, '_') < 0 {
		return name
	}
	return http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// hopHeaders gives what a Connection header names; nil where it names nothing but how the connection goes on.
func hopHeaders(connection []string) []string {
	if len(connection) == 0 || len(connection) == 1 && (strings.EqualFold(connection[0], "keep-alive") || strings.EqualFold(connection[0], "close")) {
		return nil
	}
	var out []string
	for _, line := range connection {
		for name := range strings.SplitSeq(line, ",") {
			out = append(out, folded(http.CanonicalHeaderKey(strings.TrimSpace(name))))
		}
	}
	return out
}

// passes reports whether a header goes upstream under its own name.
func passes(name string) bool {
	switch name {
	case "Accept", "User-Agent", "Range", "Last-Event-Id":
		return true
	}
	switch name[0] {
	case 'A':
		return strings.HasPrefix(name, "Accept-")
	case 'C':
		return strings.HasPrefix(name, "Content-")
	case 'I':
		return strings.HasPrefix(name, "If-")
	case 'M':
		return strings.HasPrefix(name, "Mcp-")
	}
	return false
}

// ours reports whether a header is for this hop alone, or speaks of the caller, and goes upstream under no circumstances.
func ours(name string) bool {
	switch name {
	case headerIntegration, headerConnection, headerRetries, headerRetryOn, headerBaseURL, headerDecompress, headerForward,
		"Authorization", "Connection", "Content-Length", "Cookie", "Expect", "Forwarded", "Host", "Http2-Settings", "Keep-Alive",
		"Origin", "Referer", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Via", "X-Real-Ip":
		return true
	}
	switch name[0] {
	case 'N':
		return strings.HasPrefix(name, "Nango-")
	case 'P':
		return strings.HasPrefix(name, "Proxy-")
	case 'S':
		return strings.HasPrefix(name, "Sec-")
	case 'X':
		return strings.HasPrefix(name, "X-Forwarded-")
	}
	return false
}

// wantsUpgrade reports whether the caller wants to speak something else on this connection.
func wantsUpgrade(h http.Header) bool {
	if len(h["Upgrade"]) == 0 {
		return false
	}
	return slices.ContainsFunc(hopHeaders(h["Connection"]), func(name string) bool { return name == "Upgrade" })
}

// Values of our own in answers. They are shared: nobody may change them.
var (
	noSniff    = []string{"nosniff"}
	sandbox    = []string{"sandbox; default-src 'none'"}
	noStore    = []string{"no-store"}
	byBroker   = []string{"broker"}
	byUpstream = []string{"upstream"}
)

// protect sets what every answer has: whatever is in it, no browser may run it on our origin.
func protect(h http.Header) {
	h["X-Content-Type-Options"] = noSniff
	h["Content-Security-Policy"] = sandbox
}

// answerHeaders moves the headers of the provider's answer into ours, without those that are meant for a browser on the
// provider's own origin and those that hold the credential. The map they come from must not be used any more.
func (c *call) answerHeaders(to, from http.Header) {
	for key, values := range from {
		if stripped(key) {
			continue
		}
		if slices.ContainsFunc(values, c.out.Carries) {
			if values = slices.DeleteFunc(values, c.out.Carries); len(values) == 0 {
				continue
			}
		}
		to[key] = values
	}
}

// stripped reports whether a header of the provider's answer must not go to the caller.
func stripped(name string) bool {
	switch name {
	case "Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "Refresh", "Nel", "Report-To",
		"Reporting-Endpoints", "Service-Worker-Allowed", "X-Content-Type-Options", "Content-Security-Policy",
		"Content-Security-Policy-Report-Only":
		return true
	}
	return strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, "X-Error-")
}
