// Package openapi serves what describes the broker's APIs: an OpenAPI 3.1 document for each, as YAML, as JSON and as a page
// to read, and a page that lists them. Each document is written by hand beside the API that it describes, as
// web/api/NAME/openapi.yaml; the tests of that package hold it against the rows and the recorded answers (see openapitest).
//
// # What a document says beyond the standard
//
//   - x-auth at a security scheme is what [kit.Auth] calls it. The lists in a security requirement are scopes, as version
//     3.1 allows for every kind of scheme: an alternative for each scope of which one is enough.
//   - x-auth at an operation stands for the requirement where the standard has no word for it, as for a token in a body.
//   - x-never at an operation says why it never succeeds. Every other one has an answer of 2xx.
//   - x-unrecorded at an operation says why no golden file has an answer of it.
//   - x-undocumented at the top gives a reason for each row ("GET /path") that is left out.
//
// A document has no servers: the broker's public address is put in when it is served.
//
// Nothing is read or rendered before somebody asks for it, and then once: documents are long, and a start must be short.
package openapi
