package nango

import (
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// query is a query string whose parameters are taken out by name. A name may carry another in brackets: tags[plan].
type query struct {
	check
	names  []string
	single map[string][]string
	nested map[string]map[string]string
	taken  map[string]bool
}

// params reads a request's query.
func params(r *http.Request) (*query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, broker.ErrInvalidQuery
	}
	q := &query{single: make(map[string][]string), nested: make(map[string]map[string]string), taken: make(map[string]bool)}
	for name, list := range values {
		outer, inner, ok := strings.Cut(strings.TrimSuffix(name, "]"), "[")
		switch {
		case !ok || !strings.HasSuffix(name, "]"):
			q.single[name] = append(q.single[name], list...)
			outer = name
		case inner == "": // key[]=x is the spelling of an array
			q.single[outer] = append(q.single[outer], list...)
		default:
			if q.nested[outer] == nil {
				q.nested[outer] = make(map[string]string)
			}
			q.nested[outer][inner] = list[len(list)-1]
		}
		q.names = append(q.names, outer)
	}
	slices.Sort(q.names)
	q.names = slices.Compact(q.names)
	return q, nil
}

// noQuery refuses any parameter.
func noQuery(r *http.Request) error {
	q, err := params(r)
	if err != nil {
		return err
	}
	return q.done()
}

// raw takes a parameter that is given at most once.
func (q *query) raw(name, want string) (string, bool) {
	q.taken[name] = true
	list := q.single[name]
	switch {
	case q.nested[name] != nil:
		q.add(codeType, wrongType(want, "object"), name)
	case len(list) > 1:
		q.add(codeType, wrongType(want, "array"), name)
	case len(list) == 1:
		return list[0], true
	}
	return "", false
}

// text takes a parameter that may be absent.
func (q *query) text(name string, rules ...rule) string {
	s, ok := q.raw(name, "string")
	if ok {
		q.check.text(s, rules, name)
	}
	return s
}

// required takes a parameter that must be there.
func (q *query) required(name string, rules ...rule) string {
	s, ok := q.raw(name, "string")
	switch {
	case ok:
		q.check.text(s, rules, name)
	case q.single[name] == nil && q.nested[name] == nil:
		q.add(codeType, wrongType("string", "undefined"), name)
	}
	return s
}

// words are how booleans are spelled.
var words = map[string]bool{
	"true": true, "1": true, "yes": true, "on": true, "y": true, "enabled": true,
	"false": false, "0": false, "no": false, "off": false, "n": false, "disabled": false,
}

// flag takes a boolean word; absent: false.
func (q *query) flag(name string) bool {
	s, ok := q.raw(name, "string")
	if !ok {
		return false
	}
	v, known := words[strings.ToLower(s)]
	if !known {
		q.add(codeValue, "Invalid option: expected a boolean word", name)
	}
	return v
}

// number takes a number between least and most. Fractions are cut off.
func (q *query) number(name string, otherwise, least, most int) int {
	s, ok := q.raw(name, "number")
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if s == "" {
		n, err = 0, nil
	}
	switch {
	case err != nil || math.IsNaN(n) || math.IsInf(n, 0):
		q.add(codeType, wrongType("number", "NaN"), name)
	case n < float64(least):
		q.add(codeSmall, "Too small: expected number to be >="+strconv.Itoa(least), name)
	case n > float64(most):
		q.add(codeBig, "Too big: expected number to be <="+strconv.Itoa(most), name)
	default:
		return int(n)
	}
	return otherwise
}

// options takes a parameter that may be given many times, each time one of the words.
func (q *query) options(name string, allowed ...string) []string {
	q.taken[name] = true
	if q.nested[name] != nil {
		q.add(codeType, wrongType("array", "object"), name)
	}
	for i, s := range q.single[name] {
		if !slices.Contains(allowed, s) {
			q.add(codeValue, "Invalid option: expected one of "+strings.Join(allowed, "|"), name, strconv.Itoa(i))
		}
	}
	return q.single[name]
}

// tags takes tags[key]=value.
func (q *query) tags() map[string]string {
	q.taken["tags"] = true
	if q.single["tags"] != nil {
		q.add(codeType, wrongType("object", "string"), "tags")
	}
	return q.check.tags(q.nested["tags"], "tags")
}

// done reports what is wrong, parameters that do not exist included.
func (q *query) done() error {
	unrecognized(&q.check, slices.DeleteFunc(q.names, func(n string) bool { return q.taken[n] }), nil)
	return q.failed(inQuery)
}

// pathValue reads a variable segment.
func pathValue(r *http.Request, name string, rules []rule) (string, error) {
	var c check
	s := r.PathValue(name)
	c.text(s, rules, name)
	return s, c.failed(inPath)
}
