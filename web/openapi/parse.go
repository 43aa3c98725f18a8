package openapi

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"
)

// Parse reads a document. A member that [Spec] and its parts lack is an error, as is one that stands twice.
func Parse(source []byte) (*Spec, error) {
	raw, err := JSON(source)
	if err != nil {
		return nil, err
	}
	s := new(Spec)
	if err := json.Unmarshal(raw, s, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	return s, nil
}

// JSON gives a document of YAML as JSON, with its members in the same order.
func JSON(source []byte) (jsontext.Value, error) {
	root, err := nodes(source)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := jsontext.NewEncoder(&out, jsontext.WithIndent("  "))
	if err := encode(e, root); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// nodes reads YAML.
func nodes(source []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Load(source, &doc); err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("the document is no mapping")
	}
	return doc.Content[0], nil
}

func encode(e *jsontext.Encoder, n *yaml.Node) error {
	switch n.Kind {
	case yaml.MappingNode:
		return encodeAll(e, n, jsontext.BeginObject, jsontext.EndObject)
	case yaml.SequenceNode:
		return encodeAll(e, n, jsontext.BeginArray, jsontext.EndArray)
	case yaml.ScalarNode:
		return encodeScalar(e, n)
	}
	return at(n, errors.New("anchors are not supported"))
}

func encodeAll(e *jsontext.Encoder, n *yaml.Node, begin, end jsontext.Token) error {
	if err := e.WriteToken(begin); err != nil {
		return at(n, err)
	}
	for i, child := range n.Content {
		var err error
		if n.Kind == yaml.MappingNode && i%2 == 0 { // a name is a text, whatever it looks like: 200 is a status
			err = at(child, e.WriteToken(jsontext.String(child.Value)))
		} else {
			err = encode(e, child)
		}
		if err != nil {
			return err
		}
	}
	return at(n, e.WriteToken(end))
}

// encodeScalar writes what has no parts. Dates are texts.
func encodeScalar(e *jsontext.Encoder, n *yaml.Node) error {
	token := jsontext.String(n.Value)
	switch n.ShortTag() {
	case "!!null":
		token = jsontext.Null
	case "!!bool":
		v, err := strconv.ParseBool(n.Value)
		if err != nil {
			return at(n, err)
		}
		token = jsontext.Bool(v)
	case "!!int", "!!float":
		return at(n, e.WriteValue(jsontext.Value(n.Value))) // refused where JSON has no such spelling
	}
	return at(n, e.WriteToken(token))
}

// at says where something is wrong.
func at(n *yaml.Node, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("line %d: %w", n.Line, err)
}

// withServer puts the address of the server into a document, before its paths.
func withServer(source []byte, address string) ([]byte, error) {
	root, err := nodes(source)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(root.Content); i += 2 {
		key := root.Content[i]
		if key.Value != "paths" || key.Column != 1 {
			continue
		}
		lines := bytes.SplitAfter(source, []byte("\n"))
		before, after := bytes.Join(lines[:key.Line-1], nil), bytes.Join(lines[key.Line-1:], nil)
		server := "servers:\n  - url: " + strconv.Quote(address) + "\n\n"
		return bytes.Join([][]byte{before, []byte(server), after}, nil), nil
	}
	return nil, errors.New("the document has no paths")
}
