package popup_test

import (
	"testing"

	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/api/popup"
)

// goldenFiles are the promise of compatibility.
const goldenFiles = "testdata/*.txtar"

func TestGolden(t *testing.T) { apitest.Golden(t, goldenFiles, newSite) }

func TestEveryRouteIsShown(t *testing.T) {
	apitest.EveryRouteIsShown(t, goldenFiles, popup.Surface(nil).Routes, samples)
}
