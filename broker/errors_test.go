package broker_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// The operator learns why, and nobody else does.
func TestExplain(t *testing.T) {
	t.Parallel()
	refused := errors.New("connection refused")
	for _, c := range []struct {
		err          error
		text, reason string
	}{
		{refused, "connection refused", "connection refused"},
		{broker.ErrNotFound, "not_found: there is no such object", "not_found: there is no such object"},
		{broker.ErrNotFound.Because(refused), "not_found: there is no such object", "not_found: there is no such object: connection refused"},
		{
			fmt.Errorf("source: %w", broker.ErrNotFound.Because(fmt.Errorf("open: %w", broker.ErrInternal.Because(refused)))),
			"source: not_found: there is no such object",
			"source: not_found: there is no such object: open: internal: something went wrong on our side: connection refused",
		},
	} {
		if got := c.err.Error(); got != c.text {
			t.Errorf("told is %q, want %q", got, c.text)
		}
		if got := broker.Explain(c.err); got != c.reason {
			t.Errorf("explained is %q, want %q", got, c.reason)
		}
	}
}
