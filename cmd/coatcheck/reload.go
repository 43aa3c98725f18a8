package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers"
)

const (
	lookEvery   = time.Second
	maxProblems = 20 // of a file, in the log
)

// overlayWatch loads the catalogue again when one of its overlays has changed. It looks at the files from time to time:
// that notices files which are replaced, and works on every file system.
type overlayWatch struct {
	node       *node
	last       []fs.FileInfo // as of the last look; nil in place of a file that is not there
	done       []fs.FileInfo // what was dealt with
	unfinished bool          // what is in force was not followed by all that belongs to it
}

func newOverlayWatch(n *node) *overlayWatch { return &overlayWatch{node: n} }

// run looks until ctx ends.
func (w *overlayWatch) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look(ctx)
		}
	}
}

// look loads the files if they have changed, once they were found unchanged for one look: what somebody is still writing
// could be half of a file, and yet be well-formed.
func (w *overlayWatch) look(ctx context.Context) {
	now := w.stat()
	settled := sameFiles(now, w.last)
	w.last = now
	if !settled || sameFiles(now, w.done) {
		return
	}
	if w.load(ctx) {
		w.done = now
	}
}

// load puts the files into force unless they hold what is in force already. It reports false when it is to be tried again
// although the files have not changed.
func (w *overlayWatch) load(ctx context.Context) bool {
	n := w.node
	overlays, err := n.overlays()
	if err != nil {
		n.log.LogAttrs(ctx, slog.LevelError, "a file of providers cannot be read; the entries of before stay in use", slog.Any("error", err))
		return true
	}
	sum := digest(overlays)
	if sum == n.overlaid && !w.unfinished {
		return true
	}
	catalogue, err := providers.Load(n.catalogueOptions(overlays))
	if err != nil {
		n.logProblems(ctx, err)
		return true
	}
	err = n.broker.ReplaceCatalogue(ctx, catalogue, n.declared)
	if refused := (*broker.CatalogueRefusedError)(nil); errors.As(err, &refused) {
		n.logProblems(ctx, err)
		return true
	}
	n.overlaid, w.unfinished = sum, err != nil
	if err != nil {
		n.log.LogAttrs(ctx, slog.LevelError, "providers were loaded again, but not all that follows is done; trying again", slog.String("error", broker.Explain(err)))
		return false
	}
	n.log.LogAttrs(ctx, slog.LevelInfo, "the files of providers have changed and are in use", slog.Int("providers", len(catalogue.Names())))
	return true
}

// logProblems says why files were not taken over, a line for each problem with its place.
func (n *node) logProblems(ctx context.Context, err error) {
	const message = "the files of providers have changed and cannot be used; the entries of before stay in use"
	var all providers.CatalogueError
	if !errors.As(err, &all) {
		n.log.LogAttrs(ctx, slog.LevelError, message, slog.Any("error", err))
		return
	}
	for _, x := range all[:min(len(all), maxProblems)] {
		n.log.LogAttrs(ctx, slog.LevelError, message, slog.String("problem", x.String()), slog.Int("problems", len(all)))
	}
}

// stat looks at the files without reading them.
func (w *overlayWatch) stat() []fs.FileInfo {
	out := make([]fs.FileInfo, len(w.node.config.Providers))
	for i, name := range w.node.config.Providers {
		if info, err := os.Stat(within(w.node.config.dir, name)); err == nil {
			out[i] = info
		}
	}
	return out
}

// sameFiles reports whether the files are the same ones, and look unchanged.
func sameFiles(a, b []fs.FileInfo) bool {
	return slices.EqualFunc(a, b, func(x, y fs.FileInfo) bool {
		if x == nil || y == nil {
			return x == nil && y == nil
		}
		return os.SameFile(x, y) && x.Size() == y.Size() && x.ModTime().Equal(y.ModTime())
	})
}

// digest tells files apart by what they hold.
func digest(files []providers.File) [sha256.Size]byte {
	h := sha256.New()
	for _, f := range files {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(f.Data))))
		_, _ = h.Write(f.Data)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
