package providers

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// template is text with placeholders: ${connectionConfig.x}, ${credentials.x}, ${apiKey}, ${base64(...)} and the other
// functions, ${random}, ${now...}. It may have alternatives, "left || right": the first in which a placeholder has a value
// wins, else the last.
type template struct {
	alts []sequence
}

// sequence is one alternative.
type sequence []part

// part is literal text, a placeholder, or a function.
type part struct {
	text string   // literal; empty for the others
	ref  string   // what a placeholder names
	fn   string   // a function's name
	arg  sequence // of a function
	key  sequence // its second argument, where it has two
	when instant  // of now
}

// refName is what a placeholder may name; the dash and the second dot occur in names of connection config.
var refName = expression(`^[A-Za-z0-9_.-]+$`)

// parseTemplate reads a template. A placeholder that is not closed is an error, as is an empty one.
func parseTemplate(s string) (*template, error) {
	return (&templateParser{rest: s}).template()
}

// parseText reads a template that has no alternatives: "||" stands for itself, as it may in a key.
func parseText(s string) (*template, error) {
	return (&templateParser{rest: s, plain: true}).template()
}

func (p *templateParser) template() (*template, error) {
	t := &template{}
	for {
		seq, err := p.sequence(false)
		if err != nil {
			return nil, err
		}
		t.alts = append(t.alts, seq)
		if !p.take("||") {
			break
		}
	}
	if len(t.alts) > 1 {
		for i := range t.alts {
			t.alts[i] = t.alts[i].trimmed()
		}
	}
	return t, nil
}

type templateParser struct {
	rest  string
	depth int
	plain bool // there are no alternatives
}

func (p *templateParser) take(s string) bool {
	rest, ok := strings.CutPrefix(p.rest, s)
	if ok {
		p.rest = rest
	}
	return ok
}

// sequence reads up to the end, to "||", or in an argument to its closing ")}".
func (p *templateParser) sequence(argument bool) (sequence, error) {
	var seq sequence
	for {
		stop := "||"
		if argument {
			stop = ")}"
		}
		end := strings.Index(p.rest, stop)
		if p.plain && !argument {
			end = -1
		}
		open := strings.Index(p.rest, "${")
		switch {
		case open >= 0 && (end < 0 || open < end):
			seq = seq.text(p.rest[:open])
			p.rest = p.rest[open+2:]
			pt, err := p.placeholder()
			if err != nil {
				return nil, err
			}
			seq = append(seq, pt)
		case end >= 0:
			seq = seq.text(p.rest[:end])
			p.rest = p.rest[end:]
			return seq, nil
		case argument:
			return nil, errors.New("a function is not closed")
		default:
			seq = seq.text(p.rest)
			p.rest = ""
			return seq, nil
		}
	}
}

// placeholder reads what follows "${".
func (p *templateParser) placeholder() (part, error) {
	if p.depth++; p.depth > 8 {
		return part{}, errors.New("placeholders are nested too deeply")
	}
	defer func() { p.depth-- }()
	end := strings.IndexAny(p.rest, "(}")
	switch {
	case end < 0:
		return part{}, errors.New("a placeholder is not closed")
	case end == 0:
		return part{}, errors.New("a placeholder is empty")
	}
	name, isCall := p.rest[:end], p.rest[end] == '('
	if strings.Contains(name, "${") {
		return part{}, errors.New("a placeholder stands in the name of another")
	}
	p.rest = p.rest[end+1:]
	if isCall {
		arg, err := p.sequence(true)
		if err != nil {
			return part{}, err
		}
		p.take(")}")
		if twoArguments[name] {
			arg, key, ok := arg.cut()
			if !ok {
				return part{}, errors.New("a function lacks its second argument")
			}
			return part{fn: name, arg: arg, key: key}, nil
		}
		return part{fn: name, arg: arg}, nil
	}
	if name == "random" {
		return part{fn: name}, nil
	}
	if at, ok := strings.CutPrefix(name, "now"); ok && (at == "" || strings.ContainsAny(at[:1], ":+-")) {
		if when, err := parseInstant(at); err == nil {
			return part{fn: "now", when: when}, nil
		}
		return part{fn: name}, nil
	}
	if !refName().MatchString(name) {
		return part{fn: name}, nil // unknown, and reported as such
	}
	return part{ref: name}, nil
}

func (q sequence) text(literal string) sequence {
	if literal == "" {
		return q
	}
	return append(q, part{text: literal})
}

