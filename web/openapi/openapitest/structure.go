package openapitest

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/web/openapi"
)

var (
	operationID  = regexp.MustCompile(`^[a-z][A-Za-z0-9]*$`)
	statusForm   = regexp.MustCompile(`^(101|[2345][0-9][0-9]|[45]XX)$`)
	pathVariable = regexp.MustCompile(`\{([^{}]+)\}`)
)

// structure checks what the standard asks of a document, and we of each operation.
func (c *checker) structure() {
	s := c.spec
	if !strings.HasPrefix(s.OpenAPI, "3.1.") {
		c.add("the document is of OpenAPI %q, not of 3.1", s.OpenAPI)
	}
	if s.Info.Title == "" || s.Info.Version == "" || s.Info.Summary == "" || s.Info.Description == "" {
		c.add("info needs a title, a version, a summary and a description")
	}
	if len(s.Servers) > 0 {
		c.add("servers are put in when the document is served")
	}
	ids, used := make(map[string]bool), make(map[string]bool)
	for _, o := range c.operations() {
		if !operationID.MatchString(o.ID) || ids[o.ID] {
			c.add("%s: the operationId %q is missing, malformed or taken", o, o.ID)
		}
		ids[o.ID] = true
		for _, tag := range o.Tags {
			used[tag] = true
		}
		c.describes(o)
		c.parameters(o)
		c.secures(o)
		c.answers(o)
	}
	c.tags(used)
}

// describes checks what a reader is told first.
func (c *checker) describes(o *operation) {
	if o.Summary == "" || strings.HasSuffix(o.Summary, ".") || len(o.Summary) > 80 {
		c.add("%s: the summary is missing, a sentence, or longer than 80 bytes", o)
	}
	if len(o.Tags) != 1 {
		c.add("%s has %d tags", o, len(o.Tags))
	}
	if o.Body != nil && o.Body.Ref == "" && len(o.Body.Content) == 0 {
		c.add("%s: the body has no content", o)
	}
}

// tags checks that the tags which are declared are those that are used.
func (c *checker) tags(used map[string]bool) {
	for _, tag := range c.spec.Tags {
		if !used[tag.Name] || tag.Description == "" {
			c.add("the tag %q is not used, declared twice, or not described", tag.Name)
		}
		delete(used, tag.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		c.add("the tag %q is not declared", name)
	}
}

// allParameters gives the parameters of an operation and of its path, with references followed.
func (c *checker) allParameters(o *operation) []*openapi.Parameter {
	var out []*openapi.Parameter
	for _, p := range slices.Concat(o.shared, o.Parameters) {
		if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
			if p, ok = c.spec.Components.Parameters.Get(name); !ok {
				continue // references says so
			}
		}
		out = append(out, p)
	}
	return out
}

// parameters checks that each is declared once, and the path's variables all are.
func (c *checker) parameters(o *operation) {
	variables := make(map[string]bool)
	for _, m := range pathVariable.FindAllStringSubmatch(o.path, -1) {
		variables[m[1]] = true
	}
	seen := make(map[string]bool)
	for _, p := range c.allParameters(o) {
		key := p.In + " " + p.Name
		if seen[key] || p.Name == "" || p.Schema == nil || !slices.Contains([]string{"path", "query", "header", "cookie"}, p.In) {
			c.add("%s: the parameter %q is declared twice, or lacks a name, a place or a schema", o, p.Name)
		}
		seen[key] = true
		if p.In == "path" && (!variables[p.Name] || !p.Required) {
			c.add("%s: the parameter %q is not in the path, or not required", o, p.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if !seen["path "+name] {
			c.add("%s: the variable {%s} is not declared", o, name)
		}
	}
}

// secures checks that it is said who may call.
func (c *checker) secures(o *operation) {
	if o.Security == nil {
		c.add("%s does not say who may call it", o)
		return
	}
	if o.Auth != "" && len(*o.Security) > 0 {
		c.add("%s has both x-auth and security", o)
	}
	for _, alternative := range *o.Security {
		for name := range alternative {
			if scheme, ok := c.spec.Components.SecuritySchemes.Get(name); !ok || scheme.Auth == "" {
				c.add("%s: the security scheme %q is not declared, or has no x-auth", o, name)
			}
		}
	}
}

// answers checks that there are some for success and for failure.
func (c *checker) answers(o *operation) {
	var success, refusal, failure bool
	for _, r := range o.Responses {
		if !statusForm.MatchString(r.Name) {
			c.add("%s: there is no status %q", o, r.Name)
		}
		if r.Value.Ref == "" && r.Value.Description == "" {
			c.add("%s: the answer %s is not described", o, r.Name)
		}
		success = success || r.Name[0] == '2' || r.Name[0] == '3' || r.Name == "101"
		refusal = refusal || r.Name[0] == '4'
		failure = failure || r.Name[0] == '5'
	}
	if success == (o.Never != "") {
		c.add("%s needs either an answer of 2xx or x-never, which says why there is none", o)
	}
	if !refusal || !failure {
		c.add("%s needs answers of 4xx and 5xx", o)
	}
}

// references checks that each leads somewhere, and that whatever is kept for them is referred to.
func (c *checker) references() {
	used := make(map[string]bool)
	walk(c.raw, func(m map[string]any) {
		ref, ok := m["$ref"].(string)
		if !ok {
			return
		}
		used[ref] = true
		if _, ok := c.lookup(ref); !ok {
			c.add("the reference %q leads nowhere", ref)
		}
	})
	components, _ := c.lookup("#/components")
	kinds, _ := components.(map[string]any)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		members, _ := kinds[kind].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if kind != "securitySchemes" && !used["#"+join("/components", kind, name)] {
				c.add("nothing refers to the component %s/%s", kind, name)
			}
		}
	}
}

// walk visits every object in a value.
func walk(v any, visit func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		visit(v)
		for _, key := range slices.Sorted(maps.Keys(v)) {
			walk(v[key], visit)
		}
	case []any:
		for _, e := range v {
			walk(e, visit)
		}
	}
}
