package oidcprovider

import (
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// form is the first form of a page, as far as the pages of this server go: it is posted to where the page came from.
type form struct {
	values  url.Values        // what is in it already
	inputs  map[string]string // name to type
	buttons [][2]string       // name and value
}

func (f *form) hasButton(name, value string) bool {
	return slices.Contains(f.buttons, [2]string{name, value})
}

// parseForm reads a page.
func parseForm(page io.Reader) (*form, error) {
	root, err := html.Parse(page)
	if err != nil {
		return nil, err
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == "form" {
			return readForm(n), nil
		}
	}
	return nil, errors.New("a page without a form")
}

func readForm(root *html.Node) *form {
	f := &form{values: url.Values{}, inputs: map[string]string{}}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		name, value := attribute(n, "name"), attribute(n, "value")
		switch n.Data {
		case "button":
			f.buttons = append(f.buttons, [2]string{name, value})
		case "input":
			kind := strings.ToLower(attribute(n, "type"))
			if kind == "" {
				kind = "text"
			}
			f.inputs[name] = kind
			f.values.Set(name, value)
		}
	}
	return f
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}
