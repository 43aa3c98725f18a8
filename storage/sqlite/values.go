package sqlite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

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

// dict gives a map as it is stored.
func dict(v map[string]string) any {
	if len(v) == 0 {
		return nil
	}
	return encode(v)
}

// encode writes strings, and lists and maps of them, as JSON: nothing in them can fail to encode. The escapes that are
// meant for HTML are left out, because SQLite compares what is between the quotes.
func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n")
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

// sealed lets a sealed field be read as the bytes that it is, without reflection.
func sealed(b *broker.Sealed) *[]byte { return (*[]byte)(b) }
