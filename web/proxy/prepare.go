package proxy

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// serve answers the request.
func (c *call) serve() {
	if c.in.Method == http.MethodOptions {
		// A browser's preflight, or a question that is not for the provider. Without an Allow-Origin no page gets in.
		c.w.Header().Set("Allow", allowedMethods)
		c.WriteHeader(http.StatusNoContent)
		return
	}
	c.pursue(c.prepare())
}

// pursue makes the call, unless there was an error in preparing it.
func (c *call) pursue(err error) {
	switch {
	case err == nil:
		c.proxy.ServeHTTP(c, c.in)
	case c.in.Context().Err() != nil:
		c.gone()
	default:
		c.refuse(err)
	}
}

// prepare finds out who calls what, and refuses what must not go upstream.
func (c *call) prepare() error {
	r := c.in
	endpoint, err := endpointOf(c.path)
	if err != nil {
		return err
	}
	if r.Method == http.MethodTrace || r.Method == http.MethodConnect {
		c.w.Header().Set("Allow", allowedMethods)
		return broker.ErrMethodNotAllowed
	}
	if err := c.authenticate(); err != nil {
		return err
	}
	if err := c.underLimit(); err != nil {
		return err
	}
	if wantsUpgrade(r.Header) {
		return broker.ErrUpgradeRefused
	}
	if c.control, err = readControl(r.Header); err != nil {
		return err
	}
	if limit := c.h.limits.MaxBody; limit > 0 && r.ContentLength > limit {
		return broker.ErrBodyTooLarge
	}
	if err := checkQuery(r.URL.RawQuery); err != nil {
		return err
	}
	if c.out, err = c.h.broker.Outbound(r.Context(), c.who, c.control.integration, c.control.connection); err != nil {
		return ofCertificate(err)
	}
	return c.depart(endpoint)
}

// underLimit asks whether the key may make another call.
func (c *call) underLimit() error {
	if limit := c.h.keyLimit; limit != nil {
		return limit(c.who.Key)
	}
	return nil
}

// depart decides what goes where, when it is known who calls through which connection.
func (c *call) depart(endpoint string) error {
	if err := c.aim(endpoint); err != nil {
		return err
	}
	if c.h.certified == nil && c.out.Certificate() != nil {
		return broker.ErrNotSupported.Saying("client certificates are not presented here")
	}
	if err := c.collect(); err != nil {
		return err
	}
	c.empty = c.emptyForm()
	return c.enter()
}

// enter counts the call among those that are under way, with everything that the sweep has to know of it.
func (c *call) enter() error {
	r := c.in
	sends := r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody
	if sends || c.result != nil {
		// While a body is sent, a caller that has gone and a call in which nothing moves may both go unnoticed. Of an
		// errand's request it is not known whether anybody would notice.
		var ctx context.Context
		ctx, c.cancel = context.WithCancel(r.Context())
		c.in = r.WithContext(ctx)
	}
	if sends {
		c.body = c.h.newBody(r)
	}
	err := c.h.live.enter(c, c.out.Connection())
	switch {
	case err != nil:
		if c.body != nil {
			c.h.free(c.body)
			c.body = nil // nobody reads it
		}
	case c.result != nil:
		c.unhurried()
	case c.body != nil:
		// The answer may come while the body is still under way, and must not wait for its end.
		_ = http.NewResponseController(c.w).EnableFullDuplex()
	}
	return err
}

// shown gives the credential that a caller shows: the text after the last "Bearer ", or the whole header without it.
func shown(h http.Header) (string, error) {
	values := h["Authorization"]
	switch len(values) {
	case 0:
		return "", broker.ErrUnauthorized.Because(kit.ErrNoCredential)
	case 1:
	default:
		return "", broker.ErrUnauthorized.Because(kit.ErrEmptyCredential)
	}
	text := values[0]
	if i := strings.LastIndex(text, "Bearer "); i >= 0 {
		text = text[i+len("Bearer "):]
	}
	if text = strings.TrimSpace(text); text == "" || text == "Bearer" {
		return "", broker.ErrUnauthorized.Because(kit.ErrEmptyCredential)
	}
	return text, nil
}

// authenticate finds out whose API key was sent.
func (c *call) authenticate() error {
	text, err := shown(c.in.Header)
	if err != nil {
		return err
	}
	if len(text) < minKeyLength {
		return broker.ErrUnauthorized.Because(kit.ErrNotAKey)
	}
	if c.who, err = c.h.broker.Authenticate(text); err != nil {
		return err
	}
	if err := c.who.Allow(broker.ScopeProxy); err != nil {
		return err
	}
	c.key = text
	// The key would go upstream. Other credentials in the query are the provider's business.
	if strings.Contains(c.in.URL.RawQuery, text) || strings.Contains(c.path, text) {
		return broker.ErrCredentialInURL
	}
	return nil
}

// minKeyLength is the shortest text that can be an API key.
const minKeyLength = 16

// aim decides where the call goes. Errors: not_supported, base_url_not_allowed, invalid_path, reserved_param.
func (c *call) aim(endpoint string) error {
	base, err := c.base(c.out)
	if err != nil {
		return err
	}
	if c.out.OnlyBase() && endpoint == "/" {
		c.target = exactly(base)
	} else if c.target, err = at(base, endpoint); err != nil {
		return err
	}
	c.target.query = c.in.URL.RawQuery
	c.path = ""
	for i := range c.out.Query() {
		if p := &c.out.Query()[i]; names(c.target.query, p.Key) {
			return broker.ErrReservedParam.On(p.Key)
		}
	}
	return nil
}

