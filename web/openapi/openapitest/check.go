// Package openapitest holds a document of an API against the API itself: against the rows that its surface lists, and
// against the requests and answers that its golden files have recorded. It is for tests.
package openapitest

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/coatcheck/coatcheck/web/internal/kit"
	"github.com/coatcheck/coatcheck/web/openapi"
)

// Check fails the test for everything that is wrong with a document:
//
//   - It is no OpenAPI 3.1: a member that the standard lacks, a schema that is none, a reference that leads nowhere, an
//     operation without an id of its own, summary, tag, security, or answers for success and failure, a path's variable that
//     is not declared. An object must say whether it may have other members, so that those nobody knows of are found.
//   - It and the surfaces differ: a row without an operation, or an operation without a row, or who may call it. A row that
//     x-undocumented gives a reason for is left out.
//   - It and the *.txtar files of goldens differ: an answer with a status that the operation lacks, or with a body that does
//     not fit; a request that succeeded though its body does not fit, or with a parameter that is not declared; an operation
//     of which there is no answer, unless x-unrecorded says why.
//   - An example does not fit its schema.
//
// Golden files have files "request" and "answer" in turn. A request is a line "METHOD target", headers, and after an empty
// line a body; lines before it that begin with "wait" are passed over. An answer is a line with the status, headers, and
// after an empty line a body, whose media type is application/json unless a header says otherwise. Requests that no
// operation answers are passed over. What differs from run to run stands in them under the names that [stand] fills in.
func Check(t testing.TB, document []byte, goldens fs.FS, surfaces ...kit.Surface) {
	t.Helper()
	found, err := check(document, goldens, surfaces)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range found {
		t.Error(problem)
	}
}

// checker collects what is wrong.
type checker struct {
	spec     *openapi.Spec
	raw      any // the document as the schema library has it
	compiler *jsonschema.Compiler
	ops      map[string]*operation // by method and path
	problems []string
}

// operation is an operation and where it stands.
type operation struct {
	*openapi.Operation
	method, path string
	pointer      string
	shared       []*openapi.Parameter // of the path
	recorded     bool
}

func (o *operation) String() string { return o.method + " " + o.path }

// resource is the document's address, as the schema library sees it.
const resource = "openapi.json"

func check(document []byte, goldens fs.FS, surfaces []kit.Surface) ([]string, error) {
	c := &checker{compiler: jsonschema.NewCompiler(), ops: make(map[string]*operation)}
	var err error
	if c.spec, err = openapi.Parse(document); err != nil {
		return nil, err
	}
	text, err := openapi.JSON(document)
	if err != nil {
		return nil, err
	}
	if c.raw, err = jsonschema.UnmarshalJSON(bytes.NewReader(text)); err != nil {
		return nil, err
	}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(resource, c.raw); err != nil {
		return nil, err
	}
	for _, p := range c.spec.Paths {
		for _, o := range p.Value.Operations() {
			op := &operation{Operation: o.Value, method: o.Name, path: p.Name, shared: p.Value.Parameters}
			op.pointer = join("/paths", p.Name, strings.ToLower(o.Name))
			c.ops[op.String()] = op
		}
	}
	c.structure()
	c.references()
	if len(c.problems) > 0 {
		return c.problems, nil // what follows takes the structure for granted
	}
	c.openness()
	c.schemas("", c.raw)
	c.rows(surfaces)
	if err := c.goldens(goldens); err != nil {
		return nil, err
	}
	return c.problems, nil
}

func (c *checker) add(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// operations lists them in a steady order.
func (c *checker) operations() []*operation {
	var out []*operation
	for _, key := range slices.Sorted(maps.Keys(c.ops)) {
		out = append(out, c.ops[key])
	}
	return out
}

// join adds names to a JSON pointer (RFC 6901).
func join(pointer string, names ...string) string {
	for _, name := range names {
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	}
	return pointer
}

// compile gives the schema at a pointer.
func (c *checker) compile(pointer string) (*jsonschema.Schema, error) {
	return c.compiler.Compile(resource + "#" + (&url.URL{Path: pointer}).EscapedPath())
}

// fits reports what keeps a value from fitting the schema at a pointer.
func (c *checker) fits(what, pointer string, value any) {
	schema, err := c.compile(pointer)
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		c.add("%s: %v", what, err)
	}
}

// lookup follows a reference within the document; ok is false where it leads nowhere.
func (c *checker) lookup(ref string) (v any, ok bool) {
	rest, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil, false
	}
	v = c.raw
	for part := range strings.SplitSeq(rest, "/") {
		m, isMap := v.(map[string]any)
		if v, ok = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]; !isMap || !ok {
			return nil, false
		}
	}
	return v, true
}
