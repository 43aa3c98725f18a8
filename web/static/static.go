// Package static holds the stylesheet, the script and the icon of the pages. Each file is served under a name that holds
// its hash, so that a browser may keep it for ever and never shows an old one.
package static

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

//go:embed *.css *.js *.svg
var files embed.FS

const prefix = "/static/"

var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// Assets are the files. Make them with [New].
type Assets struct {
	addresses map[string]string // by plain name
	served    map[string]asset  // by hashed name
}

type asset struct {
	contentType string
	body        []byte
}

// New reads and hashes the files. They are part of the binary, so it panics if that fails.
func New() *Assets {
	a := &Assets{addresses: make(map[string]string), served: make(map[string]asset)}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		body, err := fs.ReadFile(files, e.Name())
		if err != nil {
			panic(err)
		}
		ext := path.Ext(e.Name())
		sum := sha256.Sum256(body)
		hashed := strings.TrimSuffix(e.Name(), ext) + "-" + hex.EncodeToString(sum[:8]) + ext
		a.addresses[e.Name()] = prefix + hashed
		a.served[hashed] = asset{contentTypes[ext], body}
	}
	return a
}

// Path is where a file is served, for example of "connect.css". It panics for a file that does not exist: that is a
// mistake in a page, which any test of it finds.
func (a *Assets) Path(name string) string {
	p, ok := a.addresses[name]
	if !ok {
		panic("static: no file " + name)
	}
	return p
}

// Surface lists the row that serves the files.
func (a *Assets) Surface() kit.Surface {
	return kit.Surface{Name: "static", Routes: []kit.Route{
		{Method: http.MethodGet, Path: prefix + "{file}", Auth: kit.Public, Handle: a.serve},
	}}
}

func (a *Assets) serve(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	file, ok := a.served[r.PathValue("file")]
	if !ok {
		return broker.ErrNotFound
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	kit.WriteBody(w, http.StatusOK, file.contentType, file.body)
	return nil
}
