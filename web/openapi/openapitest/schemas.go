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
				w.look(o.String()+": the body", m.Value.Schema, false)
			}
		}
		for _, r := range o.Responses {
			response, _ := c.response(r.Value)
			for _, m := range response.Content {
				w.look(o.String()+": the answer "+r.Name, m.Value.Schema, false)
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

type visit struct {
	schema *openapi.Schema
	part   bool
}

// look checks a schema and what it is made of. part is set where it is but a part of one that says it for all of them.
func (w *objects) look(where string, s *openapi.Schema, part bool) {
	if s == nil || w.seen[visit{s, part}] {
		return
	}
	w.seen[visit{s, part}] = true
	says := s.AdditionalProperties != nil || s.UnevaluatedProperties != nil
	if len(s.Properties) > 0 && !says && !part {
		w.add("%s: an object with %q does not say whether it may have others", where, s.Properties[0].Name)
	}
	part = part || says
	if s.Ref != "" {
		target, _ := w.spec.Components.Schemas.Get(strings.TrimPrefix(s.Ref, "#/components/schemas/"))
		w.look(where+", "+s.Ref, target, part)
	}
	for _, one := range slices.Concat(s.AllOf, s.AnyOf, s.OneOf) {
		w.look(where, one, part)
	}
	for _, p := range slices.Concat(s.Properties, s.PatternProperties) {
		w.look(where+", "+p.Name, p.Value, false)
	}
	w.look(where, s.Items, false)
	w.look(where, s.AdditionalProperties, false)
	w.look(where, s.UnevaluatedProperties, false)
}
