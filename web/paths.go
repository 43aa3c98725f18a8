package web

import (
	"strings"

	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// paths knows, for each method, which segments of which paths are fixed. Fixed ones match in any case and a trailing
// slash means nothing; ids are never touched. It is kept by method because the same segment can be fixed in one and an
// id in another: POST /connections/metadata and GET /connections/{connectionId}.
type paths map[string]*segment

// restSuffix ends the path of a row that takes everything that follows.
const restSuffix = ":.*}"

// segment is a place in a path.
type segment struct {
	text   string              // as the row writes it
	fixed  map[string]*segment // by lower-case text
	varied *segment            // {name}
	rest   bool                // {name:.*}, which takes everything that follows
	row    *kit.Route          // the row that ends here
}

func (p paths) add(method string, row kit.Route) {
	at, ok := p[method]
	if !ok {
		at = &segment{}
		p[method] = at
	}
	for text := range strings.SplitSeq(strings.TrimPrefix(row.Path, "/"), "/") {
		at = at.child(text)
	}
	if at.row != nil {
		panic("web: two rows for " + method + " " + row.Path)
	}
	at.row = &row
}

func (s *segment) child(text string) *segment {
	if strings.Contains(text, "{") {
		if s.varied == nil {
			s.varied = &segment{rest: strings.HasSuffix(text, restSuffix)}
		}
		return s.varied
	}
	key := strings.ToLower(text)
	if s.fixed == nil {
		s.fixed = make(map[string]*segment)
	}
	if s.fixed[key] == nil {
		s.fixed[key] = &segment{text: text}
	}
	return s.fixed[key]
}

// fold gives a path, escaped as it was sent, in the form of its row. ok is false when no row of the method has it. In what a
// row takes whole, a slash at the end is a part of it.
func (p paths) fold(method, path string) (folded string, row *kit.Route, ok bool) {
	at, known := p[method]
	if !known || !strings.HasPrefix(path, "/") {
		return "", nil, false
	}
	trimmed := trimSlash(path)
	parts := strings.Split(trimmed[1:], "/")
	row = at.match(parts)
	if row == nil {
		return "", nil, false
	}
	folded = "/" + strings.Join(parts, "/")
	if strings.HasSuffix(row.Path, restSuffix) {
		folded += path[len(trimmed):]
	}
	return folded, row, true
}

// match finds the row of the parts and writes the fixed ones as the row does. Fixed segments win over ids.
func (s *segment) match(parts []string) *kit.Route {
	if len(parts) == 0 {
		return s.row
	}
	if next, ok := s.fixed[strings.ToLower(parts[0])]; ok {
		sent := parts[0]
		parts[0] = next.text
		if row := next.match(parts[1:]); row != nil {
			return row
		}
		parts[0] = sent
	}
	switch {
	case s.varied != nil && s.varied.rest:
		return s.varied.row
	case s.varied == nil || parts[0] == "":
		return nil
	}
	return s.varied.match(parts[1:])
}

// all lists the rows of every method that has the path.
func (p paths) all(path string) []kit.Route {
	var out []kit.Route
	for method := range p {
		if _, row, ok := p.fold(method, path); ok && row.Method == method {
			out = append(out, *row)
		}
	}
	return out
}
