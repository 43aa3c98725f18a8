package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage"
	"github.com/coatcheck/coatcheck/storage/postgres/postgrestest"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s, err := storage.Open(t.Context(), "sqlite", storage.Options{Dir: dir, Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, storage.FileName)); err != nil {
		t.Error(err)
	}
	second, err := storage.Open(t.Context(), "sqlite", storage.Options{Dir: dir, Exclusive: true})
	if !errors.Is(err, storage.ErrInUse) || second != nil {
		t.Errorf("a second server gets %v, %v", second, err)
	}
}

func TestOpenHasTheKeyringVerified(t *testing.T) {
	t.Parallel()
	wrong := errors.New("the wrong key")
	o := storage.Options{Dir: t.TempDir(), Verify: func([]broker.WrappedKey) error { return wrong }}
	s, err := storage.Open(t.Context(), "sqlite", o) // it has none yet
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.AddKey(t.Context(), broker.WrappedKey{ID: 1, Wrapped: []byte("wrapped"), Active: true}), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err := storage.Open(t.Context(), "sqlite", o); !errors.Is(err, wrong) || s != nil {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestOpenPostgreSQL(t *testing.T) {
	t.Parallel()
	address, dir := postgrestest.New(t), filepath.Join(t.TempDir(), "data")
	s, err := storage.Open(t.Context(), address, storage.Options{Dir: dir, Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	second, err := storage.Open(t.Context(), address, storage.Options{Dir: dir, Exclusive: true})
	if !errors.Is(err, storage.ErrInUse) || !strings.HasPrefix(err.Error(), "database_in_use") || second != nil {
		t.Errorf("a second server in the directory gets %v, %v", second, err)
	}
	if s, err := storage.Open(t.Context(), "postgres://user:hunter2%zz@host/x", storage.Options{}); s != nil || err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestOpenNamesWhatIsSupported(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "SQLite", "sqlite:/var/lib", "mysql://user:pass%77ord@db.internal/x", "postgres", "mysql", "password=word@internal"} {
		_, err := storage.Open(t.Context(), name, storage.Options{Dir: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), `not supported by this build`) || !strings.Contains(err.Error(), `"sqlite"`) {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "ord@") || strings.Contains(err.Error(), "internal")) {
			t.Errorf("the error repeats the address: %v", err)
		}
	}
}
