package providers

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/egress"
)

// urlTemplate is a template that gives a URL. It knows of each placeholder where in the URL it stands, and so what its
// value may hold: a value never brings a delimiter into a place that it was not meant for.
type urlTemplate struct {
	*template
	places [][]place // of each part of each alternative
	hosts  []hostForm
	// pattern is what a host must match that placeholders stand in; nil: its form alone decides.
	pattern *regexp.Regexp
	// keepSlash lets a value of connection config in the path be several segments.
	keepSlash bool
}

// place is where in a URL a part stands.
type place int

const (
	wholePlace   place = iota // at the very beginning: scheme and host come from the value
	hostPlace                 // in the host, with more of it to come
	hostEndPlace              // at the end of the host
	pathPlace
	queryPlace
)

// parseURLTemplate reads a template and finds the places of its placeholders.
func parseURLTemplate(s string) (*urlTemplate, error) {
	t, err := parseTemplate(s)
	if err != nil {
		return nil, err
	}
	u := &urlTemplate{template: t}
	for _, alt := range t.alts {
		places, form, err := findPlaces(alt)
		if err != nil {
			return nil, err
		}
		u.places, u.hosts = append(u.places, places), append(u.hosts, form)
	}
	return u, nil
}

// findPlaces walks an alternative as a URL parser would.
func findPlaces(alt sequence) ([]place, hostForm, error) {
	w := &placeFinder{places: make([]place, len(alt)), at: pathPlace, last: -1}
	for i, p := range alt {
		var err error
		if p.ref == "" && p.fn == "" {
			err = w.text(i, p.text)
		} else {
			err = w.placeholder(i, p)
		}
		if err != nil {
			return nil, w.form, err
		}
	}
	switch n := len(w.form.parts); {
	case w.form.whole == "" && n == 0:
		return nil, w.form, errors.New("the URL has no host")
	case n > 0 && w.form.parts[n-1].ref != "":
		w.places[w.last] = hostEndPlace
	}
	return w.places, w.form, nil
}

type placeFinder struct {
	places []place
	form   hostForm
	at     place
	last   int // index of the host's last placeholder
}

func (w *placeFinder) placeholder(i int, p part) error {
	switch {
	case i == 0 && p.fn != "":
		return errors.New("a URL cannot begin with a function")
	case i == 0:
		w.form.whole = p.ref
		return nil
	case w.at == hostPlace && p.fn != "":
		return errors.New("a function stands in the host")
	case w.at == hostPlace:
		w.form.parts, w.last = append(w.form.parts, part{ref: p.ref}), i
	}
	w.places[i] = w.at
	return nil
}

func (w *placeFinder) text(i int, s string) error {
	if strings.ContainsAny(s, "#\\ ") {
		return errors.New("the URL holds a character that it cannot have")
	}
	if i == 0 {
		_, after, ok := strings.Cut(s, "://")
		if !ok {
			return errors.New("the URL has no scheme")
		}
		s, w.at = after, hostPlace
	}
	if w.at == hostPlace {
		host := s
		if end := strings.IndexAny(s, "/?"); end >= 0 {
			host, s, w.at = s[:end], s[end:], pathPlace
		}
		if strings.Contains(host, "@") {
			return errors.New("the URL has a user")
		}
		w.form.parts = w.form.parts.text(strings.ToLower(host))
	}
	if w.at == pathPlace && strings.Contains(s, "?") {
		w.at = queryPlace
	}
	return nil
}

// static gives the URL of a template without placeholders, "" for any other.
func (t *urlTemplate) static() string {
	if t == nil || len(t.alts) != 1 || len(t.alts[0]) != 1 || t.alts[0][0].text == "" {
		return ""
	}
	return t.alts[0][0].text
}

// expand fills the template in and gives the URL, parsed again and with its host checked. The error is variable_invalid,
// naming the connection config that is wrong or missing, or what check says of the URL.
func (t *urlTemplate) expand(s *scope, check func(raw string, literal bool) (*url.URL, error)) (*url.URL, error) {
	i := t.pick(s)
	alt, form := t.alts[i], t.hosts[i]
	raw, missing, err := alt.fill(s, func(j int, v string) (string, error) {
		return t.encode(alt[j], t.places[i][j], v)
	})
	switch {
	case err != nil:
		return nil, err
	case len(missing) > 0:
		return nil, invalid(missing[0], "is missing")
	}
	// An address is accepted here because connection config was checked when it came: only the app's backend can have
	// given one.
	u, err := check(raw, true)
	switch {
	case err != nil && !form.fixed():
		return nil, invalid(form.variable(), "does not give an address that may be used").Because(err)
	case err != nil:
		return nil, err
	}
	if !form.admits(u.Host) || t.pattern != nil && !form.fixed() && !t.pattern.MatchString(u.Hostname()) {
		return nil, invalid(form.variable(), "leads to a host that this provider does not have")
	}
	if hasDotSegment(u.EscapedPath()) {
		return nil, broker.ErrVariableInvalid.Saying("the address has a path that leads out of itself")
	}
	return u, nil
}

// encode puts a value into the form that its place asks for.
func (t *urlTemplate) encode(p part, at place, v string) (string, error) {
	if v == "" {
		return "", invalid(p.ref, "is missing")
	}
	if hasControl(v) {
		return "", invalid(p.ref, "holds a character that cannot stand in an address")
	}
	switch at {
	case wholePlace:
		return strings.TrimSuffix(v, "/"), checkWhole(p.ref, v)
	case hostPlace:
		return v, checkLabels(p.ref, v)
	case hostEndPlace:
		return v, checkHostEnd(p.ref, v)
	case queryPlace:
		return url.QueryEscape(v), nil
	case pathPlace:
	}
	if t.keepSlash && strings.HasPrefix(p.ref, "connectionConfig.") {
		segments := strings.Split(v, "/")
		for i := range segments {
			segments[i] = url.PathEscape(segments[i])
		}
		return strings.Join(segments, "/"), nil
	}
	return url.PathEscape(v), nil
}

// hasDotSegment finds "." and ".." between slashes, encoded or not.
func hasDotSegment(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), func(segment string) bool {
		segment = strings.ReplaceAll(strings.ToLower(segment), "%2e", ".")
		return segment == "." || segment == ".."
	})
}

// httpsOnly is the check of URLs where the caller has none of its own.
func httpsOnly(raw string, _ bool) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.User != nil || u.Fragment != "" || u.Opaque != "":
		return nil, broker.ErrURLNotAllowed
	case u.Scheme != "https":
		return nil, broker.ErrProviderURLInvalid
	case egress.CheckHost(u.Hostname()) != nil:
		return nil, broker.ErrURLNotAllowed
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}
