package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/coatcheck/coatcheck/broker"
)

// Names in the data directory.
const (
	ballastName = "coatcheck.ballast"
	spillPrefix = "coatcheck.spill-" // then a number of eight digits
	spillSuffix = ".json"
	unfinished  = ".tmp"
)

// ballastSize in bytes: room for some thousand renewed tokens and the log that they go through.
const ballastSize = 16 << 20

// Reserve is a broker.Reserve in the data directory: a file that takes up room until the room is needed, and files with
// what could not be stored at all. It is for the one server of a directory.
type Reserve struct {
	dir string
	mu  sync.Mutex
}

var _ broker.Reserve = (*Reserve)(nil)

// NewReserve touches nothing yet: Refill takes the room.
func NewReserve(dir string) *Reserve { return &Reserve{dir: dir} }

func (r *Reserve) ballast() string { return filepath.Join(r.dir, ballastName) }

// Free gives the room to whoever writes next. Without a ballast it does nothing.
func (r *Reserve) Free() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := os.Remove(r.ballast()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("free the reserve: %w", err)
	}
	return nil
}

// Refill takes the room, if it is not taken, or fails and takes none.
func (r *Reserve) Refill() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if info, err := os.Stat(r.ballast()); err == nil && info.Size() == ballastSize {
		return nil
	}
	if err := r.write(ballastName, weigh); err != nil {
		return fmt.Errorf("fill the reserve: %w", err)
	}
	return nil
}

// weigh writes what no file system can store in less room than it says: a hole, or zeros, would be given back by none.
func weigh(w io.Writer) error {
	noise := rand.NewChaCha8([32]byte([]byte("this is ballast and not a secret")))
	_, err := io.CopyN(w, noise, ballastSize)
	return err
}

// spill is the content of a file of spilled swaps. Its fields are the domain's own, so a name that changes there has to
// be read here under both.
type spill struct {
	Version int
	Swaps   []*broker.Swap
}

// spillVersion is that of what is written.
const spillVersion = 1

// Spill writes swaps to a file of their own, and returns when they are on the disk. There is no plaintext in a swap.
func (r *Reserve) Spill(swaps []*broker.Swap) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	names, err := r.spills()
	if err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	next := 1
	if len(names) > 0 {
		last, err := number(names[len(names)-1])
		if err != nil {
			return fmt.Errorf("spill: %w", err)
		}
		next = last + 1
	}
	err = r.write(fmt.Sprintf("%s%08d%s", spillPrefix, next, spillSuffix), func(w io.Writer) error {
		return json.NewEncoder(w).Encode(spill{spillVersion, swaps})
	})
	if err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	return nil
}

// Spilled reads all that earlier processes spilled, in their order. Calling done removes what was read, and nothing that
// was spilled since.
func (r *Reserve) Spilled() (swaps []*broker.Swap, done func() error, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	names, err := r.spills()
	if err != nil {
		return nil, nil, fmt.Errorf("read what was spilled: %w", err)
	}
	for _, name := range names {
		read, err := r.read(name)
		if err != nil {
			return nil, nil, fmt.Errorf("read what was spilled: %s: %w", name, err)
		}
		swaps = append(swaps, read...)
	}
	return swaps, func() error { return r.remove(names) }, nil
}

// spills lists the files with swaps, oldest first.
func (r *Reserve) spills() ([]string, error) {
	entries, err := os.ReadDir(r.dir) // sorted
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), spillPrefix) && strings.HasSuffix(e.Name(), spillSuffix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// number is the place of a spilled file in their order.
func number(name string) (int, error) {
	return strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, spillPrefix), spillSuffix))
}

func (r *Reserve) read(name string) ([]*broker.Swap, error) {
	f, err := os.Open(filepath.Join(r.dir, name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields() // a field that is not understood could be the token
	var s spill
	if err := d.Decode(&s); err != nil {
		return nil, err
	}
	if s.Version != spillVersion {
		return nil, fmt.Errorf("its format %d is not known", s.Version)
	}
	return s.Swaps, nil
}

func (r *Reserve) remove(names []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		if err := os.Remove(filepath.Join(r.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what was spilled: %w", err)
		}
	}
	return r.syncDir()
}

// write makes a file that is whole and on the disk, or is not there.
func (r *Reserve) write(name string, fill func(io.Writer) error) (err error) {
	path := filepath.Join(r.dir, name)
	f, err := os.OpenFile(path+unfinished, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path + unfinished)
		}
	}()
	if err := errors.Join(fill(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+unfinished, path); err != nil {
		return err
	}
	return r.syncDir()
}

// syncDir puts names on the disk.
func (r *Reserve) syncDir() error {
	d, err := os.Open(r.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
