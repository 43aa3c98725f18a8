package kit

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// MaxJSON is how long a JSON body may be where a route has no reason for another limit.
const MaxJSON = 1 << 20

// maxDepth is how deep a JSON body may be nested.
const maxDepth = 32

// ReadJSON reads a body of one JSON object: no duplicate names, valid UTF-8, not nested deeper than 32. An absent body
// reads as an empty object, so that the caller's own rules say what is missing.
//
// Errors: invalid_json, body_too_large.
func ReadJSON(r *http.Request) (jsontext.Value, error) {
	body, err := readBody(r)
	switch {
	case err != nil:
		return nil, err
	case body == nil:
		return jsontext.Value("{}"), nil
	case jsontext.NewDecoder(bytes.NewReader(body)).PeekKind() != jsontext.KindBeginObject:
		return nil, broker.ErrInvalidJSON
	}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	return body, nil
}

// ReadAnyJSON reads a body of one JSON value of any kind, for surfaces whose contract tells a wrong kind from a malformed
// body; nil: there is none. The value is checked as by [ReadJSON].
//
// Errors: invalid_json because of [*SyntaxError], body_too_large.
func ReadAnyJSON(r *http.Request) (jsontext.Value, error) {
	body, err := readBody(r)
	if err != nil || body == nil {
		return nil, err
	}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(body), nil
}

// readBody reads all of a body; nil: there is none, or nothing but space.
func readBody(r *http.Request) (jsontext.Value, error) {
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, broker.ErrBodyTooLarge
	case err != nil:
		return nil, broker.ErrInvalidJSON.Saying("the body did not arrive whole").Because(err)
	case len(bytes.TrimSpace(body)) == 0:
		return nil, nil
	}
	return body, nil
}

// SyntaxError is the cause of an invalid_json that can be pointed at.
type SyntaxError struct {
	Offset int64 // bytes of the body before it
}

func (m *SyntaxError) Error() string { return "malformed at byte " + strconv.FormatInt(m.Offset, 10) }

// malformed refuses a body for what stands at the offset.
func malformed(offset int64, message string) error {
	return broker.ErrInvalidJSON.Saying(message).Because(&SyntaxError{offset})
}

// checkJSON walks the tokens once. The decoder itself refuses duplicate names and broken UTF-8.
func checkJSON(body []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	for {
		if _, err := d.ReadToken(); err != nil {
			return syntax(err)
		}
		switch d.StackDepth() {
		case 0:
			if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
				return malformed(d.InputOffset(), "something follows the JSON value")
			}
			return nil
		case maxDepth + 1:
			return malformed(d.InputOffset(), "the body is nested too deeply")
		}
	}
}

func syntax(err error) error {
	var s *jsontext.SyntacticError
	switch {
	case !errors.As(err, &s):
		return broker.ErrInvalidJSON
	case errors.Is(err, jsontext.ErrDuplicateName):
		return malformed(s.ByteOffset, "the body names a member twice")
	}
	return malformed(s.ByteOffset, "the body is not valid JSON near byte "+strconv.FormatInt(s.ByteOffset, 10))
}

// DecodeJSON reads a body as [ReadJSON] does and decodes it into the struct that v points to. Names must match in case,
// and a member that the struct lacks is refused.
//
// Errors: those of [ReadJSON], unknown_field, and invalid_request for a value of the wrong type; the last two name the
// field, with dots between its parts.
func DecodeJSON(r *http.Request, v any) error {
	body, err := ReadJSON(r)
	if err != nil {
		return err
	}
	err = json.Unmarshal(body, v, json.RejectUnknownMembers(true))
	var semantic *json.SemanticError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &semantic):
		return broker.ErrInvalidJSON
	}
	field := strings.ReplaceAll(strings.TrimPrefix(string(semantic.JSONPointer), "/"), "/", ".")
	if errors.Is(err, json.ErrUnknownName) {
		return broker.ErrUnknownField.On(field)
	}
	return broker.ErrInvalidRequest.Saying("a value has the wrong type").On(field)
}

// WriteJSON answers with v as JSON. It is encoded first, so that a failure is a whole answer of its own. Members of maps
// are sorted; nothing is escaped for HTML.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	// What a stranger sent may come back in an error, and need not be UTF-8.
	body, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return broker.ErrInternal.Because(err)
	}
	WriteBody(w, status, "application/json; charset=utf-8", body)
	return nil
}

// WriteBody answers with a finished body. That it may not arrive is nobody's failure: the client has gone.
func WriteBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
