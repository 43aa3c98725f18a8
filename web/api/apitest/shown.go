package apitest

import (
	"cmp"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// Exchange is a request of a golden file, and its answer.
type Exchange struct {
	File, Method, Path, Answer string
	Status                     int
}

// requestLine reads a path, in which placeholders may hold a space.
var requestLine = regexp.MustCompile(`(?m)^([A-Z]+) ((?:\{[^}\n]*\}|[^ ?\n])+)`)

// Exchanges reads the golden files that a pattern finds. Sign-ins that are followed are left out.
func Exchanges(t testing.TB, pattern string) (out []Exchange) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	must(t, err)
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		must(t, err)
		for i := 0; i+1 < len(a.Files); i += 2 {
			asked, answer := string(a.Files[i].Data), string(a.Files[i+1].Data)
			request := requestLine.FindStringSubmatch(asked)
			if request == nil && strings.Contains(asked, "follow") {
				continue
			}
			first, _, _ := strings.Cut(answer, "\n")
			status, err := strconv.Atoi(first)
			if request == nil || err != nil {
				t.Fatalf("%s: %s %s", file, asked, first)
			}
			out = append(out, Exchange{filepath.Base(file), request[1], request[2], answer, status})
		}
	}
	return out
}

// EveryRouteIsShown demands of the golden files a request of each row that answers as well as its sample, or with success.
func EveryRouteIsShown(t *testing.T, pattern string, rows []kit.Route, samples map[string]Sample) {
	t.Helper()
	best := make(map[string]int)
	for _, x := range Exchanges(t, pattern) {
		for _, row := range rows {
			if name := nameOf(row); row.Method == x.Method && pathForm(row.Path).MatchString(x.Path) {
				best[name] = min(cmp.Or(best[name], x.Status), x.Status)
			}
		}
	}
	for _, row := range rows {
		name := nameOf(row)
		if best[name] == 0 || best[name] > max(samples[name].Status, 299) {
			t.Errorf("%s: the best answer in the golden files is %d", name, best[name])
		}
	}
}

// pathForm matches the paths of a row: in any case, with a slash or without.
func pathForm(path string) *regexp.Regexp {
	form := regexp.MustCompile(`\\\{[^}]+\\\}`).ReplaceAllString(regexp.QuoteMeta(path), `[^/]+`)
	return regexp.MustCompile(`(?i)^` + form + `/?$`)
}
