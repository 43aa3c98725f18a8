package openapi

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Spec is an OpenAPI 3.1 document. It and the types below have the members that our documents use, under the names of the
// standard (https://spec.openapis.org/oas/v3.1.1.html); any other is refused when a document is read.
type Spec struct {
	OpenAPI      string             `json:"openapi"`
	Info         Info               `json:"info"`
	Servers      []Server           `json:"servers"`
	Tags         []Tag              `json:"tags"`
	Paths        Ordered[*PathItem] `json:"paths"`
	Components   Components         `json:"components"`
	Undocumented map[string]string  `json:"x-undocumented"`
}

// Info is what a document is about.
type Info struct {
	Title       string `json:"title"`
	Summary     string `json:"summary"`
	Description string `json:"description"`
	Version     string `json:"version"`
}

// Server is where the API is.
type Server struct {
	URL string `json:"url"`
}

// Tag is a group of operations.
type Tag struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// PathItem has what can be done at a path.
type PathItem struct {
	Parameters []*Parameter `json:"parameters"`
	Get        *Operation   `json:"get"`
	Put        *Operation   `json:"put"`
	Post       *Operation   `json:"post"`
	Delete     *Operation   `json:"delete"`
	Patch      *Operation   `json:"patch"`
}

// Operations lists what there is, by method.
func (p *PathItem) Operations() Ordered[*Operation] {
	var out Ordered[*Operation]
	for _, o := range []Named[*Operation]{{"GET", p.Get}, {"POST", p.Post}, {"PUT", p.Put}, {"PATCH", p.Patch}, {"DELETE", p.Delete}} {
		if o.Value != nil {
			out = append(out, o)
		}
	}
	return out
}

// Operation is what a method does at a path.
type Operation struct {
	ID          string                 `json:"operationId"`
	Tags        []string               `json:"tags"`
	Summary     string                 `json:"summary"`
	Description string                 `json:"description"`
	Deprecated  bool                   `json:"deprecated"`
	Security    *[]map[string][]string `json:"security"` // nil: it is not said
	Auth        string                 `json:"x-auth"`
	Never       string                 `json:"x-never"`
	Unrecorded  string                 `json:"x-unrecorded"`
	Parameters  []*Parameter           `json:"parameters"`
	Body        *RequestBody           `json:"requestBody"`
	Responses   Ordered[*Response]     `json:"responses"`
}

// Parameter is a part of the path or the query, or a header.
type Parameter struct {
	Ref         string         `json:"$ref"`
	Name        string         `json:"name"`
	In          string         `json:"in"`
	Description string         `json:"description"`
	Required    bool           `json:"required"`
	Deprecated  bool           `json:"deprecated"`
	Style       string         `json:"style"`
	Explode     *bool          `json:"explode"`
	Schema      *Schema        `json:"schema"`
	Example     jsontext.Value `json:"example"`
}

// RequestBody is what a request carries.
type RequestBody struct {
	Ref         string          `json:"$ref"`
	Description string          `json:"description"`
	Required    bool            `json:"required"`
	Content     Ordered[*Media] `json:"content"`
}

// Media is a body of one type.
type Media struct {
	Schema   *Schema           `json:"schema"`
	Example  jsontext.Value    `json:"example"`
	Examples Ordered[*Example] `json:"examples"`
}

// Example is one of several.
type Example struct {
	Summary     string         `json:"summary"`
	Description string         `json:"description"`
	Value       jsontext.Value `json:"value"`
}

// Response is an answer.
type Response struct {
	Ref         string           `json:"$ref"`
	Description string           `json:"description"`
	Headers     Ordered[*Header] `json:"headers"`
	Content     Ordered[*Media]  `json:"content"`
}

// Header is a header of an answer.
type Header struct {
	Ref         string         `json:"$ref"`
	Description string         `json:"description"`
	Required    bool           `json:"required"`
	Schema      *Schema        `json:"schema"`
	Example     jsontext.Value `json:"example"`
}

// Components are what others refer to.
type Components struct {
	Schemas         Ordered[*Schema]         `json:"schemas"`
	Responses       Ordered[*Response]       `json:"responses"`
	Parameters      Ordered[*Parameter]      `json:"parameters"`
	RequestBodies   Ordered[*RequestBody]    `json:"requestBodies"`
	Headers         Ordered[*Header]         `json:"headers"`
	SecuritySchemes Ordered[*SecurityScheme] `json:"securitySchemes"`
}

// SecurityScheme is a way to prove who one is.
type SecurityScheme struct {
	Type         string `json:"type"`
	Description  string `json:"description"`
	Scheme       string `json:"scheme"`
	BearerFormat string `json:"bearerFormat"`
	Name         string `json:"name"`
	In           string `json:"in"`
	Auth         string `json:"x-auth"`
}

// Ordered is an object whose members keep the order in which they are written.
type Ordered[V any] []Named[V]

// Named is a member.
type Named[V any] struct {
	Name  string
	Value V
}

// Get gives the member of a name.
func (o Ordered[V]) Get(name string) (v V, ok bool) {
	for _, m := range o {
		if m.Name == name {
			return m.Value, true
		}
	}
	return v, false
}

// UnmarshalJSONFrom reads an object. Names that stand twice are refused by the decoder.
func (o *Ordered[V]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindBeginObject {
		return &json.SemanticError{JSONKind: d.PeekKind()}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		m := Named[V]{Name: name.String()}
		if err := json.UnmarshalDecode(d, &m.Value); err != nil {
			return err
		}
		*o = append(*o, m)
	}
	_, err := d.ReadToken()
	return err
}
