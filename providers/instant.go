package providers

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// instant is the argument of ${now...}: nothing, ":FORMAT", or an offset such as "-5:minutes:FORMAT". All times are UTC.
type instant struct {
	offset time.Duration
	layout string // empty: ISO 8601 with milliseconds
}

var instantOffset = expression(`^([+-][0-9]{1,6}):([a-z]+)(?::(.*))?$`)

var instantUnits = map[string]time.Duration{
	"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour,
}

func parseInstant(s string) (instant, error) {
	if layout, ok := strings.CutPrefix(s, ":"); ok {
		return instant{layout: layout}, nil
	}
	if s == "" {
		return instant{}, nil
	}
	m := instantOffset().FindStringSubmatch(s)
	if m == nil {
		return instant{}, errors.New("the time of ${now} is not of the form +5:minutes:FORMAT")
	}
	unit, ok := instantUnits[strings.TrimSuffix(m[2], "s")]
	n, err := strconv.Atoi(m[1])
	if !ok || err != nil {
		return instant{}, errors.New("the unit of ${now} is not seconds, minutes, hours, days or weeks")
	}
	return instant{offset: time.Duration(n) * unit, layout: m[3]}, nil
}

// instantTokens are the words of a format, a longer one before its beginning.
var instantTokens = []struct {
	word   string
	format func(time.Time) string
}{
	{"YYYY", layout("2006")},
	{"MMM", layout("Jan")},
	{"MM", layout("01")},
	{"DD", layout("02")},
	{"ddd", layout("Mon")},
	{"HH", layout("15")},
	{"mm", layout("04")},
	{"SSS", func(t time.Time) string { return t.Format(".000")[1:] }},
	{"ss", layout("05")},
	{"ZZ", layout("-0700")},
	{"Z", layout("-07:00")},
	{"X", func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }},
	{"x", func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }},
}

func layout(l string) func(time.Time) string {
	return func(t time.Time) string { return t.Format(l) }
}

// format gives the time; what stands in square brackets is literal, as is what is no word of a format.
func (i instant) format(now time.Time) string {
	t := now.UTC().Add(i.offset)
	if i.layout == "" {
		return t.Format("2006-01-02T15:04:05.000Z")
	}
	var b strings.Builder
	for rest := i.layout; rest != ""; {
		if literal, after, ok := strings.Cut(rest, "]"); ok && strings.HasPrefix(literal, "[") {
			b.WriteString(literal[1:])
			rest = after
			continue
		}
		n := 1
		text := rest[:1]
		for _, token := range instantTokens {
			if strings.HasPrefix(rest, token.word) {
				n, text = len(token.word), token.format(t)
				break
			}
		}
		b.WriteString(text)
		rest = rest[n:]
	}
	return b.String()
}
