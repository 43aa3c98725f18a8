package providers

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// lookup finds the value at a path such as data.accounts.0.id or data.accounts[0].id. A member whose name is the whole
// path, dots and all, goes before it.
func lookup(raw jsontext.Value, path string) (jsontext.Value, bool) {
	if path == "" {
		return nil, false
	}
	if v, ok := member(raw, path); ok {
		return v, true
	}
	if !strings.ContainsAny(path, ".[") {
		return nil, false
	}
	path = strings.ReplaceAll(strings.ReplaceAll(path, "[", "."), "]", "")
	for key := range strings.SplitSeq(path, ".") {
		var ok bool
		if raw, ok = member(raw, key); !ok {
			return nil, false
		}
	}
	return raw, true
}

// member finds a member of an object, or an item of a list by its index.
func member(raw jsontext.Value, key string) (jsontext.Value, bool) {
	switch raw.Kind() {
	case '{':
		var object map[string]jsontext.Value
		if json.Unmarshal(raw, &object) != nil {
			return nil, false
		}
		v, ok := object[key]
		return v, ok
	case '[':
		var items []jsontext.Value
		i, ok := index(key)
		if !ok || json.Unmarshal(raw, &items) != nil || i >= len(items) {
			return nil, false
		}
		return items[i], true
	}
	return nil, false
}

// index reads a list's index of at most three digits.
func index(s string) (int, bool) {
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, s != "" && len(s) <= 3
}

// get gives the value at a path, nil if there is none.
func get(raw jsontext.Value, path string) jsontext.Value {
	v, _ := lookup(raw, path)
	return v
}

// text gives a JSON string's text, "" for any other value.
func text(v jsontext.Value) string {
	if v.Kind() != '"' {
		return ""
	}
	out, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return ""
	}
	return string(out)
}

// scalarText gives a string's text, and a number or a boolean as it was written: an id of twenty digits keeps them all.
func scalarText(v jsontext.Value) string {
	switch v.Kind() {
	case '"':
		return text(v)
	case '0', 't', 'f':
		return string(v)
	}
	return ""
}
