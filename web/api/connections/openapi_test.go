package connections_test

import (
	"os"
	"testing"

	"github.com/coatcheck/coatcheck/web/api/connections"
	"github.com/coatcheck/coatcheck/web/openapi/openapitest"
)

// The document describes every row, and fits what is recorded of them.
func TestTheDocumentDescribesTheAPI(t *testing.T) {
	t.Parallel()
	openapitest.Check(t, connections.OpenAPI, os.DirFS("testdata"), connections.Surface(nil, nil))
}
