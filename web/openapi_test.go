package web_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
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
