package nango

import _ "embed"

// OpenAPI describes the surfaces of this package, as YAML.
//
//go:embed openapi.yaml
var OpenAPI []byte
