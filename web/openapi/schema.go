package openapi

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Schema is a JSON Schema of draft 2020-12, with the keywords that our documents use.
type Schema struct {
	// Bool is set where the whole schema is true or false.
	Bool *bool `json:"-"`

	Ref         string           `json:"$ref"`
	Title       string           `json:"title"`
	Description string           `json:"description"`
	Deprecated  bool             `json:"deprecated"`
	Type        Types            `json:"type"`
	Format      string           `json:"format"`
	Enum        []jsontext.Value `json:"enum"`
	Const       jsontext.Value   `json:"const"`
	Default     jsontext.Value   `json:"default"`
	Examples    []jsontext.Value `json:"examples"`

	Properties            Ordered[*Schema] `json:"properties"`
	PatternProperties     Ordered[*Schema] `json:"patternProperties"`
	AdditionalProperties  *Schema          `json:"additionalProperties"`
	UnevaluatedProperties *Schema          `json:"unevaluatedProperties"`
	PropertyNames         *Schema          `json:"propertyNames"`
	Required              []string         `json:"required"`
	MinProperties         *int             `json:"minProperties"`
	MaxProperties         *int             `json:"maxProperties"`

	Items       *Schema `json:"items"`
	MinItems    *int    `json:"minItems"`
	MaxItems    *int    `json:"maxItems"`
	UniqueItems bool    `json:"uniqueItems"`

	Pattern          string         `json:"pattern"`
	MinLength        *int           `json:"minLength"`
	MaxLength        *int           `json:"maxLength"`
	Minimum          jsontext.Value `json:"minimum"`
	Maximum          jsontext.Value `json:"maximum"`
	ExclusiveMinimum jsontext.Value `json:"exclusiveMinimum"`

	AllOf []*Schema `json:"allOf"`
	AnyOf []*Schema `json:"anyOf"`
	OneOf []*Schema `json:"oneOf"`
	Not   *Schema   `json:"not"`
}

// UnmarshalJSONFrom reads a schema, which may be a mere boolean.
func (s *Schema) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if k := d.PeekKind(); k == jsontext.KindTrue || k == jsontext.KindFalse {
		s.Bool = new(bool)
		return json.UnmarshalDecode(d, s.Bool)
	}
	type members Schema // without this method
	return json.UnmarshalDecode(d, (*members)(s))
}

// Closed reports whether the schema is false: nothing fits it.
func (s *Schema) Closed() bool { return s != nil && s.Bool != nil && !*s.Bool }

// Types are the types that a value may have.
type Types []string

// UnmarshalJSONFrom reads one type or a list of them.
func (t *Types) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindString {
		return json.UnmarshalDecode(d, (*[]string)(t))
	}
	*t = make(Types, 1)
	return json.UnmarshalDecode(d, &(*t)[0])
}
