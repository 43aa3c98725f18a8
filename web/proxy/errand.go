package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// Carry does an errand and writes the provider's answer to w. All rules and limits are those of a call to /proxy, and so is
// the line in the access log. Nothing of r is sent but what the errand holds. The body of r has to be read to its end
// before, and what an API key or a token is in its Authorization header is kept from going upstream.
//
// An error is a [*broker.Error], and nothing was written then: headers apart, the answer is up to the surface. Codes:
// method_not_allowed, rate_limited, upgrade_not_supported, invalid_request, body_too_large, invalid_path, invalid_query,
// credential_in_url, base_url_not_allowed, not_supported, reserved_header, reserved_param, egress_blocked,
// provider_unreachable, provider_timeout. As in a call to /proxy, the panic is [http.ErrAbortHandler] where the caller has
// gone, or where an answer breaks off that had begun.
func (h *Handler) Carry(w http.ResponseWriter, r *http.Request, e kit.Errand) (err error) {
	c, ok := h.calls.Get().(*call)
	if !ok {
		return broker.ErrInternal // cannot be: the pool holds nothing else
	}
	c.take(w, r, &e, &err)
	defer c.end()
	c.pursue(c.ready(r, &e))
	return err
}

// passHeaders gives those of a request's headers that go upstream in a call to /proxy without being meant for it, less what
// is for this hop alone.
func passHeaders(h http.Header) http.Header {
	hop := hopHeaders(h["Connection"])
	out := make(http.Header)
	for name, values := range h {
		if name != "" && passes(name) && !ours(folded(name)) && !slices.Contains(hop, folded(name)) {
			out[name] = values
		}
	}
	return out
}

// maxHead is how many bytes an errand's URL and headers may have together: what the server takes of a request.
const maxHead = 32 << 10

// take makes the call that of an errand. What is refused goes to result.
func (c *call) take(w http.ResponseWriter, r *http.Request, e *kit.Errand, result *error) {
	c.w, c.start, c.result = w, c.h.now(), result
	c.who, c.out, c.control.integration = e.Who, e.Out, e.Out.Integration()
	c.path = logged(e.URL)
	// One id for the surface's log line and for ours, where it is of our form.
	if len(e.Who.RequestID) == len(c.id) {
		copy(c.id[:], e.Who.RequestID)
	} else {
		c.newID()
	}
	c.key, _ = shown(r.Header)
	if len(c.key) < minKeyLength {
		c.key = ""
	}
	in := &http.Request{Method: methodOf(e), URL: &url.URL{}, Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor}
	if len(e.Body) > 0 {
		in.Body, in.ContentLength = io.NopCloser(bytes.NewReader(e.Body)), int64(len(e.Body))
	}
	c.in = in.WithContext(r.Context())
}

// ready is what prepare is for a call to /proxy.
func (c *call) ready(r *http.Request, e *kit.Errand) error {
	if c.who.Kind == broker.Anonymous {
		return broker.ErrUnauthorized
	}
	if !e.Counted && c.who.Key != "" {
		if err := c.underLimit(); err != nil {
			return err
		}
	}
	if wantsUpgrade(r.Header) {
		return broker.ErrUpgradeRefused
	}
	if limit := c.h.limits.MaxBody; limit > 0 && c.in.ContentLength > limit {
		return broker.ErrBodyTooLarge
	}
	var err error
	if c.in.Header, err = headerOf(e); err != nil {
		return err
	}
	if c.in.Method == "" {
		return broker.ErrMethodNotAllowed
	}
	c.headless = c.in.Method == http.MethodHead && r.Method != http.MethodHead
	p, err := placeOf(e.URL)
	if err != nil {
		return err
	}
	if err := checkQuery(p.query); err != nil {
		return err
	}
	if c.key != "" && strings.Contains(e.URL, c.key) {
		return broker.ErrCredentialInURL
	}
	if c.in.URL.RawQuery, c.in.URL.ForceQuery = p.query, p.bare; p.absolute {
		c.absolute = p.endpoint
	}
	return c.depart(p.endpoint)
}

// maxMethod is more than any method has characters.
const maxMethod = 32

// methodOf gives the method that is sent; empty: it must not be. OPTIONS is answered by us in a call to /proxy, and never sent.
func methodOf(e *kit.Errand) string {
	m := strings.ToUpper(e.Method)
	switch {
	case m == "":
		return http.MethodGet
	case m == http.MethodTrace, m == http.MethodConnect, m == http.MethodOptions:
		return ""
	case len(m) > maxMethod || !httpguts.ValidHeaderFieldName(m): // a token, as a header's name is
		return ""
	}
	return m
}

