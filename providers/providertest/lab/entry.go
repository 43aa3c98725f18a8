package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Entry is an entry of the catalogue as the file has it, over what its alias stands for.
type Entry struct {
	Name  string
	facts map[string]any
}

// Read reads a catalogue in the form of providers.yaml.
func Read(catalogue []byte) (map[string]*Entry, error) {
	var all map[string]map[string]any
	if err := yaml.Unmarshal(catalogue, &all); err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	out := make(map[string]*Entry, len(all))
	for name := range all {
		facts, err := resolve(all, name, 0)
		if err != nil {
			return nil, err
		}
		out[name] = &Entry{Name: name, facts: facts}
	}
	return out, nil
}

// resolve lays an entry over the one that it is an alias of.
func resolve(all map[string]map[string]any, name string, depth int) (map[string]any, error) {
	own, ok := all[name]
	if !ok || depth > 10 {
		return nil, fmt.Errorf("entry %s: its alias leads nowhere", name)
	}
	target, ok := own["alias"].(string)
	if !ok {
		return own, nil
	}
	below, err := resolve(all, target, depth+1)
	if err != nil {
		return nil, err
	}
	out := maps.Clone(below)
	maps.Copy(out, own)
	delete(out, "alias")
	return out, nil
}

// Changed gives a copy of the entry under another name, with one field changed: a dotted path of keys, and its new value.
// nil takes the field away.
func (e *Entry) Changed(name, path string, value any) *Entry {
	facts := deepCopy(e.facts)
	at, keys := facts, strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		inner, ok := at[key].(map[string]any)
		if !ok {
			inner = map[string]any{}
			at[key] = inner
		}
		at = inner
	}
	last := keys[len(keys)-1]
	if at[last] = value; value == nil {
		delete(at, last)
	}
	return &Entry{Name: name, facts: facts}
}

func deepCopy(m map[string]any) map[string]any {
	out := maps.Clone(m)
	for key, v := range out {
		if inner, ok := v.(map[string]any); ok {
			out[key] = deepCopy(inner)
		}
	}
	return out
}

// Write gives a catalogue of some entries.
func Write(entries ...*Entry) ([]byte, error) {
	all := map[string]any{}
	for _, e := range entries {
		all[e.Name] = e.facts
	}
	return yaml.Marshal(all)
}

// Mode is how accounts are connected.
func (e *Entry) Mode() string { return e.text("auth_mode") }

// at gives what stands at a path of keys; nil: nothing.
func (e *Entry) at(path ...string) any {
	var v any = e.facts
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func (e *Entry) has(path ...string) bool { return e.at(path...) != nil }

// text gives a scalar as text, "" where there is none.
func (e *Entry) text(path ...string) string {
	switch v := e.at(path...).(type) {
	case nil, map[string]any, []any:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// list gives a list of texts; one text is a list too.
func (e *Entry) list(path ...string) []string {
	var out []string
	switch v := e.at(path...).(type) {
	case []any:
		for _, x := range v {
			out = append(out, fmt.Sprint(x))
		}
	case string:
		out = append(out, v)
	}
	return out
}

// pairs gives a map of names to texts.
func (e *Entry) pairs(path ...string) map[string]string {
	out := map[string]string{}
	for _, name := range e.names(path...) {
		out[name] = e.text(append(slices.Clone(path), name)...)
	}
	return out
}

// names lists the keys at a path in order.
func (e *Entry) names(path ...string) []string {
	m, _ := e.at(path...).(map[string]any)
	return slices.Sorted(maps.Keys(m))
}

// quirk reports whether the entry lists an oddity.
func (e *Entry) quirk(word string) bool {
	return slices.ContainsFunc(e.list("quirks"), func(q string) bool { return q == word || strings.HasPrefix(q, word+"=") })
}

// predicate says by what an answer is an error.
type predicate struct {
	path, codePath  string
	equals, differs any
	present         *bool
}

func (e *Entry) predicates() []predicate {
	all, _ := e.at("error_predicates").([]any)
	var out []predicate
	for _, x := range all {
		m, _ := x.(map[string]any)
		p := predicate{equals: m["equals"], differs: m["differs"]}
		p.path, _ = m["path"].(string)
		p.codePath, _ = m["code_path"].(string)
		if b, ok := m["present"].(bool); ok {
			p.present = &b
		}
		out = append(out, p)
	}
	return out
}