// base gives the base URL that counts for this call.
func (c *call) base(o *broker.Outbound) (*url.URL, error) {
	base := o.Base()
	var other *url.URL
	var err error
	switch {
	case c.control.baseURL != "":
		other, err = overridden(c.control.baseURL, base, o.Hosts())
	case c.absolute != "":
		other, err = reached(c.absolute, base, o.Hosts())
	}
	if err == nil && other != nil && o.OnlyBase() && !under(other, base) {
		err = broker.ErrBaseURLNotAllowed
	}
	if err != nil || other != nil {
		return other, err
	}
	if base == nil {
		return nil, &refusal{
			cause: broker.ErrNotSupported, status: http.StatusBadRequest, code: "unsupported_provider",
			message: "the provider's entry has no base URL",
		}
	}
	return base, nil
}

// emptyForm reports whether the request is what clients make of a POST, PUT or PATCH without data: a form of length
// zero. Upstream gets an empty JSON object instead, as callers are used to, unless they say that they mean a form.
func (c *call) emptyForm() bool {
	switch c.in.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		return false
	}
	meant := c.in.Header[headerPass+"Content-Type"]
	return c.in.ContentLength == 0 && isType(c.in.Header["Content-Type"], "application/x-www-form-urlencoded") &&
		(len(meant) == 0 || isType(meant, "application/json"))
}

func isType(values []string, media string) bool {
	if len(values) != 1 {
		return false
	}
	text, _, _ := strings.Cut(values[0], ";")
	return strings.EqualFold(strings.TrimSpace(text), media)
}

// rewrite makes the outgoing request. ReverseProxy calls it when it has taken out what is for one hop alone.
func (c *call) rewrite(p *httputil.ProxyRequest) {
	out := p.Out
	out.Host = ""
	out.Trailer = nil // nobody has checked what will be in it
	c.fill(out.Header)
	switch {
	case c.empty:
		out.Body, out.ContentLength, out.GetBody = emptyObject()
	case c.body != nil:
		c.body.src = out.Body // not the server's own, which must not be closed while it is read
		out.Body = &c.body.first
		if c.body.keep {
			out.GetBody = c.body.again
		}
	}
	c.transit = true
	c.failure = c.authorize(out)
	// The credential is in, and Accept is no part of it: where the provider sets it, it is set.
	if len(c.accept) > 0 && len(out.Header["Accept"]) == 0 {
		out.Header["Accept"] = c.accept
	}
}

func emptyObject() (body io.ReadCloser, length int64, again func() (io.ReadCloser, error)) {
	again = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("{}")), nil }
	body, _ = again()
	return body, int64(len("{}")), again
}

// authorize aims the request and puts the credential in, which is the last thing that happens to it. Then it makes sure
// that the request still goes where it may.
func (c *call) authorize(out *http.Request) error {
	if err := c.target.apply(out.URL, c.out.Query()); err != nil {
		return err
	}
	if err := c.out.Authorize(out); err != nil {
		return broker.AsError(err)
	}
	if out.Host != "" || !c.target.holds(out.URL) {
		return broker.ErrInvalidPath
	}
	return nil
}

// modify prepares the answer's headers. ReverseProxy calls it when it has taken out what is for one hop alone.
func (c *call) modify(res *http.Response) error {
	c.transit = false
	h := c.w.Header()
	if isType(res.Header["Content-Type"], "text/event-stream") {
		c.proxy.FlushInterval = -1 // at once
	}
	c.answerHeaders(h, res.Header)
	res.Header = nil
	protect(h)
	if c.result != nil {
		h["Cache-Control"] = noStore // whose answer it is does not show in the address that a cache knows
	}
	if len(h["X-Request-Id"]) == 0 {
		h["X-Request-Id"] = []string{c.requestID()}
	}
	if res.StatusCode >= http.StatusBadRequest {
		h["X-Error-Source"] = byUpstream
	}
	if c.headless {
		delete(h, "Content-Length") // of what is not sent, which is what a GET would have waited for
	}
	return nil
}

// failed answers a call that brought no answer.
func (c *call) failed(_ http.ResponseWriter, _ *http.Request, err error) {
	switch {
	case c.expired.Load() && c.stalled.Load():
		c.hangUp()
		c.refuse(broker.ErrInvalidRequest.Saying("the body did not arrive in time"))
	case c.expired.Load():
		c.hangUp() // its context has ended, and would end that of the next request too
		c.refuse(c.unanswered(broker.ErrProviderTimeout))
	case c.body != nil && c.body.fault.Load() != nil:
		c.refuse(c.body.fault.Load())
	case c.in.Context().Err() != nil:
		c.gone()
	case c.failure != nil: // last: a body that broke off while it was signed is one too
		c.refuse(c.failure)
	default:
		e := c.h.reach(err)
		c.h.log.LogAttrs(c.in.Context(), slog.LevelWarn, "a proxied call brought no answer",
			slog.String("request_id", c.requestID()), slog.String("connection", string(c.out.Connection())),
			slog.String("code", e.Code), slog.String("error", describe(err)))
		c.refuse(c.unanswered(e))
	}
}

// gone ends a call whose caller has left. The connection is cut, because an empty answer would read as one.
func (c *call) gone() {
	c.code = "client_gone"
	panic(http.ErrAbortHandler)
}

// hangUp has the server close the connection when the answer has been sent.
func (c *call) hangUp() { c.w.Header().Set("Connection", "close") }
