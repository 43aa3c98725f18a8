package popup

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// Types of problems, as the original's validation library names them.
const (
	typeMissing  = "missing"
	typeExtra    = "extra_forbidden"
	typeJSON     = "json_invalid"
	typeObject   = "model_attributes_type"
	typeEnum     = "enum"
	typeString   = "string_type"
	typeShort    = "string_too_short"
	typeLong     = "string_too_long"
	typePattern  = "string_pattern_mismatch"
	typeInteger  = "int_type"
	typeParsing  = "int_parsing"
	typeTooSmall = "greater_than_equal"
	typeTooBig   = "less_than_equal"
)

// Where a value stands.
const (
	inBody  = "body"
	inQuery = "query"
)

// check collects problems.
type check struct{ problems []problem }

// add notes a problem. ctx holds what the message was made with; nil: nothing.
func (c *check) add(kind, message string, input jsontext.Value, ctx map[string]any, loc ...any) {
	c.problems = append(c.problems, problem{Loc: loc, Msg: message, Type: kind, Input: input, Ctx: ctx})
}

// failed gives the refusal, if there is a problem.
func (c *check) failed() error {
	if len(c.problems) == 0 {
		return nil
	}
	cause := broker.ErrInvalidRequest
	if slices.ContainsFunc(c.problems, func(p problem) bool { return p.Type == typeExtra }) {
		cause = broker.ErrUnknownField
	}
	return &invalid{cause, c.problems}
}

// extra notes what was not asked for.
func (c *check) extra(input jsontext.Value, loc ...any) {
	c.add(typeExtra, "Extra inputs are not permitted", input, nil, loc...)
}

// missing notes what is not there, in what it should be.
func (c *check) missing(in jsontext.Value, loc ...any) {
	c.add(typeMissing, "Field required", in, nil, loc...)
}

// creation is what POST asks for.
type creation struct{ key, nickname string }

// Members of a body.
const (
	memberKey      = "integration_key"
	memberNickname = "nickname"
)

// readCreation reads the query and the body of POST, and tells all that is wrong with either.
func readCreation(r *http.Request) (creation, error) {
	values, err := params(r)
	if err != nil {
		return creation{}, err
	}
	var c check
	c.others(values)
	raw, err := kit.ReadAnyJSON(r)
	switch {
	case errors.Is(err, broker.ErrInvalidJSON):
		return creation{}, notJSON(broker.AsError(err))
	case err != nil:
		return creation{}, err
	}
	return c.creation(raw), c.failed()
}

// notJSON points at where a body stops being JSON.
func notJSON(e *broker.Error) error {
	loc := []any{inBody}
	var at *kit.SyntaxError
	if errors.As(e, &at) {
		loc = append(loc, at.Offset)
	}
	var c check
	c.add(typeJSON, "JSON decode error", jsontext.Value("{}"), map[string]any{"error": e.Msg}, loc...)
	return &invalid{e, c.problems}
}

// creation takes the values out of a body: first the members that there should be, in the contract's order, then those that
// there should not be, in the text's.
func (c *check) creation(raw jsontext.Value) (out creation) {
	switch {
	case raw == nil || raw.Kind() == jsontext.KindNull:
		c.missing(jsontext.Value("null"), inBody)
		return out
	case raw.Kind() != jsontext.KindBeginObject:
		c.add(typeObject, "Input should be a valid dictionary or object to extract fields from", raw, nil, inBody)
		return out
	}
	names, members := membersOf(raw)
	if v, ok := members[memberKey]; ok {
		out.key = c.key(v, inBody, memberKey)
	} else {
		c.missing(raw, inBody, memberKey)
	}
	if v, ok := members[memberNickname]; ok {
		out.nickname = c.nickname(v, inBody, memberNickname)
	} else {
		c.missing(raw, inBody, memberNickname)
	}
	for _, name := range names {
		if name != memberKey && name != memberNickname {
			c.extra(members[name], inBody, name)
		}
	}
	return out
}

// membersOf opens an object that was checked before. names are in the order of the text.
func membersOf(raw jsontext.Value) (names []string, members map[string]jsontext.Value) {
	members = make(map[string]jsontext.Value)
	d := jsontext.NewDecoder(strings.NewReader(string(raw)))
	if _, err := d.ReadToken(); err != nil {
		return nil, members
	}
	for d.PeekKind() == jsontext.KindString {
		token, err := d.ReadToken()
		if err != nil {
			break
		}
		name := token.String() // before the next read: a token lives no longer
		v, err := d.ReadValue()
		if err != nil {
			break
		}
		names = append(names, name)
		members[name] = v.Clone()
	}
	return names, members
}

