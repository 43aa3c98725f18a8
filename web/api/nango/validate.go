package nango

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// Codes of issues, as the original's validation library names them.
const (
	codeType         = "invalid_type"
	codeUnrecognized = "unrecognized_keys"
	codeFormat       = "invalid_format"
	codeSmall        = "too_small"
	codeBig          = "too_big"
	codeValue        = "invalid_value"
	codeUnion        = "invalid_union"
	codeKey          = "invalid_key"
	codeCustom       = "custom"
	codeString       = "invalid_string"
)

// check collects issues.
type check struct{ issues []issue }

func (c *check) add(code, message string, path ...string) {
	c.issues = append(c.issues, issue{Code: code, Message: message, Path: append([]string{}, path...)})
}

// failed gives the refusal, if there is an issue.
func (c *check) failed(part string) error {
	if len(c.issues) == 0 {
		return nil
	}
	return invalid(part, c.issues)
}

// rule checks a text and gives the code and message of what is wrong; no code: nothing is.
type rule func(s string) (code, message string)

func atLeast(n int) rule {
	return func(s string) (string, string) {
		if len([]rune(s)) < n {
			return codeSmall, "Too small: expected at least " + strconv.Itoa(n) + " characters"
		}
		return "", ""
	}
}

func atMost(n int) rule {
	return func(s string) (string, string) {
		if len([]rune(s)) > n {
			return codeBig, "Too big: expected at most " + strconv.Itoa(n) + " characters"
		}
		return "", ""
	}
}

func matching(form func() *regexp.Regexp, message string) rule {
	return func(s string) (string, string) {
		if !form().MatchString(s) {
			return codeFormat, message
		}
		return "", ""
	}
}

var (
	integrationKeyForm = expression(`^[a-zA-Z0-9~:.@ _-]+$`)
	providerNameForm   = expression(`^[a-zA-Z0-9_-]+$`)
	connectionIDForm   = expression(`^[a-zA-Z0-9,.;:=+~[\]|@${}"'\\/_ -]+$`)
	tagKeyForm         = expression(`^[a-zA-Z][a-zA-Z0-9_./-]*$`)
	scopeListForm      = expression(`^([0-9a-zA-Z:/_.*-]+(,[0-9a-zA-Z:/_.*-]+)*)?$`)
	emailForm          = expression(`^[A-Za-z0-9_'+-]+(\.[A-Za-z0-9_'+-]+)*@([A-Za-z0-9][A-Za-z0-9-]*\.)+[A-Za-z]{2,}$`)
)

// expression compiles a regular expression when it is first needed: compiling all of them would take a part of each start
// that shows.
func expression(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// Rules of values that turn up in many places.
var (
	isIntegrationKey = []rule{atMost(255), matching(integrationKeyForm, "Invalid string: an integration key has a-z, A-Z, 0-9, space and ~:.@_-")}
	isProviderName   = []rule{atMost(255), matching(providerNameForm, "Invalid string: a provider name has a-z, A-Z, 0-9, _ and -")}
	isConnectionID   = []rule{atMost(255), matching(connectionIDForm, "Invalid string: the connection id has a character that is not allowed")}
	isEmail          = []rule{atLeast(5), matching(emailForm, "Invalid email address")}
)

// isURL accepts addresses with a host, and "", which stands for none.
func isURL(s string) (string, string) {
	u, err := url.Parse(s)
	if s != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		return codeFormat, "Invalid URL"
	}
	return "", ""
}

// text checks a text against rules, in order.
func (c *check) text(s string, rules []rule, path ...string) {
	for _, r := range rules {
		if code, message := r(s); code != "" {
			c.add(code, message, path...)
		}
	}
}

// object is a JSON object whose members are taken out by name. What is left in the end was not asked for.
type object struct {
	*check
	path    []string
	names   []string // in the order of the text
	members map[string]jsontext.Value
	taken   map[string]bool
}

// body reads a request's body.
func body(r *http.Request) (*object, error) {
	raw, err := kit.ReadJSON(r)
	if err != nil {
		return nil, err
	}
	return newObject(&check{}, raw), nil
}

// newObject opens a value that is known to be an object.
func newObject(c *check, raw jsontext.Value, path ...string) *object {
	o := &object{check: c, path: slices.Clone(path), members: make(map[string]jsontext.Value), taken: make(map[string]bool)}
	eachMember(raw, func(name string, v jsontext.Value) {
		o.names = append(o.names, name)
		o.members[name] = v
	})
	return o
}

// eachMember walks the members of an object, in order. The text was checked before.
func eachMember(raw jsontext.Value, f func(name string, v jsontext.Value)) {
	d := jsontext.NewDecoder(strings.NewReader(string(raw)))
	if _, err := d.ReadToken(); err != nil {
		return
	}
	for d.PeekKind() == jsontext.KindString {
		name, err := d.ReadToken()
		if err != nil {
			return
		}
		key := name.String() // before the next read: a token lives no longer
		v, err := d.ReadValue()
		if err != nil {
			return
		}
		f(key, v.Clone())
	}
}

