package providers

import (
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"
)

// tree is a value of the catalogue with templates in its texts: what a request's body or a token's claims are made of.
// Numbers and booleans stay what they are.
type tree struct {
	kind    yaml.Kind
	literal jsontext.Value // of a scalar without placeholders
	text    *template      // of one with
	names   []string       // of a mapping
	items   []*tree        // of a mapping or a sequence
}

// tree reads a node; nil if there is none.
func (c *compiler) tree(path []string, n *yaml.Node) *tree {
	out := &tree{kind: n.Kind}
	switch n.Kind {
	case yaml.ScalarNode:
		if n.ShortTag() != "!!str" || !strings.Contains(n.Value, "${") {
			out.literal = appendScalar(nil, n)
		} else if out.text = c.text(path, n.Value); out.text == nil {
			return nil
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			name := n.Content[i].Value
			if item := c.tree(append(path[:len(path):len(path)], name), n.Content[i+1]); item != nil {
				out.names, out.items = append(out.names, name), append(out.items, item)
			}
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if item := c.tree(path, item); item != nil {
				out.items = append(out.items, item)
			}
		}
	case yaml.DocumentNode, yaml.AliasNode, yaml.StreamNode:
		return nil
	default:
		return nil
	}
	return out
}

// text parses a template without alternatives; nil if it cannot work here.
func (c *compiler) text(path []string, s string) *template {
	t, err := parseText(s)
	if err != nil {
		c.broken(path, "%v", err)
		return nil
	}
	c.checkPlaceholders(path, t)
	return t
}

// texts reads a mapping of names to templates without alternatives.
func (c *compiler) texts(key string, n *yaml.Node) []namedTemplate {
	if n.Kind == 0 {
		return nil
	}
	var ps pairs
	if err := ps.UnmarshalYAML(n); err != nil {
		c.problems.Errors = append(c.problems.Errors, loadErrors(err, n)...)
		return nil
	}
	var out []namedTemplate
	for _, p := range ps {
		if t := c.text([]string{key, p.Key}, p.Value); t != nil {
			out = append(out, namedTemplate{p.Key, t})
		}
	}
	return out
}

// member finds a member of a mapping.
func (t *tree) member(name string) *tree {
	if t != nil {
		for i := range t.names {
			if t.names[i] == name {
				return t.items[i]
			}
		}
	}
	return nil
}

// isFlat reports whether a mapping holds scalars alone, as a form does.
func (t *tree) isFlat() bool {
	for _, item := range t.items {
		if item.kind != yaml.ScalarNode {
			return false
		}
	}
	return true
}

// fill gives the value as JSON. A member or an item that lacks a value is left out; missing names the placeholders.
func (t *tree) fill(sc *scope) (v jsontext.Value, missing []string) {
	switch t.kind {
	case yaml.MappingNode:
		return t.fillEach(sc, '{', '}')
	case yaml.SequenceNode:
		return t.fillEach(sc, '[', ']')
	case yaml.ScalarNode, yaml.DocumentNode, yaml.AliasNode, yaml.StreamNode:
	}
	if t.text == nil {
		return t.literal, nil
	}
	s, missing := t.text.fill(sc)
	if len(missing) > 0 {
		return nil, missing
	}
	return appendText(nil, s), nil
}

func (t *tree) fillEach(sc *scope, open, end byte) (jsontext.Value, []string) {
	out := jsontext.Value{open}
	var missing []string
	for i, item := range t.items {
		v, lacks := item.fill(sc)
		if missing = append(missing, lacks...); v == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		if open == '{' {
			out = append(appendText(out, t.names[i]), ':')
		}
		out = append(out, v...)
	}
	return append(out, end), missing
}

// form gives a flat mapping as parameters.
func (t *tree) form(sc *scope) (out url.Values, missing []string) {
	out = url.Values{}
	for i, item := range t.items {
		v, lacks := item.fill(sc)
		if missing = append(missing, lacks...); v != nil {
			out.Set(t.names[i], scalarText(v))
		}
	}
	return out, missing
}

// refs adds what the placeholders name.
func (t *tree) refs(to []string) []string {
	if t.text != nil {
		to = append(to, t.text.refs()...)
	}
	for _, item := range t.items {
		to = item.refs(to)
	}
	return to
}
