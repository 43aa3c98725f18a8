package openapi

import (
	"slices"
	"strings"
)

// indexPage lists the documents.
type indexPage struct {
	frame
	Documents []card
}

// card is a document in the list.
type card struct {
	Links links
	Info  Info
}

// documentPage shows one document.
type documentPage struct {
	frame
	Links   links
	Info    Info
	Server  string
	Ways    []wayIn
	Groups  []group
	Schemas []namedShape
}

// wayIn is a way to prove who one is.
type wayIn struct{ Name, How, Text string }

// group is the operations of a tag.
type group struct {
	Name, Anchor, Text string
	Operations         []operation
}

// operation is an operation as the page shows it.
type operation struct {
	ID, Method, Path, Summary, Text string
	Deprecated                      bool
	Who                             []string // alternatives
	Never                           string
	Parameters                      []parameter
	Body                            *body
	Answers                         []answer
}

// header is a header of an answer.
type header struct{ Name, Text string }

// parameter is a parameter of a request.
type parameter struct {
	Name, In, Text string
	Required       bool
	Shape          shape
}

// body is a body and an example of one.
type body struct {
	Kind, Text string
	Required   bool
	Shape      shape
	Example    string
}

// answer is what may come back.
type answer struct {
	Status, Text string
	Good         bool
	Codes        []string // of failures
	Headers      []header
	Body         *body
}

// namedShape is a schema that others refer to.
type namedShape struct {
	Name  string
	Shape shape
}

func newDocumentPage(s *Spec, at links) documentPage {
	p := documentPage{frame: newFrame(s.Info.Title), Links: at, Info: s.Info}
	if len(s.Servers) > 0 {
		p.Server = s.Servers[0].URL
	}
	r := &reader{spec: s}
	for _, w := range s.Components.SecuritySchemes {
		p.Ways = append(p.Ways, wayIn{w.Value.Auth, how(w.Value), w.Value.Description})
	}
	for _, tag := range s.Tags {
		g := group{Name: tag.Name, Anchor: "tag-" + strings.ToLower(strings.ReplaceAll(tag.Name, " ", "-")), Text: tag.Description}
		for _, item := range s.Paths {
			for _, o := range item.Value.Operations() {
				if slices.Contains(o.Value.Tags, tag.Name) {
					g.Operations = append(g.Operations, r.operation(o.Name, item.Name, item.Value, o.Value))
				}
			}
		}
		p.Groups = append(p.Groups, g)
	}
	for _, named := range s.Components.Schemas {
		p.Schemas = append(p.Schemas, namedShape{named.Name, r.shape(named.Value)})
	}
	return p
}

// how says where a credential goes.
func how(s *SecurityScheme) string {
	switch {
	case s.Type == "http" && s.Scheme == "bearer":
		return "`Authorization: Bearer …`"
	case s.Type == "http":
		return "`Authorization: " + strings.ToUpper(s.Scheme[:1]) + s.Scheme[1:] + " …`"
	case s.In == "query":
		return "the query parameter `" + s.Name + "`"
	case s.In == "cookie":
		return "the cookie `" + s.Name + "`"
	}
	return "the header `" + s.Name + "`"
}

// reader makes views of what a document has, with references followed.
type reader struct{ spec *Spec }

func (r *reader) operation(method, path string, item *PathItem, o *Operation) operation {
	out := operation{
		ID: o.ID, Method: method, Path: path, Summary: o.Summary, Text: o.Description, Deprecated: o.Deprecated,
		Who: r.who(o), Never: o.Never,
	}
	for _, p := range slices.Concat(item.Parameters, o.Parameters) {
		if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
			p, _ = r.spec.Components.Parameters.Get(name)
		}
		out.Parameters = append(out.Parameters, parameter{p.Name, p.In, p.Description, p.Required, r.shape(p.Schema)})
	}
	if b := o.Body; b != nil {
		if name, ok := strings.CutPrefix(b.Ref, "#/components/requestBodies/"); ok {
			b, _ = r.spec.Components.RequestBodies.Get(name)
		}
		out.Body = r.body(b.Content)
		out.Body.Text, out.Body.Required = b.Description, b.Required
	}
	for _, a := range o.Responses {
		out.Answers = append(out.Answers, r.answer(a.Name, a.Value))
	}
	return out
}

// who lists the alternatives of which one is needed.
func (r *reader) who(o *Operation) []string {
	switch {
	case o.Auth != "":
		return []string{o.Auth}
	case o.Security == nil || len(*o.Security) == 0:
		return []string{"everybody"}
	}
	var out []string
	for _, alternative := range *o.Security {
		for name, scopes := range alternative {
			scheme, _ := r.spec.Components.SecuritySchemes.Get(name)
			text := scheme.Auth
			if len(scopes) > 0 {
				text += " with `" + strings.Join(scopes, "` and `") + "`"
			}
			out = append(out, text)
		}
	}
	return out
}

func (r *reader) answer(status string, a *Response) answer {
	if name, ok := strings.CutPrefix(a.Ref, "#/components/responses/"); ok {
		a, _ = r.spec.Components.Responses.Get(name)
	}
	out := answer{Status: status, Text: a.Description, Good: status < "4", Body: r.body(a.Content)}
	for _, h := range a.Headers {
		to := h.Value
		if name, ok := strings.CutPrefix(to.Ref, "#/components/headers/"); ok {
			to, _ = r.spec.Components.Headers.Get(name)
		}
		out.Headers = append(out.Headers, header{h.Name, to.Description})
	}
	if !out.Good && len(a.Content) > 0 {
		// How a failure looks is said once; here, which ones there are.
		out.Codes = r.codes(a.Content[0].Value.Schema)
		if len(out.Codes) > 0 {
			out.Body = nil
		}
	}
	return out
}

// codes finds the enumeration of a failure's codes: of the member "code", wherever the schema has it.
func (r *reader) codes(s *Schema) []string {
	if s == nil {
		return nil
	}
	if code, ok := s.Properties.Get("code"); ok && len(code.Enum) > 0 {
		return texts(code.Enum)
	}
	for _, p := range s.Properties {
		if found := r.codes(p.Value); len(found) > 0 {
			return found
		}
	}
	for _, part := range s.AllOf {
		if found := r.codes(part); len(found) > 0 {
			return found
		}
	}
	return nil
}

func (r *reader) body(content Ordered[*Media]) *body {
	if len(content) == 0 {
		return nil
	}
	m := content[0].Value
	out := &body{Kind: content[0].Name, Shape: r.shape(m.Schema), Example: indented(m.Example)}
	if out.Example == "" && len(m.Examples) > 0 {
		out.Example = indented(m.Examples[0].Value.Value)
	}
	return out
}
