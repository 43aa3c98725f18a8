package kit

import (
	"net/http"
	"strings"
)

// Rest gives what follows the first n segments of a request's path, with the query and exactly as it was sent: a variable
// of a path is decoded, and what goes on to somebody else must not change. It begins with a slash.
func Rest(r *http.Request, n int) string {
	sent := r.RequestURI
	if !strings.HasPrefix(sent, "/") { // a proxy's absolute form (RFC 9112 section 3.2.2)
		sent = r.URL.RequestURI()
	}
	path, query, asked := strings.Cut(sent, "?")
	parts := strings.SplitN(path, "/", n+2) // the first one is empty
	if len(parts) < n+2 {
		return "/"
	}
	rest := "/" + parts[n+1]
	if asked {
		rest += "?" + query
	}
	return rest
}
