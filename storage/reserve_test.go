package storage_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage"
)

const ballast = "coatcheck.ballast"

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// blocks is how much room a file takes up.
func blocks(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	ok(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %o", path, info.Mode().Perm())
	}
	return allocated(info)
}

func TestTheBallastTakesUpRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := storage.NewReserve(dir)
	path := filepath.Join(dir, ballast)
	ok(t, r.Free()) // there is none yet
	if got := blocks(t, path); got != 0 {
		t.Errorf("%d bytes are taken before anybody asked", got)
	}
	for range 2 {
		ok(t, r.Refill())
		if got := blocks(t, path); got < 16<<20 {
			t.Errorf("the ballast takes up %d bytes, want 16 MiB", got)
		}
	}
	ok(t, r.Free())
	if got := blocks(t, path); got != 0 {
		t.Errorf("%d bytes are still taken", got)
	}
	ok(t, os.WriteFile(path, []byte("cut short"), 0o600))
	ok(t, r.Refill())
	if got := blocks(t, path); got < 16<<20 {
		t.Errorf("a short ballast was not replaced: %d bytes", got)
	}
}

func TestARefillWithoutRoomTakesNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := storage.NewReserve(dir)
	ok(t, os.Mkdir(filepath.Join(dir, ballast), 0o700)) // where the file cannot go
	if err := r.Refill(); err == nil {
		t.Fatal("it succeeded")
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	ok(t, err)
	if len(left) != 0 {
		t.Errorf("it left %v", left)
	}
	if err := storage.NewReserve(filepath.Join(dir, "nowhere")).Refill(); err == nil {
		t.Error("it succeeded where there is no directory")
	}
}

// swap has a value in every field.
func swap(id broker.ConnectionID) *broker.Swap {
	at := func(n int) time.Time { return time.UnixMicro(1_900_000_000_000_000 + int64(n)).UTC() }
	return &broker.Swap{
		Connection: id, From: 1 << 60, Config: []byte(`{"a":"<ü>"}`), Scopes: []string{"read"},
		Next: &broker.Credential{
			Connection: id, Version: 2, Type: "OAUTH2", Origins: "https://a b", Access: broker.Sealed{0, 255, 1}, Refresh: broker.Sealed("refresh"),
			Details: broker.Sealed("details"), Answer: broker.Sealed("answer"), ObtainedAt: at(1), ExpiresAt: at(2),
			RefreshExpiresAt: at(3), RefreshAt: at(4), RefreshedAt: at(5), Failures: 6, FailedAt: at(7), FailingSince: at(8),
			FailCode: "code", LeaseOwner: "owner", LeaseUntil: at(9), Fence: 10, AttemptAt: at(11), EraseAt: at(14),
		},
		Trail: broker.Trail{
			Audit:  []broker.AuditEntry{{Sequence: 1, Environment: "e", Actor: "a", Action: "b", Target: "c", Result: "ok", Count: 2, IP: "::1", RequestID: "r", At: at(12)}},
			Events: []broker.Event{{Sequence: 1, ID: "i", Environment: "e", Kind: "k", Integration: "i", Connection: id, Key: "k", Code: "c", At: at(13)}},
		},
		Orphan: &broker.Revocation{ID: "o", Environment: "e", Integration: "i", Connection: id, Version: 8, Refresh: broker.Sealed("refresh"), CreatedAt: at(14)},
	}
}

func TestWhatIsSpilledComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := storage.NewReserve(dir)
	none, done, err := r.Spilled()
	ok(t, err)
	if len(none) != 0 {
		t.Errorf("%d swaps come from nowhere", len(none))
	}
	ok(t, done())
	full := swap("first")
	for _, v := range []reflect.Value{reflect.ValueOf(full).Elem(), reflect.ValueOf(full.Next).Elem()} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("the test leaves %s.%s empty", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
	ok(t, r.Spill([]*broker.Swap{full, swap("second")}))
	ok(t, r.Spill([]*broker.Swap{swap("third")}))
	swaps, done, err := storage.NewReserve(dir).Spilled() // the next process
	ok(t, err)
	if !slices.EqualFunc(swaps, []broker.ConnectionID{"first", "second", "third"}, func(s *broker.Swap, id broker.ConnectionID) bool { return s.Connection == id }) {
		t.Fatalf("%d swaps came back, want three in their order", len(swaps))
	}
	if !reflect.DeepEqual(swaps[0], full) {
		t.Errorf("got %+v\nwant %+v", swaps[0], full)
	}
	ok(t, r.Spill([]*broker.Swap{swap("meanwhile")}))
	ok(t, done())
	swaps, done, err = r.Spilled()
	ok(t, err)
	if len(swaps) != 1 || swaps[0].Connection != "meanwhile" {
		t.Errorf("%d swaps are left, want the one that came since", len(swaps))
	}
	ok(t, done())
	ok(t, done()) // again does no harm
	entries, err := os.ReadDir(dir)
	ok(t, err)
	if len(entries) != 0 {
		t.Errorf("%v are left", entries)
	}
}

func TestASpillThatIsNotUnderstoodStays(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"cut short":     `{"Version":1,"Swaps":[{"Conn`,
		"later format":  `{"Version":2,"Swaps":[]}`,
		"unknown field": `{"Version":1,"Swaps":[{"Token":"x"}]}`,
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "coatcheck.spill-00000001.json")
		ok(t, os.WriteFile(path, []byte(content), 0o600))
		if _, _, err := storage.NewReserve(dir).Spilled(); err == nil || !strings.Contains(err.Error(), "spill-00000001") {
			t.Errorf("%s: %v", name, err)
		}
		_, err := os.Stat(path)
		ok(t, err)
	}
}

func TestSpillingFailsAloud(t *testing.T) {
	t.Parallel()
	r := storage.NewReserve(filepath.Join(t.TempDir(), "nowhere"))
	if err := r.Spill([]*broker.Swap{swap("lost")}); err == nil {
		t.Error("it succeeded")
	}
	if _, _, err := r.Spilled(); err == nil {
		t.Error("reading succeeded")
	}
}