// at gives the path of a member.
func (o *object) at(name string) []string { return append(slices.Clone(o.path), name) }

// has reports whether there is such a member.
func (o *object) has(name string) bool { _, ok := o.members[name]; return ok }

// take takes a member out that must be of the kind. ok is false, with an issue unless it is merely absent and may be,
// when there is none.
func (o *object) take(name string, kind jsontext.Kind, required bool) (v jsontext.Value, ok bool) {
	o.taken[name] = true
	v, ok = o.members[name]
	switch {
	case !ok && required:
		o.add(codeType, wrongType(kindName(kind), "undefined"), o.at(name)...)
	case ok && !sameKind(v.Kind(), kind):
		o.add(codeType, wrongType(kindName(kind), kindName(v.Kind())), o.at(name)...)
		return nil, false
	}
	return v, ok
}

// sameKind: true and false are one kind to us.
func sameKind(have, want jsontext.Kind) bool {
	return have == want || want == jsontext.KindTrue && have == jsontext.KindFalse
}

func wrongType(want, got string) string {
	return "Invalid input: expected " + want + ", received " + got
}

func kindName(k jsontext.Kind) string {
	switch k {
	case jsontext.KindString:
		return "string"
	case jsontext.KindNumber:
		return "number"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "boolean"
	case jsontext.KindBeginArray:
		return "array"
	case jsontext.KindBeginObject:
		return "object"
	}
	return "null"
}

// text takes a text that must be there.
func (o *object) text(name string, rules ...rule) string {
	s, _ := o.textIf(name, true, rules)
	return s
}

// maybe takes a text that may be absent; nil: it is.
func (o *object) maybe(name string, rules ...rule) *string {
	s, ok := o.textIf(name, false, rules)
	if !ok {
		return nil
	}
	return &s
}

func (o *object) textIf(name string, required bool, rules []rule) (string, bool) {
	v, ok := o.take(name, jsontext.KindString, required)
	if !ok {
		return "", false
	}
	s := unquote(v)
	o.check.text(s, rules, o.at(name)...)
	return s, true
}

// unquote reads a JSON string that was checked before.
func unquote(v jsontext.Value) string {
	s, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return ""
	}
	return string(s)
}

// flag takes a boolean that may be absent; nil: it is.
func (o *object) flag(name string) *bool {
	v, ok := o.take(name, jsontext.KindTrue, false)
	if !ok {
		return nil
	}
	b := v.Kind() == jsontext.KindTrue
	return &b
}

// object takes an object out; nil: there is none, or it is something else.
func (o *object) object(name string, required bool) *object {
	v, ok := o.take(name, jsontext.KindBeginObject, required)
	if !ok {
		return nil
	}
	return newObject(o.check, v, o.at(name)...)
}

// texts takes an array of texts that may be absent.
func (o *object) texts(name string, rules ...rule) []string {
	v, ok := o.take(name, jsontext.KindBeginArray, false)
	if !ok {
		return nil
	}
	return o.list(v, o.at(name), rules)
}

// list reads an array of texts.
func (o *object) list(v jsontext.Value, path []string, rules []rule) []string {
	var elements []jsontext.Value
	if err := json.Unmarshal(v, &elements); err != nil {
		return nil
	}
	out := make([]string, 0, len(elements))
	for i, e := range elements {
		here := append(slices.Clone(path), strconv.Itoa(i))
		if e.Kind() != jsontext.KindString {
			o.add(codeType, wrongType("string", kindName(e.Kind())), here...)
			continue
		}
		s := unquote(e)
		o.check.text(s, rules, here...)
		out = append(out, s)
	}
	return out
}

// textMap takes an object of texts that may be absent.
func (o *object) textMap(name string, rules ...rule) map[string]string {
	inner := o.object(name, false)
	if inner == nil {
		return nil
	}
	out := make(map[string]string, len(inner.names))
	for _, key := range inner.names {
		out[key] = inner.text(key, rules...)
	}
	return out
}

// done reports what was not asked for.
func (o *object) done() {
	var left []string
	for _, name := range o.names {
		if !o.taken[name] {
			left = append(left, name)
		}
	}
	unrecognized(o.check, left, o.path)
}

func unrecognized(c *check, names, path []string) {
	if len(names) == 0 {
		return
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strconv.Quote(shorten(name))
	}
	word := "Unrecognized key: "
	if len(names) > 1 {
		word = "Unrecognized keys: "
	}
	c.add(codeUnrecognized, word+strings.Join(quoted[:min(len(quoted), 20)], ", "), path...)
}

func shorten(s string) string { return s[:min(len(s), 100)] }
