package openapitest

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// surface is the API of testdata/small.yaml.
func surface() kit.Surface {
	doors := kit.Doors{}
	return kit.Surface{Name: "small", Routes: []kit.Route{
		{Method: "GET", Path: "/coats", Auth: doors.Either("coats:list", "coats:all")},
		{Method: "PUT", Path: "/coats/{id}", Auth: doors.Key("coats:write"), MaxBody: 1},
		{Method: "GET", Path: "/coats/{id}.svg", Auth: kit.Public},
		{Method: "POST", Path: "/burn", Auth: doors.SessionInBody(), MaxBody: 1},
		{Method: "GET", Path: "/", Auth: kit.Public},
	}}
}

func text(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestADocumentThatFitsPasses(t *testing.T) {
	Check(t, []byte(text(t, "small.yaml")), os.DirFS("testdata"), surface())
}

// found gives what is wrong with a document and recordings in which one text stands for another.
func found(t *testing.T, file, old, replacement string, s kit.Surface) string {
	t.Helper()
	texts := map[string]string{"small.yaml": text(t, "small.yaml"), "coats.txtar": text(t, "coats.txtar")}
	if !strings.Contains(texts[file], old) {
		t.Fatalf("%s has no %q", file, old)
	}
	texts[file] = strings.Replace(texts[file], old, replacement, 1)
	problems, err := check([]byte(texts["small.yaml"]), fstest.MapFS{"coats.txtar": {Data: []byte(texts["coats.txtar"])}}, []kit.Surface{s})
	if err != nil {
		return err.Error()
	}
	return strings.Join(problems, "\n")
}

func TestWhatIsWrongInADocumentIsFound(t *testing.T) {
	const file = "small.yaml"
	for name, c := range map[string]struct{ old, replacement, want string }{
		"another version":            {"openapi: 3.1.1", "openapi: 3.0.3", "not of 3.1"},
		"a member of no standard":    {"summary: Hang a coat", "headline: Hang a coat", "headline"},
		"a member twice":             {"summary: Hang a coat", "summary: A\n      summary: B", "duplicate"},
		"a server":                   {"x-undocumented:", "servers: [{url: https://a.test}]\nx-undocumented:", "servers are put in"},
		"no description":             {"  description: Whoever has a ticket gets the coat.\n", "", "info needs"},
		"no summary":                 {"      summary: Hang a coat\n", "", "the summary is missing"},
		"the same id":                {"operationId: hangCoat", "operationId: listCoats", "missing, malformed or taken"},
		"no id":                      {"      operationId: hangCoat\n", "", "missing, malformed or taken"},
		"no tag":                     {"      tags: [Coats]\n", "", "has 0 tags"},
		"an undeclared tag":          {"tags: [Coats]", "tags: [Hats]", `the tag "Hats" is not declared`},
		"an unused tag":              {"tags:\n", "tags:\n  - {name: Hats, description: More.}\n", `the tag "Hats" is not used`},
		"an undeclared variable":     {"    parameters:\n      - {name: id, in: path, required: true, schema: {type: string, format: uuid}}\n", "", "{id} is not declared"},
		"a variable of no path":      {"- {name: tags, in: query", "- {name: tags, in: path", "is not in the path"},
		"an optional variable":       {"in: path, required: true, schema: {type: string}", "in: path, schema: {type: string}", "not required"},
		"a parameter twice":          {"- {name: tags, in: query", "- {name: limit, in: query", "declared twice"},
		"no security":                {"      security: []\n", "", "does not say who may call it"},
		"an undeclared scheme":       {"[{key: [coats:write]}]", "[{keys: [coats:write]}]", `"keys" is not declared`},
		"no success":                 {"      x-never: Coats do not burn here.\n", "", "x-never"},
		"success where there is not": {"'200': {description: A picture.", "'404': {description: A picture.", "x-never"},
		"no failure":                 {"        5XX: {$ref: '#/components/responses/Broken'}\n", "", "needs answers of 4xx and 5xx"},
		"an unknown status":          {"'400': {$ref", "'4000': {$ref", `no status "4000"`},
		"an answer not described":    {"description: A picture., ", "", "is not described"},
		"a lost reference":           {"$ref: '#/components/responses/Invalid'", "$ref: '#/components/responses/Wrong'", "leads nowhere"},
		"a component for nobody":     {"- {$ref: '#/components/parameters/Limit'}", "- {name: limit, in: query, schema: {}}", "nothing refers to"},
		"a schema that is none":      {"type: integer", "type: number of coats", "is no schema"},
		"an object that is silent":   {"                additionalProperties: false\n", "", `an object with "data" does not say`},
		"a base that is silent":      {"            unevaluatedProperties: false\n", "", `an object with "colour" does not say`},
		"a row without operation":    {"  GET /: a socket", "  GET /other: a socket", "GET / has no operation"},
		"a reason without row":       {"  GET /: a socket", "  GET /other: a socket", "GET /other is in x-undocumented and has no row"},
		"a row documented twice":     {"  GET /: a socket", "  GET /coats: a socket", "and documented"},
		"an operation without row":   {"/burn:", "/freeze:", "POST /freeze has no row"},
		"another variable":           {"/coats/{id}.svg:", "/coats/{coat}.svg:", "is not declared"},
		"other scopes":               {"{key: [coats:all]}", "{key: [coats:some]}", "lets in"},
		"one scope less":             {", {key: [coats:all]}", "", "lets in"},
		"no session":                 {"{session: []}, ", "", "lets in"},
		"everybody":                  {"[{key: [coats:write]}]", "[]", "lets in"},
		"another door":               {"x-auth: session in body", "x-auth: session in link", "lets in"},
		"two doors":                  {"security: []\n      x-auth", "security: [{key: []}]\n      x-auth", "both x-auth and security"},
		"a recording that there is":  {"x-never: Coats", "x-unrecorded: It is hot.\n      x-never: Coats", "POST /burn needs either an answer in a golden file"},
		"an example of a body":       {"colour: red}\n        4XX", "size: 4}\n        4XX", "the example at"},
		"an example of many":         {"red: {value: {colour: red}}", "red: {value: {colour: blue}}", "examples/red"},
		"an example of a parameter":  {"example: 10", "example: 0", "the example at"},
		"an example of a schema":     {"examples: [green]", "examples: [blue]", "examples/0"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := found(t, file, c.old, c.replacement, surface()); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhatARecordingContradictsIsFound(t *testing.T) {
	const file = "coats.txtar"
	for name, c := range map[string]struct{ old, replacement, want string }{
		"an unlisted status":       {"200\nVary", "202\nVary", "listCoats has no such status"},
		"an unknown member":        {`"colour": "red"}`, `"colour": "red", "size": 4}`, "'size' not allowed"},
		"a member less":            {`, "colour": "red"}`, `}`, "missing property 'colour'"},
		"another type":             {`"colour": "red"}`, `"colour": 7}`, "want string"},
		"another format":           {`[{"id": "<uuid 1>"`, `[{"id": "one"`, "not valid uuid"},
		"an unknown member inside": {`{"code": "not_found"}`, `{"code": "not_found", "more": 1}`, "'more' not allowed"},
		"no body":                  {"\n{\"data\": [{\"id\": \"<uuid 1>\", \"colour\": \"red\"}]}\n", "", "there is a body"},
		"another type of body":     {"Content-Type: image/svg+xml; charset=utf-8\n", "", "of type application/json"},
		"no JSON":                  {`{"code": "not_found"}`, `not found`, "no JSON"},
		"a body that is refused":   {`{"colour": "green"}`, `{"colour": "blue"}`, "the request"},
		"an unknown field sent":    {`{"colour": "green"}`, `{"colour": "green", "size": 4}`, "the request"},
		"no body sent":             {"\n{\"colour\": \"green\"}\n", "", "requires one"},
		"a body nobody knows of":   {"{key}\n-- answer", "{key}\n\n{}\n-- answer", "the document has none"},
		"an undeclared parameter":  {"?limit=2", "?size=2", "the parameter size is not declared"},
		"nothing of an operation":  {"POST /burn", "POST /freeze", "POST /burn needs either an answer in a golden file"},
		"no turns":                 {"-- answer --\n200\nVary", "-- reply --\n200\nVary", "take turns"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := found(t, file, c.old, c.replacement, surface()); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestANewRowIsFound(t *testing.T) {
	s := surface()
	s.Routes = append(s.Routes, kit.Route{Method: "DELETE", Path: "/coats/{id}", Auth: kit.Public})
	if got := found(t, "small.yaml", "openapi", "openapi", s); !strings.Contains(got, "DELETE /coats/{id} has no operation") {
		t.Errorf("got %q", got)
	}
	s = surface()
	s.Routes[1].MaxBody = 0
	if got := found(t, "small.yaml", "openapi", "openapi", s); !strings.Contains(got, "PUT /coats/{id} takes no body") {
		t.Errorf("got %q", got)
	}
}

// A fixed segment and a variable are told apart as the router does.
func TestFixedSegmentsWin(t *testing.T) {
	c := &checker{ops: make(map[string]*operation)}
	for _, path := range []string{"/", "/coats/{id}", "/coats/lost", "/coats/lost/{id}", "/coats/{id}/hem"} {
		o := &operation{method: "GET", path: path}
		c.ops[o.String()] = o
	}
	for target, want := range map[string]string{
		"/": "/", "/coats/7": "/coats/{id}", "/COATS/Lost/?a=b": "/coats/lost", "/coats/7/hem": "/coats/{id}/hem",
		"/coats/lost/hem": "/coats/lost/{id}", "/coats/7/8": "",
	} {
		got := ""
		if o := c.find(message{method: "GET", target: target}); o != nil {
			got = o.path
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", target, got, want)
		}
	}
}
