package integrations_test

import (
	"path/filepath"
	"testing"

	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/api/integrations"
)

// goldenFiles are the promise of compatibility.
const goldenFiles = "testdata/*.txtar"

func TestGolden(t *testing.T) {
	files, err := filepath.Glob(goldenFiles)
	must(t, err)
	if len(files) < 1 {
		t.Fatalf("there are %d golden files", len(files))
	}
	apitest.Golden(t, goldenFiles, func(t *testing.T) *apitest.Site { return newSite(t).Site }, "X-Error-Source")
}

func TestEveryRouteIsShown(t *testing.T) {
	apitest.EveryRouteIsShown(t, goldenFiles, integrations.Surface(nil, nil).Routes, samples)
	apitest.EveryRouteIsShown(t, goldenFiles, integrations.SignIn(nil, nil).Routes, samples)
}