// headerOf gives an errand's headers as a call to /proxy would have them. What net/http does not let in there, it does not here.
func headerOf(e *kit.Errand) (http.Header, error) {
	out := passHeaders(e.Plain)
	size := len(e.URL)
	for name, values := range e.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return nil, broker.ErrInvalidRequest.Saying("a header's name is not valid").On("headers")
		}
		key := headerPass + http.CanonicalHeaderKey(name)
		out[key] = append(out[key], values...)
	}
	for name, values := range out {
		for _, v := range values {
			if size += len(name) + len(v); !httpguts.ValidHeaderFieldValue(v) {
				return nil, broker.ErrInvalidRequest.Saying("a header's value is not valid").On("headers")
			}
		}
	}
	if size > maxHead {
		return nil, broker.ErrInvalidRequest.Saying("the URL and the headers are too long")
	}
	return out, nil
}

// place is what an errand's URL names.
type place struct {
	endpoint string // as [at] takes it: it begins with a slash, and an absolute URL begins after that
	absolute bool
	query    string
	bare     bool // there is a question mark, and nothing behind it
}

// placeOf takes a URL apart, and leaves every part as it is: who parses it may read it another way than who is sent it.
// Errors: invalid_path.
func placeOf(raw string) (p place, err error) {
	p.endpoint, p.query, p.bare = strings.Cut(raw, "?")
	p.bare = p.bare && p.query == ""
	switch scheme, rest, found := strings.Cut(p.endpoint, ":"); {
	case !found || !isScheme(scheme):
	case strings.HasPrefix(rest, "//"):
		p.absolute = true
	default: // absolute to some, and relative to others
		return p, broker.ErrInvalidPath
	}
	if p.absolute || !strings.HasPrefix(p.endpoint, "/") {
		p.endpoint = "/" + p.endpoint
	}
	return p, nil
}

// reached gives the base URL that an absolute endpoint lies below: the connection's, or an https host of the list. No URL
// is parsed to find that out, and the host is written as it was there. Errors: base_url_not_allowed.
func reached(endpoint string, base *url.URL, hosts []string) (*url.URL, error) {
	if base != nil {
		if t := below(base); t.relative(endpoint) != "" {
			return base, nil
		}
	}
	scheme, rest, _ := strings.Cut(endpoint[1:], "://")
	authority, _, _ := strings.Cut(rest, "/")
	for _, host := range hosts {
		if strings.EqualFold(scheme, "https") && sameHost("https", authority, host) {
			return &url.URL{Scheme: "https", Host: host}, nil
		}
	}
	return nil, broker.ErrBaseURLNotAllowed
}

// logged gives what may be logged of a URL that nobody has checked: its path. A host may have a password before it, and
// tokens are handed over in queries and fragments.
func logged(raw string) string {
	_, err := placeOf(raw)
	if i := strings.IndexAny(raw, "?#"); i >= 0 {
		raw = raw[:i]
	}
	if before, rest, ok := strings.Cut(raw, "//"); ok && !strings.Contains(before, "/") {
		_, raw, _ = strings.Cut(rest, "/")
	}
	if !strings.HasPrefix(raw, "/") {
		raw = "/" + raw
	}
	if _, ok := checkPath(raw); (err != nil || !ok) && strings.Contains(decode(raw), "@") {
		return masked // a host after all, to somebody
	}
	return raw
}

// handBack leaves a failure to the surface. The call's own limits of time end here, so that of its answer begins.
func (c *call) handBack(err error) {
	e := broker.AsError(err)
	var own *refusal
	if errors.As(err, &own) && own.message != "" {
		e = e.Saying(own.message)
	}
	*c.result, c.code = e, e.Code
	if c.entered != "" {
		_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(c.h.limits.IdleTimeout))
	}
}

// unhurried lifts the limits of time under which the surface's request came: from now on its calls may be idle for a
// while, and are ended by the sweep. A request whose reading has a limit would end with it, though it has been read.
func (c *call) unhurried() {
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Time{})
}

// handedBack reports whether the call is an errand's, and gives the status of its failure: nobody has answered yet.
func (c *call) handedBack() (status int, ok bool) {
	if c.result == nil || *c.result == nil {
		return 0, false
	}
	return kit.Status(broker.AsError(*c.result).Kind), true
}
