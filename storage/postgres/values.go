package postgres

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/broker"
)

// instant reads a time; NULL is the zero one.
type instant time.Time

func when(t *time.Time) *instant { return (*instant)(t) }

// Scan implements sql.Scanner.
func (i *instant) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*i = instant{}
	case int64:
		*i = instant(time.UnixMicro(v).UTC())
	default:
		return fmt.Errorf("a time is stored as %T", src)
	}
	return nil
}

// micros gives a time as it is stored.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// document reads a list or a map; NULL leaves it nil.
type document struct{ into any }

func doc(into any) document { return document{into} }

// Scan implements sql.Scanner.
func (d document) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		return nil
	case string:
		return json.Unmarshal([]byte(v), d.into)
	}
	return fmt.Errorf("a document is stored as %T", src)
}

// list gives a list as it is stored.
func list[S ~[]E, E ~string](v S) any {
	if len(v) == 0 {
		return nil
	}
	return encode(v)
}

// dict gives a map as it is stored. PostgreSQL looks into some of them, and cannot where there is a NUL, escaped or not.
func dict(v map[string]string) any {
	if len(v) == 0 {
		return nil
	}
	for key, value := range v {
		if strings.IndexByte(key, 0) >= 0 || strings.IndexByte(value, 0) >= 0 {
			clean := maps.Clone(v)
			delete(clean, key)
			clean[storable(key)] = storable(value)
			return dict(clean)
		}
	}
	return encode(v)
}

// encode writes strings, and lists and maps of them, as JSON: nothing in them can fail to encode.
func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n")
}

// texts gives a list as a parameter of type text[].
func texts[S ~[]E, E ~string](v S) []string {
	out := make([]string, len(v))
	for i, s := range v {
		out[i] = storable(string(s))
	}
	return out
}

// storable replaces what PostgreSQL takes for no text: NUL, and what is not UTF-8. Names are checked before they come
// here; what is left is what providers and apps answer, of which an odd character must not fail the change that notes it.
func storable(s string) string {
	if strings.IndexByte(s, 0) < 0 && utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\ufffd"), "\ufffd")
}

// blob gives bytes as they are stored; none at all is NULL.
func blob[B ~[]byte](b B) any {
	if len(b) == 0 {
		return nil
	}
	return []byte(b)
}

// text gives a JSON document of the caller's as it is stored: TEXT, byte for byte.
func text(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return string(b)
}

// sealed lets a sealed field be read as the bytes that it is.
func sealed(b *broker.Sealed) *[]byte { return (*[]byte)(b) }
