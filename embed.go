// Package coatcheck holds the files at the root of the repository that the binary carries. It exists because go:embed
// reaches no file above its own package.
package coatcheck

import _ "embed" // for Catalogue

// Catalogue is providers.yaml, the built-in provider catalogue, byte for byte. It is decoded and checked by the
// providers package; nobody may change it.
//
//go:embed providers.yaml
var Catalogue []byte
