package broker

import (
	"fmt"
	"log/slog"
)

// redacted is what every way of printing a [Secret] gives.
const redacted = "[redacted]"

// Secret is a token, key or password in the clear. It never prints: the value sits behind a pointer,
// because fmt cannot call String on an unexported field, so a plain string would leak through %+v of
// an outer struct. The zero Secret is the absence of one.
type Secret struct{ v *string }

// NewSecret wraps s. An empty s gives the zero Secret.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{v: &s}
}

// Reveal gives the value. It is the only way out, so that a reviewer can search for it.
func (s Secret) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// IsZero reports whether there is no value.
func (s Secret) IsZero() bool { return s.v == nil }

// String gives a placeholder.
func (s Secret) String() string { return redacted }

// GoString gives a placeholder.
func (s Secret) GoString() string { return redacted }

// Format gives a placeholder for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON gives a placeholder.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText gives a placeholder.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue gives a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
