package connections_test

import (
	"testing"

	"github.com/coatcheck/coatcheck/web/api/apitest"
)

// goldenFiles are the promise of compatibility. The answers of documented.txtar are those of the contract, member by member.
const goldenFiles = "testdata/*.txtar"

func TestGolden(t *testing.T) {
	apitest.Golden(t, goldenFiles, func(t *testing.T) *apitest.Site { return newSite(t).Site })
}

func TestEveryRouteIsShown(t *testing.T) {
	s := newSite(t)
	apitest.EveryRouteIsShown(t, goldenFiles, s.rows, samples)
}
