package integrations

import (
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// callBody describes a call of the provider's API.
type callBody struct {
	Method  string            `json:"method"` // empty: GET
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Data    jsontext.Value    `json:"data"`
}

// call answers POST /api/integrations/{id}/request with what the provider answers.
func (a *api) call(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if _, err := params(r); err != nil {
		return err
	}
	var body callBody
	if err := kit.DecodeJSON(r, &body); err != nil {
		return err
	}
	if body.URL == "" {
		return broker.ErrInvalidRequest.On("url").Saying("the address of the call is missing")
	}
	headers, err := body.header()
	if err != nil {
		return err
	}
	data, err := body.payload(headers)
	if err != nil {
		return err
	}
	err = a.carry(w, r, kit.Errand{Who: who, Method: body.Method, URL: body.URL, Header: headers, Body: data})
	if errors.Is(err, broker.ErrMethodNotAllowed) { // it is not this address's method that is wrong
		return broker.ErrInvalidRequest.On("method").Saying("calls cannot have this method")
	}
	return err
}

// callPath answers GET /api/integrations/{id}/request/{path}. Path and query go on as they were sent.
func (a *api) callPath(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	const before = 4 // api, integrations, the id, request
	return a.carry(w, r, kit.Errand{Who: who, Method: r.Method, URL: kit.Rest(r, before), Plain: r.Header})
}

// carry makes the call through what the user has of the integration.
func (a *api) carry(w http.ResponseWriter, r *http.Request, e kit.Errand) error {
	out, err := a.b.OwnOutbound(r.Context(), e.Who, r.PathValue("id"))
	if err != nil {
		return err
	}
	e.Out, e.Counted = out, true // the gate has asked about the key's limit
	return a.proxy.Carry(w, r, e)
}

// header reads the headers of a call.
func (b *callBody) header() (http.Header, error) {
	out := make(http.Header, len(b.Headers)+1)
	for _, name := range slices.Sorted(maps.Keys(b.Headers)) { // so that the same is refused each time
		key := http.CanonicalHeaderKey(name)
		if _, twice := out[key]; twice {
			return nil, broker.ErrInvalidRequest.On("headers." + name).Saying("a header is named twice")
		}
		out[key] = []string{b.Headers[name]}
	}
	return out, nil
}

const contentType = "Content-Type"

// payload gives the body of a call. A text is the body itself; everything else is sent as the JSON that it is, and called so
// where the headers name no other type. null is what many clients make of nothing.
func (b *callBody) payload(h http.Header) ([]byte, error) {
	switch b.Data.Kind() {
	case jsontext.KindInvalid, jsontext.KindNull:
		return nil, nil
	case jsontext.KindString:
		var s string
		if err := json.Unmarshal(b.Data, &s); err != nil {
			return nil, broker.ErrInvalidRequest.On("data").Saying("this text cannot be read")
		}
		return []byte(s), nil
	}
	if len(h[contentType]) == 0 {
		h[contentType] = []string{"application/json"}
	}
	return b.Data, nil
}
