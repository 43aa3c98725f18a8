package providers

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"
)

// Problem is one thing that is wrong with a catalogue file.
type Problem struct {
	File   string
	Line   int // from 1; zero: unknown
	Column int
	Entry  string // the provider
	Text   string
}

// String gives the problem in the form of a compiler's message.
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	if p.Entry != "" {
		s += ": " + p.Entry
	}
	return s + ": " + p.Text
}

// CatalogueError is everything that is wrong with the catalogue files. It is the error that [Load] gives.
type CatalogueError []Problem

// Error lists the problems, a line each.
func (ps CatalogueError) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// sorted orders the problems by file and line and drops repetitions: an alias repeats the problems of its target.
func (ps CatalogueError) sorted() CatalogueError {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		if a.Column != b.Column {
			return a.Column - b.Column
		}
		return strings.Compare(a.Entry, b.Entry)
	})
	return slices.CompactFunc(ps, func(a, b Problem) bool {
		return a.Line > 0 && a.File == b.File && a.Line == b.Line && a.Column == b.Column && a.Text == b.Text
	})
}

// parse reads a file or a chunk of one and gives its top-level mapping; lines count from firstLine. A file without
// content gives nil.
func parse(text []byte, firstLine int) (*yaml.Node, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	var doc yaml.Node
	if err := yaml.Load(text, &doc); err != nil {
		return nil, shift(err, firstLine-1)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, nil
	}
	if err := plain(doc.Content[0]); err != nil {
		return nil, shift(err, firstLine-1)
	}
	move(doc.Content[0], firstLine-1)
	return doc.Content[0], nil
}

// plain refuses anchors and what refers to them: no catalogue uses them, and a few of them can stand for a gigabyte.
func plain(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return faults(n, "anchors are not supported")
	}
	for _, child := range n.Content {
		if err := plain(child); err != nil {
			return err
		}
	}
	return nil
}

// move adds to the line numbers of a chunk's nodes what stands before the chunk.
func move(n *yaml.Node, by int) {
	n.Line += by
	for _, child := range n.Content {
		move(child, by)
	}
}

// shift does the same to an error's positions.
func shift(err error, by int) error {
	all := &yaml.LoadErrors{}
	for _, e := range loadErrors(err, nil) {
		moved := *e
		if moved.Mark.Line > 0 {
			moved.Mark.Line += by
		}
		all.Errors = append(all.Errors, &moved)
	}
	return all
}

// strictly are the library's rules for decoding. Keys that stand twice are found by repeated, which does not stop at the
// first.
var strictly = yaml.Options(yaml.WithKnownFields(), yaml.WithUniqueKeys(false))

// decode reads a mapping into an entry; a field that does not exist is an error, as is one that stands twice.
func decode(n *yaml.Node) (*entry, error) {
	if n.Kind != yaml.MappingNode {
		return nil, faults(n, "expected a mapping")
	}
	e := &entry{}
	all := &yaml.LoadErrors{Errors: repeated(n, nil)}
	if err := n.Load(e, strictly); err != nil {
		all.Errors = append(all.Errors, loadErrors(err, n)...)
	}
	if len(all.Errors) > 0 {
		return nil, all
	}
	return e, nil
}

// repeated finds the keys that stand twice in a mapping, at any depth.
func repeated(n *yaml.Node, found []*yaml.LoadError) []*yaml.LoadError {
	for i, x := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && keyIndex(n, x.Value) < i {
			found = append(found, loadErrors(faults(x, "%s stands here twice", x.Value), nil)...)
		}
		found = repeated(x, found)
	}
	return found
}

// loadErrors gives the positions that are in an error of the YAML library; an error without one is put at a node.
func loadErrors(err error, at *yaml.Node) []*yaml.LoadError {
	var many *yaml.LoadErrors
	if errors.As(err, &many) {
		return many.Errors
	}
	var one *yaml.LoadError
	if errors.As(err, &one) {
		return []*yaml.LoadError{one}
	}
	e := &yaml.LoadError{Message: err.Error()}
	if at != nil {
		e.Mark = yaml.Mark{Line: at.Line, Column: at.Column}
	}
	return []*yaml.LoadError{e}
}

// problems puts an error of the YAML library into our form.
func problems(file, name string, err error) CatalogueError {
	var out CatalogueError
	for _, e := range loadErrors(err, nil) {
		// The library names the Go type; whoever reads this has never seen it.
		text, _, _ := strings.Cut(e.Message, " in type ")
		out = append(out, Problem{File: file, Line: e.Mark.Line, Column: e.Mark.Column, Entry: name, Text: text})
	}
	return out
}

// child finds the value of a key of a mapping.
func child(n *yaml.Node, key string) *yaml.Node {
	if i := keyIndex(n, key); i >= 0 {
		return n.Content[i+1]
	}
	return nil
}

// keyIndex is where a mapping has a key, -1 if it does not.
func keyIndex(n *yaml.Node, key string) int {
	if n == nil || n.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return i
		}
	}
	return -1
}

// locate finds the node at a path of keys, or the nearest above it.
func locate(n *yaml.Node, path []string) *yaml.Node {
	for _, key := range path {
		next := child(n, key)
		if next == nil {
			break
		}
		n = next
	}
	return n
}

// lay gives a mapping with the keys of both, under's first; over's values win. It is shallow: a nested mapping is replaced
// whole.
func lay(over, under *yaml.Node) *yaml.Node {
	out := *over
	out.Content = slices.Clone(under.Content)
	for i := 0; i+1 < len(over.Content); i += 2 {
		if at := keyIndex(&out, over.Content[i].Value); at >= 0 {
			out.Content[at], out.Content[at+1] = over.Content[i], over.Content[i+1]
			continue
		}
		out.Content = append(out.Content, over.Content[i], over.Content[i+1])
	}
	return &out
}

// appendJSON writes a node as JSON, in the order of the file.
func appendJSON(dst []byte, n *yaml.Node) []byte {
	switch n.Kind {
	case yaml.MappingNode:
		dst = append(dst, '{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendText(dst, n.Content[i].Value)
			dst = append(dst, ':')
			dst = appendJSON(dst, n.Content[i+1])
		}
		return append(dst, '}')
	case yaml.SequenceNode:
		dst = append(dst, '[')
		for i, item := range n.Content {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, item)
		}
		return append(dst, ']')
	}
	return appendScalar(dst, n)
}

func appendScalar(dst []byte, n *yaml.Node) []byte {
	switch n.ShortTag() {
	case "!!null":
		return append(dst, "null"...)
	case "!!bool":
		var b bool
		if n.Load(&b) == nil {
			return fmt.Append(dst, b)
		}
	case "!!int":
		var i int64
		if n.Load(&i) == nil {
			return fmt.Append(dst, i)
		}
	case "!!float":
		if v := jsontext.Value(n.Value); v.IsValid() {
			return append(dst, v...)
		}
	}
	return appendText(dst, n.Value)
}

// appendText writes a JSON string; what is not UTF-8 becomes the replacement character.
func appendText(dst []byte, s string) []byte {
	out, _ := jsontext.AppendQuote(dst, s)
	return out
}
