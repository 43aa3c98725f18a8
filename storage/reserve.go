package storage

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
)

// The reserve's files in the data directory.
const (
	ballastName = "ballast"
	ballastSize = 16 << 20 // bytes
	spillPrefix = "spill-"
)

// Reserve is what keeps a renewed token when the disk is full: a file that takes up room until that room is needed, and
// a place outside the database for what could not be stored at all.
type Reserve struct {
	dir string
	mu  sync.Mutex
}

var _ broker.Reserve = (*Reserve)(nil)

// NewReserve is the reserve in a data directory. It takes no room before Refill.
func NewReserve(dir string) *Reserve { return &Reserve{dir: dir} }

// Free gives the room back to the file system.
func (r *Reserve) Free() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := os.Remove(r.ballast())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Refill takes the room again. The file is written, not just lengthened: a file with holes takes up nothing.
func (r *Reserve) Refill() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if info, err := os.Stat(r.ballast()); err == nil && info.Size() == ballastSize {
		return nil
	}
	err := writeDurably(r.dir, r.ballast(), func(w io.Writer) error {
		chunk := make([]byte, 1<<20)
		for i := range chunk {
			chunk[i] = byte(i) // zeros could be stored as nothing
		}
		for range ballastSize / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep room in reserve: %w", err)
	}
	return nil
}

func (r *Reserve) ballast() string { return filepath.Join(r.dir, ballastName) }

// Spill writes swaps, which hold ciphertext only, to a file of its own that is on the disk when it returns.
func (r *Reserve) Spill(swaps []*broker.Swap) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return writeDurably(r.dir, filepath.Join(r.dir, spillPrefix+uuid.Must(uuid.NewV7()).String()), func(w io.Writer) error {
		return gob.NewEncoder(w).Encode(swaps)
	})
}

// Spilled reads all that was spilled, oldest first. A file that cannot be read is an error: it may hold the only copy of
// a token, so nobody should go on without having looked at it.
func (r *Reserve) Spilled() ([]*broker.Swap, func() error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("look for spilled tokens: %w", err)
	}
	var files []string
	var out []*broker.Swap
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), spillPrefix) || strings.HasSuffix(e.Name(), temporary) {
			continue
		}
		name := filepath.Join(r.dir, e.Name())
		swaps, err := readSwaps(name)
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", e.Name(), err)
		}
		files, out = append(files, name), append(out, swaps...)
	}
	slices.Sort(files)
	return out, func() error {
		var errs []error
		for _, f := range files {
			errs = append(errs, os.Remove(f))
		}
		return errors.Join(errs...)
	}, nil
}

func readSwaps(name string) ([]*broker.Swap, error) {
	f, err := os.Open(name) //nolint:gosec // a file of ours in the data directory
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var swaps []*broker.Swap
	err = gob.NewDecoder(f).Decode(&swaps)
	return swaps, err
}

// temporary ends the name of a file that is not complete.
const temporary = ".tmp"

// writeDurably writes a file so that it is there whole or not at all, whenever the power fails.
func writeDurably(dir, name string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(name+temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // a name of ours in the data directory
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(name + temporary)
		}
	}()
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+temporary, name); err != nil {
		return err
	}
	d, err := os.Open(dir) //nolint:gosec // the data directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
