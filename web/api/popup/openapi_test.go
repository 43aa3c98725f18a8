package popup_test

import (
	"os"
	"testing"

	"github.com/coatcheck/coatcheck/web/api/popup"
	"github.com/coatcheck/coatcheck/web/openapi/openapitest"
)

// The document describes every row, and fits what is recorded of them.
func TestTheDocumentDescribesTheAPI(t *testing.T) {
	t.Parallel()
	openapitest.Check(t, popup.OpenAPI, os.DirFS("testdata"), popup.Surface(nil))
}
