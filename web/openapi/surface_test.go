package openapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// small is the document by which the check is tested, too.
func small(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile("openapitest/testdata/small.yaml")
	must(t, err)
	return raw
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask sends a request to the row of a path.
func ask(t *testing.T, s kit.Surface, target string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	for _, row := range s.Routes {
		if row.Path == target && row.Method == http.MethodGet {
			w := httptest.NewRecorder()
			return w, row.Handle(w, httptest.NewRequest(http.MethodGet, target, nil), broker.Actor{})
		}
	}
	t.Fatalf("there is no row %s", target)
	return nil, nil
}

func get(t *testing.T, s kit.Surface, target string) *httptest.ResponseRecorder {
	t.Helper()
	w, err := ask(t, s, target)
	must(t, err)
	return w
}

const public = "https://connect.example.com"

func surface(t *testing.T) kit.Surface {
	t.Helper()
	return Surface(public, []Document{{"small", small(t)}, {"other", []byte(strings.Replace(string(small(t)), "title: Small", "title: Other <b>", 1))}})
}

func TestTheServerIsPutIn(t *testing.T) {
	s := surface(t)
	w := get(t, s, "/openapi/small.json")
	var doc struct {
		Servers []struct{ URL string }
		Paths   map[string]any
	}
	must(t, json.NewDecoder(w.Body).Decode(&doc))
	if len(doc.Servers) != 1 || doc.Servers[0].URL != public || len(doc.Paths) != 4 {
		t.Errorf("got %+v", doc)
	}
	if kind := w.Header().Get("Content-Type"); kind != "application/json; charset=utf-8" {
		t.Errorf("got %s", kind)
	}
	w = get(t, s, "/openapi/small.yaml")
	if kind := w.Header().Get("Content-Type"); kind != "application/yaml" {
		t.Errorf("got %s", kind)
	}
	want := strings.Replace(string(small(t)), "\npaths:", "\nservers:\n  - url: \""+public+"\"\n\npaths:", 1)
	if w.Body.String() != want {
		t.Errorf("the document is another:\n%s", w.Body)
	}
}

// A tool that shows a document keeps the order in which it was written.
func TestJSONKeepsTheOrder(t *testing.T) {
	body := get(t, surface(t), "/openapi/small.json").Body.String()
	at := -1
	for _, word := range []string{`"openapi"`, `"info"`, `"servers"`, `"paths"`, `"/coats"`, `"/coats/{id}"`, `"/burn"`, `"components"`} {
		next := strings.Index(body, word)
		if next <= at {
			t.Errorf("%s is out of order", word)
		}
		at = next
	}
}

func TestThePagesNameWhatThereIs(t *testing.T) {
	s := surface(t)
	for target, wanted := range map[string][]string{
		"/openapi": {
			`href="/openapi/small"`, `href="/openapi/small.yaml"`, `href="/openapi/other.json"`, "Coats in a cloakroom.", "Other &lt;b&gt;",
		},
		"/openapi/small": {
			public, `id="listCoats"`, "Hang a coat", "/coats/{id}.svg", "session in body", "coats:write", "everybody",
			"Coats do not burn here.", `href="#schema-Coat"`, `id="schema-Coat"`, "The coat hangs.", `href="/openapi/small.yaml"`,
		},
	} {
		body := get(t, s, target).Body.String()
		for _, want := range wanted {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %q", target, want)
			}
		}
	}
}

// Every reference on a page leads to something on it.
func TestLinksLeadSomewhere(t *testing.T) {
	body := get(t, surface(t), "/openapi/small").Body.String()
	links := regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(body, -1)
	for _, m := range links {
		if !strings.Contains(body, `id="`+m[1]+`"`) {
			t.Errorf("#%s leads nowhere", m[1])
		}
	}
	if len(links) < 5 {
		t.Errorf("there are %d links", len(links))
	}
}

func TestThePagesLoadNothingFromElsewhere(t *testing.T) {
	s := surface(t)
	for _, target := range []string{"/openapi", "/openapi/small"} {
		w := get(t, s, target)
		policy := w.Header().Get("Content-Security-Policy")
		m := regexp.MustCompile(`^default-src 'none'; style-src 'nonce-([\w-]{22})'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$`).FindStringSubmatch(policy)
		if m == nil {
			t.Fatalf("%s: the policy is %q", target, policy)
		}
		body := w.Body.String()
		styles := regexp.MustCompile(`<link rel="stylesheet" href="/static/[a-z]+-[0-9a-f]{16}\.css" nonce="([^"]+)">`).FindAllStringSubmatch(body, -1)
		if len(styles) != 2 || styles[0][1] != m[1] || styles[1][1] != m[1] {
			t.Errorf("%s: the styles are %v", target, styles)
		}
		for _, banned := range []string{"<script", "style=", "onclick", "<img", "src="} {
			if strings.Contains(body, banned) {
				t.Errorf("%s has %q", target, banned)
			}
		}
		if again := get(t, s, target).Header().Get("Content-Security-Policy"); again == policy {
			t.Errorf("%s: the nonce is used twice", target)
		}
	}
}

func TestADocumentThatCannotBeReadIsOurFailure(t *testing.T) {
	for name, source := range map[string]string{
		"no YAML": "\t", "no mapping": "[]", "no paths": "openapi: 3.1.1\n", "an anchor": "a: &a 1\nb: *a\npaths: {}\n",
		"a member of no standard": "openapi: 3.1.1\npaths: {}\nmore: 1\n", "a number that JSON lacks": "openapi: .inf\npaths: {}\n",
	} {
		s := Surface(public, []Document{{"broken", []byte(source)}})
		for _, target := range []string{"/openapi", "/openapi/broken", "/openapi/broken.yaml", "/openapi/broken.json"} {
			if _, err := ask(t, s, target); broker.AsError(err).Code != "internal" {
				t.Errorf("%s, %s: got %v", name, target, err)
			}
		}
	}
}

// Documents are long, and a start must be short.
func TestNothingIsReadBeforeItIsAskedFor(t *testing.T) {
	source := small(t)
	allocated := testing.AllocsPerRun(10, func() { Surface(public, []Document{{"small", source}}) })
	if allocated > 100 {
		t.Errorf("listing the rows allocates %.0f times", allocated)
	}
}

// What is beside each other in a document is told apart on its page.
func TestWordsKeepTheirSpaces(t *testing.T) {
	body := get(t, surface(t), "/openapi/small").Body.String()
	text := strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, "")), " ")
	for _, want := range []string{"key in Authorization: Bearer …", "key with coats:list", "list of Coat", "whole number from 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
