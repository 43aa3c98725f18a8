package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/storage/transfer"
)

// Failures of a transfer.
var (
	// ErrSameStore is a transfer from a store into itself.
	ErrSameStore = errors.New("the target is the database that the configuration names: give another")
	// ErrSpilled is a data directory with tokens that the database has not taken yet.
	ErrSpilled = errors.New("renewed tokens lie beside the database, which could not take them: start the server once, and stop it again")
)

// Transfer moves what the store of one name holds into that of another; both have their files, if any, in the data directory.
// No server may be using either. Errors: [ErrInUse], [ErrNoDatabase], [ErrSameStore], [ErrSpilled], those of [transfer.Move]
// and of [Open]. After any failure the source is as it was, and the transfer can be run again.
func Transfer(ctx context.Context, from, to string, o Options) (_ *transfer.Result, err error) {
	if from == to {
		return nil, ErrSameStore
	}
	if spilled, _, err := NewReserve(o.Dir).Spilled(); err != nil || len(spilled) > 0 {
		return nil, errors.Join(err, ErrSpilled)
	}
	source, err := side(ctx, from, o)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := side(ctx, to, o)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	moved, err := transfer.Move(ctx, source, target, o.now())
	if errors.Is(err, transfer.ErrNotEmpty) && to == sqliteName {
		err = fmt.Errorf("%w, such as %s", err, filepath.Join(o.Dir, FileName))
	}
	return moved, err
}

func (o Options) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

// end is a store as a transfer knows it.
type end interface {
	broker.Store
	transfer.Side
}

// side opens one end of a transfer, from which nobody serves meanwhile.
func side(ctx context.Context, name string, o Options) (end, error) {
	o.Exclusive = name == sqliteName // the lock of a data directory; of a database that many share it says nothing
	s, err := Open(ctx, name, o)
	if err != nil {
		return nil, err
	}
	e, ok := s.(end)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%T cannot be transferred", s), s.Close())
	}
	if err := transfer.Vacant(ctx, e); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return e, nil
}
