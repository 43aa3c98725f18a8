package web

import (
	"net/http"
	"testing"

	"github.com/coatcheck/coatcheck/web/internal/kit"
)

func table() paths {
	p := make(paths)
	for _, row := range []kit.Route{
		{Method: http.MethodGet, Path: "/connections"},
		{Method: http.MethodGet, Path: "/connections/{connectionId}"},
		{Method: http.MethodPost, Path: "/connections/metadata"},
		{Method: http.MethodPost, Path: "/connections/{connectionId}/metadata"},
		{Method: http.MethodGet, Path: "/providers.json"},
		{Method: http.MethodGet, Path: "/images/template-logos/{provider}.svg"},
		{Method: http.MethodGet, Path: "/static/{file:.*}"},
		{Method: http.MethodGet, Path: "/a/b/c"},
		{Method: http.MethodGet, Path: "/a/{x}/d"},
		{Method: http.MethodGet, Path: "/"},
	} {
		p.add(row.Method, row)
	}
	return p
}

func TestFold(t *testing.T) {
	p := table()
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/connections", "/connections"},
		{"GET", "/Connections/", "/connections"},
		{"GET", "/CONNECTIONS/AbC", "/connections/AbC"},
		{"GET", "/connections/AbC/", "/connections/AbC"},
		{"GET", "/connections/a%2FB", "/connections/a%2FB"},
		{"GET", "/connections/Metadata", "/connections/Metadata"}, // an id, here
		{"POST", "/connections/Metadata", "/connections/metadata"},
		{"POST", "/connections/Metadata/METADATA", "/connections/Metadata/metadata"},
		{"GET", "/Providers.JSON", "/providers.json"},
		{"GET", "/images/Template-Logos/GitHub.svg", "/images/template-logos/GitHub.svg"},
		{"GET", "/Static/js/App.js", "/static/js/App.js"},
		{"GET", "/Static//a//b/", "/static//a//b/"}, // what is taken whole is left as it is
		{"GET", "/static/", ""},
		{"GET", "/A/B/D", "/a/B/d"}, // b is fixed, but leads nowhere: it is an id
		{"GET", "/a/B/c", "/a/b/c"},
		{"GET", "/", "/"},
		{"GET", "/connections//", ""},
		{"GET", "//connections", ""},
		{"GET", "/connections/a/b", ""},
		{"GET", "/%63onnections", ""}, // fixed segments are written as they are
		{"GET", "", ""},
		{"GET", "*", ""},
		{"PUT", "/connections", ""},
	} {
		got, row, ok := p.fold(c.method, c.path)
		if got != c.want || ok != (c.want != "") || (row != nil) != ok {
			t.Errorf("%s %s: got %q, %v; want %q", c.method, c.path, got, ok, c.want)
		}
	}
}

func TestRowsOfAPath(t *testing.T) {
	p := table()
	for path, want := range map[string]int{"/connections/METADATA": 2, "/connections": 1, "/nothing": 0} {
		if got := p.all(path); len(got) != want {
			t.Errorf("%s: got %d rows, want %d", path, len(got), want)
		}
	}
}

func TestTwoRowsForOnePath(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a second row for a path was taken")
		}
	}()
	p := table()
	p.add("GET", kit.Route{Method: http.MethodGet, Path: "/CONNECTIONS/{id}"})
}

// FuzzFold looks for paths that fold to something that folds differently, or that touch an id.
func FuzzFold(f *testing.F) {
	for _, seed := range []string{"/connections/Ab", "/a/b/", "//", "/static/..%2f/x", "/static/a//", "/static///", "/connections/%"} {
		f.Add(seed)
	}
	p := table()
	f.Fuzz(func(t *testing.T, path string) {
		once, row, ok := p.fold("GET", path)
		if !ok {
			return
		}
		if twice, again, ok := p.fold("GET", once); !ok || twice != once || again != row {
			t.Errorf("%q folds to %q, and that to %q", path, once, twice)
		}
	})
}
