package openapitest

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/web/openapi"
)

// named are the members whose own members have names that somebody chose.
var named = []string{
	"paths", "properties", "patternProperties", "schemas", "responses", "parameters", "requestBodies", "headers",
	"securitySchemes", "content", "examples",
}

// values are the members that hold anything.
var values = []string{"example", "default", "const", "enum", "value"}

// schemas compiles every schema, and holds the examples against theirs.
func (c *checker) schemas(pointer string, v any) {
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			c.schemas(join(pointer, strconv.Itoa(i)), e)
		}
	case map[string]any:
		c.examples(pointer, v)
		for _, key := range slices.Sorted(maps.Keys(v)) {
			here := join(pointer, key)
			members, isMap := v[key].(map[string]any)
			switch {
			case slices.Contains(values, key):
			case isMap && slices.Contains(named, key):
				for _, name := range slices.Sorted(maps.Keys(members)) {
					c.schemas(join(here, name), members[name])
				}
			default:
				c.schemas(here, v[key])
			}
		}
	}
}

// examples checks those of a schema, of a parameter and of a body.
func (c *checker) examples(pointer string, m map[string]any) {
	if list, ok := m["examples"].([]any); ok {
		for i, example := range list {
			c.fits("the example "+join(pointer, "examples", strconv.Itoa(i)), pointer, example)
		}
	}
	if _, ok := m["schema"]; !ok {
		return
	}
	at := join(pointer, "schema")
	if _, err := c.compile(at); err != nil {
		c.add("%s is no schema: %v", at, err)
		return
	}
	if example, ok := m["example"]; ok {
		c.fits("the example at "+pointer, at, example)
	}
	several, _ := m["examples"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(several)) {
		if one, ok := several[name].(map[string]any); ok {
			c.fits("the example "+join(pointer, "examples", name), at, one["value"])
		}
	}
}

// openness checks that every object which is sent says whether it may have members that are not listed.
func (c *checker) openness() {
	w := &objects{checker: c, seen: make(map[visit]bool)}
	for _, o := range c.operations() {
		if body := c.body(o); body != nil {
			for _, m := range body.Content {
				w.look(o.String()+": the body", m.Value.Schema, nil)
			}
		}
		for _, r := range o.Responses {
			response, _ := c.response(r.Value)
			for _, m := range response.Content {
				w.look(o.String()+": the answer "+r.Name, m.Value.Schema, nil)
			}
		}
	}
}

// body gives an operation's body, with a reference followed.
func (c *checker) body(o *operation) *openapi.RequestBody {
	if o.Body == nil || o.Body.Ref == "" {
		return o.Body
	}
	body, _ := c.spec.Components.RequestBodies.Get(strings.TrimPrefix(o.Body.Ref, "#/components/requestBodies/"))
	return body
}

// response follows a reference, and gives where the answer stands: empty where it is.
func (c *checker) response(r *openapi.Response) (to *openapi.Response, pointer string) {
	if r.Ref == "" {
		return r, ""
	}
	to, _ = c.spec.Components.Responses.Get(strings.TrimPrefix(r.Ref, "#/components/responses/"))
	return to, strings.TrimPrefix(r.Ref, "#")
}

// objects walks schemas.
type objects struct {
	*checker
	seen map[visit]bool
}

// visit is a schema, and what it narrows down.
type visit struct{ schema, base *openapi.Schema }

// look checks a schema and what it is made of. base is a schema that the same value must fit: what that says of other
// members holds here too.
func (w *objects) look(where string, s, base *openapi.Schema) {
	if s == nil || w.seen[visit{s, base}] {
		return
	}
	w.seen[visit{s, base}] = true
	if len(s.Properties) > 0 && !w.says(s) && !w.says(base) {
		w.add("%s: an object with %q does not say whether it may have others", where, s.Properties[0].Name)
	}
	if w.says(s) {
		base = s
	}
	target := w.target(s.Ref)
	w.look(where+", "+s.Ref, target, base)
	for _, one := range slices.Concat(s.AllOf, s.AnyOf, s.OneOf) {
		w.look(where, one, base)
	}
	for _, p := range slices.Concat(s.Properties, s.PatternProperties) {
		w.look(where+", "+p.Name, p.Value, w.member(target, p.Name))
	}
	for _, inner := range []*openapi.Schema{s.Items, s.AdditionalProperties, s.UnevaluatedProperties} {
		w.look(where, inner, nil)
	}
}

// target follows a reference; nil: there is none.
func (w *objects) target(ref string) *openapi.Schema {
	s, _ := w.spec.Components.Schemas.Get(strings.TrimPrefix(ref, "#/components/schemas/"))
	return s
}

// says reports whether a schema, or one that it is made of, says which other members there may be.
func (w *objects) says(s *openapi.Schema) bool {
	return s != nil && (s.AdditionalProperties != nil || s.UnevaluatedProperties != nil || w.says(w.target(s.Ref)) ||
		slices.ContainsFunc(s.AllOf, w.says))
}

// member gives what a schema has for a member; nil: nothing.
func (w *objects) member(s *openapi.Schema, name string) *openapi.Schema {
	if s == nil {
		return nil
	}
	if m, ok := s.Properties.Get(name); ok {
		return m
	}
	return w.member(w.target(s.Ref), name)
}
