package integrations_test

import (
	"os"
	"testing"

	"github.com/coatcheck/coatcheck/web/api/integrations"
	"github.com/coatcheck/coatcheck/web/openapi/openapitest"
)

// The document and the API say the same.
func TestOpenAPI(t *testing.T) {
	openapitest.Check(t, integrations.OpenAPI, os.DirFS("testdata"), integrations.Surface(nil, nil), integrations.SignIn(nil, nil))
}
