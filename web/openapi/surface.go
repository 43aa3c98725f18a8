package openapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"sync"

	"github.com/a-h/templ"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
	"github.com/coatcheck/coatcheck/web/static"
)

// Document describes one API.
type Document struct {
	Name   string // in addresses: /openapi/NAME
	Source []byte // YAML
}

const path = "/openapi"

// Surface lists the pages and the documents. publicURL is the address that documents name as their server. Nothing is read
// yet: a document that cannot be is an internal failure of its rows.
func Surface(publicURL string, documents []Document) kit.Surface {
	all := make([]*document, len(documents))
	for i, d := range documents {
		all[i] = newDocument(d, publicURL)
	}
	index := page(func() (templ.Component, error) {
		v := indexPage{frame: newFrame("APIs")}
		for _, d := range all {
			read, err := d.read()
			if err != nil {
				return nil, err
			}
			v.Documents = append(v.Documents, card{d.links, read.spec.Info})
		}
		return indexView(v), nil
	})
	rows := []kit.Route{{Method: http.MethodGet, Path: path, Auth: kit.Public, Handle: index}}
	for _, d := range all {
		rows = append(rows,
			kit.Route{Method: http.MethodGet, Path: d.links.Page, Auth: kit.Public, Handle: page(d.view)},
			kit.Route{Method: http.MethodGet, Path: d.links.YAML, Auth: kit.Public, Handle: d.file("application/yaml", yamlOf)},
			kit.Route{Method: http.MethodGet, Path: d.links.JSON, Auth: kit.Public, Handle: d.file("application/json; charset=utf-8", jsonOf)},
		)
	}
	return kit.Surface{Name: "openapi", Routes: rows}
}

// links are where a document is.
type links struct{ Page, YAML, JSON string }

// document is a document and what is made of it, once.
type document struct {
	name  string
	links links
	read  func() (*content, error)
}

// content is a document as it is served.
type content struct {
	spec *Spec
	yaml []byte
	json jsontext.Value
}

func newDocument(d Document, publicURL string) *document {
	base := path + "/" + d.Name
	return &document{
		name: d.Name, links: links{Page: base, YAML: base + ".yaml", JSON: base + ".json"},
		read: sync.OnceValues(func() (*content, error) {
			c := new(content)
			var err error
			if c.yaml, err = withServer(d.Source, publicURL); err != nil {
				return nil, fmt.Errorf("document %s: %w", d.Name, err)
			}
			if c.json, err = JSON(c.yaml); err != nil {
				return nil, fmt.Errorf("document %s: %w", d.Name, err)
			}
			if c.spec, err = Parse(c.yaml); err != nil {
				return nil, fmt.Errorf("document %s: %w", d.Name, err)
			}
			return c, nil
		}),
	}
}

func yamlOf(c *content) []byte { return c.yaml }
func jsonOf(c *content) []byte { return c.json }

func (d *document) view() (templ.Component, error) {
	c, err := d.read()
	if err != nil {
		return nil, err
	}
	return documentView(newDocumentPage(c.spec, d.links)), nil
}

// handler answers a request of a row.
type handler = func(http.ResponseWriter, *http.Request, broker.Actor) error

// file answers with the document itself. Another version of this program has another, so it is not kept for long.
func (d *document) file(kind string, body func(*content) []byte) handler {
	return func(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
		c, err := d.read()
		if err != nil {
			return broker.ErrInternal.Because(err)
		}
		w.Header().Set("Cache-Control", "public, max-age=300")
		kit.WriteBody(w, http.StatusOK, kind, body(c))
		return nil
	}
}

// page answers with a page, which is rendered when it is first asked for. All that differs after that is the nonce, which
// is put in where the first one stood.
func page(view func() (templ.Component, error)) handler {
	const first = "nonce-of-the-first"
	render := sync.OnceValues(func() ([][]byte, error) {
		component, err := view()
		if err != nil {
			return nil, err
		}
		var out bytes.Buffer
		if err := component.Render(templ.WithNonce(context.Background(), first), &out); err != nil {
			return nil, fmt.Errorf("render the page: %w", err)
		}
		return bytes.Split(out.Bytes(), []byte(first)), nil
	})
	return func(w http.ResponseWriter, _ *http.Request, _ broker.Actor) error {
		parts, err := render()
		if err != nil {
			return broker.ErrInternal.Because(err)
		}
		nonce := newNonce()
		// The proxy answers on our own origin with what strangers wrote, so the nonce is what proves that a style is ours.
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+nonce+"'; img-src 'self'; base-uri 'none'; "+
			"form-action 'none'; frame-ancestors 'none'")
		kit.WriteBody(w, http.StatusOK, "text/html; charset=utf-8", bytes.Join(parts, []byte(nonce)))
		return nil
	}
}

func newNonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// frame is what every page has around it.
type frame struct {
	Title  string
	Icon   string
	Styles []string
}

// newFrame finds the files of the pages. Their addresses depend on what is in them alone, so they are those at which the
// process serves them.
func newFrame(title string) frame {
	a := static.New()
	return frame{Title: title, Icon: a.Path("icon.svg"), Styles: []string{a.Path("connect.css"), a.Path("openapi.css")}}
}
