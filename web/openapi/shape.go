package openapi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// shape is a schema in a form that can be read aloud.
type shape struct {
	Before string // "list of "
	Ref    string // a named schema, which the type is; empty: Type says it
	Type   string // "text", "number or null"
	After  string // " or null"
	Notes  []string
	Text   string
	Fields []field
	Other  *shape // what members that are not listed look like; nil: there are none, or anything goes
	AnyOf  []shape
}

// field is a member of an object.
type field struct {
	Name     string
	Required bool
	Shape    shape
}

// types are our words for the types of JSON.
var types = map[string]string{
	"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "object": "object", "array": "list",
	"null": "null",
}

// shape reads a schema. What it refers to is named and not repeated, so that it ends where a schema holds itself.
func (r *reader) shape(s *Schema) shape {
	switch {
	case s == nil || s.Bool != nil:
		return shape{Type: "anything"}
	case s.Ref != "":
		return r.reference(s)
	}
	out := shape{Text: s.Description, Notes: notes(s)}
	if alternatives := slices.Concat(s.OneOf, s.AnyOf); len(alternatives) > 0 {
		r.alternatives(&out, alternatives)
	} else {
		r.typed(&out, s)
	}
	for _, p := range s.Properties {
		out.Fields = append(out.Fields, field{p.Name, slices.Contains(s.Required, p.Name), r.shape(p.Value)})
	}
	for _, part := range s.AllOf {
		r.merge(&out, part)
	}
	if other := s.AdditionalProperties; other != nil && other.Bool == nil {
		o := r.shape(other)
		out.Other = &o
	}
	return out
}

// reference names a schema, and what stands beside the reference.
func (r *reader) reference(s *Schema) shape {
	out := shape{Ref: strings.TrimPrefix(s.Ref, "#/components/schemas/"), Text: s.Description}
	for _, p := range s.Properties {
		out.Fields = append(out.Fields, field{p.Name, slices.Contains(s.Required, p.Name), r.shape(p.Value)})
	}
	return out
}

// alternatives shows a value that may be null as what it otherwise is.
func (r *reader) alternatives(out *shape, list []*Schema) {
	rest := slices.DeleteFunc(slices.Clone(list), func(s *Schema) bool { return len(s.Type) == 1 && s.Type[0] == "null" })
	after := ""
	if len(rest) < len(list) {
		after = " or null"
	}
	if len(rest) == 1 {
		one := r.shape(rest[0])
		one.After += after
		if one.Text == "" {
			one.Text = out.Text
		}
		*out = one
		return
	}
	out.Type = "one of" + after
	for _, s := range rest {
		out.AnyOf = append(out.AnyOf, r.shape(s))
	}
}

// typed names the type of a schema without alternatives.
func (r *reader) typed(out *shape, s *Schema) {
	names := make([]string, len(s.Type))
	for i, name := range s.Type {
		names[i] = types[name]
	}
	out.Type = strings.Join(names, " or ")
	switch {
	case s.Items != nil && slices.Contains(s.Type, "array"):
		items := r.shape(s.Items)
		items.Before = "list of " + items.Before
		items.Notes = append(items.Notes, out.Notes...)
		if s.Description != "" {
			items.Text = s.Description
		}
		if slices.Contains(s.Type, "null") {
			items.After += " or null"
		}
		*out = items
	case out.Type == "" && (len(s.Properties) > 0 || len(s.AllOf) > 0):
		out.Type = types["object"]
	case out.Type == "":
		out.Type = "anything"
	}
	if len(s.Enum) > 0 || len(s.Const) > 0 {
		out.Type = "" // the values say it
	}
}

// merge adds what a part of a schema has.
func (r *reader) merge(out *shape, part *Schema) {
	if part.Ref != "" && out.Ref == "" && len(out.Fields) == 0 {
		out.Ref, out.Type = strings.TrimPrefix(part.Ref, "#/components/schemas/"), ""
		return
	}
	if name, ok := strings.CutPrefix(part.Ref, "#/components/schemas/"); ok {
		part, _ = r.spec.Components.Schemas.Get(name)
	}
	more := r.shape(part)
	out.Fields = append(out.Fields, more.Fields...)
	out.Notes = append(out.Notes, more.Notes...)
}

// notes says what else a value must be.
func notes(s *Schema) []string {
	var out []string
	if len(s.Enum) > 0 {
		out = append(out, "`"+strings.Join(texts(s.Enum), "`, `")+"`")
	}
	if len(s.Const) > 0 {
		out = append(out, "`"+texts([]jsontext.Value{s.Const})[0]+"`")
	}
	if s.Format != "" {
		out = append(out, s.Format)
	}
	bound := func(words string, n *int) {
		if n != nil {
			out = append(out, words+" "+strconv.Itoa(*n))
		}
	}
	bound("length from", s.MinLength)
	bound("length to", s.MaxLength)
	bound("members to", s.MaxProperties)
	bound("elements from", s.MinItems)
	bound("elements to", s.MaxItems)
	if len(s.Minimum) > 0 {
		out = append(out, "from "+string(s.Minimum))
	}
	if len(s.Maximum) > 0 {
		out = append(out, "to "+string(s.Maximum))
	}
	if s.Pattern != "" {
		out = append(out, "`"+s.Pattern+"`")
	}
	if len(s.Default) > 0 {
		out = append(out, "default `"+texts([]jsontext.Value{s.Default})[0]+"`")
	}
	return out
}

// texts gives values as they are read: texts without quotes.
func texts(values []jsontext.Value) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
		if v.Kind() == jsontext.KindString {
			if s, err := jsontext.AppendUnquote(nil, v); err == nil {
				out[i] = string(s)
			}
		}
	}
	return out
}

func indented(v jsontext.Value) string {
	if len(v) == 0 {
		return ""
	}
	v = v.Clone()
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		return string(v)
	}
	return string(v)
}

// span is a piece of a text: words, or code.
type span struct {
	Text string
	Code bool
}

// spans splits a text at its backticks.
func spans(text string) []span {
	var out []span
	for i, part := range strings.Split(text, "`") {
		if part != "" {
			out = append(out, span{part, i%2 == 1})
		}
	}
	return out
}

// paragraphs splits a text at its empty lines.
func paragraphs(text string) []string {
	return strings.FieldsFunc(strings.ReplaceAll(strings.TrimSpace(text), "\n\n", "\x00"), func(r rune) bool { return r == 0 })
}
