package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever interrupts a transfer learns what to do, and nothing about statements that came to no end.
func TestATransferThatIsInterrupted(t *testing.T) {
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
	code, why := command(ctx, "transfer", "postgres://coatcheck@127.0.0.1:1/coatcheck", "--data", data)
	if want := "coatcheck: interrupted; run the same command again, and it goes on where it was\n"; code != 1 || why != want {
		t.Errorf("got %d %q, want 1 %q", code, why, want)
	}
}
