package popup

import _ "embed"

// OpenAPI describes the surface of this package, as YAML.
//
//go:embed openapi.yaml
var OpenAPI []byte
