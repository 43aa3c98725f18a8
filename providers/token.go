package providers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/oauth2"

	"github.com/coatcheck/coatcheck/broker"
)

const (
	// callTimeout is how long a whole call to a provider may take, body included.
	callTimeout = 20 * time.Second
	// maxAnswer is the size of the largest answer, in bytes.
	maxAnswer = 256 << 10
	userAgent = "Coatcheck"
	formType  = "application/x-www-form-urlencoded"
	jsonType  = "application/json"
)

// reply is an answer that came, whole.
type reply struct {
	status int
	header http.Header
	body   []byte
	at     time.Time // when the request was sent
}

// tokenAuth is how a client proves itself at a token endpoint.
type tokenAuth struct {
	style    oauth2.AuthStyle // never the one that probes: it would send a code twice
	rawBasic bool             // a Basic header besides, without the encoding of RFC 6749 section 2.3.1
	public   bool             // no secret is sent
	custom   bool             // id and secret go as username and password
}

// tokenCall is one request to a token endpoint. It stands between golang.org/x/oauth2, which builds the request, and the
// client, which sends it: it puts in what the provider wants differently and keeps the answer, which is read more strictly
// than that library does. It sends once; a second attempt is an error.
type tokenCall struct {
	deps   *deps
	format string     // form, json or query
	params url.Values // laid over what the library sends; an empty list removes
	names  pairs      // what the provider calls a parameter
	basic  *url.Userinfo
	header http.Header

	used   bool
	answer *reply
	err    error
}

// context carries the call to the library.
func (c *tokenCall) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, &http.Client{
		Transport:     c,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
}

var errSecondRequest = errors.New("a token request is sent once")

// RoundTrip reshapes the request, sends it and keeps the answer.
func (c *tokenCall) RoundTrip(built *http.Request) (*http.Response, error) {
	if c.used {
		return nil, errSecondRequest
	}
	c.used = true
	req, err := c.reshape(built)
	if err != nil {
		c.err = err
		return nil, err
	}
	c.answer, c.err = c.deps.send(req)
	if c.err != nil {
		return nil, c.err
	}
	return &http.Response{
		StatusCode: c.answer.status, Status: http.StatusText(c.answer.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.answer.header, Body: io.NopCloser(bytes.NewReader(c.answer.body)), Request: built,
	}, nil
}

// reshape makes of the library's form what the provider takes.
func (c *tokenCall) reshape(built *http.Request) (*http.Request, error) {
	raw, err := io.ReadAll(built.Body)
	if err != nil {
		return nil, err
	}
	if err := built.Body.Close(); err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, err
	}
	for name, values := range c.params {
		if len(values) == 0 {
			form.Del(name)
			continue
		}
		form[name] = values
	}
	for _, x := range c.names {
		if values, ok := form[x.Key]; ok {
			delete(form, x.Key)
			form[x.Value] = values
		}
	}
	target := *built.URL
	body, contentType := []byte(nil), ""
	switch c.format {
	case "json":
		contentType = jsonType
		if body, err = jsonForm(form); err != nil {
			return nil, err
		}
	case "query":
		query := target.Query()
		for name, values := range form {
			query[name] = values
		}
		target.RawQuery = query.Encode()
	default:
		contentType, body = formType, []byte(form.Encode())
	}
	req, err := http.NewRequestWithContext(built.Context(), http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", jsonType)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if auth := built.Header.Get("Authorization"); auth != "" {
		req.Header.Set("Authorization", auth)
	}
	if c.basic != nil {
		password, _ := c.basic.Password()
		req.SetBasicAuth(c.basic.Username(), password)
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	return req, nil
}

// jsonForm writes parameters as a JSON object of strings.
func jsonForm(form url.Values) ([]byte, error) {
	object := make(map[string]string, len(form))
	for name := range form {
		object[name] = form.Get(name)
	}
	return json.Marshal(object, json.Deterministic(true))
}

// outcome gives the answer of the call, or why there is none. What the library made of it is not looked at, and its errors
// are not passed on: they quote the answer.
func (c *tokenCall) outcome() (*reply, error) {
	switch {
	case c.answer != nil:
		return c.answer, nil
	case c.err != nil:
		return nil, asFailure(c.err)
	}
	return nil, &broker.ProviderError{Class: broker.Transient, Code: broker.ErrInternal.Code}
}

// send makes a request once and reads its answer whole. A redirect is an answer like any other. Errors: *ProviderError.
func (d *deps) send(req *http.Request) (*reply, error) {
	var wrote atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	ctx, cancel := context.WithTimeout(req.Context(), callTimeout)
	defer cancel()
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", userAgent)
	}
	at := d.now()
	resp, err := d.client.Do(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		return nil, d.noAnswer(err, wrote.Load())
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	a := &reply{status: resp.StatusCode, header: resp.Header, body: body, at: at}
	switch {
	case err != nil:
		return nil, d.noAnswer(err, true)
	case len(body) > maxAnswer:
		return nil, unreadable(a, codeTooLarge, parseRetryAfter(a.header.Get("Retry-After"), at))
	}
	return a, nil
}

// noAnswer is the error of a request that brought no answer. The cause is not kept: it names addresses and the URL.
func (d *deps) noAnswer(err error, sent bool) *broker.ProviderError {
	reach := d.reach(err)
	return &broker.ProviderError{Class: broker.Transient, Code: reach.Code, InDoubt: sent, Reach: reach}
}