// text reads a JSON string that was checked before.
func text(v jsontext.Value) (s string, ok bool) {
	if v.Kind() != jsontext.KindString {
		return "", false
	}
	raw, err := jsontext.AppendUnquote(nil, v)
	return string(raw), err == nil
}

// key takes a key of the contract. A value of another type is none of them, and is told in the same way.
func (c *check) key(v jsontext.Value, loc ...any) string {
	s, ok := text(v)
	if !ok || !slices.Contains(keys, s) {
		expected := oneOf(keys)
		c.add(typeEnum, "Input should be "+expected, v, map[string]any{"expected": expected}, loc...)
	}
	return s
}

// oneOf lists words as a sentence does.
func oneOf(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + w + "'"
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

const (
	maxNickname = 255 // characters
	// nicknameForm has no control characters: a nickname is shown to people.
	nicknameForm = `^\P{Cc}*$`
)

func (c *check) nickname(v jsontext.Value, loc ...any) string {
	s, ok := text(v)
	switch n := utf8.RuneCountInString(s); {
	case !ok:
		c.add(typeString, "Input should be a valid string", v, nil, loc...)
	case n == 0:
		c.add(typeShort, "String should have at least 1 character", v, map[string]any{"min_length": 1}, loc...)
	case n > maxNickname:
		c.add(typeLong, "String should have at most 255 characters", v, map[string]any{"max_length": maxNickname}, loc...)
	case strings.ContainsFunc(s, unicode.IsControl):
		c.add(typePattern, "String should match pattern '"+nicknameForm+"'", v, map[string]any{"pattern": nicknameForm}, loc...)
	}
	return s
}

// paging is a part of the list.
type paging struct{ limit, offset int }

// Bounds of a page, and of how far into the list it can begin.
const (
	defaultLimit = 50
	maxLimit     = 100
	maxOffset    = 1_000_000
)

func readPaging(r *http.Request) (paging, error) {
	values, err := params(r)
	if err != nil {
		return paging{}, err
	}
	var c check
	p := paging{c.number(values, "limit", defaultLimit, 1, maxLimit), c.number(values, "offset", 0, 0, maxOffset)}
	c.others(values, "limit", "offset")
	return p, c.failed()
}

// noQuery refuses any parameter.
func noQuery(r *http.Request) error {
	values, err := params(r)
	if err != nil {
		return err
	}
	var c check
	c.others(values)
	return c.failed()
}

// params reads the query string. Errors: invalid_query.
func params(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, broker.ErrInvalidQuery
	}
	return values, nil
}

// others notes the parameters that are not known.
func (c *check) others(values url.Values, known ...string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(known, name) {
			c.extra(given(values[name]), inQuery, name)
		}
	}
}

// given is a parameter as a problem repeats it: the text or, where there are several, all of them.
func given(list []string) jsontext.Value {
	var v any = list
	if len(list) == 1 {
		v = list[0]
	}
	raw, err := json.Marshal(v, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return jsontext.Value("null") // cannot be: texts have a form in JSON
	}
	return raw
}

// number takes a whole number between least and most.
func (c *check) number(values url.Values, name string, otherwise, least, most int) int {
	list := values[name]
	if len(list) == 0 {
		return otherwise
	}
	n, err := strconv.Atoi(list[0]) // of what does not fit, the greatest or least number that does
	at := func(kind, message string, ctx map[string]any) { c.add(kind, message, given(list), ctx, inQuery, name) }
	switch {
	case len(list) > 1:
		at(typeInteger, "Input should be a valid integer", nil)
	case err != nil && !errors.Is(err, strconv.ErrRange):
		at(typeParsing, "Input should be a valid integer, unable to parse string as an integer", nil)
	case n < least:
		at(typeTooSmall, "Input should be greater than or equal to "+strconv.Itoa(least), map[string]any{"ge": least})
	case n > most:
		at(typeTooBig, "Input should be less than or equal to "+strconv.Itoa(most), map[string]any{"le": most})
	}
	return n
}