// trimmed drops the space around an alternative.
func (q sequence) trimmed() sequence {
	q = slices.Clone(q)
	if n := len(q); n > 0 {
		q[0].text = strings.TrimLeft(q[0].text, " ")
		q[n-1].text = strings.TrimRight(q[n-1].text, " ")
	}
	return slices.DeleteFunc(q, func(p part) bool { return p.text == "" && p.ref == "" && p.fn == "" })
}

// each calls do for every part, those inside functions included.
func (q sequence) each(do func(part)) {
	for _, p := range q {
		do(p)
		p.arg.each(do)
		p.key.each(do)
	}
}

func (t *template) each(do func(part)) {
	for _, s := range t.alts {
		s.each(do)
	}
}

// refs lists what the placeholders name.
func (t *template) refs() []string {
	var out []string
	t.each(func(p part) {
		if p.ref != "" {
			out = append(out, p.ref)
		}
	})
	return out
}

// unsupported names the first placeholder or function that does not exist here, "" if there is none.
func (t *template) unsupported() string {
	name := ""
	t.each(func(p part) {
		if name == "" && p.fn != "" && p.fn != "random" && p.fn != "now" && functions[p.fn] == nil {
			name = p.fn
		}
	})
	return name
}

// volatile reports whether the template gives something else each time.
func (t *template) volatile() bool {
	found := false
	t.each(func(p part) { found = found || p.fn == "random" || p.fn == "now" })
	return found
}

// scope is what a template is filled in from.
type scope struct {
	config   map[string]string // ${connectionConfig.x}
	defaults map[string]string // of config fields that were left empty
	named    map[string]string // ${credentials.x}, ${x}
	bare     bool              // ${x} may mean connection config too, as the catalogue's format has it in URLs
	steps    []jsontext.Value  // ${step1.x}: the answers to the requests so far
	now      time.Time
}

// look gives the value of a placeholder. Empty connection config is none; an empty credential is one: a password may be.
func (s *scope) look(ref string) (string, bool) {
	name, isConfig := strings.CutPrefix(ref, "connectionConfig.")
	if isConfig {
		return s.configValue(name)
	}
	name, _ = strings.CutPrefix(ref, "credentials.")
	if v, ok := s.named[name]; ok {
		return v, true
	}
	if step, path, ok := stepRef(ref); ok {
		if step > len(s.steps) {
			return "", false
		}
		v := scalarText(get(s.steps[step-1], path))
		return v, v != ""
	}
	if s.bare {
		return s.configValue(name)
	}
	return "", false
}

func (s *scope) configValue(name string) (string, bool) {
	if v := s.config[name]; v != "" {
		return v, true
	}
	v := s.defaults[name]
	return v, v != ""
}

// pick gives the alternative that applies: the first in which a placeholder has a value, or else the last. One that is
// filled in by half wins too: a default must not hide that something is missing.
func (t *template) pick(s *scope) int {
	for i, alt := range t.alts[:len(t.alts)-1] {
		found := false
		alt.each(func(p part) {
			if p.ref != "" && !found {
				_, found = s.look(p.ref)
			}
		})
		if found {
			return i
		}
	}
	return len(t.alts) - 1
}

// fill gives the text with every placeholder replaced; missing names those that have no value.
func (t *template) fill(s *scope) (text string, missing []string) {
	text, missing, _ = t.alts[t.pick(s)].fill(s, nil)
	return text, missing
}

// fill replaces the placeholders of one alternative; encode, if not nil, sees each value and the index of its part.
func (q sequence) fill(s *scope, encode func(i int, v string) (string, error)) (string, []string, error) {
	var b strings.Builder
	var missing []string
	for i, p := range q {
		if p.ref == "" && p.fn == "" {
			b.WriteString(p.text)
			continue
		}
		v, lacks := p.value(s)
		if len(lacks) > 0 {
			missing = append(missing, lacks...)
			continue
		}
		if encode != nil {
			var err error
			if v, err = encode(i, v); err != nil {
				return "", missing, err
			}
		}
		b.WriteString(v)
	}
	return b.String(), missing, nil
}

// value gives what a placeholder or function stands for.
func (p part) value(s *scope) (string, []string) {
	switch p.fn {
	case "":
		if v, ok := s.look(p.ref); ok {
			return v, nil
		}
		return "", []string{p.ref}
	case "random":
		return uuid.NewString(), nil
	case "now":
		return p.when.format(s.now), nil
	}
	return p.call(s)
}

// stepRef takes a reference such as step1.data.id apart; steps count from 1.
func stepRef(ref string) (step int, path string, ok bool) {
	rest, ok := strings.CutPrefix(ref, "step")
	number, path, found := strings.Cut(rest, ".")
	if !ok || !found {
		return 0, "", false
	}
	step, err := strconv.Atoi(number)
	return step, path, err == nil && step > 0
}
