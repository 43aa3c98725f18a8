package integrations

import _ "embed"

// OpenAPI describes this API, in YAML.
//
//go:embed openapi.yaml
var OpenAPI []byte
