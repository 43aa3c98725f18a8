package providers

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// compileBody reads what the entry puts into each request's body.
func (c *compiler) compileBody() {
	if p := c.entry.Proxy; p != nil && p.Body.Kind != 0 {
		c.body = c.mapping([]string{"proxy", "body"}, &p.Body)
	}
}

// inject puts the entry's members over those of a request's body: an object of JSON, a form, or nothing, which becomes an
// object. They hold the credential, so that a request whose body cannot have them is refused and not sent without. One
// without a value is left out. Errors: invalid_request, not_supported, body_too_large, rate_limited.
func (b *base) inject(r *http.Request, sc *scope) error {
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		return nil
	}
	raw, err := wholeBody(r)
	if err != nil {
		return err
	}
	over, _ := b.spec.body.fill(sc)
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch kind = strings.ToLower(strings.TrimSpace(kind)); {
	case len(r.Header["Content-Encoding"]) > 0:
		return errNotInjected
	case isForm(r.Header) && len(raw) > 0:
		if raw, err = formOver(raw, over); err != nil {
			return err
		}
	case len(bytes.TrimSpace(raw)) == 0:
		raw = over
		r.Header.Set("Content-Type", jsonType)
	case kind == jsonType || strings.HasSuffix(kind, "+json"):
		if raw, err = laidOver(raw, over); err != nil {
			return err
		}
	default:
		return errNotInjected
	}
	r.ContentLength = int64(len(raw))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	r.Body, err = r.GetBody()
	return err
}

var errNotInjected = broker.ErrNotSupported.Saying("this provider takes its credential in the body, which has to be a JSON object or a form")

// wholeBody reads a body that can be read twice; nil if there is none.
func wholeBody(r *http.Request) ([]byte, error) {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return nil, nil
	case r.ContentLength < 0 || r.ContentLength > maxForm:
		return nil, broker.ErrBodyTooLarge.Saying("a body that the credential is put into needs a Content-Length of at most 1 MiB")
	case r.GetBody == nil:
		return nil, broker.ErrRateLimited.Saying("too many bodies are being kept at the moment").After(time.Second)
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	return io.ReadAll(io.LimitReader(body, maxForm))
}

// laidOver lays an object over another, and objects in it over those in the other.
func laidOver(under, over []byte) ([]byte, error) {
	var low, high map[string]jsontext.Value
	if json.Unmarshal(under, &low) != nil || low == nil || json.Unmarshal(over, &high) != nil {
		return nil, errNotInjected
	}
	for name, v := range high {
		if old := low[name]; v.Kind() == '{' && old.Kind() == '{' {
			merged, err := laidOver(old, v)
			if err != nil {
				return nil, err
			}
			v = merged
		}
		low[name] = v
	}
	return json.Marshal(low, json.Deterministic(true))
}

// formOver lays the texts of an object over a form.
func formOver(raw []byte, over jsontext.Value) ([]byte, error) {
	form, err := url.ParseQuery(string(raw))
	var members map[string]jsontext.Value
	if err != nil || json.Unmarshal(over, &members) != nil {
		return nil, errNotInjected
	}
	for name, v := range members {
		if v.Kind() != '{' && v.Kind() != '[' {
			form.Set(name, scalarText(v))
		}
	}
	return []byte(form.Encode()), nil
}
