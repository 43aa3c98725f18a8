package nango_test

import (
	"os"
	"testing"

	"github.com/coatcheck/coatcheck/web/api/nango"
	"github.com/coatcheck/coatcheck/web/openapi/openapitest"
)

// The document describes every row, and fits what is recorded of them.
func TestTheDocumentDescribesTheAPI(t *testing.T) {
	t.Parallel()
	openapitest.Check(t, nango.OpenAPI, os.DirFS("testdata"), nango.Surface(nil), nango.SignIn(nango.SignInDeps{}))
}
