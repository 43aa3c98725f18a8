package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever interrupts a command learns what to do, and nothing about statements that came to no end.
func TestCommandsThatAreInterrupted(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	identity := filepath.Join(data, "identity.txt")
	command := func(ctx context.Context, args ...string) (int, string) {
		var out, failed strings.Builder
		return run(ctx, args, nil, &out, &failed), failed.String()
	}
	if code, why := command(t.Context(), "keys", "generate", "-o", identity); code != 0 {
		t.Fatal(why)
	}
	_, _ = command(t.Context(), "apikey", "list", "--data", data) // makes the database
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	for _, c := range []struct{ name, argument, want string }{
		{"transfer", "postgres://coatcheck@127.0.0.1:1/coatcheck", "coatcheck: interrupted; run the same command again, and it goes on where it was\n"},
		{"backup", filepath.Join(t.TempDir(), "backup"), "coatcheck: interrupted\n"},
	} {
		if code, why := command(ctx, c.name, c.argument, "--data", data); code != 1 || why != c.want {
			t.Errorf("%s: got %d %q, want 1 %q", c.name, code, why, c.want)
		}
	}
}
